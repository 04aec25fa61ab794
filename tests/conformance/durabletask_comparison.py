"""Generates runs, plays them on both engines, and compares what came of them."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pprint import pformat

from hypothesis import HealthCheck, Phase, given, seed, settings

from gateway.durable.engine import MAX_LIVE_GENERATORS
from tests.conformance.durabletask_driver import Bell, Named, Outcome, Player, agree, play_all
from tests.conformance.durabletask_interpreter import Stage
from tests.conformance.durabletask_ours import our_host
from tests.conformance.durabletask_programs import Run, features
from tests.conformance.durabletask_strategy import runs
from tests.conformance.durabletask_theirs import their_host

GROUP = 12


@dataclass(frozen=True)
class Limits:
    """For what is to be found: how long a run may take, and what it has left behind may change."""

    run_s: float = 2.5
    settle_s: float = 1.0


_NOT_SHAPE = re.compile(r"'[^']*'|\d+|value=[^,)]*")


def generate(number: int, begin_with: int) -> list[Run]:
    """So many runs from this seed, no two of the same shape."""
    found: dict[str, Run] = {}

    @seed(begin_with)
    @settings(
        max_examples=5 * number,
        phases=(Phase.generate,),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(runs())
    def each(run: Run) -> None:
        if len(found) < number:
            found.setdefault(_NOT_SHAPE.sub("", repr(run)), run)

    each()
    return list(found.values())


@dataclass
class Comparison:
    """What came of many runs on both engines."""

    runs: Named
    differences: dict[str, list[str]]
    ours: dict[str, Outcome]
    theirs: dict[str, Outcome]
    seconds: dict[str, float]
    threads_left: list[str]
    engine_failure: BaseException | None
    features: Counter[str] = field(default_factory=Counter)

    def told(self, most: int = 3) -> str:
        """The first differences, each with its program."""
        return "\n\n".join(
            "\n".join([f"{name}: {pformat(dict(self.runs)[name], width=118)}", *lines])
            for name, lines in list(self.differences.items())[:most]
        )


async def compare(chosen: Sequence[Run]) -> Comparison:
    """Play runs on both engines."""
    named = [(f"r{number}", run) for number, run in enumerate(chosen)]
    threads_before = set(threading.enumerate())
    seconds: dict[str, float] = {}
    our_bell, their_bell = Bell(), Bell()
    our_stage, their_stage = Stage(our_bell.ring), Stage(their_bell.ring)
    async with our_host(our_stage) as ours, their_host(their_stage) as theirs:
        began = time.monotonic()
        our_players = await play_all(ours, our_stage, our_bell, named)
        seconds["ours"] = time.monotonic() - began
        began = time.monotonic()
        their_players = await play_all(theirs, their_stage, their_bell, named)
        seconds["theirs"] = time.monotonic() - began
        found: dict[str, list[str]] = {}
        for name, _ in named:
            lines = await agree(our_players[name], their_players[name])
            if lines:
                found[name] = lines
        failure = ours.engine.failure
    return Comparison(
        named,
        found,
        {name: player.outcome for name, player in our_players.items()},
        {name: player.outcome for name, player in their_players.items()},
        seconds,
        await _threads_left(threads_before),
        failure,
        Counter(feature for run in chosen for feature in features(run)),
    )


async def _threads_left(before: set[threading.Thread]) -> list[str]:
    """Threads that are there and were not before. Not those of asyncio, which end with the loop, nor the one of this
    engine that watches over the time that steps take: there is one in a process."""
    for _ in range(100):
        new = [thread.name for thread in threading.enumerate() if thread not in before]
        left = [name for name in new if not name.startswith(("asyncio_", "watch-steps"))]
        if not left:
            break
        await asyncio.sleep(0.05)
    return left


class _Told(Player):
    """A player of the past: what came of a run on the other engine, as it was then."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome

    async def settle(self) -> None:
        """Nothing changes any more."""


async def first_difference(
    chosen: Named, theirs: dict[str, Outcome], limits: Limits, max_live: int = MAX_LIVE_GENERATORS
) -> tuple[str, int]:
    """Play runs on this engine only, and compare with what came of them on the other before.

    The first difference, and how often an orchestration was replayed.
    """
    bell = Bell()
    stage = Stage(bell.ring)
    async with our_host(stage, max_live) as ours:
        for begin in range(0, len(chosen), GROUP):
            group = chosen[begin : begin + GROUP]
            players = await play_all(ours, stage, bell, group, limits.run_s)
            for name, player in players.items():
                lines = await agree(player, _Told(theirs[name]), limits.settle_s)
                if lines:
                    return f"{name}: {lines[0]}", ours.engine.counters.replays
            if ours.engine.failure is not None:
                return f"the engine failed: {ours.engine.failure!r}", 0
        return "", ours.engine.counters.replays
