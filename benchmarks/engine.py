"""What the durable engine costs beside bare SQLite on the same disk: one JSON line a case.

The engine runs whole (history, mailboxes, determinism, hash chain) on the real journal with ``synchronous=FULL``. Each case
names its limit, measured in the same run: bare sqlite3 in WAL mode with ``synchronous=FULL`` committing as many rows
in as many batches as the engine did, or this disk's bare commits in sequence. ``ratio`` is the engine's time over the
limit's. CPU is that of the whole process, flushes are commits; both for one operation: they travel better between
machines than rates do.

usage: python benchmarks/engine.py [--dir /var/tmp] [--case NAME ...]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gateway.clock import SystemClock, from_us
from gateway.durable import DurableOrchestrationContext, Engine, EntityContext, EntityId, Registry
from journal import Journal

ROW = b"x" * 300


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


def idles(context: DurableOrchestrationContext) -> Any:
    """Wait for an event."""
    return (yield context.wait_for_external_event("go"))


def counter(context: EntityContext) -> None:
    """Add to a state of a few fields."""
    state = context.get_state(lambda: {"value": 0.0, "count": 0, "quality": "good"})
    state["value"] += context.get_input()
    state["count"] += 1
    context.set_state(state)
    context.set_result(state["count"])


@contextlib.asynccontextmanager
async def engine_at(path: Path) -> AsyncIterator[tuple[Engine, Journal]]:
    """An engine on a journal."""
    registry = Registry()
    registry.activity(hello)
    for orchestrator in (three_steps, fan_out, sleeps, waits, idles):
        registry.orchestrator(orchestrator)
    registry.entity(counter)
    journal = await Journal.open(path)
    engine = Engine(journal, registry, SystemClock())
    await engine.recover()
    engine.start()
    try:
        yield engine, journal
    finally:
        await engine.stop()
        await journal.close()


def bare(folder: Path, rows: int, batches: int) -> float:
    """Seconds that bare sqlite3 takes to commit so many rows in so many batches."""
    path = folder / "bare.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE records (seq INTEGER PRIMARY KEY, instance TEXT NOT NULL, payload BLOB NOT NULL)")
    each, seq = max(1, rows // max(1, batches)), 0
    started = time.perf_counter()
    while seq < rows:
        part = [(seq + n, f"i{seq + n}", ROW) for n in range(min(each, rows - seq))]
        seq += len(part)
        connection.execute("BEGIN IMMEDIATE")
        for first in range(0, len(part), 250):
            chunk = part[first : first + 250]
            marks = ",".join(["(?,?,?)"] * len(chunk))
            connection.execute(f"INSERT INTO records VALUES {marks}", [v for row in chunk for v in row])
        connection.execute("COMMIT")
    took = time.perf_counter() - started
    connection.close()
    for file in folder.glob("bare.db*"):
        file.unlink()
    return took


def p(values: list[float], share: float) -> float:
    """A percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def measured(
    case: str, folder: Path, operations: int, work: Callable[[Engine], Awaitable[dict[str, Any]]]
) -> None:
    """Run one case and print its line."""
    async with engine_at(folder / f"{case}.db") as (engine, journal):
        batches, rows = journal.stats.batches, journal.stats.records
        cpu, started = time.process_time(), time.perf_counter()
        more = await work(engine)
        took, used = time.perf_counter() - started, time.process_time() - cpu
        batches, rows = journal.stats.batches - batches, journal.stats.records - rows
    limit = bare(folder, rows, batches)
    line = {
        "bench": "engine",
        "case": case,
        "operations": operations,
        "per_s": round(operations / took, 1),
        "cpu_ms_each": round(used / operations * 1e3, 4),
        "flushes_each": round(batches / operations, 4),
        "rows": rows,
        "seconds": round(took, 4),
        "limit": f"sqlite3, FULL: {rows} rows in {batches} commits",
        "limit_seconds": round(limit, 4),
        "ratio": round(took / limit, 2),
        **more,
    }
    print(json.dumps(line), flush=True)


async def orchestrations_at_once(folder: Path) -> None:
    """1,000 orchestrations of three steps, all at once."""

    async def work(engine: Engine) -> dict[str, Any]:
        ids = await asyncio.gather(*(engine.client.start_new("three_steps") for _ in range(1000)))
        await asyncio.gather(*(engine.client.wait_for_completion(i, 60) for i in ids))
        return {}

    await measured("three_steps_1000_at_once", folder, 1000, work)


async def orchestrations_in_sequence(folder: Path) -> None:
    """One orchestration of three steps at a time: latency beside that of the bare commits it needs."""

    async def work(engine: Engine) -> dict[str, Any]:
        times: list[float] = []
        for _ in range(300):
            began = time.perf_counter()
            await engine.client.wait_for_completion(await engine.client.start_new("three_steps"), 60)
            times.append((time.perf_counter() - began) * 1e3)
        return {"p50_ms": round(p(times, 0.5), 3), "p99_ms": round(p(times, 0.99), 3)}

    await measured("three_steps_one_at_a_time", folder, 300, work)


