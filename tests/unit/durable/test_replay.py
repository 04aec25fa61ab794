"""Replay: the same code and the same turns lead to the same decisions; other code is told apart, with the step."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.durable import NondeterminismError
from gateway.durable import history as h
from gateway.durable.codec import pack
from gateway.durable.replay import replay
from gateway.durable.tasks import TimerTask

from .test_execution import Run, event


def two_steps(context):
    one = yield context.call_activity("read", "a")
    two = yield context.call_activity("write", one)
    return two


def renamed(context):
    one = yield context.call_activity("read", "a")
    yield context.call_activity("erase", one)


def other_kind(context):
    yield context.call_activity("read", "a")
    yield context.create_timer(timedelta(seconds=1))


def missing(context):
    yield context.call_activity("read", "a")
    yield context.wait_for_external_event("go")


def extra(context):
    one = yield context.call_activity("read", "a")
    two = context.call_activity("write", one)
    yield context.call_activity("log", one)
    return two


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            renamed,
            ["history has TaskScheduled 'write' as step 2", "TaskScheduled 'erase' as step 2", "test_replay.py:"],
        ),
        (other_kind, ["history has TaskScheduled 'write'", "TimerCreated as step 2", "test_replay.py:"]),
        (
            missing,
            ["history has TaskScheduled 'write'", "the code asked for nothing more", "waits at", "test_replay.py:"],
        ),
        (extra, ["history has nothing more", "TaskScheduled 'log' as step 3", "test_replay.py:"]),
    ],
)
def test_changed_code_is_told_with_step_history_ask_and_line(changed, words):
    run = Run(two_steps)
    run(h.TaskCompleted(1, pack("x", "")))
    with pytest.raises(NondeterminismError) as caught:
        replay("i", changed, run.turns)
    for word in words:
        assert word in str(caught.value)


def test_inputs_and_due_times_are_not_compared():
    def other_input(context):
        one = yield context.call_activity("read", "other")
        return (yield context.call_activity("write", [one, one]))

    run = Run(two_steps)
    run(h.TaskCompleted(1, pack("x", "")))
    again = replay("i", other_input, run.turns)
    assert again.outcome is None


def test_a_replay_leaves_the_code_where_it_was():
    run = Run(two_steps)
    run(h.TaskCompleted(1, pack("x", "")))
    run.execution = replay("i", two_steps, run.turns)
    assert not run.execution.context.is_replaying
    run(h.TaskCompleted(2, pack("y", "")))
    assert run.output == "y"


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("activity"), st.sampled_from("abc")),
        st.tuples(st.just("timer"), st.integers(0, 5)),
        st.tuples(st.just("event"), st.sampled_from("xy")),
        st.tuples(st.just("timed"), st.sampled_from("xy")),
        st.tuples(st.just("all"), st.integers(0, 3)),
        st.tuples(st.just("any"), st.integers(1, 3)),
    ),
    max_size=8,
)


def program(steps: list[tuple[str, Any]]) -> Any:
    def runs(context):
        out = []
        for kind, what in steps:
            match kind:
                case "activity":
                    out.append((yield context.call_activity(what)))
                case "timer":
                    yield context.create_timer(timedelta(seconds=what))
                case "event":
                    out.append((yield context.wait_for_external_event(what)))
                case "timed":
                    out.append((yield context.wait_for_external_event(what, 3)))
                case "all":
                    out.append((yield context.task_all([context.call_activity("a", n) for n in range(what)])))
                case "any":
                    yield context.task_any([context.call_activity("b", n) for n in range(what)])
        return out

    return runs


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, data=st.data())
def test_any_program_replayed_at_any_point_goes_on_alike(steps, data):
    run = Run(program(steps))
    for number in range(40):
        execution = run.execution
        if execution.outcome is not None:
            break
        choices: list[Any] = [event("X", number), event("y", number)]
        for task_id, task in execution._open.items():
            timer = isinstance(task, TimerTask)
            choices.append(h.TimerFired(task_id) if timer else h.TaskCompleted(task_id, pack(task.name, "")))
        chosen = data.draw(st.sampled_from(choices))
        again = replay("i", run.function, run.turns)
        run(chosen, after_s=1)
        again.begin_turn(run.now_us)
        again.apply(chosen)
        assert again.end_turn() == run.turns[-1][1].events[1:]
        assert again.outcome == run.execution.outcome
        assert again.buffered_count == run.execution.buffered_count
