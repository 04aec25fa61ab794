"""The whole gateway under a virtual clock: thousands of hours of bad days, each of them a number that can be told again.

A story that fails prints its seed: ``PYTHONPATH=.:tests python -m crash.simulation SEED`` tells it again, step by step the
same. Not simulated: SQLite (its own tests cut its power), pymodbus and sockets, the operators' OPC UA server, retention.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from crash import figures
from crash.simulation.controls import CONTROLS, STORMY, Control
from crash.simulation.failed_seeds import FAILED_SEEDS
from crash.simulation.people import FAULTS
from crash.simulation.rtu import ACTS
from crash.simulation.story import Told, tell

ROOT = Path(__file__).parents[3]
HOURS = 1000.0
FIRST_SEED = 1000
SOAK_HOURS = float(os.environ.get("GRIDLATCH_SIMULATED_HOURS", "100000"))
PARTS = 5
PARTS_TOLD: dict[int, Counter[str]] = {}
CONTROL_SEEDS = 12
CONTROL_FOUND: dict[str, int] = {}


def explained(told: Told) -> str:
    """A failure, and how to see it again."""
    tail = "\n".join(told.lines[-30:])
    wrong = "\n".join(told.violations)
    return f"seed {told.seed}: PYTHONPATH=.:tests python -m crash.simulation {told.seed}\n{tail}\n{wrong}"


def tell_hours(hours: float, first: int) -> tuple[list[Told], Counter[str]]:
    """Stories, one seed after the other, until so many virtual hours have been told."""
    told: list[Told] = []
    counts: Counter[str] = Counter()
    failed: list[Told] = []
    total_h = 0.0
    seed = first
    while total_h < hours:
        story = tell(seed)
        counts.update(story.counts)
        total_h += story.hours
        if story.violations:
            failed.append(story)
        told.append(story)
        story.lines.clear() if not story.violations else None
        seed += 1
    assert not failed, "\n\n".join(explained(story) for story in failed[:5])
    return told, counts


def summed_up(method: str, told: list[Told], began_s: float) -> None:
    """The figures of a run."""
    hours = sum(story.hours for story in told)
    cpu_s = sum(story.seconds for story in told)
    print(f"{hours:,.0f} simulated hours in {cpu_s:.1f} s of one core: {hours / cpu_s:.1f} h/s, {len(told)} stories")
    control = f"{len(CONTROL_FOUND)} of {len(CONTROLS)} mutants found" if CONTROL_FOUND else ""
    figures.figure(method, int(hours), 0, told[0].seed, time.monotonic() - began_s, control)


@pytest.mark.parametrize(("seed", "found"), FAILED_SEEDS)
def test_seeds_that_once_failed(seed: int, found: str):
    told = tell(seed)
    assert not told.violations, explained(told)


@pytest.mark.parametrize("control", CONTROLS, ids=[control.name for control in CONTROLS])
def test_a_broken_variant_is_found(control: Control):
    for number in range(control.first_seed, control.first_seed + CONTROL_SEEDS):
        with control.broken():
            told = tell(number, control.journal, control.gate, lambda _: STORMY)
        wrong = [sentence for sentence in told.violations if any(words in sentence for words in control.found)]
        if wrong:
            CONTROL_FOUND[control.name] = number + 1
            print(f"{control.name}: found by seed {number}: {wrong[0]}")
            return
    pytest.fail(f"{CONTROL_SEEDS} stories did not find it: {control.name}")


def test_a_seed_tells_the_same_story_in_any_process():
    """Twice in this one, whose modules are warm, and in two others with other hash seeds."""
    code = "from crash.simulation.story import tell; print(tell(7).hash)"
    hashes = {tell(7).hash, tell(7).hash}
    for hash_seed in ("0", "4711"):
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=True
        )
        hashes.add(done.stdout.strip())
    assert len(hashes) == 1, hashes
    assert tell(8).hash not in hashes


@pytest.mark.parametrize("part", range(PARTS))
def test_a_thousand_hours(part: int):
    """In parts, so that each has its own limit of time."""
    began_s = time.monotonic()
    told, counts = tell_hours(HOURS / PARTS, FIRST_SEED + 10_000 * part)
    summed_up("simulated hours of the whole gateway", told, began_s)
    PARTS_TOLD[part] = counts


def test_all_that_is_said_to_go_wrong_did_go_wrong():
    """Else the stories prove nothing about what they say that they try."""
    if len(PARTS_TOLD) < PARTS:
        pytest.skip("not all parts of the thousand hours were told in this process")
    counts = sum(PARTS_TOLD.values(), Counter())
    print(*sorted(f"{number:8} {kind}" for kind, number in counts.items()), sep="\n")
    _all_kinds_happened(counts)


def _all_kinds_happened(counts: Counter[str]) -> None:
    wanted = [f"fault: {kind}" for kind in FAULTS] + [f"device: {act}" for act in ACTS]
    wanted += [
        "device: refused: local",
        "device: frame into nowhere",
        "device: read lost",
        "device forgets its counters",
    ]
    wanted += ["crash", "crash while it starts", "crash: batch under way is lost", "crash: batch under way is durable"]
    wanted += ["commit failed, durable", "commit failed, not durable", "disk stalls", "stopped in an orderly way"]
    wanted += ["loop: stalls", "loop: tasks change places"]
    wanted += [f"order: {kind}" for kind in ("hold", "resume", "skip", "cancel", "cancel-and-restore", "force-open")]
    wanted += [
        f"order: {kind}" for kind in ("force-close", "block", "monitor", "suspend", "terminate", "start", "open")
    ]
    assert [kind for kind in wanted if not counts[kind]] == []


@pytest.mark.soak
def test_many_thousand_hours():
    began_s = time.monotonic()
    told, counts = tell_hours(SOAK_HOURS, 1_000_000)
    summed_up("simulated hours of the whole gateway, soak", told, began_s)
    print(*sorted(f"{number:8} {kind}" for kind, number in counts.items()), sep="\n")
