"""The journal's own writer on a disk whose power is cut at a random call, again and again, on the same journal.

The writer, the recovery and the mark are the journal's; only the connection under them is another one (apsw), because
Python's sqlite3 can't have a VFS of ours. What is left after each cut is opened by ``Journal.open``, as a daemon does.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from crash.figures import figure
from crash.storage.crash_states import State, lay_out
from crash.storage.given import Given
from crash.storage.judged import judge

from journal import Journal, JournalWriteError, recovery
from journal.mark import MarkFile, mark_path, read_mark
from journal.writer import Writer

apsw = pytest.importorskip("apsw", reason="apsw is not installed: no VFS in Python")

from crash.storage.power import LikeSqlite3, Power, PoweredVFS  # noqa: E402

CUTS_PER_JOURNAL = 25
CALLS = 120
"""The power goes off within so many calls."""
DB = "journal.db"


@dataclass(slots=True)
class Life:
    """From a start to a power cut."""

    acknowledged: int
    """Steps, of all lives."""
    asked: int
    left: State


def live(folder: Path, state: State, given: Given, steps: int, dice: random.Random, *, weak: bool) -> Life:
    """Start on what is there, and carry out one step after the other until the power goes off."""
    lay_out(state, folder)
    power = Power(folder, {name: content for name, content in state.items() if name.startswith(DB)}, 1 << 62)
    vfs = PoweredVFS("powered", power)
    path = folder / DB
    connection = LikeSqlite3(path, "powered")
    raw = cast(sqlite3.Connection, connection)
    asked = acknowledged = steps
    marks: list[bytes] = []
    try:
        found, mark = read_mark(path)
        power.off_at = dice.randrange(1, CALLS)
        end = recovery.prepare(raw, path, recovery.inspect(raw, path, mark))
        identity = bytes(raw.execute("SELECT identity FROM journal").fetchone()[0])
        following = MarkFile(path, identity, end.head(), found, mark.generation if mark is not None else 0)
        writer = Writer(end, following)
        raw.execute(f"PRAGMA wal_autocheckpoint = {dice.choice((4, 12, 40, 4096))}")
        if weak:
            raw.execute("PRAGMA synchronous = NORMAL")
        while True:
            marks.append(mark_path(path).read_bytes())
            asked += 1
            writer.commit(raw, given.step(acknowledged))
            acknowledged += 1
    except (JournalWriteError, sqlite3.OperationalError):
        assert power.off, "an error without a power cut"
    left = power.left(dice)
    # Of the mark, which is not SQLite's: whichever of its versions had reached the disk.
    left[mark_path(path).name] = dice.choice(marks) if marks else state.get(mark_path(path).name, b"")
    if not left[mark_path(path).name]:
        del left[mark_path(path).name]
    connection.close()
    vfs.unregister()
    return Life(acknowledged, asked, left)


async def cut_and_judge(memory: Path, seed: int, cuts: int, *, weak: bool = False) -> tuple[int, list[str]]:
    """So many cuts: how many were judged, and the violations. A new journal after some, and after each violation."""
    dice, violations = random.Random(seed), []
    live_in, cut_to = memory / "live", memory / "cut"
    for place in (live_in, cut_to):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
    given, state, steps = Given(seed, large=1_500), await made(cut_to), 0
    for number in range(1, cuts + 1):
        life = live(live_in, state, given, steps, dice, weak=weak)
        lay_out(life.left, cut_to)
        found = await judge(cut_to / DB, given, life.acknowledged, life.asked, go_on=False)
        if found.complaints:
            violations.append(f"seed {seed}, cut {number}: {'; '.join(found.complaints)}")
        if found.complaints or found.steps is None or number % CUTS_PER_JOURNAL == 0:
            given, state, steps = Given(seed + number, large=1_500), await made(cut_to), 0
        else:
            state, steps = life.left, found.steps
    return cuts, violations


async def made(folder: Path) -> State:
    """A journal that was just made, as its folder is then. (Making one under power cuts: see test_write_log.py.)"""
    lay_out({}, folder)
    await (await Journal.open(folder / DB)).close()
    return {name: (folder / name).read_bytes() for name in (DB, DB + ".mark")}


async def cut(memory: Path, seed: int, cuts: int) -> None:
    """The cuts, then the control."""
    started = time.perf_counter()
    tried, violations = await cut_and_judge(memory, seed, cuts)
    seconds = time.perf_counter() - started
    _, lost = await cut_and_judge(memory, seed, 60, weak=True)
    lost = [one for one in lost if "acknowledged" in one]
    figure("VFS power cuts", tried, len(violations), seed, seconds, f"synchronous=NORMAL: {len(lost)} of 60")
    assert lost, "60 cuts of a journal that flushes no commit, and no loss was seen"
    assert not violations, "\n".join(violations[:5])


async def test_no_power_cut_at_any_call_loses_what_was_acknowledged(memory: Path, seed: int) -> None:
    await cut(memory, seed, 1_000)


@pytest.mark.soak
async def test_100_000_power_cuts_at_any_call(memory: Path, seed: int) -> None:
    await cut(memory, seed, 100_000)
