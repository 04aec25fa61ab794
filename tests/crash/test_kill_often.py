"""The daemon is killed a hundred times while it operates breakers; and a journal that forgets is found out."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path

import pytest
from crash.figures import figure
from crash.kills import Came, Plan, play
from station import SMALL

QUICK = {**SMALL, "command_deadline_s": "3000.0"}
OFTEN = Plan(
    kills=25,
    cycles=10,
    rtus=10,
    breakers=20,
    block=25,
    up_s=0.8,
    port=15224,
    host="127.0.70.1",
    settings=QUICK,
    travel_s=2.5,
)


STATIONS = 4
"""So many stations are killed side by side: most of a restart is waiting."""


async def _side_by_side(folder: Path) -> list[Came]:
    plans = [replace(OFTEN, port=OFTEN.port + 2 * n, host=f"127.0.{70 + n}.1") for n in range(STATIONS)]
    seeds = [random.randrange(2**32) for _ in plans]
    return list(
        await asyncio.gather(*(play(folder / str(n), plan, seeds[n]) for n, plan in enumerate(plans)))  # each its own
    )


async def test_a_hundred_kills(tmp_path: Path) -> None:
    """The form for every run."""
    for came in await _side_by_side(tmp_path):
        figure("kill -9", came.kills, len(came.wrong), came.seed, came.seconds / STATIONS)
        assert came.wrong == []
        assert came.kills >= OFTEN.kills, "there was nothing left to do before the last kill"


async def test_a_journal_that_forgot_is_found_out(tmp_path: Path) -> None:
    """The control: the checker is not blind. A daemon that was slow may have acknowledged nothing to forget: once more."""
    for turn in range(5):
        plan = replace(OFTEN, kills=6, forget=True, port=15240, host="127.0.74.1")
        came = await play(tmp_path / str(turn), plan, random.randrange(2**32))
        if lost := any("acknowledged events were lost" in one for one in came.wrong):
            break
    figure("kill -9, control", came.kills, 0, came.seed, came.seconds, f"{len(came.wrong)} kinds of violation found")
    assert lost, came.wrong


@pytest.mark.soak
async def test_five_thousand_kills(tmp_path: Path) -> None:
    """The long form: each round with stations and seeds of its own."""
    for turn in range(50):
        for came in await _side_by_side(tmp_path / str(turn)):
            figure("kill -9", came.kills, len(came.wrong), came.seed, came.seconds / STATIONS)
            assert came.wrong == []
