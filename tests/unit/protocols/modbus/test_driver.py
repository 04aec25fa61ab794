"""The driver as a whole: polls, qualities, isolation, split blocks, and what is refused at construction."""

from __future__ import annotations

import asyncio
import dataclasses
import time

import pytest

from protocols.base import Driver, LinkState, Position, Quality
from protocols.modbus.driver import ModbusDriver


def is_a_driver(driver: Driver) -> Driver:
    return driver


async def test_the_first_scan_fills_the_image_and_tells_each_breaker_once(site):
    s = await site(breakers=10)
    assert is_a_driver(s.driver) is s.driver
    reading = s.driver.breaker("R0-2")
    assert (reading.position, reading.quality, reading.local) == (Position.CLOSED, Quality.GOOD, False)
    assert s.driver.link_of("R0-2").state is LinkState.UP
    assert sorted(s.driver.feeders()) == sorted(f"R0-{i}" for i in range(10))
    [call] = [call for call in s.listener.calls if any(name == "R0-2" for name, _ in call)]
    assert len(call) == 10


async def test_a_trip_in_the_field_is_told_with_the_others_of_its_scan(site, kit):
    s = await site()
    told = len(s.listener.calls)
    s.rtu.place(1, "open")
    s.rtu.place(2, "bad")
    await kit.eventually(lambda: s.driver.breaker("R0-2").position is Position.BAD)
    [call] = s.listener.calls[told:]
    assert [(name, reading.position) for name, reading in call] == [("R0-1", Position.OPEN), ("R0-2", Position.BAD)]


async def test_slow_values_and_measurements_arrive(site, kit):
    load = kit.Measurement("load", "R0", kit.Address("hr", 10, None, "u32", 0.5))

    def prepare(rtu):
        rtu.registers[3][10:12] = [1, 2]
        rtu.registers[4][1] = 7
        rtu.registers[4][1001] = 0x10000 - 100

    s = await site(measurements=[load], prepare=prepare)
    await kit.eventually(lambda: s.driver.breaker("R0-1").power_kw is not None)
    assert s.driver.breaker("R0-1").power_kw == pytest.approx(-10.0)
    assert s.driver.breaker("R0-1").op_count == 7
    reading = s.driver.measurement("load")
    assert (reading.value, reading.quality) == (65538 * 0.5, Quality.GOOD)
    with pytest.raises(KeyError):
        s.driver.measurement("nothing")


async def test_fast_and_slow_classes_have_their_own_period(site):
    s = await site(poll_fast_s=0.1, poll_slow_s=30.0)
    await asyncio.sleep(0.55)
    by_code = [request.code for request in s.rtu.requests]
    assert by_code.count(2) >= 4
    assert by_code.count(4) == 2


async def test_a_stale_value_is_never_shown_as_good(site, kit):
    """The device goes silent: the age alone tells, before any time-out has."""
    s = await site(timeout_s=5.0, stale_after_s=0.4)
    s.rtu.script = lambda request: b""
    await kit.eventually(lambda: s.listener.told("R0-0")[-1] == (Position.CLOSED, Quality.UNCERTAIN))
    assert s.driver.breaker("R0-0").quality is Quality.UNCERTAIN


async def test_a_lost_link_makes_its_values_bad_and_they_come_back(site, kit):
    s = await site()
    await s.rtu.stop()
    await kit.eventually(lambda: s.listener.told("R0-0")[-1] == (Position.CLOSED, Quality.BAD))
    assert s.listener.links[-1].state is LinkState.DOWN
    await s.rtu.start()
    await kit.eventually(lambda: s.listener.told("R0-0")[-1] == (Position.CLOSED, Quality.GOOD))
    assert s.driver.links()[0].state is LinkState.UP
    assert s.driver.counters()["R0"].reconnects >= 1


async def test_a_peer_that_accepts_and_says_nothing_is_found_out(site, kit):
    """A half-open connection looks like this: connected, and nothing comes."""
    s = await site(timeout_s=0.1)
    s.rtu.script = lambda request: b""
    await kit.eventually(lambda: s.driver.link_of("R0-0").state is LinkState.SILENT)
    assert s.driver.breaker("R0-0").quality is Quality.BAD
    s.rtu.script = lambda request: None
    await kit.eventually(lambda: s.driver.breaker("R0-0").quality is Quality.GOOD)
    assert s.driver.counters()["R0"].timeouts >= 2


async def test_a_device_that_is_not_there_at_the_start_is_taken_in_later(site, kit):
    s = await site(scan=False)
    await s.driver.stop()
    await s.rtu.stop()
    driver = ModbusDriver(s.devices, [s.rtu.feeder(0, "R0")], [])
    await driver.start(kit.Listener())
    try:
        await asyncio.wait_for(driver.wait_first_scan(10.0), 3.0)
        assert driver.links()[0].state is LinkState.DOWN
        assert driver.breaker("R0-0").position is Position.UNKNOWN
        await s.rtu.start()
        await kit.eventually(lambda: driver.breaker("R0-0").quality is Quality.GOOD)
    finally:
        await driver.stop()


async def test_wait_first_scan_ends_in_time(site):
    s = await site(scan=False, timeout_s=30.0, prepare=lambda rtu: setattr(rtu, "script", lambda request: b""))
    started = time.monotonic()
    await s.driver.wait_first_scan(0.1)
    assert 0.09 <= time.monotonic() - started < 2.0


