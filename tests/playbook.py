"""Tests of orchestrators and entities that read as transcripts, against the pure core: no engine, no journal, no clock.

``>>`` is what the world says, ``<<`` is what the code under test must say, in order::

    (
        Playbook(Procedure, {"reason": "heat"})
        << activity("ReadLoad")
        >> done({"percent": 99.0})
        << status(phase="cooldown")
        << timer(600)
        >> later(600)
        << output(status="restored")
    )

Everything that the code decides must be expected, save cancelled timers and signals to entities, which are passed over
unless the transcript names them. After each turn of an orchestrator the whole transcript is replayed from scratch, and
must lead to the same decisions, the same custom status and the same outcome; an entity is written to JSON and read
back before each operation. So each transcript is a test of what a restart would find, too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec

from gateway.durable import history as h
from gateway.durable.codec import NULL, Raw, pack, unpack
from gateway.durable.entity import EntityCore, EntitySnapshot, OperationRequest, decode_snapshot, encode_snapshot
from gateway.durable.errors import FailureDetails
from gateway.durable.execution import Execution
from gateway.durable.identity import EntityId
from gateway.durable.replay import replay

START_US = 1_768_377_600_000_000  # 2026-01-14T08:00:00Z
QUIET = (h.TimerCancelled, h.EntityOperationSignaled)


def matches(expected: Any, actual: Any) -> bool:
    """True if actual holds all that expected says: objects by the named keys, callables judge, the rest equals."""
    if isinstance(expected, Mapping):
        return isinstance(actual, Mapping) and all(k in actual and matches(v, actual[k]) for k, v in expected.items())
    if callable(expected):
        return bool(expected(actual))
    if isinstance(expected, float) and isinstance(actual, float | int):
        return abs(expected - actual) < 0.05
    if isinstance(expected, list | tuple):
        return (
            isinstance(actual, list | tuple)
            and len(expected) == len(actual)
            and all(matches(e, a) for e, a in zip(expected, actual, strict=True))
        )
    return bool(expected == actual)


# --- what the code must say -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Expect:
    """One decision. input: what the input must hold; a mapping names the keys that matter."""

    kind: type
    name: str = ""
    input: Any = None
    target: str = ""
    after_s: float | None = None


def activity(name: str, input_: Any = None, **keys: Any) -> Expect:
    """An activity is started."""
    return Expect(h.TaskScheduled, name, input_ if input_ is not None else (keys or None))


def entity_call(target: str, operation: str, **keys: Any) -> Expect:
    """An entity is asked."""
    return Expect(h.EntityOperationCalled, operation, keys or None, target)


def entity_signal(target: str, operation: str, **keys: Any) -> Expect:
    """An entity is told something."""
    return Expect(h.EntityOperationSignaled, operation, keys or None, target)


def timer(seconds: float) -> Expect:
    """A timer is set, so many seconds from now."""
    return Expect(h.TimerCreated, after_s=seconds)


def cancelled_timer() -> Expect:
    """A timer is given up."""
    return Expect(h.TimerCancelled)


@dataclass(frozen=True)
class status:
    """The custom status as it stands; takes no decision off the list."""

    keys: dict[str, Any] = field(default_factory=dict)

    def __init__(self, **keys: Any) -> None:
        object.__setattr__(self, "keys", keys)


@dataclass(frozen=True)
class output:
    """The orchestration has completed with this output."""

    keys: dict[str, Any] = field(default_factory=dict)

    def __init__(self, **keys: Any) -> None:
        object.__setattr__(self, "keys", keys)


@dataclass(frozen=True)
class failed:
    """The orchestration has failed; its message holds this text."""

    text: str


@dataclass(frozen=True)
class continues_as_new:
    """The history starts over with this input; the transcript goes on with the new execution."""

    keys: dict[str, Any] = field(default_factory=dict)

    def __init__(self, **keys: Any) -> None:
        object.__setattr__(self, "keys", keys)


# --- what the world says ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class done:
    """An open call has its result: the oldest one, or the one called ``of``."""

    result: Any = None
    of: str = ""


@dataclass(frozen=True)
class fails:
    """An open call has failed."""

    message: str
    type: str = "RuntimeError"
    of: str = ""


@dataclass(frozen=True)
class event:
    """An external event arrives."""

    name: str
    data: Any = None


@dataclass(frozen=True)
class later:
    """So many seconds pass; timers that come due fire, each in a turn of its own."""

    seconds: float


class Playbook:
    """The transcript of one orchestration."""

    def __init__(self, function: Callable[..., Any], input_: Any = None, instance: str = "proc-1") -> None:
        self.function = function
        self.instance = instance
        self.now_us = START_US
        self.unseen: deque[h.Action] = deque()
        self.open: dict[int, h.Action] = {}
        self.timers: dict[int, int] = {}
        self.replay_each_turn = True
        self.transcript: list[str] = []
        self.seen_actions: list[h.Action] = []
        self._begin(h.ExecutionStarted(name=function.__name__, input=pack(input_, "input")))

    def _begin(self, started: h.ExecutionStarted) -> None:
        self.execution = Execution(self.instance, self.function)
        self.turns: list[tuple[int, h.TurnRecord]] = []
        self._turn(started)

    @property
    def status(self) -> Any:
        """The custom status as it stands."""
        raw = self.execution.custom_status
        return None if raw is None else unpack(raw)

    def _turn(self, incoming: h.Incoming) -> None:
        execution = self.execution
        execution.begin_turn(self.now_us)
        execution.apply(incoming)
        actions = execution.end_turn()
        self.turns.append((execution.now_us, h.TurnRecord([incoming, *actions])))
        for action in actions:
            match action:
                case h.TaskScheduled() | h.EntityOperationCalled() | h.SubOrchestrationInstanceCreated():
                    self.open[action.id] = action
                case h.TimerCreated():
                    self.timers[action.id] = action.due_us
                case h.TimerCancelled():
                    self.timers.pop(action.id, None)
                case _:
                    pass
        self.unseen.extend(actions)
        self.seen_actions.extend(actions)
        if self.replay_each_turn:
            self._replay_agrees()

    def _replay_agrees(self) -> None:
        """A restart here would find the same: decisions (compared by replay itself), custom status, outcome."""
        rows = msgspec.json.decode(msgspec.json.encode(self.turns), type=list[tuple[int, h.TurnRecord]])
        again = replay(self.instance, self.function, rows)
        assert again.outcome == self.execution.outcome, self._story("a replay ends otherwise")
        assert again.custom_status == self.execution.custom_status, self._story("a replay says another custom status")
        assert again.next_task == self.execution.next_task, self._story("a replay counts other ids")

    # >> : the world

    def __rshift__(self, said: done | fails | event | later) -> Self:
        loud = [a for a in self.unseen if not isinstance(a, QUIET)]
        assert not loud, self._story(f"the transcript does not expect {loud[0]}")
        self.unseen.clear()
        self.transcript.append(f">> {said}")
        match said:
            case done():
                action = self._open_call(said.of)
                raw = pack(said.result, "result")
                is_activity = isinstance(action, h.TaskScheduled)
                self._turn((h.TaskCompleted if is_activity else h.EntityOperationCompleted)(action.id, raw))
            case fails():
                action = self._open_call(said.of)
                details = FailureDetails(said.type, said.message)
                is_activity = isinstance(action, h.TaskScheduled)
                self._turn((h.TaskFailed if is_activity else h.EntityOperationFailed)(action.id, details))
            case event():
                self._turn(h.EventRaised(said.name, pack(said.data, "event")))
            case later():
                self._pass_time(self.now_us + int(said.seconds * 1e6))
        return self

    def _open_call(self, name: str) -> Any:
        found = next((a for a in self.open.values() if not name or getattr(a, "name", "") == name), None)
        assert found is not None, self._story(f"no open call {name or 'at all'}")
        return self.open.pop(found.id)

    def _pass_time(self, until_us: int) -> None:
        while self.timers:
            task_id = min(self.timers, key=lambda i: (self.timers[i], i))
            if self.timers[task_id] > until_us:
                break
            self.now_us = max(self.now_us, self.timers.pop(task_id))
            self._turn(h.TimerFired(task_id))
        self.now_us = until_us

    # << : the code

    def __lshift__(self, expected: Expect | status | output | failed | continues_as_new) -> Self:
        self.transcript.append(f"<< {expected}")
        match expected:
            case Expect():
                self._expect(expected)
            case status():
                assert matches(expected.keys, self.status), self._story(f"the custom status is {self.status}")
            case output():
                ended = self._ended(h.ExecutionCompleted)
                assert matches(expected.keys, unpack(ended.result)), self._story(f"output: {unpack(ended.result)}")
            case failed():
                ended = self._ended(h.ExecutionFailed)
                assert expected.text in str(ended.details), self._story(f"it failed with {ended.details}")
            case continues_as_new():
                ended = self._ended(h.ContinueAsNew)
                assert matches(expected.keys, unpack(ended.input)), self._story(f"input: {unpack(ended.input)}")
                self.unseen.clear()
                old = self.execution
                carried = old.leftover_events()
                self._begin(
                    msgspec.structs.replace(old.started, input=ended.input, first_task=old.next_task, carried=carried)
                )
        return self

    def _ended(self, kind: type) -> Any:
        assert isinstance(self.execution.outcome, kind), self._story(
            f"expected {kind.__name__}, its outcome is {self.execution.outcome}"
        )
        while self.unseen and self.unseen[0] is not self.execution.outcome:
            action = self.unseen.popleft()
            assert isinstance(action, QUIET), self._story(f"the transcript does not expect {action}")
        self.unseen.clear()
        return self.execution.outcome

    def _expect(self, expected: Expect) -> None:
        while self.unseen and isinstance(self.unseen[0], QUIET) and not self._fits(expected, self.unseen[0]):
            self.unseen.popleft()
        assert self.unseen, self._story(f"expected {expected}, the code decided nothing (more)")
        action = self.unseen.popleft()
        assert self._fits(expected, action), self._story(f"expected {expected}, got {action}")

    def _fits(self, expected: Expect, action: h.Action) -> bool:
        if type(action) is not expected.kind:
            return False
        if isinstance(action, h.TimerCreated):
            wanted_us = self.now_us + int((expected.after_s or 0) * 1e6)
            return expected.after_s is None or abs(action.due_us - wanted_us) < 1000
        if isinstance(action, h.TimerCancelled):
            return True
        same_target = not expected.target or getattr(action, "target", "") == expected.target
        same_input = expected.input is None or matches(expected.input, unpack(getattr(action, "input", NULL)))
        return getattr(action, "name", "") == expected.name and same_target and same_input

    def _story(self, what: str) -> str:
        return what + "\n  after:\n    " + "\n    ".join(self.transcript[-12:])


# --- entities ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class call:
    """Somebody calls an operation and waits for the answer; ``by`` names them."""

    operation: str
    input: Any = None
    by: str = "caller"


@dataclass(frozen=True)
class signal:
    """Somebody tells the entity something; nobody waits."""

    operation: str
    input: Any = None


@dataclass(frozen=True)
class ends:
    """The oldest open activity (of this name) has its result."""

    result: Any = None
    of: str = ""


@dataclass(frozen=True)
class breaks:
    """The oldest open activity (of this name) has an error instead."""

    type: str
    message: str = ""
    of: str = ""


@dataclass(frozen=True)
class answer:
    """A caller is answered; keys is what the answer must hold."""

    to: str = "caller"
    keys: dict[str, Any] = field(default_factory=dict)

    def __init__(self, to: str = "caller", **keys: Any) -> None:
        object.__setattr__(self, "to", to)
        object.__setattr__(self, "keys", keys)


@dataclass(frozen=True)
class error:
    """A caller gets an error that holds this text."""

    text: str
    to: str = "caller"


@dataclass(frozen=True)
class starts:
    """An orchestration is started."""

    name: str
    keys: dict[str, Any] = field(default_factory=dict)

    def __init__(self, name: str, **keys: Any) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "keys", keys)


@dataclass(frozen=True)
class state:
    """The state as it stands; takes nothing off the list."""

    keys: dict[str, Any] = field(default_factory=dict)

    def __init__(self, **keys: Any) -> None:
        object.__setattr__(self, "keys", keys)


@dataclass(frozen=True)
class nothing:
    """No action and no answer is left."""


@dataclass(frozen=True)
class _Told:
    to: str
    result: Any = None
    failure: FailureDetails | None = None


class EntityBook:
    """The transcript of one entity."""

    def __init__(
        self, function: Callable[..., Any], name: str, key: str, state_type: type[msgspec.Struct] | None = None
    ) -> None:
        self.id = EntityId(name, key)
        self.function = function
        self.state_type = state_type
        self.now_us = START_US
        self.snapshot = EntitySnapshot()
        self.said: deque[Any] = deque()
        self.open: deque[h.EntityActivity] = deque()
        self.callers: list[str] = []
        self.transcript: list[str] = []

    @property
    def state(self) -> Any:
        """The state, as the registered type."""
        raw = self.snapshot.state
        if raw is None or bytes(raw) == b"null":
            return None
        return unpack(raw) if self.state_type is None else msgspec.json.decode(raw, type=self.state_type)

    def __rshift__(self, said: call | signal | ends | breaks | later) -> Self:
        assert not self.said, self._story(f"the transcript does not expect {self.said[0]}")
        self.transcript.append(f">> {said}")
        match said:
            case call():
                self.callers.append(said.by)
                self._operate(said.operation, pack(said.input, "input"), said.by, len(self.callers))
            case signal():
                self._operate(said.operation, pack(said.input, "input"), "", 0)
            case ends():
                started = self._open_activity(said.of)
                self._result(started, {"ok": True, "result": said.result, "error": None})
            case breaks():
                started = self._open_activity(said.of)
                self._result(
                    started, {"ok": False, "result": None, "error": {"type": said.type, "message": said.message}}
                )
            case later():
                self.now_us += int(said.seconds * 1e6)
        return self

    def _open_activity(self, name: str) -> h.EntityActivity:
        found = next((a for a in self.open if not name or a.name == name), None)
        assert found is not None, self._story(f"no open activity {name or 'at all'}")
        self.open.remove(found)
        return found

    def _result(self, started: h.EntityActivity, message: dict[str, Any]) -> None:
        message |= {"context": unpack(started.context), "id": started.id}
        self._operate(started.on_result, pack(message, "input"), "", 0)

    def _operate(self, operation: str, data: Raw, caller: str, task: int) -> None:
        snapshot = decode_snapshot(encode_snapshot(self.snapshot))
        core = EntityCore(self.id, self.function, self.state_type, snapshot)
        record, answered = core.step(OperationRequest(operation, data, caller, task), self.now_us)
        for action in record.actions:
            if isinstance(action, h.EntityReply):
                result = None if action.failure else unpack(action.result)
                self.said.append(_Told(action.caller, result, action.failure))
            else:
                self.said.append(action)
                if isinstance(action, h.EntityActivity):
                    self.open.append(action)
        if answered:
            self.said.append(_Told(caller, None if record.failure else unpack(record.result), record.failure))
        assert caller or record.failure is None, self._story(f"{operation} failed: {record.failure}")
        self.snapshot = core.snapshot()

    def __lshift__(self, expected: Any) -> Self:
        self.transcript.append(f"<< {expected}")
        match expected:
            case state():
                actual = msgspec.to_builtins(self.state)
                full = {name: actual.get(name) for name in expected.keys} if isinstance(actual, dict) else actual
                assert matches(expected.keys, full), self._story(f"the state is {self.state}")
            case nothing():
                assert not self.said, self._story(f"expected nothing, got {self.said[0]}")
            case _:
                assert self.said, self._story(f"expected {expected}, the entity said nothing (more)")
                said = self.said.popleft()
                assert self._fits(expected, said), self._story(f"expected {expected}, got {said}")
        return self

    def _fits(self, expected: Any, said: Any) -> bool:
        match expected, said:
            case Expect(kind=h.TaskScheduled), h.EntityActivity():
                wanted = expected.input is None or matches(expected.input, unpack(said.input))
                return said.name == expected.name and wanted
            case Expect(kind=h.EntityOperationSignaled), h.EntitySignal():
                wanted = expected.input is None or matches(expected.input, unpack(said.input))
                return said.name == expected.name and said.target == expected.target and wanted
            case starts(), h.EntityStarts():
                return said.name == expected.name and matches(expected.keys, unpack(said.input))
            case answer(), _Told(failure=None):
                return said.to == expected.to and matches(expected.keys, said.result)
            case error(), _Told():
                return said.to == expected.to and said.failure is not None and expected.text in str(said.failure)
            case _:
                return False

    def _story(self, what: str) -> str:
        return what + "\n  after:\n    " + "\n    ".join(self.transcript[-12:])
