"""pymodbus, a client that was written by others, against our server: every function both have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pymodbus.client import AsyncModbusTcpClient

from simulators.modbus import Space
from simulators.simulation import Simulation


@pytest.fixture
async def client(simulation: Simulation) -> AsyncIterator[AsyncModbusTcpClient]:
    row = simulation.site.devices[0]
    simulation.plant.devices[row.name].memory.grow(Space.HOLDING, 20)
    peer = AsyncModbusTcpClient(row.host, port=row.port, retries=0, timeout=5)
    assert await peer.connect()
    yield peer
    peer.close()


async def test_reads(client: AsyncModbusTcpClient) -> None:
    assert (await client.read_coils(0, count=5, device_id=1)).bits[:5] == [False] * 5
    assert (await client.read_discrete_inputs(0, count=4, device_id=1)).bits[:4] == [True, False, True, False]
    assert len((await client.read_input_registers(0, count=20, device_id=1)).registers) == 20
    assert (await client.read_holding_registers(0, count=20, device_id=1)).registers == [0] * 20


async def test_writes(client: AsyncModbusTcpClient, simulation: Simulation, until: Any) -> None:
    assert not (await client.write_coil(0, True, device_id=1)).isError()
    assert not (await client.write_coils(2, [True, False, True], device_id=1)).isError()
    assert not (await client.write_register(3, 77, device_id=1)).isError()
    assert not (await client.write_registers(4, [1, 2, 3], device_id=1)).isError()
    assert (await client.read_holding_registers(3, count=4, device_id=1)).registers == [77, 1, 2, 3]

    async def opened() -> bool:
        return (await client.read_discrete_inputs(0, count=6, device_id=1)).bits[:6] == [False, True] * 3

    await until(opened)
    assert [breaker.open_commands for breaker in simulation.plant.switchgear.breakers[:4]] == [1, 1, 1, 0]


async def test_exceptions(client: AsyncModbusTcpClient) -> None:
    assert (await client.read_coils(2000, count=1, device_id=1)).exception_code == 2
    assert (await client.write_coil(0, True, device_id=9)).exception_code == 0x0B
    assert (await client.read_exception_status(device_id=1)).exception_code == 1
