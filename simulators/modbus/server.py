"""The TCP side of a device: connections, frames, and a listener that can be shut.

What must stay true: nothing that a client sends ends the server. Bytes that are no MBAP frame end their own connection,
since there is no way to find the next frame. A peer that does not read its answers is not read any more. At most
``MAX_CONNECTIONS`` connections a device; another one is closed at once.
"""

from __future__ import annotations

import asyncio

from simulators.modbus.device import MBAP_SIZE, Device

MAX_CONNECTIONS = 16
MAX_FRAME_LENGTH = 254


class Connection(asyncio.Protocol):
    """One TCP connection to a device."""

    def __init__(self, device: Device, connections: set[Connection]) -> None:
        self._device = device
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or close it when there are too many."""
        assert isinstance(transport, asyncio.Transport)
        if len(self._connections) >= MAX_CONNECTIONS:
            transport.abort()
            return
        self._transport = transport
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; a request in flight is gone with it."""
        self._transport = None
        self._connections.discard(self)

    def pause_writing(self) -> None:
        """The peer does not read its replies: take no more requests."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The peer reads again."""
        if self._transport is not None:
            self._transport.resume_reading()

    def abort(self) -> None:
        """Cut the connection with a reset."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Answer every whole frame; keep what is left of a frame that has not arrived in full."""
        if self._transport is None:
            return
        if self._pending:
            data = self._pending + data
            self._pending = b""
        device = self._device
        replies: list[bytes] = []
        position, end = 0, len(data)
        while end - position >= MBAP_SIZE:
            length = data[position + 4] << 8 | data[position + 5]
            if data[position + 2] or data[position + 3] or not 2 <= length <= MAX_FRAME_LENGTH:
                self._send(replies)
                self._transport.close()
                return
            stop = position + 6 + length
            if stop > end:
                break
            reply = device.answer(data[position:stop])
            if reply is not None:
                replies.append(reply)
            position = stop
        self._pending = data[position:]
        self._send(replies)

    def _send(self, replies: list[bytes]) -> None:
        if not replies or self._transport is None:
            return
        if self._device.faults.delay_s > 0:
            asyncio.get_running_loop().call_later(self._device.faults.delay_s, self._send_late, b"".join(replies))
        else:
            self._transport.write(replies[0] if len(replies) == 1 else b"".join(replies))

    def _send_late(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


class Listener:
    """The TCP listener of one device: open, or closed with every connection reset."""

    def __init__(self, device: Device, host: str, port: int) -> None:
        self.device = device
        self.host = host
        self.port = port
        self.connections: set[Connection] = set()
        self._server: asyncio.Server | None = None

    @property
    def is_open(self) -> bool:
        """Whether connections are taken."""
        return self._server is not None

    async def open(self) -> None:
        """Listen. Raises OSError if the address can't be had."""
        if self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(
                lambda: Connection(self.device, self.connections), self.host, self.port, reuse_address=True
            )

    def close(self) -> None:
        """Stop listening and reset every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in tuple(self.connections):
            connection.abort()
