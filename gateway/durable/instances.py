"""What the engine keeps in memory of each live instance, and the rows that the journal keeps of it."""

from __future__ import annotations

import asyncio
import enum

import msgspec

from gateway.durable.codec import NULL, Raw
from gateway.durable.entity import EntityCore, encode_snapshot
from gateway.durable.errors import FailureDetails
from gateway.durable.execution import Execution
from gateway.durable.mailbox import Mailbox
from gateway.durable.store import InstanceRow

ORCHESTRATION = "orchestration"
ENTITY = "entity"


class OrchestrationRuntimeStatus(enum.StrEnum):
    """Status of an orchestration, with the names of Azure Durable Functions."""

    Pending = "Pending"
    Running = "Running"
    Completed = "Completed"
    ContinuedAsNew = "ContinuedAsNew"
    Failed = "Failed"
    Terminated = "Terminated"
    Suspended = "Suspended"

    __hash__ = str.__hash__  # that of Enum is written in Python, and each turn asks several times whether one has ended


TERMINAL = frozenset(
    {
        OrchestrationRuntimeStatus.Completed,
        OrchestrationRuntimeStatus.Failed,
        OrchestrationRuntimeStatus.Terminated,
    }
)


class OrchestrationState(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The part of an orchestration's row that only the engine reads. replays: how often it was replayed; that of the last
    replay is written with the turn after it."""

    version: str = ""
    execution: int = 1
    parent_task: int = 0
    next_task: int = 1
    events: int = 0
    custom_status: Raw = NULL
    output: Raw = NULL
    failure: FailureDetails | None = None
    reason: str = ""
    buffered: int = 0
    replays: int = 0
    lock_task: int = 0
    lock_targets: tuple[str, ...] = ()


encode_state = msgspec.json.Encoder().encode
decode_state = msgspec.json.Decoder(OrchestrationState).decode


class Instance:
    """What orchestrations and entities have in common.

    row: the committed row, what people see. last_batch: number of the batch that holds its latest turn.
    """

    __slots__ = ("activities", "created_us", "first_seq", "id", "last_batch", "mailbox", "name", "row", "updated_us")

    def __init__(self, instance: str, name: str, created_us: int) -> None:
        self.id = instance
        self.name = name
        self.created_us = created_us
        self.updated_us = created_us
        self.first_seq = 0
        self.last_batch = 0
        self.mailbox = Mailbox()
        self.activities: set[int] = set()
        self.row: InstanceRow | None = None

    def to_row(self) -> InstanceRow:
        """Its row as of now."""
        raise TypeError(f"{type(self).__name__} has no row")


class Orchestration(Instance):
    """A live orchestration.

    execution is None while it is on disk only. loading: the journal is being read for it. stuck: why it can't run. unsure:
    its id may have been used before. buffered: external events that its code has not asked for. waiters: futures of those
    who wait for its end. lock_task, lock_targets: the critical section that it asked for or is in (0: none).
    """

    __slots__ = (
        "buffered",
        "custom_status",
        "events",
        "execution",
        "execution_number",
        "failure",
        "loading",
        "lock_targets",
        "lock_task",
        "next_task",
        "output",
        "parent",
        "parent_task",
        "reason",
        "replays",
        "status",
        "stuck",
        "timers",
        "unsure",
        "version",
        "waiters",
    )

    def __init__(self, instance: str, name: str, created_us: int) -> None:
        super().__init__(instance, name, created_us)
        self.status = OrchestrationRuntimeStatus.Pending
        self.parent = ""
        self.parent_task = 0
        self.version = ""
        self.execution_number = 1
        self.next_task = 1
        self.events = 0
        self.custom_status: Raw = NULL
        self.output: Raw = NULL
        self.failure: FailureDetails | None = None
        self.reason = ""
        self.execution: Execution | None = None
        self.loading = False
        self.stuck = ""
        self.replays = 0
        self.timers: set[int] = set()
        self.unsure = False
        self.buffered = 0
        self.lock_task = 0
        self.lock_targets: tuple[str, ...] = ()
        self.waiters: dict[asyncio.Future[None], None] = {}

    @property
    def terminal(self) -> bool:
        """True once it has its outcome."""
        return self.status in TERMINAL

    @property
    def suspended(self) -> bool:
        """True while what comes is kept for later."""
        return self.status is OrchestrationRuntimeStatus.Suspended

    @property
    def settled(self) -> bool:
        """True once its outcome is on disk."""
        return self.status in TERMINAL and self.row is not None and self.row.status in TERMINAL

    def to_row(self) -> InstanceRow:
        """Its row as of now."""
        state = OrchestrationState(
            self.version,
            self.execution_number,
            self.parent_task,
            self.next_task,
            self.events,
            self.custom_status,
            self.output,
            self.failure,
            self.reason,
            self.buffered,
            self.replays,
            self.lock_task,
            self.lock_targets,
        )
        return InstanceRow(
            self.id,
            ORCHESTRATION,
            self.name,
            self.status._value_,
            self.parent,
            self.created_us,
            self.updated_us,
            self.first_seq,
            encode_state(state),
        )

    @classmethod
    def from_row(cls, row: InstanceRow) -> Orchestration:
        """As it was when the row was written."""
        state = decode_state(row.state)
        self = cls(row.instance, row.name, row.created_us)
        self.updated_us = row.updated_us
        self.first_seq = row.first_seq
        self.status = OrchestrationRuntimeStatus(row.status)
        self.parent = row.parent
        self.parent_task = state.parent_task
        self.version = state.version
        self.execution_number = state.execution
        self.next_task = state.next_task
        self.events = state.events
        self.custom_status = state.custom_status
        self.output = state.output
        self.failure = state.failure
        self.reason = state.reason
        self.buffered = state.buffered
        self.replays = state.replays
        self.lock_task = state.lock_task
        self.lock_targets = state.lock_targets
        self.row = row
        return self


class EntityInstance(Instance):
    """A live entity."""

    __slots__ = ("core",)

    def __init__(self, instance: str, name: str, created_us: int, core: EntityCore) -> None:
        super().__init__(instance, name, created_us)
        self.core = core

    def to_row(self) -> InstanceRow:
        """Its row as of now."""
        return InstanceRow(
            self.id,
            ENTITY,
            self.name,
            "",
            "",
            self.created_us,
            self.updated_us,
            self.first_seq,
            encode_snapshot(self.core.snapshot()),
        )
