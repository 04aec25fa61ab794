"""A running site over real TCP: what a master sees of breakers, loads and faults."""

from __future__ import annotations

import asyncio
import struct
import time
from dataclasses import replace
from typing import Any

import pytest

from simulators.client import SimulatorClient
from simulators.control import ControlError
from simulators.modbus import BreakerPoints, Point, Space
from simulators.simulation import Simulation, StartError
from simulators.site import SimulatedSite

OPEN_1, CLOSE_1 = 0, 1
LOCAL_1 = 20


async def reach(master: Any, contacts: list[int], breaker: int = 0) -> None:
    """Wait until a breaker's contacts (52a, 52b) read so."""
    for _ in range(1000):
        if await master.bits(2 * breaker, 2) == contacts:
            return
        await asyncio.sleep(0.005)
    raise TimeoutError(f"breaker {breaker} did not reach {contacts}")


async def test_open_and_close_by_coil_pulses(master: Any, simulation: Simulation) -> None:
    assert await master.bits(0, 4) == [1, 0, 1, 0]
    assert await master.operate(OPEN_1) == bytes.fromhex("05 0000 ff00")
    assert await master.bits(0, 4) == [0, 0, 1, 0]
    await reach(master, [0, 1])
    assert await master.words(10, 2) == [1, 0]
    assert await master.ask(bytes.fromhex("01 0000 0002")) == bytes.fromhex("01 01 00")
    await master.operate(CLOSE_1)
    await reach(master, [1, 0])
    assert await master.words(10, 1) == [2]


async def test_writing_zero_to_a_pulse_coil_does_nothing(master: Any, control: SimulatorClient) -> None:
    assert await master.ask(bytes.fromhex("05 0000 0000")) == bytes.fromhex("05 0000 0000")
    assert await control.counters(active=True) == {}


async def test_many_coils_in_one_request(master: Any, control: SimulatorClient) -> None:
    await master.ask(bytes.fromhex("0f 0000 0006 01 15"))
    await reach(master, [0, 1], breaker=2)
    counters = await control.counters(active=True)
    assert {name: c.open_commands for name, c in counters.items()} == {"F001-001": 1, "F001-002": 1, "F001-003": 1}


async def test_one_refusing_breaker_refuses_the_whole_request(master: Any, control: SimulatorClient) -> None:
    await control.fault("refuse", "F001-002")
    assert await master.ask(bytes.fromhex("0f 0000 0006 01 15")) == bytes.fromhex("8f 03")
    assert (await control.counters_of("F001-001")).open_commands == 0
    assert (await control.counters_of("F001-002")).refused == 1


async def test_a_local_breaker_shows_it_and_refuses(master: Any, control: SimulatorClient) -> None:
    await control.fault("local", "F001-001")
    assert await master.bits(LOCAL_1, 2) == [1, 0]
    assert await master.operate(OPEN_1) == bytes.fromhex("85 04")
    assert (await control.counters_of("F001-001")).operations == 0
    await control.clear("F001-001", "local")
    assert await master.bits(LOCAL_1, 1) == [0]
    await master.operate(OPEN_1)
    await reach(master, [0, 1])


async def test_a_stuck_breaker_echoes_and_stays(master: Any, control: SimulatorClient) -> None:
    await control.fault("stuck", "F001-001")
    assert await master.operate(OPEN_1) == bytes.fromhex("05 0000 ff00")
    await asyncio.sleep(0.12)
    assert await master.bits(0, 2) == [1, 0]
    counters = await control.counters_of("F001-001")
    assert (counters.open_commands, counters.operations) == (1, 0)


async def test_a_quick_breaker_does_not_wait_for_a_slow_one(master: Any, control: SimulatorClient) -> None:
    await control.fault("slow", "F001-001", value=30.0)
    await master.operate(OPEN_1)
    await master.operate(2)
    await reach(master, [0, 1], breaker=1)
    assert await master.bits(0, 2) == [0, 0]


async def test_a_lost_reply_acts_without_an_answer(master: Any, control: SimulatorClient) -> None:
    await control.fault("lost_reply", "F001-001")
    await master.send(master.frame(bytes.fromhex("05 0000 ff00"), transaction=1))
    await master.send(master.frame(bytes.fromhex("02 0000 0001"), transaction=2))
    assert (await master.receive())[:2] == b"\0\2"
    await reach(master, [0, 1])
    assert (await control.counters_of("F001-001")).operations == 1


async def test_a_garbled_reply_acts_and_echoes_wrongly(master: Any, control: SimulatorClient) -> None:
    await control.fault("garbled_reply", "F001-001")
    assert await master.operate(OPEN_1) != bytes.fromhex("05 0000 ff00")
    await reach(master, [0, 1])


async def test_bad_feedback(master: Any, control: SimulatorClient) -> None:
    await control.fault("bad_feedback_11", "F001-001")
    assert await master.bits(0, 2) == [1, 1]
    await control.clear()
    await control.fault("bad_feedback_00", "F001-001")
    assert await master.bits(0, 2) == [0, 0]


async def test_a_spontaneous_trip(master: Any, control: SimulatorClient) -> None:
    assert await control.trip("F001-001")
    await reach(master, [0, 1])
    assert not await control.trip("F001-001")
    counters = await control.counters_of("F001-001")
    assert (counters.open_commands, counters.operations, counters.op_count) == (0, 1, 1)


async def test_a_silent_device_for_a_while(master: Any, control: SimulatorClient, transformer: Any, until: Any) -> None:
    await control.fault("silent", "RTU001", for_s=0.15)
    await master.send(master.frame(bytes.fromhex("02 0000 0001"), transaction=1))
    assert await transformer.words(2, 1) != [0]

    async def answers() -> bool:
        return not (await control.links())["RTU001"]["silent"]

    await until(answers)
    await master.send(master.frame(bytes.fromhex("02 0000 0001"), transaction=2))
    assert (await master.receive())[:2] == b"\0\2"


