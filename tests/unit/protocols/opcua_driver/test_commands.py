"""One command to an OPC UA device: how it leaves, that it leaves once, and what each answer makes of it."""

from __future__ import annotations

import asyncio

import pytest
from asyncua import ua
from unit.protocols.opcua_driver.conftest import CLOSED, MOVING, Command, Node, Value, feeder, sbo

from protocols.base import LinkState, Outcome, Position, Quality

C = ua.StatusCodes


async def test_a_method_is_called_and_the_position_read_back(kit):
    async with kit() as k:
        result = await k.operate()
        assert (result.outcome, result.position, result.sent) == (Outcome.DONE, Position.OPEN, True)
        assert k.bay.orders == [("F0", "Open()")]
        assert k.driver.breaker("F1").position is Position.CLOSED
        result = await k.operate()
        assert (result.outcome, result.sent) == (Outcome.DONE, False), "it is there already"
        assert (await k.operate(Position.CLOSED)).outcome is Outcome.DONE
        assert k.bay.orders == [("F0", "Open()"), ("F0", "Close()")]


async def test_the_outcome_brings_the_counter_read_after_the_end_position(kit):
    async with kit() as k:
        k.bay.before = lambda name, what: k.bay.set(f"{name}/OpCnt", 1)
        assert (await k.operate()).op_count == 1


async def test_a_value_is_written_in_the_type_of_its_node(kit):
    command = Command(Node("s=F0/Cmd"), Value(7, boolean=False))
    async with kit([feeder("F0", open_cmd=command)]) as k:
        result = await k.operate()
        assert result.outcome is Outcome.FAILED, "nothing moves of it here"
        written = await k.bay.nodes["F0/Cmd"].read_value()
        assert written == 7
        assert await k.bay.nodes["F0/Cmd"].read_data_type_as_variant_type() is ua.VariantType.Byte


async def test_an_argument_is_sent_in_the_type_of_its_method(kit):
    command = Command(Node("s=F0"), Value(9, boolean=False), Node("s=F0/Do"))
    async with kit([feeder("F0", open_cmd=command)]) as k:
        assert (await k.operate()).outcome is Outcome.DONE
        assert k.bay.orders == [("F0", "Do(UInt16:9)")]


async def test_select_comes_before_operate(kit):
    async with kit([sbo("F0")]) as k:
        assert (await k.operate()).outcome is Outcome.DONE
        assert k.bay.orders == [("F0", "Select(Boolean:False)"), ("F0", "Open()")]


async def test_a_refused_selection_is_refused_and_nothing_was_operated(kit):
    async with kit([sbo("F0")]) as k:
        # A code that would leave doubt of an operate leaves none of a selection.
        k.bay.before = lambda _, what: C.BadInternalError if what.startswith("Select") else None
        result = await k.operate()
        assert (result.outcome, result.sent) == (Outcome.REFUSED, False)
        assert "selection" in result.detail
        assert k.bay.orders == [("F0", "Select(Boolean:False)")]


async def test_a_selection_that_is_not_used_is_cancelled(kit):
    async with kit([sbo("F0")]) as k:

        def forbid(_name, what):
            if what.startswith("Select"):
                k.driver.set_writes_enabled(False)

        k.bay.before = forbid
        result = await k.operate()
        assert (result.outcome, result.sent) == (Outcome.REFUSED, False)
        await asyncio.sleep(0.1)
        assert [what for _, what in k.bay.orders] == ["Select(Boolean:False)", "Cancel()"]


async def test_a_refused_operate_gives_the_selection_back(kit):
    async with kit([sbo("F0")]) as k:
        k.bay.before = lambda _, what: C.BadInvalidState if what == "Open()" else None
        assert (await k.operate()).outcome is Outcome.REFUSED
        assert [what for _, what in k.bay.orders] == ["Select(Boolean:False)", "Open()", "Cancel()"]


async def test_local_is_refused_without_a_word_to_the_device(kit):
    async with kit() as k:
        await k.bay.set("F0/Loc", True)
        result = await k.operate()
        assert (result.outcome, result.sent) == (Outcome.REFUSED, False)
        assert "local" in result.detail
        assert k.bay.orders == []


@pytest.mark.parametrize("raw", [MOVING, 3])
async def test_never_on_an_uncertain_state(kit, raw):
    async with kit() as k:
        await k.bay.set("F0/Pos", raw)
        assert (await k.operate()).outcome in (Outcome.REFUSED, Outcome.NOT_SENT)
        assert k.bay.orders == []


