"""What an orchestration waits for just now, in words, with the line of its code. Pure.

What must stay true: asking changes nothing. A crash here: nothing is kept.
"""

from __future__ import annotations

from gateway.clock import iso
from gateway.durable import history as h
from gateway.durable.execution import Execution
from gateway.durable.tasks import AllTask, AnyTask, EventTask, Task, TimerTask

MAX_DEPTH = 5


def wait_in_words(execution: Execution) -> str:
    """A clause that follows the instance's id: ``waits for the event 'OperatorOverride' (at file.py:12)``."""
    task = execution.waits_for
    return "waits for nothing" if task is None else f"waits for {_words(task, execution)} ({execution.line_of(0)})"


def _words(task: Task, execution: Execution, depth: int = 0) -> str:
    match task:
        case EventTask():
            limit = "" if task.timer is None else f" until {iso(task.timer.due_us)}"
            return f"the event {task.name!r}{limit}"
        case TimerTask():
            return f"its timer at {iso(task.due_us)}"
        case AllTask() | AnyTask():
            if depth >= MAX_DEPTH:
                return "more"
            what = "all of" if isinstance(task, AllTask) else "any of"
            inner = [_words(child, execution, depth + 1) for child in task.children if not child.is_completed]
            return f"{what} ({', '.join(inner)})" if len(inner) != 1 else inner[0]
        case _:
            return _call(task, execution)


def _call(task: Task, execution: Execution) -> str:
    for event in execution.history:
        match event:
            case h.TaskScheduled(id=task.id):
                return f"the activity {event.name!r}"
            case h.SubOrchestrationInstanceCreated(id=task.id):
                return f"the sub-orchestration {event.instance!r} ({event.name})"
            case h.EntityOperationCalled(id=task.id):
                return f"the answer of {event.target} to {event.name!r}"
            case h.EntityLockRequested(id=task.id):
                return f"the lock of {', '.join(event.targets)}"
    return task.name
