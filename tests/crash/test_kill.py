"""The daemon with 12,000 breakers is killed in the middle of mass shedding."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from crash.figures import figure
from crash.kills import Plan, play

LARGE = Plan(kills=3, cycles=1, rtus=120, breakers=100, block=2_000, up_s=2.0, port=15220, host="127.0.3.1")


async def test_kills_in_the_middle_of_mass_shedding(tmp_path: Path) -> None:
    """The form for every run: few kills."""
    came = await play(tmp_path, LARGE, random.randrange(2**32))
    figure("kill -9, 12,000 breakers", came.kills, len(came.wrong), came.seed, came.seconds)
    assert came.wrong == []


@pytest.mark.soak
async def test_a_hundred_kills(tmp_path: Path) -> None:
    """The long form."""
    plan = Plan(kills=100, cycles=6, rtus=120, breakers=100, block=2_000, up_s=2.0, port=15220, host="127.0.3.1")
    came = await play(tmp_path, plan, random.randrange(2**32))
    figure("kill -9, 12,000 breakers", came.kills, len(came.wrong), came.seed, came.seconds)
    assert came.wrong == []
