"""The high-water mark: a small file beside the journal that names the last batch which was acknowledged.

SQLite drops everything after a damaged frame of its write-ahead log in silence, and its own checks call the rest sound;
so does a lost ``-wal`` file. Only a witness outside that log shows the loss. Section "High-water mark" of format.md is
the contract.

What must stay true: the mark is written after COMMIT has returned, hence never names a batch that is not on disk; after
a killed process it is exact or one batch behind, after a loss of power it may be behind by what was not flushed yet. Two
slots are written in turn, each in a page of its own, so that a torn write leaves the other one. A mark that can't be
written is an alarm, never a stop: the journal is durable without it.
On a crash here: one slot is torn at worst, and the other names an earlier batch.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import os
import sqlite3
import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from journal import reader
from journal.errors import JournalReadError, JournalTailLost
from journal.folders import give_to_owner_of_folder, sync_folder
from journal.rows import Head

SLOT_BYTES: Final = 4096
"""Distance of the two slots: a page of the page cache each."""
_MAGIC: Final = b"GRLTMRK1"
_SLOT: Final = struct.Struct(">8sQ16sQQq32s")  # magic, generation, identity, batch, seq, time_us, hash
_CHECKED_BYTES: Final = _SLOT.size + 32


class MarkFound(enum.Enum):
    """What a start found beside the journal."""

    HELD = "held"
    """A mark, and the journal holds the batch that it names."""
    NONE = "none"
    """No mark: the first start of this journal here, or a file that was copied without it. One was made."""
    UNREADABLE = "unreadable"
    """A damaged mark: nothing could be compared. A new one was made if that was possible."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What a mark says. generation counts its writes: the slot with the higher one holds."""

    generation: int
    identity: bytes
    head: Head


def mark_path(journal: Path) -> Path:
    """Where the mark of the journal at this path lies."""
    return journal.with_name(journal.name + ".mark")


def read_mark(journal: Path) -> tuple[MarkFound, Mark | None]:
    """The mark beside a journal. NONE and UNREADABLE come without one; HELD says only that it can be read.

    Raises JournalReadError for one that is there and may be whole, but is not given to us: it must not be replaced.
    """
    try:
        with mark_path(journal).open("rb") as file:
            content = file.read(2 * SLOT_BYTES)
    except FileNotFoundError:
        return MarkFound.NONE, None
    except IsADirectoryError:
        return MarkFound.UNREADABLE, None
    except OSError as error:
        raise JournalReadError(
            f"the mark {mark_path(journal)} can't be read: {error.strerror}; if that stays so, move it aside: the next "
            "start makes a new one, and says that nothing was compared"
        ) from error
    marks = [mark for offset in (0, SLOT_BYTES) if (mark := _unpack(content[offset : offset + _CHECKED_BYTES]))]
    if not marks:
        return MarkFound.UNREADABLE, None
    return MarkFound.HELD, max(marks, key=lambda mark: mark.generation)


def compare(connection: sqlite3.Connection, journal: Path, mark: Mark) -> None:
    """Raise JournalTailLost unless the journal holds the batch that the mark names. Only reads."""
    identity = connection.execute("SELECT identity FROM journal").fetchone()
    if identity is None or identity[0] != mark.identity:
        raise JournalTailLost(journal, mark.head, None, "is another journal than the one that its mark belongs to")
    found = reader.head(connection)
    if found.batch < mark.head.batch:
        raise JournalTailLost(journal, mark.head, found, _ends_early(mark.head, found))
    # A batch that has gone into an archive since has no row: what follows it is linked to it.
    row = connection.execute("SELECT hash FROM batches WHERE batch = ?", (mark.head.batch,)).fetchone()
    if row is not None and row[0].hex() != mark.head.hash_hex:
        raise JournalTailLost(journal, mark.head, found, f"holds another batch {mark.head.batch} than was acknowledged")


def refuse_missing(journal: Path, mark: Mark) -> JournalTailLost:
    """The error for a journal that is not there although a mark names it."""
    return JournalTailLost(journal, mark.head, None, "is gone or empty, but its mark is there")


