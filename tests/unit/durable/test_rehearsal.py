"""Before an upgrade: recorded histories against changed code, one verdict each, with the place where it would diverge."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gateway.durable import Registry
from gateway.durable import history as h
from gateway.durable.codec import Raw, pack
from gateway.durable.errors import FailureDetails
from gateway.durable.exported import RecordedHistory, RecordedTurn
from gateway.durable.registry import fingerprint
from gateway.durable.rehearsal import Rehearsed, Verdict, rehearse

from .test_execution import Run


def drill(context):
    opened = yield context.call_activity("Open", "T1")
    yield context.create_timer(timedelta(minutes=5))
    yield context.call_activity("Close", opened)
    return "done"


def other_input(context):
    opened = yield context.call_activity("Open", "T2")
    yield context.create_timer(timedelta(minutes=9))
    yield context.call_activity("Close", opened)
    return "done"


def without_the_wait(context):
    opened = yield context.call_activity("Open", "T1")
    yield context.call_activity("Close", opened)
    return "done"


def half_way() -> Run:
    """It has opened and waits."""
    run = Run(drill)
    run.turns[0] = (run.turns[0][0], h.TurnRecord([started(), *run.turns[0][1].events[1:]]))
    run(h.TaskCompleted(1, pack(["F1"], "it")), after_s=9)
    return run


def started() -> h.ExecutionStarted:
    return h.ExecutionStarted("drill", pack(None, "input"), fingerprint=fingerprint(drill))


def history(run: Run, *more: Any, name: str = "drill") -> RecordedHistory:
    turns = [*run.turns, *((run.now_us, h.TurnRecord([event])) for event in more)]
    told = [RecordedTurn(10 * n, at, Raw(h.encode_turn(turn))) for n, (at, turn) in enumerate(turns, 1)]
    return RecordedHistory("drill-1", name, "Running", turns=told)


def check(code: Any, recorded: RecordedHistory) -> Rehearsed:
    registry = Registry()
    registry.orchestrator(code, "drill")
    return rehearse(registry, recorded)


def test_the_same_code_goes_the_same_way() -> None:
    found = check(drill, history(half_way()))
    assert (found.verdict, found.turns, found.why, found.code_changed) == (Verdict.SAME, 2, "", False)


def test_a_change_that_decides_alike_is_the_same_and_told_as_a_change() -> None:
    found = check(other_input, history(half_way()))
    assert (found.verdict, found.code_changed) == (Verdict.SAME, True)


def test_a_change_of_the_steps_is_told_with_the_turn_the_step_and_the_line() -> None:
    found = check(without_the_wait, history(half_way()))
    assert found.verdict is Verdict.DIVERGES
    assert (found.seq, found.step) == (20, 2)
    assert found.time_us == half_way().now_us
    assert found.recorded == "TimerCreated as step 2"
    assert found.asked == "TaskScheduled 'Close' as step 2"
    assert found.line.rpartition(":")[0].endswith("test_rehearsal.py")
    assert found.code_changed


def test_code_that_is_not_there_is_told_with_what_there_is() -> None:
    found = check(drill, history(half_way(), name="Gone"))
    assert found.verdict is Verdict.NO_CODE
    assert "'Gone'" in found.why
    assert "drill" in found.why


def test_a_history_of_another_world_is_not_readable() -> None:
    strange = RecordedHistory(
        "x", "drill", "Running", turns=[RecordedTurn(1, 1, Raw(b'{"events": [{"type": "New"}]}'))]
    )
    found = check(drill, strange)
    assert found.verdict is Verdict.UNREADABLE
    assert "New" in found.why


@pytest.mark.parametrize(
    "last",
    [
        h.ExecutionTerminated("enough"),
        h.ExecutionFailed(FailureDetails("NondeterminismError", "history has …")),
    ],
)
def test_an_end_that_the_code_did_not_decide_is_not_held_against_it(last: h.Event) -> None:
    assert check(drill, history(half_way(), last)).verdict is Verdict.SAME
    assert check(without_the_wait, history(half_way(), last)).verdict is Verdict.DIVERGES


def test_one_that_has_not_run_yet_can_not_diverge() -> None:
    assert check(without_the_wait, RecordedHistory("x", "drill", "Pending")).verdict is Verdict.SAME
