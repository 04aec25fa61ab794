"""Microsoft's durabletask on its in-memory backend: nothing is durable. Client, worker, backend talk gRPC in one process.

usage: python -m benchmarks.peers.durabletask_memory FOLDER [CASE ...]
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from durabletask import task
from durabletask.client import TaskHubGrpcClient
from durabletask.entities import EntityInstanceId
from durabletask.testing import create_test_backend
from durabletask.worker import TaskHubGrpcWorker

from benchmarks.peers.measuring import (
    AHEAD_S,
    CITIES,
    EVENTS,
    FANNED_OUT,
    HUNDRED,
    IN_SEQUENCE,
    KEYS,
    OPERATIONS,
    PATIENCE_S,
    THOUSAND,
    TIMERS,
    Done,
    leave,
    measure,
    windowed,
)

PORT = 15_484
ADDRESS = f"127.0.0.1:{PORT}"


def hello(context: Any, name: str) -> str:
    """The smallest activity."""
    return f"hello {name}"


def three_steps(context: Any, _: Any) -> Generator[Any, Any, list[str]]:
    """Three activities, one after the other."""
    greetings = []
    for city in CITIES:
        greetings.append((yield context.call_activity(hello, input=city)))
    return greetings


def fan_out(context: Any, number: int) -> Generator[Any, Any, int]:
    """Many activities at once."""
    return len((yield task.when_all([context.call_activity(hello, input=str(at)) for at in range(number)])))


def sleeps(context: Any, due_s: float) -> Generator[Any, Any, float]:
    """Wait until a time; how late it is."""
    yield context.create_timer(datetime.fromtimestamp(due_s, UTC).replace(tzinfo=None))
    return time.time() - due_s


def waits(context: Any, _: Any) -> Generator[Any, Any, float]:
    """Wait for an event; when it came."""
    yield context.wait_for_external_event("go")
    return time.time()


def counter(context: Any, number: float) -> None:
    """Add to a state of a few fields."""
    state = context.get_state(dict, {"value": 0.0, "count": 0, "quality": "good"})
    state["value"] += number
    state["count"] += 1
    context.set_state(state)


class Load:
    """The cases, as a client of the backend asks for them."""

    def __init__(self) -> None:
        self._client = TaskHubGrpcClient(host_address=ADDRESS)

    def start(self, orchestrator: Any = three_steps, value: object = None) -> Callable[[], Any]:
        """Begin an orchestration; what waits for its output."""
        return self._output(self._client.schedule_new_orchestration(orchestrator, input=value))

    def _output(self, instance: str) -> Callable[[], Any]:
        def wait() -> Any:
            state = self._client.wait_for_orchestration_completion(instance, timeout=PATIENCE_S)
            return json.loads(state.serialized_output) if state is not None and state.serialized_output else None

        return wait

    def fan_out(self) -> Done:
        """One of many activities at once."""
        assert self.start(fan_out, FANNED_OUT)() == FANNED_OUT
        return Done(1)

    def events(self) -> Done:
        """One at a time, until the orchestration goes on."""
        latencies = []
        for _ in range(EVENTS):
            instance = self._client.schedule_new_orchestration(waits)
            time.sleep(0.05)  # until it waits: nobody tells
            asked_s = time.time()
            self._client.raise_orchestration_event(instance, "go", data=1)
            latencies.append(self._output(instance)() - asked_s)
        return Done(EVENTS, latencies)

    def entities(self) -> Done:
        """Signals to entities, one of its own each: nobody answers them, so their states are asked for in the end."""
        ids = [EntityInstanceId("counter", str(number % KEYS)) for number in range(OPERATIONS)]
        for one in ids:
            self._client.signal_entity(one, "add", 1.5)
        for one in ids:
            while (found := self._client.get_entity(one)) is None or not found.includes_state:
                time.sleep(0.005)
        return Done(OPERATIONS)

    def timers(self) -> Done:
        """All due at one instant."""
        due_s = time.time() + AHEAD_S
        waiting = [self.start(sleeps, due_s) for _ in range(TIMERS)]
        assert time.time() < due_s, "the timers were not set in time"
        return Done(TIMERS, [wait() for wait in waiting])


async def main(folder: Path) -> None:
    """Measure it."""
    create_test_backend(port=PORT)
    worker = TaskHubGrpcWorker(host_address=ADDRESS)
    logging.disable(logging.WARNING)
    worker.add_activity(hello)
    for orchestrator in (three_steps, fan_out, sleeps, waits):
        worker.add_orchestrator(orchestrator)
    worker.add_entity(counter)
    worker.start()
    load = Load()
    windowed(load.start, 3, 1)  # not counted
    await measure(
        {
            "in_sequence": lambda: windowed(load.start, IN_SEQUENCE, 1),
            "hundred": lambda: windowed(load.start, HUNDRED, 100),
            "thousand": lambda: windowed(load.start, THOUSAND, 1_000),
            "events": load.events,
            "fan_out": load.fan_out,
            "entities": load.entities,
            "timers": load.timers,
        },
        folder,
        version("durabletask"),
        "none: in memory",
    )


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
    leave()
