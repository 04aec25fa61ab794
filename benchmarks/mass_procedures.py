"""Procedures of the site of ``mass_shed``: operate many breakers at once, and react to events meanwhile."""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from gateway.durable import DurableOrchestrationContext, activity

STAMPS = Path(__file__).with_name("stamps")
"""The copy in the site's folder writes beside itself: one line a reaction, its number and CLOCK_MONOTONIC."""

Program = Generator[Any, Any, Any]


def OperateMany(context: DurableOrchestrationContext) -> Program:
    """Give one mass command a block, all blocks at once; how many breakers ended how."""
    order = context.get_input()
    commands = [
        context.call_activity(order["activity"], {"feeders": block, "deadline_s": 3000}) for block in order["blocks"]
    ]
    outcomes = yield context.task_all(commands)
    counts: dict[str, int] = {}
    for word in [word for block in outcomes for word in block.values()]:
        counts[word] = counts.get(word, 0) + 1
    return counts


def React(context: DurableOrchestrationContext) -> Program:
    """Take events until one says stop, and act on each."""
    while True:
        event = yield context.wait_for_external_event("Ping")
        if event["number"] < 0:
            return
        yield context.call_activity("Stamp", event["number"])


@activity
async def Stamp(number: int) -> None:
    """Say when it acted."""
    now_s = time.monotonic()
    with STAMPS.open("a") as file:
        file.write(f"{number} {now_s:.6f}\n")
