"""Turns of entities: operations out of the mailbox, into the pure core, and its decisions into the books."""

from __future__ import annotations

import asyncio
import hashlib
from functools import partial
from typing import assert_never

import structlog

from gateway.durable import history as h
from gateway.durable.activities import PendingActivity
from gateway.durable.codec import Raw, encode
from gateway.durable.entity import OperationRequest
from gateway.durable.errors import DurableError, EngineStoppedError, FailureDetails
from gateway.durable.futures import set_error, set_result
from gateway.durable.identity import EntityId
from gateway.durable.instances import EntityInstance, Orchestration
from gateway.durable.ledger import Ledger
from gateway.durable.mailbox import MESSAGES_PER_TURN
from gateway.durable.underway import Underway

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

Answer = h.EntityOperationCompleted | h.EntityOperationFailed


class Callers:
    """Clients of this process that wait for an entity's answer. name: how they are known to entities."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._last = 0

    def new(self) -> tuple[int, asyncio.Future[Answer]]:
        """A number and a future for one question; whoever asked calls ``done`` however the waiting ends."""
        self._last += 1
        number = self._last
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        return number, future

    def done(self, number: int) -> None:
        """Nobody waits for this answer any more."""
        self._waiting.pop(number, None)

    def get(self, number: int) -> asyncio.Future[Answer] | None:
        """Who asked, if still waiting."""
        return self._waiting.get(number)

    def fail(self, error: EngineStoppedError) -> None:
        """Nobody gets an answer any more."""
        for future in list(self._waiting.values()):
            set_error(future, error)


class Entities:
    """Runs the turns of all entities."""

    def __init__(self, ledger: Ledger, underway: Underway, callers: Callers) -> None:
        self._ledger = ledger
        self._underway = underway
        self._callers = callers

    def turn(self, instance: EntityInstance) -> None:
        """Take some operations, in order; each is atomic by itself, all are journaled as one record."""
        ledger = self._ledger
        mails = instance.mailbox.mails
        core = instance.core
        now_us = ledger.now_us()
        operations: list[h.OperationRecord] = []
        for _ in range(min(len(mails), MESSAGES_PER_TURN)):
            mail = mails.popleft()
            if mail.id:
                ledger.outbox.remove_message(mail.id)
            elif mail.task:
                ledger.outbox.batch.remove_activity(instance.id, mail.task)
            request = mail.content
            assert isinstance(request, OperationRequest)
            record, answer_now = core.step(request, now_us)
            operations.append(record)
            if record.failure is not None:
                why = str(record.failure)
                log.warning("entity_operation_failed", entity=instance.id, operation=record.name, why=why)
            if answer_now:
                self._answer(request.caller, request.caller_task, record.result, record.failure)
            for action in record.actions:
                self._act(instance, action)
        seal = "" if core.state is None else hashlib.sha256(core.state).hexdigest()
        seq = ledger.append(instance.id, h.OPERATION, encode(h.EntityRecord(operations, seal)))
        if not instance.first_seq:
            instance.first_seq = seq
        ledger.touch(instance)

    def _act(self, instance: EntityInstance, action: h.EntityAction) -> None:
        match action:
            case h.EntityActivity():
                pending = PendingActivity(
                    action.name, action.input, 1, action.operation_id, action.on_result, action.context
                )
                self._underway.schedule(instance, action.id, pending)
            case h.EntitySignal():
                self._signal(instance, action)
            case h.EntityStarts():
                self._start(instance, action)
            case h.EntityReply():
                self._answer(action.caller, action.caller_task, action.result, action.failure)
            case _:
                assert_never(action)

    def _signal(self, instance: EntityInstance, action: h.EntitySignal) -> None:
        try:
            target = self._ledger.entity(EntityId.parse(action.target))
        except (DurableError, ValueError) as error:
            # Nobody waits for a signal: all that can be done is to tell.
            log.error("signal_to_unknown_entity", target=action.target, sender=instance.id, error=str(error))
            return
        self._ledger.send(target, OperationRequest(action.name, action.input))

    def _start(self, instance: EntityInstance, action: h.EntityStarts) -> None:
        try:
            orchestrator = self._ledger.registry.get_orchestrator(action.name)
            version = action.version or orchestrator.version
            started = h.ExecutionStarted(action.name, action.input, version, fingerprint=orchestrator.fingerprint)
            self._ledger.begin(action.instance, started, known=False)
        except DurableError as error:
            log.error("entity_start_failed", instance=action.instance, sender=instance.id, error=str(error))

    def _answer(self, caller: str, task_id: int, result: Raw, failure: FailureDetails | None) -> None:
        answer: Answer
        if failure is None:
            answer = h.EntityOperationCompleted(task_id, result)
        else:
            answer = h.EntityOperationFailed(task_id, failure)
        if caller == self._callers.name:
            future = self._callers.get(task_id)
            if future is not None:
                self._ledger.outbox.effects.append(partial(set_result, future, answer))
            return
        instance = self._ledger.instances.get(caller)
        if isinstance(instance, Orchestration) and not instance.terminal:
            self._ledger.send(instance, answer)
        # else: the one who asked is gone (an orchestration that ended, a client of an earlier process)
