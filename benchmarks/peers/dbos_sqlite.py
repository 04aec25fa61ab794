"""DBOS Transact on SQLite: a library in this process. It has no entities, and no fan-out but by threads of its own.

usage: python -m benchmarks.peers.dbos_sqlite FOLDER [CASE ...]
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from dbos import DBOS

from benchmarks.peers.measuring import (
    AHEAD_S,
    CITIES,
    EVENTS,
    FANNED_OUT,
    HUNDRED,
    IN_SEQUENCE,
    THOUSAND,
    TIMERS,
    Done,
    leave,
    measure,
    windowed,
)


@DBOS.step()
def hello(name: str) -> str:
    """The smallest step."""
    return f"hello {name}"


@DBOS.step()
async def hello_async(name: str) -> str:
    """The same on the event loop."""
    return f"hello {name}"


@DBOS.workflow()
def three_steps() -> list[str]:
    """Three steps, one after the other."""
    return [hello(city) for city in CITIES]


@DBOS.workflow()
async def fan_out(number: int) -> int:
    """Many steps at once."""
    return len(await asyncio.gather(*(hello_async(str(at)) for at in range(number))))


@DBOS.workflow()
async def sleeps(due_s: float) -> float:
    """Wait until a time; how late it is."""
    await DBOS.sleep_async(max(0.0, due_s - time.time()))
    return time.time() - due_s


@DBOS.workflow()
def waits() -> float:
    """Wait for an event; when it came."""
    DBOS.recv("go")
    return time.time()


def start() -> Callable[[], object]:
    """Begin an orchestration."""
    return DBOS.start_workflow(three_steps).get_result


def events() -> Done:
    """One at a time, until the workflow goes on."""
    latencies = []
    for _ in range(EVENTS):
        handle = DBOS.start_workflow(waits)
        time.sleep(0.05)  # until it waits: nobody tells
        asked_s = time.time()
        DBOS.send(handle.workflow_id, 1, "go")
        latencies.append(handle.get_result() - asked_s)
    return Done(EVENTS, latencies)


async def fanning_out() -> Done:
    """One of many steps at once."""
    handle = await DBOS.start_workflow_async(fan_out, FANNED_OUT)
    assert await handle.get_result() == FANNED_OUT
    return Done(1)


async def timers() -> Done:
    """All due at one instant; the rate at which they are set and awaited counts no less than how late they are."""
    due_s = time.time() + AHEAD_S
    handles = [await DBOS.start_workflow_async(sleeps, due_s) for _ in range(TIMERS)]
    assert time.time() < due_s, "the timers were not set in time"
    return Done(TIMERS, [await handle.get_result() for handle in handles])


async def main(folder: Path) -> None:
    """Measure it."""
    DBOS(
        config={
            "name": "bench",
            "system_database_url": f"sqlite:///{folder}/dbos.db",
            "run_admin_server": False,
            "log_level": "ERROR",
            "notification_listener_polling_interval_sec": 0.01,
        }
    )
    DBOS.launch()
    windowed(start, 3, 1)  # not counted
    await measure(
        {
            "in_sequence": lambda: windowed(start, IN_SEQUENCE, 1),
            "hundred": lambda: windowed(start, HUNDRED, 100),
            "thousand": lambda: windowed(start, THOUSAND, 1_000),
            "events": events,
            "fan_out": fanning_out,
            "timers": timers,
        },
        folder,
        version("dbos"),
        "SQLite's defaults: rollback journal, synchronous=FULL",
    )


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
    leave()
