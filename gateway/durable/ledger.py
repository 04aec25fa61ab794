"""The books of one process: its instances, their mail, the open batch, and the numbers that must never be reused.

Everything that a turn changes goes through here, so that the batch in the making always says what memory says.

What must stay true: record numbers and message ids grow without gaps of meaning over restarts; engine time never runs
backwards; a message that is in a mailbox is in the journal or in the open batch, unless a crash may take it back (see
``send_unwritten``). On a crash here: memory is gone, and the journal holds what was committed, a prefix of what these
books said.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import msgspec

from gateway.clock import Clock
from gateway.durable import history as h
from gateway.durable.entity import EntityCore, EntitySnapshot
from gateway.durable.errors import AlreadyExistsError
from gateway.durable.futures import set_done
from gateway.durable.identity import EntityId
from gateway.durable.instances import EntityInstance, Instance, Orchestration
from gateway.durable.mailbox import Content, Lane, Mail, ReadyQueue
from gateway.durable.outbox import Outbox
from gateway.durable.registry import Registry


@dataclass(slots=True)
class Counters:
    """What the engine has done since it started."""

    turns: int = 0
    batches: int = 0
    messages: int = 0
    replays: int = 0
    dropped: int = 0
    activities: int = 0


class Ledger:
    """See above. wake: called when there is something to run or to write."""

    def __init__(self, registry: Registry, clock: Clock, wake: Callable[[], None]) -> None:
        self.registry = registry
        self.instances: dict[str, Orchestration | EntityInstance] = {}
        self.children: dict[str, set[str]] = {}
        self.starting: set[str] = set()
        self.ready = ReadyQueue()
        self.outbox = Outbox(1)
        self.counters = Counters()
        self.wake = wake
        self._clock = clock
        self._seq = 0
        self._message_id = 0
        self.time_us = 0

    def go_on_from(self, seq: int, message_id: int, time_us: int) -> None:
        """Where the journal ends."""
        self._seq = seq
        self._message_id = message_id
        self.time_us = time_us

    def now_us(self) -> int:
        """Engine time; never runs backwards, also not against the journal."""
        self.time_us = max(self._clock.now_us(), self.time_us)
        return self.time_us

    # The open batch

    def append(self, instance: str, kind: str, payload: bytes) -> int:
        """Append a record with the time of the last ``now_us``; returns its number."""
        self._seq += 1
        self.outbox.record(self._seq, instance, kind, self.time_us, payload)
        return self._seq

    def touch(self, instance: Instance) -> None:
        """Its row is written with the open batch."""
        instance.updated_us = self.time_us
        instance.last_batch = self.outbox.number
        self.outbox.dirty[instance.id] = instance

    def next_outbox(self) -> Outbox:
        """Seal the open batch for the writer, and open the next one."""
        sealed, self.outbox = self.outbox, Outbox(self.outbox.number + 1)
        return sealed

    # Mail

    def send(self, instance: Instance, content: Content, lane: Lane = Lane.OTHER) -> None:
        """Deliver a message; it is durable with the open batch."""
        instance.mailbox.mails.append(self._mail(instance, content))
        self.ready.add(instance.mailbox, instance.id, lane)
        self.wake()

    def send_unwritten(
        self, instance: EntityInstance, content: Content, lane: Lane = Lane.OTHER, task: int = 0
    ) -> None:
        """Deliver a message that becomes durable by being handled, not before: one that a crash may take back, because
        nobody was told that it is safe. Many such messages wait for a turn at once, and each would be written and removed.

        task: the activity whose result it is; its row stays until then, so a crash leaves an activity without a result.
        """
        self.counters.messages += 1
        instance.mailbox.mails.append(Mail(0, content, task))
        self.ready.add(instance.mailbox, instance.id, lane)
        self.wake()

    def send_first(self, instance: Instance, content: Content) -> None:
        """Deliver a message ahead of all that wait."""
        instance.mailbox.mails.appendleft(self._mail(instance, content))
        self.ready.add(instance.mailbox, instance.id, Lane.OTHER)
        self.wake()

    def _mail(self, instance: Instance, content: Content) -> Mail:
        number = self.new_message_id()
        self.counters.messages += 1
        self.outbox.add_message(number, instance.id, content)
        return Mail(number, content)

    def new_message_id(self) -> int:
        """A number that no other message has."""
        self._message_id += 1
        return self._message_id

    # Instances

    def begin(self, instance_id: str, started: h.ExecutionStarted, lane: Lane = Lane.OTHER, *, known: bool) -> None:
        """Start an orchestration; the caller has checked its name.

        known: the caller knows that no orchestration of this id ever was, or goes on with its ids (``first_task``); else
        the journal is asked before the first turn. Errors: AlreadyExistsError while one of this id is alive.
        """
        old = self.instances.get(instance_id)
        if isinstance(old, Orchestration):
            if not old.terminal:
                raise AlreadyExistsError(f"an orchestration {instance_id!r} is running already")
            started = msgspec.structs.replace(started, first_task=max(started.first_task, old.next_task))
            known = True
            # Its row may never be written, when its successor's takes the place; its outcome is in this batch or before.
            self.outbox.effects.extend(partial(set_done, waiter) for waiter in old.waiters)
            self._leave_family(old)
        elif not known and instance_id in self.starting:
            raise AlreadyExistsError(f"an orchestration {instance_id!r} is being started already")
        instance = self.new_orchestration(instance_id, started, unsure=not known)
        self.send(instance, started, lane)
        if known:
            self.touch(instance)

    def new_orchestration(self, instance_id: str, started: h.ExecutionStarted, *, unsure: bool) -> Orchestration:
        """An orchestration that has not run yet. unsure: its id may have been used before."""
        instance = Orchestration(instance_id, started.name, self.now_us())
        instance.parent = started.parent
        instance.parent_task = started.parent_task
        instance.version = started.version
        instance.next_task = started.first_task
        instance.unsure = unsure
        self.admit(instance)
        return instance

    def admit(self, instance: Orchestration) -> None:
        """It lives from now on."""
        self.instances[instance.id] = instance
        if instance.parent:
            self.children.setdefault(instance.parent, set()).add(instance.id)

    def children_of(self, instance: Orchestration) -> list[Orchestration]:
        """Those that it started and that are still running."""
        found = [self.instances.get(child) for child in sorted(self.children.get(instance.id, ()))]
        return [c for c in found if isinstance(c, Orchestration) and c.parent == instance.id and not c.terminal]

    def forget(self, instance: Orchestration) -> None:
        """A finished orchestration leaves memory once its outcome is on disk and none of its activities runs on."""
        if not instance.settled or instance.activities or self.instances.get(instance.id) is not instance:
            return
        del self.instances[instance.id]
        self._leave_family(instance)

    def _leave_family(self, instance: Orchestration) -> None:
        siblings = self.children.get(instance.parent)
        if siblings is not None:
            siblings.discard(instance.id)
            if not siblings:
                del self.children[instance.parent]

    def entity(self, entity_id: EntityId) -> EntityInstance:
        """The entity, made if need be.

        Errors: NotFoundError when no entity of that name is registered.
        """
        key = str(entity_id)
        instance = self.instances.get(key)
        if instance is None:
            instance = self.make_entity(entity_id, self.now_us(), EntitySnapshot())
            self.instances[key] = instance
        assert isinstance(instance, EntityInstance)
        return instance

    def make_entity(self, entity_id: EntityId, created_us: int, snapshot: EntitySnapshot) -> EntityInstance:
        """An entity as it was.

        Errors: NotFoundError when no entity of that name is registered.
        """
        registered = self.registry.get_entity(entity_id.name)
        core = EntityCore(entity_id, registered.function, registered.state_type, snapshot)
        return EntityInstance(str(entity_id), entity_id.name, created_us, core)
