"""The cases of the ceiling: the same work that ``benchmarks/engine.py`` gives the engine, on the bare log.

Each returns what was measured. CPU is that of the whole process, latencies are in seconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.limit.log import Form, Log, read
from benchmarks.limit.programs import Runner, Wish, call, call_all, encode, event, sleep_until


@dataclass(slots=True)
class Measured:
    """One run of one case. latencies_s: of each operation, where they are of interest."""

    operations: int
    seconds: float = 0.0
    cpu_s: float = 0.0
    flushes: int = 0
    bytes_written: int = 0
    latencies_s: list[float] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def per_s(self) -> float:
        """Operations a second."""
        return self.operations / self.seconds


@contextmanager
def timed(measured: Measured) -> Iterator[None]:
    """Measure what happens inside."""
    written, cpu, began = disk_bytes(), time.process_time(), time.perf_counter()
    yield
    measured.seconds = time.perf_counter() - began
    measured.cpu_s = time.process_time() - cpu
    measured.bytes_written = disk_bytes() - written


def disk_bytes() -> int:
    """Bytes that this process has dirtied for the disk, in whole pages."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("write_bytes")).split()[1])


@asynccontextmanager
async def log_at(path: Path, form: Form = Form.VALUES) -> AsyncIterator[Log]:
    """A log, for the time of a ``with``."""
    log = Log(path, form)
    try:
        yield log
    finally:
        await log.close()


async def entities(path: Path, operations: int, keys: int, in_flight: int) -> Measured:
    """Operations on entities that are dicts: an answer each, once its row is on disk. The best form: one row a batch."""
    measured = Measured(operations)
    states: dict[str, dict[str, Any]] = {}
    names = [f"counter/{number}" for number in range(keys)]
    async with log_at(path, Form.ONE_ROW) as log:
        finished = asyncio.get_running_loop().create_future()
        begun = answered = 0

        def one() -> None:
            nonlocal begun
            key = names[begun % keys]
            begun += 1
            asked = time.perf_counter()
            state = states.setdefault(key, {"value": 0.0, "count": 0, "quality": "good"})
            state["value"] += 1.5
            state["count"] += 1

            def told() -> None:
                nonlocal answered
                measured.latencies_s.append(time.perf_counter() - asked)
                answered += 1
                if begun < operations:
                    one()
                elif answered == operations:
                    finished.set_result(None)

            body = encode(
                {"type": "add", "key": key, "time": 1_764_000_000, "input": 1.5, "caller": "c", "state": state}
            )
            log.append(key, state["count"], body, told)

        with timed(measured):
            for _ in range(in_flight):
                one()
            await finished
        measured.flushes = log.commits
    return measured


def _hello(name: str) -> str:
    return f"hello {name}"


def _three_steps(_: object) -> Generator[Wish, Any, list[str]]:
    greetings = []
    for city in ("Tokyo", "Seattle", "London"):
        greetings.append((yield call(_hello, city)))
    return greetings


def _fan_out(number: int) -> Generator[Wish, Any, int]:
    return len((yield call_all(_hello, [str(at) for at in range(number)])))


def _sleeps(due_s: float) -> Generator[Wish, Any, float]:
    yield sleep_until(due_s)
    return time.time() - due_s


def _waits(_: object) -> Generator[Wish, Any, float]:
    yield event()
    return time.perf_counter()


async def three_steps(path: Path, operations: int, at_once: int) -> Measured:
    """Programs of three calls, so many at once."""
    measured = Measured(operations)
    async with log_at(path) as log:
        runner = Runner(log)
        finished = asyncio.get_running_loop().create_future()
        begun = 0

        def one() -> None:
            nonlocal begun
            key, asked = f"p{begun}", time.perf_counter()
            begun += 1

            def ended(_: object) -> None:
                measured.latencies_s.append(time.perf_counter() - asked)
                if begun < operations:
                    one()
                elif len(measured.latencies_s) == operations:
                    finished.set_result(None)

            runner.start(key, _three_steps, None, ended)

        with timed(measured):
            for _ in range(at_once):
                one()
            await finished
        measured.flushes = log.commits
    return measured


async def fan_out(path: Path, number: int) -> Measured:
    """One program that calls so many functions in parallel."""
    measured = Measured(1)
    async with log_at(path) as log:
        finished: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        with timed(measured):
            Runner(log).start("fan", _fan_out, number, finished.set_result)
            assert await finished == number
        measured.flushes = log.commits
    return measured


async def timers(path: Path, number: int, ahead_s: float) -> Measured:
    """Programs that all wake at one instant; the latencies are how late they did."""
    measured = Measured(number)
    async with log_at(path) as log:
        runner = Runner(log)
        finished = asyncio.get_running_loop().create_future()

        def ended(late_s: float) -> None:
            measured.latencies_s.append(late_s)
            if len(measured.latencies_s) == number:
                finished.set_result(None)

        with timed(measured):
            due_s = time.time() + ahead_s
            for at in range(number):
                runner.start(f"s{at}", _sleeps, due_s, ended)
            await finished
        measured.flushes = log.commits
    return measured


async def events(path: Path, number: int) -> Measured:
    """One event at a time to a program that waits for it; the latencies last until its code goes on."""
    measured = Measured(number)
    async with log_at(path) as log:
        runner = Runner(log)
        loop = asyncio.get_running_loop()
        with timed(measured):
            for at in range(number):
                ended: asyncio.Future[float] = loop.create_future()
                runner.start(f"w{at}", _waits, None, ended.set_result)
                while f"w{at}" not in runner.waiting:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.0005)
                asked = time.perf_counter()
                runner.tell(f"w{at}", 1)
                measured.latencies_s.append(await ended - asked)
        measured.flushes = log.commits
    return measured


async def _fill(path: Path, number: int) -> None:
    async with log_at(path) as log:
        runner = Runner(log)
        for at in range(number):
            runner.start(f"w{at}", _waits, None, lambda _: None)
        while len(runner.waiting) < number:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


async def _recover(path: Path, number: int) -> float:
    began = time.perf_counter()
    log = Log(path, Form.VALUES)
    runner = Runner(log)
    for key, bodies in read(path).items():
        runner.replay(key, _waits, None, len(bodies), lambda _: None)
    assert len(runner.waiting) == number
    return time.perf_counter() - began


def recovery(path: Path, number: int) -> Measured:
    """A process that finds so many waiting programs in the log: seconds from its first look at the file until all wait."""
    asyncio.run(_fill(path, number))
    measured = Measured(number)
    command = [sys.executable, "-m", "benchmarks.limit.cases", str(path), str(number)]
    root = Path(__file__).resolve().parent.parent.parent
    found = json.loads(subprocess.run(command, cwd=root, capture_output=True, check=True, text=True).stdout)
    measured.seconds, measured.cpu_s = found["seconds"], found["cpu_s"]
    return measured


if __name__ == "__main__":
    took_s = asyncio.run(_recover(Path(sys.argv[1]), int(sys.argv[2])))
    print(json.dumps({"seconds": took_s, "cpu_s": time.process_time(), "pid": os.getpid()}), flush=True)
    os._exit(0)
