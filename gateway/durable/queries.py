"""What clients ask: orchestrations and entities as they are on disk, never ahead of it.

Values are told as plain JSON: an object of an author's class is the dict that it was written as (see ``objects``), so
that a query needs none of the author's code, and runs none. Nothing here changes anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from gateway.clock import from_us, to_us
from gateway.durable import history as h
from gateway.durable.codec import NULL, Json, Raw, unpack_plain
from gateway.durable.entity import decode_snapshot
from gateway.durable.errors import FailureDetails, NotFoundError
from gateway.durable.identity import EntityId
from gateway.durable.instances import (
    ENTITY,
    ORCHESTRATION,
    TERMINAL,
    EntityInstance,
    OrchestrationRuntimeStatus,
    decode_state,
)
from gateway.durable.store import InstanceRow, Store

if TYPE_CHECKING:
    from gateway.durable.engine import Engine

PAGE = 1000
"""Rows that are read at a time when most may not be wanted."""


@dataclass(frozen=True, slots=True)
class DurableOrchestrationStatus:
    """What is known of one orchestration, as committed.

    Input, output, custom status and history are plain JSON: an object of an author's class is the dict that it was written
    as (see ``objects``), so that a query needs none of the author's code. history: the records of its current execution,
    when asked for. replays: how often it was replayed.
    """

    instance_id: str
    name: str
    runtime_status: OrchestrationRuntimeStatus
    created_time: datetime
    last_updated_time: datetime
    input_: Json
    output: Json
    custom_status: Json
    failure: FailureDetails | None
    parent_instance_id: str | None
    history: list[Json] | None = None
    replays: int = 0


@dataclass(frozen=True, slots=True)
class EntityStateResponse:
    """Whether an entity has a state, and which."""

    entity_exists: bool
    entity_state: Json


@dataclass(frozen=True, slots=True)
class EntityStatus:
    """What is known of one entity, as committed. state: plain JSON, None when it has none or was not asked for. locked_by:
    the orchestration that has it for itself, empty if none has. waiting: callers who wait for an answer."""

    entity_id: EntityId
    last_modified_time: datetime
    exists: bool
    state: Json
    locked_by: str
    waiting: int


class Queries:
    """The part of a client that asks."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def get_status(
        self,
        instance_id: str,
        show_history: bool = False,
        show_history_output: bool = False,
        show_input: bool = False,
    ) -> DurableOrchestrationStatus:
        """The committed status of an orchestration.

        show_history_output: taken for compatibility; a history always holds inputs and results. Errors: NotFoundError.
        """
        row = await self._row(instance_id)
        if row is None or row.kind != ORCHESTRATION:
            raise NotFoundError(f"there is no orchestration {instance_id!r}")
        return await self._status(row, show_history, show_input)

    async def get_status_all(self) -> list[DurableOrchestrationStatus]:
        """The committed status of all orchestrations (at most 1,000; see get_status_by for pages)."""
        return await self.get_status_by(limit=1000)

    async def get_status_by(
        self,
        created_time_from: datetime | None = None,
        created_time_to: datetime | None = None,
        runtime_status: Sequence[OrchestrationRuntimeStatus] | None = None,
        instance_id_prefix: str | None = None,
        *,
        name: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[DurableOrchestrationStatus]:
        """Committed orchestrations in the order of their ids, those after the id ``after``."""
        rows = await self._engine.store.instances(
            kind=ORCHESTRATION,
            name=name,
            statuses=None if runtime_status is None else [s.value for s in runtime_status],
            prefix=instance_id_prefix,
            created_from_us=None if created_time_from is None else to_us(created_time_from),
            created_to_us=None if created_time_to is None else to_us(created_time_to),
            limit=limit,
            after=after,
        )
        return [await self._status(InstanceRow(*row), False, False) for row in rows]

    def read_entity_raw(self, entity_id: EntityId) -> Raw | None:
        """The committed state of an entity as JSON, None when it has none."""
        instance = self._engine.instances.get(str(entity_id))
        if not isinstance(instance, EntityInstance) or instance.row is None:
            return None
        state = decode_snapshot(instance.row.state).state
        return None if state is NULL else state

    async def read_entity_state(self, entity_id: EntityId) -> EntityStateResponse:
        """The committed state of an entity, and whether there is one; plain JSON, as in all queries."""
        raw = self.read_entity_raw(entity_id)
        return EntityStateResponse(raw is not None, None if raw is None else unpack_plain(raw))

    async def list_entities(
        self,
        name: str | None = None,
        last_modified_from: datetime | None = None,
        last_modified_to: datetime | None = None,
        *,
        include_state: bool = True,
        include_transient: bool = False,
        limit: int = 100,
        after: str | None = None,
    ) -> list[EntityStatus]:
        """Committed entities in the order of their ids (``@name@key``), those after the id ``after``.

        name: how their names begin. include_state: with their states. include_transient: also those without one.
        """
        return await list_entities(
            self._engine.store,
            "@" + (name or "").lower(),
            0 if last_modified_from is None else to_us(last_modified_from),
            None if last_modified_to is None else to_us(last_modified_to),
            include_state,
            include_transient,
            limit,
            after,
        )

    async def _row(self, instance_id: str) -> InstanceRow | None:
        instance = self._engine.instances.get(instance_id)
        if instance is not None and instance.row is not None:
            return instance.row
        row = await self._engine.store.instance(instance_id)
        return None if row is None else InstanceRow(*row)

    async def _status(self, row: InstanceRow, show_history: bool, show_input: bool) -> DurableOrchestrationStatus:
        state = decode_state(row.state)
        history: list[Json] | None = None
        given: Json = None
        if show_history or show_input:
            # A start that has not run yet has no history of its own.
            records = await self._engine.store.history(row.instance, row.first_seq) if row.first_seq else []
            history = [{"seq": r[0], "time_us": r[3], **unpack_plain(Raw(r[4]))} for r in records if r[2] == h.TURN]
            given = history[0]["events"][0].get("input") if history else None
        return DurableOrchestrationStatus(
            row.instance,
            row.name,
            OrchestrationRuntimeStatus(row.status),
            from_us(row.created_us),
            from_us(row.updated_us),
            given,
            unpack_plain(state.output) if row.status in TERMINAL and state.output is not NULL else None,
            unpack_plain(state.custom_status),
            state.failure,
            row.parent or None,
            history if show_history else None,
            state.replays,
        )


async def list_entities(
    store: Store,
    prefix: str,
    modified_from_us: int,
    modified_to_us: int | None,
    include_state: bool,
    include_transient: bool,
    limit: int,
    after: str | None,
) -> list[EntityStatus]:
    """See DurableOrchestrationClient. Reads pages until there are as many as were asked for."""
    found: list[EntityStatus] = []
    while True:
        rows = [InstanceRow(*r) for r in await store.instances(kind=ENTITY, prefix=prefix, limit=PAGE, after=after)]
        for row in rows:
            if row.updated_us < modified_from_us or (modified_to_us is not None and row.updated_us > modified_to_us):
                continue
            snapshot = decode_snapshot(row.state)
            exists = snapshot.state is not NULL
            if exists or include_transient:
                state = unpack_plain(snapshot.state) if exists and include_state else None
                found.append(
                    EntityStatus(
                        EntityId.parse(row.instance),
                        from_us(row.updated_us),
                        exists,
                        state,
                        snapshot.lock_owner,
                        len(snapshot.waiting),
                    )
                )
                if len(found) == limit:
                    return found
        if len(rows) < PAGE:
            return found
        after = rows[-1].instance
