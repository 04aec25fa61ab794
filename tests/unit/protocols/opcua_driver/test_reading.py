"""What is read of an OPC UA device: by subscription, by the slow read beside it, with the device's own doubts."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

from asyncua import ua
from unit.protocols.opcua_driver.conftest import CLOSED, OPEN, Bay, Measurement, Node, Point, feeder

from protocols.base import LinkState, Position, Quality


async def test_everything_of_a_breaker_is_read(kit):
    async with kit() as k:
        reading = k.driver.breaker("F0")
        assert (reading.position, reading.quality, reading.local) == (Position.CLOSED, Quality.GOOD, False)
        assert (reading.op_count, reading.power_kw) == (0, 62.5)
        assert {name for name, _ in k.listener.changes} == {"F0", "F1"}


async def test_a_change_is_told_by_the_subscription_and_not_by_the_slow_read(kit):
    async with kit(poll_slow_s=60.0) as k:
        await asyncio.sleep(0.3)
        k.listener.changes.clear()
        await k.bay.set("F0/Pos", OPEN)
        await k.until(lambda: bool(k.listener.changes))
        assert [(name, reading.position) for name, reading in k.listener.changes] == [("F0", Position.OPEN)]
        await asyncio.sleep(2.0)
        assert k.driver.breaker("F0").quality is Quality.GOOD, "signs of life confirm what doesn't change"


async def test_position_is_one_node_with_four_values(kit):
    async with kit() as k:
        for raw, position in ((0, Position.INTERMEDIATE), (OPEN, Position.OPEN), (CLOSED, Position.CLOSED)):
            await k.bay.set("F0/Pos", raw)
            await k.until(lambda position=position: k.driver.breaker("F0").position is position)


async def test_bad_is_bad_and_keeps_the_position_that_was_known(kit):
    async with kit() as k:
        await k.bay.set("F0/Pos", OPEN, status=ua.StatusCodes.BadSensorFailure)
        await k.until(lambda: k.driver.breaker("F0").quality is Quality.BAD)
        assert k.driver.breaker("F0").position is Position.CLOSED
        assert (await k.driver.read_breaker("F0", 1.0)).quality is Quality.BAD
        assert k.driver.breaker("F1").quality is Quality.GOOD
        await k.bay.set("F0/Pos", OPEN)
        await k.until(lambda: k.driver.breaker("F0").quality is Quality.GOOD)
        assert k.driver.breaker("F0").position is Position.OPEN


async def test_uncertain_is_uncertain(kit):
    async with kit() as k:
        await k.bay.set("F0/Pos", OPEN, status=ua.StatusCodes.UncertainLastUsableValue)
        await k.until(lambda: k.driver.breaker("F0").quality is Quality.UNCERTAIN)
        assert k.driver.breaker("F0").position is Position.OPEN


async def test_a_new_value_with_an_old_time_stamp_is_not_believed(kit):
    async with kit() as k:
        await k.bay.set("F0/Pos", OPEN)
        await k.until(lambda: k.driver.breaker("F0").position is Position.OPEN)
        await k.bay.set("F0/Pos", CLOSED, at=datetime.now(UTC) - timedelta(hours=1))
        await k.until(lambda: k.driver.breaker("F0").quality is Quality.UNCERTAIN)
        await asyncio.sleep(1.0)
        assert k.driver.breaker("F0").quality is Quality.UNCERTAIN, "reading it once more makes it no younger"
        assert (await k.operate()).detail == "the quality of the position is uncertain"
        assert k.bay.orders == []
        await k.bay.set("F0/Pos", CLOSED)
        await k.until(lambda: k.driver.breaker("F0").quality is Quality.GOOD)


async def test_a_time_stamp_of_the_future_is_not_believed(kit):
    async with kit() as k:
        await k.bay.set("F0/Pos", OPEN, at=datetime.now(UTC) + timedelta(minutes=5))
        await k.until(lambda: k.driver.breaker("F0").quality is Quality.UNCERTAIN)


async def test_an_old_time_stamp_at_the_start_is_no_wonder(kit, certify):
    old = Bay.start

    async def start(bay):
        await old(bay)
        await bay.set("F0/Pos", CLOSED, at=datetime.now(UTC) - timedelta(days=300))

    Bay.start = start
    try:
        async with kit() as k:
            await asyncio.sleep(0.6)
            assert k.driver.breaker("F0").quality is Quality.GOOD
    finally:
        Bay.start = old


async def test_a_device_with_a_wrong_clock_is_not_believed(kit):
    async with kit(wall=lambda: time.time() + 3600) as k:
        await k.until(lambda: k.driver.breaker("F0").quality is Quality.UNCERTAIN)
        assert k.driver.breaker("F0").position is Position.CLOSED


async def test_a_local_switch_of_the_wrong_kind_does_not_pass_for_remote(kit):
    async with kit([feeder("F0", local=Point(Node("s=F0/OpCnt"), feeder("F0").points.local.equals))]) as k:
        assert k.driver.breaker("F0").quality is Quality.BAD
        outcome = await k.operate()
        assert outcome.outcome == "not_sent"
        assert k.bay.orders == []


async def test_measurements_carry_the_quality_of_their_node(kit):
    load = Measurement("load", "bay", Point(Node("s=F0/Kw"), scale=2.0, offset=1.0))
    async with kit(measurements=[load]) as k:
        assert (k.driver.measurement("load").value, k.driver.measurement("load").quality) == (251.0, Quality.GOOD)
        await k.bay.set("F0/Kw", 100.0, at=datetime.now(UTC) - timedelta(hours=1))
        await k.until(lambda: k.driver.measurement("load").quality is Quality.UNCERTAIN)
        await k.bay.set("F0/Kw", 100.0, status=ua.StatusCodes.BadDeviceFailure)
        await k.until(lambda: k.driver.measurement("load").quality is Quality.BAD)
        assert k.driver.measurement("load").value is None
        assert k.driver.breaker("F0").power_kw is None


async def test_a_node_that_is_not_there_spoils_its_breaker_alone(kit):
    lost = feeder("F0", pos_open=Point(Node("s=F0/Gone")), local=Point(Node("s=F0/Loc", "urn:nowhere")))
    async with kit([lost, feeder("F1")]) as k:
        assert k.driver.breaker("F0").quality is Quality.BAD
        assert k.driver.breaker("F1").quality is Quality.GOOD
        assert "BadNodeIdUnknown" in (await k.operate()).detail


async def test_a_thousand_points_are_subscribed_in_slices(kit):
    async with kit(breakers=200, poll_slow_s=60.0, timeout_s=5.0) as k:
        await asyncio.sleep(0.5)
        sizes = [
            len(s.monitored_item_srv._monitored_items)
            for s in k.bay.server.iserver.subscription_service.subscriptions.values()
        ]
        await k.until(
            lambda: (
                sum(
                    len(s.monitored_item_srv._monitored_items)
                    for s in k.bay.server.iserver.subscription_service.subscriptions.values()
                )
                == 800
            ),
            10.0,
        )
        assert len(sizes) == 1
        for name in ("F0", "F199"):
            await k.bay.set(f"{name}/Pos", OPEN)
        await k.until(lambda: {k.driver.breaker(n).position for n in ("F0", "F199")} == {Position.OPEN})


async def test_readbacks_asked_for_together_are_one_read(kit):
    async with kit(breakers=100, timeout_s=5.0) as k:
        before = k.driver.counters()["bay"].requests
        readings = await asyncio.gather(*(k.driver.read_breaker(f"F{n}", 5.0) for n in range(100)))
        assert {reading.quality for reading in readings} == {Quality.GOOD}
        assert k.driver.counters()["bay"].requests - before <= 5


async def test_after_a_dropped_connection_everything_is_subscribed_anew(kit):
    async with kit(poll_slow_s=60.0) as k:
        await asyncio.sleep(0.3)
        k.bay.drop()
        await k.until(lambda: k.driver.links()[0].state is not LinkState.UP)
        await k.up()
        await asyncio.sleep(0.3)
        await k.bay.set("F1/Pos", OPEN)
        await k.until(lambda: k.driver.breaker("F1").position is Position.OPEN)


async def test_after_a_restart_with_other_namespace_indices_the_same_nodes_are_meant(kit):
    async with kit() as k:
        await k.bay.stop()
        await k.until(lambda: k.driver.breaker("F0").quality is Quality.BAD)
        k.bay.other_namespaces = 3
        k.bay.positions["F0"] = OPEN
        await k.bay.start()
        await k.until(lambda: k.driver.breaker("F0").quality is Quality.GOOD)
        assert k.driver.breaker("F0").position is Position.OPEN
        assert (await k.operate(Position.CLOSED)).outcome == "done"
        assert k.bay.orders == [("F0", "Close()")]


async def test_a_silent_subscription_ends_the_session(kit):
    async with kit(poll_slow_s=60.0) as k:
        await asyncio.sleep(0.3)
        for subscription in k.bay.server.iserver.subscription_service.subscriptions.values():
            subscription._task.cancel()
        await k.until(lambda: any("fell silent" in status.detail for status in k.listener.links))
        await k.up()
