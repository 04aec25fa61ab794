"""Each deliberate difference from azure-functions-durable 1.7.0 (``differences``): one small program on both engines."""

from __future__ import annotations

import json
import uuid
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.durable import NondeterminismError, RetryOptions, TaskFailedError
from gateway.durable import history as h
from gateway.durable.codec import pack, unpack
from gateway.durable.errors import FailureDetails
from gateway.durable.execution import Execution
from gateway.durable.replay import replay
from tests.conformance import v1_sdk
from tests.conformance.differences import DIFFERENCES
from tests.conformance.programs import Json
from tests.conformance.v1_sdk import df

NOW_US = 1_768_377_600_000_000
NOW = datetime(2026, 1, 14, 8, tzinfo=UTC)
BOOM = FailureDetails("TimeoutError", "boom", bases=("OSError",))

Orchestrator = Callable[[Any], Any]


class Ours:
    """One execution of this engine, a turn for each event."""

    def __init__(self, function: Orchestrator) -> None:
        self.core = Execution("i", function)
        self.turns: list[tuple[int, h.TurnRecord]] = []
        self.actions: list[h.Action] = []
        self(h.ExecutionStarted("f"))

    def __call__(self, event: h.Incoming, after_s: float = 0.0) -> Ours:
        self.core.begin_turn(NOW_US + int(after_s * 1e6))
        self.core.apply(event)
        decided = self.core.end_turn()
        self.turns.append((self.core.now_us, h.TurnRecord([event, *decided])))
        self.actions += decided
        return self

    def done(self, task_id: int, result: Json = None) -> Ours:
        return self(h.TaskCompleted(task_id, pack(result, "result")))

    def failed(self, task_id: int) -> Ours:
        return self(h.TaskFailed(task_id, BOOM))

    def raised(self, name: str, data: Json = None) -> Ours:
        return self(h.EventRaised(name, pack(data, "data")))

    @property
    def output(self) -> Json:
        """Its result; ``...`` while it has none."""
        outcome = self.core.outcome
        return unpack(outcome.result) if isinstance(outcome, h.ExecutionCompleted) else ...

    @property
    def error(self) -> str:
        assert isinstance(self.core.outcome, h.ExecutionFailed), self.core.outcome
        return str(self.core.outcome.details)

    @property
    def kinds(self) -> list[str]:
        return [type(action).__name__ for action in self.actions]


class V1:
    """The SDK's answer to the same events. A task has the number of its place among those waited for, from 0."""

    def __init__(self, function: Orchestrator) -> None:
        self.function = function
        self.history: list[Json] = []
        self._turn((0, {"Name": "f", "Input": "null", "Version": None}))

    def _turn(self, *events: tuple[int, Json]) -> V1:
        for kind, details in ((12, {}), *events, (13, {})):
            stamp = NOW.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            self.history.append({"EventType": kind, "EventId": -1, "IsPlayed": False, "Timestamp": stamp, **details})
        return self

    def done(self, number: int, result: Json = None) -> V1:
        return self._turn((5, {"TaskScheduledId": number, "Result": json.dumps(result)}))

    def failed(self, number: int) -> V1:
        return self._turn((6, {"TaskScheduledId": number, "Reason": "boom", "Details": ""}))

    def fired(self, number: int) -> V1:
        return self._turn((11, {"TimerId": number}))

    def raised(self, name: str, data: Json = None) -> V1:
        return self._turn((15, {"Name": name, "Input": json.dumps(data)}))

    @property
    def answer(self) -> Json:
        return v1_sdk.answer(self.function, "i", None, "null", self.history[:-1])

    @property
    def output(self) -> Json:
        answer = self.answer
        return answer.get("output") if answer["isDone"] else ...

    @property
    def actions(self) -> list[v1_sdk.Action]:
        return v1_sdk.decisions(self.answer).actions

    @property
    def kinds(self) -> list[str]:
        return [action[0] for action in self.actions]


def test_each_difference_is_shown_by_a_test_here():
    assert [d.test for d in DIFFERENCES if not callable(globals().get(d.test))] == []
    names = [d.name for d in DIFFERENCES]
    assert len(names) == len(set(names))


# Scheduling


def test_a_task_is_scheduled_when_it_is_made():
    def program(context):
        first = context.call_activity("a")
        context.call_activity("nobody waits for it")
        yield context.call_activity("b")
        yield first

    assert [action.name for action in Ours(program).actions] == ["a", "nobody waits for it", "b"]
    assert [action[1] for action in V1(program).actions] == ["b"]
    assert [action[1] for action in V1(program).done(0).actions] == ["b", "a"]


