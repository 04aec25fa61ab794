"""A whole copy of a journal, of one moment, checked before it gets its name.

SQLite's backup API copies page by page; a read transaction that stays open meanwhile makes all pages those of one batch,
however long it takes. (Without it each commit would let the copying begin anew.) The price: the write-ahead log can't be
folded into the file until it is done, and grows by what is committed.

What must stay true: the target does not exist before the copy is whole, flushed and checked, batch by batch; nothing is
overwritten; the copy has a mark of its own. The copy is written in small pieces, each flushed at once: a large flush at
the end would stop the flushes of commits on the same disk.
On a crash here: files named ``.part`` lie beside the target; the next copy to this target removes them.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from journal import reader
from journal.errors import BackupFailed, JournalCorrupt
from journal.file import connect_read_only
from journal.folders import give_to_owner_of_folder, sync_folder
from journal.mark import MarkFile, MarkFound, mark_path
from journal.retention import Runs
from journal.rows import Head
from journal.verify import ChainCheck

PAGES_AT_ONCE: Final = 256
FLUSH_EACH_PAGES: Final = 1_024
PAUSE_S: Final = 0.002
RESERVE_BYTES: Final = 16 * 1024 * 1024
"""Stays free beside a copy: the journal itself must be able to grow meanwhile."""
SIDE_FILES: Final = ("", "-wal", "-shm", "-journal", ".mark", ".mark.new", ".lock")


class Copy:
    """One copying to a target."""

    def __init__(self, target: Path, identity: bytes) -> None:
        self._target = target
        self._part = target.with_name(target.name + ".part")
        self._identity = identity
        self._stop = threading.Event()

    async def make(self, reading: Runs) -> Head:
        """Copy, check, name. Raises BackupFailed, JournalCorrupt (the source is damaged), sqlite3.Error, OSError."""
        refuse_existing(self._target)
        head = await reading(self.write)
        copy = await reading(lambda _: connect_read_only(self._part, immutable=True))
        try:
            check = await reading(lambda _: ChainCheck.start(copy))
            more = True
            while more:
                more = await reading(lambda _: check.step(copy))
                await asyncio.sleep(PAUSE_S)
            complaints = await reading(lambda _: copy.execute("PRAGMA quick_check(5)").fetchall())
        finally:
            await reading(lambda _: copy.close())
        result = check.result()
        if not result.ok or complaints != [("ok",)]:
            raise JournalCorrupt(f"{self._part}: batch {result.first_bad_batch}: {result.reason or complaints}")
        if result.head != head:
            raise BackupFailed(f"{self._part} ends at batch {result.head.batch}, not at {head.batch}")
        await reading(lambda _: self.name(head))
        return head

    def write(self, source: sqlite3.Connection) -> Head:
        """All pages of one moment, flushed; the head of that moment."""
        for suffix in SIDE_FILES:
            self._part.with_name(self._part.name + suffix).unlink(missing_ok=True)
        descriptor = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        copied = 0

        def between(_status: int, remaining: int, total: int) -> None:
            nonlocal copied
            if self._stop.is_set():
                raise BackupFailed("given up")
            if total - remaining - copied >= FLUSH_EACH_PAGES:
                copied = total - remaining
                os.fdatasync(descriptor)
            time.sleep(PAUSE_S)

        try:
            give_to_owner_of_folder(descriptor, self._part)
            source.execute("BEGIN")
            refuse_full_disk(self._target.parent, used_bytes(source))
            head = reader.head(source)
            with closing(sqlite3.connect(self._part, isolation_level=None)) as target:
                target.execute("PRAGMA synchronous = OFF")  # flushed here, piece by piece
                target.execute("PRAGMA journal_mode = OFF")
                source.backup(target, pages=PAGES_AT_ONCE, progress=between)
            os.fsync(descriptor)
            return head
        finally:
            os.close(descriptor)
            if source.in_transaction:
                source.execute("COMMIT")

    def name(self, head: Head) -> None:
        """Give the copy its name and its mark."""
        refuse_existing(self._target)
        self._part.rename(self._target)
        try:
            sync_folder(self._target.parent)
            mark = MarkFile(self._target, self._identity, head, MarkFound.NONE)
            mark.close()
            if mark.alarm:
                raise BackupFailed(f"its mark can't be made: {mark.alarm}")
        except BaseException:  # without a mark it must not be taken for a whole one, nor be in the way of the next
            mark_path(self._target).unlink(missing_ok=True)
            self._target.rename(self._part)
            raise

    def stop(self) -> None:
        """Let a copying that is under way fail soon. May be called from any thread."""
        self._stop.set()

    def abandon(self) -> None:
        """Remove what a failed copying left; harmless after a success."""
        for suffix in SIDE_FILES:
            with suppress(OSError):
                self._part.with_name(self._part.name + suffix).unlink(missing_ok=True)


def refuse_existing(target: Path) -> None:
    """Raises BackupFailed if a journal, or a part of one, is at the target."""
    for suffix in ("", "-wal", "-journal", ".mark"):
        if target.with_name(target.name + suffix).exists():
            raise BackupFailed(f"{target.with_name(target.name + suffix)} exists already; nothing is overwritten")


def refuse_full_disk(folder: Path, needed: int) -> None:
    """Raises BackupFailed if the file system of the folder has less room."""
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if free < needed + RESERVE_BYTES:
        raise BackupFailed(
            f"{folder} has {free // 2**20} MiB free, {(needed + RESERVE_BYTES) // 2**20} MiB are needed for a copy"
        )


def used_bytes(connection: sqlite3.Connection) -> int:
    """Bytes of all pages of the database."""
    pages, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    return int(pages * size)
