"""What a device shows after a command or a break may be doubtful, late or gone: none of that may pass for a readback."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from asyncua import ua
from unit.protocols.opcua_driver.conftest import CLOSED, OPEN, Command, Node, Value, feeder, sbo

from protocols.base import Outcome, Position, Quality
from protocols.image import DeviceImage, Field
from protocols.opcua.spots import Spots

C = ua.StatusCodes


@pytest.mark.parametrize("status", [C.UncertainLastUsableValue, C.GoodLocalOverride])
async def test_an_end_position_that_the_device_doubts_is_no_readback(kit, status):
    async with kit() as k:

        async def shown(name, _what):
            await k.bay.set(f"{name}/Pos", OPEN, status=status)
            return 0

        k.bay.before = shown
        result = await k.operate()
        assert (result.outcome, result.sent) == (Outcome.UNKNOWN, True)
        assert len(k.bay.orders) == 1


async def test_a_position_that_turned_bad_is_not_one_that_was_not_reached(kit):
    async with kit() as k:

        async def blind(name, _what):
            await k.bay.set(f"{name}/Pos", OPEN, status=C.BadSensorFailure)
            return 0

        k.bay.before = blind
        result = await k.operate()
        assert (result.outcome, result.sent) == (Outcome.UNKNOWN, True), "nobody knows, so nobody may call it failed"
        assert "BadSensorFailure" in result.detail


@pytest.mark.parametrize("how", ["expired", "monitor", "cancelled", "stopped"])
async def test_nothing_leaves_that_was_ended_while_its_type_was_asked_for(kit, monkeypatch, how):
    command = Command(Node("s=F0/Cmd"), Value(7, boolean=False))
    async with kit([feeder("F0", open_cmd=command)], timeout_s=2.0) as k:
        service = k.bay.server.iserver.isession.__class__
        plain, asked = service.read, asyncio.Event()

        async def read(self, params):
            if any(node.AttributeId == ua.AttributeIds.DataType for node in params.NodesToRead):
                asked.set()
                await asyncio.sleep(0.5)
            return await plain(self, params)

        monkeypatch.setattr(service, "read", read)
        running = asyncio.create_task(k.driver.operate("F0", Position.OPEN, 0.3 if how == "expired" else 3.0))
        await asyncio.wait_for(asked.wait(), 2.0)
        if how == "monitor":
            k.driver.set_writes_enabled(False)
        elif how == "cancelled":
            running.cancel()
        elif how == "stopped":
            await k.driver._commanders["bay"].stop()
        (ended,) = await asyncio.gather(running, return_exceptions=True)
        if how == "cancelled":
            assert isinstance(ended, asyncio.CancelledError)
        else:
            assert ended.outcome is (Outcome.REFUSED if how == "monitor" else Outcome.NOT_SENT)
            assert not ended.sent
        await asyncio.sleep(0.7)
        assert await k.bay.nodes["F0/Cmd"].read_value() == 0


async def test_no_selection_leaves_that_was_ended_while_its_type_was_asked_for(kit, monkeypatch):
    points = sbo("F0").points
    select = Command(Node("s=F0/Cmd"), Value(7, boolean=False))
    async with kit([feeder("F0", select_open=select, select_close=points.select_close, cancel=points.cancel)]) as k:
        service = k.bay.server.iserver.isession.__class__
        plain, asked = service.read, asyncio.Event()

        async def read(self, params):
            if any(node.AttributeId == ua.AttributeIds.DataType for node in params.NodesToRead):
                asked.set()
                await asyncio.sleep(0.3)
            return await plain(self, params)

        monkeypatch.setattr(service, "read", read)
        running = asyncio.create_task(k.operate())
        await asyncio.wait_for(asked.wait(), 2.0)
        k.driver.set_writes_enabled(False)
        assert (await running).outcome is Outcome.REFUSED
        await asyncio.sleep(0.5)
        assert await k.bay.nodes["F0/Cmd"].read_value() == 0, "in monitor mode not even a selection leaves"
        assert k.bay.orders == []


def test_what_moved_while_nobody_looked_is_believed_when_it_comes():
    """After a long break a value may be as old as the break, and no older."""
    image = DeviceImage()
    spots = Spots(1.5, 0.4)
    spots.add_breaker("F0", feeder("F0").points, image)
    spot = spots.all[0]

    def shows(value, stamp_s, now):
        stamp = datetime.fromtimestamp(1_700_000_000.0 + stamp_s, UTC)
        data = ua.DataValue(ua.Variant(value, ua.VariantType.Int32), SourceTimestamp=stamp)
        spot.take(data, 1_000.0 + now, 1_700_000_000.0 + now, image)
        return spot.quality(1_000.0 + now)

    assert shows(CLOSED, 0.0, 0.0) is Quality.GOOD
    assert shows(OPEN, 61.0, 600.0) is Quality.GOOD, "it was operated by hand while the link was down"
    assert shows(CLOSED, 500.0, 601.0) is Quality.UNCERTAIN, "somebody looked after that, and saw it open"


async def test_a_counter_that_the_device_doubts_proves_nothing(kit):
    async with kit() as k:
        assert (await k.driver.read_breaker("F0", 1.0)).op_count == 0
        await k.bay.set("F0/OpCnt", 0, status=C.UncertainLastUsableValue)
        reading = await k.driver.read_breaker("F0", 1.0)
        assert (reading.quality, reading.op_count) == (Quality.GOOD, None)


def test_a_counter_from_before_the_one_that_was_seen_proves_nothing():
    image, spots = DeviceImage(), Spots(stale_after_s=2.0, slow_s=1.0)
    spots.add_breaker("F0", feeder("F0").points, image)
    spot = next(one for one in spots.all if one.takers[0].field is Field.OP_COUNT)

    def shows(count, stamp_s, now):
        stamp = datetime.fromtimestamp(1_700_000_000.0 + stamp_s, UTC)
        data = ua.DataValue(ua.Variant(count, ua.VariantType.Int32), SourceTimestamp=stamp)
        spot.take(data, 1_000.0 + now, 1_700_000_000.0 + now, image)
        return image.breakers["F0"].op_count()

    assert shows(7, 0.0, 0.0) == 7
    assert shows(8, 1.0, 1.0) == 8
    assert shows(7, 0.5, 1.5) is None, (
        "an old value that came late: equal to what was known, it would prove a standstill"
    )
    assert shows(8, 2.0, 2.0) == 8


async def test_a_movement_in_doubt_is_not_cut_off_by_a_cancel(kit):
    async with kit([sbo("F0")]) as k:
        k.bay.before = lambda _, what: C.BadInternalError if what == "Open()" else None
        assert (await k.operate()).outcome is Outcome.UNKNOWN
        assert [what for _, what in k.bay.orders] == ["Select(Boolean:False)", "Open()"]
