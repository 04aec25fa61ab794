"""Operations on entities: list, show, clean. States are shown as committed, and changed by nobody here."""

from __future__ import annotations

from gateway.clock import from_us, iso
from gateway.control import Code, ControlError
from gateway.durable import EntityId
from gateway.durable import history as h
from gateway.durable.codec import NULL, Json, unpack_plain
from gateway.durable.entity import decode_snapshot
from gateway.durable.queries import EntityStatus
from gateway.durable.store import InstanceRow
from gateway.operations.arguments import Arguments, limit, moment, optional, text
from gateway.operations.desk import Desk

RECENT = 10
"""Turns of one entity whose operations are shown."""


async def show_list(desk: Desk, args: Arguments) -> Json:
    """A page of entities, with their states."""
    most = limit(args)
    found = await desk.engine.client.list_entities(
        optional(args, "name"),
        moment(args, "since"),
        moment(args, "until"),
        include_transient=bool(args.get("empty")),
        limit=most,
        after=optional(args, "after"),
    )
    return {
        "entities": [_entity(one) for one in found],
        "next": str(found[-1].entity_id) if len(found) == most else None,
    }


async def show_one(desk: Desk, args: Arguments) -> Json:
    """One entity with its state and its last operations."""
    entity = EntityId.parse(text(args, "entity"))
    found = await desk.engine.store.instance(str(entity))
    if found is None:
        raise ControlError(Code.NOT_FOUND, f"there is no entity {entity}")
    row = InstanceRow(*found)
    snapshot = decode_snapshot(row.state)
    exists = snapshot.state is not NULL
    state = unpack_plain(snapshot.state) if exists else None
    one = EntityStatus(entity, from_us(row.updated_us), exists, state, snapshot.lock_owner, len(snapshot.waiting))
    records = await desk.log.latest(str(entity), RECENT)
    operations = [
        {
            "at": iso(time_us),
            "seq": seq,
            "operation": done.name,
            "caller": done.caller,
            "failure": None if done.failure is None else str(done.failure),
        }
        for seq, _, kind, time_us, payload in reversed(records)
        if kind == h.OPERATION
        for done in h.decode_entity_record(payload).operations
    ]
    return {**_entity(one), "operations": operations}


async def clean(desk: Desk, args: Arguments) -> Json:
    """Remove entities that nothing is known of, and release locks whose owner is gone."""
    reason = text(args, "reason")
    async with desk.audited(args, "entities.clean", reason=reason):
        done = await desk.engine.client.clean_entity_storage()
    return {"removed": done.empty_entities_removed, "released": done.orphaned_locks_released}


def _entity(one: EntityStatus) -> dict[str, Json]:
    return {
        "entity": str(one.entity_id),
        "modified": one.last_modified_time.isoformat(),
        "exists": one.exists,
        "locked_by": one.locked_by or None,
        "waiting": one.waiting,
        "state": one.state,
    }
