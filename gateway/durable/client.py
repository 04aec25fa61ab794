"""How the rest of the gateway starts, asks and tells instances: the names of Azure Durable Functions.

Every call returns once its effect is on disk; every query sees committed state only (see ``queries``).
"""

from __future__ import annotations

import asyncio
import secrets
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from gateway.clock import to_us
from gateway.durable import history as h
from gateway.durable.administration import Administration
from gateway.durable.codec import NULL, Json, Raw, pack, unpack
from gateway.durable.entity import OperationRequest
from gateway.durable.errors import (
    AlreadyExistsError,
    EntityOperationError,
    LimitExceededError,
    NotFoundError,
)
from gateway.durable.external import MAX_BUFFERED_EVENTS
from gateway.durable.housekeeping import first_free_task
from gateway.durable.identity import EntityId, check_instance_id, check_name, check_text, name_of
from gateway.durable.instances import (
    ORCHESTRATION,
    EntityInstance,
    Orchestration,
    decode_state,
)
from gateway.durable.mailbox import MAX_MESSAGES, Lane
from gateway.durable.queries import DurableOrchestrationStatus
from gateway.durable.store import InstanceRow

if TYPE_CHECKING:
    from collections.abc import Callable


class DurableOrchestrationClient(Administration):
    """Client of the engine in this process."""

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
        instance = _new_instance_id(engine.now_us()) if instance_id is None else check_instance_id(instance_id)
        data = pack(client_input, f"the input of {orchestrator.name}")
        if not engine.has_room:
            await engine.admit()
        started = h.ExecutionStarted(orchestrator.name, data, version, fingerprint=orchestrator.fingerprint)
        if instance_id is None:
            engine.ledger.begin(instance, started, Lane.OPERATOR, known=True)
        else:
            await self._begin_named(instance, started)
        await engine.on_disk()
        return instance

    async def _begin_named(self, instance: str, started: h.ExecutionStarted) -> None:
        """Start under an id that may have been used before."""
        try:
            await self._begin_if_free(instance, started)
        except AlreadyExistsError:
            await self._engine.on_disk()  # nobody is told of one that a crash may take back
            raise

    async def _begin_if_free(self, instance: str, started: h.ExecutionStarted) -> None:
        """Task ids go on where those of the one before ended, so that no late result of it is taken for one of this."""
        ledger = self._engine.ledger
        if instance in ledger.starting:
            raise AlreadyExistsError(f"an orchestration {instance!r} is being started already")
        ledger.starting.add(instance)
        try:
            first_task = await first_free_task(self._engine.store, instance)
            started = msgspec.structs.replace(started, first_task=first_task)
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
        instance = _new_instance_id(engine.now_us()) if restart_with_new_instance_id else instance_id
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
        data = pack(operation_input, lambda: f"the input of {operation_name} on {entity_id}")
        engine = self._engine
        if not engine.has_room:
            await engine.admit()
        entity = engine.ledger.entity(entity_id)
        self._check_room(entity)
        callers = engine.callers
        number, future = callers.new()
        request = OperationRequest(operation_name, data, callers.name, number)
        engine.ledger.send_unwritten(entity, request, Lane.OPERATOR if operator else Lane.OTHER)
        try:
            answer = await future
        finally:
            callers.done(number)
        if isinstance(answer, h.EntityOperationFailed):
            raise EntityOperationError(f"{operation_name} on {entity_id} failed: {answer.details}", answer.details)
        return unpack(answer.result, lambda: f"the answer of {operation_name} on {entity_id}")

    async def wait_for_completion(self, instance_id: str, timeout_s: float | None = None) -> DurableOrchestrationStatus:
        """Wait until an orchestration has finished; its status then.

        timeout_s: real seconds. Errors: NotFoundError, TimeoutError, EngineStoppedError.
        """
        instance = self._engine.instances.get(instance_id)
        if isinstance(instance, Orchestration):
            async with asyncio.timeout(timeout_s):
                await self._engine.finish_waiter(instance)
            if instance.settled and instance.row is not None:  # else one that was started under its id took its place
                return await self._status(instance.row, False, False)
        return await self.get_status(instance_id)


def _new_instance_id(time_us: int) -> str:
    """An id that no other orchestration has: 32 hexadecimal digits, the later the greater.

    In the journal's tables those of one time lie side by side, so that a batch of them touches few pages of the disk.
    """
    return f"{time_us:014x}{secrets.token_hex(9)}"
