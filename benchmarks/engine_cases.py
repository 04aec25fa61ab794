"""The work that ``benchmarks/engine.py`` gives the engine, case by case: the whole engine on the real journal.

Each case is the same as its namesake in ``limit/cases.py``, asked for as an author or a client would: history, mailboxes,
checks of determinism, answers and the hash chain are all on, and ``synchronous=FULL``.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from benchmarks.limit.cases import Measured, timed
from gateway.clock import SystemClock, from_us
from gateway.durable import DurableOrchestrationContext, Engine, EntityContext, EntityId, Registry
from journal import Journal

Measuring = contextlib.AbstractContextManager[None]


async def hello(name: str) -> str:
    """The smallest activity."""
    return f"hello {name}"


def three_steps(context: DurableOrchestrationContext) -> Any:
    """Three activities, one after the other."""
    greetings = []
    for city in ("Tokyo", "Seattle", "London"):
        greetings.append((yield context.call_activity("hello", city)))
    return greetings


def fan_out(context: DurableOrchestrationContext) -> Any:
    """Many activities at once."""
    results = yield context.task_all([context.call_activity("hello", str(n)) for n in range(context.get_input())])
    return len(results)


def sleeps(context: DurableOrchestrationContext) -> Any:
    """Wait until a time."""
    yield context.create_timer(from_us(context.get_input()))


def waits(context: DurableOrchestrationContext) -> Any:
    """Wait for an event, with a timer beside it."""
    return (yield context.wait_for_external_event("go", timeout=86_400))


REACTED: dict[str, float] = {}


def reacts(context: DurableOrchestrationContext) -> Any:
    """Wait for an event, and say when it came."""
    yield context.wait_for_external_event("go")
    yield context.call_activity("mark", context.instance_id)


async def mark(instance: str) -> None:
    """The first thing in the world that an event leads to: it runs once that is on disk."""
    REACTED[instance] = time.perf_counter()


def counter(context: EntityContext) -> None:
    """Add to a state of a few fields."""
    state = context.get_state(lambda: {"value": 0.0, "count": 0, "quality": "good"})
    state["value"] += context.get_input()
    state["count"] += 1
    context.set_state(state)
    context.set_result(state["count"])


def registry() -> Registry:
    """All that the cases run."""
    made = Registry()
    made.activity(hello)
    made.activity(mark)
    for orchestrator in (three_steps, fan_out, sleeps, waits, reacts):
        made.orchestrator(orchestrator)
    made.entity(counter)
    return made


@contextlib.asynccontextmanager
async def engine_at(path: Path) -> AsyncIterator[tuple[Engine, Journal]]:
    """An engine on a journal."""
    journal = await Journal.open(path)
    engine = Engine(journal, registry(), SystemClock())
    await engine.recover()
    engine.start()
    try:
        yield engine, journal
    finally:
        await engine.stop()
        await journal.close()


@contextlib.asynccontextmanager
async def measured_at(path: Path, operations: int) -> AsyncIterator[tuple[Engine, Measured, Measuring]]:
    """An engine, what is to be measured, and a ``with`` for the time of measuring."""
    async with engine_at(path) as (engine, journal):
        measured = Measured(operations)

        @contextlib.contextmanager
        def measuring() -> Iterator[None]:
            batches, records = journal.stats.batches, journal.stats.records
            with timed(measured):
                yield
            measured.flushes = journal.stats.batches - batches
            measured.more["records"] = journal.stats.records - records

        yield engine, measured, measuring()


async def entities(path: Path, operations: int, keys: int, in_flight: int) -> Measured:
    """Acknowledged operations on entities, so many in flight."""
    async with measured_at(path, operations) as (engine, measured, measuring):
        numbers = iter(range(operations))
        names = [EntityId("counter", str(number)) for number in range(keys)]

        async def caller() -> None:
            for number in numbers:
                asked = time.perf_counter()
                await engine.client.call_entity(names[number % keys], "add", 1.5)
                measured.latencies_s.append(time.perf_counter() - asked)

        with measuring:
            await asyncio.gather(*(caller() for _ in range(in_flight)))
    return measured


async def run_three_steps(path: Path, operations: int, at_once: int) -> Measured:
    """Orchestrations of three activities, so many at once."""
    async with measured_at(path, operations) as (engine, measured, measuring):
        numbers = iter(range(operations))

        async def caller() -> None:
            for _ in numbers:
                asked = time.perf_counter()
                await engine.client.wait_for_completion(await engine.client.start_new("three_steps"), 60)
                measured.latencies_s.append(time.perf_counter() - asked)

        with measuring:
            await asyncio.gather(*(caller() for _ in range(at_once)))
    return measured


async def run_fan_out(path: Path, number: int) -> Measured:
    """One orchestration of so many activities in parallel."""
    async with measured_at(path, 1) as (engine, measured, measuring):
        with measuring:
            instance = await engine.client.start_new("fan_out", client_input=number)
            assert (await engine.client.wait_for_completion(instance, 60)).output == number
    return measured


async def timers(path: Path, number: int, ahead_s: float) -> Measured:
    """Orchestrations that all wake at one instant; the latencies are how late their turns are."""
    async with measured_at(path, number) as (engine, measured, measuring):
        with measuring:
            due_us = engine.now_us() + int(ahead_s * 1e6)
            ids = await asyncio.gather(*(engine.client.start_new("sleeps", client_input=due_us) for _ in range(number)))
            assert engine.now_us() < due_us, "this machine is too slow to set the timers in time"
            done = await asyncio.gather(*(engine.client.wait_for_completion(i, 60) for i in ids))
            measured.more["all_acknowledged_after_ms"] = round((engine.now_us() - due_us) / 1e3, 1)
        measured.latencies_s += [(status.last_updated_time.timestamp() * 1e6 - due_us) / 1e6 for status in done]
    return measured


async def pending_timers(path: Path, number: int, lone: int) -> Measured:
    """So many timers that are pending, and some lone ones that come due meanwhile; the latencies are how late those are."""
    async with measured_at(path, number) as (engine, measured, measuring):
        far_us = engine.now_us() + 86_400_000_000
        with measuring:
            for first in range(0, number, 2_000):
                ids = range(first, min(number, first + 2_000))
                await asyncio.gather(*(engine.client.start_new("sleeps", client_input=far_us) for _ in ids))
        while not engine.idle:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
        assert len(engine.timers) == number  # started is not yet waiting: only now all are
        for _ in range(lone):
            due_us = engine.now_us() + 20_000
            status = await engine.client.wait_for_completion(
                await engine.client.start_new("sleeps", client_input=due_us), 60
            )
            measured.latencies_s.append((status.last_updated_time.timestamp() * 1e6 - due_us) / 1e6)
    return measured


async def events(path: Path, number: int) -> Measured:
    """One event at a time; the latencies last until the world sees what it led to: its flush, the turn, and that one's."""
    async with measured_at(path, number) as (engine, measured, measuring):
        with measuring:
            for _ in range(number):
                instance = await engine.client.start_new("reacts")
                while not engine.idle:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.0005)
                asked = time.perf_counter()
                await engine.client.raise_event(instance, "go", 1)
                await engine.client.wait_for_completion(instance, 60)
                measured.latencies_s.append(REACTED.pop(instance) - asked)
    return measured


