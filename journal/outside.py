"""A journal that nobody answers for, looked at, checked and copied as it lies there: nothing of it is changed.

A start makes a mark where there is none and sets an unreadable one aside, so that whoever opened a journal only to look
at it would use up that warning. Here the file is opened ``mode=ro``, without the owner's lock, and the mark is read
before the file: so a daemon that writes meanwhile is no trouble.
What must stay true: neither the journal nor its mark, nor its write-ahead log is written. They block: call them from a
command, not from an event loop. A crash here leaves nothing but a half copy under a name that nobody reads.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from journal import cuts, reader, recovery, rowcheck, schema
from journal.copying import Copy
from journal.errors import FILE_TROUBLE, BackupFailed, JournalError
from journal.file import connect_read_only
from journal.mark import MarkFound, read_mark, refuse_missing
from journal.rows import Head
from journal.thread import SqliteThread

COMPLAINTS_AT_MOST = 100
CLOSE_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Look:
    """What lies there. Sizes in bytes. marked_batch: what the mark names; 0 without one."""

    head: Head
    file_bytes: int
    free_bytes: int
    wal_bytes: int
    mark_found: MarkFound
    marked_batch: int
    archived_batches: int
    archived_records: int


def look(path: Path) -> Look:
    """The figures of a journal, checked as a start would check it.

    Raises JournalNotFound, JournalNewer, JournalCorrupt, JournalTailLost, JournalError.
    """
    path = path.resolve()
    with _opened(path) as (connection, found, marked):
        archives = cuts.archives(connection)
        free, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_size"))
        wal = path.with_name(path.name + "-wal")
        return Look(
            reader.head(connection),
            path.stat().st_size,
            free * size,
            wal.stat().st_size if wal.exists() else 0,
            found,
            marked,
            sum(one.batches for one in archives),
            sum(one.records for one in archives),
        )


def check_file(path: Path) -> list[str]:
    """All of the file, by SQLite's own full check and each projection row's checksum; complaints, none if it is sound.

    The hash chain is ``verify_file``'s. Raises as ``look``: what a start would refuse is an error here, too.
    """
    path = path.resolve()
    with _opened(path) as (connection, _, _):
        complaints = [str(row[0]) for row in connection.execute(f"PRAGMA integrity_check({COMPLAINTS_AT_MOST})")]
        complaints = [] if complaints == ["ok"] else complaints
        if schema.version_of(connection, path) >= rowcheck.SINCE_VERSION:
            complaints += islice(rowcheck.complaints(connection), COMPLAINTS_AT_MOST)
        return complaints


def backup_file(path: Path, target: Path) -> Head:
    """A whole copy, with a mark of its own, checked batch by batch; the head that it ends with.

    Raises as ``look``, and BackupFailed.
    """
    path, target = path.resolve(), target.resolve()
    with _opened(path) as (connection, _, _):
        copy = Copy(target, reader.identity(connection))

    async def make() -> Head:
        thread = await SqliteThread.open(path, read_only=True)
        try:
            return await copy.make(thread.run)
        finally:
            copy.abandon()
            await thread.close(CLOSE_TIMEOUT_S)

    try:
        return asyncio.run(make())
    except FILE_TROUBLE as error:
        raise BackupFailed(f"{target} can't be written: {error}") from error


@contextmanager
def _opened(path: Path) -> Iterator[tuple[sqlite3.Connection, MarkFound, int]]:
    """The file, inspected as by a start; what was found of its mark, and the batch that it names."""
    found, mark = read_mark(path)  # first: the journal may go on, and is never behind its mark
    if mark is not None and not path.is_file():
        raise refuse_missing(path, mark)
    try:
        with closing(connect_read_only(path)) as connection:
            recovery.inspect(connection, path, mark)
            yield connection, found, mark.head.batch if mark is not None else 0
    except FILE_TROUBLE as error:
        raise JournalError(f"{path} can't be read: {error}") from error
