"""A store in memory that satisfies the engine's Protocol, and that tests can break.

It keeps every committed batch, so that a test can go back to any commit boundary (``after``) and recover from there. It
can hold a commit open (``hold``, ``let_go``), and fail one (``fail_at``: the n-th commit from 1).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from gateway.durable.store import Batch, InstanceRow, RecordRow

TERMINAL = ("Completed", "Failed", "Terminated")


class MemoryStore:
    """See above. Everything in here counts as on disk once ``commit`` returns."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.fail_at: int | None = None
        self.commits_begun = 0
        self._gate = asyncio.Event()
        self._gate.set()
        self.records: list[RecordRow] = []
        self.rows: dict[str, InstanceRow] = {}
        self.messages: dict[int, Any] = {}
        self.pending_timers: dict[Any, Any] = {}
        self.pending_activities: dict[Any, Any] = {}
        self.last_message_id = 0

    @classmethod
    def after(cls, batches: Sequence[Batch]) -> MemoryStore:
        """What a crash right after these commits leaves."""
        store = cls()
        for batch in batches:
            store._apply(batch)
        return store

    def hold(self) -> None:
        """The next commits don't return until ``let_go``."""
        self._gate.clear()

    def let_go(self) -> None:
        """The disk answers again."""
        self._gate.set()

    def _apply(self, batch: Batch) -> None:
        for number, record in enumerate(batch.records, len(self.records) + 1):
            assert record.seq == number, f"record {record.seq} where {number} must follow"
        self.batches.append(batch)
        self.records += batch.records
        for message_id in batch.messages_removed:
            assert self.messages.pop(message_id, None) is not None, f"message {message_id} handled twice"
        for key in batch.timers_removed:
            self.pending_timers.pop(key, None)
        for key in batch.activities_removed:
            assert self.pending_activities.pop(key, None) is not None, f"activity {key} ended twice"
        self.rows.update(batch.instances)
        self.messages.update(batch.messages_added)
        self.pending_timers.update(batch.timers_added)
        self.pending_activities.update(batch.activities_added)
        self.last_message_id = max(self.last_message_id, *batch.messages_added, *batch.messages_removed, 0)

    # The Protocol

    async def recover(self) -> _Live:
        """See Store."""
        return _Live(self)

    async def commit(self, batch: Batch) -> None:
        """See Store."""
        self.commits_begun += 1
        await asyncio.sleep(0)
        await self._gate.wait()
        if self.fail_at is not None and self.commits_begun >= self.fail_at:
            raise OSError("no space left on device")
        self._apply(batch)

    async def history(self, instance: str, first_seq: int) -> list[RecordRow]:
        """See Store."""
        await asyncio.sleep(0)
        return [r for r in self.records if r.instance == instance and r.seq >= first_seq]

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


class _Live:
    """What is live in a store, as the journal tells it."""

    def __init__(self, store: MemoryStore) -> None:
        self.last_seq = len(store.records)
        self.last_message_id = store.last_message_id
        self.last_time_us = max((r.time_us for r in store.records), default=0)
        self.instances = [row for row in store.rows.values() if row.status not in TERMINAL]
        self.messages = list(reversed(store.messages.values()))  # their order is not promised
        self.timers = list(store.pending_timers.values())
        self.activities = list(store.pending_activities.values())
