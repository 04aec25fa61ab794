"""Runs one script on the real engine, in virtual time: what the engine journals is what is compared.

The world's own agenda (activities that end, events that are raised) and the engine's timers share one clock, which goes on
only when the engine has nothing left to do: a script gives the same journal each time, and hours take no time. Things
that fall on the same second reach an orchestration in one turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections.abc import Callable, Generator
from typing import Any

from gateway.durable import (
    ActivityContext,
    DurableEntityContext,
    DurableOrchestrationContext,
    Engine,
    EntityId,
    GoneError,
    Registry,
    RetryOptions,
)
from gateway.durable import history as h
from gateway.durable.testing import MemoryStore
from tests.conformance.programs import ACTIVITY, ENTITY, PROGRAM, Boom, Dialect, Json, interpret

START_US = 1_768_377_600_000_000
ROOT = "p"
SECOND_US = 1_000_000
QUIET_ROUNDS = 10
"""Rounds of the event loop without anything new after which the engine has nothing left to do."""
MAX_TURNS = 5_000

OURS = Dialect(EntityId, RetryOptions)

Turns = list[tuple[int, h.TurnRecord]]


def program(context: DurableOrchestrationContext) -> Generator[Any, Any, Json]:
    """The one orchestrator: interprets its input."""
    return interpret(context, OURS)


def tally(context: DurableEntityContext) -> None:
    """The one entity: a number."""
    total = context.get_state(lambda: 0)
    if context.operation_name != "get":
        total += context.get_input()
        context.set_state(total)
    if context.operation_name == "fail":
        raise Boom("entity")
    context.set_result(total)


class VirtualTime:
    """The engine's clock."""

    def __init__(self) -> None:
        self.us = START_US

    def now_us(self) -> int:
        """The time it was set to."""
        return self.us

    def real_seconds_until(self, due_us: int) -> float:
        """At once when due; else the engine is woken when the time has come."""
        return 0.0 if due_us <= self.us else 3600.0


class World:
    """One engine and what surrounds it, for one script."""

    def __init__(self) -> None:
        self.clock = VirtualTime()
        self.store = MemoryStore()
        registry = Registry()
        registry.orchestrator(program, PROGRAM)
        registry.activity(self._work, ACTIVITY)
        registry.entity(tally, ENTITY)
        self.engine = Engine(self.store, registry, self.clock)
        self._agenda: list[tuple[int, int, Callable[[], object]]] = []
        self._count = 0
        self._raising: set[asyncio.Task[None]] = set()

    async def run(self, script: Json) -> None:
        """Run a script until it has ended, or waits for what will never come."""
        await self.engine.recover()
        self.engine.start()
        try:
            await self._play(script)
            assert self.engine.failure is None, self.engine.failure
        finally:
            await self.engine.stop(0.0)

    async def _play(self, script: Json) -> None:
        await self.engine.client.start_new(PROGRAM, ROOT, script["program"])
        for at_s, name, data in script["events"]:
            self._at(START_US + at_s * SECOND_US, lambda name=name, data=data: self._raise(name, data))
        await self._quiet()
        while (due_us := self._next_us()) is not None:
            assert self.engine.counters.turns < MAX_TURNS, "this script does not come to its end"
            self.clock.us = max(due_us, self.clock.us)
            while self._agenda and self._agenda[0][0] <= self.clock.us:
                heapq.heappop(self._agenda)[2]()
            self.engine.timers.start()  # look at the clock again
            await self._quiet()

    def turns(self) -> dict[str, Turns]:
        """The journaled turns of all orchestrations, by instance."""
        found: dict[str, Turns] = {}
        for record in self.store.records:
            if record.kind == h.TURN:
                found.setdefault(record.instance, []).append((record.time_us, h.decode_turn(record.payload)))
        return found

    async def _work(self, given: Json, context: ActivityContext) -> Json:
        if given["takes"]:
            done = asyncio.get_running_loop().create_future()
            self._at(self.clock.us + given["takes"] * SECOND_US, lambda: done.set_result(None))
            await done
        if context.attempt <= given["fail"]:
            raise Boom(given["tag"])
        return [given["say"], given["fed"]]

    def _at(self, time_us: int, act: Callable[[], object]) -> None:
        self._count += 1
        heapq.heappush(self._agenda, (time_us, self._count, act))

    def _raise(self, name: str, data: Json) -> None:
        async def tell() -> None:
            with contextlib.suppress(GoneError):
                await self.engine.client.raise_event(ROOT, name, data)

        task = asyncio.get_running_loop().create_task(tell())
        self._raising.add(task)
        task.add_done_callback(self._raising.discard)

    def _next_us(self) -> int | None:
        timer = self.engine.timers.next_due()
        times = [due[0] for due in (timer, self._agenda[0] if self._agenda else None) if due is not None]
        return min(times, default=None)

    async def _quiet(self) -> None:
        engine, rounds, before = self.engine, 0, (-1, -1, -1)
        while rounds < QUIET_ROUNDS:
            await asyncio.sleep(0)
            counters = engine.counters
            now = (counters.turns, counters.batches, counters.messages)
            busy = now != before or len(engine.ledger.ready) or not engine.ledger.outbox.empty or self._raising
            rounds, before = 0 if busy else rounds + 1, now
            assert engine.failure is None, engine.failure
