"""Histories recorded by earlier code: today's code must replay them to the same end.

A procedure that waits in a cooldown is replayed by whatever code runs after an update. If this test fails, the change
breaks every procedure under way at the time of the update.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.durable import EntityId, NondeterminismError, RetryOptions, TaskFailedError
from gateway.durable import history as h
from gateway.durable.codec import encode
from gateway.durable.execution import Execution
from gateway.durable.replay import replay
from gateway.durable.rewound import effective

GOLDEN = Path(__file__).parent / "procedure.json"


def procedure(context):
    """Every kind of step; never change it: its recording is what is tested."""
    context.set_custom_status({"phase": "look"})
    reads = [context.call_activity("read", n) for n in range(2)]
    loads = yield context.task_all(reads)
    context.signal_entity(EntityId("log", "all"), "note", loads)
    answer = yield context.call_entity(EntityId("breaker", "7B"), "operate", {"to": "open"})
    try:
        yield context.call_activity_with_retry("report", RetryOptions(1000, 2), answer)
    except TaskFailedError as error:
        context.set_custom_status({"phase": "unreported", "why": error.details.message})
    override = yield context.wait_for_external_event("Override", timeout=300)
    child = yield context.call_sub_orchestrator("restore", {"id": context.new_uuid()})
    timer = context.create_timer(timedelta(minutes=5))
    winner = yield context.task_any([timer, context.wait_for_external_event("skip")])
    if winner is not timer:
        timer.cancel()
    return [loads, answer, override, child]


def section(context):
    """A critical section, words to others, a suspension, and a rewind; never change it either."""
    first, second = EntityId("breaker", "7B"), EntityId("breaker", "7A")
    with (yield context.lock_entities([first, second])):
        done = yield context.call_entity(second, "operate", "open")
    later = context.current_utc_datetime + timedelta(hours=1)
    context.signal_entity(first, "operate", "close", signal_time=later)
    context.send_event("other", "Told", done)
    yield context.create_timer(timedelta(minutes=1))
    told = yield context.wait_for_external_event("Go")
    settled = yield context.call_activity("settle", told)
    return [done, told, settled]


def turns() -> list[tuple[int, h.TurnRecord]]:
    recorded = json.loads(GOLDEN.read_text())
    return [(turn["time_us"], h.decode_turn(encode(turn["record"]))) for turn in recorded]


def test_the_recorded_procedure_replays_to_its_recorded_end():
    execution = replay("golden", procedure, turns())
    assert isinstance(execution.outcome, h.ExecutionCompleted)
    assert json.loads(bytes(execution.outcome.result)) == [[10, 11], "opened", None, "restored"]
    assert execution.next_task == 11


@pytest.mark.parametrize("length", range(1, 10))
def test_each_of_its_prefixes_goes_on_as_recorded(length):
    recorded = turns()
    execution: Execution = replay("golden", procedure, recorded[:length])
    for time_us, record in recorded[length:]:
        execution.begin_turn(time_us)
        for event in record.events:
            if event.incoming:
                execution.apply(event)  # type: ignore[arg-type]
        decided = execution.end_turn()
        assert decided == [event for event in record.events if not event.incoming]


def test_a_recording_of_other_code_is_told_apart():
    def other(context):
        yield context.call_activity("erase")

    with pytest.raises(NondeterminismError, match="'read'"):
        replay("golden", other, turns())


def test_a_recorded_section_suspension_and_rewind_replay_to_their_end():
    recorded = [
        (turn["seq"], turn["time_us"], h.decode_turn(encode(turn["record"])))
        for turn in json.loads(GOLDEN.with_name("section.json").read_text())
    ]
    kinds = {type(event).__name__ for _, _, record in recorded for event in record.events}
    assert {
        "EntityLockRequested",
        "EntityLockGranted",
        "EntityUnlockSent",
        "EventSent",
        "ExecutionSuspended",
        "ExecutionResumed",
        "ExecutionRewound",
    } <= kinds
    execution = replay("golden", section, [turn[1:] for turn in effective(recorded)])
    assert isinstance(execution.outcome, h.ExecutionCompleted)
    assert json.loads(bytes(execution.outcome.result)) == ["opened", {"n": 1}, "settled"]