async def test_a_bad_position_sends_nothing(kit):
    async with kit() as k:
        await k.bay.set("F0/Pos", CLOSED, status=C.BadSensorFailure)
        result = await k.operate()
        assert (result.outcome, result.sent) == (Outcome.NOT_SENT, False)
        assert k.bay.orders == []


async def test_in_monitor_mode_nothing_leaves_not_even_a_selection(kit):
    async with kit([sbo("F0"), feeder("F1")], writes=False) as k:
        for name in ("F0", "F1"):
            result = await k.operate(name=name)
            assert (result.outcome, result.sent) == (Outcome.REFUSED, False)
        assert k.bay.orders == []


@pytest.mark.parametrize("code", [C.BadInvalidState, C.BadUserAccessDenied, C.BadNotSupported])
async def test_an_answer_that_says_nothing_was_done_is_a_refusal(kit, code):
    async with kit() as k:
        k.bay.before = lambda *_: code
        result = await k.operate()
        assert (result.outcome, result.sent) == (Outcome.REFUSED, True)
        assert len(k.bay.orders) == 1


@pytest.mark.parametrize("code", [C.BadInternalError, C.BadUnexpectedError, C.BadDeviceFailure, C.BadTimeout])
async def test_an_answer_that_leaves_doubt_is_resolved_by_reading(kit, code):
    async with kit() as k:
        k.bay.before = lambda *_: code
        result = await k.operate()
        assert (result.outcome, result.sent) == (Outcome.UNKNOWN, True)
        assert len(k.bay.orders) == 1

        async def moves_all_the_same(name, _what):
            await k.bay.set(f"{name}/Pos", 1)
            return code

        k.bay.before = moves_all_the_same
        result = await k.operate()
        assert (result.outcome, result.position) == (Outcome.DONE, Position.OPEN)
        assert "resolved by readback" in result.detail
        assert len(k.bay.orders) == 2


async def test_what_is_accepted_and_does_not_move_has_failed(kit):
    async with kit() as k:
        k.bay.obey = False
        result = await k.operate()
        assert (result.outcome, result.sent) == (Outcome.FAILED, True)
        assert len(k.bay.orders) == 1


@pytest.mark.parametrize(("moves", "outcome"), [(False, Outcome.UNKNOWN), (True, Outcome.DONE)])
async def test_a_session_dropped_in_mid_call_is_unknown_until_read_back(kit, moves, outcome):
    async with kit([feeder("F0")]) as k:

        async def drop(name, _what):
            if moves:
                await k.bay.set(f"{name}/Pos", 1)
            k.bay.drop()
            return C.BadInternalError

        k.bay.before = drop
        result = await k.operate()
        assert (result.outcome, result.sent) == (outcome, True)
        await k.up()
        assert len(k.bay.orders) == 1, "never repeated"


async def test_a_call_without_an_answer_is_unknown_and_never_repeated(kit):
    async with kit() as k:

        async def hang(*_):
            await asyncio.sleep(1.5)
            return C.BadTimeout

        k.bay.before = hang
        result = await k.operate()
        assert (result.outcome, result.sent) == (Outcome.UNKNOWN, True)
        k.bay.before = None
        await k.until(lambda: k.driver.breaker("F0").quality is Quality.GOOD)
        await asyncio.sleep(0.3)
        assert len(k.bay.orders) == 1


async def test_a_session_that_the_device_forgot_sends_nothing(kit):
    async with kit(poll_slow_s=60.0) as k:
        await asyncio.sleep(0.3)
        await k.bay.stop()
        result = await k.operate()
        assert (result.outcome, result.sent) == (Outcome.NOT_SENT, False)
        await k.bay.start()
        await k.up()


async def test_stopping_ends_what_is_under_way(kit):
    async with kit() as k:
        k.bay.before = lambda *_: asyncio.sleep(1.0)
        k.bay.obey = False
        running = asyncio.create_task(k.operate())
        await k.until(lambda: bool(k.bay.orders))
        await k.driver.stop()
        result = await running
        assert (result.outcome, result.sent) == (Outcome.UNKNOWN, True)
        assert k.driver.links()[0].state is LinkState.DOWN
        assert (await k.operate()).outcome is Outcome.NOT_SENT
