"""Keeping house: purging finished orchestrations, cleaning up entities.

What goes is the row that says what an instance is; its records stay in the log, and one more says that it was removed, and
by whom. Everything goes through the open batch, so it is in order with all else that happens.

What must stay true: what lives is never removed; no id is used twice in a way that lets a late answer reach the wrong
one. With an activity or a message of it under way an orchestration can't be purged yet; sub-orchestrations that it left
running and entities that let it wait are told that nobody waits. The next orchestration of its id counts its steps on
(``first_free_task``): an operation id that came again would pass for a repetition, and a breaker would answer it with the
old outcome instead of moving. An entity that has ever given out an id (an activity, a
caller who waits, an orchestration) is kept for good: its next one must be a new one. On a crash here: a batch is on disk
whole, or nothing was removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from gateway.clock import to_us
from gateway.durable import history as h
from gateway.durable.codec import encode
from gateway.durable.entity import OperationRequest
from gateway.durable.errors import NotFoundError, WrongStatusError
from gateway.durable.instances import (
    ORCHESTRATION,
    TERMINAL,
    EntityInstance,
    Orchestration,
    OrchestrationRuntimeStatus,
    decode_state,
)
from gateway.durable.locks import LockRelease, LockRequest
from gateway.durable.store import InstanceRow, Store

if TYPE_CHECKING:
    from gateway.durable.engine import Engine

PURGED = "purged"
"""Kind of the record that says that an instance was removed."""
PAGE = 1000


@dataclass(frozen=True, slots=True)
class PurgeHistoryResult:
    """How many orchestrations were removed."""

    instances_deleted: int


@dataclass(frozen=True, slots=True)
class CleanEntityStorageResult:
    """How many entities were removed, and how many locks whose owner is gone were released."""

    empty_entities_removed: int
    orphaned_locks_released: int


async def first_free_task(store: Store, instance_id: str) -> int:
    """The first step's id of a new orchestration: those that had this id, purged ones too, have used none from there on."""
    found = await store.instance(instance_id)
    if found is not None:
        row = InstanceRow(*found)
        return decode_state(row.state).next_task if row.kind == ORCHESTRATION else 1
    used = 0
    for _, _, kind, _, payload in reversed(await store.history(instance_id, 1)):
        if kind == PURGED and (next_task := _purged(payload).next_task):
            return max(next_task, used + 1)
        if kind == h.TURN:  # purged by a version that did not say so
            used = max(used, *(getattr(event, "id", 0) for event in h.decode_turn(payload).events), 0)
    return used + 1


class _Purged(msgspec.Struct):
    next_task: int = 0


_purged = msgspec.json.Decoder(_Purged).decode


