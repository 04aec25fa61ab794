"""Power cuts of a real file system: ext4 is shut down under a journal that is being written, mounted again, and judged.

Only what was acknowledged before the cut counts: while the file system goes down a flush may return without an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from crash.figures import figure
from crash.storage.crash_states import lay_out
from crash.storage.ext4 import Ext4, ext4
from crash.storage.given import Given
from crash.storage.judged import judge, write_step

from journal import Journal, JournalError

DB = "journal.db"
CUTS_PER_JOURNAL = 10
UP_TO_S = 0.06
"""The power is cut within so long after the first acknowledgement."""
PORTIONS = 5
"""So many times the control is tried."""


class Scribe(threading.Thread):
    """Opens the journal and writes step after step, in a thread and loop of its own, until a write fails."""

    def __init__(self, path: Path, given: Given, first: int, pages: int, *, weak: bool) -> None:
        super().__init__(daemon=True)
        self._path, self._given, self._weak = path, given, weak
        self._pages = pages
        self.first = first
        self.acknowledged_ns: list[int] = []
        self.began = threading.Event()
        self.asked = first

    def run(self) -> None:
        asyncio.run(self._write())

    async def _write(self) -> None:
        journal = await Journal.open(self._path)
        with contextlib.suppress(JournalError):  # the power is off; what else went wrong shows in what is there
            await journal._write.run(self._settings)
            while True:
                self.asked += 1
                await write_step(journal, self._given, self.asked - 1)
                self.acknowledged_ns.append(time.monotonic_ns())
                self.began.set()
        with contextlib.suppress(JournalError):
            await journal.close()

    def _settings(self, connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA wal_autocheckpoint = {self._pages}")
        if self._weak:
            connection.execute("PRAGMA synchronous = NORMAL")

    def acknowledged_before(self, moment_ns: int) -> int:
        """Steps of all lives."""
        return self.first + sum(moment < moment_ns for moment in self.acknowledged_ns)


async def cut_and_judge(disk: Ext4, memory: Path, seed: int, cuts: int, *, weak: bool = False) -> list[str]:
    """So many cuts; a journal lives through several of them. Returns the violations."""
    dice, violations, steps = random.Random(seed), [], 0
    given = Given(seed, large=1_500)
    copy = memory / "copy"
    copy.mkdir(exist_ok=True)
    for number in range(1, cuts + 1):
        if steps == 0:
            for left in disk.folder.glob(DB + "*"):
                left.unlink()
            given = Given(seed + number, large=1_500)
        scribe = Scribe(disk.folder / DB, given, steps, dice.choice((8, 40, 4096)), weak=weak)
        scribe.start()
        assert await asyncio.to_thread(scribe.began.wait, 60.0), "the journal took nothing"
        await asyncio.sleep(dice.uniform(0.0, UP_TO_S))
        cut_ns = disk.cut_power()
        await asyncio.to_thread(scribe.join, 60.0)
        assert not scribe.is_alive(), "the journal did not end"
        disk.unmount()
        disk.mount()
        lay_out({file.name: file.read_bytes() for file in disk.folder.glob(DB + "*")}, copy)
        found = await judge(copy / DB, given, scribe.acknowledged_before(cut_ns), scribe.asked, go_on=False)
        if found.complaints:
            violations.append(f"seed {seed}, cut {number}: {'; '.join(found.complaints)}")
        steps = 0 if found.complaints or not number % CUTS_PER_JOURNAL else found.steps or 0
    return violations


async def cut(memory: Path, seed: int, cuts: int, control: int) -> None:
    """The cuts, then the control."""
    with ext4() as disk:
        started = time.perf_counter()
        violations = await cut_and_judge(disk, memory, seed, cuts)
        seconds = time.perf_counter() - started
        lost: list[str] = []
        tried = 0
        while not lost and tried < PORTIONS * control:  # how often it loses depends on how slow the disk is just now
            found = await cut_and_judge(disk, memory, seed + tried, control, weak=True)
            lost = [one for one in found if "acknowledged" in one]
            tried += control
    figure("ext4 power cuts", cuts, len(violations), seed, seconds, f"synchronous=NORMAL: {len(lost)} of {tried}")
    assert lost, f"{tried} cuts of a journal that flushes no commit, and no loss was seen"
    assert not violations, "\n".join(violations[:5])


async def test_a_cut_of_the_file_system_loses_nothing_acknowledged(memory: Path, seed: int) -> None:
    await cut(memory, seed, 40, control=12)


@pytest.mark.soak
async def test_1_000_cuts_of_the_file_system(memory: Path, seed: int) -> None:
    await cut(memory, seed, 1_000, control=20)
