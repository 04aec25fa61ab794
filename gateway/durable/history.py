"""What the journal holds of an orchestration: events, one record a turn.

A turn takes some messages (*incoming* events) and yields decisions (*actions*); both are journaled together as one
record of kind ``turn`` whose time is ``current_utc_datetime`` of that turn. Replay feeds the incoming events of each
record to the code and compares its decisions with the recorded ones. Kinds of events carry the names of the Durable Task
Framework. Version of this vocabulary: ``FORMAT``; a field may be added with a default, never renamed or reused (``state``
was one of ``EntityRecord``).

Ids count the actions of an instance, in order of their creation, from 1. They go on over continue-as-new and over the
reuse of an instance id, so a late result can never be taken for that of another task.
"""

from __future__ import annotations

from typing import ClassVar, get_args

import msgspec

from gateway.durable.codec import NULL, Raw
from gateway.durable.errors import FailureDetails

FORMAT = 1

TURN = "turn"
OPERATION = "operations"


class Event(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag=True, gc=False):
    """Base of all events. They hold plain data, so no cycle of theirs is worth the garbage collector's time."""

    incoming: ClassVar[bool] = False


class EventRaised(Event, frozen=True, omit_defaults=True, tag=True):
    """An external event arrived. raised_by: who sent it, where known."""

    incoming: ClassVar[bool] = True
    name: str
    data: Raw = NULL
    raised_by: str = ""


class ExecutionStarted(Event, frozen=True, omit_defaults=True, tag=True):
    """An orchestration starts (again, after continue-as-new).

    parent, parent_task: who waits for the outcome. first_task: ids of this execution start here. fingerprint: hash of the
    code that ran it. carried: external events that the execution before it left unhandled. restarts: how many executions
    before it, in a row, ended without having waited for anything.
    """

    incoming: ClassVar[bool] = True
    name: str
    input: Raw = NULL
    version: str = ""
    parent: str = ""
    parent_task: int = 0
    first_task: int = 1
    execution: int = 1
    fingerprint: str = ""
    carried: tuple[EventRaised, ...] = ()
    restarts: int = 0
    format: int = FORMAT


class TaskCompleted(Event, frozen=True, omit_defaults=True, tag=True):
    """An activity ended well."""

    incoming: ClassVar[bool] = True
    id: int
    result: Raw = NULL


class TaskFailed(Event, frozen=True, omit_defaults=True, tag=True):
    """An activity failed."""

    incoming: ClassVar[bool] = True
    id: int
    details: FailureDetails


class TimerFired(Event, frozen=True, omit_defaults=True, tag=True):
    """A timer came due."""

    incoming: ClassVar[bool] = True
    id: int


class SubOrchestrationInstanceCompleted(Event, frozen=True, omit_defaults=True, tag=True):
    """A sub-orchestration ended well."""

    incoming: ClassVar[bool] = True
    id: int
    result: Raw = NULL


class SubOrchestrationInstanceFailed(Event, frozen=True, omit_defaults=True, tag=True):
    """A sub-orchestration failed or was terminated."""

    incoming: ClassVar[bool] = True
    id: int
    details: FailureDetails


class EntityOperationCompleted(Event, frozen=True, omit_defaults=True, tag=True):
    """An entity answered."""

    incoming: ClassVar[bool] = True
    id: int
    result: Raw = NULL


class EntityOperationFailed(Event, frozen=True, omit_defaults=True, tag=True):
    """An entity's operation failed."""

    incoming: ClassVar[bool] = True
    id: int
    details: FailureDetails


class EntityLockGranted(Event, frozen=True, omit_defaults=True, tag=True):
    """All entities that were to be locked are; the critical section begins."""

    incoming: ClassVar[bool] = True
    id: int


class ExecutionSuspended(Event, frozen=True, omit_defaults=True, tag=True):
    """Someone suspended the orchestration: what comes is kept until it is resumed."""

    incoming: ClassVar[bool] = True
    reason: str = ""
    raised_by: str = ""


class ExecutionResumed(Event, frozen=True, omit_defaults=True, tag=True):
    """Someone resumed the orchestration."""

    incoming: ClassVar[bool] = True
    reason: str = ""
    raised_by: str = ""


class ExecutionRewound(Event, frozen=True, omit_defaults=True, tag=True):
    """Someone took a failed orchestration back to before its failure (see ``rewound``).

    until: number of the record from which on its turns count no more; 0 when it starts over. first_task: ids go on here.
    again: steps whose failure counts no more; they run again.
    """

    incoming: ClassVar[bool] = True
    until: int
    first_task: int
    reason: str = ""
    raised_by: str = ""
    again: tuple[int, ...] = ()


class ExecutionTerminated(Event, frozen=True, omit_defaults=True, tag=True):
    """Someone ended the orchestration from outside."""

    incoming: ClassVar[bool] = True
    reason: str = ""
    raised_by: str = ""
    recursive: bool = True


class TaskScheduled(Event, frozen=True, omit_defaults=True, tag=True):
    """An activity is to run. operation_id stays the same over retries and restarts."""

    id: int
    name: str
    input: Raw = NULL
    attempt: int = 1
    operation_id: str = ""


class TimerCreated(Event, frozen=True, omit_defaults=True, tag=True):
    """A timer is to fire at due_us."""

    id: int
    due_us: int


