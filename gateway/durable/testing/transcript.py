"""The journal of a test as a story that people read: one line for each thing that happened, in order.

Pure. What must stay true: every kind of event has its line; one that this module does not know is told by its name. A crash
here: nothing is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta

import msgspec

from gateway.clock import from_us
from gateway.durable import history as h
from gateway.durable.codec import NULL, Raw, encode
from gateway.durable.store import RecordRow

MAX_VALUE_CHARACTERS = 200


def transcript(records: Iterable[RecordRow]) -> Iterator[str]:
    """Lines such as ``0:05:00 drill-1 hears OperatorOverride {"cancel":true}``; times since the first record."""
    begun_us: int | None = None
    for row in records:
        begun_us = row.time_us if begun_us is None else begun_us
        at = str(timedelta(microseconds=row.time_us - begun_us))
        for what in _lines(row):
            yield f"{at} {row.instance} {what}"


def _lines(row: RecordRow) -> Iterator[str]:
    if row.kind == h.TURN:
        record = h.decode_turn(row.payload)
        for event in record.events:
            yield line_of(event)
        if record.custom_status is not NULL:
            yield f"says {_value(record.custom_status)}"
    elif row.kind == h.OPERATION:
        for operation in h.decode_entity_record(row.payload).operations:
            given = f"{operation.name}{_after(operation.input)}"
            if operation.failure is not None:
                yield f"refuses {given}: {operation.failure}"
            else:
                yield f"does {given}" + (f" -> {_value(operation.result)}" if operation.result is not NULL else "")
            for action in operation.actions:
                yield f"  and {line_of_action(action)}"
    else:
        yield f"{row.kind} {_value(Raw(row.payload))}"


def line_of(event: h.Event) -> str:
    """What happened to an orchestration, or what it decided, in words."""
    match event:
        case h.ExecutionStarted():
            return f"starts as {event.name}{_after(event.input)}"
        case h.EventRaised():
            return f"hears {event.name}{_after(event.data)}"
        case h.TaskScheduled():
            attempt = f" (attempt {event.attempt})" if event.attempt > 1 else ""
            return f"calls {event.name}{_after(event.input)} as step {event.id}{attempt}"
        case h.SubOrchestrationInstanceCreated():
            return f"starts {event.instance} ({event.name}){_after(event.input)} as step {event.id}"
        case h.EntityOperationCalled():
            return f"asks {event.target} to {event.name}{_after(event.input)} as step {event.id}"
        case h.EntityOperationSignaled():
            return f"tells {event.target} to {event.name}{_after(event.input)}"
        case h.TimerCreated():
            return f"sets a timer at {from_us(event.due_us).isoformat(sep=' ')} as step {event.id}"
        case h.TimerFired() | h.TimerCancelled():
            return f"step {event.id}: the timer {'fires' if isinstance(event, h.TimerFired) else 'is given up'}"
        case h.TaskCompleted() | h.SubOrchestrationInstanceCompleted() | h.EntityOperationCompleted():
            return f"step {event.id} gives {_value(event.result)}"
        case h.TaskFailed() | h.SubOrchestrationInstanceFailed() | h.EntityOperationFailed():
            return f"step {event.id} fails: {event.details}"
        case h.ContinueAsNew():
            return f"starts over{_after(event.input)}"
        case h.ExecutionCompleted():
            return f"ends with {_value(event.result)}"
        case h.ExecutionFailed():
            return f"fails: {event.details}"
        case _:
            return f"{type(event).__name__} {_value(Raw(encode(event)))}"


def line_of_action(action: h.EntityAction) -> str:
    """What an entity decided, in words."""
    match action:
        case h.EntityActivity():
            return f"calls {action.name}{_after(action.input)}"
        case h.EntitySignal():
            return f"tells {action.target} to {action.name}{_after(action.input)}"
        case h.EntityStarts():
            return f"starts {action.instance} ({action.name}){_after(action.input)}"
        case h.EntityReply():
            how = f"fails: {action.failure}" if action.failure is not None else _value(action.result)
            return f"answers {action.caller}: {how}"


def _after(raw: Raw) -> str:
    return "" if raw is NULL or bytes(raw) == b"null" else f" {_value(raw)}"


def _value(raw: Raw) -> str:
    text = msgspec.json.format(bytes(raw), indent=0).decode()
    return text if len(text) <= MAX_VALUE_CHARACTERS else text[: MAX_VALUE_CHARACTERS - 1] + "…"
