"""A journal in memory that satisfies the engine's Store, and that a test can break.

It keeps every committed batch, so that a test can go back to any commit boundary (``after``) and recover from there. It
can hold a commit open (``hold``, ``let_go``), refuse one as a full disk does (``fail_at``), and lose its power right
before one or right after it (``lose_power``). It checks what a journal relies on: gap-free numbers, and that nothing is
handled twice.

What must stay true: a batch counts as on disk once it is in ``batches``, whole or not at all. A crash here: whatever the
test says that it left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.durable.instances import TERMINAL
from gateway.durable.store import ActivityRow, Batch, InstanceRow, MessageRow, RecordRow, TimerRow


class PowerLost(OSError):
    """What the commit that the power failed in (and any later one) raises."""


class MemoryStore:
    """See above.

    fail_at: the number (from 1) of the commit that fails, and all after it. commits_begun: how many were asked for.
    power_lost: no commit succeeds any more. torn: the one that the power failed in did not reach the disk.
    records, rows, messages, pending_timers, pending_activities: what is on disk.
    """

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.fail_at: int | None = None
        self.commits_begun = 0
        self.power_lost = False
        self.torn = False
        self.records: list[RecordRow] = []
        self.rows: dict[str, InstanceRow] = {}
        self.messages: dict[int, MessageRow] = {}
        self.pending_timers: dict[tuple[str, int], TimerRow] = {}
        self.pending_activities: dict[tuple[str, int], ActivityRow] = {}
        self.last_message_id = 0
        self._fails_before: int | None = None
        self._fails_after: int | None = None
        self._gate = asyncio.Event()
        self._gate.set()

    @classmethod
    def after(cls, batches: Sequence[Batch]) -> MemoryStore:
        """What a crash right after these commits leaves."""
        store = cls()
        for batch in batches:
            store._apply(batch)
        return store

    # Faults

    def hold(self) -> None:
        """The next commits don't return until ``let_go``."""
        self._gate.clear()

    def let_go(self) -> None:
        """The disk answers again."""
        self._gate.set()

    def lose_power(self, *, before: int | None = None, after: int | None = None) -> None:
        """Without a number: now. before: the batch of this number (from 1) does not reach the disk; all that the earlier
        ones caused may have happened. after: it does, but nobody hears of it, and nothing that it would cause happens.
        """
        self._fails_before, self._fails_after = before, after
        self.power_lost = before is None and after is None

    # The Store

    async def recover(self) -> MemoryRecovered:
        """See Store."""
        return MemoryRecovered(self)

    async def commit(self, batch: Batch) -> None:
        """See Store."""
        self.commits_begun += 1
        await asyncio.sleep(0)
        await self._gate.wait()
        number = len(self.batches) + 1
        if self.power_lost or number == self._fails_before:
            self.power_lost = self.torn = True
            raise PowerLost(f"the power failed before batch {number}")
        if self.fail_at is not None and self.commits_begun >= self.fail_at:
            raise OSError("no space left on device")
        self._apply(batch)
        if number == self._fails_after:
            self.power_lost = True
            raise PowerLost(f"the power failed after batch {number}")

    async def history(self, instance: str, first_seq: int) -> list[RecordRow]:
        """See Store."""
        await asyncio.sleep(0)
        return [record for record in self.records if record.instance == instance and record.seq >= first_seq]

    async def instance(self, instance: str) -> InstanceRow | None:
        """See Store."""
        await asyncio.sleep(0)
        return self.rows.get(instance)

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
    ) -> list[InstanceRow]:
        """See Store."""
        found = [
            row
            for key, row in sorted(self.rows.items())
            if (kind is None or row.kind == kind)
            and (name is None or row.name == name)
            and (statuses is None or row.status in statuses)
            and (prefix is None or key.startswith(prefix))
            and (created_from_us is None or row.created_us >= created_from_us)
            and (created_to_us is None or row.created_us <= created_to_us)
            and (after is None or key > after)
        ]
        return found[:limit]

    def _apply(self, batch: Batch) -> None:
        for number, record in enumerate(batch.records, len(self.records) + 1):
            assert record.seq == number, f"record {record.seq} where {number} must follow"
        self.batches.append(batch)
        self.records += batch.records
        for message_id in batch.messages_removed:
            assert self.messages.pop(message_id, None) is not None, f"message {message_id} handled twice"
        for timer in batch.timers_removed:
            self.pending_timers.pop(timer, None)
        for activity in batch.activities_removed:
            assert self.pending_activities.pop(activity, None) is not None, f"activity {activity} ended twice"
        for instance in batch.instances_removed:
            self.rows.pop(instance, None)
        self.rows.update(batch.instances)
        self.messages.update(batch.messages_added)
        self.pending_timers.update(batch.timers_added)
        self.pending_activities.update(batch.activities_added)
        self.last_message_id = max(self.last_message_id, *batch.messages_added, *batch.messages_removed, 0)


class MemoryRecovered:
    """What is live in a store, as the journal tells it."""

    def __init__(self, store: MemoryStore) -> None:
        self.last_seq = len(store.records)
        self.last_message_id = store.last_message_id
        self.last_time_us = max((record.time_us for record in store.records), default=0)
        self.instances = [row for row in store.rows.values() if row.status not in TERMINAL]
        self.messages = list(reversed(store.messages.values()))  # their order is not promised
        self.timers = list(store.pending_timers.values())
        self.activities = list(store.pending_activities.values())