# all and any


def all_or_else(context):
    try:
        yield context.task_all([context.call_activity("a"), context.call_activity("b")])
    except Exception:  # noqa: BLE001 - v1 raises nothing more special
        yield context.call_activity("clean up")


def test_task_all_waits_for_all():
    ours, v1 = Ours(all_or_else), V1(all_or_else)
    assert len(ours.failed(1).actions) == 2
    assert len(v1.failed(0).actions) == 3
    assert len(ours.done(2).actions) == 3

    def raced(context):
        both = context.task_all([context.call_activity("a"), context.call_activity("b")])
        yield context.task_any([both, context.wait_for_external_event("stop")])
        yield context.wait_for_external_event("more")
        return "fine"

    assert Ours(raced).failed(1).done(2).raised("more").output == "fine"
    v1 = V1(raced).failed(0).done(1)
    with pytest.raises(Exception, match="does not have pending sub-task"):
        _ = v1.answer


def test_task_all_of_nothing_is_an_empty_list():
    def program(context):
        return (yield context.task_all([]))

    assert (Ours(program).output, V1(program).output) == ([], None)


def test_task_any_of_nothing_is_an_error():
    def program(context):
        return (yield context.task_any([]))

    assert "task_any needs at least one task" in Ours(program).error
    assert V1(program).output is None


def test_of_what_has_ended_already_the_first_in_the_list_wins():
    def program(context):
        yield context.call_activity("a")
        parts = [context.wait_for_external_event("go"), context.task_all([])]
        return parts.index((yield context.task_any(parts)))

    assert Ours(program).raised("go").done(1).output == 0
    assert output_of_early_events(V1(program).raised("go").done(0)) == 1


# Events


def test_the_oldest_wait_takes_the_event():
    def program(context):
        waits = [context.wait_for_external_event("go") for _ in range(2)]
        winner = yield context.task_any(waits)
        return waits.index(winner)

    assert (Ours(program).raised("go").output, V1(program).raised("go").output) == (0, 1)


def test_events_are_kept_for_those_who_wait_later():
    def program(context):
        yield context.wait_for_external_event("start")
        first = yield context.wait_for_external_event("go")
        second = yield context.wait_for_external_event("go")
        return [first, second]

    assert Ours(program).raised("go", 1).raised("go", 2).raised("start").output == [1, 2]
    assert output_of_early_events(V1(program).raised("go", 1).raised("go", 2).raised("start")) == [2, 2]


