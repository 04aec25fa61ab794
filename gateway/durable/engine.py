"""The engine: takes a mailbox, runs a turn, hands it to the journal, lets effects go once it is on disk.

Theory of operation. An instance is an orchestration or an entity. Everything that happens to it is a message in its
mailbox: a start, an external event, the result of an activity, a fired timer, an operation. A *turn* takes what is there,
steps the pure core once and yields decisions. Messages to other instances of this process are delivered at once, ahead of
the disk; effects that leave the process (an activity that starts, a client that is answered) wait for the batch that holds
the turn. Batches are committed in the order of the turns, so what a crash leaves is always a prefix of what happened: a
lost message is lost by its sender too.

What must stay true:

* Nothing leaves this process before its cause is on disk.
* Each message is handled in exactly one committed turn: its row goes away in the batch that holds that turn.
* When the journal fails, the engine stops for good: nothing is answered, nothing is started any more.

On a crash: ``recover`` reads what is live, in bulk. Entities come back as they were; orchestrations stay on disk until
their first message; timers run on; activities without a result start again, save those registered as at most once,
whose caller is told ``ActivityInterrupted``.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, assert_never

import msgspec
import structlog

from gateway.clock import Clock
from gateway.durable import history as h
from gateway.durable.activities import (
    INTERRUPTED,
    ActivityRunner,
    Key,
    PendingActivity,
    Report,
    decode_pending,
    encode_pending,
)
from gateway.durable.client import DurableOrchestrationClient
from gateway.durable.codec import NULL, Raw, encode
from gateway.durable.entity import (
    EntityCore,
    EntitySnapshot,
    OperationRequest,
    decode_snapshot,
)
from gateway.durable.errors import (
    AlreadyExistsError,
    DurableError,
    EngineStoppedError,
    FailureDetails,
    NondeterminismError,
    NotFoundError,
    describe,
)
from gateway.durable.identity import EntityId
from gateway.durable.instances import (
    ENTITY,
    TERMINAL,
    EntityInstance,
    Instance,
    Orchestration,
    OrchestrationRuntimeStatus,
)
from gateway.durable.mailbox import Content, Lane, Mail, ReadyQueue, decode_content
from gateway.durable.outbox import Outbox
from gateway.durable.registry import Registry
from gateway.durable.replay import Execution, replay
from gateway.durable.store import ActivityRow, InstanceRow, Store, TimerRow
from gateway.durable.timers import Timers

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

MESSAGES_PER_TURN = 256
TURNS_PER_SLICE = 32
MAX_LIVE_GENERATORS = 10_000
HISTORY_ALARM_EVENTS = 10_000
MAX_STOP_ROUNDS = 100


@dataclass(slots=True)
class Counters:
    """What the engine has done since it started."""

    turns: int = 0
    batches: int = 0
    messages: int = 0
    replays: int = 0
    dropped: int = 0
    activities: int = 0


class Engine:
    """All instances of one process, and the only loop that runs them.

    max_pending: records that may wait for the journal; beyond that, turns pause and callers wait until it has caught up.
    """

    def __init__(self, store: Store, registry: Registry, clock: Clock, max_pending: int = 20_000) -> None:
        self.registry = registry
        self.clock = clock
        self.counters = Counters()
        self.client = DurableOrchestrationClient(self)
        self.instances: dict[str, Orchestration | EntityInstance] = {}
        self.timers = Timers(clock, self._timers_fired)
        self.activities = ActivityRunner(registry, self.client, self._activity_ended)
        self.failure: BaseException | None = None
        self._store = store
        self._max_pending = max_pending
        self._ready = ReadyQueue()
        self._outbox = Outbox(1)
        self._committed_batch = 0
        self._seq = 0
        self._message_id = 0
        self._last_us = 0
        self._live: OrderedDict[str, Orchestration] = OrderedDict()
        self._recovered_activities: list[tuple[Key, PendingActivity]] = []
        self._pending: dict[Key, PendingActivity] = {}
        self._pumping = False
        self._running = False
        self._dirty = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._stopped = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._loads: set[asyncio.Task[None]] = set()
        self._callers: dict[int, asyncio.Future[h.EntityOperationCompleted | h.EntityOperationFailed]] = {}
        self._finish_waiters: dict[str, list[asyncio.Future[None]]] = {}
        self._next_call = 0

    # Life

    async def recover(self) -> None:
        """Read what is live from the journal; nothing runs yet.

        Errors: those of the store.
        """
        found = await self._store.recover()
        self._seq = found.last_seq
        self._message_id = found.last_message_id
        self._last_us = found.last_time_us
        for values in found.instances:
            row = InstanceRow(*values)
            if row.kind == ENTITY:
                self._recover_entity(row)
            else:
                self.instances[row.instance] = Orchestration.from_row(row)
        for instance_id, task_id, due_us, _ in found.timers:
            instance = self.instances.get(instance_id)
            if isinstance(instance, Orchestration):
                instance.timers.add(task_id)
                self.timers.set(instance_id, task_id, due_us)
        for instance_id, task_id, payload in found.activities:
            holder = self.instances.get(instance_id)
            if holder is not None:
                holder.activities.add(task_id)
            self._recovered_activities.append(((instance_id, task_id), decode_pending(payload)))
        for message_id, target, payload in sorted(found.messages):
            self._recover_message(Mail(message_id, decode_content(payload)), target)

    def _recover_entity(self, row: InstanceRow) -> None:
        entity_id = EntityId.parse(row.instance)
        try:
            entity = self._make_entity(entity_id, row.created_us, decode_snapshot(row.state))
        except NotFoundError as error:
            # The site's module may come back with the next start: its state and messages stay in the journal.
            log.error("entity_missing", entity=row.instance, error=str(error))
            return
        entity.updated_us = row.updated_us
        entity.first_seq = row.first_seq
        entity.row = row
        self.instances[row.instance] = entity

    def _recover_message(self, mail: Mail, target: str) -> None:
        instance = self.instances.get(target)
        if instance is None:
            if isinstance(mail.content, h.ExecutionStarted):
                instance = self._new_orchestration(target, mail.content)
            elif isinstance(mail.content, OperationRequest):
                try:
                    instance = self.entity(EntityId.parse(target))
                except NotFoundError as error:
                    log.error("entity_missing", entity=target, error=str(error))
                    return
            else:
                self._outbox.remove_message(mail.id)
                return
        if isinstance(mail.content, h.ExecutionStarted):
            instance.mailbox.mails.appendleft(mail)
        else:
            instance.mailbox.mails.append(mail)
        self._ready.add(instance.mailbox, target, Lane.OTHER)

    def start(self) -> None:
        """Run: turns, timers, activities."""
        self._running = True
        self._writer = asyncio.get_running_loop().create_task(self._write_loop(), name="journal-writer")
        for key, pending in self._recovered_activities:
            if key[0] not in self.instances:  # who wanted it has ended
                self._outbox.batch.remove_activity(*key)
            elif self._is_at_most_once(pending.name):
                details = FailureDetails(INTERRUPTED, f"the gateway stopped while {pending.name} was under way")
                self._settle_activity(key, pending, Report(NULL, details))
            else:
                self._pending[key] = pending
                self.activities.start(key, pending)
        self._recovered_activities = []
        self.timers.start()
        self._schedule_pump()

    def _is_at_most_once(self, name: str) -> bool:
        try:
            return self.registry.get_activity(name).at_most_once
        except NotFoundError:
            # Nobody can say any more whether it may be repeated: never repeat on a guess.
            return True

    async def stop(self, drain_s: float = 5.0) -> None:
        """Take nothing more, let activities end, write what is pending, stop. Pending work goes on after a restart."""
        self.timers.stop()
        cut_off = await self.activities.drain(drain_s)
        if cut_off:
            log.warning("activities_cut_off", count=cut_off)
        for _ in range(MAX_STOP_ROUNDS):
            if self.failure is not None or (self._outbox.empty and not self._pumping):
                break
            self._dirty.set()
            await asyncio.wait([self.on_disk()])
        self._running = False
        for load in list(self._loads):
            load.cancel()
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait([self._writer])
        self._fail_waiters(EngineStoppedError("the gateway is stopping"))
        self._stopped.set()

    async def wait_stopped(self) -> None:
        """Return when the engine has stopped or failed; ``failure`` says why."""
        await self._stopped.wait()

    def now_us(self) -> int:
        """Engine time; never runs backwards, also not against the journal."""
        self._last_us = max(self.clock.now_us(), self._last_us)
        return self._last_us

    # What clients ask for

    async def admit(self) -> None:
        """Wait until the journal has room.

        Errors: EngineStoppedError.
        """
        while not self._room.is_set():
            await self._room.wait()
        self._check_running()

    def _check_running(self) -> None:
        if self.failure is not None:
            raise EngineStoppedError(f"the gateway's journal failed: {self.failure}") from self.failure
        if not self._running:
            raise EngineStoppedError("the gateway is stopping")

    def begin(self, instance_id: str, started: h.ExecutionStarted, lane: Lane = Lane.OTHER) -> None:
        """Start an orchestration; the caller has checked its name.

        Errors: AlreadyExistsError while one of this id is alive.
        """
        old = self.instances.get(instance_id)
        if isinstance(old, Orchestration) and not old.terminal:
            raise AlreadyExistsError(f"an orchestration {instance_id!r} is running already")
        if isinstance(old, Orchestration):
            started = msgspec.structs.replace(started, first_task=max(started.first_task, old.next_task))
        instance = self._new_orchestration(instance_id, started)
        self.send(instance, started, lane)

    def _new_orchestration(self, instance_id: str, started: h.ExecutionStarted) -> Orchestration:
        instance = Orchestration(instance_id, started.name, self.now_us())
        instance.parent = started.parent
        instance.parent_task = started.parent_task
        instance.version = started.version
        instance.next_task = started.first_task
        self.instances[instance_id] = instance
        return instance

    def send(self, instance: Orchestration | EntityInstance, content: Content, lane: Lane) -> None:
        """Deliver a message; it is durable with the open batch."""
        self._message_id += 1
        self.counters.messages += 1
        self._outbox.add_message(self._message_id, instance.id, content)
        instance.mailbox.mails.append(Mail(self._message_id, content))
        self._ready.add(instance.mailbox, instance.id, lane)
        self._schedule_pump()

    def entity(self, entity_id: EntityId) -> EntityInstance:
        """The entity, made if need be.

        Errors: NotFoundError when no entity of that name is registered.
        """
        key = str(entity_id)
        instance = self.instances.get(key)
        if instance is None:
            instance = self._make_entity(entity_id, self.now_us(), EntitySnapshot())
            self.instances[key] = instance
        assert isinstance(instance, EntityInstance)
        return instance

    def _make_entity(self, entity_id: EntityId, created_us: int, snapshot: EntitySnapshot) -> EntityInstance:
        registered = self.registry.get_entity(entity_id.name)
        core = EntityCore(entity_id, registered.function, registered.state_type, snapshot)
        return EntityInstance(str(entity_id), entity_id.name, created_us, core)

    def new_call(self) -> tuple[int, asyncio.Future[h.EntityOperationCompleted | h.EntityOperationFailed]]:
        """A number and a future for a client that waits for an entity's answer."""
        self._next_call += 1
        future: asyncio.Future[h.EntityOperationCompleted | h.EntityOperationFailed]
        future = asyncio.get_running_loop().create_future()
        number = self._next_call
        self._callers[number] = future
        future.add_done_callback(lambda _: self._callers.pop(number, None))
        return number, future

    def finish_waiter(self, instance_id: str) -> asyncio.Future[None]:
        """A future that completes once the outcome of this orchestration is on disk."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._finish_waiters.setdefault(instance_id, []).append(future)
        return future

    def on_disk(self) -> asyncio.Future[None]:
        """A future that completes once everything decided up to now is on disk."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._outbox.effects.append(partial(_set_done, future))
        self._outbox.lost.append(partial(_set_error, future))
        self._schedule_pump()
        return future

    def record(self, instance: str, kind: str, payload: object) -> asyncio.Future[None]:
        """Append a record of the gateway's own (an operator's act, a start, an alarm); durable when the future is done."""
        self._append(instance, kind, encode(payload))
        return self.on_disk()

    def _append(self, instance: str, kind: str, payload: bytes) -> int:
        self._seq += 1
        self._outbox.record(self._seq, instance, kind, self._last_us or self.now_us(), payload)
        return self._seq

    async def read_instance(self, instance_id: str) -> InstanceRow | None:
        """The committed row of an instance, finished ones too."""
        row = await self._store.instance(instance_id)
        return None if row is None else InstanceRow(*row)

    async def read_instances(
        self,
        *,
        kind: str | None = None,
        name: str | None = None,
        statuses: Sequence[str] | None = None,
        prefix: str | None = None,
        created_from_us: int | None = None,
        created_to_us: int | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[InstanceRow]:
        """Committed rows in the order of instance id (see Store.instances)."""
        rows = await self._store.instances(
            kind=kind,
            name=name,
            statuses=statuses,
            prefix=prefix,
            created_from_us=created_from_us,
            created_to_us=created_to_us,
            limit=limit,
            after=after,
        )
        return [InstanceRow(*row) for row in rows]

    async def read_history(self, instance_id: str, first_seq: int) -> Sequence[tuple[int, str, str, int, bytes]]:
        """Committed records of an instance."""
        return await self._store.history(instance_id, first_seq)

    # The loop

    def _schedule_pump(self) -> None:
        if not self._pumping and self._running:
            self._pumping = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        """Run some turns, then give the event loop its turn."""
        self._pumping = False
        if not self._running or self.failure is not None:
            return
        for _ in range(TURNS_PER_SLICE):
            if len(self._outbox.batch.records) >= self._max_pending:
                self._room.clear()  # the writer calls again
                break
            instance_id = self._ready.pop()
            if instance_id is None:
                break
            try:
                self._run_turn(instance_id)
            except Exception as error:
                log.exception("turn_failed", instance=instance_id)
                self._fail(error)
                return
        else:
            self._schedule_pump()
        if not self._outbox.empty:
            self._dirty.set()

    def _run_turn(self, instance_id: str) -> None:
        instance = self.instances.get(instance_id)
        if instance is None or not instance.mailbox.mails:
            return
        self.counters.turns += 1
        if isinstance(instance, EntityInstance):
            self._entity_turn(instance)
        else:
            self._orchestration_turn(instance)
        if instance.mailbox.mails and not (
            isinstance(instance, Orchestration) and (instance.loading or instance.stuck)
        ):
            self._ready.add(instance.mailbox, instance_id, Lane.OTHER)

    async def _write_loop(self) -> None:
        try:
            while True:
                await self._dirty.wait()
                self._dirty.clear()
                sealed, self._outbox = self._outbox, Outbox(self._outbox.number + 1)
                if not self._room.is_set():
                    self._room.set()
                self._schedule_pump()
                await self._write(sealed)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - any failure of the journal, of whatever kind, ends the engine (fail stop)
            self._fail(error)

    async def _write(self, sealed: Outbox) -> None:
        if sealed.empty:
            return
        rows: dict[str, InstanceRow] = {}

        def make_rows(dirty: set[str]) -> dict[str, InstanceRow]:
            for instance_id in dirty:
                rows[instance_id] = self.instances[instance_id].to_row()
            return rows

        batch = sealed.seal(make_rows)
        if not batch.empty:
            try:
                await self._store.commit(batch)
            except BaseException as error:
                for lost in sealed.lost:
                    lost(EngineStoppedError(f"the gateway's journal failed: {error}"))
                raise
            self.counters.batches += 1
        self._committed_batch = sealed.number
        for instance_id, row in rows.items():
            self._committed(instance_id, row)
        for effect in sealed.effects:
            effect()
        self._evict()

    def _committed(self, instance_id: str, row: InstanceRow) -> None:
        instance = self.instances.get(instance_id)
        if instance is None:
            return
        instance.row = row
        if isinstance(instance, Orchestration) and row.status in TERMINAL:
            self._forget(instance)
            for waiter in self._finish_waiters.pop(instance_id, ()):
                _set_done(waiter)

    def _forget(self, instance: Orchestration) -> None:
        """A finished orchestration leaves memory once its outcome is on disk and none of its activities runs on."""
        if not instance.terminal or instance.activities or instance.row is None or instance.row.status not in TERMINAL:
            return
        self._drop_all(instance)
        if self.instances.get(instance.id) is instance:
            del self.instances[instance.id]

    def _fail(self, error: BaseException) -> None:
        self.failure = error
        self._running = False
        log.critical("journal_failed", error=str(error), kind=type(error).__name__)
        self.timers.stop()
        self._fail_waiters(EngineStoppedError(f"the gateway's journal failed: {error}"))
        self._room.set()
        self._stopped.set()

    def _fail_waiters(self, error: EngineStoppedError) -> None:
        for lost in self._outbox.lost:
            lost(error)
        for caller in list(self._callers.values()):
            _set_error(caller, error)
        for waiters in self._finish_waiters.values():
            for waiter in waiters:
                _set_error(waiter, error)
        self._finish_waiters.clear()

    def _evict(self) -> None:
        while len(self._live) > MAX_LIVE_GENERATORS:
            instance_id, instance = next(iter(self._live.items()))
            if instance.mailbox.mails or instance.last_batch > self._committed_batch:
                self._live.move_to_end(instance_id)
                return
            del self._live[instance_id]
            if instance.execution is not None:
                instance.execution.close()
                instance.execution = None

    # Orchestrations

    def _orchestration_turn(self, instance: Orchestration) -> None:
        mails = instance.mailbox.mails
        if instance.terminal:
            self._drop_all(instance)
            return
        started = mails[0].content
        if isinstance(started, h.ExecutionStarted) and not self._start_execution(instance, started):
            return
        if instance.execution is None:
            self._load(instance)
            return
        execution = instance.execution
        now_us = self.now_us()
        execution.begin_turn(now_us)
        events: list[h.Incoming | h.Action] = []
        terminated: h.ExecutionTerminated | None = None
        for _ in range(min(len(mails), MESSAGES_PER_TURN)):
            if execution.outcome is not None:
                break
            mail = mails.popleft()
            self._outbox.remove_message(mail.id)
            content = mail.content
            assert not isinstance(content, OperationRequest)
            if not execution.wants(content):
                self.counters.dropped += 1
                continue
            events.append(content)
            execution.apply(content)
            if isinstance(content, h.ExecutionTerminated):
                terminated = content
                break
        if events:
            self._finish_turn(instance, execution, events, terminated)

    def _start_execution(self, instance: Orchestration, started: h.ExecutionStarted) -> bool:
        try:
            orchestrator = self.registry.get_orchestrator(started.name)
        except NotFoundError as error:
            self._get_stuck(instance, error)
            return False
        if instance.execution is not None:
            instance.execution.close()
        instance.execution = Execution(instance.id, orchestrator.function)
        instance.first_seq = 0  # set when the turn is recorded
        instance.status = OrchestrationRuntimeStatus.Running
        instance.execution_number = started.execution
        self._live[instance.id] = instance
        return True

    def _get_stuck(self, instance: Orchestration, error: NotFoundError) -> None:
        # The site's module may come back with the next start: it keeps what it was told, and goes on then.
        instance.stuck = str(error)
        log.error("orchestrator_missing", instance=instance.id, error=str(error))

    def _finish_turn(
        self,
        instance: Orchestration,
        execution: Execution,
        events: list[h.Incoming | h.Action],
        terminated: h.ExecutionTerminated | None,
    ) -> None:
        actions = execution.end_turn()
        if terminated is not None:
            actions = []
        events.extend(actions)
        status = execution.custom_status if execution.custom_status_set else None
        payload = h.encode_turn(h.TurnRecord(events, NULL if status is None else status))
        seq = self._append(instance.id, h.TURN, payload)
        if not instance.first_seq:
            instance.first_seq = seq
        self._touch(instance)
        if status is not None:
            instance.custom_status = status
        before, instance.events = instance.events, execution.events_total
        if before < HISTORY_ALARM_EVENTS <= instance.events:
            log.warning("history_long", instance=instance.id, events=instance.events)
        instance.next_task = execution.next_task
        for action in actions:
            self._dispatch(instance, action)
        if terminated is not None:
            self._terminated(instance, terminated)
        elif execution.outcome is None:
            self._live.move_to_end(instance.id)

    def _touch(self, instance: Orchestration | EntityInstance) -> None:
        instance.updated_us = self._last_us
        instance.last_batch = self._outbox.number
        self._outbox.dirty.add(instance.id)

    def _dispatch(self, instance: Orchestration, action: h.Action) -> None:
        match action:
            case h.TaskScheduled():
                pending = PendingActivity(action.name, action.input, action.attempt, action.operation_id)
                self._schedule_activity(instance, action.id, pending)
            case h.TimerCreated():
                instance.timers.add(action.id)
                self._outbox.batch.add_timer(TimerRow(instance.id, action.id, action.due_us, b""))
                self.timers.set(instance.id, action.id, action.due_us)
            case h.TimerCancelled():
                self._cancel_timer(instance, action.id)
            case h.SubOrchestrationInstanceCreated():
                self._start_child(instance, action)
            case h.EntityOperationCalled():
                request = OperationRequest(action.name, action.input, instance.id, action.id)
                self._to_entity(action.target, request, instance, action.id)
            case h.EntityOperationSignaled():
                self._to_entity(action.target, OperationRequest(action.name, action.input), instance, 0)
            case h.ContinueAsNew():
                self._continue(instance, action)
            case h.ExecutionCompleted():
                self._end(instance, OrchestrationRuntimeStatus.Completed, action.result, None)
            case h.ExecutionFailed():
                self._end(instance, OrchestrationRuntimeStatus.Failed, NULL, action.details)
            case _:
                assert_never(action)

    def _cancel_timer(self, instance: Orchestration, task_id: int) -> None:
        instance.timers.discard(task_id)
        if self.timers.cancel(instance.id, task_id):
            self._outbox.batch.remove_timer(instance.id, task_id)

    def _start_child(self, instance: Orchestration, action: h.SubOrchestrationInstanceCreated) -> None:
        try:
            orchestrator = self.registry.get_orchestrator(action.name)
            self.begin(
                action.instance,
                h.ExecutionStarted(
                    action.name,
                    action.input,
                    action.version or orchestrator.version,
                    instance.id,
                    action.id,
                    fingerprint=orchestrator.fingerprint,
                ),
            )
        except DurableError as error:
            self.send(instance, h.SubOrchestrationInstanceFailed(action.id, describe(error)), Lane.OTHER)

    def _to_entity(self, target: str, request: OperationRequest, sender: Orchestration, task_id: int) -> None:
        try:
            entity = self.entity(EntityId.parse(target))
        except (DurableError, ValueError) as error:
            if task_id:
                self.send(sender, h.EntityOperationFailed(task_id, describe(error)), Lane.OTHER)
            else:
                log.error("signal_to_unknown_entity", target=target, operation=request.name, sender=sender.id)
            return
        self.send(entity, request, Lane.OTHER)

    def _continue(self, instance: Orchestration, action: h.ContinueAsNew) -> None:
        execution = instance.execution
        assert execution is not None
        self._cancel_timers(instance)
        execution.close()
        orchestrator = self.registry.get_orchestrator(instance.name)
        started = h.ExecutionStarted(
            instance.name,
            action.input,
            instance.version,
            instance.parent,
            instance.parent_task,
            execution.next_task,
            instance.execution_number + 1,
            orchestrator.fingerprint,
            execution.leftover_events(),
        )
        self._message_id += 1
        self._outbox.add_message(self._message_id, instance.id, started)
        # Ahead of everything that waits: the rest belongs to the new execution (recovery puts it first, too).
        instance.mailbox.mails.appendleft(Mail(self._message_id, started))
        self._ready.add(instance.mailbox, instance.id, Lane.OTHER)

    def _cancel_timers(self, instance: Orchestration) -> None:
        for task_id in list(instance.timers):
            self._cancel_timer(instance, task_id)

    def _terminated(self, instance: Orchestration, event: h.ExecutionTerminated) -> None:
        instance.reason = event.reason
        for task_id in list(instance.activities):
            self._outbox.batch.remove_activity(instance.id, task_id)
            self._pending.pop((instance.id, task_id), None)
            self._outbox.effects.append(partial(self.activities.cancel, (instance.id, task_id)))
        instance.activities.clear()
        if event.recursive:
            for child in list(self.instances.values()):
                if isinstance(child, Orchestration) and child.parent == instance.id and not child.terminal:
                    self.send(child, event, Lane.OPERATOR)
        details = FailureDetails("Terminated", event.reason or "the orchestration was terminated")
        self._end(instance, OrchestrationRuntimeStatus.Terminated, NULL, details)

    def _end(
        self,
        instance: Orchestration,
        status: OrchestrationRuntimeStatus,
        output: Raw,
        failure: FailureDetails | None,
    ) -> None:
        instance.status = status
        instance.output = output
        instance.failure = failure
        self._touch(instance)
        self._cancel_timers(instance)
        self._live.pop(instance.id, None)
        if instance.execution is not None:
            instance.execution.close()
            instance.execution = None
        self._drop_all(instance)
        parent = self.instances.get(instance.parent) if instance.parent else None
        if isinstance(parent, Orchestration) and not parent.terminal:
            answer: Content
            if failure is None:
                answer = h.SubOrchestrationInstanceCompleted(instance.parent_task, output)
            else:
                answer = h.SubOrchestrationInstanceFailed(instance.parent_task, failure)
            self.send(parent, answer, Lane.OTHER)

    def _drop_all(self, instance: Instance) -> None:
        for mail in instance.mailbox.mails:
            self._outbox.remove_message(mail.id)
            self.counters.dropped += 1
            if isinstance(mail.content, h.EventRaised):
                log.warning("event_came_too_late", instance=instance.id, raised=mail.content.name)
        instance.mailbox.mails.clear()

    def _load(self, instance: Orchestration) -> None:
        if instance.loading or instance.stuck:
            return
        instance.loading = True
        task = asyncio.get_running_loop().create_task(self._load_from_store(instance))
        self._loads.add(task)
        task.add_done_callback(self._loads.discard)

    async def _load_from_store(self, instance: Orchestration) -> None:
        try:
            rows = await self._store.history(instance.id, instance.first_seq)
            orchestrator = self.registry.get_orchestrator(instance.name)
            turns = [(row[3], h.decode_turn(row[4])) for row in rows if row[2] == h.TURN]
            instance.execution = replay(instance.id, orchestrator.function, turns)
        except NotFoundError as error:
            self._get_stuck(instance, error)
        except NondeterminismError as error:
            self._fail_replay(instance, error)
        except Exception as error:  # noqa: BLE001 - a journal that can't be read is as bad as one that can't be written
            self._fail(error)
        else:
            self._live[instance.id] = instance
        finally:
            instance.loading = False
            instance.replays += 1
            self.counters.replays += 1
        if instance.execution is not None:
            self._ready.add(instance.mailbox, instance.id, Lane.OTHER)
            self._schedule_pump()

    def _fail_replay(self, instance: Orchestration, error: NondeterminismError) -> None:
        log.error("nondeterminism", instance=instance.id, error=str(error))
        self.now_us()
        failed = h.ExecutionFailed(describe(error))
        self._append(instance.id, h.TURN, h.encode_turn(h.TurnRecord([failed])))
        self._end(instance, OrchestrationRuntimeStatus.Failed, NULL, failed.details)
        self._schedule_pump()

    # Entities

    def _entity_turn(self, instance: EntityInstance) -> None:
        mails = instance.mailbox.mails
        core = instance.core
        now_us = self.now_us()
        operations: list[h.OperationRecord] = []
        for _ in range(min(len(mails), MESSAGES_PER_TURN)):
            mail = mails.popleft()
            self._outbox.remove_message(mail.id)
            request = mail.content
            assert isinstance(request, OperationRequest)
            record, answer_now = core.step(request, now_us)
            operations.append(record)
            if record.failure is not None:
                log.warning(
                    "entity_operation_failed", entity=instance.id, operation=record.name, why=str(record.failure)
                )
            if answer_now:
                self._answer(request.caller, request.caller_task, record.result, record.failure)
            for action in record.actions:
                self._entity_action(instance, action)
        seq = self._append(
            instance.id, h.OPERATION, encode(h.EntityRecord(operations, NULL if core.state is None else core.state))
        )
        if not instance.first_seq:
            instance.first_seq = seq
        self._touch(instance)

    def _entity_action(self, instance: EntityInstance, action: h.EntityAction) -> None:
        match action:
            case h.EntityActivity():
                pending = PendingActivity(
                    action.name, action.input, 1, action.operation_id, action.on_result, action.context
                )
                self._schedule_activity(instance, action.id, pending)
            case h.EntitySignal():
                try:
                    target = self.entity(EntityId.parse(action.target))
                except (DurableError, ValueError) as error:
                    log.error("signal_to_unknown_entity", target=action.target, sender=instance.id, error=str(error))
                    return
                self.send(target, OperationRequest(action.name, action.input), Lane.OTHER)
            case h.EntityStarts():
                try:
                    orchestrator = self.registry.get_orchestrator(action.name)
                    version = action.version or orchestrator.version
                    started = h.ExecutionStarted(
                        action.name, action.input, version, fingerprint=orchestrator.fingerprint
                    )
                    self.begin(action.instance, started)
                except DurableError as error:
                    log.error("entity_start_failed", instance=action.instance, sender=instance.id, error=str(error))
            case h.EntityReply():
                self._answer(action.caller, action.caller_task, action.result, action.failure)
            case _:
                assert_never(action)

    def _answer(self, caller: str, task_id: int, result: Raw, failure: FailureDetails | None) -> None:
        answer: h.EntityOperationCompleted | h.EntityOperationFailed
        if failure is None:
            answer = h.EntityOperationCompleted(task_id, result)
        else:
            answer = h.EntityOperationFailed(task_id, failure)
        if caller == self.client.caller:
            future = self._callers.get(task_id)
            if future is not None:
                self._outbox.effects.append(partial(_set_result, future, answer))
            return
        instance = self.instances.get(caller)
        if isinstance(instance, Orchestration) and not instance.terminal:
            self.send(instance, answer, Lane.OTHER)
        # else: the one who asked is gone (an orchestration that ended, a client of an earlier process)

    # Activities and timers

    def _schedule_activity(self, instance: Instance, task_id: int, pending: PendingActivity) -> None:
        key = (instance.id, task_id)
        self._pending[key] = pending
        instance.activities.add(task_id)
        self.counters.activities += 1
        self._outbox.batch.add_activity(ActivityRow(instance.id, task_id, encode_pending(pending)))
        self._outbox.effects.append(partial(self._start_activity, key, pending))

    def _start_activity(self, key: Key, pending: PendingActivity) -> None:
        if key in self._pending:
            self.activities.start(key, pending)

    def _activity_ended(self, key: Key, report: Report) -> None:
        pending = self._pending.get(key)
        if pending is not None and self.failure is None and self._running:
            self._settle_activity(key, pending, report)

    def _settle_activity(self, key: Key, pending: PendingActivity, report: Report) -> None:
        self._pending.pop(key, None)
        instance_id, task_id = key
        self.now_us()
        self._outbox.batch.remove_activity(instance_id, task_id)
        instance = self.instances.get(instance_id)
        if instance is None:
            self._schedule_pump()
            self._dirty.set()
            return
        instance.activities.discard(task_id)
        if isinstance(instance, Orchestration) and instance.terminal:
            self._forget(instance)
            self._schedule_pump()
            self._dirty.set()
        elif isinstance(instance, EntityInstance):
            error = report.failure
            outcome = {
                "ok": error is None,
                "result": report.result,
                "error": None if error is None else {"type": error.kind, "message": error.message},
                "context": pending.context,
                "id": task_id,
            }
            self.send(instance, OperationRequest(pending.on_result, Raw(encode(outcome))), Lane.RESULT)
        elif report.failure is None:
            self.send(instance, h.TaskCompleted(task_id, report.result), Lane.RESULT)
        else:
            self.send(instance, h.TaskFailed(task_id, report.failure), Lane.RESULT)

    def _timers_fired(self, fired: list[Key]) -> None:
        for instance_id, task_id in fired:
            self._outbox.batch.remove_timer(instance_id, task_id)
            instance = self.instances.get(instance_id)
            if isinstance(instance, Orchestration):
                instance.timers.discard(task_id)
                self.send(instance, h.TimerFired(task_id), Lane.OTHER)
        self._dirty.set()


T = TypeVar("T")


def _set_done(future: asyncio.Future[None]) -> None:
    _set_result(future, None)


def _set_result(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)


def _set_error(future: asyncio.Future[T], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
