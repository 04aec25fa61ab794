"""From what the journal holds to the books of a process that goes on.

Its cost follows what is live, not the length of the log. Entities come back as they were; orchestrations stay on disk
until their first message; timers run on; activities without a result start again, save those that may run only once,
whose caller is told so. What nobody in this process can handle (a function that is not registered any more) is left in
the journal as it is. On a crash here: nothing was changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import structlog

from gateway.durable import history as h
from gateway.durable.activities import INTERRUPTED, Key, PendingActivity, Report, decode_pending
from gateway.durable.codec import NULL
from gateway.durable.entity import CLIENT, EntitySnapshot, OperationRequest, decode_snapshot
from gateway.durable.errors import FailureDetails, NotFoundError
from gateway.durable.identity import EntityId
from gateway.durable.instances import ENTITY, EntityInstance, Orchestration
from gateway.durable.ledger import Ledger
from gateway.durable.locks import LockRelease, LockRequest
from gateway.durable.mailbox import Lane, Mail, decode_content
from gateway.durable.registry import Registry
from gateway.durable.store import InstanceRow, Recovered
from gateway.durable.timers import Timers
from gateway.durable.underway import Underway

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


@dataclass(slots=True)
class Interrupted:
    """Activities that had no result when the process before this one ended."""

    activities: list[tuple[Key, PendingActivity]] = field(default_factory=list)

    def resume(self, registry: Registry, underway: Underway) -> None:
        """Start them again, or tell their callers that they were interrupted."""
        for key, pending in self.activities:
            if _may_repeat(registry, pending.name):
                underway.start_again(key, pending)
            else:
                details = FailureDetails(INTERRUPTED, f"the gateway stopped while {pending.name} was under way")
                underway.settle(key, pending, Report(NULL, details))
        self.activities.clear()


def _may_repeat(registry: Registry, name: str) -> bool:
    try:
        return not registry.get_activity(name).at_most_once
    except NotFoundError:
        return False  # nobody can say any more whether it may be repeated: never repeat on a guess


def recover(found: Recovered, ledger: Ledger, timers: Timers, underway: Underway) -> Interrupted:
    """Fill the books; nothing runs yet."""
    # Signals that wait for their time have numbers of messages, and are no messages yet.
    scheduled = max((timer[1] for timer in found.timers if timer[3]), default=0)
    ledger.go_on_from(found.last_seq, max(found.last_message_id, scheduled), found.last_time_us)
    for values in found.instances:
        row = InstanceRow(*values)
        if row.kind == ENTITY:
            _entity(ledger, row)
        else:
            ledger.admit(Orchestration.from_row(row))
    # Equal due times fire in the order of creation, which within an instance is that of the task ids.
    for instance_id, task_id, due_us, payload in sorted(found.timers, key=lambda timer: (timer[2], timer[1])):
        if payload:
            request = decode_content(payload)
            assert isinstance(request, OperationRequest)
            underway.signal_again((instance_id, task_id), request, due_us)
            continue
        instance = ledger.instances.get(instance_id)
        if isinstance(instance, Orchestration):
            instance.timers.add(task_id)
            timers.set(instance_id, task_id, due_us)
        else:
            ledger.outbox.batch.remove_timer(instance_id, task_id)
    for message_id, target, payload in sorted(found.messages):
        _message(ledger, Mail(message_id, decode_content(payload)), target)
    interrupted = Interrupted()
    for instance_id, task_id, payload in found.activities:
        holder = ledger.instances.get(instance_id)
        if holder is not None:
            holder.activities.add(task_id)
        elif instance_id.startswith("@"):
            continue  # its entity is not registered any more: its result must wait for it
        interrupted.activities.append(((instance_id, task_id), decode_pending(payload)))
    return interrupted


def _without_lost_callers(snapshot: EntitySnapshot) -> EntitySnapshot:
    """Clients of the process that ended wait for nothing any more: their places are free again."""
    waiting = {token: caller for token, caller in snapshot.waiting.items() if not caller[0].startswith(CLIENT)}
    return snapshot if len(waiting) == len(snapshot.waiting) else msgspec.structs.replace(snapshot, waiting=waiting)


def _entity(ledger: Ledger, row: InstanceRow) -> None:
    try:
        snapshot = _without_lost_callers(decode_snapshot(row.state))
        entity = ledger.make_entity(EntityId.parse(row.instance), row.created_us, snapshot)
    except NotFoundError as error:
        # The site's module may come back with the next start: its state and messages stay in the journal.
        log.error("entity_missing", entity=row.instance, error=str(error))
        return
    entity.updated_us = row.updated_us
    entity.first_seq = row.first_seq
    entity.row = row
    ledger.instances[row.instance] = entity


def _message(ledger: Ledger, mail: Mail, target: str) -> None:
    instance = ledger.instances.get(target)
    if instance is None:
        instance = _receiver(ledger, mail, target)
        if instance is None:
            return
    if isinstance(mail.content, h.ExecutionStarted):
        instance.mailbox.mails.appendleft(mail)
    else:
        instance.mailbox.mails.append(mail)
    ledger.ready.add(instance.mailbox, target, Lane.OTHER)


def _receiver(ledger: Ledger, mail: Mail, target: str) -> Orchestration | EntityInstance | None:
    if isinstance(mail.content, h.ExecutionStarted):
        return ledger.new_orchestration(target, mail.content, unsure=True)
    if isinstance(mail.content, OperationRequest | LockRequest | LockRelease):
        try:
            return ledger.entity(EntityId.parse(target))
        except NotFoundError as error:
            log.error("entity_missing", entity=target, error=str(error))
            return None
    ledger.outbox.remove_message(mail.id)  # for an orchestration that has ended
    return None
