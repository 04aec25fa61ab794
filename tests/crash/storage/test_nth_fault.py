"""The Nth write, flush, truncation, renaming, opening or removal fails: fail stop, and nothing acknowledged is lost.

See faulty_lives.py for a run. A flush that failed is taken at its word: what it covered may never reach the disk, though
the page cache goes on showing it, and later flushes succeed.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from crash.figures import figure
from crash.storage.preload import run_preloaded


def test_any_failed_call_stops_the_journal_and_loses_nothing(memory: Path, seed: int) -> None:
    fail_and_judge(memory, seed, runs=80, timeout_s=380.0)


@pytest.mark.soak
def test_every_call_fails_once(memory: Path, seed: int) -> None:
    fail_and_judge(memory, seed, runs=0, timeout_s=3_600.0)


def fail_and_judge(memory: Path, seed: int, *, runs: int, timeout_s: float) -> None:
    """All runs in one program; then the controls."""
    started = time.perf_counter()
    tried, violations = lives(memory, seed, "honest", runs, timeout_s)
    seconds = time.perf_counter() - started
    told = []
    for mode in ("early", "lying"):
        number, lost = lives(memory, seed, mode, 25, timeout_s)
        assert any("acknowledged" in one for one in lost), f"{number} faults of a journal that is {mode}, and no loss"
        told.append(f"{mode}: {len(lost)} of {number}")
    figure("Nth call fails", tried, len(violations), seed, seconds, "; ".join(told))
    assert not violations, "\n".join(violations[:5])


def lives(memory: Path, seed: int, mode: str, runs: int, timeout_s: float) -> tuple[int, list[str]]:
    """How many faults were tried, and the runs that complain."""
    said = run_preloaded("crash.storage.faulty_lives", memory, seed, mode, runs, timeout_s=timeout_s).splitlines()
    figures = json.loads(said[-1])
    assert figures["happened"] >= 0.9 * figures["tried"], "most faults were never met"
    assert figures["violations"] == len(said) - 1
    return figures["tried"], said[:-1]
