"""The words of v1's history: one event of ours as one of v1's. Pure, and all that knows their names and numbers."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from gateway.clock import from_us
from gateway.durable import history as h
from gateway.durable.codec import NULL

Event = dict[str, Any]
"""Without time, and without the mark that it was played: the turn adds those."""

STARTED: Event = {"EventType": 12}
COMPLETED: Event = {"EventType": 13}


def outcome(event: h.Incoming, number: int) -> Event:
    """What came in. number: the task's in v1."""
    match event:
        case h.ExecutionStarted():
            version = event.version or None
            return {"EventType": 0, "Name": event.name, "Input": text_of(event.input), "Version": version}
        case h.TaskCompleted(_, result):
            return {"EventType": 5, "TaskScheduledId": number, "Result": text_of(result)}
        case h.TaskFailed(_, details):
            return {"EventType": 6, "TaskScheduledId": number, "Reason": details.message, "Details": details.traceback}
        case h.SubOrchestrationInstanceCompleted(_, result):
            return {"EventType": 8, "TaskScheduledId": number, "Result": text_of(result)}
        case h.SubOrchestrationInstanceFailed(_, details):
            return {"EventType": 9, "TaskScheduledId": number, "Reason": details.message, "Details": details.traceback}
        case h.TimerFired():
            return timer_fired(number)
        case h.EntityOperationCompleted(task_id, result):
            return _answer(task_id, {"result": text_of(result)})
        case h.EntityOperationFailed(task_id, details):
            return _answer(task_id, {"result": json.dumps(details.message), "exceptionType": details.kind})
        case _:
            raise AssertionError(f"v1 has no words for {event}")


def raised(event: h.EventRaised) -> Event:
    """An external event."""
    return {"EventType": 15, "Name": event.name, "Input": text_of(event.data)}


def timer_fired(number: int) -> Event:
    """A timer of v1."""
    return {"EventType": 11, "TimerId": number}


def asked(action: h.Action, number: int) -> Event:
    """What was scheduled."""
    match action:
        case h.TaskScheduled():
            return {"EventType": 4, "EventId": number, "Name": action.name, "Input": text_of(action.input)}
        case h.SubOrchestrationInstanceCreated():
            return {"EventType": 7, "EventId": number, "Name": action.name, "InstanceId": action.instance}
        case h.TimerCreated():
            return {"EventType": 10, "EventId": number, "FireAt": text_of_time(action.due_us)}
        case h.EntityOperationCalled():
            return {"EventType": 14, "EventId": number, "Input": json.dumps({"id": _call_name(action.id)})}
        case _:
            raise AssertionError(f"v1 has no words for {action}")


def text_of(raw: msgspec.Raw) -> str:
    """JSON."""
    return "null" if raw is NULL else bytes(raw).decode()


def text_of_time(time_us: int) -> str:
    """An engine time, as v1 writes it."""
    return from_us(time_us).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _answer(task_id: int, answer: dict[str, str]) -> Event:
    return {"EventType": 15, "Name": _call_name(task_id), "Input": json.dumps(answer)}


def _call_name(task_id: int) -> str:
    return f"answer-to-call-{task_id}"
