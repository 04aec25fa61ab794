"""Where the log was cut, and what stayed of the part that was archived.

What must stay true: the table ``archives`` says what the newest note "archived" in the chain says, byte for byte: the
note holds a digest of the whole table, so that no row of it can be changed alone. Records up to the cut that stayed are
exactly those whose count and hash the newest row gives. Everything here only reads.
On a crash here: nothing was changed.
"""

from __future__ import annotations

import array
import hashlib
import json
import sqlite3
import sys
import zlib
from collections.abc import Iterator, Sequence
from typing import Final

from journal.chain import genesis
from journal.errors import JournalCorrupt
from journal.rows import Archived, Note

ARCHIVED: Final = "archived"
LOSS_ACCEPTED: Final = "loss-accepted"
RESTORED: Final = "restored"
"""Kinds of notes."""

FIRST_VERSION: Final = 2
"""Schema version that brought notes and archives."""

_ARCHIVES: Final = (
    "SELECT archive, first_batch, last_batch, first_seq, last_seq, time_us, prev_hash, hash, kept, kept_sha256, file,"
    " file_sha256 FROM archives ORDER BY archive"
)
_NOTES: Final = "SELECT batch, time_us, kind, payload FROM notes JOIN batches USING (batch)"
_HOLDING: Final = "SELECT file FROM archives WHERE last_seq >= ? ORDER BY archive LIMIT 1"


def archives(connection: sqlite3.Connection) -> list[Archived]:
    """All archives, oldest first; those of an older schema version have none."""
    if connection.execute("PRAGMA user_version").fetchone()[0] < FIRST_VERSION:
        return []
    found = [Archived(*row) for row in connection.execute(_ARCHIVES)]
    for one in found:
        values = (one.prev_hash, one.hash, one.kept_sha256, one.file_sha256)
        numbers = (one.archive, one.first_batch, one.last_batch, one.first_seq, one.last_seq, one.time_us, one.kept)
        if not (
            all(isinstance(value, bytes) for value in values)
            and all(isinstance(number, int) for number in numbers)
            and isinstance(one.file, str)
        ):
            raise JournalCorrupt(f"row {one.archive} of the table archives holds what was never written")
    return found


def archive_holding(connection: sqlite3.Connection, seq: int) -> str:
    """Name of the archive that holds this record; empty if none does."""
    found = connection.execute(_HOLDING, (seq,)).fetchone()
    return str(found[0]) if found is not None else ""


def notes(connection: sqlite3.Connection, after_batch: int, limit: int) -> list[Note]:
    """What the journal says of itself, oldest first. Notes of archived batches are in their archives."""
    rows = connection.execute(f"{_NOTES} WHERE batch > ? ORDER BY batch LIMIT ?", (after_batch, limit))
    return [Note(*row) for row in rows]


def statement(known: Sequence[Archived]) -> bytes:
    """The payload of the note for the last of these archives. JSON; format.md names its fields."""
    newest = known[-1]
    said = {
        "archive": newest.archive,
        "first_batch": newest.first_batch,
        "last_batch": newest.last_batch,
        "first_seq": newest.first_seq,
        "last_seq": newest.last_seq,
        "hash": newest.hash.hex(),
        "kept": newest.kept,
        "kept_sha256": newest.kept_sha256.hex(),
        "file": newest.file,
        "file_sha256": newest.file_sha256.hex(),
        "archives_sha256": _digest(known).hex(),
    }
    return json.dumps(said, ensure_ascii=False).encode()


def complaint(connection: sqlite3.Connection, known: Sequence[Archived]) -> str | None:
    """What contradicts between the archives table, the notes and the rows around the cut; None if nothing does."""
    found = connection.execute(
        "SELECT payload FROM notes WHERE kind = ? ORDER BY batch DESC LIMIT 1", (ARCHIVED,)
    ).fetchone()
    pending = removal(connection)
    if not known and found is not None:
        return "its chain says that a part was archived, and no archive is named"
    if not known:
        return "archived records are to be removed, and no archive is named" if pending is not None else None
    if found is None or found[0] != statement(known):
        return "the archives that are named are not those that its chain names"
    identity = connection.execute("SELECT identity FROM journal").fetchone()
    if known[0].first_batch == 1 and (identity is None or known[0].prev_hash != genesis(identity[0])):
        return "its identity is not the one that its chain begins with, by its first archive"
    if pending is not None and pending[0] != known[-1].archive:
        return "what is to be removed is not the newest archive"
    if pending is None:
        row = connection.execute("SELECT min(batch) FROM batches").fetchone()
        if row[0] is None or row[0] <= known[-1].last_batch:
            return f"batches up to {known[-1].last_batch} were archived, and rows of some are there"
    return None


def removal(connection: sqlite3.Connection) -> tuple[int, list[int]] | None:
    """A removal that is not finished: number of the archive, and which records stay. None if there is none.

    Raises JournalCorrupt if their list can't be read.
    """
    row = connection.execute("SELECT archive, kept FROM removal").fetchone()
    try:
        return (row[0], unpack_seqs(row[1])) if row is not None else None
    except (zlib.error, ValueError, TypeError) as error:
        raise JournalCorrupt(f"the list of the records that stay behind a cut is damaged: {error}") from error


def removing(connection: sqlite3.Connection) -> bool:
    """A removal is not finished."""
    return connection.execute("SELECT 1 FROM removal").fetchone() is not None


def pack_seqs(seqs: Sequence[int]) -> bytes:
    """Sequence numbers as one compressed value."""
    packed = array.array("Q", seqs)
    if sys.byteorder == "little":
        packed.byteswap()
    return zlib.compress(packed.tobytes(), 1)


def unpack_seqs(packed: bytes) -> list[int]:
    """The reverse. Raises zlib.error, ValueError."""
    seqs = array.array("Q")
    seqs.frombytes(zlib.decompress(packed))
    if sys.byteorder == "little":
        seqs.byteswap()
    return seqs.tolist()


def _digest(known: Sequence[Archived]) -> bytes:
    return hashlib.sha256("".join(_lines(known)).encode()).digest()


def _lines(known: Sequence[Archived]) -> Iterator[str]:
    for one in known:
        yield (
            f"{one.archive} {one.first_batch} {one.last_batch} {one.first_seq} {one.last_seq} {one.time_us}"
            f" {one.prev_hash.hex()} {one.hash.hex()} {one.kept} {one.kept_sha256.hex()} {one.file_sha256.hex()}"
            f" {one.file}\n"
        )
