"""Programs for comparing durable engines: their grammar, and how they run (``program_strategy`` generates them).

A program is plain JSON, so that it travels as the input of one orchestrator (``Program``), the same on every engine, and
so that hypothesis prints and shrinks it. ``interpret`` runs it on any context that has the names of the dialect. What a
program did ends up in its result: one entry for everything that it waited for.

Grammar::

    program  {"steps": [step…], "rounds": n, "carry": json}     rounds: how often it may still continue as new
    script   {"program": program, "events": [[at_s, name, data]…]}      what is told from outside, and when

    step     {"op": "wait", "what": task}                       yield it
             {"op": "start", "what": leaf, "as": slot}          make it, yield it later or never
             {"op": "cancel", "as": slot}                       cancel the timer in a slot, if it was waited for
             {"op": "signal", "key", "operation", "input"}
             {"op": "status", "value"} | {"op": "now"} | {"op": "who"}
             {"op": "if", "then": [step…], "else": [step…]}     on the parity of all results so far
             {"op": "repeat", "times": n, "body": [step…]}
             {"op": "try", "body": [step…], "handler": [step…]}
             {"op": "raise", "tag"} | {"op": "raise_if_odd", "tag"}
             {"op": "return"}
             {"op": "again", "then": [step…]}                   continue as new, while there are rounds; steps after it

    task     leaf | {"do": "all", "of": [task…]} | {"do": "any", "of": [task…], "cancel": bool}
    leaf     {"do": "activity", "tag", "say", "takes", "fail", "feed", "retry"}
             {"do": "sub", "steps": [step…], "retry", "id"}
             {"do": "entity", "key", "operation", "input"}
             {"do": "timer", "s": seconds} | {"do": "event", "name"} | {"do": "slot", "as": slot}

What the world must offer: the activity ``work``, whose input says how it ends (``takes``: seconds; ``fail``: how many
attempts of this operation fail first, with a message that holds ``<<tag>>``; then its result is ``[say, fed]``); the entity
``tally`` (``add``: adds and answers the total, ``get``, ``fail``: adds and then raises, ``<<entity>>``).
"""

from __future__ import annotations

import contextlib
import json
import re
import zlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

Json = Any
PROGRAM: Final = "Program"
ACTIVITY: Final = "work"
ENTITY: Final = "tally"
EVENTS: Final = ("go", "halt", "tick")
KEYS: Final = ("a", "b")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MARKER = re.compile(r"<<(.*?)>>")


class Boom(Exception):
    """What programs and activities raise; its text is ``<<tag>>``."""

    def __init__(self, tag: str) -> None:
        super().__init__(f"<<{tag}>>")


def marker(text: str) -> str:
    """The tag that an error's text tells of, empty when there is none: the texts differ between engines, tags do not."""
    found = _MARKER.search(text)
    return found.group(1) if found else ""


def digest(value: Json) -> int:
    """A number that depends on everything in a JSON value, the same on all engines."""
    return zlib.crc32(json.dumps(value, sort_keys=True).encode())


# Running


@dataclass(frozen=True, slots=True)
class Dialect:
    """What is not reached over the context. entity(name, key); retry(first interval in ms, attempts)."""

    entity: Callable[[str, str], object]
    retry: Callable[[int, int], object]


@dataclass(frozen=True, slots=True)
class Built:
    """A task of the engine, and what it was made from."""

    task: Any
    do: str
    children: tuple[Built, ...] = ()

    def value(self, result: Json) -> Json:
        """The result that the engine gave for this task as JSON: of an ``any`` the number of the winner, and its value."""
        if isinstance(result, BaseException):
            return {"error": marker(str(result))}
        if self.do == "all":
            # One engine answers an empty ``all`` with None.
            return [child.value(one) for child, one in zip(self.children, result or [], strict=True)]
        if self.do == "any":
            number = next(n for n, child in enumerate(self.children) if child.task is result)
            return [number, self.children[number].value(result.result)]
        return result

    def cancel_timers(self) -> None:
        """Cancel all timers in here that still run."""
        if self.do == "timer" and not self.task.is_completed:
            self.task.cancel()
        for child in self.children:
            child.cancel_timers()


class _Return(Exception):
    """Ends the program, through all its blocks."""


