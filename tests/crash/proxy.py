"""A TCP proxy before one device, which cuts, stalls, delays and dribbles at the byte that it was told.

It behaves as a network does: a connection that is stalled looks alive, and what was on its way when the gateway closed it
arrives afterwards all the same; only a reset takes it along.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from dataclasses import dataclass
from enum import StrEnum

from crash.network import LASTS_S

CHUNK = 16_384


class Kind(StrEnum):
    """What happens at the byte."""

    RESET = "reset"
    FIN = "fin"
    STALL_REQUESTS = "stall_requests"
    STALL_REPLIES = "stall_replies"
    STALL = "stall"  # new connections as well: a black hole
    HALF_OPEN = "half_open"  # the device has forgotten the connection, the gateway is told nothing
    REFUSE = "refuse"
    DELAY = "delay"
    DRIBBLE = "dribble"


@dataclass(slots=True)
class _Armed:
    kind: Kind
    replies: bool
    bytes_left: int
    delay_s: float
    now: bool = False


class Proxy:
    """Before one device. Only one trouble at a time."""

    def __init__(self, host: str, port: int, device_port: int) -> None:
        self._host, self._port, self._device_port = host, port, device_port
        self._armed: _Armed | None = None
        self._pairs: dict[asyncio.StreamWriter, asyncio.StreamWriter] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.repeats = False
        """Each request arrives twice, which no network does under TCP: for the control."""

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, self._host, self._port)

    async def stop(self) -> None:
        """Close everything."""
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def arm(self, kind: Kind, replies: bool, after_bytes: int, delay_s: float) -> None:
        """After so many bytes of requests or replies from now on."""
        self._armed = _Armed(kind, replies, after_bytes, delay_s)

    def lift(self) -> None:
        """All is well; who was stalled and is still there goes on, connections that the device forgot end."""
        armed, self._armed = self._armed, None
        if armed is not None and armed.now and armed.kind is Kind.HALF_OPEN:
            for client in self._pairs:
                _reset(client)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if self._active(Kind.REFUSE):
                _reset(writer)
                return
            if self._active(Kind.STALL):
                await self._hold(reader, self._armed)
            device_reader, device = await asyncio.open_connection(self._host, self._device_port)
            self._pairs[writer] = device
            pumps = [
                asyncio.create_task(self._pump(reader, writer, device, False)),
                asyncio.create_task(self._pump(device_reader, device, writer, True)),
            ]
            try:
                done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                for pump in done:
                    pump.result()
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
                device.close()
                self._pairs.pop(writer, None)
        except (OSError, asyncio.CancelledError):
            pass  # one side is gone, and so is the other; or the test is over: only ``stop`` cancels
        finally:
            writer.close()
            self._tasks.discard(task)

    def _active(self, *kinds: Kind) -> bool:
        return self._armed is not None and self._armed.now and self._armed.kind in kinds

    async def _hold(self, reader: asyncio.StreamReader, armed: _Armed | None) -> None:
        """Until this trouble is over. Raises ConnectionResetError if the sender resets the connection meanwhile."""
        while self._armed is armed:
            await asyncio.sleep(0.02)
            if reader.exception() is not None:
                raise ConnectionResetError

    async def _pump(
        self, reader: asyncio.StreamReader, source: asyncio.StreamWriter, sink: asyncio.StreamWriter, replies: bool
    ) -> None:
        while data := await reader.read(CHUNK):
            if self.repeats and not replies:
                sink.write(data)
            armed = self._armed
            if armed is not None and not armed.now and armed.replies == replies:
                if len(data) < armed.bytes_left:
                    armed.bytes_left -= len(data)
                else:
                    armed.now = True
                    sink.write(data[: armed.bytes_left])
                    data = data[armed.bytes_left :]
                    await sink.drain()
            if armed is not None and armed.now:
                await self._suffer(armed, reader, source, sink, data, replies)
            else:
                sink.write(data)
                await sink.drain()

    async def _suffer(
        self,
        armed: _Armed,
        reader: asyncio.StreamReader,
        source: asyncio.StreamWriter,
        sink: asyncio.StreamWriter,
        data: bytes,
        replies: bool,
    ) -> None:
        match armed.kind:
            case Kind.RESET | Kind.REFUSE:
                _reset(source)
                _reset(sink)
                raise ConnectionResetError
            case Kind.FIN:
                raise ConnectionResetError  # both are closed in order
            case Kind.HALF_OPEN:
                _reset(source if replies else sink)
                await self._hold(reader, armed)
                raise ConnectionResetError
            case Kind.DELAY:
                await asyncio.sleep(armed.delay_s)
            case Kind.DRIBBLE:
                for n in range(min(len(data), 200)):
                    sink.write(data[n : n + 1])
                    await asyncio.sleep(0.002)
                data = data[200:]
            case Kind.STALL | Kind.STALL_REQUESTS | Kind.STALL_REPLIES:
                if armed.kind is Kind.STALL or (armed.kind is Kind.STALL_REPLIES) == replies:
                    await self._hold(reader, armed)
        if source.is_closing() or sink.is_closing():
            raise ConnectionResetError
        sink.write(data)
        await sink.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End with RST instead of FIN."""
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Proxies:
    """Before every device of a station; a Trouble."""

    def __init__(self, proxies: dict[str, Proxy], most_bytes: dict[str, int]) -> None:
        self._proxies = proxies
        self._most_bytes = most_bytes

    def repeat(self, device: str) -> None:
        """The control: this device gets each request twice from now on."""
        self._proxies[device].repeats = True

    async def begin(self, device: str, dice: random.Random) -> float:
        """Arm one kind at one byte."""
        kind = dice.choice(list(Kind))
        proxy = self._proxies[device]
        replies = kind is Kind.STALL_REPLIES or (kind is not Kind.STALL_REQUESTS and dice.random() < 0.5)
        proxy.arm(kind, replies, dice.randint(1, self._most_bytes[device]), dice.uniform(0.05, 0.9))
        return dice.choice(LASTS_S)

    async def end(self, device: str) -> None:
        """All is well."""
        self._proxies[device].lift()
