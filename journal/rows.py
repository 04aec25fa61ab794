"""The shapes that cross the journal's border: plain tuples in a fixed field order, and small frozen results.

What must stay true: the field order of the tuples is that of the engine's rows. Nothing here does I/O.
All times are microseconds since the Unix epoch, given by the caller: the journal never asks a clock for one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol, TypeAlias

RecordTuple: TypeAlias = tuple[int, str, str, int, bytes]
"""seq, instance, kind, time_us, payload"""
LinkedRecord: TypeAlias = tuple[int, str, str, int, int, bytes]
"""seq, instance, kind, time_us, prev, payload: as stored; prev is the instance's record before this one, or 0"""
InstanceTuple: TypeAlias = tuple[str, str, str, str, str, int, int, int, bytes]
"""instance, kind, name, status, parent, created_us, updated_us, first_seq, state"""
TimerTuple: TypeAlias = tuple[str, int, int, bytes]
"""instance, task_id, due_us, payload"""
ActivityTuple: TypeAlias = tuple[str, int, bytes]
"""instance, task_id, payload"""
MessageTuple: TypeAlias = tuple[int, str, bytes]
"""message_id, target, payload"""

BatchTuple: TypeAlias = tuple[int, int, int, int, int, bytes, bytes]
"""batch, first_seq, last_seq, last_message_id, time_us, prev_hash, hash"""

ENTITY = "entity"
"""The kind of an instance that lives for ever: it is recovered whatever its status is."""
TERMINAL_STATUSES = ("Completed", "Failed", "Terminated")
"""The statuses of orchestrations that are not recovered. schema.sql spells them out in an index."""

MAX_BATCH_RECORDS = 100_000
"""A larger batch is refused: so a check can hold any batch in memory, and a damaged row can't claim the whole log."""


class Records(list[RecordTuple]):
    """Records as they were asked for; where they end at a cut, the name of the archive that holds the next older one."""

    __slots__ = ("archived_in",)

    def __init__(self, records: Iterable[RecordTuple] = (), archived_in: str = "") -> None:
        super().__init__(records)
        self.archived_in = archived_in


@dataclass(frozen=True, slots=True)
class Note:
    """A statement of the journal about itself. Its batch holds nothing else; its time is the batch's."""

    batch: int
    time_us: int
    kind: str
    """"archived", "loss-accepted" or "restored"."""
    payload: bytes
    """JSON."""


@dataclass(frozen=True, slots=True)
class Archived:
    """A part of the log that was moved to a file: whole batches, with all their records."""

    archive: int
    """Counts from 1."""
    first_batch: int
    last_batch: int
    first_seq: int
    last_seq: int
    time_us: int
    """Of the last batch."""
    prev_hash: bytes
    """Of the batch before the first."""
    hash: bytes
    """Of the last batch."""
    kept: int
    """So many records up to last_seq stayed in the journal too, those of earlier archives included."""
    kept_sha256: bytes
    """Of their canonical bytes, in the order of seq."""
    file: str
    """Its name, without a folder: people move archives."""
    file_sha256: bytes

    @property
    def batches(self) -> int:
        """How many."""
        return self.last_batch - self.first_batch + 1

    @property
    def records(self) -> int:
        """How many."""
        return self.last_seq - self.first_seq + 1

    @property
    def head(self) -> Head:
        """Its end, as people see it."""
        return Head(self.last_batch, self.last_seq, self.hash.hex(), self.time_us)


class BatchLike(Protocol):
    """What ``Journal.commit`` reads of a batch. Removals are applied before additions."""

    @property
    def time_us(self) -> int: ...
    @property
    def records(self) -> Sequence[RecordTuple]: ...
    @property
    def instances(self) -> Mapping[str, InstanceTuple]: ...
    @property
    def instances_removed(self) -> AbstractSet[str]: ...
    @property
    def messages_added(self) -> Mapping[int, MessageTuple]: ...
    @property
    def messages_removed(self) -> AbstractSet[int]: ...
    @property
    def timers_added(self) -> Mapping[tuple[str, int], TimerTuple]: ...
    @property
    def timers_removed(self) -> AbstractSet[tuple[str, int]]: ...
    @property
    def activities_added(self) -> Mapping[tuple[str, int], ActivityTuple]: ...
    @property
    def activities_removed(self) -> AbstractSet[tuple[str, int]]: ...


@dataclass(frozen=True, slots=True)
class Head:
    """Where the chain ends. Sent out of the machine, it is the witness against a cut or rewritten journal."""

    batch: int
    """Number of the last batch; 0 in an empty journal."""
    seq: int
    """Sequence number of the last record; 0 if there is none."""
    hash_hex: str
    """SHA-256 of the last batch; in an empty journal the genesis hash."""
    time_us: int
    """The highest time that the journal has seen."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a journal holds when it is opened. Instances: all entities, and all orchestrations that are not terminal."""

    last_seq: int
    last_message_id: int
    last_time_us: int
    instances: Sequence[InstanceTuple]
    messages: Sequence[MessageTuple]
    timers: Sequence[TimerTuple]
    activities: Sequence[ActivityTuple]


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """Outcome of a check of the chain. When it failed, ``first_bad_batch`` and ``reason`` say where and why."""

    ok: bool
    batches: int
    """Batches found good."""
    records: int
    """Records found good."""
    head: Head
    """The last good batch."""
    first_bad_batch: int | None = None
    reason: str | None = None
    not_compared: int = 0
    """Records that are about to be removed behind a cut, and of which only their archive can tell."""


@dataclass(frozen=True, slots=True)
class JournalStats:
    """Figures since the journal was opened. Sizes in bytes, durations in milliseconds."""

    batches: int
    records: int
    commit_ms_last: float
    commit_ms_max: float
    wal_bytes: int
    wal_alarm: bool
    """The write-ahead log exceeds its limit: some reader keeps it from being checkpointed, or the disk is ill."""
    mark_found: str = ""
    """What the start found of the high-water mark: "held", "none" (one was made), "unreadable" (nothing compared)."""
    mark_batch: int = 0
    """The batch that the high-water mark names; in order, the head's."""
    mark_alarm: str = ""
    """Why the high-water mark can't follow the journal; empty while it does."""
    file_bytes: int = 0
    """Of the database file alone."""
    free_bytes: int = 0
    """Of these, free to be used again (as of the last checkpoint); an offline ``compact`` gives them back."""
    archives: int = 0
    archived_batches: int = 0
    archived_records: int = 0
    """What was moved into archive files since the journal began."""
    removing: bool = False
    """An archive was made, and not all that it holds has been removed yet; the next archiving goes on with it."""
