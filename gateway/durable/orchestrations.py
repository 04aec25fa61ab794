"""Turns of orchestrations: events out of the mailbox, into the pure core, and its decisions into the books.

A live orchestration keeps its generator, at most ``max_live`` of them, the least recently used go first. One without a
generator (after a restart, or evicted) is replayed from its committed records before its next turn; its mail waits.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import msgspec
import structlog

from gateway.durable import history as h
from gateway.durable.codec import NULL, Raw
from gateway.durable.decisions import Decisions
from gateway.durable.entity import OperationRequest
from gateway.durable.errors import (
    FailureDetails,
    NondeterminismError,
    NotFoundError,
    describe,
)
from gateway.durable.execution import Execution
from gateway.durable.housekeeping import first_free_task
from gateway.durable.instances import Orchestration, OrchestrationRuntimeStatus
from gateway.durable.ledger import Ledger
from gateway.durable.locks import LockRelease, LockRequest
from gateway.durable.mailbox import MESSAGES_PER_TURN, Content, Lane, Mail
from gateway.durable.replay import replay
from gateway.durable.rewound import effective, rewound
from gateway.durable.store import Store
from gateway.durable.underway import Underway

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

HISTORY_ALARM_EVENTS = 10_000
REPLAYS_ALARM = 100
"""More replays of one instance than this (and each so many more) are said: too small a cache, or it dies again and
again."""
MAX_LOADS_AT_ONCE = 32
CONTROL = h.ExecutionSuspended | h.ExecutionResumed | h.ExecutionTerminated
"""What a suspended orchestration hears at once."""
OF_ENTITIES = (OperationRequest, LockRequest, LockRelease)
"""What no orchestration is sent."""


class Orchestrations:
    """Runs the turns of all orchestrations. failed: called when the journal can't be read."""

    def __init__(
        self,
        ledger: Ledger,
        underway: Underway,
        decisions: Decisions,
        store: Store,
        max_live: int,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._ledger = ledger
        self._underway = underway
        self._decisions = decisions
        self._store = store
        self._max_live = max_live
        self._failed = failed
        self._live: OrderedDict[str, Orchestration] = OrderedDict()
        self._reads: set[asyncio.Task[None]] = set()
        self._places = asyncio.Semaphore(MAX_LOADS_AT_ONCE)

    def turn(self, instance: Orchestration) -> None:
        """Take some events, in order, and let the code decide."""
        mails = instance.mailbox.mails
        if instance.loading:
            return
        if instance.terminal:
            self._drop_mail(instance)
            return
        if instance.unsure:
            self._read(instance, self._look_up)
            return
        first = mails[0].content
        if isinstance(first, h.ExecutionStarted):
            self._start(instance, first)
        if instance.suspended and not self._has_control(instance):
            return
        if instance.stuck:
            self._end_if_told(instance)
        elif instance.execution is None:
            self._read(instance, self._load)
        else:
            self._step(instance, instance.execution)

    def _has_control(self, instance: Orchestration) -> bool:
        """A suspended one keeps what comes for later; true when a word on its suspension or end is next."""
        mailbox = instance.mailbox
        while mailbox.mails:
            if isinstance(mailbox.mails[0].content, CONTROL):
                return True
            mailbox.parked.append(mailbox.mails.popleft())
        return False

    def _step(self, instance: Orchestration, execution: Execution) -> None:
        ledger = self._ledger
        execution.begin_turn(ledger.now_us())
        events: list[h.Incoming | h.Action] = []
        terminated: h.ExecutionTerminated | None = None
        for _ in range(min(len(instance.mailbox.mails), MESSAGES_PER_TURN)):
            mail = instance.mailbox.mails.popleft()
            ledger.outbox.remove_message(mail.id)
            content = mail.content
            assert not isinstance(content, OF_ENTITIES)
            if not execution.wants(content):
                ledger.counters.dropped += 1
                continue
            events.append(content)
            execution.apply(content)
            if isinstance(content, h.ExecutionTerminated):
                terminated = content
                break
            if isinstance(content, h.ExecutionSuspended):
                instance.status = OrchestrationRuntimeStatus.Suspended
                break
            if isinstance(content, h.ExecutionResumed) and instance.suspended:
                instance.status = OrchestrationRuntimeStatus.Running
                instance.mailbox.unpark()
            if execution.outcome is not None and not _rewind_is_next(instance):
                break
        if events:
            self._finish_turn(instance, execution, events, terminated)

    def _start(self, instance: Orchestration, started: h.ExecutionStarted) -> None:
        try:
            orchestrator = self._ledger.registry.get_orchestrator(started.name, started.version)
        except NotFoundError as error:
            self._get_stuck(instance, error)
            return
        if instance.execution is not None:
            instance.execution.close()
        instance.execution = Execution(instance.id, orchestrator.function)
        instance.first_seq = 0  # set when the turn is recorded
        instance.status = OrchestrationRuntimeStatus.Running
        instance.execution_number = started.execution
        self._live[instance.id] = instance

    def _finish_turn(
        self,
        instance: Orchestration,
        execution: Execution,
        events: list[h.Incoming | h.Action],
        terminated: h.ExecutionTerminated | None,
    ) -> None:
        decided = execution.end_turn()
        actions = decided if terminated is None else []
        events.extend(actions)
        status = execution.custom_status if execution.custom_status_set else None
        payload = h.encode_turn(h.TurnRecord(events, NULL if status is None else status))
        seq = self._ledger.append(instance.id, h.TURN, payload)
        if not instance.first_seq:
            instance.first_seq = seq
        self._ledger.touch(instance)
        if status is not None:
            instance.custom_status = status
        before, instance.events = instance.events, execution.events_total
        if before < HISTORY_ALARM_EVENTS <= instance.events:
            log.warning("history_long", instance=instance.id, events=instance.events)
        instance.next_task = execution.next_task
        instance.buffered = execution.buffered_count
        for action in actions:
            self._dispatch(instance, action)
        if terminated is not None:
            self._terminate(instance, terminated)
        elif execution.outcome is None:
            self._live.move_to_end(instance.id)

    # Ends

    def _dispatch(self, instance: Orchestration, action: h.Action) -> None:
        match action:
            case h.ContinueAsNew():
                self._continue(instance, action)
            case h.ExecutionCompleted():
                self._end(instance, OrchestrationRuntimeStatus.Completed, action.result, None)
            case h.ExecutionFailed():
                why = str(action.details)
                log.warning("orchestration_failed", instance=instance.id, orchestrator=instance.name, why=why)
                self._end(instance, OrchestrationRuntimeStatus.Failed, NULL, action.details)
            case _:
                self._decisions.carry_out(instance, action)

    def _continue(self, instance: Orchestration, action: h.ContinueAsNew) -> None:
        execution = instance.execution
        assert execution is not None
        self._underway.cancel_timers(instance)
        self._decisions.unlock(instance)
        execution.close()
        orchestrator = self._ledger.registry.get_orchestrator(instance.name, instance.version)
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
            execution.restarts,
        )
        # Ahead of everything that waits: the rest belongs to the new execution (recovery puts it first, too).
        self._ledger.send_first(instance, started)

    def _terminate(self, instance: Orchestration, event: h.ExecutionTerminated) -> None:
        instance.reason = event.reason
        self._underway.cancel_activities(instance)
        if event.recursive:
            for child in self._ledger.children_of(instance):
                self._ledger.send(child, event, Lane.OPERATOR)
        details = FailureDetails("Terminated", event.reason or "the orchestration was terminated")
        self._end(instance, OrchestrationRuntimeStatus.Terminated, NULL, details)

    def _end(
        self, instance: Orchestration, status: OrchestrationRuntimeStatus, output: Raw, failure: FailureDetails | None
    ) -> None:
        instance.status = status
        instance.output = output
        instance.failure = failure
        self._ledger.touch(instance)
        self._underway.cancel_timers(instance)
        self._decisions.unlock(instance)
        self._live.pop(instance.id, None)
        if instance.execution is not None:
            instance.execution.close()
            instance.execution = None
        self._drop_mail(instance)
        parent = self._ledger.instances.get(instance.parent) if instance.parent else None
        if isinstance(parent, Orchestration) and not parent.terminal:
            answer: Content
            if failure is None:
                answer = h.SubOrchestrationInstanceCompleted(instance.parent_task, output)
            else:
                answer = h.SubOrchestrationInstanceFailed(instance.parent_task, failure)
            self._ledger.send(parent, answer)

    def _drop_mail(self, instance: Orchestration) -> None:
        instance.mailbox.unpark()
        for mail in instance.mailbox.mails:
            self._ledger.outbox.remove_message(mail.id)
            self._ledger.counters.dropped += 1
            if isinstance(mail.content, h.EventRaised):
                log.warning("event_came_too_late", instance=instance.id, raised=mail.content.name)
        instance.mailbox.mails.clear()

    def _get_stuck(self, instance: Orchestration, error: Exception) -> None:
        # The code that it needs may come back with the next start: it keeps what it was told, and goes on then.
        if not instance.stuck:
            log.error("orchestration_stuck", instance=instance.id, error=str(error), kind=type(error).__name__)
        instance.stuck = str(error)

    def _end_astray(self, instance: Orchestration, failed: h.ExecutionFailed) -> None:
        """Its code decides otherwise than it did. What it was told is kept with the verdict, also what had to wait until it
        is resumed: once its code is back, a rewind lets it hear that again."""
        mailbox = instance.mailbox
        told = [mail.content for mail in (*mailbox.parked, *mailbox.mails) if isinstance(mail.content, h.Event)]
        self._ledger.now_us()
        self._ledger.append(instance.id, h.TURN, h.encode_turn(h.TurnRecord([*told, failed])))
        self._end(instance, OrchestrationRuntimeStatus.Failed, NULL, failed.details)

    def _end_if_told(self, instance: Orchestration) -> bool:
        """Without its code an orchestration can do nothing but be terminated; true when it was."""
        for mail in instance.mailbox.mails:
            if isinstance(mail.content, h.ExecutionTerminated):
                self._ledger.now_us()
                self._ledger.append(instance.id, h.TURN, h.encode_turn(h.TurnRecord([mail.content])))
                self._terminate(instance, mail.content)
                return True
        return False

    # Reading what is on disk only

    def _read(self, instance: Orchestration, work: Callable[[Orchestration], Awaitable[None]]) -> None:
        instance.loading = True
        task = asyncio.get_running_loop().create_task(self._reading(instance, work))
        self._reads.add(task)
        task.add_done_callback(self._reads.discard)

    async def _reading(self, instance: Orchestration, work: Callable[[Orchestration], Awaitable[None]]) -> None:
        try:
            async with self._places:
                await work(instance)
        except Exception as error:  # noqa: BLE001 - a journal that can't be read is as bad as one that can't be written
            self._failed(error)
        finally:
            instance.loading = False
        self._ledger.ready.add(instance.mailbox, instance.id, Lane.OTHER)
        self._ledger.wake()

    async def _look_up(self, instance: Orchestration) -> None:
        """Its id may have been used before: its task ids go on where those of the one before ended."""
        used = await first_free_task(self._store, instance.id)
        mail = instance.mailbox.mails[0]
        assert isinstance(mail.content, h.ExecutionStarted)
        started = msgspec.structs.replace(mail.content, first_task=max(used, mail.content.first_task))
        instance.mailbox.mails[0] = Mail(mail.id, started)
        instance.next_task = started.first_task
        instance.unsure = False

    def _count_replay(self, instance: Orchestration) -> None:
        instance.replays += 1
        self._ledger.counters.replays += 1
        if instance.replays > REPLAYS_ALARM and instance.replays % REPLAYS_ALARM == 1:
            log.warning("replayed_often", instance=instance.id, replays=instance.replays)

    async def _load(self, instance: Orchestration) -> None:
        rows = await self._store.history(instance.id, instance.first_seq)
        self._count_replay(instance)
        try:
            recorded = effective((row[0], row[3], h.decode_turn(row[4])) for row in rows if row[2] == h.TURN)
            first = instance.mailbox.mails[0].content if instance.mailbox.mails else None
            if isinstance(first, h.ExecutionRewound):
                recorded = rewound(recorded, first)
            turns = [(time_us, record) for _, time_us, record in recorded]
            orchestrator = self._ledger.registry.get_orchestrator(instance.name, instance.version)
            instance.execution = replay(instance.id, orchestrator.function, turns)
        except NondeterminismError as error:
            log.error("nondeterminism", instance=instance.id, error=str(error))
            if not self._end_if_told(instance):
                self._end_astray(instance, h.ExecutionFailed(describe(error)))
        except Exception as error:  # noqa: BLE001 - a history that this code can't read must not stop all other instances
            self._get_stuck(instance, error)
        else:
            self._live[instance.id] = instance
            started = instance.execution.started
            if started.fingerprint and started.fingerprint != orchestrator.fingerprint:
                # Allowed as long as the decisions stay the same, which replay has just seen; inputs are not compared.
                log.warning("code_changed", instance=instance.id, orchestrator=instance.name)

    @property
    def reading(self) -> bool:
        """True while the journal is read for an instance."""
        return bool(self._reads)

    def stop(self) -> None:
        """Read nothing more."""
        for read in list(self._reads):
            read.cancel()

    def evict(self, committed_batch: int) -> None:
        """Let go of generators beyond the limit, the least recently used first, if all that they did is on disk."""
        for _ in range(len(self._live) - self._max_live):
            instance_id, instance = next(iter(self._live.items()))
            if instance.mailbox.mails or instance.last_batch > committed_batch:
                self._live.move_to_end(instance_id)
                continue
            del self._live[instance_id]
            if instance.execution is not None:
                instance.execution.close()
                instance.execution = None


def _rewind_is_next(instance: Orchestration) -> bool:
    """Who starts over may end before it comes to the word on its rewind: who asked for that, and why, is recorded still."""
    mails = instance.mailbox.mails
    return bool(mails) and isinstance(mails[0].content, h.ExecutionRewound)
