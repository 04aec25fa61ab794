"""The disk is full: a clean error, the journal stops, and with room again all that was acknowledged is there.

A memory file system of its own is filled by the journal itself, from another amount of free space each time. A ballast
file is what a person would delete; only a new start takes anything again, room or no room.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from crash.figures import figure
from crash.storage.given import Given
from crash.storage.judged import judge, write_step

from journal import Journal, JournalError, JournalWriteError

SIZE_BYTES = 2 * 1024 * 1024
STEPS = 4_000
"""More than fit."""
DISKS_AT_MOST = 5
"""For each that is wanted: some are too full for a journal to be made at all."""
DB = "journal.db"


@contextmanager
def small_disk() -> Iterator[Path]:
    """A memory file system of that size."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("not root, or no mount: no small file system can be made")
    folder = Path(tempfile.mkdtemp(prefix="gridlatch-full-"))
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        folder.rmdir()
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


async def fill(folder: Path, given: Given, *, early: bool) -> tuple[int, int, list[str]]:
    """Write until nothing more is taken: (steps acknowledged, steps asked, complaints)."""
    complaints: list[str] = []
    acknowledged = asked = 0
    try:
        journal = await Journal.open(folder / DB)
    except JournalError as error:
        return 0, 0, [] if is_full(error) else [f"the error does not say that the disk is full: {error}"]
    try:
        while asked < STEPS:
            asked += 1
            acknowledged += early
            await write_step(journal, given, asked - 1)
            acknowledged += not early
        complaints.append("it never became full")
    except JournalWriteError as error:
        if not is_full(error):
            complaints.append(f"the error does not say that the disk is full: {error}")
    (folder / "ballast").unlink()
    try:
        await write_step(journal, given, asked - 1)
        complaints.append("with room again it went on, though it had stopped")
    except JournalWriteError:
        pass
    with contextlib.suppress(JournalError):
        await journal.close()
    return acknowledged, asked, complaints


def is_full(error: JournalError) -> bool:
    """Whether a person would know what to do."""
    return "full" in str(error) or "No space left" in str(error)


async def fill_and_judge(seed: int, tries: int, *, early: bool = False) -> tuple[int, list[str]]:
    """So many disks that a journal could be opened on, among others that were too full for that: how many, and the
    violations."""
    dice, violations, opened = random.Random(seed), [], 0
    for number in range(DISKS_AT_MOST * tries):
        if opened == tries:
            break
        given = Given(seed + number, large=dice.choice((200, 4_000, 30_000)))
        with small_disk() as folder:
            free = dice.randrange(4_096, SIZE_BYTES // 2) if dice.random() < 0.8 else dice.randrange(4_096, 200_000)
            with contextlib.suppress(OSError):
                (folder / "ballast").write_bytes(bytes(SIZE_BYTES - free))
            acknowledged, asked, complaints = await fill(folder, given, early=early)
            opened += asked > 0
            (folder / "ballast").unlink(missing_ok=True)
            found = await judge(folder / DB, given, acknowledged, asked)
            if complaints + found.complaints:
                violations.append(f"seed {seed}, try {number}: {'; '.join(complaints + found.complaints)}")
    return opened, violations


async def full(seed: int, tries: int) -> None:
    """The disks, then the control."""
    started = time.perf_counter()
    opened, violations = await fill_and_judge(seed, tries)
    seconds = time.perf_counter() - started
    _, lost = await fill_and_judge(seed, 8, early=True)
    figure("disk full", tries, len(violations), seed, seconds, f"acknowledged too early: {len(lost)} of 8")
    assert lost, "a journal that acknowledges too early lost nothing: this harness is blind"
    assert not violations, "\n".join(violations[:5])
    assert opened == tries, "too many disks were too full to begin with"


async def test_a_full_disk_loses_nothing_acknowledged(seed: int) -> None:
    await full(seed, 20)


@pytest.mark.soak
async def test_many_full_disks(seed: int) -> None:
    await full(seed, 2_000)