def output_of_early_events(v1: V1) -> Json:
    """The SDK warns of events that nobody waits for yet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return json.loads(df.Orchestrator.create(v1.function)(json.dumps(_body(v1))))["output"]


def _body(v1: V1) -> Json:
    return {
        "instanceId": "i", "parentInstanceId": None, "isReplaying": False, "input": "null", "upperSchemaVersion": 2,
        "history": v1.history[:-1],
    }  # fmt: skip


def test_names_of_events_do_not_mind_case():
    def program(context):
        return (yield context.wait_for_external_event("Go"))

    assert Ours(program).raised("gO", 1).output == 1
    with pytest.raises(UserWarning, match="gO"):
        _ = V1(program).raised("gO", 1).answer


def test_a_wait_may_have_a_timeout():
    def program(context):
        return (yield context.wait_for_external_event("go", timeout=60, default="none"))

    assert Ours(program)(h.TimerFired(1), after_s=60).output == "none"
    assert "timeout" in V1(program).answer["error"]


# Timers and retries


def test_a_long_timer_is_one_timer():
    def program(context):
        yield context.create_timer(context.current_utc_datetime + timedelta(days=30))

    [timer] = Ours(program).actions
    assert timer.due_us - NOW_US == timedelta(days=30) // timedelta(microseconds=1)
    [(_, due_us, _)] = V1(program).actions
    assert int(due_us) - NOW_US == timedelta(days=3) // timedelta(microseconds=1)


def test_a_timer_may_be_set_for_a_span():
    def program(context):
        yield context.create_timer(timedelta(seconds=5))

    assert Ours(program).kinds == ["TimerCreated"]
    assert "error" in V1(program).answer


def retrying(options: Any) -> Orchestrator:
    def program(context):
        try:
            yield context.call_activity_with_retry("a", options)
        except Exception:  # noqa: BLE001 - v1 raises nothing more special
            return "gave up"

    return program


def test_each_attempt_of_a_retry_is_an_action():
    ours = Ours(retrying(RetryOptions(1000, 2))).failed(1)(h.TimerFired(2), after_s=1)
    assert [(type(a).__name__, getattr(a, "attempt", 0)) for a in ours.actions] == [
        ("TaskScheduled", 1),
        ("TimerCreated", 0),
        ("TaskScheduled", 2),
    ]
    v1 = V1(retrying(df.RetryOptions(1000, 2))).failed(0).fired(1)
    assert v1.actions == [("activity", "a", "null", "1000 ms, 2 times")]


def test_the_last_failure_of_a_retry_is_raised_at_once():
    assert Ours(retrying(RetryOptions(1000, 1))).failed(1).output == "gave up"
    v1 = V1(retrying(df.RetryOptions(1000, 1))).failed(0)
    assert v1.output is ...
    assert v1.fired(1).output == "gave up"


def test_retries_may_back_off():
    ours = Ours(retrying(RetryOptions(1000, 9, backoff_coefficient=3.0, max_retry_interval_in_milliseconds=2500)))
    ours.failed(1)(h.TimerFired(2), after_s=1).failed(3)
    dues_us = [action.due_us for action in ours.actions if isinstance(action, h.TimerCreated)]
    assert [due_us - NOW_US for due_us in dues_us] == [1_000_000, 1_000_000 + 2_500_000]
    with pytest.raises(TypeError, match="backoff_coefficient"):
        df.RetryOptions(1000, 9, backoff_coefficient=3.0)


# The rest


def test_a_sub_orchestration_has_an_id_made_from_its_parents():
    def program(context):
        yield context.call_sub_orchestrator("child")

    [created] = Ours(program).actions
    assert created.instance == "i:0001"
    assert V1(program).answer["actions"][0][0]["instanceId"] is None


def test_an_empty_custom_status_is_a_status():
    def program(context):
        context.set_custom_status(0)
        yield context.call_activity("a")

    assert unpack(Ours(program).core.custom_status) == 0
    assert "customStatus" not in V1(program).answer


def test_the_error_of_a_task_has_details():
    def program(context):
        try:
            yield context.call_activity("a")
        except TaskFailedError as error:
            return error.details.is_caused_by(OSError)
        except Exception as error:  # noqa: BLE001 - v1 raises nothing more special
            return f"{type(error).__name__}: {error}"

    assert Ours(program).failed(1).output is True
    assert V1(program).failed(0).output == "Exception: boom \n "


def test_continue_as_new_ends_the_execution_at_the_next_yield():
    def program(context):
        task = context.call_activity("a")
        yield task
        context.continue_as_new(1)
        yield task
        raise ValueError("only v1 comes so far")

    assert isinstance(Ours(program).done(1).core.outcome, h.ContinueAsNew)
    assert V1(program).done(0).answer["error"] == "only v1 comes so far"


def test_another_history_is_an_error():
    def before(context):
        yield context.call_activity("open breaker 3")

    def after(context):
        yield context.call_activity("close breaker 3")

    with pytest.raises(NondeterminismError, match=r"open breaker 3.*close breaker 3.*test_differences"):
        replay("i", after, Ours(before).done(1).turns)
    scheduled = {"EventType": 4, "EventId": 0, "IsPlayed": True, "Timestamp": "2026-01-14T08:00:00.0Z"}
    v1 = V1(after)
    v1.history.insert(-1, {**scheduled, "Name": "open breaker 3"})
    assert v1.done(0).answer["isDone"]


def test_a_yield_of_something_else_is_an_error_that_names_it():
    def program(context):
        yield 5

    assert "may yield tasks only" in Ours(program).error
    assert "test_differences.py" in Ours(program).error
    with pytest.raises(AttributeError, match="'int' object has no attribute"):
        _ = V1(program).answer


def test_uuids_are_the_same_at_every_replay_not_on_both_engines():
    def program(context):
        yield context.call_activity("a")
        return [context.new_uuid(), context.new_uuid()]

    ours, v1 = Ours(program).done(1), V1(program).done(0)
    again = replay("i", program, ours.turns)
    assert isinstance(again.outcome, h.ExecutionCompleted)
    assert unpack(again.outcome.result) == ours.output
    assert v1.output == v1.output
    assert len({uuid.UUID(text) for text in (*ours.output, *v1.output)}) == 4
