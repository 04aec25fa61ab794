"""A small substation for the driver's tests: RTUs whose every byte can be scripted, written from the MBAP format alone.

It shares no code with the driver: a mistake in how we frame or unpack must not hide in the peer.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from protocols.base import Position, Quality
from protocols.modbus.driver import ModbusDriver


@dataclass(frozen=True)
class Address:
    table: str
    number: int
    bit: int | None = None
    type: str = "u16"
    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True)
class Points:
    pos_closed: Address
    pos_open: Address
    open_cmd: Address
    close_cmd: Address
    local: Address | None = None
    op_count: Address | None = None
    power_kw: Address | None = None


@dataclass(frozen=True)
class Feeder:
    name: str
    device: str
    points: Points
    travel_s: float = 0.4


@dataclass(frozen=True)
class Device:
    name: str
    host: str
    port: int
    unit: int = 1
    timeout_s: float = 0.3
    poll_fast_s: float = 0.1
    poll_slow_s: float = 0.3
    backoff_min_s: float = 0.02
    backoff_max_s: float = 0.1
    max_block_registers: int = 125
    max_block_bits: int = 2000
    max_gap: int = 16
    stale_after_s: float = 2.0


@dataclass(frozen=True)
class Measurement:
    name: str
    device: str
    address: Address
    stale_after_s: float = 2.0


class Rtu:
    """One RTU with n breakers. Breaker i: closed di:i, open di:n+i, local di:2n+i, coils 2i (open) and 2i+1 (close).

    ir:i counts operations, ir:1000+i is load in 0.1 kW. ``script(request)`` may return the bytes to be sent instead of
    the right reply (b"" for silence), an exception code, ``"close"``, or None for the right reply.
    """

    def __init__(self, breakers: int = 4, host: str = "127.0.0.1", travel_s: float = 0.02) -> None:
        self.n = breakers
        self.host = host
        self.port = 0
        self.travel_s = travel_s
        self.bits = {1: bytearray(2000), 2: bytearray(2000)}
        self.registers = {3: [0] * 2000, 4: [0] * 2000}
        self.requests: list[SimpleNamespace] = []
        self.connections = 0
        self.script = lambda request: None
        self.stuck: set[int] = set()
        self.missing: set[tuple[int, int]] = set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task] = set()
        for i in range(breakers):
            self.place(i, "closed")

    def place(self, i: int, position: str) -> None:
        self.bits[2][i] = position in ("closed", "bad")
        self.bits[2][self.n + i] = position in ("open", "bad")

    def set_local(self, i: int, local: bool = True) -> None:
        self.bits[2][2 * self.n + i] = local

    def writes(self) -> list[SimpleNamespace]:
        return [request for request in self.requests if request.code in (5, 6)]

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            while self._tasks:  # a connection may be taken while the others are dropped
                self.drop()
                await asyncio.sleep(0.002)
            await self._server.wait_closed()
            self._server = None

    def drop(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        self._tasks.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readexactly(7)
                tid, _, length, unit = struct.unpack(">HHHB", head)
                pdu = await reader.readexactly(length - 1)
                request = SimpleNamespace(
                    at=asyncio.get_running_loop().time(), tid=tid, unit=unit, code=pdu[0], body=pdu[1:], writer=writer
                )
                request.address, request.value = struct.unpack(">HH", pdu[1:5])
                self.requests.append(request)
                answer = self.script(request)
                if asyncio.iscoroutine(answer):
                    answer = await answer
                if answer is None:
                    answer = self.reply(request)
                if answer == "close":
                    break
                if isinstance(answer, int):
                    answer = frame(request, bytes([request.code | 0x80, answer]))
                writer.write(answer)
        self._writers.discard(writer)
        self._tasks.discard(asyncio.current_task())
        writer.close()

    def reply(self, request: SimpleNamespace) -> bytes:
        """The right reply, after doing what was asked."""
        return frame(request, self.answer(request))

    def answer(self, request: SimpleNamespace) -> bytes:
        code, address, value = request.code, request.address, request.value
        if code in (1, 2, 3, 4) and any((code, at) in self.missing for at in range(address, address + value)):
            return bytes([code | 0x80, 2])
        if code in (1, 2):
            data = bytearray((value + 7) // 8)
            for i in range(value):
                data[i >> 3] |= self.bits[code][address + i] << (i & 7)
            return bytes([code, len(data), *data])
        if code in (3, 4):
            return bytes([code, 2 * value]) + struct.pack(
                f">{value}H", *self.registers[code][address : address + value]
            )
        if code == 5:
            self.command(address // 2, "closed" if address % 2 else "open")
        elif code == 6:
            self.registers[3][address] = value
        return bytes([code]) + request.body

    def command(self, i: int, position: str) -> None:
        if i in self.stuck:
            return
        self.registers[4][i] += 1
        self.place(i, "intermediate")
        asyncio.get_running_loop().call_later(self.travel_s, self.place, i, position)

    def feeder(self, i: int, device: str, **more) -> Feeder:
        n = self.n
        points = Points(
            pos_closed=Address("di", i),
            pos_open=Address("di", n + i),
            open_cmd=Address("coil", 2 * i),
            close_cmd=Address("coil", 2 * i + 1),
            local=Address("di", 2 * n + i),
            op_count=Address("ir", i),
            power_kw=Address("ir", 1000 + i, None, "s16", 0.1),
        )
        return Feeder(f"{device}-{i}", device, points, **more)


def frame(
    request: SimpleNamespace, pdu: bytes, *, tid: int | None = None, unit: int | None = None, pid: int = 0
) -> bytes:
    """An MBAP frame that answers a request, or nearly."""
    tid = request.tid if tid is None else tid
    unit = request.unit if unit is None else unit
    return struct.pack(">HHHB", tid, pid, len(pdu) + 1, unit) + pdu


class Listener:
    """Remembers all that it is told."""

    def __init__(self) -> None:
        self.calls: list[list[tuple[str, object]]] = []
        self.links: list[object] = []

    def breakers_changed(self, changes) -> None:
        self.calls.append(changes)

    def link_changed(self, status) -> None:
        self.links.append(status)

    def told(self, feeder: str) -> list[tuple[Position, Quality]]:
        return [(reading.position, reading.quality) for call in self.calls for name, reading in call if name == feeder]


@dataclass
class Site:
    """A running driver and its RTUs."""

    rtus: list[Rtu]
    driver: ModbusDriver
    listener: Listener
    devices: list[Device] = field(default_factory=list)

    @property
    def rtu(self) -> Rtu:
        return self.rtus[0]

    async def operate(self, feeder: str = "R0-0", target: Position = Position.OPEN, timeout_s: float = 2.0):
        return await self.driver.operate(feeder, target, timeout_s)


async def eventually(condition, within_s: float = 30.0) -> None:
    """Wait until the condition holds; fail with its text if it does not in time."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - the condition is anything, with no event behind it
            await asyncio.sleep(0.005)


