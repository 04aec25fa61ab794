"""Does an event cost the same in a journal of ten years as in an empty one, and among 100,000 instances as among 100?

Three series, each point with the same work as the others of its series, on the engine as a daemon runs it:

- *length of the journal*: it is filled with records of orchestrations that ended long ago, 5,000 a batch, by the journal's
  own writer, so its tables, links and hash chain are the real ones, and it is verified as a whole at its greatest length
  (``--verify`` at each). Then entity operations and orchestrations of three steps run on it.
- *entities*: operations spread over few entities or many, all of them there before.
- *waiting orchestrations*: orchestrations of three steps among few or many others that wait for an event and a timer.

Beside each point stands the smallest of its series, made anew and measured in turns with it, so that what the machine does
meanwhile meets both. The least of some rounds counts: whatever else runs can only add to it. Opening a journal is not part
of it (``engine.py --case recovery`` measures that), but told as ``ready_s``.

Prints one JSON line for each point and a last one with the ratio of the dearest to the smallest, and draws ``--plot``.

usage: python benchmarks/scaling.py [--dir /var/tmp] [--records 1000 … 10000000] [--instances 100 …] [--plot FILE.svg]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import engine_cases as ours  # noqa: E402 - found only now
from benchmarks.chart import Panel, draw  # noqa: E402
from benchmarks.summary import Row, at_most  # noqa: E402
from gateway.durable.store import Batch, InstanceRow, RecordRow  # noqa: E402
from gateway.starting import share_the_interpreter, spare_the_loop  # noqa: E402
from journal import Journal, verify_file  # noqa: E402

Figures = dict[str, float]
Points = dict[int, Figures]
LENGTHS = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
INSTANCES = (100, 1_000, 10_000, 100_000)
OPERATIONS = 20_000
ENTITIES = 1_000
IN_FLIGHT = 100
"""As many as there are entities at least: two operations of one entity would share a turn, and cost less."""
STEPS = 2_000
CLEAR_BELOW = 1_000_000
"""Records. What is measured on a shorter journal would be a good part of it."""
FLAT = 1.3
"""The dearest point may cost so many times the smallest."""

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


async def cost(path: Path, keys: int, operations: int, steps: int) -> Figures:
    """The CPU of each kind of work, and the time that a client waits at the median."""
    found: Figures = {}
    if operations:
        began = time.perf_counter()
        entity = await ours.entities(path, operations, keys, IN_FLIGHT)
        found["ready_s"] = time.perf_counter() - began - entity.seconds
        found["operation_cpu_us"] = entity.cpu_s / operations * 1e6
        found["operation_p50_ms"] = sorted(entity.latencies_s)[operations // 2] * 1e3
    if steps:
        began = time.perf_counter()
        three = await ours.run_three_steps(path, steps, 100)
        found["ready_s"] = time.perf_counter() - began - three.seconds
        found["three_steps_cpu_us"] = three.cpu_s / steps * 1e6
        found["three_steps_p50_ms"] = sorted(three.latencies_s)[steps // 2] * 1e3
    return found


@dataclass(frozen=True, slots=True)
class Kind:
    """A series: how a journal of some size is made, and what is measured on it. Sizes count what ``make`` makes."""

    name: str
    make: Callable[[Path, int], Coroutine[Any, Any, object]]
    operations: int
    steps: int
    keys: int | None = None
    """Entities that operations are spread over; None: as many as the size."""

    def measure(self, path: Path, size: int) -> Figures:
        """One round on a journal of this size."""
        return asyncio.run(cost(path, self.keys or size, self.operations, self.steps))

    def in_turns(self, path: Path, size: int, smallest: int, rounds: int) -> Figures:
        """The least of some rounds, and under ``beside_…`` that of the smallest, in turns with them."""
        least: Figures = {}
        small = path.with_name("smallest.db")
        for _ in range(rounds):
            found = self.measure(path, size)
            asyncio.run(self.make(small, smallest))
            found |= {f"beside_{key}": value for key, value in self.measure(small, smallest).items()}
            for file in small.parent.glob(f"{small.name}*"):
                file.unlink()
            least = {key: min(value, least.get(key, value)) for key, value in found.items()}
        return {key: round(value, 3) for key, value in least.items()}


def told(series: str, size: int, figures: Figures, **more: float) -> None:
    """Print one point."""
    print(json.dumps({"bench": "scaling", "series": series, "size": size, **figures, **more}), flush=True)


def by_length(folder: Path, lengths: Sequence[int], rounds: int, verify: bool) -> Points:
    """One journal that grows; its own work adds to it, and is small beside what it was filled with."""
    points = {}
    path = folder / "length.db"
    for length in lengths:
        began = time.perf_counter()
        asyncio.run(fill(path, length))
        more = {"filled_s": round(time.perf_counter() - began, 1)}
        more["file_mb"] = round(path.stat().st_size / 1e6, 1)
        if verify or length == max(lengths):
            began = time.perf_counter()
            found = verify_file(path)
            assert found.ok, f"what was filled does not verify: {found}"
            more["verified_s"] = round(time.perf_counter() - began, 1)
        points[length] = LENGTH.in_turns(path, length, min(lengths), rounds)
        told(LENGTH.name, length, points[length], **more)
        if length < CLEAR_BELOW:
            clear(folder)  # else what was measured would have made it longer than the next
    clear(folder)
    return points


def by_number(kind: Kind, folder: Path, numbers: Sequence[int], rounds: int) -> Points:
    """The same work among few instances or many."""
    points = {}
    for number in numbers:
        path = folder / "instances.db"
        asyncio.run(kind.make(path, number))
        points[number] = kind.in_turns(path, number, min(numbers), rounds)
        told(kind.name, number, points[number])
        clear(folder)
    return points


async def operate(path: Path, number: int) -> None:
    """So many entities."""
    await ours.entities(path, number, number, IN_FLIGHT)


async def wait(path: Path, number: int) -> None:
    """So many orchestrations that wait."""
    async with ours.engine_at(path) as (engine, _):
        for first in range(0, number, BATCH):
            last = min(number, first + BATCH)
            await asyncio.gather(*(engine.client.start_new("waits") for _ in range(first, last)))
        while not engine.idle:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


LENGTH = Kind("length of the journal", fill, OPERATIONS, STEPS, ENTITIES)
ENTITIES_THERE = Kind("entities", operate, OPERATIONS, 0)
WAITING = Kind("waiting orchestrations", wait, 0, STEPS)


def clear(folder: Path) -> None:
    """An empty folder."""
    for file in folder.iterdir():
        file.unlink()


def compared(what: str, points: Points, key: str) -> list[Row]:
    """The dearest point of a series, beside the smallest at the same moments."""
    if len(points) < 2:
        return []
    dearest = max(points.values(), key=lambda point: point[key] / point[f"beside_{key}"])
    return [at_most(f"engine, CPU of {what}: dearest", dearest[key], "us", FLAT, dearest[f"beside_{key}"])]


def main() -> None:
    """Parse arguments, run, tell, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", default="/var/tmp", help="where the journals are put: the disk that is measured")
    parser.add_argument(
        "--records", type=int, nargs="*", default=list(LENGTHS[:-1]), help="10000000: 2.6 GB on the disk, six minutes"
    )
    parser.add_argument("--instances", type=int, nargs="*", default=list(INSTANCES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--verify", action="store_true", help="verify the journal at each length")
    parser.add_argument("--plot", type=Path, help="an SVG of it")
    arguments = parser.parse_args()
    share_the_interpreter()  # as the daemon does
    spare_the_loop()
    with tempfile.TemporaryDirectory(dir=arguments.dir) as name:
        folder = Path(name)
        asyncio.run(cost(folder / "warm.db", 100, 2_000, 200))  # not counted: imports, caches
        clear(folder)
        lengths = by_length(folder, arguments.records, arguments.rounds, arguments.verify)
        entities = by_number(ENTITIES_THERE, folder, arguments.instances, arguments.rounds)
        waiting = by_number(WAITING, folder, arguments.instances, arguments.rounds)
    series = (
        ("Entity operation, by length of the journal", "records in the journal", lengths, "operation_cpu_us"),
        ("Three steps, by length of the journal", "records in the journal", lengths, "three_steps_cpu_us"),
        ("Entity operation, by number of entities", "entities", entities, "operation_cpu_us"),
        ("Three steps, by orchestrations that wait", "waiting orchestrations", waiting, "three_steps_cpu_us"),
    )
    table = [row for what, _, points, key in series for row in compared(what, points, key)]
    print(json.dumps({"bench": "scaling", "case": "flat", "table": table}), flush=True)
    if arguments.plot is not None:
        panels = [
            Panel(
                what,
                f"{across} (logarithmic)",
                "CPU of each, µs",
                [(size, one[key]) for size, one in points.items()],
                [(size, one[f"beside_{key}"]) for size, one in points.items()],
            )
            for what, across, points, key in series
            if points
        ]
        arguments.plot.write_text(
            draw("What one operation costs as things grow (dashed: the smallest again, at the same moments)", panels)
        )


if __name__ == "__main__":
    main()
