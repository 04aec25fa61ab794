"""A day of operation in some minutes: does anything grow that should not?

The engine runs on a clock that goes faster than the world (``--minutes`` for 24 hours), with as many events as a day of
12,000 breakers brings, evenly paced. How many that is, on purpose more than a day would bring:

- each breaker is shed and restored once (a day of rotating outages): two commands, each of five operations of its entity
  (asked, sent, the position seen, confirmed, answered): 120,000
- each breaker's link fails and comes back once, its mode is changed and changed back: 48,000
- a look at the load each minute, which is an orchestration of three steps: 1,440, with a timer beside each

Each hour what has finished is purged, and what is older than two hours goes to an archive, as housekeeping does it. One
JSON line in all: memory, size of the files, latency of acknowledged operations and CPU of each hour (told as they end to
standard error), and the last quarter of the day beside the second. A last line says the verdict in words.

usage: python benchmarks/day.py [--dir /var/tmp] [--minutes 4] [--breakers 12000]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.engine_cases import registry  # noqa: E402 - found only now
from benchmarks.processes import usage  # noqa: E402
from benchmarks.summary import Row, at_most, percentile  # noqa: E402
from gateway.clock import SystemClock, from_us  # noqa: E402
from gateway.durable import Engine, EntityId  # noqa: E402
from gateway.starting import share_the_interpreter, spare_the_loop  # noqa: E402
from journal import Journal  # noqa: E402

HOURS = 24
OPERATIONS_A_BREAKER = 2 * 5 + 4
LOOKS_AN_HOUR = 60
KEPT_HOURS = 2
SLICES_AN_HOUR = 240
"""Operations come in so many portions, evenly spaced."""
PREFIX, SUFFIX = "a day: ", ", last quarter beside the second"
HOUR_US = 3_600_000_000


@dataclass(slots=True)
class Hour:
    """What one hour showed. Latencies of the world, from the question to the answer; those of each operation are dropped
    when the hour is over, lest what is measured grows by the measuring."""

    latencies_s: array[float] = field(default_factory=lambda: array("d"))
    operations: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    rss_mb: float = 0.0
    file_mb: float = 0.0
    archives_mb: float = 0.0
    cpu_s: float = 0.0
    timers: int = 0
    instances: int = 0


class Day:
    """The load of one day on one engine."""

    def __init__(self, engine: Engine, journal: Journal, folder: Path, breakers: int, hour_s: float) -> None:
        self.hours: list[Hour] = []
        self._engine = engine
        self._journal = journal
        self._folder = folder
        self._hour_s = hour_s
        self._ids = [EntityId("counter", f"B{number:05d}") for number in range(breakers)]
        self._next = 0
        self._began = from_us(engine.now_us())

    async def run(self) -> None:
        """All hours, one after the other, each told when it ends."""
        began = time.perf_counter()
        for number in range(HOURS):
            hour = Hour()
            cpu = time.process_time()
            await self._pass(hour, began + number * self._hour_s)
            await self._keep_house()
            hour.cpu_s = time.process_time() - cpu
            self._look(hour)
            self.hours.append(hour)
            print(json.dumps({"hour": number + 1, **told(hour)}), file=sys.stderr, flush=True)

    async def _pass(self, hour: Hour, began: float) -> None:
        each = len(self._ids) * OPERATIONS_A_BREAKER / HOURS / SLICES_AN_HOUR
        for slice_ in range(SLICES_AN_HOUR):
            await asyncio.sleep(began + slice_ / SLICES_AN_HOUR * self._hour_s - time.perf_counter())
            number = int(each * (slice_ + 1)) - int(each * slice_)
            work = [self._operate(hour) for _ in range(number)]
            if slice_ % (SLICES_AN_HOUR // LOOKS_AN_HOUR) == 0:
                work += [self._look_at_load()]
            await asyncio.gather(*work)

    async def _operate(self, hour: Hour) -> None:
        breaker = self._ids[self._next % len(self._ids)]
        self._next += 1
        asked = time.perf_counter()
        await self._engine.client.call_entity(breaker, "add", 1.0)
        hour.latencies_s.append(time.perf_counter() - asked)

    async def _look_at_load(self) -> None:
        await self._engine.client.start_new("three_steps")
        await self._engine.client.start_new("sleeps", client_input=self._engine.now_us() + 60_000_000)

    async def _keep_house(self) -> None:
        before_us = self._engine.now_us() - KEPT_HOURS * HOUR_US
        await self._engine.client.purge_instance_history_by(self._began, from_us(before_us))
        while await self._journal.archive(before_us, self._folder / "archives") is not None:
            pass

    def _look(self, hour: Hour) -> None:
        hour.operations = len(hour.latencies_s)
        hour.p50_ms = percentile(hour.latencies_s, 50) * 1e3
        hour.p99_ms = percentile(hour.latencies_s, 99) * 1e3
        hour.latencies_s = array("d")
        hour.rss_mb = usage(os.getpid()).rss_mb
        files = {path: path.stat().st_size / 1e6 for path in self._folder.rglob("*") if path.is_file()}
        hour.archives_mb = sum(size for path, size in files.items() if path.parent.name == "archives")
        hour.file_mb = sum(files.values()) - hour.archives_mb
        hour.timers = len(self._engine.timers)
        hour.instances = len(self._engine.instances)


def told(hour: Hour) -> dict[str, float]:
    """One hour's figures."""
    return {
        "operations": hour.operations,
        "p50_ms": round(hour.p50_ms, 3),
        "p99_ms": round(hour.p99_ms, 3),
        "rss_mb": round(hour.rss_mb, 1),
        "file_mb": round(hour.file_mb, 2),
        "archives_mb": round(hour.archives_mb, 2),
        "cpu_s": round(hour.cpu_s, 3),
        "timers": hour.timers,
        "instances": hour.instances,
    }


