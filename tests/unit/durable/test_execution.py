"""One execution, fed event by event: waits, events, time-outs, retries, limits, ids and times."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from gateway.durable import RAISE, EntityId, RetryOptions, TaskFailedError
from gateway.durable import execution as execution_module
from gateway.durable import history as h
from gateway.durable.codec import pack
from gateway.durable.errors import FailureDetails
from gateway.durable.execution import Execution
from gateway.durable.replay import replay

NOW = 1_768_377_600_000_000
BOOM = FailureDetails("ValueError", "boom", bases=("ArithmeticError",))


class Run:
    """Feeds an orchestrator event by event, one turn each, and keeps the record."""

    def __init__(self, function: Any, input_: Any = None) -> None:
        self.function = function
        self.execution = Execution("i", function)
        self.turns: list[tuple[int, h.TurnRecord]] = []
        self.now_us = NOW
        self(h.ExecutionStarted("f", pack(input_, "input")))

    def __call__(self, event: Any, after_s: float = 0.0) -> list[h.Action]:
        self.now_us += int(after_s * 1e6)
        self.execution.begin_turn(self.now_us)
        self.execution.apply(event)
        actions = self.execution.end_turn()
        self.turns.append((self.now_us, h.decode_turn(h.encode_turn(h.TurnRecord([event, *actions])))))
        return actions

    @property
    def output(self) -> Any:
        outcome = self.execution.outcome
        assert isinstance(outcome, h.ExecutionCompleted), outcome
        return __import__("json").loads(bytes(outcome.result))

    @property
    def failure(self) -> FailureDetails:
        outcome = self.execution.outcome
        assert isinstance(outcome, h.ExecutionFailed), outcome
        return outcome.details


def event(name: str, data: Any = None) -> h.EventRaised:
    return h.EventRaised(name, pack(data, "data"))


def test_events_are_kept_in_order_for_each_name():
    def takes(context):
        yield context.call_activity("read")
        got = []
        for name in ("B", "a", "A", "b"):
            got.append((yield context.wait_for_external_event(name)))
        return got

    run = Run(takes)
    for name, data in (("a", 1), ("A", 2), ("b", 3), ("B", 4)):
        run(event(name, data))
    run(h.TaskCompleted(1))
    assert run.output == [3, 1, 2, 4]
    assert run.execution.buffered_count == 0


def test_a_wait_that_timed_out_does_not_eat_a_later_event():
    def takes(context):
        first = context.wait_for_external_event("go", timeout=10, default="none")
        value = yield first
        late = yield context.wait_for_external_event("go")
        return [value, first.timed_out, late]

    run = Run(takes)
    run(h.TimerFired(1), after_s=10)
    run(event("go", "late"))
    assert run.output == ["none", True, "late"]


def test_an_event_in_time_cancels_its_timer():
    def takes(context):
        wait = context.wait_for_external_event("go", timeout=timedelta(seconds=10))
        return [(yield wait), wait.timed_out]

    run = Run(takes)
    assert h.TimerCancelled(1) in run(event("GO", 5))
    assert run.output == [5, False]
    assert not run.execution.wants(h.TimerFired(1))


def test_a_wait_may_raise_at_its_timeout():
    def takes(context):
        try:
            yield context.wait_for_external_event("go", 1, RAISE)
        except TimeoutError as error:
            return str(error)

    run = Run(takes)
    run(h.TimerFired(1), after_s=1)
    assert "'go' did not come in time" in run.output


def test_all_waits_for_all_and_raises_the_first_failure():
    def fans(context):
        tasks = [context.call_activity("read", n) for n in range(3)]
        try:
            yield context.task_all(tasks)
        except TaskFailedError as error:
            return [error.details.message, error.details.is_caused_by(ArithmeticError), [t.is_completed for t in tasks]]

    run = Run(fans)
    run(h.TaskFailed(2, BOOM))
    assert run.execution.outcome is None
    run(h.TaskFailed(1, FailureDetails("OSError", "later")))
    run(h.TaskCompleted(3))
    assert run.output == ["boom", True, [True, True, True]]


def test_all_keeps_the_order_of_its_tasks_and_may_be_empty():
    def fans(context):
        none = yield context.task_all([])
        return [none, (yield context.task_all([context.call_activity("read", n) for n in range(2)]))]

    run = Run(fans)
    run(h.TaskCompleted(2, pack("b", "")))
    run(h.TaskCompleted(1, pack("a", "")))
    assert run.output == [[], ["a", "b"]]


def test_any_gives_the_winner_even_if_it_failed():
    def races(context):
        tasks = [context.call_activity("read", n) for n in range(2)]
        winner = yield context.task_any(tasks)
        return [tasks.index(winner), winner.is_faulted, (yield tasks[0])]

    run = Run(races)
    run(h.TaskFailed(2, BOOM))
    run(h.TaskCompleted(1, pack("a", "")))
    assert run.output == [1, True, "a"]


def test_retries_wait_longer_each_time_and_keep_the_operation_id():
    def retries(context):
        return (yield context.call_activity_with_retry("read", RetryOptions(1000, 3, 2.0), "x"))

    run = Run(retries)
    (timer,) = run(h.TaskFailed(1, BOOM))
    assert timer == h.TimerCreated(2, NOW + 1_000_000)
    (second,) = run(h.TimerFired(2), after_s=1)
    assert (second.attempt, second.operation_id) == (2, "i:1")
    (timer,) = run(h.TaskFailed(3, BOOM))
    assert timer == h.TimerCreated(4, run.now_us + 2_000_000)
    run(h.TimerFired(4), after_s=2)
    run(h.TaskFailed(5, BOOM))
    assert run.failure.is_caused_by(ValueError)
    assert replay("i", retries, run.turns).outcome == run.execution.outcome


def test_too_many_actions_end_the_instance_also_when_a_retry_takes_the_last(monkeypatch):
    monkeypatch.setattr(execution_module, "MAX_ACTIONS", 2)

    def retries(context):
        return (yield context.call_activity_with_retry("read", RetryOptions(1000, 9), "x"))

    run = Run(retries)
    run(h.TaskFailed(1, BOOM))
    run(h.TimerFired(2), after_s=1)
    assert run.failure.kind == "LimitExceededError"
    assert "2 actions" in run.failure.message


def test_cancelling_a_fired_timer_is_an_error():
    def cancels(context):
        timer = context.create_timer(timedelta(seconds=1))
        yield timer
        timer.cancel()

    run = Run(cancels)
    run(h.TimerFired(1), after_s=1)
    assert run.failure.kind == "ValueError"


def test_uuids_and_times_are_the_same_at_replay_and_time_never_runs_backwards():
    seen: list[Any] = []

    def notes(context):
        seen.append((context.new_uuid(), context.new_guid(), context.current_utc_datetime))
        yield context.wait_for_external_event("go")
        seen.append((context.new_uuid(), context.new_guid(), context.current_utc_datetime))
        yield context.wait_for_external_event("go")

    run = Run(notes)
    run(event("go"), after_s=-100)
    live, seen = seen, []
    replay("i", notes, run.turns)
    assert seen == live
    assert live[1][2] >= live[0][2]
    assert len({u for uuid, guid, _ in live for u in (uuid, str(guid))}) == 4


def test_clean_up_code_of_an_author_cannot_break_the_engine():
    def stubborn(context):
        try:
            yield context.wait_for_external_event("go")
        finally:
            yield context.call_activity("read")

    run = Run(stubborn)
    run.execution.close()


def test_a_status_or_payload_over_its_limit_names_the_limit():
    def boasts(context):
        context.set_custom_status("x" * 20_000)
        yield

    assert "16384" in Run(boasts).failure.message

    def sends(context):
        yield context.call_activity("read", "x" * (1024 * 1024))

    assert "1048576" in Run(sends).failure.message


def test_a_child_id_that_grows_too_long_fails_its_parent():
    def starts(context):
        yield context.call_sub_orchestrator("f")

    execution = Execution("p" * 254, starts)
    execution.begin_turn(NOW)
    execution.apply(h.ExecutionStarted("f"))
    assert isinstance(execution.outcome, h.ExecutionFailed)
    assert "256" in execution.outcome.details.message


def test_a_second_continue_as_new_is_ignored_with_all_that_came_after_the_first():
    def restless(context):
        context.continue_as_new("first")
        context.signal_entity(EntityId("log", "1"), "add", 1)
        context.continue_as_new("second", preserve_unprocessed_events=False)
        return
        yield

    run = Run(restless)
    assert run.execution.keep_events
    assert run.execution.outcome == h.ContinueAsNew(pack("first", "input"))
    assert run.turns[0][1].events[1:] == [run.execution.outcome]


def test_what_comes_after_continue_as_new_is_ignored_also_when_the_code_then_fails():
    def stumbles(context):
        context.signal_entity(EntityId("log", "1"), "add", 1)
        context.continue_as_new("next")
        context.signal_entity(EntityId("log", "1"), "add", 2)
        raise ValueError("after all")
        yield

    run = Run(stumbles)
    assert run.failure.message == "after all"
    signal, failed = run.turns[0][1].events[1:]
    assert (signal.input, failed) == (pack(1, "input"), run.execution.outcome)