class Housekeeping:
    """See above."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def purge(self, instance_id: str, raised_by: str) -> PurgeHistoryResult:
        """Remove one finished orchestration. Errors: NotFoundError, WrongStatusError."""
        engine = self._engine
        await engine.on_disk()  # what has ended up to now has its row
        found = await engine.store.instance(instance_id)
        self._refuse_live(instance_id)
        if found is None or InstanceRow(*found).kind != ORCHESTRATION:
            raise NotFoundError(f"there is no orchestration {instance_id!r}")
        obstacle = self._obstacle(InstanceRow(*found), self._under_way())
        if obstacle:
            raise WrongStatusError(f"{instance_id} can't be purged: {obstacle}")
        self._remove(InstanceRow(*found), raised_by)
        self._cut_off({instance_id})
        return PurgeHistoryResult(1)

    async def purge_by(
        self,
        created_from: datetime,
        created_to: datetime | None,
        statuses: Sequence[OrchestrationRuntimeStatus],
        raised_by: str,
    ) -> PurgeHistoryResult:
        """Remove the finished orchestrations of a time; those that can't be purged yet are left."""
        engine = self._engine
        removed, after = 0, None
        while True:
            await engine.on_disk()
            rows = await engine.store.instances(
                kind=ORCHESTRATION,
                statuses=[status.value for status in statuses],
                created_from_us=to_us(created_from),
                created_to_us=None if created_to is None else to_us(created_to),
                limit=PAGE,
                after=after,
            )
            busy = self._under_way()
            page = [row for row in (InstanceRow(*r) for r in rows) if not self._obstacle(row, busy)]
            for row in page:
                self._remove(row, raised_by)
            self._cut_off({row.instance for row in page})
            removed += len(page)
            if len(rows) < PAGE:
                return PurgeHistoryResult(removed)
            after = rows[-1][0]

    def _refuse_live(self, instance_id: str) -> None:
        live = self._engine.instances.get(instance_id)
        if isinstance(live, Orchestration) and not live.terminal:
            raise WrongStatusError(f"{instance_id} is {live.status}: only a finished orchestration can be purged")

    def _obstacle(self, row: InstanceRow, busy: dict[str, str]) -> str:
        """Why it can't be purged now; empty when it can. Looks at what is, not at what was read."""
        name = row.instance
        live = self._engine.instances.get(name)
        if name in self._engine.ledger.starting:
            return "it is being started or rewound"
        if (live is not None and not (isinstance(live, Orchestration) and live.settled)) or row.status not in TERMINAL:
            return "it has not finished"
        if live is not None and live.row != row:
            return "it has just started anew and finished; try again"
        if any(child.unsure for child in self._children(name)):
            return "a sub-orchestration of it is about to start"
        return busy.get(name, "")

    def _under_way(self) -> dict[str, str]:
        """Instances of which something is under way, and what."""
        found = dict.fromkeys(self._engine.underway.holders(), "an activity of it has no result yet")
        for entity in self._entities():
            for mail in (*entity.mailbox.mails, *entity.mailbox.parked):
                match mail.content:
                    case OperationRequest(caller=sender) | LockRequest(owner=sender):
                        found[sender] = f"a message of it to {entity.id} has not been handled yet"
        return found

    def _remove(self, row: InstanceRow, raised_by: str) -> None:
        ledger = self._engine.ledger
        live = ledger.instances.get(row.instance)
        if isinstance(live, Orchestration):
            ledger.forget(live)
        next_task = decode_state(row.state).next_task
        told: dict[str, str | int] = {
            "name": row.name,
            "status": row.status,
            "raised_by": raised_by,
            "next_task": next_task,
        }
        self._record(row.instance, told)
        ledger.outbox.batch.instances_removed.add(row.instance)

    def _record(self, instance_id: str, what: dict[str, str | int]) -> None:
        self._engine.now_us()
        self._engine.ledger.append(instance_id, PURGED, encode(what))
        self._engine.ledger.wake()

    def _cut_off(self, purged: set[str]) -> None:
        """Nobody waits any more for what these had asked for."""
        ledger = self._engine.ledger
        for parent in purged:
            for child in self._children(parent):
                child.parent, child.parent_task = "", 0
                ledger.touch(child)
            ledger.children.pop(parent, None)
        for entity in self._entities():
            waiting = {token: who for token, who in entity.core.waiting.items() if who[0] not in purged}
            if len(waiting) < len(entity.core.waiting):
                entity.core.waiting = waiting
                ledger.touch(entity)

    def _children(self, parent: str) -> Iterable[Orchestration]:
        for name in self._engine.ledger.children.get(parent, ()):
            child = self._engine.instances.get(name)
            if isinstance(child, Orchestration) and child.parent == parent:
                yield child

    # Entities

    async def clean_entities(self, remove_empty: bool, release_locks: bool) -> CleanEntityStorageResult:
        """Release locks whose owner is gone, and remove entities that nothing is known of."""
        released = sum(self._release_lock(entity) for entity in self._entities()) if release_locks else 0
        removed = 0
        if remove_empty:
            await self._engine.on_disk()
            scheduled = self._engine.underway.scheduled_targets()
            for entity in self._entities():
                if self._is_empty(entity) and entity.id not in scheduled:
                    self._forget(entity)
                    removed += 1
        return CleanEntityStorageResult(removed, released)

    def _entities(self) -> list[EntityInstance]:
        return [instance for instance in self._engine.instances.values() if isinstance(instance, EntityInstance)]

    def _release_lock(self, entity: EntityInstance) -> bool:
        lock = entity.core.lock
        if lock is None:
            return False
        owner = self._engine.instances.get(lock[0])
        if isinstance(owner, Orchestration) and not owner.terminal and owner.lock_task == lock[1]:
            return False
        self._engine.ledger.send(entity, LockRelease(*lock))
        return True

    def _is_empty(self, entity: EntityInstance) -> bool:
        core = entity.core
        return not (
            core.state is not None
            or core.next_task > 1
            or core.waiting
            or core.lock is not None
            or entity.mailbox.waiting
            or entity.activities
        )

    def _forget(self, entity: EntityInstance) -> None:
        ledger = self._engine.ledger
        del ledger.instances[entity.id]
        ledger.outbox.dirty.pop(entity.id, None)
        if entity.last_batch or entity.row is not None:
            self._record(entity.id, {"name": entity.name, "status": "no state"})
            ledger.outbox.batch.instances_removed.add(entity.id)
