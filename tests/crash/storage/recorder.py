"""A program: lets a journal live a few lives in a watched folder, each ended by a close or by an exit without one.

    python -m crash.storage.recorder FOLDER LOG SEED MODE

Each life is a process of its own that goes on where the one before ended, so that recoveries from a left WAL are in the
log as well; so are archivings, into the journal's own folder.
MODE weakens the journal for the controls: "honest", "normal" (synchronous=NORMAL: no flush at a commit), "early"
(acknowledged before it is committed).
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import sys
from functools import partial
from pathlib import Path

from crash.storage.given import Given
from crash.storage.judged import write_step
from crash.storage.preload import Preloaded

from journal import Journal

LIVES = 3
STEPS = 8
"""In each life."""
LARGE = 1_500
"""Bytes of the largest payloads."""


def set_pragmas(connection: sqlite3.Connection, pages: int, weak: bool) -> None:
    """Checkpoints after so many pages, so that a short life has some; ``weak``: commits are not flushed."""
    connection.execute(f"PRAGMA wal_autocheckpoint = {pages}")
    if weak:
        connection.execute("PRAGMA synchronous = NORMAL")


async def live(path: Path, given: Given, first: int, mode: str, preloaded: Preloaded) -> None:
    """One life. It ends with an exit that closes nothing, every other time."""
    dice = random.Random(f"{given.seed} {first}")
    journal = await Journal.open(path)
    pages = 4096 if mode == "normal" else dice.choice((4, 12, 40, 4096))  # a checkpoint flushes even then
    await journal._write.run(partial(set_pragmas, pages=pages, weak=mode == "normal"))
    for number in range(first, first + STEPS):
        if mode == "early":
            preloaded.acknowledge(number + 1)
        await write_step(journal, given, number)
        if mode != "early":
            preloaded.acknowledge(number + 1)
        if dice.random() < 0.1:
            journal._mark.flush()
        if dice.random() < 0.2 and number > 3:
            await journal.archive(given.moment(number - 2).last_time_us, path.parent)
    if dice.random() < 0.5:
        await journal.close()
    os._exit(0)


def main() -> None:
    """All lives, one process after the other."""
    folder, log, seed, mode = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    given = Given(seed, large=LARGE)
    for life in range(LIVES):
        child = os.fork()
        if not child:
            try:
                preloaded = Preloaded()
                preloaded.watch(folder, log)
                asyncio.run(live(folder / "journal.db", given, life * STEPS, mode, preloaded))
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        if status:
            sys.exit(f"life {life} of seed {seed} ended with {status}")


if __name__ == "__main__":
    main()
