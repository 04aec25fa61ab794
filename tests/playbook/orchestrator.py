"""Transcripts of orchestrators: each is replayed from scratch after every turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Self

import msgspec

from gateway.durable import history as h
from gateway.durable.codec import NULL, pack, unpack
from gateway.durable.errors import FailureDetails
from gateway.durable.execution import Execution
from gateway.durable.replay import replay
from tests.playbook.words import (
    QUIET,
    START_US,
    Expect,
    continues_as_new,
    done,
    event,
    failed,
    fails,
    later,
    matches,
    output,
    status,
)


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
