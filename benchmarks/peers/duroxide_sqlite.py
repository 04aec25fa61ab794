"""duroxide on its SQLite provider: a compiled library in this process. It has no entities.

usage: python -m benchmarks.peers.duroxide_sqlite FOLDER [CASE ...]
"""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections.abc import Callable, Generator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from duroxide import Client, Runtime, SqliteProvider

from benchmarks.peers.measuring import (
    AHEAD_S,
    CITIES,
    EVENTS,
    FANNED_OUT,
    HUNDRED,
    IN_SEQUENCE,
    PATIENCE_S,
    THOUSAND,
    TIMERS,
    Done,
    leave,
    measure,
    windowed,
)

REACTED: dict[str, float] = {}


def hello(context: Any, name: str) -> str:
    """The smallest activity."""
    return f"hello {name}"


def three_steps(context: Any, _: Any) -> Generator[Any, Any, list[str]]:
    """Three activities, one after the other."""
    greetings = []
    for city in CITIES:
        greetings.append((yield context.schedule_activity("hello", city)))
    return greetings


def fan_out(context: Any, number: int) -> Generator[Any, Any, int]:
    """Many activities at once."""
    return len((yield context.all([context.schedule_activity("hello", str(at)) for at in range(number)])))


def sleeps(context: Any, due_s: float) -> Generator[Any, Any, float]:
    """Wait until a time; how late it is."""
    now_ms = yield context.utc_now()
    yield context.schedule_timer(max(0, int(due_s * 1000) - int(now_ms)))
    return time.time() - due_s


def waits(context: Any, name: str) -> Generator[Any, Any, None]:
    """Wait for an event, and say when it came."""
    yield context.dequeue_event("go")
    REACTED[name] = time.perf_counter()


class Load:
    """The cases, as a client of the runtime asks for them."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def start(self, orchestrator: str = "three_steps", value: object = None, name: str = "") -> Callable[[], Any]:
        """Begin an orchestration; what waits for its output."""
        instance = name or uuid.uuid4().hex
        self._client.start_orchestration(instance, orchestrator, value)
        return lambda: self._client.wait_for_orchestration(instance, int(PATIENCE_S * 1000)).output

    def fan_out(self) -> Done:
        """One of many activities at once."""
        assert self.start("fan_out", FANNED_OUT)() == FANNED_OUT
        return Done(1)

    def events(self) -> Done:
        """One at a time, until the orchestration goes on."""
        latencies = []
        for _ in range(EVENTS):
            name = uuid.uuid4().hex
            wait = self.start("waits", name, name)
            time.sleep(0.1)  # until it waits: nobody tells
            asked = time.perf_counter()
            self._client.enqueue_event(name, "go", 1)
            wait()
            latencies.append(REACTED.pop(name) - asked)
        return Done(EVENTS, latencies)

    def timers(self) -> Done:
        """All due at one instant."""
        due_s = time.time() + AHEAD_S
        waiting = [self.start("sleeps", due_s) for _ in range(TIMERS)]
        assert time.time() < due_s, "the timers were not set in time"
        return Done(TIMERS, [wait() for wait in waiting])


async def main(folder: Path) -> None:
    """Measure it."""
    provider = SqliteProvider.open(f"sqlite:{folder}/duroxide.db?mode=rwc")
    runtime = Runtime(provider)
    runtime.register_activity("hello", hello)
    for orchestrator in (three_steps, fan_out, sleeps, waits):
        runtime.register_orchestration(orchestrator.__name__, orchestrator)
    runtime.start()
    load = Load(Client(provider))
    windowed(load.start, 3, 1)  # not counted
    await measure(
        {
            "in_sequence": lambda: windowed(load.start, IN_SEQUENCE, 1),
            "hundred": lambda: windowed(load.start, HUNDRED, 100),
            "thousand": lambda: windowed(load.start, THOUSAND, 1_000),
            "events": load.events,
            "fan_out": load.fan_out,
            "timers": load.timers,
        },
        folder,
        version("duroxide"),
        "SQLite in WAL mode, synchronous=NORMAL: not safe against power loss",
    )


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
    leave()
