"""The tree of tasks that an orchestrator waits on.

Leaves are completed by events (an activity's result, a fired timer, an external event); composites by their children. A
task completes once and never changes again. Nothing in here does I/O or knows the time: this runs at replay too.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Final

from gateway.durable.codec import Json


class TaskState(enum.Enum):
    """State of a task."""

    RUNNING = 0
    SUCCEEDED = 1
    FAILED = 2


class Raise(enum.Enum):
    """Type of RAISE: as ``default`` of a wait for an event it means: raise TimeoutError."""

    RAISE = "raise"


RAISE: Final = Raise.RAISE


class Task:
    """Something that an orchestrator can ``yield`` to wait for. owner: a mark of the execution that made it."""

    __slots__ = ("_parents", "_value", "id", "name", "owner", "state")

    def __init__(self, task_id: int, name: str = "", owner: object = None) -> None:
        self.id = task_id
        self.name = name
        self.owner = owner
        self.state = TaskState.RUNNING
        self._value: Json = None
        self._parents: list[Composite] = []

    @property
    def is_completed(self) -> bool:
        """True once the task has a result or an error."""
        return self.state is not TaskState.RUNNING

    @property
    def is_faulted(self) -> bool:
        """True when the task has failed."""
        return self.state is TaskState.FAILED

    @property
    def result(self) -> Json:
        """The result; None while the task runs; the exception when it failed."""
        return self._value

    @property
    def exception(self) -> BaseException | None:
        """The error of a failed task."""
        return self._value if self.state is TaskState.FAILED else None

    def succeed(self, value: Json) -> None:
        """Complete the task; nothing happens when it already is."""
        self._finish(TaskState.SUCCEEDED, value)

    def fail(self, error: BaseException) -> None:
        """Complete the task with an error; nothing happens when it already is."""
        self._finish(TaskState.FAILED, error)

    def _finish(self, state: TaskState, value: Json) -> None:
        if self.state is not TaskState.RUNNING:
            return
        self.state = state
        self._value = value
        for parent in self._parents:
            parent.child_completed(self)
        self._parents.clear()

    def _adopt(self, parent: Composite) -> None:
        if self.is_completed:
            parent.child_completed(self)
        else:
            self._parents.append(parent)


class TimerTask(Task):
    """A durable timer."""

    __slots__ = ("_cancel", "cancelled", "due_us")

    def __init__(self, task_id: int, due_us: int, cancel: Callable[[TimerTask], None], owner: object = None) -> None:
        super().__init__(task_id, "timer", owner)
        self.due_us = due_us
        self.cancelled = False
        self._cancel = cancel

    def cancel(self) -> None:
        """Give the timer up.

        Errors: ValueError when it has fired already.
        """
        if self.is_completed:
            raise ValueError("this timer has fired already and can't be cancelled")
        if not self.cancelled:
            self.cancelled = True
            self._cancel(self)


class EventTask(Task):
    """A wait for an external event, perhaps with a time-out.

    timed_out: the time-out came first; the wait is then over and takes no later event.
    """

    __slots__ = ("timed_out", "timer")

    def __init__(self, task_id: int, name: str, owner: object = None) -> None:
        super().__init__(task_id, name, owner)
        self.timed_out = False
        self.timer: TimerTask | None = None


class Composite(Task):
    """A task made of tasks of its own execution.

    Errors: TypeError for anything else.
    """

    __slots__ = ("children",)

    def __init__(self, children: Sequence[Task], owner: object = None) -> None:
        super().__init__(0, "", owner)
        if isinstance(children, Task):
            raise TypeError("task_all and task_any take a list of tasks, not a single one")
        self.children = list(children)
        for child in self.children:
            if not isinstance(child, Task):
                raise TypeError(f"task_all and task_any take tasks only, not {type(child).__name__}")
            if child.owner is not owner:
                raise TypeError(f"the task {child.name!r} belongs to another orchestration")

    def start(self) -> None:
        """Look at the children, some of which may have completed already."""
        for child in self.children:
            child._adopt(self)

    def child_completed(self, child: Task) -> None:
        """One child has its outcome."""


class AllTask(Composite):
    """Completes when all children have; the results in the order of the children, or the first failure."""

    __slots__ = ("_failure", "_open")

    def __init__(self, children: Sequence[Task], owner: object = None) -> None:
        super().__init__(children, owner)
        self._open = len(self.children)
        self._failure: BaseException | None = None
        if not self.children:
            self.succeed([])
        self.start()

    def child_completed(self, child: Task) -> None:
        """Count down; complete at zero."""
        self._open -= 1
        if self._failure is None:
            self._failure = child.exception
        if self._open:
            return
        if self._failure is not None:
            self.fail(self._failure)
        else:
            self.succeed([c.result for c in self.children])


class AnyTask(Composite):
    """Completes with the first child that completes, be it failed; its result is that child."""

    __slots__ = ()

    def __init__(self, children: Sequence[Task], owner: object = None) -> None:
        super().__init__(children, owner)
        if not self.children:
            raise ValueError("task_any needs at least one task")
        self.start()

    def child_completed(self, child: Task) -> None:
        """The first one wins."""
        self.succeed(child)