def compare(hours: list[Hour]) -> list[Row]:
    """The last quarter of the day beside the second: by then whatever is kept for some hours is there."""
    quarter = len(hours) // 4
    early, late = hours[quarter : 2 * quarter], hours[-quarter:]

    def middle(part: list[Hour], of: Any) -> float:
        return float(median(of(hour) for hour in part))

    def row(what: str, unit: str, limit: float, of: Any) -> Row:
        return at_most(f"{PREFIX}{what}{SUFFIX}", middle(late, of), unit, limit, middle(early, of))

    return [
        row("memory", "MB", 1.1, lambda hour: hour.rss_mb),
        row("journal", "MB", 1.2, lambda hour: hour.file_mb),
        row("p99 of an operation", "ms", 1.5, lambda hour: hour.p99_ms),
        row("CPU an hour", "s", 1.2, lambda hour: hour.cpu_s),
    ]


def verdict(table: list[Row]) -> str:
    """What the comparison says, in one line."""
    told = ", ".join(f"{str(row['what']).removeprefix(PREFIX).removesuffix(SUFFIX)} x {row['ratio']}" for row in table)
    grows = [row for row in table if row["met"] is False]
    return f"day: {'NOT FLAT' if grows else 'flat'} over {HOURS} h: {told} (the last six hours to the second six)"


async def main_async(folder: Path, breakers: int, minutes: float) -> None:
    """One day."""
    hour_s = minutes * 60 / HOURS
    journal = await Journal.open(folder / "journal.db")
    engine = Engine(journal, registry(), SystemClock(rate=3600 / hour_s))
    await engine.recover()
    engine.start()
    day = Day(engine, journal, folder, breakers, hour_s)
    try:
        share_the_interpreter()  # as the daemon does
        spare_the_loop()
        await day.run()
    finally:
        await engine.stop()
        await journal.close()
    total = sum(hour.operations for hour in day.hours)
    table, hours = compare(day.hours), [told(hour) for hour in day.hours]
    by_hour = {key: [hour[key] for hour in hours] for key in hours[0]}
    line = {"bench": "day", "case": "24 h", "operations": total, "minutes": minutes, "hours": by_hour, "table": table}
    print(json.dumps(line), flush=True)
    print(verdict(table), flush=True)


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", default="/var/tmp", help="where the journal is put: the disk that is measured")
    parser.add_argument("--minutes", type=float, default=4.0, help="of the world, for the whole day")
    parser.add_argument("--breakers", type=int, default=12_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.dir) as name:
        asyncio.run(main_async(Path(name), arguments.breakers, arguments.minutes))


if __name__ == "__main__":
    main()