class MarkFile:
    """The mark of an open journal. ``write`` belongs to the writer's thread; ``flush`` may run on another."""

    def __init__(self, journal: Path, identity: bytes, head: Head, found: MarkFound, generation: int = 0) -> None:
        """Open the mark, or make it; says ``head`` from now on. A failure is kept as the alarm."""
        self.path = mark_path(journal)
        self.found = found
        self.batch = 0
        self._identity = identity
        self._generation = generation
        self._descriptor: int | None = None
        self._unflushed = False
        self._not_written = ""
        self._not_flushed = ""
        try:
            if found is not MarkFound.HELD:
                self._make(head)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            self._not_written = f"{self.path} can't be opened: {error.strerror}"
            return
        self.write(head.batch, head.seq, head.time_us, bytes.fromhex(head.hash_hex))
        self.flush()

    @property
    def alarm(self) -> str:
        """Why the mark does not follow the journal; empty while it does."""
        return self._not_written or self._not_flushed

    @property
    def unflushed(self) -> bool:
        """It was written since the last flush."""
        return self._unflushed

    def write(self, batch: int, seq: int, time_us: int, hash_: bytes) -> None:
        """Name this batch, which is on disk. Some microseconds; never raises OSError."""
        if self._descriptor is None:
            return
        self._generation += 1
        slot = _pack(self._generation, self._identity, batch, seq, time_us, hash_)
        try:
            written = os.pwrite(self._descriptor, slot, self._generation % 2 * SLOT_BYTES)
        except OSError as error:
            self._not_written = f"{self.path} can't be written: {error.strerror}"
            return
        if written != len(slot):
            self._not_written = f"{self.path} can't be written: {written} bytes of {len(slot)} were taken"
            return
        self.batch = batch
        self._unflushed = True
        self._not_written = ""

    def flush(self) -> None:
        """Let what was written survive a loss of power. Some milliseconds; never raises OSError."""
        if self._descriptor is None or not self._unflushed:
            return
        self._unflushed = False
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            self._unflushed = True
            self._not_flushed = f"{self.path} can't be flushed: {error.strerror}"
        else:
            self._not_flushed = ""

    def close(self) -> None:
        """Give the file free; harmless when repeated. Does not flush."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    def _make(self, head: Head) -> None:
        """A whole new file takes the name at once; a damaged one is kept beside it."""
        if self.found is MarkFound.UNREADABLE:
            os.replace(self.path, self.path.with_name(self.path.name + ".unreadable"))
        making = self.path.with_name(self.path.name + ".new")
        with contextlib.suppress(FileNotFoundError):
            making.unlink()
        descriptor = os.open(making, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            give_to_owner_of_folder(descriptor, making)
            slot = _pack(0, self._identity, head.batch, head.seq, head.time_us, bytes.fromhex(head.hash_hex))
            os.pwrite(descriptor, slot.ljust(2 * SLOT_BYTES, b"\0"), 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(making, self.path)
        sync_folder(self.path.parent)


def _pack(generation: int, identity: bytes, batch: int, seq: int, time_us: int, hash_: bytes) -> bytes:
    slot = _SLOT.pack(_MAGIC, generation, identity, batch, seq, time_us, hash_)
    return slot + hashlib.sha256(slot).digest()


def _unpack(content: bytes) -> Mark | None:
    slot, checksum = content[: _SLOT.size], content[_SLOT.size :]
    if len(slot) < _SLOT.size or hashlib.sha256(slot).digest() != checksum:
        return None
    magic, generation, identity, batch, seq, time_us, hash_ = _SLOT.unpack(slot)
    return Mark(generation, identity, Head(batch, seq, hash_.hex(), time_us)) if magic == _MAGIC else None


def _ends_early(marked: Head, found: Head) -> str:
    batches, records = marked.batch - found.batch, marked.seq - found.seq
    missing = f"{batches} batches with {records} records are missing"
    if found.batch:
        missing += f", written from {_when(found.time_us)} to {_when(marked.time_us)}"
    return f"ends at batch {found.batch}, but batch {marked.batch} was acknowledged: {missing}"


def _when(time_us: int) -> str:
    try:
        return datetime.fromtimestamp(time_us // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"{time_us} us"
