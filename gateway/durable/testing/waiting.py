"""What an orchestration waits for, in words: read from the journal, by replay.

Pure. What must stay true: asking changes nothing. A crash here: nothing is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.durable import history as h
from gateway.durable.errors import DurableError
from gateway.durable.instances import Orchestration
from gateway.durable.registry import Registry
from gateway.durable.replay import replay
from gateway.durable.store import RecordRow
from gateway.durable.tasks import Composite, Task
from gateway.durable.waits import wait_in_words


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
    told = wait_in_words(execution)
    execution.close()
    return told


def children_of(task: Task) -> list[Task]:
    """The leaves of a tree of tasks that have not completed."""
    if isinstance(task, Composite):
        return [leaf for child in task.children for leaf in children_of(child)]
    return [] if task.is_completed else [task]
