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
* When the journal fails, or the engine itself does, it stops for good: nothing is written, answered or started any more.

On a crash: see ``recovery``. Who does what: ``ledger`` keeps the books, ``orchestrations`` and ``entities`` run turns,
``decisions`` carries out what they decide, ``underway`` knows activities and timers, ``writer`` brings batches to the disk.
"""

from __future__ import annotations

import asyncio
import gc
import uuid
from collections.abc import Callable

import structlog

from gateway.clock import Clock
from gateway.durable.activities import ActivityRunner, Key, Report
from gateway.durable.client import DurableOrchestrationClient
from gateway.durable.codec import encode
from gateway.durable.decisions import Decisions
from gateway.durable.entities import Callers, Entities
from gateway.durable.entity import CLIENT
from gateway.durable.errors import EngineStoppedError
from gateway.durable.futures import set_done, set_error
from gateway.durable.housekeeping import Housekeeping
from gateway.durable.instances import EntityInstance, Instance, Orchestration
from gateway.durable.ledger import Counters, Ledger
from gateway.durable.mailbox import Lane
from gateway.durable.orchestrations import Orchestrations
from gateway.durable.recovery import Interrupted, recover
from gateway.durable.registry import Registry
from gateway.durable.rewinding import Rewinding
from gateway.durable.store import InstanceRow, Store
from gateway.durable.timers import Timers
from gateway.durable.underway import Underway
from gateway.durable.writer import Writer

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

TURNS_PER_SLICE = 32
MAX_STOP_ROUNDS = 100
MAX_LIVE_GENERATORS = 10_000


class Engine:
    """All instances of one process, and the only loop that runs them.

    max_pending: records that may wait for the journal; beyond that, turns pause and callers wait until it has caught up.
    max_live: generators of orchestrations kept in memory; the others are replayed when they are needed.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        clock: Clock,
        max_pending: int = 20_000,
        max_live: int = MAX_LIVE_GENERATORS,
    ) -> None:
        self.store = store
        self.registry = registry
        self.clock = clock
        self.failure: BaseException | None = None
        self.on_commit: list[Callable[[Instance], None]] = []
        """Called, on the loop, for each instance whose row has just got to the disk. Must be quick and never raise."""
        # Answers to a client of an earlier process must not reach one of this process by chance.
        self.callers = Callers(f"{CLIENT}{uuid.uuid4().hex}")
        self.client = DurableOrchestrationClient(self)
        self.timers = Timers(clock, self._timers_fired)
        self.activities = ActivityRunner(registry, self.client, self._activity_ended)
        self.ledger = Ledger(registry, clock, self._wake)
        self.underway = Underway(self.ledger, self.timers, self.activities)
        decisions = Decisions(self.ledger, self.underway)
        self._orchestrations = Orchestrations(self.ledger, self.underway, decisions, store, max_live, self._fail)
        self.rewinding = Rewinding(self.ledger, self.underway, store, decisions, self.on_disk)
        self.housekeeping = Housekeeping(self)
        self._entities = Entities(self.ledger, self.underway, self.callers)
        self._writer = Writer(store, self.ledger, max_pending, self._committed, self._orchestrations.evict, self._fail)
        self._interrupted = Interrupted()
        self._pumping = False
        self._running = False
        self._stopped = asyncio.Event()

    @property
    def instances(self) -> dict[str, Orchestration | EntityInstance]:
        """All that are alive, by id."""
        return self.ledger.instances

    @property
    def counters(self) -> Counters:
        """What was done since the start."""
        return self.ledger.counters

    @property
    def idle(self) -> bool:
        """True when nothing is left to decide, read or write: only an activity, a timer or a client sets it going again."""
        return not len(self.ledger.ready) and self._writer.idle and not self._orchestrations.reading

    # Life

    async def recover(self) -> None:
        """Read what is live from the journal; nothing runs yet.

        Errors: those of the store.
        """
        found = await self.store.recover()
        collecting = gc.isenabled()
        gc.disable()  # all that is made here stays: to look through it again and again would be a sixth of the time
        try:
            self._interrupted = recover(found, self.ledger, self.timers, self.underway)
        finally:
            if collecting:
                gc.enable()

    def start(self) -> None:
        """Run: turns, timers, activities."""
        self._running = True
        self._writer.start()
        self.ledger.now_us()
        self._interrupted.resume(self.registry, self.underway)
        self.timers.start()
        self._wake()

    async def stop(self, drain_s: float = 5.0) -> None:
        """Start nothing more, let activities end, write what is pending, stop. Pending work goes on after a restart."""
        self.timers.stop()
        cut_off = await self.activities.drain(drain_s)
        if cut_off:
            log.warning("activities_cut_off", count=cut_off)
        if self._running:
            for _ in range(MAX_STOP_ROUNDS):
                await asyncio.wait([self._writer.on_disk()])
                if self.failure is not None or (self.ledger.outbox.empty and not len(self.ledger.ready)):
                    break
        self._running = False
        self._orchestrations.stop()
        error = EngineStoppedError("the gateway is stopping")
        await self._writer.stop(error)
        self._fail_waiters(error)
        self._stopped.set()

    async def wait_stopped(self) -> None:
        """Return when the engine has stopped or failed; ``failure`` says why."""
        await self._stopped.wait()

    def now_us(self) -> int:
        """Engine time; never runs backwards, also not against the journal."""
        return self.ledger.now_us()

    # What clients ask for

    @property
    def has_room(self) -> bool:
        """True when nothing keeps a client from asking at once: else it calls ``admit``, and waits."""
        return self._running and self._writer.has_room

    async def admit(self) -> None:
        """Wait until the journal has room.

        Errors: EngineStoppedError.
        """
        await self._writer.wait_room()
        self.check_running()

    def check_running(self) -> None:
        """Errors: EngineStoppedError."""
        if self.failure is not None:
            raise EngineStoppedError(f"the gateway's journal failed: {self.failure}") from self.failure
        if not self._running:
            raise EngineStoppedError("the gateway is stopping")

    def finish_waiter(self, instance: Orchestration) -> asyncio.Future[None]:
        """A future that completes once the outcome of this orchestration is on disk.

        Errors: EngineStoppedError.
        """
        self.check_running()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if instance.settled:
            future.set_result(None)
        else:
            instance.waiters[future] = None
            future.add_done_callback(lambda done: instance.waiters.pop(done, None))
        return future

    def on_disk(self) -> asyncio.Future[None]:
        """A future that completes once everything decided up to now is on disk; EngineStoppedError when it won't be."""
        return self._writer.on_disk()

    def record(self, instance: str, kind: str, payload: object) -> asyncio.Future[None]:
        """Append a record of the gateway's own (an operator's act, a start, an alarm); durable when the future is done."""
        if self.failure is None:
            self.ledger.now_us()
            self.ledger.append(instance, kind, encode(payload))
        return self._writer.on_disk()

    # The loop

    def _wake(self) -> None:
        if not self._pumping and self._running:
            self._pumping = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        """Run some turns, then give the event loop its turn."""
        self._pumping = False
        for _ in range(TURNS_PER_SLICE):
            if not self._running or not self._writer.check_room():  # the writer wakes us again
                break
            instance_id = self.ledger.ready.pop()
            if instance_id is None:
                break
            try:
                self._run_turn(instance_id)
            except BaseException as error:
                log.exception("turn_failed", instance=instance_id)
                self._fail(error)
                if not isinstance(error, Exception):
                    raise
                return
        else:
            self._wake()
        self._writer.wake()

    def _run_turn(self, instance_id: str) -> None:
        instance = self.instances.get(instance_id)
        if instance is None or not instance.mailbox.mails:
            return
        self.counters.turns += 1
        if isinstance(instance, EntityInstance):
            self._entities.turn(instance)
        else:
            self._orchestrations.turn(instance)
            if instance.loading or instance.stuck:
                return
        if instance.mailbox.mails:
            self.ledger.ready.add(instance.mailbox, instance_id, Lane.OTHER)

    def _activity_ended(self, key: Key, report: Report) -> None:
        if not self._running:  # its row stays, and a restart decides
            return
        try:
            self.underway.ended(key, report)
        except Exception as error:  # it would be lost in the event loop, and with it what was half done: fail stop
            log.exception("engine_failed")
            self._fail(error)

    def _timers_fired(self, keys: list[Key]) -> None:
        try:
            self.underway.fired(keys)
        except Exception as error:  # it would be lost in the event loop, and with it what was half done: fail stop
            log.exception("engine_failed")
            self._fail(error)

    def _committed(self, instance: Instance, row: InstanceRow) -> None:
        instance.row = row
        for told in self.on_commit:
            told(instance)
        if isinstance(instance, Orchestration) and instance.settled:
            for waiter in list(instance.waiters):
                set_done(waiter)
            self.ledger.forget(instance)

    def _fail(self, error: BaseException) -> None:
        if self.failure is not None:
            return
        self.failure = error
        self._running = False
        log.critical("journal_failed", error=str(error), kind=type(error).__name__)
        self.timers.stop()
        self.activities.halt()
        stopped = EngineStoppedError(f"the gateway's journal failed: {error}")
        self._writer.close(stopped)
        self._fail_waiters(stopped)
        self._stopped.set()

    def _fail_waiters(self, error: EngineStoppedError) -> None:
        self.callers.fail(error)
        for instance in self.instances.values():
            if isinstance(instance, Orchestration):
                for waiter in list(instance.waiters):
                    set_error(waiter, error)