class Interpreter:
    """One run of one program on one context."""

    def __init__(self, context: Any, dialect: Dialect) -> None:
        self.context = context
        self.dialect = dialect
        self.program = context.get_input()
        self.results: list[Json] = [self.program.get("carry")]
        self.slots: dict[str, Built] = {}
        self.waited: set[str] = set()

    def run(self) -> Generator[Any, Any, Json]:
        """The orchestrator's generator."""
        with contextlib.suppress(_Return):
            yield from self._block(self.program["steps"])
        return {"results": self.results}

    def _block(self, steps: list[Json]) -> Generator[Any, Any, None]:
        for step in steps:
            yield from self._step(step)

    def _step(self, step: Json) -> Generator[Any, Any, None]:
        context = self.context
        match step["op"]:
            case "wait":
                yield from self._wait(step["what"])
            case "start":
                self.slots[step["as"]] = self._leaf(step["what"])
            case "cancel":
                if step["as"] in self.waited:  # else there are engines where it does not even run
                    self.slots[step["as"]].task.cancel()
            case "signal":
                context.signal_entity(self._entity(step["key"]), step["operation"], step["input"])
            case "status":
                context.set_custom_status({"says": step["value"], "after": digest(self.results) % 1000})
            case "now":
                self.results.append((context.current_utc_datetime - _EPOCH) // timedelta(microseconds=1))
            case "who":
                self.results.append([context.instance_id, context.parent_instance_id or ""])
            case "if":
                yield from self._block(step["then"] if self._odd() else step["else"])
            case "repeat":
                for _ in range(step["times"]):
                    yield from self._block(step["body"])
            case "try":
                yield from self._try(step)
            case "raise":
                raise Boom(step["tag"])
            case "raise_if_odd":
                if self._odd():
                    raise Boom(step["tag"])
            case "return":
                raise _Return
            case "again":
                if self.program["rounds"] > 0:
                    rounds = self.program["rounds"] - 1
                    self.results.append("again")
                    context.continue_as_new({**self.program, "rounds": rounds, "carry": digest(self.results) % 1000})
                    yield from self._block(step["then"])
                    raise _Return
            case other:
                raise AssertionError(f"no such step: {other}")

    def _try(self, step: Json) -> Generator[Any, Any, None]:
        try:
            yield from self._block(step["body"])
        except _Return:
            raise
        except Exception as error:  # noqa: BLE001 - what the engine raises is what is looked at
            self.results.append({"caught": marker(str(error))})
        else:
            return
        yield from self._block(step["handler"])

    def _wait(self, what: Json) -> Generator[Any, Any, None]:
        built = self._build(what, set())
        if built is None:
            return
        result = yield built.task
        self.results.append(built.value(result))
        if what.get("cancel"):
            built.cancel_timers()

    def _odd(self) -> bool:
        return digest(self.results) % 2 == 1

    def _entity(self, key: str) -> object:
        return self.dialect.entity(ENTITY, key)

    def _build(self, what: Json, taken: set[str]) -> Built | None:
        """None for a slot that is empty, or that is in this tree already."""
        do = what["do"]
        if do == "slot":
            if what["as"] in taken:
                return None
            taken.add(what["as"])
            if what["as"] in self.slots:
                self.waited.add(what["as"])
            return self.slots.get(what["as"])
        if do not in ("all", "any"):
            return self._leaf(what)
        children = tuple(built for part in what["of"] if (built := self._build(part, taken)) is not None)
        tasks = [child.task for child in children]
        if do == "all":
            return Built(self.context.task_all(tasks), do, children)
        return Built(self.context.task_any(tasks), do, children) if children else None

    def _leaf(self, what: Json) -> Built:
        context = self.context
        match what["do"]:
            case "activity":
                given = {key: what[key] for key in ("tag", "say", "takes", "fail")}
                given["fed"] = digest(self.results) % 1000 if what["feed"] else None
                if what["retry"]:
                    task = context.call_activity_with_retry(ACTIVITY, self.dialect.retry(*what["retry"]), given)
                else:
                    task = context.call_activity(ACTIVITY, given)
            case "sub":
                given = {"steps": what["steps"], "rounds": 0, "carry": digest(self.results) % 1000}
                name = None if what["id"] is None else f"{context.instance_id}-{what['id']}"
                if what["retry"]:
                    retry = self.dialect.retry(*what["retry"])
                    task = context.call_sub_orchestrator_with_retry(PROGRAM, retry, given, name)
                else:
                    task = context.call_sub_orchestrator(PROGRAM, given, name)
            case "entity":
                task = context.call_entity(self._entity(what["key"]), what["operation"], what["input"])
            case "timer":
                task = context.create_timer(context.current_utc_datetime + timedelta(seconds=what["s"]))
            case "event":
                task = context.wait_for_external_event(what["name"])
            case other:
                raise AssertionError(f"no such task: {other}")
        return Built(task, what["do"])


def interpret(context: Any, dialect: Dialect) -> Generator[Any, Any, Json]:
    """The orchestrator ``Program`` on this context."""
    return Interpreter(context, dialect).run()


# Features


def parts(script: Json) -> Iterator[Json]:
    """All steps and tasks of a script, at any depth."""
    stack: list[Json] = [script["program"]["steps"]]
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack += node
        elif isinstance(node, dict):
            if "op" in node or "do" in node:
                yield node
            stack += [part for key, part in node.items() if key not in ("say", "input", "value")]


def features(script: Json) -> set[str]:
    """What occurs in a script: the names of its steps and tasks, and ``retry``, ``failure``, ``nested``, ``rounds``, …"""
    found: set[str] = set()
    for part in parts(script):
        found.add(part.get("op") or part["do"])
        if part.get("retry"):
            found.add("retry")
            found.add("retry " + part["do"])
        if part.get("fail"):
            found.add("failure")
        if part.get("operation") == "fail":
            found.add("entity failure")
        if any(child["do"] in ("all", "any") for child in part.get("of", ())):
            found.add("nested")
        if part.get("op") == "again" and script["program"]["rounds"] > 0:
            found.add("rounds")
    if script["events"]:
        found.add("events told")
    return found
