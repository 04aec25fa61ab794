"""One process of a test: the real engine on a store in memory, and when it has come to rest.

At rest means: all that was decided is on disk, nothing is read or written, and no activity works in real time. From then on
only a timer, a client or an activity that waits for the clock can set it going. That is waited for by what the engine
itself reports, never by sleeping a little.

What must stay true: ``rest`` returns when nothing moves any more, or fails; it never hangs. A crash here: ``kill``.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.durable import history as h
from gateway.durable.activities import decode_pending
from gateway.durable.client import DurableOrchestrationClient
from gateway.durable.engine import Engine
from gateway.durable.entities import Answer
from gateway.durable.entity import decode_snapshot
from gateway.durable.errors import EngineStoppedError
from gateway.durable.testing.clock import VirtualClock
from gateway.durable.testing.errors import Stalled
from gateway.durable.testing.store import MemoryStore
from gateway.durable.testing.stubs import BenchRegistry, Key

T = TypeVar("T")

ROUNDS_AT_REST = 3
"""Rounds of the event loop without a move: those who were just answered may have more to say."""


class WatchedEngine(Engine):
    """The engine, told apart whether what a test told it is on disk.

    teller: the task whose words are watched. told_in: number of the batch that holds them, None while they are in none.
    """

    teller: asyncio.Task[object] | None = None
    told_in: int | None = None

    def on_disk(self) -> asyncio.Future[None]:
        """See Engine."""
        if self.teller is not None and asyncio.current_task() is self.teller:
            self.told_in = self.ledger.outbox.number
        return super().on_disk()

    def told(self, torn: bool) -> bool:
        """True when the batch with the words is on disk, now that the disk has failed. torn: the last one is not."""
        last_written = self.ledger.outbox.number - (2 if torn else 1)
        return self.told_in is not None and self.told_in <= last_written


class Process:
    """From one start of the engine to its end. patience_s: real seconds that it may take to come to rest."""

    def __init__(self, store: MemoryStore, registry: BenchRegistry, clock: VirtualClock, patience_s: float) -> None:
        self.store = store
        self.registry = registry
        self.clock = clock
        self.engine = WatchedEngine(store, registry, clock)
        self._patience_s = patience_s

    async def begin(self) -> None:
        """Recover and run. Activities whose results are missing are repeated."""
        begun = Counter((call.operation_id, call.attempt) for call in self.registry.calls if not call.again)
        pending = [decode_pending(row.payload) for row in self.store.pending_activities.values()]
        keys = [(activity.operation_id, activity.attempt) for activity in pending]
        ended = self._results_on_disk()
        # A step that was rewound and had not begun anew is no repetition: its earlier result is on disk.
        self.registry.repeat(key for key in keys if begun[key] > ended[key])
        await self.engine.recover()
        self.engine.start()

    def _results_on_disk(self) -> Counter[Key]:
        """How often the journal tells a result of each call of an orchestration."""
        keys: dict[tuple[str, int], Key] = {}
        ended: Counter[Key] = Counter()
        for row in self.store.records:
            for event in h.decode_turn(row.payload).events if row.kind == h.TURN else ():
                if isinstance(event, h.TaskScheduled):
                    keys[row.instance, event.id] = event.operation_id, event.attempt
                elif isinstance(event, h.TaskCompleted | h.TaskFailed) and (row.instance, event.id) in keys:
                    ended[keys[row.instance, event.id]] += 1
        return ended

    async def kill(self) -> None:
        """The power fails: nothing more reaches the disk, nobody is answered, what runs is cut off."""
        self.store.lose_power()
        self.store.let_go()
        await self.engine.stop(0.0)

    async def end(self) -> None:
        """Stop for good; what still waits is given up."""
        self.store.let_go()
        await self.engine.stop(0.0)

    @property
    def power_lost(self) -> bool:
        """True once the store has lost its power, as the test had asked for."""
        return self.store.power_lost

    @property
    def at_rest(self) -> bool:
        """True when nothing moves but by the clock, a client, or what an activity that waits for the clock does then."""
        engine = self.engine
        following = engine.timers.next_due()
        due = following is not None and following[0] <= self.clock.now_us()
        return engine.idle and not due and engine.activities.running <= self.registry.asleep

    @property
    def next_us(self) -> int | None:
        """When something happens next if nobody says a word, None when nothing ever does."""
        following = self.engine.timers.next_due()
        times = (following[0] if following else None, self.clock.next_wake_us())
        return min((time_us for time_us in times if time_us is not None), default=None)

    def go_to(self, time_us: int) -> None:
        """Move the clock; what is due then begins to happen."""
        self.clock.go_to(time_us)
        self.engine.timers.look()

    async def rest(self) -> None:
        """Return at rest, or once the power is lost.

        Errors: Stalled when it takes too long in real time; EngineStoppedError when the engine has failed.
        """
        try:
            async with asyncio.timeout(self._patience_s):
                await self._rest()
        except TimeoutError:
            raise Stalled(f"not at rest after {self._patience_s} real seconds; {self._moving()}") from None

    async def _rest(self) -> None:
        changed = self.registry.changed
        rounds = 0
        while not self.power_lost and rounds < ROUNDS_AT_REST:
            changed.clear()
            try:
                await self.engine.on_disk()
            except EngineStoppedError as error:
                if self.power_lost:
                    return
                raise error from self.engine.failure
            if self.registry.unexpected is not None:
                raise self.registry.unexpected
            rounds = rounds + 1 if self.at_rest else 0
            if self.registry.working and self.engine.idle:
                await changed.wait()
            else:
                await asyncio.sleep(0)

    def _moving(self) -> str:
        if self.registry.working:
            return f"at work: {', '.join(sorted(set(self.registry.working)))}; the clock stands while activities work"
        return "the store is held" if self.engine.activities.running == 0 else "activities wait for a place"

    async def tell(self, act: Callable[[DurableOrchestrationClient], Awaitable[T]]) -> tuple[bool, T | None]:
        """Let a client act: whether that is on disk, and what it got (None when the power was lost before the answer).

        Errors: those of the client.
        """
        self.engine.teller, self.engine.told_in = asyncio.current_task(), None
        try:
            return True, await act(self.engine.client)
        except EngineStoppedError:
            if not self.power_lost:
                raise
            return self.engine.told(self.store.torn), None
        finally:
            self.engine.teller = None

    def answer_on_disk(self, entity: str, since: int) -> Answer | None:
        """What this entity answered a client of this process, as far as the journal knows; None if nothing, or not yet.
        since: the number of its first record that matters."""
        caller = self.engine.callers.name
        kept = self.store.rows.get(entity)
        if kept is not None and any(waits == caller for waits, _ in decode_snapshot(kept.state).waiting.values()):
            return None  # it let the caller wait
        found: Answer | None = None
        for row in self.store.records[since:]:
            if row.instance != entity or row.kind != h.OPERATION:
                continue
            for operation in h.decode_entity_record(row.payload).operations:
                replies = [a for a in operation.actions if isinstance(a, h.EntityReply) and a.caller == caller]
                if operation.caller == caller or replies:
                    result = replies[-1].result if replies else operation.result
                    failure = replies[-1].failure if replies else operation.failure
                    found = h.EntityOperationCompleted(0, result)
                    if failure is not None:
                        found = h.EntityOperationFailed(0, failure)
        return found
