"""Runs a program in either dialect: one interpreter, and what the dialects call things as its parameter.

What both engines must agree on is what this returns, what the activities noted, and what the entities hold in the end.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Any, Protocol

from tests.conformance.durabletask_programs import (
    FAULTS,
    Act,
    All,
    Ask,
    Child,
    Do,
    First,
    Hear,
    Join,
    Json,
    Nap,
    Never,
    Patience,
    Pause,
    Probe,
    Run,
    Say,
    Section,
    Send,
    Slow,
    Start,
    Step,
    Tell,
    Tree,
    fault_text,
)

Task = Any
Steps = Generator[Task, Any, Any]


class Dialect(Protocol):
    """What the interpreter asks of an orchestration's context."""

    @property
    def failed(self) -> type[Exception]: ...
    def activity(self, given: Json, attempts: int) -> Task: ...
    def timer(self, ms: int) -> Task: ...
    def event(self, name: str) -> Task: ...
    def patience(self, name: str, ms: int) -> Generator[Task, Any, Json]: ...
    def ask(self, entity: str, operation: str, argument: Json) -> Task: ...
    def tell(self, entity: str, operation: str, argument: Json, delay_ms: int) -> None: ...
    def child(self, given: Json, name: str | None, attempts: int, version: str) -> Task: ...
    def all(self, tasks: list[Task]) -> Task: ...
    def any(self, tasks: list[Task]) -> Task: ...
    def lock(self, keys: Iterable[str]) -> Task: ...
    def send(self, instance: str, name: str, value: Json) -> None: ...
    def status(self, value: Json) -> None: ...
    def again(self, given: Json, keep_events: bool) -> None: ...
    def result(self, task: Task) -> Json: ...
    def error(self, task: Task) -> Exception | None: ...
    def cancel(self, task: Task) -> None: ...
    def reason(self, error: BaseException) -> list[str]: ...
    def about(self) -> Json: ...
    def live(self) -> bool: ...


@dataclass
class Notes:
    """What activities of one run did, in their order, and who held which counter when."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    entries: list[tuple[str, str, str]] = field(default_factory=list)
    attempts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    held: list[tuple[str, float, float]] = field(default_factory=list)

    def by_lane(self) -> dict[str, list[list[str]]]:
        """For each orchestration: its steps in order, the activities of one step sorted (they may run at once)."""
        with self.lock:
            entries = list(self.entries)
        lanes: dict[str, list[list[str]]] = {}
        for lane in sorted({e[0] for e in entries}):
            own = [e for e in entries if e[0] == lane]
            lanes[lane] = [[step, *sorted(e[2] for e in group)] for step, group in groupby(own, lambda e: e[1])]
        return lanes

    def overlaps(self) -> list[str]:
        """Counters that two sections held at one time."""
        with self.lock:
            held = sorted(self.held)
        return [a[0] for a, b in pairwise(held) if a[0] == b[0] and b[1] < a[2]]


class Stage:
    """One engine's runs: their programs, what was noted, and whom to wake when a program stands still."""

    def __init__(self, wake: Callable[[str], None]) -> None:
        self.runs: dict[str, Run] = {}
        self.notes: dict[str, Notes] = defaultdict(Notes)
        self.touched: dict[str, set[str]] = defaultdict(set)
        self.wake = wake

    def touch(self, run: str, entity: str) -> str:
        """Remember that a run knows of this entity."""
        self.touched[run].add(entity)
        return entity

    def perform(self, given: Json) -> Json:
        """The one activity: notes that it ran, and fails as often as it is told to."""
        notes = self.notes[given["run"]]
        begun = time.monotonic()
        if given["work_ms"]:
            time.sleep(given["work_ms"] / 1000)
        with notes.lock:
            place = f"{given['lane']}/{given['step']}/{given['number']}"
            notes.attempts[place] += 1
            attempt = notes.attempts[place]
            failing = attempt <= given["fails"]
            outcome = "failed" if failing else "done"
            notes.entries.append((given["lane"], given["step"], f"{given['number']}:{attempt}:{outcome}"))
            notes.held += [(key, begun, time.monotonic()) for key in given.get("held", ())]
        if failing:
            raise FAULTS[given["kind"]](fault_text(given["kind"], given["number"]))
        return given["value"]

    def orchestrate(self, api: Dialect, given: Json) -> Steps:
        """One execution of one program."""
        program = self.runs[given["run"]].programs[given["ref"]]
        part = program.rounds[given["round"]]
        walk = _Walk(self, api, given)
        # Said in each execution: durabletask's backend forgets it when one continues as new, and that has its own test.
        api.status({"at": None})
        said = list(given["said"])
        for number, step in enumerate(part.steps):
            said.append((yield from walk.take(f"{given['round']}.{number}", step)))
        if api.live() and given["lane"] == "root":
            self.wake(given["run"])
        if part.end == "raise":
            raise FAULTS["FeederFault"](fault_text("FeederFault", part.number))
        if part.end == "again":
            following = given | {"round": given["round"] + 1, "said": said}
            if part.locked:
                with (yield api.lock([walk.entity(f"counter:{key}") for key in part.locked])):
                    api.again(following, part.keep_events)
            else:
                api.again(following, part.keep_events)
            return None
        return said


