"""What an orchestration waits for, in words: read from the journal, by replay.

Pure. What must stay true: asking changes nothing. A crash here: nothing is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.clock import iso
from gateway.durable import history as h
from gateway.durable.errors import DurableError
from gateway.durable.execution import Execution
from gateway.durable.instances import Orchestration
from gateway.durable.registry import Registry
from gateway.durable.replay import replay
from gateway.durable.store import RecordRow
from gateway.durable.tasks import AllTask, AnyTask, Composite, EventTask, Task, TimerTask

MAX_DEPTH = 5


def waits_for(instance: Orchestration, registry: Registry, records: Sequence[RecordRow]) -> str:
    """A clause that follows the instance's id: ``waits for the event 'OperatorOverride' (at file.py:12)``."""
    if instance.stuck:
        return f"can't run: {instance.stuck}"
    if instance.suspended:
        return "is suspended, and nobody resumes it"
    turns = [
        (row.time_us, h.decode_turn(row.payload))
        for row in records
        if row.instance == instance.id and row.kind == h.TURN and row.seq >= instance.first_seq > 0
    ]
    if not turns:
        return "has not begun"
    try:
        function = registry.get_orchestrator(instance.name, instance.version).function
        execution = replay(instance.id, function, turns)
    except DurableError as error:
        return f"can't be replayed: {error}"
    task = execution.waits_for
    told = "waits for nothing" if task is None else f"waits for {_words(task, execution)} ({execution.line_of(0)})"
    execution.close()
    return told


def children_of(task: Task) -> list[Task]:
    """The leaves of a tree of tasks that have not completed."""
    if isinstance(task, Composite):
        return [leaf for child in task.children for leaf in children_of(child)]
    return [] if task.is_completed else [task]


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
    for _, event in execution.history:
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
