"""What Restate's server calls for the cases: its Python SDK behind Hypercorn, as its makers show it.

usage: python -m benchmarks.peers.restate_service PORT
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from datetime import timedelta
from typing import Any

import hypercorn.asyncio
import restate
from hypercorn.config import Config

from benchmarks.peers.measuring import CITIES

steps = restate.Service("Steps")
counter = restate.VirtualObject("Counter")
waits = restate.Workflow("Waits")


def hello(name: str) -> str:
    """The smallest step."""
    return f"hello {name}"


@steps.handler()
async def three_steps(context: restate.Context) -> list[str]:
    """Three steps, one after the other."""
    return [await context.run_typed("hello", hello, name=city) for city in CITIES]


@steps.handler()
async def fan_out(context: restate.Context, number: int) -> int:
    """Many steps at once."""
    done = await restate.gather(*[context.run_typed("hello", hello, name=str(at)) for at in range(number)])
    return len(done)


@steps.handler()
async def sleeps(context: restate.Context, due_s: float) -> float:
    """Wait until a time; how late it is."""
    await context.sleep(timedelta(seconds=max(0.0, due_s - await context.time())))
    return time.time() - due_s


@counter.handler()
async def add(context: restate.ObjectContext, number: float) -> int:
    """Add to a state of a few fields."""
    state: dict[str, Any] = await context.get("state") or {"value": 0.0, "count": 0, "quality": "good"}
    state["value"] += number
    state["count"] += 1
    context.set("state", state)
    return int(state["count"])


@waits.main()
async def run(context: restate.WorkflowContext) -> float:
    """Wait for an event; when it came."""
    await context.promise("go").value()
    return time.time()


@waits.handler()
async def go(context: restate.WorkflowSharedContext, value: int) -> None:
    """The event."""
    await context.promise("go").resolve(value)


async def main(port: str) -> None:
    """Serve until it is ended."""
    logging.disable(logging.WARNING)
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.h2_max_concurrent_streams = 2_147_483_647
    config.keep_alive_max_requests = 2_147_483_647
    await hypercorn.asyncio.serve(restate.app([steps, counter, waits]), config)  # type: ignore[arg-type]


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