@dataclass
class _Plan:
    tree: Tree
    task: Task
    parts: list[_Plan]


class _Walk:
    def __init__(self, stage: Stage, api: Dialect, given: Json) -> None:
        self.stage = stage
        self.api = api
        self.given = given
        self.lane: str = given["lane"]
        self.slots: dict[int, _Plan] = {}

    def take(self, where: str, step: Step) -> Steps:
        api = self.api
        match step:
            case Do(tree, caught):
                return (yield from self.settle(self.plan(tree, self.lane, where), caught))
            case Start(slot, tree):
                self.slots[slot] = self.plan(tree, f"{self.lane}/slot{slot}", where)
                return "started"
            case Join(slot):
                return (yield from self.settle(self.slots.pop(slot), True))
            case Tell(entity, operation, argument, delay_ms):
                lane = f"{self.lane}/{where}" if delay_ms else self.lane
                api.tell(
                    self.entity(entity, self.lane), operation, self.order(entity, operation, argument, lane), delay_ms
                )
                return "told"
            case Pause():
                return (yield from self.pause(step))
            case Patience(mark, name, ms, _):
                self.stand(mark)
                value = yield from api.patience(name, ms)
                api.status({"at": None})
                return value
            case Section():
                return (yield from self.section(where, step))
            case Send(named, name, value):
                api.send(f"{self.given['run']}-{named}", name, value)
                return "sent"
            case Hear(name):
                return (yield api.event(name))
            case Say(value):
                api.status({"at": None, "say": value})
                return None
            case Probe():
                return api.about()

    # Trees

    def plan(self, tree: Tree, lane: str, where: str) -> _Plan:
        """Begin everything in a tree, from left to right."""
        api = self.api
        match tree:
            case All(of):
                parts = [self.plan(part, lane, where) for part in of]
                return _Plan(tree, api.all([p.task for p in parts]), parts)
            case First(of):
                parts = [self.plan(part, lane, where) for part in of]
                return _Plan(tree, api.any([p.task for p in parts]), parts)
            case Act():
                return _Plan(tree, api.activity(self.work(tree, lane, where), tree.attempts), [])
            case Nap(ms) | Slow(ms):
                return _Plan(tree, api.timer(ms), [])
            case Ask(entity, operation, argument):
                order = self.order(entity, operation, argument, lane)
                return _Plan(tree, api.ask(self.entity(entity, lane), operation, order), [])
            case Child(ref, named, attempts, version):
                name = f"{self.given['run']}-{named}" if named else None
                given = self.given | {"ref": ref, "round": 0, "said": [], "lane": f"{lane}>{where}.{ref}"}
                return _Plan(tree, api.child(given, name, attempts, version), [])
            case Never():
                return _Plan(tree, api.event("never"), [])

    def work(self, act: Act, lane: str, where: str) -> Json:
        return {
            "run": self.given["run"],
            "lane": lane,
            "step": where,
            "number": act.number,
            "value": act.value,
            "fails": act.fails,
            "kind": act.kind,
            "work_ms": act.work_ms,
        }

    def order(self, entity: str, operation: str, argument: Json, lane: str) -> Json:
        """An operation's input: who asks, what for, and what it needs to reach others."""
        order = {"from": lane, "value": argument}
        if operation in ("forward", "fail"):
            order |= {"to": self.entity("box:other"), "as": f"{lane} by way of {entity}"}
        if operation in ("start", "fail"):
            order["start"] = {"run": self.given["run"], "ref": -1, "round": 0, "said": [], "lane": f"by {argument}"}
            order["id"] = f"{self.given['run']}-{'ghost' if operation == 'fail' else argument}"
        return order

    def entity(self, entity: str, lane: str = "") -> str:
        """``kind:key``; the key is the run's own, and of this orchestration alone if it is ``own``."""
        kind, key = entity.split(":")
        place = f"{key}-{lane}" if key == "own" else key
        return self.stage.touch(self.given["run"], f"{kind}:{self.given['run']}-{place}")

    def settle(self, plan: _Plan, caught: bool) -> Steps:
        error: Exception | None = None
        try:
            yield plan.task
        except self.api.failed as failed:
            error = failed
        if error is None:
            return self.value(plan)
        if not caught:
            raise error
        return ["failed", *self.api.reason(error)]

    def value(self, plan: _Plan) -> Json:
        """What a finished tree holds; timers that have lost are cancelled."""
        error = self.api.error(plan.task)
        if error is not None:
            return ["failed", *self.api.reason(error)]
        match plan.tree:
            case All():
                return [self.value(part) for part in plan.parts]
            case First():
                winner = self.api.result(plan.task)
                number = next(n for n, part in enumerate(plan.parts) if part.task is winner)
                for part in plan.parts:
                    if isinstance(part.tree, Slow) and part.task is not winner:
                        self.api.cancel(part.task)
                return [number, self.value(plan.parts[number])]
            case Nap() | Slow():
                return "rested"
        return self.api.result(plan.task)

    # Events

    def stand(self, mark: int) -> None:
        self.api.status({"at": mark})
        if self.api.live():
            self.stage.wake(self.given["run"])

    def pause(self, step: Pause) -> Steps:
        api = self.api
        self.stand(step.mark)
        value: Json
        if step.how == "sequence":
            value = []
            for name in step.names:
                value.append((yield api.event(name)))
        else:
            tasks = [api.event(name) for name in step.names]
            if step.how == "all":
                value = yield api.all(tasks)
            else:
                winner = yield api.any(tasks)
                value = [next(n for n, task in enumerate(tasks) if task is winner), api.result(winner)]
        api.status({"at": None})
        return value

    # Locks

    def section(self, where: str, step: Section) -> Steps:
        error: Exception | None = None
        said: list[Json] = []
        keys = [self.entity(f"counter:{key}") for key in step.keys]
        try:
            held: AbstractContextManager[object] = yield self.api.lock(keys)
            with held:
                if step.forbidden:
                    said.append(self.try_forbidden(step, keys))
                if step.pause is not None:
                    said.append((yield from self.pause(step.pause)))
                yield from self.count_up(where, step, sorted(set(keys)))
        except FAULTS["FeederFault"] as fault:
            error = fault
        if error is not None and not step.caught:
            raise FAULTS["FeederFault"](str(error))
        return [*said, "broken" if error is not None else "counted"]

    def count_up(self, where: str, step: Section, keys: list[str]) -> Steps:
        """Read, work, write: two at once would lose a count."""
        counts = []
        for key in keys:
            counts.append((yield self.api.ask(key, "read", None)))
        work = self.work(Act(step.number, work_ms=step.work_ms), self.lane, where) | {"held": keys}
        yield self.api.activity(work, 0)
        if step.broken == "before":
            raise FAULTS["FeederFault"](fault_text("FeederFault", step.number))
        for key, count in zip(keys, counts, strict=True):
            yield self.api.ask(key, "write", count + 1)
        if step.broken == "after":
            raise FAULTS["FeederFault"](fault_text("FeederFault", step.number))

    def try_forbidden(self, step: Section, keys: list[str]) -> str:
        api = self.api
        refused: Exception | None = None
        try:
            match step.forbidden:
                case "nested":
                    api.lock([self.entity("counter:more")])
                case "other":
                    api.ask(self.entity("counter:more"), "write", 1000)
                case "signal":
                    api.tell(keys[0], "write", 1000, 0)
        except Exception as error:  # noqa: BLE001 - that it is refused is the outcome; the words are each engine's own
            refused = error
        return "let through" if refused is None else "refused"
