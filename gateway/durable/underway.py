"""Activities and timers that instances have under way: journaled when they begin, and when they end.

What must stay true: an activity starts only once the batch that schedules it is on disk, and its row goes in the batch
that holds its result (for an orchestration the message, for an entity the turn that takes it); the same for timers. On a
crash here: rows without a result are activities to start again (or to report as interrupted), and timers that run on.
"""

from __future__ import annotations

from functools import partial

import msgspec
import structlog

from gateway.durable import history as h
from gateway.durable.activities import ActivityRunner, Key, PendingActivity, Report, encode_pending
from gateway.durable.codec import Raw, encode
from gateway.durable.entity import OperationRequest
from gateway.durable.errors import LimitExceededError, NotFoundError
from gateway.durable.identity import EntityId
from gateway.durable.instances import EntityInstance, Instance, Orchestration
from gateway.durable.ledger import Ledger
from gateway.durable.mailbox import Lane, encode_content
from gateway.durable.store import ActivityRow, TimerRow
from gateway.durable.timers import Timers

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

MAX_SCHEDULED_SIGNALS = 100_000


class Underway:
    """The engine's bookkeeping of what its instances wait for outside of their turns."""

    def __init__(self, ledger: Ledger, timers: Timers, runner: ActivityRunner) -> None:
        self._ledger = ledger
        self._timers = timers
        self._runner = runner
        self._pending: dict[Key, PendingActivity] = {}
        self._scheduled: dict[Key, OperationRequest] = {}

    # Activities

    def schedule(self, instance: Instance, task_id: int, pending: PendingActivity) -> None:
        """An instance wants an activity; it starts once that is on disk."""
        key = (instance.id, task_id)
        self._pending[key] = pending
        instance.activities.add(task_id)
        self._ledger.counters.activities += 1
        outbox = self._ledger.outbox
        outbox.batch.add_activity(ActivityRow(instance.id, task_id, encode_pending(pending)))
        outbox.effects.append(partial(self._start, key, pending))

    def start_again(self, key: Key, pending: PendingActivity) -> None:
        """Start an activity that was under way when the process before this one ended."""
        self._pending[key] = pending
        self._start(key, pending)

    def _start(self, key: Key, pending: PendingActivity) -> None:
        if key in self._pending:  # else its orchestration was terminated meanwhile
            self._runner.start(key, pending)

    def activities_of(self, instance_id: str) -> set[int]:
        """Those of an instance that have no result yet, by id; also of one that has finished."""
        return {task_id for holder, task_id in self._pending if holder == instance_id}

    def holders(self) -> set[str]:
        """Instances that have activities without a result."""
        return {holder for holder, _ in self._pending}

    def cancel_activities(self, instance: Instance) -> None:
        """They are not wanted any more; those that run are cancelled once that is on disk."""
        outbox = self._ledger.outbox
        for task_id in instance.activities:
            key = (instance.id, task_id)
            self._pending.pop(key, None)
            outbox.batch.remove_activity(*key)
            outbox.effects.append(partial(self._runner.cancel, key))
        instance.activities.clear()

    def ended(self, key: Key, report: Report) -> None:
        """An activity has ended: its instance gets the result."""
        pending = self._pending.pop(key, None)
        if pending is not None:
            self.settle(key, pending, report)

    def settle(self, key: Key, pending: PendingActivity, report: Report) -> None:
        """Its result is under way. An entity's activity keeps its row until the turn that takes the result: entities are
        never stuck, so that turn is near."""
        ledger = self._ledger
        instance_id, task_id = key
        instance = ledger.instances.get(instance_id)
        if isinstance(instance, EntityInstance):
            instance.activities.discard(task_id)
            ledger.send_unwritten(instance, _outcome(task_id, pending, report), Lane.RESULT, task_id)
            return
        ledger.outbox.batch.remove_activity(instance_id, task_id)
        ledger.wake()
        if instance is None:
            return
        instance.activities.discard(task_id)
        if instance.terminal:
            ledger.forget(instance)
        elif report.failure is None:
            ledger.send(instance, h.TaskCompleted(task_id, report.result), Lane.RESULT)
        else:
            ledger.send(instance, h.TaskFailed(task_id, report.failure), Lane.RESULT)

    # Timers

    def set_timer(self, instance: Orchestration, task_id: int, due_us: int) -> None:
        """A timer runs from now on."""
        instance.timers.add(task_id)
        self._ledger.outbox.batch.add_timer(TimerRow(instance.id, task_id, due_us, b""))
        self._timers.set(instance.id, task_id, due_us)

    def cancel_timer(self, instance: Orchestration, task_id: int) -> None:
        """A timer is not wanted any more; nothing happens when it has fired."""
        instance.timers.discard(task_id)
        if self._timers.cancel(instance.id, task_id):
            self._ledger.outbox.batch.remove_timer(instance.id, task_id)

    def cancel_timers(self, instance: Orchestration) -> None:
        """None of its timers is wanted any more."""
        for task_id in list(instance.timers):
            self.cancel_timer(instance, task_id)

    def signal(self, entity: EntityInstance, request: OperationRequest, due_us: int) -> None:
        """Tell an entity something, at due_us: at once when that has passed (0: always).

        Errors: LimitExceededError, when too many wait for their time.
        """
        now_us = self._ledger.time_us
        request = msgspec.structs.replace(request, sent_us=max(due_us, now_us))
        if due_us <= now_us:
            self._ledger.send(entity, request)
            return
        if len(self._scheduled) >= MAX_SCHEDULED_SIGNALS:
            raise LimitExceededError(f"{MAX_SCHEDULED_SIGNALS} signals wait for their time already")
        number = self._ledger.new_message_id()
        self._ledger.outbox.batch.add_timer(TimerRow(entity.id, number, due_us, encode_content(request)))
        self.signal_again((entity.id, number), request, due_us)
        self._ledger.wake()

    def scheduled_targets(self) -> set[str]:
        """Entities that a signal waits for."""
        return {target for target, _ in self._scheduled}

    def signal_again(self, key: Key, request: OperationRequest, due_us: int) -> None:
        """A signal that waited for its time when the process before this one ended."""
        self._scheduled[key] = request
        self._timers.set(*key, due_us)

    def _scheduled_due(self, key: Key, request: OperationRequest) -> None:
        try:
            entity = self._ledger.entity(EntityId.parse(key[0]))
        except NotFoundError as error:
            # The site's module may come back with the next start: its signals stay in the journal.
            log.error("entity_missing", entity=key[0], error=str(error))
            return
        del self._scheduled[key]
        self._ledger.outbox.batch.remove_timer(*key)
        self._ledger.send(entity, request)

    def fired(self, keys: list[Key]) -> None:
        """Timers have come due: their instances are told."""
        for instance_id, task_id in keys:
            request = self._scheduled.get((instance_id, task_id))
            if request is not None:
                self._scheduled_due((instance_id, task_id), request)
                continue
            self._ledger.outbox.batch.remove_timer(instance_id, task_id)
            instance = self._ledger.instances.get(instance_id)
            if isinstance(instance, Orchestration):
                instance.timers.discard(task_id)
                self._ledger.send(instance, h.TimerFired(task_id))
        self._ledger.wake()


def _outcome(task_id: int, pending: PendingActivity, report: Report) -> OperationRequest:
    error = report.failure
    outcome = {
        "ok": error is None,
        "result": report.result,
        "error": None if error is None else {"type": error.kind, "message": error.message},
        "context": pending.context,
        "id": task_id,
    }
    return OperationRequest(pending.on_result, Raw(encode(outcome)))
