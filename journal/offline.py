"""What a person does to a journal that no daemon owns.

What must stay true: each function takes the owner's lock first and refuses while a daemon holds it; nothing is changed
before all that can be checked has been checked. They block: call them from a command, not from an event loop.
On a crash here: each function says below what is there then; each may simply be called again.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from journal import reader, recovery
from journal.errors import JournalError, JournalTailLost
from journal.file import connect_read_only
from journal.folders import sync_folder
from journal.lock import OwnerLock
from journal.mark import Mark, MarkFile, compare, read_mark, refuse_missing
from journal.rows import Head


@dataclass(frozen=True, slots=True)
class Loss:
    """What ``accept_loss`` gave up."""

    marked: Head
    """The batch that had been acknowledged."""
    found: Head
    """What is there, and what the journal goes on from."""
    what: str
    """In words, as the refusal said it."""
    kept_wal: Path | None
    """A copy of the write-ahead log as it was: what is left of the lost batches may be in it."""


def accept_loss(path: Path) -> Loss | None:
    """Let the journal be opened again although acknowledged batches are missing; None if nothing is missing.

    A journal that is gone altogether becomes a new, empty one. On a crash here the journal is refused as before.
    Raises JournalLocked, JournalCorrupt (more is wrong than a lost tail), JournalNewer, JournalNotFound (neither a
    journal nor a mark is there), JournalError.
    """
    path = path.resolve()
    try:
        with _owned(path):
            found, mark = read_mark(path)
            refusal = _refusal(path, mark)
            if mark is None or refusal is None:
                return None
            kept = _keep_wal(path, mark.head)
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                end = recovery.prepare(connection, path, None)
                identity = reader.identity(connection)
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            following = MarkFile(path, identity, end.head(), found, mark.generation)
            following.close()
            if following.alarm:
                raise JournalError(following.alarm)
            return Loss(mark.head, end.head(), str(refusal), kept)
    except (sqlite3.Error, OSError) as error:
        raise JournalError(f"{path}: {error}") from error


@contextmanager
def _owned(path: Path) -> Iterator[None]:
    lock = OwnerLock(path)
    try:
        yield
    finally:
        lock.release()


def _refusal(path: Path, mark: Mark | None) -> JournalTailLost | None:
    """Why a start would refuse the journal, if only its mark speaks against it."""
    if mark is not None and not (path.is_file() and path.stat().st_size):
        return refuse_missing(path, mark)
    with closing(connect_read_only(path)) as connection:
        recovery.inspect(connection, path, None)
        if mark is None:
            return None
        try:
            compare(connection, path, mark)
        except JournalTailLost as refusal:
            return refusal
        return None


def _keep_wal(path: Path, lost: Head) -> Path | None:
    """Copy the write-ahead log aside, durably, before anything can overwrite what it still holds."""
    wal = path.with_name(path.name + "-wal")
    if not wal.is_file() or not wal.stat().st_size:
        return None
    kept = path.with_name(f"{path.name}-wal.lost-{lost.batch}")
    if not kept.exists():  # else kept by a call that did not get further: that one saw it first
        copy = kept.with_name(kept.name + ".new")
        shutil.copy2(wal, copy)
        with copy.open("rb") as file:
            os.fsync(file.fileno())
        copy.rename(kept)
        sync_folder(path.parent)
    return kept
