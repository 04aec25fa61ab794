"""Power cuts at every call: all writes of real journals are logged, and every state that a cut may leave is opened.

The lives of a journal are recorded once, with each write, flush, truncation and change of names in order; from that log
a model of the disk makes the states (see crash_states.py), and each is opened, judged and continued. The controls are the
same lives of journals that are weakened on purpose: if nothing is seen to be lost there, this harness is blind.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from crash.figures import figure
from crash.storage import recorder
from crash.storage.crash_states import Entry, State, crash_states, lay_out, read_log
from crash.storage.given import Given
from crash.storage.judged import judge
from crash.storage.preload import run_preloaded

STEPS = recorder.LIVES * recorder.STEPS
SHOWN = 3


async def test_no_power_cut_loses_what_was_acknowledged(memory: Path, tmp_path: Path, seed: int) -> None:
    await cut_and_judge(memory, tmp_path, seed, lives=3, states=6_000)


@pytest.mark.soak
async def test_100_000_power_cuts(memory: Path, tmp_path: Path, seed: int) -> None:
    await cut_and_judge(memory, tmp_path, seed, lives=20, states=100_000)


async def cut_and_judge(memory: Path, tmp_path: Path, seed: int, *, lives: int, states: int) -> None:
    """Record so many lives, judge so many states of them; then the controls."""
    started = time.perf_counter()
    judged, violations = 0, []
    for number in range(lives):
        entries = record(memory, seed + number, "honest")
        share = (states - judged) // (lives - number)
        tried, wrong = await judge_states(memory, tmp_path, entries, seed + number, share)
        judged += tried
        violations += wrong
    seconds = time.perf_counter() - started
    lost = [await control(memory, tmp_path, seed, mode) for mode in ("normal", "early")]
    figure("write log and replay", judged, len(violations), seed, seconds, "; ".join(lost))
    assert not violations, "\n".join(violations[:SHOWN])
    assert judged > 0.9 * states, "the lives gave too few different states"


async def control(memory: Path, tmp_path: Path, seed: int, mode: str) -> str:
    """A weakened journal: what it lost."""
    entries = record(memory, seed, mode)
    tried, wrong = await judge_states(memory, tmp_path, entries, seed, 220)
    lost = [complaint for complaint in wrong if "acknowledged" in complaint]
    assert lost, f"{tried} power cuts of a journal that is {mode}, and no loss was seen"
    return f"{mode}: {len(lost)} of {tried}"


def record(memory: Path, seed: int, mode: str) -> list[Entry]:
    """All that a journal's lives wrote."""
    folder, log = memory / "lived", memory / "log"
    folder.mkdir(exist_ok=True)
    for left in (*folder.iterdir(), log):
        left.unlink(missing_ok=True)
    run_preloaded("crash.storage.recorder", folder, log, seed, mode)
    return read_log(log)


async def judge_states(
    memory: Path, tmp_path: Path, entries: list[Entry], seed: int, most: int
) -> tuple[int, list[str]]:
    """At most so many states, from all over the log: how many were judged, and the violations."""
    given, dice = Given(seed, large=recorder.LARGE), random.Random(seed)
    folder = memory / "state"
    folder.mkdir(exist_ok=True)
    per_point = most // len(entries) + 2
    chance = min(1.0, 3.0 * most / (per_point * len(entries)))
    tried, violations = 0, []
    for calls, state, acknowledged in spread(entries, memory / "lived", dice, per_point, chance, most):
        lay_out(state, folder)
        found = await judge(folder / "journal.db", given, acknowledged, STEPS)
        tried += 1
        if found.complaints:
            violations.append(f"seed {seed}, after call {calls}: {'; '.join(found.complaints)}")
            if len(violations) <= SHOWN:
                keep(state, tmp_path / f"violation-{seed}-{calls}")
    return tried, violations


def spread(
    entries: list[Entry], folder: Path, dice: random.Random, per_point: int, chance: float, most: int
) -> list[tuple[int, State, int]]:
    """A random choice, in order; made ahead, so that the end of the log is not what is left out."""
    found = list(crash_states(entries, folder, dice, per_point, chance))
    return [found[n] for n in sorted(dice.sample(range(len(found)), min(most, len(found))))]


def keep(state: State, folder: Path) -> None:
    """For whoever looks into it."""
    folder.mkdir(exist_ok=True)
    lay_out(state, folder)
