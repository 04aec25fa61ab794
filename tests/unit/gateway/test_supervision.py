"""A defect anywhere ends the daemon with its outputs held; the first reason is the one that is told."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from gateway.durable import EngineStoppedError
from gateway.shedding.gate import OutputGate
from gateway.supervision import Supervision


@pytest.fixture
def gate() -> OutputGate:
    gate = OutputGate()
    gate.release()
    return gate


async def fails(words: str) -> None:
    raise RuntimeError(words)


async def test_a_task_that_fails_holds_outputs_and_ends_the_daemon(gate: OutputGate) -> None:
    supervision = Supervision(gate)
    supervision.spawn(fails("no idea"), "watch")
    await asyncio.wait_for(supervision.stop.wait(), 5)
    assert supervision.failed == "watch failed: no idea"
    assert (gate.held, gate.reason) == (True, "watch failed: no idea")


async def test_a_task_that_only_met_the_end_of_the_journal_is_not_told_as_a_defect(gate: OutputGate) -> None:
    async def meets_it() -> None:
        raise EngineStoppedError("the gateway's journal failed: disk I/O error")

    supervision = Supervision(gate)
    with capture_logs() as told:
        supervision.spawn(meets_it(), "bring-up")
        await asyncio.wait_for(supervision.stop.wait(), 5)
    assert [(one["event"], one["log_level"]) for one in told] == [("task_ended", "info")]
    assert (supervision.failed, gate.held) == ("the gateway's journal failed: disk I/O error", True)


async def test_a_task_that_ends_or_is_ended_is_no_defect(gate: OutputGate) -> None:
    supervision = Supervision(gate)
    supervision.spawn(asyncio.sleep(0), "short")
    supervision.spawn(asyncio.sleep(3600), "long")
    await asyncio.sleep(0.01)
    await asyncio.wait_for(supervision.end_tasks(), 5)
    assert (supervision.stop.is_set(), supervision.failed, gate.held) == (False, "", False)


async def test_the_first_reason_stays(gate: OutputGate) -> None:
    supervision = Supervision(gate)
    supervision.give_up("first")
    supervision.give_up("second")
    assert (supervision.failed, gate.held) == ("first", True)


async def test_an_exception_that_nobody_awaited_is_a_defect(gate: OutputGate) -> None:
    loop = asyncio.get_running_loop()
    supervision = Supervision(gate)
    supervision.watch_signals(lambda: fails("not asked for"))
    try:
        loop.call_soon(lambda: 1 // 0)
        await asyncio.wait_for(supervision.stop.wait(), 5)
    finally:
        loop.set_exception_handler(None)
    assert supervision.failed.startswith("defect: ")
    assert gate.held


async def test_a_failure_of_what_control_does_not_need_is_tolerated_and_no_other(gate: OutputGate) -> None:
    loop = asyncio.get_running_loop()
    supervision = Supervision(gate)
    supervision.watch_signals(lambda: fails("not asked for"))
    taken: list[BaseException] = []

    def tolerate(error: BaseException) -> bool:
        if isinstance(error, KeyError):
            taken.append(error)
        return isinstance(error, KeyError)

    supervision.tolerate = tolerate
    try:
        loop.call_soon(lambda: {}["a connection's"])
        await asyncio.sleep(0.01)
        assert (len(taken), supervision.stop.is_set(), gate.held) == (1, False, False)
        loop.call_soon(lambda: 1 // 0)
        await asyncio.wait_for(supervision.stop.wait(), 5)
    finally:
        loop.set_exception_handler(None)
    assert gate.held
