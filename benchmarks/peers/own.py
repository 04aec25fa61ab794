"""The engine of this project at the cases of the peers, measured as they are.

usage: python -m benchmarks.peers.own FOLDER [CASE ...]
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from benchmarks import engine_cases as ours
from benchmarks.limit.cases import Measured
from benchmarks.peers.measuring import (
    EVENTS,
    FANNED_OUT,
    HUNDRED,
    IN_FLIGHT,
    IN_SEQUENCE,
    KEYS,
    OPERATIONS,
    THOUSAND,
    TIMERS,
    Done,
    leave,
    measure,
)
from gateway.starting import share_the_interpreter, spare_the_loop

AHEAD_S = 3.0
"""Its timers are set in less time than those of others."""
TIMES = 3
"""It does so many times the work of a peer where that would be over too soon to be measured."""


async def main(folder: Path) -> None:
    """Measure it."""
    numbers = iter(range(1_000))

    def case(work: Callable[[Path], Coroutine[Any, Any, Measured]]) -> Callable[[], Coroutine[Any, Any, Done]]:
        async def run() -> Done:
            measured = await work(folder / f"{next(numbers)}.db")
            return Done(measured.operations, measured.latencies_s, measured.seconds)

        return run

    share_the_interpreter()  # as the daemon does
    spare_the_loop()
    await ours.run_three_steps(folder / "warm.db", 50, 10)  # not counted
    await measure(
        {
            "in_sequence": case(lambda path: ours.run_three_steps(path, TIMES * IN_SEQUENCE, 1)),
            "hundred": case(lambda path: ours.run_three_steps(path, TIMES * HUNDRED, 100)),
            "thousand": case(lambda path: ours.run_three_steps(path, TIMES * THOUSAND, 1_000)),
            "events": case(lambda path: ours.events(path, EVENTS)),
            "fan_out": case(lambda path: ours.run_fan_out(path, FANNED_OUT)),
            "entities": case(lambda path: ours.entities(path, TIMES * OPERATIONS, KEYS, IN_FLIGHT)),
            "timers": case(lambda path: ours.timers(path, TIMERS, AHEAD_S)),
        },
        folder,
        "this",
        "SQLite, WAL, synchronous=FULL, hash chain",
    )


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
    leave()
