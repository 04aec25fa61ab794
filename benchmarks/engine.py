"""The durable engine beside its ceiling: one JSON line a case.

The engine runs whole (history, mailboxes, determinism, hash chain) on the real journal with ``synchronous=FULL``. The
ceiling (``limit/``) does the same work with nothing but a log and generators. Both run in turns, some rounds of each, and
the medians stand side by side: absolute times differ by a factor of two between runs, their ratio much less. CPU is that
of the whole process, flushes are commits, both for one operation; bytes are what the process dirtied for the disk.

Where operations are few and the disk is what they wait for, a figure stands beside this disk's own bare flushes.

usage: python benchmarks/engine.py [--dir /var/tmp] [--case NAME ...] [--rounds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import engine_cases as ours  # noqa: E402 - found only now
from benchmarks.limit import cases as limit  # noqa: E402
from benchmarks.limit.cases import Measured  # noqa: E402
from benchmarks.summary import Row, at_least, at_most, percentile  # noqa: E402
from gateway.starting import share_the_interpreter, spare_the_loop  # noqa: E402

Run = Callable[[Path], Coroutine[Any, Any, Measured]]
FSYNC_BYTES = 4096


def medians(runs: list[Measured]) -> dict[str, float]:
    """What several runs of one case say together."""

    def middle(of: Callable[[Measured], float]) -> float:
        return statistics.median(of(run) for run in runs)

    told = {
        "per_s": round(middle(lambda r: r.per_s), 1),
        "seconds": round(middle(lambda r: r.seconds), 4),
        "cpu_ms_each": round(middle(lambda r: r.cpu_s / r.operations * 1e3), 4),
        "flushes_each": round(middle(lambda r: r.flushes / r.operations), 4),
        "bytes_written_each": round(middle(lambda r: r.bytes_written / r.operations)),
    }
    if runs[0].latencies_s:
        told["p50_ms"] = round(middle(lambda r: percentile(r.latencies_s, 50)) * 1e3, 3)
        told["p99_ms"] = round(middle(lambda r: percentile(r.latencies_s, 99)) * 1e3, 3)
    return told


def in_turns(folder: Path, rounds: int, engine: Run, ceiling: Run | None) -> tuple[dict[str, float], dict[str, float]]:
    """Medians of the engine, and of its ceiling, run in turns."""
    ran: tuple[list[Measured], list[Measured]] = ([], [])
    for number in range(rounds):
        for place, run in enumerate((engine, ceiling)):
            if run is not None:
                ran[place].append(asyncio.run(run(folder / f"{place}-{number}.db")))
                clear(folder)
    return medians(ran[0]), medians(ran[1]) if ran[1] else {}


def clear(folder: Path) -> None:
    """Each run has an empty folder, and a disk without what the last one left for it to do."""
    for file in folder.iterdir():
        file.unlink()
    os.sync()


def tell(case: str, operations: int, figures: dict[str, Any], beside: dict[str, Any], table: list[Row]) -> None:
    """Print the line of one case."""
    line = {"bench": "engine", "case": case, "operations": operations, **figures}
    print(json.dumps({**line, "limit": beside, "met": all(row["met"] is not False for row in table), "table": table}))
    sys.stdout.flush()


def flush_ms(folder: Path, number: int = 200) -> float:
    """Median time of one bare flush (fdatasync of a page that was appended) of this disk."""
    took = []
    with (folder / "flushes").open("wb", buffering=0) as file:
        for _ in range(number):
            began = time.perf_counter()
            file.write(b"x" * FSYNC_BYTES)
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
    return statistics.median(took) * 1e3


def entity_operations(folder: Path, rounds: int) -> None:
    """60,000 acknowledged operations on 12,000 entities, 1,000 in flight."""
    work = (60_000, 12_000, 1_000)
    own, top = in_turns(folder, rounds, lambda p: ours.entities(p, *work), lambda p: limit.entities(p, *work))
    table = [
        at_least("engine, entity operations acknowledged", own["per_s"], "/s", 0.4, top["per_s"]),
        at_most("engine, entity operations: CPU", own["cpu_ms_each"], "ms each", None, top["cpu_ms_each"]),
    ]
    tell("entity_operations", work[0], own, top, table)


def three_steps(at_once: int, operations: int) -> Callable[[Path, int], None]:
    """Orchestrations of three activities, so many at once."""

    def case(folder: Path, rounds: int) -> None:
        work = (operations, at_once)
        own, top = in_turns(
            folder, rounds, lambda p: ours.run_three_steps(p, *work), lambda p: limit.three_steps(p, *work)
        )
        what = f"engine, 3 steps, {at_once:,} at once"
        table = [
            at_least(what, own["per_s"], "/s", 0.5, top["per_s"]),
            at_most(f"{what}: CPU", own["cpu_ms_each"], "ms each", 0.2),
            at_most(f"{what}: CPU beside the ceiling", own["cpu_ms_each"], "ms each", None, top["cpu_ms_each"]),
            at_most(f"{what}: flushes", own["flushes_each"], "each", 0.1),
        ]
        tell(f"three_steps_{at_once}", operations, own, top, table)

    return case


def one_at_a_time(folder: Path, rounds: int) -> None:
    """300 orchestrations of three activities, one after the other: latency beside three flushes of this disk."""
    work = (300, 1)
    bare_ms = statistics.median(flush_ms(folder) for _ in range(rounds))
    own, top = in_turns(folder, rounds, lambda p: ours.run_three_steps(p, *work), lambda p: limit.three_steps(p, *work))
    table = [
        at_most("engine, 3 steps one at a time: p50, beside 3 flushes", own["p50_ms"], "ms", 2.0, 3 * bare_ms),
        at_most("engine, 3 steps one at a time: p50", own["p50_ms"], "ms", None, top["p50_ms"]),
        at_most("engine, 3 steps one at a time: p99", own["p99_ms"], "ms", None, top["p99_ms"]),
    ]
    tell("three_steps_1", work[0], {**own, "flush_ms": round(bare_ms, 4)}, top, table)


def fanning_out(folder: Path, rounds: int) -> None:
    """One orchestration of 1,000 activities in parallel."""
    own, top = in_turns(folder, rounds, lambda p: ours.run_fan_out(p, 1000), lambda p: limit.fan_out(p, 1000))
    table = [at_most("engine, 1,000 activities in parallel", own["seconds"], "s", 3.0, top["seconds"])]
    tell("fan_out_1000", 1, own, top, table)


def timers_due_at_once(folder: Path, rounds: int) -> None:
    """10,000 orchestrations that wake at one instant: how late they are."""
    work = (10_000, 6.0)
    own, top = in_turns(folder, rounds, lambda p: ours.timers(p, *work), lambda p: limit.timers(p, *work))
    table = [
        at_most("engine, 10,000 timers due at once: late p99", own["p99_ms"], "ms", 300.0),
        at_most("engine, 10,000 timers due at once: beside the ceiling", own["p99_ms"], "ms", None, top["p99_ms"]),
    ]
    tell("timers_due_at_once", work[0], own, top, table)


def timers_pending(folder: Path, rounds: int) -> None:
    """100,000 timers pending, and a lone one that comes due meanwhile."""
    own, _ = in_turns(folder, 1, lambda p: ours.pending_timers(p, 100_000, 50), None)
    table = [
        at_most("engine, a lone timer beside 100,000: late p50", own["p50_ms"], "ms", 5.0),
        at_most("engine, a lone timer beside 100,000: late p99", own["p99_ms"], "ms", None),
    ]
    tell("timers_pending", 100_000, own, {}, table)


def event_latency(folder: Path, rounds: int) -> None:
    """An event to an orchestration that waits, until the world sees what it led to."""
    own, top = in_turns(folder, rounds, lambda p: ours.events(p, 200), lambda p: limit.events(p, 200))
    table = [
        at_most("engine, event to effect: p50", own["p50_ms"], "ms", None, top["p50_ms"]),
        at_most("engine, event to effect: p99", own["p99_ms"], "ms", None, top["p99_ms"]),
    ]
    tell("event_latency", 200, own, top, table)


def apart(*arguments: str) -> dict[str, Any]:
    """What a process of its own found."""
    command = [sys.executable, *arguments]
    found: dict[str, Any] = json.loads(
        subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout
    )
    return found


def recovering(folder: Path, rounds: int) -> None:
    """Ready again with 12,000 entities, 10,000 waiting orchestrations and 10,000 timers, after a short and a long past."""
    for name, history in (("short", 0), ("long", 400_000)):
        asyncio.run(ours.fill(folder / f"{name}.db", 12_000, 10_000, history))
    runs: dict[str, list[dict[str, Any]]] = {"short": [], "long": []}
    bare = []
    for number in range(rounds):
        for name, found in runs.items():
            found.append(apart(str(Path(__file__)), "--recover", str(folder / f"{name}.db"), f"w{number}"))
        bare.append(bare_reading(folder / "short.db"))
    ready = {name: statistics.median(one["ready_s"] for one in found) for name, found in runs.items()}
    cpu = {name: statistics.median(one["cpu_s"] for one in found) for name, found in runs.items()}
    clear(folder)
    ceiling = statistics.median(limit.recovery(folder / f"limit-{n}.db", 32_000).seconds for n in range(rounds))
    clear(folder)
    figures = {
        **runs["short"][0],
        "ready_s": ready["short"],
        "cpu_s": cpu["short"],
        "after_400000_more_records_s": ready["long"],
        "after_400000_more_records_cpu_s": cpu["long"],
        "first_event_ms": statistics.median(one["first_event_ms"] for one in runs["short"]),
    }
    beside = {"replay_of_32000_s": round(ceiling, 4), "bare_sqlite_reads_it_s": round(statistics.median(bare), 4)}
    table = [
        at_most("engine, recovery of 32,000", ready["short"], "s", 1.5),
        at_most("engine, recovery: beside the ceiling", ready["short"], "s", None, ceiling),
        at_most("engine, recovery after 400,000 records more: CPU", cpu["long"], "s", 1.2, cpu["short"]),
    ]
    tell("recovery", 32_000, figures, beside, table)


def bare_reading(path: Path) -> float:
    """Seconds in which sqlite3 reads what a recovery has to read."""
    connection = sqlite3.connect(path)
    began = time.perf_counter()
    for table in ("instances", "timers"):
        connection.execute(f"SELECT * FROM {table}").fetchall()
    took = time.perf_counter() - began
    connection.close()
    return took


def memory(folder: Path, rounds: int) -> None:
    """What a waiting orchestration and an idle entity weigh."""
    figures = apart("-m", "benchmarks.engine_memory", str(folder))
    clear(folder)
    table = [
        at_most("engine, memory of a waiting orchestration", figures["waiting_orchestration_kb"], "KB", 10.0),
        at_most("engine, memory of an idle entity", figures["idle_entity_kb"], "KB", 4.0),
    ]
    tell("memory", 10_000, figures, {}, table)


def flash(folder: Path, rounds: int) -> None:
    """Bytes that reach the disk for each journaled event, beside the event's own size."""
    table: list[Row] = []
    figures: dict[str, Any] = {}
    kinds: dict[str, Run] = {
        "entity operations": lambda p: ours.entities(p, 60_000, 12_000, 1_000),
        "3 steps": lambda p: ours.run_three_steps(p, 5_000, 1_000),
    }
    for name, run in kinds.items():
        path = folder / "flash.db"
        measured = asyncio.run(run(path))
        connection = sqlite3.connect(path)
        size = connection.execute("SELECT sum(length(payload) + length(instance) + length(kind) + 24) FROM records")
        events, written = size.fetchone()[0], measured.bytes_written
        connection.close()
        clear(folder)
        number = measured.more["records"]
        figures[name] = {"bytes_an_event": round(events / number), "written_an_event": round(written / number)}
        table.append(
            at_most(f"engine, {name}: written to the disk an event", written / number, "B", 3.0, events / number)
        )
    tell("flash", 60_000, figures, {}, table)


CASES: dict[str, Callable[[Path, int], None]] = {
    "entities": entity_operations,
    "at_once": three_steps(1_000, 5_000),
    "hundred": three_steps(100, 3_000),
    "in_sequence": one_at_a_time,
    "fan_out": fanning_out,
    "events": event_latency,
    "timers": timers_due_at_once,
    "pending": timers_pending,
    "recovery": recovering,
    "memory": memory,
    "flash": flash,
}


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", default="/var/tmp", help="where the journals are put: the disk that is measured")
    parser.add_argument("--case", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--recover", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.recover is not None:
        print(json.dumps(asyncio.run(ours.recover(Path(arguments.recover[0]), arguments.recover[1]))))
        return
    with tempfile.TemporaryDirectory(dir=arguments.dir) as name:
        folder = Path(name)
        share_the_interpreter()  # as the daemon does
        spare_the_loop()
        asyncio.run(ours.run_three_steps(folder / "warm.db", 50, 10))  # not counted: imports, caches, the first pages
        clear(folder)
        for case in arguments.case:
            CASES[case](folder, arguments.rounds)


if __name__ == "__main__":
    main()
