"""Transcripts of entities: the entity is written to JSON and read back before each operation."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import msgspec

from gateway.durable import history as h
from gateway.durable.codec import Raw, pack, unpack
from gateway.durable.entity import EntityCore, EntitySnapshot, OperationRequest, decode_snapshot, encode_snapshot
from gateway.durable.errors import FailureDetails
from gateway.durable.identity import EntityId
from tests.playbook.words import (
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
