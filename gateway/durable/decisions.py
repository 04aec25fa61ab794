"""What orchestrations decide, into the books: activities, timers, messages to others.

How an execution ends is not told here (see ``orchestrations``). What must stay true: whatever can't be done is answered
where somebody waits for it, and logged where nobody does; nothing is lost in silence. On a crash: a decision and what it
led to are in one batch.
"""

from __future__ import annotations

from typing import assert_never

import structlog

from gateway.durable import history as h
from gateway.durable.activities import PendingActivity
from gateway.durable.entity import OperationRequest
from gateway.durable.errors import DurableError, EntityLockError, describe
from gateway.durable.external import MAX_BUFFERED_EVENTS
from gateway.durable.identity import EntityId
from gateway.durable.instances import EntityInstance, Orchestration
from gateway.durable.ledger import Ledger
from gateway.durable.locks import LockRelease, LockRequest
from gateway.durable.underway import Underway

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Decisions:
    """Carries out what orchestrations decide."""

    def __init__(self, ledger: Ledger, underway: Underway) -> None:
        self._ledger = ledger
        self._underway = underway

    def carry_out(self, instance: Orchestration, action: h.Step, again: bool = False) -> None:
        """Let a decision have its effect; again: it had it before, and is to have it once more."""
        match action:
            case h.TaskScheduled():
                pending = PendingActivity(action.name, action.input, action.attempt, action.operation_id)
                self._underway.schedule(instance, action.id, pending)
            case h.TimerCreated():
                self._underway.set_timer(instance, action.id, action.due_us)
            case h.TimerCancelled():
                self._underway.cancel_timer(instance, action.id)
            case h.SubOrchestrationInstanceCreated():
                # An id made of the parent's and a task's was never used before: task ids are not used twice.
                known = not again and action.instance == f"{instance.id}:{action.id:04x}"
                self._start_child(instance, action, known)
            case h.EntityOperationCalled():
                self._to_entity(
                    action.target, OperationRequest(action.name, action.input, instance.id, action.id), instance
                )
            case h.EntityOperationSignaled():
                self._to_entity(action.target, OperationRequest(action.name, action.input), instance, action.due_us)
            case h.EntityLockRequested():
                self._lock(instance, action)
            case h.EntityUnlockSent():
                self.unlock(instance)
            case h.EventSent():
                self._send_event(instance, action)
            case _:
                assert_never(action)

    def _start_child(self, instance: Orchestration, action: h.SubOrchestrationInstanceCreated, known: bool) -> None:
        try:
            orchestrator, version = self._ledger.registry.new_orchestrator(action.name, action.version or None)
            started = h.ExecutionStarted(
                action.name,
                action.input,
                version,
                instance.id,
                action.id,
                fingerprint=orchestrator.fingerprint,
            )
            self._ledger.begin(action.instance, started, known=known)
        except DurableError as error:
            self._ledger.send(instance, h.SubOrchestrationInstanceFailed(action.id, describe(error)))

    def _to_entity(self, target: str, request: OperationRequest, sender: Orchestration, due_us: int = 0) -> None:
        try:
            self._underway.signal(self._ledger.entity(EntityId.parse(target)), request, due_us)
        except (DurableError, ValueError) as error:
            if request.caller:
                self._ledger.send(sender, h.EntityOperationFailed(request.caller_task, describe(error)))
            else:
                log.error("signal_lost", target=target, operation=request.name, sender=sender.id, error=str(error))

    def _lock(self, instance: Orchestration, action: h.EntityLockRequested) -> None:
        try:
            entities = [self._ledger.entity(EntityId.parse(target)) for target in action.targets]
            for entity in entities:
                if not self._ledger.registry.get_entity(entity.name).lockable:
                    raise EntityLockError(f"{entity.id} can't be locked: others must always reach it")
        except (DurableError, ValueError) as error:
            self._ledger.send(instance, h.EntityOperationFailed(action.id, describe(error)))
            return
        instance.lock_task, instance.lock_targets = action.id, action.targets
        self._ledger.send(entities[0], LockRequest(instance.id, action.id, action.targets))

    def unlock(self, instance: Orchestration) -> None:
        """Give up the critical section that it is in, or that it asked for."""
        for target in instance.lock_targets:
            entity = self._ledger.instances.get(target)
            if isinstance(entity, EntityInstance):
                self._ledger.send(entity, LockRelease(instance.id, instance.lock_task))
        instance.lock_task, instance.lock_targets = 0, ()

    def _send_event(self, instance: Orchestration, action: h.EventSent) -> None:
        target = self._ledger.instances.get(action.instance)
        if not isinstance(target, Orchestration) or target.terminal:
            why = "no such orchestration runs"
        elif target.buffered + target.mailbox.waiting >= MAX_BUFFERED_EVENTS:
            why = f"{MAX_BUFFERED_EVENTS} events wait there already"
        else:
            self._ledger.send(target, h.EventRaised(action.name, action.data, instance.id))
            return
        log.error("event_lost", target=action.instance, raised=action.name, sender=instance.id, error=why)