class TimerCancelled(Event, frozen=True, omit_defaults=True, tag=True):
    """A timer is no longer wanted."""

    id: int


class SubOrchestrationInstanceCreated(Event, frozen=True, omit_defaults=True, tag=True):
    """A sub-orchestration is to start."""

    id: int
    name: str
    instance: str
    input: Raw = NULL
    version: str = ""


class EntityOperationCalled(Event, frozen=True, omit_defaults=True, tag=True):
    """An entity is asked, and an answer waited for."""

    id: int
    target: str
    name: str
    input: Raw = NULL


class EntityOperationSignaled(Event, frozen=True, omit_defaults=True, tag=True):
    """An entity is told something; at due_us, if that is not 0."""

    id: int
    target: str
    name: str
    input: Raw = NULL
    due_us: int = 0


class EntityLockRequested(Event, frozen=True, omit_defaults=True, tag=True):
    """These entities are to be locked for this orchestration, in this order."""

    id: int
    targets: tuple[str, ...]


class EntityUnlockSent(Event, frozen=True, omit_defaults=True, tag=True):
    """The critical section that lock ``id`` began has ended."""

    id: int


class EventSent(Event, frozen=True, omit_defaults=True, tag=True):
    """Another orchestration is sent an external event."""

    id: int
    instance: str
    name: str
    data: Raw = NULL


class ContinueAsNew(Event, frozen=True, omit_defaults=True, tag=True):
    """This execution ends and the next one starts with this input."""

    input: Raw = NULL


class ExecutionCompleted(Event, frozen=True, omit_defaults=True, tag=True):
    """The orchestrator returned."""

    result: Raw = NULL


class ExecutionFailed(Event, frozen=True, omit_defaults=True, tag=True):
    """The orchestrator raised, or can't go on. task: the step whose failure ended it, 0 if none did."""

    details: FailureDetails
    task: int = 0


Incoming = (
    ExecutionStarted
    | EventRaised
    | TaskCompleted
    | TaskFailed
    | TimerFired
    | SubOrchestrationInstanceCompleted
    | SubOrchestrationInstanceFailed
    | EntityOperationCompleted
    | EntityOperationFailed
    | EntityLockGranted
    | ExecutionSuspended
    | ExecutionResumed
    | ExecutionRewound
    | ExecutionTerminated
)
Step = (
    TaskScheduled
    | TimerCreated
    | TimerCancelled
    | SubOrchestrationInstanceCreated
    | EntityOperationCalled
    | EntityOperationSignaled
    | EntityLockRequested
    | EntityUnlockSent
    | EventSent
)
End = ContinueAsNew | ExecutionCompleted | ExecutionFailed
Action = Step | End


class TurnRecord(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One turn of one orchestration. custom_status is there (that is: not the object NULL) when this turn set it."""

    events: list[Incoming | Action]
    custom_status: Raw = NULL


class OperationRecord(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One operation of an entity, as journaled.

    caller: who asked (an instance, ``client:…``, or empty). actions: what it asked for, in words that an auditor reads.
    """

    name: str
    input: Raw = NULL
    caller: str = ""
    result: Raw = NULL
    failure: FailureDetails | None = None
    actions: tuple[EntityAction, ...] = ()


class EntityRecord(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One turn of one entity: its operations in order, and a seal on the state that they left.

    state_sha256: of the state's JSON, empty when there is none. The state itself is in the entity's row, replaced with each
    turn, and not in the log as well: it follows from the operations, and would be a third of all bytes on the flash. The
    seal ties the row, which the hash chain does not cover, to the log, which it does.
    """

    operations: list[OperationRecord]
    state_sha256: str = ""


class EntityActivity(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag_field="type", tag="TaskScheduled"):
    """An entity starts an activity; its outcome comes back as operation ``on_result``."""

    id: int
    name: str
    on_result: str
    input: Raw = NULL
    context: Raw = NULL
    operation_id: str = ""


class EntitySignal(
    msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag_field="type", tag="EntityOperationSignaled"
):
    """An entity tells another one something; at due_us, if that is not 0."""

    target: str
    name: str
    input: Raw = NULL
    due_us: int = 0


class EntityStarts(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag_field="type", tag="ExecutionStarted"):
    """An entity starts an orchestration."""

    instance: str
    name: str
    input: Raw = NULL
    version: str = ""


class EntityReply(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag_field="type", tag="Reply"):
    """An entity answers a caller that it had let wait."""

    caller: str
    caller_task: int
    result: Raw = NULL
    failure: FailureDetails | None = None


EntityAction = EntityActivity | EntitySignal | EntityStarts | EntityReply

_PAYLOADS = {
    kind: tuple(field.name for field in msgspec.structs.fields(kind) if field.type is Raw)
    for kind in (*get_args(Action), *get_args(EntityAction))
}


def payload_bytes(action: Action | EntityAction) -> int:
    """Bytes of what an action hands over."""
    size = 0
    for field in _PAYLOADS[type(action)]:
        size += len(getattr(action, field))
    return size


encode_turn = msgspec.json.Encoder().encode
decode_turn = msgspec.json.Decoder(TurnRecord).decode
decode_entity_record = msgspec.json.Decoder(EntityRecord).decode
