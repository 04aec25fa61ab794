"""What a person does to a journal that no daemon owns.

What must stay true: each function takes the owner's lock first and refuses while a daemon holds it; nothing is changed
before all that can be checked has been checked; what changes the meaning of a journal is stated in its chain by a note.
They block: call them from a command, not from an event loop. ``time_us`` and ``by`` of such a note are the caller's: when
it was done, and by whom.
On a crash here: each function says below what is there then; each may simply be called again.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from journal import cuts, reader, recovery
from journal.copying import SIDE_FILES, Copy, refuse_existing, refuse_full_disk, used_bytes
from journal.errors import FILE_TROUBLE, BackupFailed, JournalCorrupt, JournalError, JournalTailLost
from journal.file import connect_read_only
from journal.folders import make_file, sync_folder
from journal.lock import OwnerLock
from journal.mark import Mark, MarkFile, compare, read_mark, refuse_missing
from journal.rows import Head
from journal.verify import ChainCheck
from journal.writer import ChainEnd, note_rows


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


@dataclass(frozen=True, slots=True)
class Compacted:
    """What ``compact`` gained."""

    bytes_before: int
    bytes_after: int


def accept_loss(path: Path, *, time_us: int = 0, by: str = "") -> Loss | None:
    """Let the journal be opened again although acknowledged batches are missing; None if nothing is missing.

    The next batch of the chain is a note "loss-accepted": it names the batch that was acknowledged, what was found, and
    who gave it up. A journal that is gone altogether becomes a new one that begins with this note. On a crash here the
    journal is refused as before, and may hold the note already. Raises JournalLocked, JournalCorrupt (more is wrong than
    a lost tail), JournalNewer, JournalNotFound (neither a journal nor a mark is there), JournalError.
    """
    path = path.resolve()
    try:
        with _owned(path):
            found, mark = read_mark(path)
            refusal = _refusal(path, mark)
            if mark is None or refusal is None:
                return None
            kept = _keep_wal(path, mark.head)
            os.close(make_file(path))
            said: dict[str, str | int] = {"by": by, "what": refusal.what, "identity": mark.identity.hex()}
            said |= {"marked_batch": mark.head.batch, "marked_seq": mark.head.seq, "marked_hash": mark.head.hash_hex}
            identity, end, end_with_note = _note(path, cuts.LOSS_ACCEPTED, said, time_us)
            following = MarkFile(path, identity, end_with_note.head(), found, mark.generation)
            following.close()
            if following.alarm:
                raise JournalError(
                    f"the loss stands in the chain as batch {end_with_note.batch}, but {following.alarm}; a start refuses "
                    "the journal until its mark names that batch: mend this, and accept the loss again"
                )
            return Loss(mark.head, end.head(), refusal.what, kept)
    except FILE_TROUBLE as error:
        raise JournalError(f"{path}: {error}") from error


def restore(backup: Path, target: Path, *, time_us: int = 0, by: str = "") -> Head:
    """Put a copy of a journal where a daemon will open it; the head that it goes on from.

    The whole backup is checked first, also against its own mark if that lies beside it. The first new batch is a note
    "restored". Archives are copied by the caller. On a crash here the target is not there, or whole. Raises
    JournalLocked, BackupFailed (something is at the target already, no room), JournalCorrupt, JournalTailLost (the
    backup is shorter than its mark says), JournalNotFound, JournalNewer, JournalError.
    """
    backup, target = backup.resolve(), target.resolve()
    part = target.with_name(target.name + ".part")
    try:
        with _owned(target), closing(connect_read_only(backup)) as source:
            refuse_existing(target)
            _check_whole(source, backup, read_mark(backup)[1])
            copy = Copy(target, reader.identity(source))
            try:
                head = copy.write(source)
                said: dict[str, str | int] = {"batch": head.batch, "seq": head.seq, "hash": head.hash_hex, "by": by}
                _, _, end = _note(part, cuts.RESTORED, said, time_us)
                with closing(connect_read_only(part, immutable=True)) as written:
                    _check_whole(written, part, None)
                copy.name(end.head())
            finally:
                copy.abandon()
            return end.head()
    except FILE_TROUBLE as error:
        raise JournalError(f"{target} can't be restored from {backup}: {error}") from error


def compact(path: Path) -> Compacted:
    """Give back the room of what was archived and removed: the file is written anew, checked, and replaces the old one.

    Needs as much free disk space as what is left takes. On a crash here the old file is there, or the new one. Raises
    JournalLocked, BackupFailed (no room; somebody else holds the file open), JournalCorrupt, JournalTailLost,
    JournalNotFound, JournalNewer, JournalError.
    """
    path = path.resolve()
    new = path.with_name(path.name + ".compact")
    try:
        with _owned(path):
            with closing(connect_read_only(path)) as connection:
                recovery.inspect(connection, path, read_mark(path)[1])
            for suffix in SIDE_FILES:
                new.with_name(new.name + suffix).unlink(missing_ok=True)
            try:
                return _compacted(path, new)
            finally:
                new.unlink(missing_ok=True)
    except FILE_TROUBLE as error:
        raise JournalError(f"{path} can't be compacted: {error}") from error


def _compacted(path: Path, new: Path) -> Compacted:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        end = recovery.prepare(connection, path, None)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        free = connection.execute("PRAGMA freelist_count").fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        refuse_full_disk(path.parent, used_bytes(connection) - free * size)
        before = path.stat()
        os.close(make_file(new))
        connection.execute("VACUUM INTO ?", (str(new),))
    with closing(connect_read_only(new, immutable=True)) as written:
        _check_whole(written, new, None)
        if reader.head(written) != end.head():
            raise JournalCorrupt(f"{new} does not end as {path} does")
    _take_place(new, path, before)
    return Compacted(before.st_size, path.stat().st_size)


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


def _note(path: Path, kind: str, said: dict[str, str | int], time_us: int) -> tuple[bytes, ChainEnd, ChainEnd]:
    """State something in the chain, durably, with all of the WAL folded in: identity, the end before, the end now."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        end = recovery.prepare(connection, path, None)
        following, rows = note_rows(end, kind, json.dumps(said, ensure_ascii=False).encode(), time_us)
        connection.execute("BEGIN IMMEDIATE")
        for sql, values in rows:
            connection.execute(sql, values)
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return reader.identity(connection), end, following


def _check_whole(connection: sqlite3.Connection, path: Path, mark: Mark | None) -> None:
    """Raises JournalCorrupt, JournalTailLost, JournalNotFound, JournalNewer unless all of the file is as it should be."""
    recovery.inspect(connection, path, mark)
    check = ChainCheck.start(connection)
    while check.step(connection):
        pass
    result = check.result()
    if not result.ok:
        raise JournalCorrupt(f"{path}: batch {result.first_bad_batch}: {result.reason}")


def _take_place(new: Path, path: Path, before: os.stat_result) -> None:
    """The new file gets the old one's owner, rights and name; only where no WAL of the old one is left."""
    wal = path.with_name(path.name + "-wal")
    if wal.exists() and wal.stat().st_size:
        raise BackupFailed(f"{path} is open in another program; end that first")
    descriptor = os.open(new, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fchmod(descriptor, before.st_mode & 0o7777)
        if os.geteuid() == 0:
            os.fchown(descriptor, before.st_uid, before.st_gid)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    new.replace(path)
    sync_folder(path.parent)
