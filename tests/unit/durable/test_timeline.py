"""The story of an orchestration from its turns: one row for each step, whatever it took; who did what; what is open."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from gateway.durable import RetryOptions
from gateway.durable import history as h
from gateway.durable.codec import pack, unpack
from gateway.durable.errors import FailureDetails
from gateway.durable.identity import EntityId
from gateway.durable.timeline import Row, exact, present_run, timeline

from .test_execution import NOW, Run

DOWN = FailureDetails("OSError", "down")


class Story(Run):
    """A run that also keeps what the orchestrator says."""

    def __call__(self, event: Any, after_s: float = 0.0) -> list[h.Action]:
        actions = super().__call__(event, after_s)
        if self.execution.custom_status_set and self.execution.custom_status is not None:
            at, turn = self.turns[-1]
            self.turns[-1] = (at, msgspec.structs.replace(turn, custom_status=self.execution.custom_status))
        return actions


def told(run: Run) -> list[Row]:
    return timeline((n, at, turn) for n, (at, turn) in enumerate(run.turns, 1))


def shown(rows: list[Row]) -> list[tuple[Any, ...]]:
    """Kind, name, step, seconds that it took, outcome."""
    return [(r.kind, r.name, r.step, None if r.took_us is None else r.took_us / 1e6, r.outcome) for r in rows]


def shed(context):
    context.set_custom_status({"sentence": "opens"})
    yield context.call_activity("Open", "T1")
    context.set_custom_status({"sentence": "waits"})
    word = context.wait_for_external_event("Override")
    timer = context.create_timer(timedelta(minutes=5))
    yield context.task_any([word, timer])
    if not timer.is_completed:
        timer.cancel()
    yield context.call_entity(EntityId("substation", "N"), "finished", 1)
    return "ok"


def test_steps_with_their_times_and_outcomes() -> None:
    run = Story(shed, {"reason": "heat"})
    run(h.TaskCompleted(1, pack({"F1": "done"}, "it")), after_s=9)
    run(h.EventRaised("Override", pack({"decision": "skip"}, "it"), "jane"), after_s=20)
    run(h.EntityOperationCompleted(3), after_s=1)
    rows = told(run)
    assert shown(rows) == [
        ("started", "f", 0, None, ""),
        ("says", "", 0, None, ""),
        ("activity", "Open", 1, 9.0, "done"),
        ("says", "", 0, None, ""),
        ("timer", "", 2, 20.0, "cancelled"),
        ("event", "Override", 0, None, ""),
        ("entity call", "finished @substation@N", 3, 1.0, "done"),
        ("completed", "", 0, None, "completed"),
    ]
    assert unpack(rows[0].value) == {"reason": "heat"}
    assert unpack(rows[2].result) == {"F1": "done"}
    assert rows[4].why == "event Override"
    assert rows[5].who == "jane"
    assert unpack(rows[-1].result) == "ok"
    assert [row.at_us for row in rows] == sorted(row.at_us for row in rows)


def test_what_has_no_outcome_yet_is_open() -> None:
    run = Story(shed)
    run(h.TaskCompleted(1), after_s=9)
    timer = told(run)[-1]
    assert (timer.kind, timer.outcome, timer.took_us) == ("timer", "open", None)
    assert unpack(timer.value) == {"due_us": NOW + 309_000_000, "after_s": 300.0}


def flaky(context):
    return (yield context.call_activity_with_retry("Ask", RetryOptions(60_000, 3), "x"))


def test_attempts_of_one_call_are_one_row_without_the_waits_between_them() -> None:
    run = Run(flaky)
    run(h.TaskFailed(1, DOWN), after_s=1)
    run(h.TimerFired(2), after_s=60)
    run(h.TaskFailed(3, DOWN), after_s=1)
    assert [(r.kind, r.attempts, r.outcome) for r in told(run)[1:]] == [("activity", 2, "failed"), ("timer", 1, "open")]
    run(h.TimerFired(4), after_s=60)
    assert [(r.kind, r.attempts, r.outcome) for r in told(run)[1:]] == [("activity", 3, "open")]
    run(h.TaskCompleted(5, pack(1, "it")), after_s=2)
    (_, call, end) = told(run)
    assert (call.attempts, call.outcome, call.took_us, call.failure) == (3, "done", 124_000_000, None)
    assert end.kind == "completed"


def test_a_call_that_failed_for_good_says_why() -> None:
    run = Run(flaky)
    for task in (1, 3):
        run(h.TaskFailed(task, DOWN))
        run(h.TimerFired(task + 1), after_s=60)
    run(h.TaskFailed(5, DOWN))
    (_, call, end) = told(run)
    assert (call.attempts, call.outcome, call.failure) == (3, "failed", DOWN)
    assert (end.kind, end.failure.kind if end.failure else "") == ("failed", "TaskFailedError")


def turns(*events: tuple[float, tuple[h.Event, ...]]) -> list[tuple[int, int, h.TurnRecord]]:
    return [
        (n, int(at * 1e6), h.TurnRecord(list(some)))  # type: ignore[arg-type]
        for n, (at, some) in enumerate(events, 1)
    ]


def test_a_suspension_is_one_span_with_both_persons() -> None:
    rows = timeline(
        turns(
            (1, (h.ExecutionStarted("f"), h.TimerCreated(1, 5_000_000))),
            (2, (h.ExecutionSuspended("crew", "jane"),)),
            (9, (h.ExecutionResumed("off", "bob"),)),
            (9, (h.TimerFired(1),)),
        )
    )
    span = rows[-1]
    assert (span.kind, span.took_us, span.who, span.why, span.outcome) == (
        "suspended",
        7_000_000,
        "jane",
        "crew",
        "resumed",
    )
    assert unpack(span.result) == "by bob: off"
    assert rows[1].took_us == 8_000_000


def test_a_termination_names_who_and_why_and_the_timers_end() -> None:
    rows = timeline(
        turns((1, (h.ExecutionStarted("f"), h.TimerCreated(1, 9))), (2, (h.ExecutionTerminated("drill over", "jane"),)))
    )
    assert (rows[-1].kind, rows[-1].who, rows[-1].why) == ("terminated", "jane", "drill over")
    assert (rows[1].outcome, rows[1].took_us) == ("ended with it", 1_000_000)


def test_executions_of_one_run_follow_each_other_and_older_runs_do_not_belong_to_it() -> None:
    all_turns = turns(
        (1, (h.ExecutionStarted("f"), h.ExecutionCompleted())),
        (5, (h.ExecutionStarted("f"), h.TimerCreated(1, 9), h.ContinueAsNew(pack(2, "it")))),
        (6, (h.ExecutionStarted("f", pack(2, "it"), execution=2),)),
    )
    run, complete = present_run(all_turns)
    assert ([seq for seq, _, _ in run], complete) == ([2, 3], True)
    assert [(r.kind, r.execution, r.outcome) for r in timeline(run)] == [
        ("started", 1, ""),
        ("timer", 1, "ended with it"),
        ("continued as new", 1, ""),
        ("started anew", 2, ""),
    ]
    assert present_run(all_turns[2:]) == (all_turns[2:], False)


def test_a_rewind_forgets_what_was_open_and_tells_again_what_runs_again() -> None:
    rows = timeline(
        turns(
            (1, (h.ExecutionStarted("f"), h.TaskScheduled(1, "Ask"), h.TaskScheduled(2, "Log"))),
            (2, (h.TaskFailed(1, DOWN), h.TimerCreated(3, 9_000_000))),
            (3, (h.EventRaised("Go"), h.TaskCompleted(2), h.ExecutionFailed(DOWN))),
            (7, (h.ExecutionRewound(2, 4, "mended", "ann", (1,)), h.EventRaised("Go"), h.TaskCompleted(2))),
            (8, (h.TaskCompleted(1), h.ExecutionCompleted())),
        )
    )
    assert shown(rows) == [
        ("started", "f", 0, None, ""),
        ("activity", "Ask", 1, 1.0, "failed"),
        ("activity", "Log", 2, 6.0, "done"),
        ("timer", "", 3, 1.0, "ended with it"),
        ("event", "Go", 0, None, ""),
        ("failed", "", 0, None, "failed"),
        ("rewound", "", 0, None, ""),
        ("activity", "Ask", 1, 1.0, "done"),
        ("event", "Go", 0, None, ""),
        ("completed", "", 0, None, "completed"),
    ]
    assert (rows[6].who, rows[6].why) == ("ann", "mended")
    assert rows[8].why == "heard again after the rewind"


def test_every_kind_of_event_has_its_row_and_what_began_earlier_is_told_as_a_step() -> None:
    rows = timeline(
        turns(
            (1, (h.TaskCompleted(9), h.EntityLockRequested(10, ("@a@1", "@b@2")))),
            (2, (h.EntityLockGranted(10), h.EntityOperationSignaled(11, "@a@1", "add", pack(1, "it")))),
            (3, (h.TimerFired(12), h.EntityUnlockSent(10), h.EventSent(13, "other", "Go", pack(2, "it")))),
            (4, (h.EventRaised("x"), h.SubOrchestrationInstanceCreated(14, "Child", "f:000e"))),
            (5, (h.SubOrchestrationInstanceFailed(14, DOWN),)),
        )
    )
    assert [(r.kind, r.name, r.outcome) for r in rows] == [
        ("step", "", "done"),
        ("lock", "@a@1, @b@2", "granted"),
        ("signal", "add @a@1", ""),
        ("step", "", "fired"),
        ("unlock", "", ""),
        ("event sent", "Go to other", ""),
        ("event", "x", ""),
        ("sub-orchestration", "Child f:000e", "failed"),
    ]


def test_the_exact_form_leaves_nothing_out() -> None:
    run = Story(shed)
    run(h.TaskFailed(1, DOWN), after_s=2)
    call = exact(told(run)[2])
    assert call["took_s"] == 2.0
    assert call["failure"] == {"kind": "OSError", "message": "down"}
    assert call["seq"] == 1
    assert set(call) == {*Row.__struct_fields__, "took_s"}
