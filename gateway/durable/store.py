"""What the engine needs of a journal: one atomic batch at a time, and a bulk read at the start.

The engine knows nothing of SQLite, and the journal knows nothing of orchestrations: they meet here, in plain tuples.
What must stay true: a batch is applied whole or not at all; batches are durable in the order in which they were given;
``commit`` returns only once the batch is on disk. Any error of ``commit`` ends the daemon (fail stop).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class RecordRow(NamedTuple):
    """One append-only record. seq is global and gap-free; payload is JSON."""

    seq: int
    instance: str
    kind: str
    time_us: int
    payload: bytes


class InstanceRow(NamedTuple):
    """The latest state of an orchestration or entity. first_seq: where the current execution's records begin."""

    instance: str
    kind: str
    name: str
    status: str
    parent: str
    created_us: int
    updated_us: int
    first_seq: int
    state: bytes


class TimerRow(NamedTuple):
    """A pending durable timer."""

    instance: str
    task_id: int
    due_us: int
    payload: bytes


class ActivityRow(NamedTuple):
    """An activity that was started (or may have been) and has no result yet."""

    instance: str
    task_id: int
    payload: bytes


class MessageRow(NamedTuple):
    """A message that has been sent to an instance and not been handled yet."""

    message_id: int
    target: str
    payload: bytes


class Batch:
    """Everything that one group commit makes durable. Additions and removals within one batch cancel out."""

    __slots__ = (
        "activities_added",
        "activities_removed",
        "instances",
        "instances_removed",
        "messages_added",
        "messages_removed",
        "records",
        "time_us",
        "timers_added",
        "timers_removed",
    )

    def __init__(self) -> None:
        self.time_us = 0
        self.records: list[RecordRow] = []
        self.instances: dict[str, InstanceRow] = {}
        self.instances_removed: set[str] = set()
        self.messages_added: dict[int, MessageRow] = {}
        self.messages_removed: set[int] = set()
        self.timers_added: dict[tuple[str, int], TimerRow] = {}
        self.timers_removed: set[tuple[str, int]] = set()
        self.activities_added: dict[tuple[str, int], ActivityRow] = {}
        self.activities_removed: set[tuple[str, int]] = set()

    @property
    def empty(self) -> bool:
        """True when there is nothing to write."""
        return not (
            self.records
            or self.instances
            or self.instances_removed
            or self.messages_added
            or self.messages_removed
            or self.timers_added
            or self.timers_removed
            or self.activities_added
            or self.activities_removed
        )

    def add_message(self, row: MessageRow) -> None:
        """The message is under way from now on."""
        self.messages_added[row.message_id] = row

    def remove_message(self, message_id: int) -> None:
        """The message was handled."""
        if self.messages_added.pop(message_id, None) is None:
            self.messages_removed.add(message_id)

    def add_timer(self, row: TimerRow) -> None:
        """The timer runs from now on."""
        self.timers_added[row.instance, row.task_id] = row

    def remove_timer(self, instance: str, task_id: int) -> None:
        """The timer fired or was cancelled."""
        if self.timers_added.pop((instance, task_id), None) is None:
            self.timers_removed.add((instance, task_id))

    def add_activity(self, row: ActivityRow) -> None:
        """The activity may start once this batch is on disk."""
        self.activities_added[row.instance, row.task_id] = row

    def remove_activity(self, instance: str, task_id: int) -> None:
        """The activity has its result, or was cancelled."""
        if self.activities_added.pop((instance, task_id), None) is None:
            self.activities_removed.add((instance, task_id))


class Recovered(Protocol):
    """What a journal holds when it is opened. Instances: all entities, and all orchestrations that are not terminal."""

    @property
    def last_seq(self) -> int: ...
    @property
    def last_message_id(self) -> int: ...
    @property
    def last_time_us(self) -> int: ...
    @property
    def instances(self) -> Sequence[tuple[str, str, str, str, str, int, int, int, bytes]]: ...
    @property
    def messages(self) -> Sequence[tuple[int, str, bytes]]: ...
    @property
    def timers(self) -> Sequence[tuple[str, int, int, bytes]]: ...
    @property
    def activities(self) -> Sequence[tuple[str, int, bytes]]: ...


class Store(Protocol):
    """The journal, as the engine sees it. Only one caller at a time calls ``commit``; reads may run beside it."""

    async def recover(self) -> Recovered:
        """Everything that is live, in bulk; called once, before the first commit."""

    async def commit(self, batch: Batch) -> None:
        """Make the batch durable. Removals are applied before additions. Returns once it is on disk."""

    async def history(self, instance: str, first_seq: int) -> Sequence[tuple[int, str, str, int, bytes]]:
        """Committed records (as RecordRow) of one instance from first_seq on, in order."""

    async def instance(self, instance: str) -> tuple[str, str, str, str, str, int, int, int, bytes] | None:
        """The committed row (as InstanceRow) of one instance, terminal ones too."""

    async def instances(
        self,
        *,
        kind: str | None = None,
        name: str | None = None,
        statuses: Sequence[str] | None = None,
        prefix: str | None = None,
        created_from_us: int | None = None,
        created_to_us: int | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Sequence[tuple[str, str, str, str, str, int, int, int, bytes]]:
        """Committed rows in the order of instance id, at most limit, those after the id ``after``."""
