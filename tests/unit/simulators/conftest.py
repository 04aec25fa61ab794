"""A small site on addresses of its own, simulated in the test's own loop, and a bare Modbus client that hides nothing."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from simulators.client import SimulatorClient
from simulators.control import ControlServer
from simulators.generate import Plan, generate
from simulators.simulation import Simulation
from simulators.site import SimulatedSite, read_site

Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]
FIRST_HOST = "127.0.71.1"


def free_port() -> int:
    """A TCP port that nobody has on the first address, and so hardly on the next ones."""
    with socket.socket() as probe:
        probe.bind((FIRST_HOST, 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def site(tmp_path: Path) -> SimulatedSite:
    """Three RTUs with ten breakers each, at 60 times real time."""
    generate(tmp_path, Plan(rtus=3, breakers=10, port=free_port(), first_host=FIRST_HOST, rate=60.0))
    return read_site(tmp_path)


@pytest.fixture
async def simulation(site: SimulatedSite) -> AsyncIterator[Simulation]:
    """The site, running."""
    async with Simulation(site) as running:
        yield running


@pytest.fixture
async def control(simulation: Simulation, tmp_path: Path) -> AsyncIterator[SimulatorClient]:
    """A client of the running site's control channel."""
    server = ControlServer(simulation, tmp_path / "c.sock")
    await server.start()
    async with SimulatorClient(server.path) as client:
        yield client
    await server.stop()


@pytest.fixture
def until() -> Until:
    """Waits for something that must come about within half a minute."""
    return _until


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(6000):
        if await condition():
            return
        await asyncio.sleep(0.005)
    raise TimeoutError("it did not come about")


class Master:
    """A Modbus TCP client of a few lines: sends bytes as they are, returns whole frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @staticmethod
    def frame(pdu: bytes, transaction: int = 1, unit: int = 1) -> bytes:
        """The MBAP frame around a PDU."""
        return struct.pack(">HHHB", transaction, 0, len(pdu) + 1, unit) + pdu

    async def send(self, data: bytes) -> None:
        """Send raw bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def receive(self, timeout_s: float = 30.0) -> bytes:
        """The next whole frame; raises TimeoutError or IncompleteReadError."""
        async with asyncio.timeout(timeout_s):
            head = await self.reader.readexactly(6)
            return head + await self.reader.readexactly(int.from_bytes(head[4:6], "big"))

    async def ask(self, pdu: bytes) -> bytes:
        """The PDU of the answer."""
        await self.send(self.frame(pdu))
        return (await self.receive())[7:]

    async def operate(self, coil: int) -> bytes:
        """Pulse one coil."""
        return await self.ask(struct.pack(">BHH", 5, coil, 0xFF00))

    async def bits(self, start: int, count: int) -> list[int]:
        """Discrete inputs."""
        answer = await self.ask(struct.pack(">BHH", 2, start, count))
        value = int.from_bytes(answer[2:], "little")
        return [value >> i & 1 for i in range(count)]

    async def words(self, start: int, count: int) -> list[int]:
        """Input registers."""
        answer = await self.ask(struct.pack(">BHH", 4, start, count))
        return list(struct.unpack(f">{count}H", answer[2:]))

    def close(self) -> None:
        """Close the connection."""
        self.writer.close()


async def connect(site: SimulatedSite, device: int = 0) -> Master:
    """Connect to the device of that place in the list."""
    row = site.devices[device]
    return Master(*await asyncio.open_connection(row.host, row.port))


@pytest.fixture
async def master(simulation: Simulation) -> AsyncIterator[Master]:
    """A connection to the first RTU."""
    client = await connect(simulation.site)
    yield client
    client.close()


@pytest.fixture
async def transformer(simulation: Simulation) -> AsyncIterator[Master]:
    """A connection to the transformer's device."""
    client = await connect(simulation.site, 3)
    yield client
    client.close()
