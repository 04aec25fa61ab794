"""What an instance of the model's language must decide, said a second time and without any of the engine's code.

``Reference`` takes the incoming events of an instance turn by turn, as the journal has them, and gives the decisions that
its program must take, as JSON. It knows the rules of the engine's page of semantics: ids in the order of creation, events
first in first out for each name, a time-out that takes its waiter away, retries, critical sections, continue as new.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from tests.conformance.model_programs import ATTEMPTS

Json = Any
SECOND_US = 1_000_000


@dataclass(eq=False)
class Leaf:
    """Something that a step waits for."""

    kind: str
    done: bool = False
    value: Json = None
    timer: int = 0
    again: Json = None
    attempts: int = 1


@dataclass
class Reference:
    """One instance. outcome: None while it runs, else its last event. lives: how often its id was used."""

    instance: str
    open: dict[int, Leaf] = field(default_factory=dict)
    outcome: Json = None
    suspended: bool = False
    started: bool = False
    custom_status: Json = None
    lives: int = 1
    rewinds: int = 0
    turns: list[tuple[int, int, list[Json]]] = field(default_factory=list)

    def turn(self, seq: int, now_us: int, incoming: list[Json]) -> list[Json]:
        """The decisions of one turn. seq: the number of its record."""
        for event in incoming:
            if event["type"] == "ExecutionRewound":
                self._rewind(event)
        return self._decisions(seq, now_us, incoming)

    def _decisions(self, seq: int, now_us: int, incoming: list[Json]) -> list[Json]:
        self.turns.append((seq, now_us, incoming))
        self._now = now_us
        self._decided: list[Json] = []
        for event in incoming:
            # Who started over may have ended at once, before the word on its rewind.
            told = event["type"] == "ExecutionRewound" and incoming.index(event) == 1
            running = self.outcome is None or event["type"] == "ExecutionStarted"
            assert running or told, f"{self.instance} has ended: {event}"
            self._take(event)
        return self._decided

    @property
    def wanted(self) -> list[str]:
        """Names of events that would let it go on."""
        return (
            sorted(name for name, leaves in self._waits.items() if leaves) if self.started and not self.outcome else []
        )

    @property
    def buffered(self) -> int:
        """Events that it has not asked for."""
        return sum(len(events) for events in self._kept.values())

    @property
    def next_task(self) -> int:
        """The id that its next task gets."""
        return self._next

    # What comes

    def _rewind(self, event: Json) -> None:
        """Back to before the failure: the turns that count are taken again, without the failures that don't."""
        assert self.outcome is not None
        assert self.outcome["type"] == "ExecutionFailed", f"{self.instance} is rewound after {self.outcome}"
        kept, again = [], event.get("again", ())
        for seq, now_us, incoming in self.turns:
            if seq < event["until"]:
                kept.append((seq, now_us, [e for e in incoming if not ("details" in e and e["id"] in again)]))
        status, self.turns = self.custom_status, []
        self.started, self.outcome = False, None
        self.rewinds += 1
        for turn in kept:
            self._decisions(*turn)
        self.custom_status = status
        assert self.outcome is None

    def _take(self, event: Json) -> None:
        match event["type"]:
            case "ExecutionRewound":
                self._next = max(self._next, event["first_task"])
                self.first_task = self._next
                return
            case "ExecutionStarted":
                self._start(event)
            case "EventRaised":
                self._raised(event["name"].lower(), event.get("data"), event)
            case "TimerFired":
                self._fired(event["id"])
            case "TaskCompleted" | "SubOrchestrationInstanceCompleted" | "EntityOperationCompleted":
                leaf = self.open.pop(event["id"])
                leaf.done, leaf.value = True, event.get("result")
            case "TaskFailed" | "SubOrchestrationInstanceFailed" | "EntityOperationFailed":
                self._failed(self.open.pop(event["id"]), event["details"])
            case "EntityLockGranted":
                self.open.pop(event["id"]).done = True
            case "ExecutionSuspended":
                self.suspended = True
            case "ExecutionResumed":
                self.suspended = False
            case "ExecutionTerminated":
                self.outcome = event
                return
            case other:
                raise AssertionError(other)
        self._advance()

    def _start(self, event: Json) -> None:
        if self.started and event.get("execution", 1) == 1:
            # Its id is used again; its task ids are not.
            assert self.outcome is not None
            assert self.outcome["type"] != "ContinueAsNew"
            assert event.get("first_task", 1) >= self._next
            self.lives += 1
            self.turns = self.turns[-1:]
            self.custom_status = None
        elif self.started:
            self.turns = self.turns[-1:]
            assert self.outcome is not None
            assert self.outcome["type"] == "ContinueAsNew", f"{self.instance} starts again after {self.outcome}"
            assert event["input"] == self.outcome["input"]
            assert event.get("execution", 1) == self._execution + 1
            assert event.get("first_task", 1) == self._next
            carried: dict[str, list[Json]] = {}
            for kept in event.get("carried", ()):
                carried.setdefault(kept["name"].lower(), []).append(kept)
            assert carried == {name: list(events) for name, events in self._kept.items() if events}
        self.started, self.outcome, self.suspended = True, None, False
        self._execution = event.get("execution", 1)
        self.first_task = self._next = event.get("first_task", 1)
        given = event["input"]
        self._steps, self._log, self._nonce, self._n = given["steps"], [*given["log"]], given["nonce"], given["n"]
        self._place = 0
        self._current: Leaf | None = None
        self._leaves: list[Leaf] = []
        self.open.clear()
        self._due: dict[int, int] = {}
        self._section = 0
        self._kept: dict[str, deque[Json]] = {}
        self._waits: dict[str, deque[Leaf]] = {}
        for kept in event.get("carried", ()):
            self._kept.setdefault(kept["name"].lower(), deque()).append(kept)
        self._order: list[Leaf] = []

    def _raised(self, name: str, data: Json, event: Json) -> None:
        waits = self._waits.get(name)
        if not waits:
            self._kept.setdefault(name, deque()).append(event)
            return
        leaf = waits.popleft()
        if leaf.timer:
            del self.open[leaf.timer]
            self._decide("TimerCancelled", id=leaf.timer)
        leaf.done, leaf.value = True, data

    def _fired(self, task: int) -> None:
        leaf = self.open.pop(task)
        assert self._now >= self._due[task], f"{self.instance}: timer {task} fired too early"
        if leaf.kind == "fail":
            leaf.attempts += 1
            self._call(leaf)
            return
        leaf.done = True
        if leaf.kind == "wait":
            leaf.value = "late"
            next(waits for waits in self._waits.values() if leaf in waits).remove(leaf)

    def _failed(self, leaf: Leaf, details: Json) -> None:
        if leaf.kind == "fail" and leaf.attempts < ATTEMPTS:
            task = self._id()
            self._set_timer(task, leaf, SECOND_US * 2 ** (leaf.attempts - 1))
            return
        leaf.done, leaf.value = True, _Failed(details["kind"])

    # What is decided

    def _id(self) -> int:
        self._next += 1
        return self._next - 1

    def _token(self) -> str:
        self._n += 1
        return f"{self._nonce}.{self._n}"

    def _decide(self, kind: str, **fields: Json) -> None:
        self._decided.append({"type": kind, **fields})

    def _call(self, leaf: Leaf) -> None:
        task = self._id()
        name, x, operation = leaf.again
        operation = operation or f"{self.instance}:{task}"
        leaf.again = (name, x, operation)
        self._decide("TaskScheduled", id=task, name=name, input=x, attempt=leaf.attempts, operation_id=operation)
        self.open[task] = leaf

    def _leaf(self, step: Json) -> Leaf:
        kind = step[0]
        leaf = Leaf(kind)
        match step:
            case ["event" | "wait", name, *seconds]:
                kept = self._kept.get(name)
                if kept:
                    leaf.done, leaf.value = True, kept.popleft().get("data")
                    return leaf
                self._waits.setdefault(name, deque()).append(leaf)
                if seconds:
                    leaf.timer = self._timer(leaf, seconds[0])
            case ["act" | "slow" | "once" | "fail" | "must", x]:
                leaf.again = (kind, x, "")
                self._call(leaf)
            case ["sleep", seconds]:
                self._timer(leaf, seconds)
            case ["add", key, n]:
                self._entity(leaf, key, "add", {"token": self._token(), "n": n})
            case ["ask", key, x]:
                self._entity(leaf, key, "ask", {"token": self._token(), "x": x})
            case ["sub", steps]:
                given = {"steps": steps, "log": [], "nonce": self._token(), "n": 0}
                task = self._id()
                child = f"{self.instance}:{task:04x}"
                self._decide("SubOrchestrationInstanceCreated", id=task, name="run", instance=child, input=given)
                self.open[task] = leaf
        return leaf

    def _timer(self, leaf: Leaf, seconds: int) -> int:
        task = self._id()
        self._set_timer(task, leaf, seconds * SECOND_US)
        return task

    def _set_timer(self, task: int, leaf: Leaf, span_us: int) -> None:
        self._due[task] = self._now + span_us
        self._decide("TimerCreated", id=task, due_us=self._due[task])
        self.open[task] = leaf

    def _entity(self, leaf: Leaf, key: str, operation: str, given: Json) -> None:
        task = self._id()
        self._decide("EntityOperationCalled", id=task, target=f"@tally@{key}", name=operation, input=given)
        self.open[task] = leaf

    # The program

    def _advance(self) -> None:
        while self.outcome is None:
            if self._leaves and not self._answer():
                return
            if self._place == len(self._steps):
                self._end({"type": "ExecutionCompleted", "result": self._log})
                return
            step = self._steps[self._place]
            self._place += 1
            self._begin(step)

    def _answer(self) -> bool:
        """Write down what the current step saw, if it has its answer."""
        step = self._steps[self._place - 1]
        for leaf in self._leaves:
            if leaf.done and leaf not in self._order:
                self._order.append(leaf)
        value: Json
        if step[0] == "any":
            if not self._order:
                return False
            value = [self._leaves.index(self._order[0]), _plain(self._order[0].value)]
        elif not all(leaf.done for leaf in self._leaves):
            return False
        elif step[0] == "all":
            failures = [leaf.value for leaf in self._order if isinstance(leaf.value, _Failed)]
            value = _plain(failures[0]) if failures else [leaf.value for leaf in self._leaves]
        elif step[0] == "must" and isinstance(self._leaves[0].value, _Failed):
            self._end({"type": "ExecutionFailed", "details": "TaskFailedError"})
            return False
        else:
            value = _plain(self._leaves[0].value)
        self._log.append([step[0], value, self._now])
        self._leaves, self._order = [], []
        return True

    def _begin(self, step: Json) -> None:
        match step:
            case ["tell", key, n]:
                self._signal(key, {"token": self._token(), "n": n}, 0)
            case ["tell_at", key, n, seconds]:
                self._signal(key, {"token": self._token(), "n": n}, self._now + seconds * SECOND_US)
            case ["send", instance, name]:
                data = [self._nonce, self._token()]
                self._decide("EventSent", id=self._id(), instance=instance, name=name, data=data)
            case ["status", x]:
                self.custom_status = x
            case ["again"]:
                rest = {"steps": self._steps[self._place :], "log": self._log, "nonce": self._nonce, "n": self._n}
                self._end({"type": "ContinueAsNew", "input": rest})
            case ["boom"]:
                self._end({"type": "ExecutionFailed", "details": "ValueError"})
            case ["lock", keys]:
                task = self._id()
                self._decide("EntityLockRequested", id=task, targets=[f"@tally@{key}" for key in sorted(keys)])
                self._section = task
                leaf = Leaf("lock")
                self.open[task] = leaf
                self._leaves = [leaf]
            case ["unlock"]:
                self._unlock()
            case ["all" | "any", leaves]:
                self._leaves = [self._leaf(leaf) for leaf in leaves]
            case _:
                self._leaves = [self._leaf(step)]

    def _signal(self, key: str, given: Json, due_us: int) -> None:
        fields = {"due_us": due_us} if due_us else {}
        self._decide(
            "EntityOperationSignaled", id=self._id(), target=f"@tally@{key}", name="add", input=given, **fields
        )

    def _unlock(self) -> None:
        if self._section:
            self._decide("EntityUnlockSent", id=self._section)
            self._section = 0

    def _end(self, outcome: Json) -> None:
        self._unlock()
        self.outcome = outcome
        self._decided.append(outcome)


@dataclass
class _Failed:
    kind: str


def _plain(value: Json) -> Json:
    return ["failed", value.kind] if isinstance(value, _Failed) else value
