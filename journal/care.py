"""What keeps a journal healthy while it is in use: archiving, backup, SQLite's full check.

What must stay true: each has a connection and a thread of its own, so that neither commits nor queries wait for it; one
of them runs at a time; none of them outlives the journal's closing.
On a crash here: ``retention`` and ``copying`` say what is there then.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from journal import rowcheck
from journal.archive import ArchiveCheck, contradiction
from journal.copying import Copy
from journal.errors import (
    FILE_TROUBLE,
    ArchiveFailed,
    BackupFailed,
    JournalCorrupt,
    JournalError,
    JournalNotFound,
    JournalReadError,
)
from journal.retention import PAUSE_S, Retention, Runs
from journal.rows import Archived, Head
from journal.thread import SqliteThread
from journal.writer import Writer

COMPLAINTS_AT_MOST = 100


@dataclass(frozen=True, slots=True)
class ArchivesChecked:
    """What a check of the archives found. elsewhere: archives that the journal names and that are not in the folder, or
    can't be read there."""

    complaints: list[str]
    checked: int
    elsewhere: int


def _nothing() -> None:
    """Nothing runs."""


class Care:
    """See above. writing: runs a function on the writer's connection."""

    def __init__(self, path: Path, writing: Runs, writer: Writer, identity: bytes, close_timeout_s: float) -> None:
        self._path = path
        self._writing = writing
        self._writer = writer
        self._identity = identity
        self._close_timeout_s = close_timeout_s
        self._one = asyncio.Lock()
        self._stop: Callable[[], None] = _nothing
        self._closed = False

    async def archive(self, before_us: int, folder: Path) -> Archived | None:
        """See ``Journal.archive``."""
        try:
            async with self._aside() as thread:
                return await Retention(thread.run, self._writing, self._writer, self._identity).archive(
                    before_us, folder
                )
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise ArchiveFailed(f"{self._path} can't be read for an archive: {error}") from error

    async def backup(self, target: Path) -> Head:
        """See ``Journal.backup``."""
        copy = Copy(target, self._identity)
        try:
            async with self._aside(copy.stop) as thread:
                return await copy.make(thread.run)
        except FILE_TROUBLE as error:
            raise BackupFailed(f"{target} can't be written: {error}") from error
        finally:
            copy.abandon()

    async def check(self) -> list[str]:
        """See ``Journal.check``."""
        try:
            async with self._aside() as thread:
                return await thread.run(_integrity)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            return self._damage(error)

    async def quick_check(self) -> list[str]:
        """See ``Journal.quick_check``."""
        try:
            async with self._aside() as thread:
                return await thread.run(_quick)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            return self._damage(error)

    def _damage(self, error: Exception) -> list[str]:
        """As a complaint; raised where it says nothing of the file (busy, no memory, a read that failed)."""
        if self._closed:
            raise JournalError("the journal is closed") from error
        if isinstance(error, sqlite3.OperationalError):
            raise JournalReadError(f"the check could not be made: {error}") from error
        return [f"the check itself failed: {error}"]

    async def check_archives(self, known: Sequence[Archived], folder: Path) -> ArchivesChecked:
        """See ``Journal.check_archives``."""
        complaints: list[str] = []
        checked = elsewhere = 0
        for one in known:
            try:
                check = await asyncio.to_thread(ArchiveCheck, folder / one.file)
                while await asyncio.to_thread(check.step):
                    if self._closed:
                        raise JournalError("the journal is closed")
                    await asyncio.sleep(PAUSE_S)
            except JournalNotFound:
                elsewhere += 1  # a person has taken it elsewhere, as they should
                continue
            except (JournalCorrupt, OSError) as error:
                complaints.append(f"archive {one.file}: {error}")
                continue
            checked += 1
            if wrong := contradiction(one, check.result()):
                complaints.append(f"archive {wrong}")
        return ArchivesChecked(complaints[:COMPLAINTS_AT_MOST], checked, elsewhere)

    def end(self) -> None:
        """Let nothing begin any more, and interrupt what runs."""
        self._closed = True
        self._stop()

    @asynccontextmanager
    async def _aside(self, stop: Callable[[], None] = _nothing) -> AsyncIterator[SqliteThread]:
        """A connection and thread for one task; ``stop`` lets the function that runs there come to its end soon."""
        async with self._one:
            if self._closed:
                raise JournalError("the journal is closed")
            thread = await SqliteThread.open(self._path, read_only=True)

            def end() -> None:
                stop()
                thread.interrupt()

            self._stop = end
            try:
                yield thread
            finally:
                self._stop = _nothing
                end()  # a cancelled caller waits for no long statement
                await thread.close(self._close_timeout_s)


def _quick(connection: sqlite3.Connection) -> list[str]:
    connection.execute("PRAGMA cell_size_check = ON")
    found = [str(row[0]) for row in connection.execute(f"PRAGMA quick_check({COMPLAINTS_AT_MOST})")]
    return [] if found == ["ok"] else found


def _integrity(connection: sqlite3.Connection) -> list[str]:
    connection.execute("PRAGMA cell_size_check = ON")
    found = [str(row[0]) for row in connection.execute(f"PRAGMA integrity_check({COMPLAINTS_AT_MOST})")]
    damaged = islice(rowcheck.complaints(connection), COMPLAINTS_AT_MOST)
    return ([] if found == ["ok"] else found) + list(damaged)
