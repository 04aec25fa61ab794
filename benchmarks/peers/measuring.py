"""How an engine is measured beside others: the same cases for all, each in the engine's own words, one JSON line a case.

A peer's module runs in a process of its own and hands :func:`measure` what it can do, case by case. What it can't do is
left out, and so is what is not done when its time is up: a line is printed as soon as its case is done.

CPU is that of the module's process and of all its descendants (a server, a database, a process with the steps' code):
what the whole of it costs. Flushes are counted at the disk (:class:`Flushes`), whoever asked for them.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL, Popen, TimeoutExpired
from typing import Any, cast

from benchmarks.summary import percentile, round_to

CITIES = ("Tokyo", "Seattle", "London")
GREETINGS = ["hello Tokyo", "hello Seattle", "hello London"]

IN_SEQUENCE, HUNDRED, THOUSAND = 50, 400, 1_000
"""Orchestrations of three steps: one at a time, at most 100 at once, 1,000 at once."""
EVENTS = 50
FANNED_OUT = 1_000
OPERATIONS, KEYS, IN_FLIGHT = 4_000, 12_000, 500
"""Entity operations: each has an entity of its own."""
TIMERS, AHEAD_S = 2_000, 20.0
"""So many timers due at one instant, so many seconds ahead: the slowest engine here needs them to set them all."""
PATIENCE_S = 90.0

CASES = ("in_sequence", "hundred", "thousand", "events", "fan_out", "entities", "timers")


@dataclass(slots=True)
class Done:
    """What one case did. latencies_s: of each operation, or how late it was. seconds: None for the whole case's time."""

    operations: int
    latencies_s: Sequence[float] = field(default_factory=list)
    seconds: float | None = None


Case = Callable[[], Done] | Callable[[], Coroutine[Any, Any, Done]]
"""Those that block run in a thread of their own."""
Wait = Callable[[], object]


async def measure(cases: Mapping[str, Case], folder: Path, version: str, durability: str) -> None:
    """Run the cases that were asked for and print what they did. durability: the peer's setting, in words."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that whatever was started is ended
    asked = sys.argv[2:] or CASES
    print(json.dumps({"version": version, "durability": durability}), flush=True)
    flushes = Flushes(folder)
    for name in (name for name in CASES if name in asked and name in cases):
        before, cpu, began = flushes.count(), tree_cpu_s(), time.perf_counter()
        case = cases[name]
        if inspect.iscoroutinefunction(case):
            done = await case()
        else:
            done = await asyncio.to_thread(cast("Callable[[], Done]", case))
        seconds = done.seconds or time.perf_counter() - began
        after, cpu = flushes.count(), tree_cpu_s() - cpu
        told: dict[str, float] = {
            "operations": done.operations,
            "seconds": round_to(seconds),
            "per_s": round_to(done.operations / seconds),
            "cpu_ms_each": round_to(cpu / done.operations * 1e3),
        }
        if before is not None and after is not None:
            told["flushes_each"] = round_to((after - before) / done.operations)
        if done.latencies_s:
            told["p50_ms"] = round_to(percentile(done.latencies_s, 50) * 1e3)
            told["p99_ms"] = round_to(percentile(done.latencies_s, 99) * 1e3)
        print(json.dumps({"case": name, **told}), flush=True)


def windowed(start: Callable[[], Wait], operations: int, at_once: int) -> Done:
    """For clients that block: ``start`` begins one and returns what waits for its output. The oldest is waited for."""
    under_way: deque[tuple[float, Wait]] = deque()
    latencies = []
    for number in range(operations + at_once):
        if len(under_way) == at_once or number >= operations:
            if not under_way:
                break
            began, wait = under_way.popleft()
            output = wait()
            latencies.append(time.perf_counter() - began)
            assert output == GREETINGS, f"the peer did not do the work: {output!r}"
        if number < operations:
            under_way.append((time.perf_counter(), start()))
    return Done(operations, latencies if at_once == 1 else [])


async def in_flight(call: Callable[[int], Awaitable[object]], operations: int, at_once: int) -> Done:
    """For clients that don't block: so many callers, each with one after the other."""
    numbers = iter(range(operations))
    latencies = []

    async def caller() -> None:
        for number in numbers:
            began = time.perf_counter()
            await call(number)
            latencies.append(time.perf_counter() - began)

    await asyncio.gather(*(caller() for _ in range(at_once)))
    return Done(operations, latencies)


def calling(call: Callable[[int], Awaitable[object]], operations: int, at_once: int) -> Case:
    """The case of :func:`in_flight`."""

    async def case() -> Done:
        return await in_flight(call, operations, at_once)

    return case


def tree_cpu_s() -> float:
    """User and system time of this process and its descendants, those that ended and were waited for among them."""
    parents, used = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            values = path.read_text().rpartition(")")[2].split()
        except OSError:  # it ended between the two looks
            continue
        pid = int(path.parent.name)
        parents[pid], used[pid] = int(values[1]), sum(map(int, values[11:15]))
    family, grew = {os.getpid()}, True
    while grew:
        more = {pid for pid, parent in parents.items() if parent in family} - family
        family, grew = family | more, bool(more)
    return sum(used[pid] for pid in family if pid in used) / os.sysconf("SC_CLK_TCK")


class Flushes:
    """The kernel's count of flushes that the disk under a folder has carried out: of everybody, so the machine must be
    quiet. It knows none of a partition, so the whole disk is looked at; where there is no disk (overlay, tmpfs), None.
    """

    AT = 15
    """The place in ``/sys/block/DISK/stat`` (Documentation/block/stat.rst of Linux, 5.5 and newer)."""

    def __init__(self, folder: Path) -> None:
        device = folder.stat().st_dev
        disk = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
        self._stat = (disk.parent if (disk / "partition").exists() else disk) / "stat"

    def count(self) -> int | None:
        """How many so far, or None where nobody counts."""
        try:
            return int(self._stat.read_text().split()[self.AT])
        except (OSError, IndexError):
            return None


@contextmanager
def running(
    *commands: Sequence[str],
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    stop: signal.Signals = signal.SIGTERM,
) -> Iterator[None]:
    """Programs beside this one, for the time of a ``with``; ended by their own process ids, the last one first."""
    processes = []
    try:
        for command in commands:
            environment = {**os.environ, **(env or {})}
            processes.append(Popen(command, env=environment, user=user, stdin=DEVNULL, stdout=2))
        yield
    finally:
        for process in reversed(processes):
            process.send_signal(stop)
            try:
                process.wait(10)
            except TimeoutExpired:
                process.kill()
                process.wait()


def leave() -> None:
    """End this process at once, whatever threads a peer left."""
    sys.stdout.flush()
    os._exit(0)
