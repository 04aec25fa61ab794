"""Tests of orchestrators that read as transcripts, against the pure core: no engine, no journal, no clock.

``>>`` is what the world says, ``<<`` is what the code under test must say, in order::

    (
        Playbook(GridEmergencyProtocol)
        << activity("SendDisconnectCommand", "tier1")
        >> done({"7B": "done"})
        << timer(300)
        >> later(300)
        << timer(300)  # of the wait for the operator
        >> event("OperatorOverride", {"cancel": True})
        << output(status="aborted")
    )

Everything that the code decides must be expected, save what is ``QUIET``: cancelled timers, signals to entities and the end
of a critical section are passed over unless the transcript names them. After each turn the whole transcript is replayed
from scratch, and must lead to the same decisions, the same custom status and the same outcome.

What must stay true: each transcript is a test of what a restart would find, at each of its turns. A crash here: every turn.
"""

from __future__ import annotations

from collections import deque
from typing import Self, TypeVar

import msgspec

from gateway.durable import history as h
from gateway.durable.codec import Json, Raw, pack, unpack
from gateway.durable.errors import FailureDetails
from gateway.durable.execution import Execution
from gateway.durable.identity import name_of
from gateway.durable.program import OrchestratorFunction
from gateway.durable.replay import replay
from gateway.durable.testing.transcript import line_of
from gateway.durable.testing.words import (
    QUIET,
    START_US,
    Expect,
    continues_as_new,
    done,
    event,
    failed,
    fails,
    granted,
    later,
    matches,
    output,
    status,
)

TIMER_SLACK_US = 1_000
MAX_LINES_TOLD = 12

Outcome = TypeVar("Outcome")
OpenCall = h.TaskScheduled | h.EntityOperationCalled | h.SubOrchestrationInstanceCreated
Said = done | fails | granted | event | later
Must = Expect | status | output | failed | continues_as_new


class Playbook:
    """The transcript of one orchestration.

    instance: its id. now_us: the time that the transcript has come to. replay_each_turn: set it to False in long loops.
    """

    def __init__(
        self, function: OrchestratorFunction, input_: Json = None, instance: str = "proc-1", version: str = ""
    ) -> None:
        self.function = function
        self.instance = instance
        self.now_us = START_US
        self.unseen: deque[h.Action] = deque()
        self.open: dict[int, OpenCall] = {}
        self.timers: dict[int, int] = {}
        self.replay_each_turn = True
        self.transcript: list[str] = []
        self.seen_actions: list[h.Action] = []
        self._lock = 0
        self._begin(h.ExecutionStarted(name_of(function), pack(input_, "the input"), version))

    @property
    def custom_status(self) -> Json:
        """The custom status as it stands."""
        raw = self.execution.custom_status
        return None if raw is None else unpack(raw)

    def _begin(self, started: h.ExecutionStarted) -> None:
        self.execution = Execution(self.instance, self.function)
        self.turns: list[tuple[int, h.TurnRecord]] = []
        self._turn(started)

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
                case h.EntityLockRequested():
                    self._lock = action.id
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

    def __rshift__(self, said: Said) -> Self:
        loud = [a for a in self.unseen if not isinstance(a, QUIET)]
        assert not loud, self._story(f"the transcript does not expect: {line_of(loud[0])}")
        self.unseen.clear()
        self.transcript.append(f">> {said}")
        match said:
            case done():
                self._turn(_result(self._open_call(said.of), pack(said.result, "the result")))
            case fails():
                self._turn(_failure(self._open_call(said.of), FailureDetails(said.type, said.message)))
            case granted():
                assert self._lock, self._story("no lock was asked for")
                self._turn(h.EntityLockGranted(self._lock))
            case event():
                self._turn(h.EventRaised(said.name, pack(said.data, "the event")))
            case later():
                self._pass_time(self.now_us + int(said.seconds * 1e6))
        return self

    def _open_call(self, name: str) -> OpenCall:
        found = next((a for a in self.open.values() if not name or a.name == name), None)
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

    def __lshift__(self, expected: Must) -> Self:
        self.transcript.append(f"<< {expected}")
        match expected:
            case Expect():
                self._expect(expected)
            case status():
                told = self.custom_status
                assert matches(expected.wanted, told), self._story(f"the custom status is {told}")
            case output():
                given = unpack(self._ended(h.ExecutionCompleted).result)
                assert matches(expected.wanted, given), self._story(f"the output is {given}")
            case failed():
                details = self._ended(h.ExecutionFailed).details
                assert expected.text in str(details), self._story(f"it failed with {details}")
            case continues_as_new():
                self._continue(expected)
        return self

    def _continue(self, expected: continues_as_new) -> None:
        ended = self._ended(h.ContinueAsNew)
        given = unpack(ended.input)
        assert matches(expected.wanted, given), self._story(f"the next input is {given}")
        old = self.execution
        self._begin(
            msgspec.structs.replace(
                old.started, input=ended.input, first_task=old.next_task, carried=old.leftover_events()
            )
        )

    def _ended(self, kind: type[Outcome]) -> Outcome:
        outcome = self.execution.outcome
        assert isinstance(outcome, kind), self._story(
            f"expected {kind.__name__}, but it {'goes on' if outcome is None else line_of(outcome)}"
        )
        while self.unseen and self.unseen[0] is not outcome:
            action = self.unseen.popleft()
            assert isinstance(action, QUIET), self._story(f"the transcript does not expect: {line_of(action)}")
        self.unseen.clear()
        return outcome

    def _expect(self, expected: Expect) -> None:
        while self.unseen and isinstance(self.unseen[0], QUIET) and not self._fits(expected, self.unseen[0]):
            self.unseen.popleft()
        assert self.unseen, self._story(f"expected {expected}, the code decided nothing (more)")
        action = self.unseen.popleft()
        assert self._fits(expected, action), self._story(f"expected {expected}, but it {line_of(action)}")

    def _fits(self, expected: Expect, action: h.Action) -> bool:
        if type(action) is not expected.kind:
            return False
        match action:
            case h.TimerCreated():
                if expected.after_s is None:
                    return True
                return abs(action.due_us - self.now_us - int(expected.after_s * 1e6)) < TIMER_SLACK_US
            case h.EntityLockRequested():
                return not expected.target or expected.target == ", ".join(action.targets)
            case h.TaskScheduled() | h.SubOrchestrationInstanceCreated():
                return action.name == expected.name and matches(expected.input, unpack(action.input))
            case h.EntityOperationCalled() | h.EntityOperationSignaled():
                same = action.name == expected.name and expected.target in ("", action.target)
                return same and matches(expected.input, unpack(action.input))
            case h.EventSent():
                same = action.name == expected.name and expected.target in ("", action.instance)
                return same and matches(expected.input, unpack(action.data))
            case _:
                return True

    def _story(self, what: str) -> str:
        return what + "\n  after:\n    " + "\n    ".join(self.transcript[-MAX_LINES_TOLD:])


def _result(action: OpenCall, raw: Raw) -> h.Incoming:
    match action:
        case h.TaskScheduled():
            return h.TaskCompleted(action.id, raw)
        case h.SubOrchestrationInstanceCreated():
            return h.SubOrchestrationInstanceCompleted(action.id, raw)
        case _:
            return h.EntityOperationCompleted(action.id, raw)


def _failure(action: OpenCall, details: FailureDetails) -> h.Incoming:
    match action:
        case h.TaskScheduled():
            return h.TaskFailed(action.id, details)
        case h.SubOrchestrationInstanceCreated():
            return h.SubOrchestrationInstanceFailed(action.id, details)
        case _:
            return h.EntityOperationFailed(action.id, details)
