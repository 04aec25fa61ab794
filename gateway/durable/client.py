"""How the rest of the gateway starts, asks and tells instances: the names of Azure Durable Functions.

Every call returns once its effect is on disk; every query sees committed state only.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from gateway.clock import from_us, to_us
from gateway.durable import history as h
from gateway.durable.codec import NULL, Json, Raw, pack, unpack, unpack_plain
from gateway.durable.entity import OperationRequest, decode_snapshot
from gateway.durable.errors import (
    AlreadyExistsError,
    EntityOperationError,
    FailureDetails,
    GoneError,
    LimitExceededError,
    NotFoundError,
)
from gateway.durable.external import MAX_BUFFERED_EVENTS
from gateway.durable.housekeeping import CleanEntityStorageResult, EntityStatus, PurgeHistoryResult, list_entities
from gateway.durable.identity import EntityId, check_instance_id, check_name, check_text, name_of
from gateway.durable.instances import (
    ORCHESTRATION,
    TERMINAL,
    EntityInstance,
    Orchestration,
    OrchestrationRuntimeStatus,
    decode_state,
)
from gateway.durable.mailbox import MAX_MESSAGES, Lane
from gateway.durable.store import InstanceRow

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.durable.engine import Engine


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


class DurableOrchestrationClient:
    """Client of the engine in this process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def start_new(
        self,
        orchestration_function_name: str | Callable[..., object],
        instance_id: str | None = None,
        client_input: Json = None,
        version: str | None = None,
    ) -> str:
        """Start an orchestration; returns its id once the start is on disk.

        version: which of several registered ones; unless given, the registry's default for the name, else the highest.
        Errors: NotFoundError (no such orchestrator), AlreadyExistsError (id in use), LimitExceededError,
        NotSerializableError, EngineStoppedError; ValueError for a malformed id.
        """
        engine = self._engine
        check_text(version or "", "a version")
        orchestrator, version = engine.registry.new_orchestrator(name_of(orchestration_function_name), version)
        instance = uuid.uuid4().hex if instance_id is None else check_instance_id(instance_id)
        data = pack(client_input, f"the input of {orchestrator.name}")
        await engine.admit()
        started = h.ExecutionStarted(orchestrator.name, data, version, fingerprint=orchestrator.fingerprint)
        if instance_id is None:
            engine.ledger.begin(instance, started, Lane.OPERATOR, known=True)
        else:
            await self._begin_named(instance, started)
        await engine.on_disk()
        return instance

    async def _begin_named(self, instance: str, started: h.ExecutionStarted) -> None:
        """Start under an id that may have been used before: task ids go on where they ended, so that no late result of the
        one before is taken for one of this."""
        ledger = self._engine.ledger
        if instance in ledger.starting:
            raise AlreadyExistsError(f"an orchestration {instance!r} is being started already")
        ledger.starting.add(instance)
        try:
            earlier = await self._row(instance)
            if earlier is not None and earlier.kind == ORCHESTRATION:
                started = msgspec.structs.replace(started, first_task=decode_state(earlier.state).next_task)
            ledger.begin(instance, started, Lane.OPERATOR, known=True)
        finally:
            ledger.starting.discard(instance)

    async def restart(self, instance_id: str, restart_with_new_instance_id: bool = True) -> str:
        """Start an orchestration anew: same name, version and input (that of its present execution); returns the id.

        restart_with_new_instance_id: under an id of its own, whatever the old one does; else under the same, once it has
        finished. Errors: NotFoundError (no such orchestration, or its code is gone), AlreadyExistsError (it still runs),
        EngineStoppedError.
        """
        engine = self._engine
        await engine.admit()
        await engine.on_disk()  # what has started up to now can be read
        row = await self._row(instance_id)
        if row is None or row.kind != ORCHESTRATION:
            raise NotFoundError(f"there is no orchestration {instance_id!r}")
        version = decode_state(row.state).version
        code = engine.registry.get_orchestrator(row.name, version)
        started = h.ExecutionStarted(row.name, await self._input_of(row), version, fingerprint=code.fingerprint)
        instance = uuid.uuid4().hex if restart_with_new_instance_id else instance_id
        if restart_with_new_instance_id:
            engine.ledger.begin(instance, started, Lane.OPERATOR, known=True)
        else:
            await self._begin_named(instance, started)
        await engine.on_disk()
        return instance

    async def _input_of(self, row: InstanceRow) -> Raw:
        live = self._engine.instances.get(row.instance)
        for mail in live.mailbox.mails if live is not None else ():
            if isinstance(mail.content, h.ExecutionStarted):  # it has not run yet
                return mail.content.input
        records = await self._engine.store.history(row.instance, row.first_seq)
        events = [event for r in records if r[2] == h.TURN for event in h.decode_turn(r[4]).events]
        return next((event.input for event in events if isinstance(event, h.ExecutionStarted)), NULL)

    async def raise_event(
        self, instance_id: str, event_name: str, event_data: Json = None, raised_by: str = ""
    ) -> None:
        """Send an external event; returns once it is on disk.

        Errors: NotFoundError (no such instance), GoneError (it has finished), LimitExceededError (payload, or more than
        10,000 events buffered), NotSerializableError, EngineStoppedError.
        """
        check_name(event_name, "an event")
        check_text(raised_by, "the name of who raised it")
        data = pack(event_data, f"the data of event {event_name}")
        await self._engine.admit()
        instance = await self._live(instance_id)
        if instance.buffered + instance.mailbox.waiting >= MAX_BUFFERED_EVENTS:
            raise LimitExceededError(f"{instance_id} has {MAX_BUFFERED_EVENTS} events that it has not asked for yet")
        self._engine.ledger.send(instance, h.EventRaised(event_name, data, raised_by), Lane.OPERATOR)
        await self._engine.on_disk()

    async def terminate(self, instance_id: str, reason: str, raised_by: str = "", recursive: bool = True) -> None:
        """End an orchestration (and what it started) from outside; returns once that is on disk.

        Errors: NotFoundError, GoneError, EngineStoppedError.
        """
        await self._control(instance_id, h.ExecutionTerminated(reason, raised_by, recursive))

    async def suspend(self, instance_id: str, reason: str, raised_by: str = "") -> None:
        """Let an orchestration stand still: what comes (fired timers, too) is kept in order until it is resumed; returns
        once that is on disk. Activities that run go on.

        Errors: NotFoundError, GoneError, EngineStoppedError.
        """
        await self._control(instance_id, h.ExecutionSuspended(reason, raised_by))

    async def resume(self, instance_id: str, reason: str, raised_by: str = "") -> None:
        """Let a suspended orchestration go on; returns once that is on disk.

        Errors: NotFoundError, GoneError, EngineStoppedError.
        """
        await self._control(instance_id, h.ExecutionResumed(reason, raised_by))

    async def rewind(self, instance_id: str, reason: str, raised_by: str = "") -> None:
        """Take a failed orchestration back to before its failure and let it go on; returns once that is on disk.

        Steps that failed run again, those that succeeded do not; sub-orchestrations that failed are rewound, too. What may
        run once only and has no known outcome is not repeated: it fails, and says so. Errors: NotFoundError,
        WrongStatusError (it has not failed, or failed in a critical section), EngineStoppedError.
        """
        check_text(reason, "the reason")
        check_text(raised_by, "the name of who did it")
        await self._engine.admit()
        await self._engine.rewinding.rewind(instance_id, reason, raised_by)
        await self._engine.on_disk()

    async def _control(
        self, instance_id: str, event: h.ExecutionTerminated | h.ExecutionSuspended | h.ExecutionResumed
    ) -> None:
        check_text(event.reason, "the reason")
        check_text(event.raised_by, "the name of who did it")
        await self._engine.admit()
        instance = await self._live(instance_id)
        self._engine.ledger.send(instance, event, Lane.OPERATOR)
        await self._engine.on_disk()

    async def purge_instance_history(self, instance_id: str, raised_by: str = "") -> PurgeHistoryResult:
        """Remove a finished orchestration; its records stay in the log. Returns once that is on disk.

        Errors: NotFoundError, WrongStatusError (it has not finished, or something of it is still under way),
        EngineStoppedError.
        """
        check_text(raised_by, "the name of who did it")
        await self._engine.admit()
        result = await self._engine.housekeeping.purge(instance_id, raised_by)
        await self._engine.on_disk()
        return result

    async def purge_instance_history_by(
        self,
        created_time_from: datetime | None = None,
        created_time_to: datetime | None = None,
        runtime_status: Sequence[OrchestrationRuntimeStatus] | None = None,
        raised_by: str = "",
    ) -> PurgeHistoryResult:
        """Remove the finished orchestrations that were created in this time, of these statuses (all that are final, unless
        given); those of which something is still under way are left. Returns once that is on disk.

        Errors: ValueError without created_time_from or for a status that is not final; EngineStoppedError.
        """
        check_text(raised_by, "the name of who did it")
        if created_time_from is None:
            raise ValueError("created_time_from is required: say from when on, so that nothing goes by mistake")
        statuses = list(TERMINAL) if runtime_status is None else list(runtime_status)
        for status in statuses:
            if status not in TERMINAL:
                raise ValueError(f"only finished orchestrations can be purged, not those that are {status}")
        await self._engine.admit()
        result = await self._engine.housekeeping.purge_by(created_time_from, created_time_to, statuses, raised_by)
        await self._engine.on_disk()
        return result

    async def _live(self, instance_id: str) -> Orchestration:
        instance = self._engine.instances.get(instance_id)
        if isinstance(instance, Orchestration):
            if instance.terminal:
                raise GoneError(f"{instance_id} has finished: {instance.status}")
            return instance
        row = await self._row(instance_id)
        if row is None or row.kind != ORCHESTRATION:
            raise NotFoundError(f"there is no orchestration {instance_id!r}")
        raise GoneError(f"{instance_id} has finished: {row.status}")

    def _check_room(self, instance: Orchestration | EntityInstance) -> None:
        if instance.mailbox.full:
            raise LimitExceededError(f"{instance.id} has {MAX_MESSAGES} messages waiting; try again later")

    # Entities

    async def signal_entity(
        self,
        entity_id: EntityId,
        operation_name: str,
        operation_input: Json = None,
        signal_time: datetime | None = None,
    ) -> None:
        """Tell an entity something, now or at signal_time (a naive one is UTC); returns once that is on disk.

        Errors: NotFoundError, LimitExceededError, NotSerializableError, EngineStoppedError.
        """
        check_name(operation_name, "an operation")
        data = pack(operation_input, f"the input of {operation_name} on {entity_id}")
        due_us = 0 if signal_time is None else to_us(signal_time)
        await self._engine.admit()
        entity = self._engine.ledger.entity(entity_id)
        self._check_room(entity)
        self._engine.now_us()
        self._engine.underway.signal(entity, OperationRequest(operation_name, data), due_us)
        await self._engine.on_disk()

    def post_to_entity(self, entity_id: EntityId, operation_name: str, operation_input: Json = None) -> None:
        """Tell an entity something without waiting for the disk: for observations, which the next reading repeats."""
        check_name(operation_name, "an operation")
        data = pack(operation_input, f"the input of {operation_name} on {entity_id}")
        self._engine.check_running()
        entity = self._engine.ledger.entity(entity_id)
        self._check_room(entity)
        self._engine.ledger.send_unwritten(entity, OperationRequest(operation_name, data))

    async def call_entity(
        self, entity_id: EntityId, operation_name: str, operation_input: Json = None, operator: bool = False
    ) -> Json:
        """Ask an entity; returns its answer once what led to it is on disk. A crash before that may take the question back.

        operator: a person waits for it; it goes ahead of other work. Errors: EntityOperationError, NotFoundError,
        LimitExceededError, NotSerializableError, EngineStoppedError.
        """
        check_name(operation_name, "an operation")
        data = pack(operation_input, f"the input of {operation_name} on {entity_id}")
        await self._engine.admit()
        entity = self._engine.ledger.entity(entity_id)
        self._check_room(entity)
        callers = self._engine.callers
        number, future = callers.new()
        request = OperationRequest(operation_name, data, callers.name, number)
        self._engine.ledger.send_unwritten(entity, request, Lane.OPERATOR if operator else Lane.OTHER)
        try:
            answer = await future
        finally:
            callers.done(number)
        if isinstance(answer, h.EntityOperationFailed):
            raise EntityOperationError(f"{operation_name} on {entity_id} failed: {answer.details}", answer.details)
        return unpack(answer.result, f"the answer of {operation_name} on {entity_id}")

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

    async def clean_entity_storage(
        self, remove_empty_entities: bool = True, release_orphaned_locks: bool = True
    ) -> CleanEntityStorageResult:
        """Remove entities that nothing is known of, and release locks whose owner is gone; returns once that is on disk.

        An entity that has ever started an activity, let a caller wait or made up an orchestration's id is kept: its ids
        must not begin anew. Errors: EngineStoppedError.
        """
        await self._engine.admit()
        result = await self._engine.housekeeping.clean_entities(remove_empty_entities, release_orphaned_locks)
        await self._engine.on_disk()
        return result

    # Queries

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

    async def wait_for_completion(self, instance_id: str, timeout_s: float | None = None) -> DurableOrchestrationStatus:
        """Wait until an orchestration has finished; its status then.

        timeout_s: real seconds. Errors: NotFoundError, TimeoutError, EngineStoppedError.
        """
        instance = self._engine.instances.get(instance_id)
        if isinstance(instance, Orchestration):
            async with asyncio.timeout(timeout_s):
                await self._engine.finish_waiter(instance)
        return await self.get_status(instance_id)

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
