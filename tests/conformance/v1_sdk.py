"""Asks azure-functions-durable 1.7.0 what an orchestrator decides, given a history: it replays the history, as the host of
Azure Functions would have it do, and answers with actions."""

from __future__ import annotations

import calendar
import functools
import importlib
import json
import time
import warnings
from collections.abc import Callable, Generator
from typing import Any

import pytest

from tests.conformance.decisions import Action, Decisions, canonical
from tests.conformance.programs import Dialect, Json, interpret, marker

df = pytest.importorskip(
    "azure.durable_functions",
    reason="azure-functions-durable is not installed: NOTHING is compared with Azure's v1 (pip install -e '.[dev]')",
)

# The SDK parses the time of every event anew with dateutil, which is most of its work; one time has many events.
_history = importlib.import_module("azure.durable_functions.models.history.HistoryEvent")
_history.dt_parse = functools.lru_cache(maxsize=1024)(_history.dt_parse)

THEIRS = Dialect(df.EntityId, df.RetryOptions)
SHORT_TIMER = "6.00:00:00"
LONG_TIMER_INTERVAL = "3.00:00:00"
_ERROR_LABEL = "$OutOfProcData$:"


def program(context: Any) -> Generator[Any, Any, Json]:
    """The orchestrator of ``world``, on the SDK's context."""
    return interpret(context, THEIRS)


def ask(
    orchestrator: Callable[..., Any], instance: str, parent: str | None, input_: str, history: list[Json]
) -> Decisions:
    """The SDK's decisions at the end of a history. input_: JSON."""
    return decisions(answer(orchestrator, instance, parent, input_, history))


def answer(
    orchestrator: Callable[..., Any], instance: str, parent: str | None, input_: str, history: list[Json]
) -> Json:
    """The SDK's answer, as it goes to the host."""
    body = {
        "instanceId": instance,
        "parentInstanceId": parent,
        "isReplaying": False,
        "input": input_,
        "upperSchemaVersion": 2,
        "history": history,
        "maximumShortTimerDuration": SHORT_TIMER,
        "longRunningTimerIntervalDuration": LONG_TIMER_INTERVAL,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("error", UserWarning)  # all that it says of an outcome for a task that it does not know
        try:
            text = df.Orchestrator.create(orchestrator)(json.dumps(body))
        except Exception as error:
            if _ERROR_LABEL not in str(error):
                raise
            text = str(error).split(_ERROR_LABEL)[1]
    return json.loads(text)


def decisions(told: Json) -> Decisions:
    """An answer of the SDK, read."""
    actions = [action for part in told["actions"] for action in _flat(part)]
    found = Decisions(actions, status=canonical(told.get("customStatus")))
    if "error" in told:
        found.state, found.error = "failed", marker(told["error"])
        # It was asked for, and the failure came after it.
        found.actions = [action for action in actions if action[0] != "continue"]
    elif any(action[0] == "continue" for action in actions):
        found.state = "continued"
    elif told["isDone"]:
        found.state, found.output = "completed", canonical(told.get("output"))
    return found


def _flat(parts: list[Json]) -> list[Action]:
    found: list[Action] = []
    for part in parts:
        if part["actionType"] in (11, 12):
            found += _flat(part["compoundActions"])
        else:
            found.append(_action(part))
    return found


def _action(part: Json) -> Action:
    match part["actionType"]:
        case 0 | 1:
            return ("activity", part["functionName"], _again(part["input"]), _policy(part))
        case 2 | 3:
            return ("sub", part["functionName"], _again(part["input"]), part["instanceId"] or "", _policy(part))
        case 4:
            return ("continue", _again(part["input"]))
        case 5:
            return ("timer", str(us(part["fireAt"])), str(part["isCanceled"]))
        case 6:
            return ("event", part["externalEventName"])
        case 7:
            return ("call", part["instanceId"], part["operation"], _again(part["input"]))
        case 9:
            return ("signal", part["instanceId"], part["operation"], _again(part["input"]))
        case other:
            raise AssertionError(f"no such action: {other}")


def _again(text: str) -> str:
    return canonical(json.loads(text))


def _policy(part: Json) -> str:
    policy = part.get("retryOptions")
    if policy is None:
        return ""
    return f"{policy['firstRetryIntervalInMilliseconds']} ms, {policy['maxNumberOfAttempts']} times"


def us(text: str) -> int:
    """Microseconds since 1970 of the SDK's way to write a time."""
    whole, fraction = text.rstrip("Z").split(".")
    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) * 1_000_000 + int(fraction)