async def test_an_unreachable_device_resets_and_refuses_until_cleared(
    master: Any,
    control: SimulatorClient,
    site: SimulatedSite,
    until: Any,
) -> None:
    row = site.devices[0]
    await control.fault("unreachable", "RTU001")
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await master.receive()
    with pytest.raises(OSError, match=r"refused|failed"):
        await asyncio.open_connection(row.host, row.port)
    await control.clear("RTU001")

    async def listens() -> bool:
        return bool((await control.links())["RTU001"]["listening"])

    await until(listens)
    _, writer = await asyncio.open_connection(row.host, row.port)
    writer.close()


async def test_malformed_replies(master: Any, control: SimulatorClient) -> None:
    await control.fault("malformed", "RTU001", how="wrong_function")
    assert (await master.ask(bytes.fromhex("02 0000 0001")))[0] != 2
    await control.clear("RTU001")
    assert (await master.ask(bytes.fromhex("02 0000 0001")))[0] == 2


async def test_the_transformer_shows_load_and_ambient(transformer: Any, simulation: Simulation) -> None:
    high, low, ambient, oil, hot_spot = await transformer.words(0, 5)
    shown_kw = (high << 16 | low) / 10
    assert shown_kw == pytest.approx(simulation.loads.total_kw(), rel=0.02)
    assert 60 < 100 * shown_kw / simulation.site.capacity_kw < 110
    assert 30 < ambient / 10 < 44
    assert ambient < oil < hot_spot
    assert hot_spot / 10 == pytest.approx(simulation.transformer.hot_spot_c, abs=0.5)


async def test_feeder_power_is_shown_and_is_zero_when_open(master: Any, simulation: Simulation, until: Any) -> None:
    powers = await master.words(0, 10)
    row = [feeder.name for feeder in simulation.site.feeders].index("F001-001")
    residents = [i for i in range(10) if simulation.site.feeders[row + i].load_class not in ("ev", "pool")]
    assert all(powers[i] > 0 for i in residents)
    chosen = residents[0]
    await master.operate(2 * chosen)

    async def dead() -> bool:
        return (await master.words(chosen, 1)) == [0]

    await until(dead)


async def test_the_sum_of_feeders_is_the_transformer(simulation: Simulation) -> None:
    assert simulation.loads.total_kw() == pytest.approx(float(simulation.loads.power_kw.sum()))


async def test_simulated_time_runs_at_the_rate(simulation: Simulation) -> None:
    before, started = simulation.time.now_us(), time.monotonic()
    await asyncio.sleep(0.05)
    simulated, real = (simulation.time.now_us() - before) / 1e6, time.monotonic() - started
    assert simulated == pytest.approx(60 * real, rel=0.2)


async def test_a_taken_address_is_named_and_nothing_stays_open(site: SimulatedSite) -> None:
    blocked = site.devices[1]
    other = await asyncio.start_server(lambda *_: None, blocked.host, blocked.port)
    with pytest.raises(StartError, match=f"RTU002 can't listen on {blocked.host}:{blocked.port}"):
        await Simulation(site).start()
    with pytest.raises(OSError, match=r"refused|failed"):
        await asyncio.open_connection(site.devices[0].host, site.devices[0].port)
    other.close()


async def test_breakers_whose_points_are_bits_and_words_of_registers(site: SimulatedSite, until: Any) -> None:
    """Position as bits of one holding register, commands as 1 into registers of their own."""
    first = replace(
        site.feeders[0],
        points=BreakerPoints(
            pos_closed=Point(Space.HOLDING, 120, bit=3),
            pos_open=Point(Space.HOLDING, 120, bit=4),
            open_cmd=Point(Space.HOLDING, 200),
            close_cmd=Point(Space.HOLDING, 201, bit=0),
            local=None,
            op_count=None,
            power_kw=Point(Space.HOLDING, 130, kind="f32"),
        ),
    )
    async with Simulation(replace(site, feeders=(first, *site.feeders[1:]))) as simulation:
        device = simulation.plant.devices["RTU001"]

        def word(number: int) -> int:
            return device.memory.word(Space.HOLDING, number)

        assert word(120) == 0b01000
        simulation.plant.modbus.write(device, Space.HOLDING, 200, [7])
        assert simulation.plant.switchgear.breakers[0].open_commands == 0
        simulation.plant.modbus.write(device, Space.HOLDING, 199, [55, 1])
        assert (word(199), word(200), word(120)) == (55, 0, 0)

        async def opened() -> bool:
            return word(120) == 0b10000

        await until(opened)
        simulation.plant.modbus.write(device, Space.HOLDING, 201, [1])
        assert word(120) == 0
        shown = struct.unpack(">f", device.memory.holding[260:264])[0]
        assert shown == pytest.approx(float(simulation.loads.power_kw[0]), rel=1e-6)


async def test_control_refuses_what_it_does_not_know(control: SimulatorClient) -> None:
    with pytest.raises(ControlError, match="no feeder is named 'F999'"):
        await control.counters_of("F999")
    with pytest.raises(ControlError, match="is no fault"):
        await control.fault("bent", "F001-001")
    with pytest.raises(ControlError, match="no device is named 'F001-001'"):
        await control.fault("silent", "F001-001")
    with pytest.raises(ControlError, match="needs value"):
        await control.fault("slow", "F001-001")
    with pytest.raises(ControlError, match="unknown op"):
        await control.request("dance")
    with pytest.raises(ControlError, match="whole number"):
        await control.request("commands", since=-1)
    assert (await control.state())["feeders"] == 30
