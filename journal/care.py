"""What keeps a journal healthy while it is in use: archiving, backup, SQLite's full check.

What must stay true: each has a connection and a thread of its own, so that neither commits nor queries wait for it; one
of them runs at a time; none of them outlives the journal's closing.
On a crash here: ``retention`` and ``copying`` say what is there then.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path

from journal import rowcheck
from journal.copying import Copy
from journal.errors import ArchiveFailed, BackupFailed, JournalError
from journal.retention import Retention, Runs
from journal.rows import Archived, Head
from journal.thread import SqliteThread
from journal.writer import Writer

COMPLAINTS_AT_MOST = 100


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
        except sqlite3.Error as error:
            raise ArchiveFailed(f"{self._path} can't be read for an archive: {error}") from error

    async def resume_removal(self) -> None:
        """Finish what an interrupted archiving left."""
        async with self._aside() as thread:
            await Retention(thread.run, self._writing, self._writer, self._identity).resume()

    async def backup(self, target: Path) -> Head:
        """See ``Journal.backup``."""
        copy = Copy(target, self._identity)
        try:
            async with self._aside(copy.stop) as thread:
                return await copy.make(thread.run)
        except (sqlite3.Error, OSError) as error:
            raise BackupFailed(f"{target} can't be written: {error}") from error
        finally:
            copy.abandon()

    async def check(self) -> list[str]:
        """See ``Journal.check``."""
        try:
            async with self._aside() as thread:
                return await thread.run(_integrity)
        except sqlite3.DatabaseError as error:
            if self._closed:
                raise JournalError("the journal is closed") from error
            return [f"the check itself failed: {error}"]

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


def _integrity(connection: sqlite3.Connection) -> list[str]:
    connection.execute("PRAGMA cell_size_check = ON")
    found = [str(row[0]) for row in connection.execute(f"PRAGMA integrity_check({COMPLAINTS_AT_MOST})")]
    damaged = islice(rowcheck.complaints(connection), COMPLAINTS_AT_MOST)
    return ([] if found == ["ok"] else found) + list(damaged)