async def test_a_silent_device_delays_no_other(site, kit):
    """Of eight devices one is silent: while it is waited for, the others are scanned many times."""
    s = await site(rtus=8, poll_fast_s=0.05, timeout_s=30.0)
    s.rtus[3].script = lambda request: b""
    counts = [len(rtu.requests) for rtu in s.rtus]

    def scans() -> list[int]:
        return [sum(r.code == 2 for r in rtu.requests[n:]) for rtu, n in zip(s.rtus, counts, strict=True)]

    await kit.eventually(lambda: min(n for place, n in enumerate(scans()) if place != 3) >= 20, within_s=60.0)
    assert scans()[3] <= 2
    for place in (0, 1, 2, 4, 5, 6, 7):
        assert s.driver.breaker(f"R{place}-0").quality is Quality.GOOD


async def test_polls_of_many_devices_are_spread_over_the_period(site):
    s = await site(rtus=5, poll_fast_s=0.5, poll_slow_s=30.0)
    await asyncio.sleep(0.6)
    before = [len(rtu.requests) for rtu in s.rtus]
    await asyncio.sleep(0.55)
    first = sorted(rtu.requests[count].at % 0.5 for rtu, count in zip(s.rtus, before, strict=True))
    gaps = [(b - a) % 0.5 for a, b in zip(first, [*first[1:], first[0] + 0.5], strict=True)]
    assert max(gaps) < 0.3


async def test_readbacks_asked_for_together_cost_one_read(site):
    s = await site(breakers=50, poll_fast_s=30.0, poll_slow_s=30.0)
    before = len(s.rtu.requests)
    s.rtu.place(7, "open")
    readings = await asyncio.gather(*(s.driver.read_breaker(f"R0-{i}", 2.0) for i in range(50)))
    assert {reading.quality for reading in readings} == {Quality.GOOD}
    assert readings[7].position is Position.OPEN
    assert len(s.rtu.requests) - before <= 2


async def test_a_readback_that_fails_is_bad_and_keeps_the_last_position(site):
    s = await site(poll_fast_s=30.0, timeout_s=0.1)
    s.rtu.script = lambda request: 4
    reading = await s.driver.read_breaker("R0-0", 1.0)
    assert (reading.position, reading.quality) == (Position.CLOSED, Quality.BAD)
    s.rtu.script = lambda request: b""
    reading = await s.driver.read_breaker("R0-0", 0.05)
    assert (reading.position, reading.quality) == (Position.CLOSED, Quality.BAD)


async def test_a_block_with_a_hole_is_split_and_the_hole_remembered(site, kit):
    """Register 5 of the counters does not exist: only that one is lost, and it is not asked for each time."""
    s = await site(breakers=8, prepare=lambda rtu: rtu.missing.add((4, 5)), poll_slow_s=0.2)
    await kit.eventually(lambda: s.driver.breaker("R0-7").op_count == 0)
    assert [s.driver.breaker(f"R0-{i}").op_count for i in range(8)] == [0, 0, 0, 0, 0, None, 0, 0]
    refused = s.driver.counters()["R0"].exceptions
    await asyncio.sleep(0.6)
    assert s.driver.counters()["R0"].exceptions == refused
    assert s.driver.link_of("R0-0").state is LinkState.UP


async def test_splitting_has_a_limit(site, kit, monkeypatch):
    monkeypatch.setattr("protocols.modbus.device.MAX_SPLITS", 3)
    holes = {(4, at) for at in range(16)}
    s = await site(breakers=16, prepare=lambda rtu: rtu.missing.update(holes), poll_slow_s=0.1)
    await asyncio.sleep(0.5)
    counters = s.driver.counters()["R0"]
    assert counters.exceptions <= 7
    assert s.driver.breaker("R0-3").op_count is None
    assert s.driver.breaker("R0-3").quality is Quality.GOOD


async def test_a_device_without_points_is_still_watched(kit):
    rtu = kit.Rtu()
    await rtu.start()
    driver = ModbusDriver([kit.Device("R0", rtu.host, rtu.port)], [], [])
    await driver.start(kit.Listener())
    try:
        await driver.wait_first_scan(3.0)
        assert driver.links()[0].state is LinkState.UP
    finally:
        await driver.stop()
        await rtu.stop()


def test_what_could_do_harm_is_refused_at_construction(kit):
    device = kit.Device("R0", "127.0.0.1", 1)
    feeder = kit.Rtu().feeder(0, "R0")

    def refused(match, devices=(device,), feeders=(feeder,), measurements=()):
        with pytest.raises(ValueError, match=match):
            ModbusDriver(devices, feeders, measurements)

    ModbusDriver([device], [feeder], [])
    refused("broadcast", devices=[dataclasses.replace(device, unit=0)])
    refused("broadcast", devices=[dataclasses.replace(device, unit=256)])
    refused("twice", devices=[device, device])
    refused("twice", feeders=[feeder, feeder])
    refused("no device R9", feeders=[dataclasses.replace(feeder, device="R9")])
    points = dataclasses.replace(feeder.points, open_cmd=kit.Address("di", 3))
    refused("coil or a holding", feeders=[dataclasses.replace(feeder, points=points)])
    refused("no device", measurements=[kit.Measurement("load", "R9", kit.Address("hr", 0))])
    refused("table", measurements=[kit.Measurement("load", "R0", kit.Address("xx", 0))])