async def fill(path: Path, entities_: int, waiting: int, history: int) -> None:
    """A journal with so many entities, waiting orchestrations with a timer each, and records of those that have ended."""
    async with engine_at(path) as (engine, _):
        client = engine.client
        for first in range(0, entities_, 2_000):
            await asyncio.gather(
                *(client.call_entity(EntityId("counter", str(n)), "add", 1) for n in range(first, first + 2_000))
            )
        for first in range(0, waiting, 2_000):
            await asyncio.gather(*(client.start_new("waits", f"w{n}") for n in range(first, first + 2_000)))
        for _ in range(0, history, 4_000):
            ids = await asyncio.gather(*(client.start_new("three_steps") for _ in range(1_000)))
            await asyncio.gather(*(client.wait_for_completion(i, 60) for i in ids))


async def recover(path: Path, told: str) -> dict[str, Any]:
    """Seconds until the engine runs again, and until the orchestration ``told`` has heard its first event."""
    began, cpu = time.perf_counter(), time.process_time()
    async with engine_at(path) as (engine, _):
        ready_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
        found = {"instances": len(engine.instances), "timers": len(engine.timers)}
        began = time.perf_counter()
        await engine.client.raise_event(told, "go", 1)
        assert (await engine.client.wait_for_completion(told, 10)).output == 1
        first_s = time.perf_counter() - began
    return {"ready_s": round(ready_s, 4), "cpu_s": round(cpu_s, 4), "first_event_ms": round(first_s * 1e3, 2), **found}
