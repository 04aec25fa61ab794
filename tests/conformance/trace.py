"""Takes the journaled events of one execution through the pure core again, and notes at each event what the code did.

The journal says what was decided in a turn; an exporter must know more: at which event, and when each task was first
waited for, because v1 schedules a task then and not when it is made. The journaled decisions must be the same as those of
this replay.

A trace can also run with one of v1's own rules in the place of ours (``Rules``): that is how a known difference is told
from an unknown one. With v1's rule our core must decide just what v1 does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gateway.durable import DurableOrchestrationContext, RetryOptions
from gateway.durable import history as h
from gateway.durable.codec import NULL
from gateway.durable.execution import Execution
from gateway.durable.external import ExternalEvents
from gateway.durable.tasks import AllTask, Composite, EventTask, Task
from tests.conformance.decisions import Action, Decisions, canonical
from tests.conformance.programs import Json, interpret, marker
from tests.conformance.world import OURS


class FailFastAll(AllTask):
    """v1: task_all fails with its first failure, without waiting for the others."""

    __slots__ = ()

    def child_completed(self, child: Task) -> None:
        """Fail at once."""
        super().child_completed(child)
        if child.exception is not None:
            self.fail(child.exception)


class NewestWaitFirst(ExternalEvents):
    """v1: an event goes to the newest of several waits for its name."""

    def raised(self, event: h.EventRaised) -> None:
        """Turn the queue of waits round."""
        waits = self._waits.get(event.name.lower())
        if waits:
            waits.rotate(1)
        super().raised(event)
        waits = self._waits.get(event.name.lower())
        if waits:
            waits.rotate(-1)


@dataclass(frozen=True, slots=True)
class Rules:
    """Which rules the core goes by: ours, unless told otherwise."""

    fail_fast: bool = False
    newest_wait_first: bool = False


@dataclass(slots=True)
class Note:
    """Something that the code did: it waited for a tree of tasks (leaves), or signalled (signal: the action's id).

    late: after continue_as_new.
    """

    leaves: list[Task] = field(default_factory=list)
    signal: int = 0
    late: bool = False


@dataclass(slots=True)
class Step:
    """What one incoming event led to: what the code did, in order, and the actions noted for the journal."""

    notes: list[Note]
    actions: list[h.Action]


class _Watched:
    """The context, watched."""

    def __init__(self, context: DurableOrchestrationContext, trace: Trace) -> None:
        self._context = context
        self._trace = trace

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def call_activity_with_retry(self, name: str, retry: RetryOptions, input_: Json) -> Task:
        task = self._context.call_activity_with_retry(name, retry, input_)
        self._trace.policies[task.id] = retry
        return task

    def call_sub_orchestrator_with_retry(
        self, name: str, retry: RetryOptions, input_: Json, instance: str | None
    ) -> Task:
        task = self._context.call_sub_orchestrator_with_retry(name, retry, input_, instance)
        self._trace.policies[task.id] = retry
        return task

    def signal_entity(self, *arguments: Any) -> None:
        self._context.signal_entity(*arguments)
        self._trace.note(Note(signal=self._trace.core.next_task - 1))

    def continue_as_new(self, input_: Json) -> None:
        self._context.continue_as_new(input_)
        self._trace.made_in_time = min(self._trace.made_in_time, self._trace.core.next_task)

    def task_all(self, tasks: list[Task]) -> AllTask:
        core, rules = self._trace.core, self._trace.rules
        task = FailFastAll(tasks, core.token) if rules.fail_fast else self._context.task_all(tasks)
        self._trace.alls.append(task)
        return task


class Trace:
    """One execution, event by event.

    policies: by task id. alls: every ``all`` that the code made. tasks: the action that asked for a task, by id.
    made_in_time: ids below it were made before continue_as_new. decided: tasks when they were first waited for, signals
    when they were sent, and the end; "late" is what came after continue_as_new.
    """

    def __init__(self, instance: str, rules: Rules = Rules()) -> None:
        self.rules = rules
        self.policies: dict[int, RetryOptions] = {}
        self.alls: list[AllTask] = []
        self.tasks: dict[int, h.Action] = {}
        self.cancelled: set[int] = set()
        self.made_in_time: float = math.inf
        self.decided: list[tuple[str, Task | int | h.ContinueAsNew]] = []
        self._notes: list[Note] = []
        self._waited: set[Task] = set()
        self.core = Execution(instance, self._watch)
        if rules.newest_wait_first:
            self.core._external = NewestWaitFirst(self.core.token)

    def begin_turn(self, time_us: int) -> None:
        """Open a turn."""
        self.core.begin_turn(time_us)

    def take(self, event: h.Incoming) -> Step:
        """Take one event of the open turn."""
        self._notes = []
        self.core.apply(event)
        actions = self.core.end_turn()
        for action in actions:
            if isinstance(action, h.TimerCancelled):
                self.cancelled.add(action.id)
            elif isinstance(action, h.ContinueAsNew):
                self.decided.append(("continue", action))
            else:
                self.tasks[getattr(action, "id", 0)] = action
        return Step(self._notes, actions)

    def note(self, note: Note) -> None:
        """The code did something."""
        self._notes.append(note)
        late = note.late = self.core.continue_input is not None
        if note.signal:
            self.decided.append(("late" if late else "signal", note.signal))
        for leaf in note.leaves:
            if leaf not in self._waited and not (late and isinstance(leaf, EventTask)):
                self._waited.add(leaf)
                self.decided.append(("late" if late else "task", leaf))

    def _watch(self, context: DurableOrchestrationContext) -> Generator[Any, Any, Json]:
        generator = interpret(_Watched(context, self), OURS)
        step: Callable[[], Any] = lambda: next(generator)  # noqa: E731
        while True:
            try:
                task = step()
            except StopIteration as stop:
                return stop.value
            self.note(Note(leaves=list(_leaves(task))))
            try:
                result = yield task
            except Exception as error:  # noqa: BLE001 - it is the code's
                step = lambda error=error: generator.throw(error)  # noqa: E731
            else:
                step = lambda result=result: generator.send(result)  # noqa: E731

    # What it says

    def decisions(self) -> Decisions:
        """All decisions so far, in the words and by the order of v1."""
        found = Decisions([self._action(kind, what) for kind, what in self.decided if not self._ignored(kind, what)])
        match self.core.outcome:
            case h.ExecutionCompleted(result):
                found.state, found.output = "completed", _text(result)
            case h.ExecutionFailed(details):
                found.state, found.error = "failed", marker(details.message)
            case h.ContinueAsNew():
                found.state = "continued"
        if self.core.custom_status is not None:
            found.status = _text(self.core.custom_status)
        return found

    def _ignored(self, kind: str, what: Task | int | h.ContinueAsNew) -> bool:
        """What is asked for after continue_as_new is not journaled; what was made before it, v1 never schedules."""
        if kind != "late" or isinstance(what, h.ContinueAsNew):
            return False
        task_id = what.id if isinstance(what, Task) else what
        return task_id < self.made_in_time or task_id not in self.tasks

    def _action(self, kind: str, what: Task | int | h.ContinueAsNew) -> Action:
        if isinstance(what, h.ContinueAsNew):
            return (kind, _text(what.input))
        if isinstance(what, EventTask):
            return ("event", what.name)
        task_id = what.id if isinstance(what, Task) else what
        action = self.tasks[task_id]
        match action:
            case h.TaskScheduled():
                return ("activity", action.name, _text(action.input), self._policy(task_id))
            case h.SubOrchestrationInstanceCreated():
                own_id = action.instance == f"{self.core.instance}:{task_id:04x}"
                named = "" if own_id else action.instance
                return ("sub", action.name, _text(action.input), named, self._policy(task_id))
            case h.TimerCreated():
                return ("timer", str(action.due_us), str(task_id in self.cancelled))
            case h.EntityOperationCalled():
                return ("call", action.target, action.name, _text(action.input))
            case h.EntityOperationSignaled():
                return ("signal", action.target, action.name, _text(action.input))
            case _:
                raise AssertionError(f"v1 has no words for {action}")

    def _policy(self, task_id: int) -> str:
        policy = self.policies.get(task_id)
        if policy is None:
            return ""
        return f"{policy.first_retry_interval_in_milliseconds} ms, {policy.max_number_of_attempts} times"

    def half_failed(self) -> list[AllTask]:
        """Each ``all`` that has a failed part and another one that still runs: there v1 goes its own way."""
        return [
            task
            for task in self.alls
            if any(c.is_faulted for c in task.children) and not all(c.is_completed for c in task.children)
        ]


def _leaves(task: Task) -> Generator[Task, None, None]:
    if isinstance(task, Composite):
        for child in task.children:
            yield from _leaves(child)
    else:
        yield task


def _text(raw: msgspec.Raw) -> str:
    return "null" if raw is NULL else canonical(json.loads(bytes(raw)))
