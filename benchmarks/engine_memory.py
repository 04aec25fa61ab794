"""What one waiting orchestration and one idle entity weigh: in a process of its own, so that nothing else is counted.

usage: python -m benchmarks.engine_memory FOLDER  (prints one JSON line)
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from pathlib import Path

from benchmarks.engine_cases import engine_at
from gateway.durable import Engine, EntityId

NUMBER = 10_000


def resident_bytes() -> int:
    """Memory of this process that is in RAM."""
    gc.collect()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) * 1024


async def quiet(engine: Engine) -> int:
    """Bytes once everything is on disk and nothing is under way."""
    while not engine.idle:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.01)
    return resident_bytes()


async def weigh(folder: Path) -> dict[str, float]:
    """KB each. The first thousand of each kind are not counted: they bring what all of them share."""
    async with engine_at(folder / "memory.db") as (engine, _):
        client = engine.client

        async def entities(first: int, number: int) -> None:
            for begin in range(first, first + number, 500):
                ids = [EntityId("counter", str(at)) for at in range(begin, begin + 500)]
                await asyncio.gather(*(client.call_entity(one, "add", 1) for one in ids))

        async def waiting(number: int) -> None:
            for _ in range(number // 500):
                await asyncio.gather(*(client.start_new("waits") for _ in range(500)))

        await entities(0, 1_000)
        await waiting(1_000)
        before = await quiet(engine)
        await entities(1_000, NUMBER)
        middle = await quiet(engine)
        await waiting(NUMBER)
        after = await quiet(engine)
    return {
        "idle_entity_kb": round((middle - before) / NUMBER / 1024, 2),
        "waiting_orchestration_kb": round((after - middle) / NUMBER / 1024, 2),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(weigh(Path(sys.argv[1])))))
