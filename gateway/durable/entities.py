"""Turns of entities: operations out of the mailbox, into the pure core, and its decisions into the books."""

from __future__ import annotations

import asyncio
import hashlib
from functools import partial
from typing import assert_never

import structlog

from gateway.durable import history as h
from gateway.durable.activities import PendingActivity
from gateway.durable.codec import MAX_TURN_BYTES, Raw, encode
from gateway.durable.entity import OperationRequest
from gateway.durable.errors import DurableError, EngineStoppedError, FailureDetails
from gateway.durable.futures import set_error, set_result
from gateway.durable.identity import EntityId
from gateway.durable.instances import EntityInstance, Orchestration
from gateway.durable.ledger import Ledger
from gateway.durable.locks import LockRelease, LockRequest
from gateway.durable.mailbox import MESSAGES_PER_TURN, Mail
from gateway.durable.underway import Underway

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

Answer = h.EntityOperationCompleted | h.EntityOperationFailed

LOCKED, UNLOCKED = "(locked)", "(unlocked)"
"""What the records of an entity say of the critical sections that it was in."""


def _may_pass(mail: Mail, owner: str) -> bool:
    """True for what a locked entity hears: its owner's calls, its own activities' results, and its release."""
    content = mail.content
    if isinstance(content, OperationRequest):
        return content.caller == owner or mail.task > 0
    return isinstance(content, LockRelease)


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
        size = 0
        for _ in range(min(len(mails), MESSAGES_PER_TURN)):
            mail = instance.mailbox.mails.popleft()  # anew each time: an unlocked entity has other ones
            request = mail.content
            if core.lock is not None and not _may_pass(mail, core.lock[0]):
                instance.mailbox.parked.append(mail)
                continue
            if mail.id:
                ledger.outbox.remove_message(mail.id)
            elif mail.task:
                ledger.outbox.batch.remove_activity(instance.id, mail.task)
            if not isinstance(request, OperationRequest):
                assert isinstance(request, LockRequest | LockRelease)
                operations.extend(self._change_lock(instance, request))
                continue
            record, answer_now = core.step(request, now_us)
            operations.append(record)
            if record.failure is not None:
                why = str(record.failure)
                log.warning("entity_operation_failed", entity=instance.id, operation=record.name, why=why)
            if answer_now:
                self._answer(request.caller, request.caller_task, record.result, record.failure)
            size += len(request.input) + len(record.result)
            for action in record.actions:
                size += h.payload_bytes(action)
                self._act(instance, action)
            if size > MAX_TURN_BYTES:
                break  # the rest has its turn next
        if not operations:
            return
        seal = "" if core.state is None else hashlib.sha256(core.state).hexdigest()
        seq = ledger.append(instance.id, h.OPERATION, encode(h.EntityRecord(operations, seal)))
        if not instance.first_seq:
            instance.first_seq = seq
        ledger.touch(instance)

    def _change_lock(
        self, instance: EntityInstance, request: LockRequest | LockRelease
    ) -> tuple[h.OperationRecord, ...]:
        """Lock or unlock the entity; what the journal keeps of it, nothing when nobody wants it any more."""
        core = instance.core
        if isinstance(request, LockRelease):
            if core.lock != (request.owner, request.task):
                return ()
            core.lock = None
            instance.mailbox.unpark()
            return (h.OperationRecord(UNLOCKED, caller=request.owner),)
        owner = self._ledger.instances.get(request.owner)
        if not isinstance(owner, Orchestration) or owner.lock_task != request.task:
            return ()  # it has ended, or let go, while the request was under way
        core.lock = (request.owner, request.task)
        place = request.place + 1
        if place < len(request.targets):
            following = self._ledger.entity(EntityId.parse(request.targets[place]))
            self._ledger.send(following, LockRequest(request.owner, request.task, request.targets, place))
        else:
            self._ledger.send(owner, h.EntityLockGranted(request.task))
        return (h.OperationRecord(LOCKED, caller=request.owner),)

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
            self._underway.signal(target, OperationRequest(action.name, action.input), action.due_us)
        except (DurableError, ValueError) as error:
            # Nobody waits for a signal: all that can be done is to tell.
            log.error("signal_lost", target=action.target, sender=instance.id, error=str(error))

    def _start(self, instance: EntityInstance, action: h.EntityStarts) -> None:
        try:
            orchestrator, version = self._ledger.registry.new_orchestrator(action.name, action.version or None)
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