async def fanning_out(folder: Path) -> None:
    """One orchestration of 1,000 activities in parallel."""

    async def work(engine: Engine) -> dict[str, Any]:
        instance = await engine.client.start_new("fan_out", client_input=1000)
        assert (await engine.client.wait_for_completion(instance, 60)).output == 1000
        return {}

    await measured("fan_out_1000", folder, 1, work)


async def entity_operations(folder: Path) -> None:
    """60,000 acknowledged operations on 12,000 entities, 1,000 in flight."""
    operations, keys, in_flight = 60_000, 12_000, 1_000

    async def work(engine: Engine) -> dict[str, Any]:
        numbers = iter(range(operations))

        async def caller() -> None:
            for number in numbers:
                await engine.client.call_entity(EntityId("counter", str(number % keys)), "add", 1.5)

        await asyncio.gather(*(caller() for _ in range(in_flight)))
        return {"keys": keys, "in_flight": in_flight}

    await measured("entity_operations_acknowledged", folder, operations, work)


async def timers_due_at_once(folder: Path) -> None:
    """10,000 orchestrations that wake at one instant: how late they are."""

    async def work(engine: Engine) -> dict[str, Any]:
        due_us = engine.now_us() + 12_000_000
        ids = await asyncio.gather(*(engine.client.start_new("sleeps", client_input=due_us) for _ in range(10_000)))
        assert engine.now_us() < due_us, "this machine is too slow to set the timers in time"
        done = await asyncio.gather(*(engine.client.wait_for_completion(i, 60) for i in ids))
        acked_ms = (engine.now_us() - due_us) / 1e3
        late = [(status.last_updated_time.timestamp() * 1e6 - due_us) / 1e3 for status in done]
        return {
            "late_p50_ms": round(p(late, 0.5), 1),
            "late_p99_ms": round(p(late, 0.99), 1),
            "all_acknowledged_after_ms": round(acked_ms, 1),
            "note": "seconds include the wait until the timers are due",
        }

    await measured("timers_10000_due_at_once", folder, 10_000, work)


async def recovering(folder: Path) -> None:
    """Ready again with 12,000 entities, 10,000 waiting orchestrations and 10,000 timers."""
    path = folder / "recovery.db"
    async with engine_at(path) as (engine, _):
        client = engine.client
        for first in range(0, 12_000, 2_000):
            await asyncio.gather(
                *(client.call_entity(EntityId("counter", str(n)), "add", 1) for n in range(first, first + 2_000))
            )
        for first in range(0, 10_000, 2_000):
            await asyncio.gather(*(client.start_new("waits", f"w{n}") for n in range(first, first + 2_000)))
    connection = sqlite3.connect(path)
    began = time.perf_counter()
    rows = sum(len(connection.execute(f"SELECT * FROM {table}").fetchall()) for table in ("instances", "timers"))
    limit = time.perf_counter() - began
    connection.close()
    began, cpu = time.perf_counter(), time.process_time()
    async with engine_at(path) as (engine, _):
        ready, used = time.perf_counter() - began, time.process_time() - cpu
        found = {"instances": len(engine.instances), "timers": len(engine.timers)}
        began = time.perf_counter()
        await engine.client.raise_event("w5", "go", 1)
        assert (await engine.client.wait_for_completion("w5", 10)).output == 1
        first_event_ms = (time.perf_counter() - began) * 1e3
    line = {
        "bench": "engine",
        "case": "recovery",
        **found,
        "ready_s": round(ready, 3),
        "cpu_s": round(used, 3),
        "first_event_ms": round(first_event_ms, 2),
        "limit": f"sqlite3 reads the same {rows} rows",
        "limit_seconds": round(limit, 4),
        "ratio": round(ready / limit, 1),
    }
    print(json.dumps(line), flush=True)


CASES = {
    "at_once": orchestrations_at_once,
    "in_sequence": orchestrations_in_sequence,
    "fan_out": fanning_out,
    "entities": entity_operations,
    "timers": timers_due_at_once,
    "recovery": recovering,
}


async def run(folder: Path, cases: list[str]) -> None:
    """The cases, each on a journal of its own."""
    async with engine_at(folder / "warm.db") as (engine, _):  # not counted: imports, caches, the first pages
        for _ in range(20):
            await engine.client.wait_for_completion(await engine.client.start_new("three_steps"), 10)
    for case in cases:
        await CASES[case](folder)


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", default="/var/tmp", help="where the journals are put: the disk that is measured")
    parser.add_argument("--case", nargs="*", choices=list(CASES), default=list(CASES))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.dir) as folder:
        asyncio.run(run(Path(folder), arguments.case))


if __name__ == "__main__":
    main()
