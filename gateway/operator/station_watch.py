"""The committed substation, decoded once for each time that it changes, for all who wait for such a change.

Who overrides a procedure waits here for the step that takes it: each override has an id, and the procedure acknowledges
it with that id, in its custom status and in the substation's list. What must stay true: only what is on disk is told.
Nothing is kept here that a crash could lose: who waited got no answer, and the journal tells what became of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

import msgspec

from gateway.durable import Engine
from gateway.durable.codec import NULL, Json, unpack_plain
from gateway.durable.entity import decode_snapshot
from gateway.durable.futures import set_result
from gateway.durable.instances import Instance, Orchestration, decode_state
from gateway.operations import committed_station
from gateway.shedding.entities import substation_id
from gateway.shedding.field import Field
from gateway.shedding.substation import Substation

Record = Mapping[str, Json]
"""An override that was taken: decision, actor, role, reason, step, at, outcome, and its id."""

_decode = msgspec.json.Decoder(Substation).decode


class StationWatch:
    """Hears every commit of the substation. listeners are called on the loop with what it was and what it is."""

    def __init__(self, engine: Engine, field: Field) -> None:
        self.state = committed_station(engine, field)
        self.listeners: list[Callable[[Substation, Substation], None]] = []
        self._id = str(substation_id(field.site))
        self._engine = engine
        self._waiting: dict[str, tuple[str, asyncio.Future[Record]]] = {}
        engine.on_commit.append(self._committed)

    async def taken(self, instance: str, override: str, timeout_s: float) -> Record | None:
        """The acknowledgement of this override of this orchestration, None if there is none within timeout_s."""
        future: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        self._waiting[override] = instance, future
        try:
            self._look(self.state.consumed)
            self._look(_overrides(self._engine.instances.get(instance)))
            await asyncio.wait([future], timeout=timeout_s)
        finally:
            del self._waiting[override]
        return future.result() if future.done() else None

    def _committed(self, instance: Instance) -> None:
        if instance.id == self._id and instance.row is not None:
            raw = decode_snapshot(instance.row.state).state
            before, self.state = self.state, Substation() if raw is NULL else _decode(raw)
            self._look(self.state.consumed)
            for told in self.listeners:
                told(before, self.state)
        elif self._waiting and any(instance.id == one for one, _ in self._waiting.values()):
            self._look(_overrides(instance))

    def _look(self, records: Iterable[object]) -> None:
        if not self._waiting:
            return
        for record in records:
            override = record.get("id") if isinstance(record, Mapping) else None
            if isinstance(record, Mapping) and isinstance(override, str) and override in self._waiting:
                set_result(self._waiting[override][1], record)


def _overrides(instance: Instance | None) -> list[object]:
    """The overrides that an orchestration's committed custom status tells of."""
    if not isinstance(instance, Orchestration) or instance.row is None:
        return []
    status = unpack_plain(decode_state(instance.row.state).custom_status)
    found = status.get("overrides") if isinstance(status, dict) else None
    return found if isinstance(found, list) else []
