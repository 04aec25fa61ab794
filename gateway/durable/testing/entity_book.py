"""Tests of entities that read as transcripts; see ``playbook`` for how they are written.

::

    (
        EntityBook(counter, "counter", "7B")
        >> call("add", 2)
        << result(2)
        >> signal("reset")
        << state(0)
    )

``ends`` and ``breaks`` bring back the activities that the entity started. The entity is written to JSON and read back
before each operation. What must stay true: each transcript is a test of what a restart would find, too. A crash here:
every operation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import msgspec

from gateway.durable import history as h
from gateway.durable.codec import NULL, Json, Raw, pack, unpack
from gateway.durable.entity import (
    EntityCore,
    EntitySnapshot,
    OperationRequest,
    decode_snapshot,
    encode_snapshot,
    entity_function,
)
from gateway.durable.errors import FailureDetails
from gateway.durable.identity import EntityId
from gateway.durable.testing.playbook import MAX_LINES_TOLD
from gateway.durable.testing.transcript import line_of_action
from gateway.durable.testing.words import (
    START_US,
    Expect,
    answer,
    breaks,
    call,
    ends,
    error,
    later,
    matches,
    nothing,
    signal,
    starts,
    state,
)

Said = call | signal | ends | breaks | later
Must = Expect | answer | error | starts | state | nothing


@dataclass(frozen=True)
class Told:
    """A caller was answered."""

    to: str
    result: Json = None
    failure: FailureDetails | None = None


class EntityBook:
    """The transcript of one entity. function: as it is registered, a class too; state_type: likewise."""

    def __init__(
        self, function: Callable[..., object], name: str, key: str, state_type: type[msgspec.Struct] | None = None
    ) -> None:
        self.id = EntityId(name, key)
        self.function = entity_function(function)
        self.state_type = state_type
        self.now_us = START_US
        self.snapshot = EntitySnapshot()
        self.said: deque[Told | h.EntityAction] = deque()
        self.open: deque[h.EntityActivity] = deque()
        self.callers: list[str] = []
        self.transcript: list[str] = []

    @property
    def state(self) -> Json:
        """The state, as the registered type; None when there is none."""
        raw = self.snapshot.state
        if raw is NULL or bytes(raw) == b"null":
            return None
        return unpack(raw) if self.state_type is None else msgspec.json.decode(raw, type=self.state_type)

    # >> : the world

    def __rshift__(self, said: Said) -> Self:
        assert not self.said, self._story(f"the transcript does not expect: {_words(self.said[0])}")
        self.transcript.append(f">> {said}")
        match said:
            case call():
                self.callers.append(said.by)
                self._operate(said.operation, pack(said.input, "the input"), said.by, len(self.callers))
            case signal():
                self._operate(said.operation, pack(said.input, "the input"), "", 0)
            case ends():
                self._result(self._open_activity(said.of), {"ok": True, "result": said.result, "error": None})
            case breaks():
                why = {"type": said.type, "message": said.message}
                self._result(self._open_activity(said.of), {"ok": False, "result": None, "error": why})
            case later():
                self.now_us += int(said.seconds * 1e6)
        return self

    def _open_activity(self, name: str) -> h.EntityActivity:
        found = next((a for a in self.open if not name or a.name == name), None)
        assert found is not None, self._story(f"no open activity {name or 'at all'}")
        self.open.remove(found)
        return found

    def _result(self, started: h.EntityActivity, message: dict[str, Json]) -> None:
        message |= {"context": unpack(started.context), "id": started.id}
        self._operate(started.on_result, pack(message, "the outcome"), "", 0)

    def _operate(self, operation: str, data: Raw, caller: str, task: int) -> None:
        snapshot = decode_snapshot(encode_snapshot(self.snapshot))
        core = EntityCore(self.id, self.function, self.state_type, snapshot)
        record, answered = core.step(OperationRequest(operation, data, caller, task), self.now_us)
        for action in record.actions:
            if isinstance(action, h.EntityReply):
                given = None if action.failure else unpack(action.result)
                self.said.append(Told(action.caller, given, action.failure))
            else:
                self.said.append(action)
                if isinstance(action, h.EntityActivity):
                    self.open.append(action)
        if answered:
            self.said.append(Told(caller, None if record.failure else unpack(record.result), record.failure))
        assert caller or record.failure is None, self._story(f"{operation} failed: {record.failure}")
        self.snapshot = core.snapshot()

    # << : the entity

    def __lshift__(self, expected: Must) -> Self:
        self.transcript.append(f"<< {expected}")
        match expected:
            case state():
                assert self._has_state(expected.wanted), self._story(f"the state is {self.state}")
            case nothing():
                assert not self.said, self._story(f"expected nothing, but it {_words(self.said[0])}")
            case _:
                assert self.said, self._story(f"expected {expected}, the entity said nothing (more)")
                said = self.said.popleft()
                assert _fits(expected, said), self._story(f"expected {expected}, but it {_words(said)}")
        return self

    def _has_state(self, wanted: Json) -> bool:
        actual = msgspec.to_builtins(self.state)
        if isinstance(wanted, Mapping) and isinstance(actual, dict):
            actual = {name: actual.get(name) for name in wanted}  # a field with its default may have been left out
        return matches(wanted, actual)

    def _story(self, what: str) -> str:
        return what + "\n  after:\n    " + "\n    ".join(self.transcript[-MAX_LINES_TOLD:])


def _words(said: Told | h.EntityAction) -> str:
    if not isinstance(said, Told):
        return line_of_action(said)
    return f"answers {said.to}: " + (repr(said.result) if said.failure is None else f"fails: {said.failure}")


def _fits(expected: Must, said: Told | h.EntityAction) -> bool:
    match expected, said:
        case Expect(kind=h.TaskScheduled), h.EntityActivity():
            return said.name == expected.name and matches(expected.input, unpack(said.input))
        case Expect(kind=h.EntityOperationSignaled), h.EntitySignal():
            same = said.name == expected.name and said.target == expected.target
            return same and matches(expected.input, unpack(said.input))
        case starts(), h.EntityStarts():
            return said.name == expected.name and matches(expected.wanted, unpack(said.input))
        case answer(), Told(failure=None):
            return said.to == expected.to and matches(expected.wanted, said.result)
        case error(), Told():
            return said.to == expected.to and said.failure is not None and expected.text in str(said.failure)
        case _:
            return False
