"""Does an event cost the same in a journal of ten years as in an empty one, and among 100,000 instances as among 100?

A journal is filled with records of instances that ended long ago, through the journal's own writer (so its tables, links
and hash chain are the real ones), until it holds 10^3, 10^4, … records. On each of them the engine then runs the same
work: entity operations and orchestrations of three steps. The second series holds the journal short and varies how many
entities the operations are spread over. The least of some rounds counts:
whatever else the machine does can only add to it.

Prints one JSON line for each point and a last one with the ratio of the dearest to the cheapest, and draws ``--plot``.

usage: python benchmarks/scaling.py [--dir /var/tmp] [--records 1000 … 10000000] [--instances 100 …] [--plot FILE.svg]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import engine_cases as ours  # noqa: E402 - found only now
from benchmarks.chart import Series, draw  # noqa: E402
from benchmarks.summary import at_most  # noqa: E402
from gateway.durable.store import Batch, InstanceRow, RecordRow  # noqa: E402
from gateway.starting import spare_the_loop  # noqa: E402
from journal import Journal  # noqa: E402

LENGTHS = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
INSTANCES = (100, 1_000, 10_000, 100_000)
OPERATIONS = 20_000
IN_FLIGHT = 100
"""As many as there are entities at least: two operations of one entity would share a turn, and cost less."""
STEPS = 2_000
FLAT = 1.3
"""The dearest event may cost so many times the cheapest."""

BATCH = 5_000
RECORDS_EACH = 4
LONG_AGO_US = 1_764_000_000_000_000
TURN = json.dumps(
    {
        "events": [
            {"type": "TaskCompleted", "id": 1, "result": "hello Tokyo"},
            {"type": "TaskScheduled", "id": 2, "name": "hello"},
        ]
    }
).encode()
STATE = json.dumps({"next_task": 4, "events": 8, "output": ["hello Tokyo", "hello Seattle", "hello London"]}).encode()


async def fill(path: Path, length: int) -> None:
    """Add records of finished orchestrations, four each, until the journal holds so many."""
    journal = await Journal.open(path)
    seq = (await journal.recover()).last_seq
    while seq < length:
        batch = Batch()
        batch.time_us = LONG_AGO_US + seq
        for _ in range(0, min(BATCH, length - seq), RECORDS_EACH):
            instance, first = f"{seq:032x}", seq + 1
            for _ in range(RECORDS_EACH):
                seq += 1
                batch.records.append(RecordRow(seq, instance, "turn", batch.time_us, TURN))
            batch.instances[instance] = InstanceRow(
                instance, "orchestration", "three_steps", "Completed", "", batch.time_us, batch.time_us, first, STATE
            )
        await journal.commit(batch)
    await journal.close()


async def cost(path: Path, keys: int, operations: int, steps: int, rounds: int) -> dict[str, float]:
    """The least CPU of each kind of work, and the least time that a client waits at the median, over some rounds."""
    least: dict[str, float] = {}
    for _ in range(rounds):
        entity = await ours.entities(path, operations, keys, IN_FLIGHT)
        three = await ours.run_three_steps(path, steps, 100) if steps else None
        found = {"operation_cpu_us": entity.cpu_s / operations * 1e6}
        found["operation_p50_ms"] = sorted(entity.latencies_s)[operations // 2] * 1e3
        if three is not None:
            found["three_steps_cpu_us"] = three.cpu_s / steps * 1e6
            found["three_steps_p50_ms"] = sorted(three.latencies_s)[steps // 2] * 1e3
        least = {key: min(value, least.get(key, value)) for key, value in found.items()}
    return {key: round(value, 3) for key, value in least.items()}


def told(series: str, size: int, figures: dict[str, float], **more: float) -> None:
    """Print one point."""
    print(json.dumps({"bench": "scaling", "series": series, "size": size, **figures, **more}), flush=True)


def by_length(folder: Path, lengths: Iterable[int], rounds: int) -> dict[int, dict[str, float]]:
    """One journal that grows; its own work adds to it, and is small beside what it was filled with."""
    points = {}
    path = folder / "length.db"
    for length in lengths:
        began = time.perf_counter()
        asyncio.run(fill(path, length))
        filled_s = time.perf_counter() - began
        share = 0.1 if length < 100_000 else 1.0
        points[length] = asyncio.run(cost(path, 1_000, int(OPERATIONS * share), int(STEPS * share), rounds))
        size_mb = path.stat().st_size / 1e6
        told("journal length", length, points[length], filled_s=round(filled_s, 1), file_mb=round(size_mb, 1))
        if share < 1.0:
            clear(folder)  # else what was measured would have made it longer than the next
    return points


def by_instances(folder: Path, numbers: Iterable[int], rounds: int) -> dict[int, dict[str, float]]:
    """The same operations, spread over few entities or many, all of them there before."""
    points = {}
    for number in numbers:
        path = folder / f"instances-{number}.db"
        asyncio.run(ours.entities(path, number, number, IN_FLIGHT))
        points[number] = asyncio.run(cost(path, number, max(number, OPERATIONS), 0, rounds))
        told("instances", number, points[number])
        clear(folder)
    return points


def clear(folder: Path) -> None:
    """An empty folder."""
    for file in folder.iterdir():
        file.unlink()


def main() -> None:
    """Parse arguments, run, tell, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", default="/var/tmp", help="where the journals are put: the disk that is measured")
    parser.add_argument("--records", type=int, nargs="*", default=list(LENGTHS[:-1]), help="10000000 takes 5 GB")
    parser.add_argument("--instances", type=int, nargs="*", default=list(INSTANCES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plot", type=Path, help="an SVG of it")
    arguments = parser.parse_args()
    spare_the_loop()  # as the daemon does
    with tempfile.TemporaryDirectory(dir=arguments.dir) as name:
        folder = Path(name)
        asyncio.run(cost(folder / "warm.db", 100, 2_000, 200, 1))  # not counted: imports, caches
        clear(folder)
        lengths = by_length(folder, arguments.records, arguments.rounds)
        instances = by_instances(folder, arguments.instances, arguments.rounds)
    table = []
    charts = []
    for what, points, key in (
        ("an operation, by length of the journal", lengths, "operation_cpu_us"),
        ("3 steps, by length of the journal", lengths, "three_steps_cpu_us"),
        ("an operation, by number of entities", instances, "operation_cpu_us"),
    ):
        if len(points) > 1:
            dearest, cheapest = max(p[key] for p in points.values()), min(p[key] for p in points.values())
            table.append(at_most(f"engine, CPU of {what}: dearest", dearest, "us", FLAT, cheapest))
            charts.append(Series(what, [(size, point[key]) for size, point in points.items()]))
    print(json.dumps({"bench": "scaling", "case": "flat", "table": table}), flush=True)
    if arguments.plot is not None:
        arguments.plot.write_text(draw("CPU of one event", "records in the journal, or entities", "µs", charts))


if __name__ == "__main__":
    main()
