"""As much HTTP/1.1 as a load on this machine needs: POST over connections that stay open, as many as are in use at once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Http:
    """One server of this machine."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[Connection] = []

    async def post(self, path: str, body: Any = None) -> Any:
        """What the server answers, decoded. Raises OSError when it isn't there, RuntimeError for any status but 2xx."""
        connection = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = connection
        data = b"" if body is None else json.dumps(body).encode()
        kind = "content-type: application/json\r\n" if data else ""
        writer.write(
            f"POST {path} HTTP/1.1\r\nhost: localhost\r\n{kind}content-length: {len(data)}\r\n\r\n".encode() + data
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        fields = dict(line.split(": ", 1) for line in head[1:] if line)
        if "chunked" in fields.get("transfer-encoding", ""):
            answer = await self._chunks(reader)
        else:
            answer = await reader.readexactly(int(fields.get("content-length", "0")))
        self._idle.append(connection)
        if head[0].split()[1][0] != "2":
            raise RuntimeError(f"{path}: {head[0]}: {answer[:300]!r}")
        return json.loads(answer) if answer else None

    async def _chunks(self, reader: asyncio.StreamReader) -> bytes:
        parts = []
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            parts.append(await reader.readexactly(size))
            await reader.readexactly(2)
        await reader.readuntil(b"\r\n")
        return b"".join(parts)

    def close(self) -> None:
        """Close the connections that are idle."""
        for _, writer in self._idle:
            writer.close()