@pytest.fixture
async def site():
    """Make a site: ``await site(breakers=…, rtus=…, start=…, armed=…, travel_s=…, **device settings)``."""
    built: list[Site] = []

    async def make(
        breakers=4, rtus=1, scan=True, armed=True, travel_s=0.4, measurements=(), prepare=None, **settings
    ) -> Site:
        servers = [Rtu(breakers) for _ in range(rtus)]
        for server in servers:
            await server.start()
        if prepare is not None:
            for server in servers:
                prepare(server)
        devices = [Device(f"R{i}", server.host, server.port, **settings) for i, server in enumerate(servers)]
        feeders = [
            server.feeder(i, device.name, travel_s=travel_s)
            for server, device in zip(servers, devices, strict=True)
            for i in range(breakers)
        ]
        driver = ModbusDriver(devices, feeders, list(measurements))
        driver.set_writes_enabled(armed)
        made = Site(servers, driver, Listener(), devices)
        built.append(made)
        await driver.start(made.listener)
        if scan:
            await driver.wait_first_scan(5.0)
        return made

    yield make
    for each in built:
        await each.driver.stop()
        for server in each.rtus:
            await server.stop()


@pytest.fixture
def kit():
    """The helpers of this file, for tests that need them by name."""
    return SimpleNamespace(
        Address=Address,
        Points=Points,
        Feeder=Feeder,
        Device=Device,
        Measurement=Measurement,
        Rtu=Rtu,
        Listener=Listener,
        frame=frame,
        eventually=eventually,
    )
