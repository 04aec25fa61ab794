"""Reads the record out of files: journals (a daemon may be writing them), copies, and archives. Only reads.

What must stay true: each read is short, so that no checkpoint is kept from happening; memory does not grow with the
journal; what is given is everything up to the head that is told, or an error says what is missing. Records that had been
archived before are not there: ``archived_to`` says up to which. On a crash here nothing was changed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from gateway.evidence.entry import NOTE, Entry, Wanted
from gateway.evidence.errors import RecordError
from gateway.evidence.seal import Origin
from journal import ArchiveReader, Head, JournalError, JournalFile, Note, verify_archive

PAGE: Final = 1_000
"""Records of one read: a few milliseconds."""
GZIP: Final = b"\x1f\x8b"
SQLITE: Final = b"SQLite format 3\x00"


class Source(Protocol):
    """Something that holds a part of the record."""

    origin: Origin
    archives: list[str]
    """Names of the archives that hold what was archived before."""

    def span_of(self, instance: str) -> tuple[int, int] | None:
        """First and last time (µs) of an instance's records; None if there are none. Errors: RecordError."""

    def entries(self, wanted: Wanted) -> Iterator[Entry]:
        """Those that are wanted, oldest first. Errors: RecordError."""


@contextlib.contextmanager
def open_record(path: Path) -> Iterator[Source]:
    """A journal or an archive, by what the file holds. Errors: RecordError."""
    try:
        is_archive = first_bytes(path).startswith(GZIP)
        archive = ArchiveSource(path) if is_archive else None
    except OSError as error:
        raise RecordError(f"{path} can't be read: {error.strerror or error}") from error
    try:
        if archive is not None:
            yield archive
            return
        with JournalFile.open(path) as file:
            yield JournalSource(file)
    except JournalError as error:
        raise RecordError(str(error)) from error


def first_bytes(path: Path) -> bytes:
    """By which kinds of files are told apart. Errors: OSError."""
    with path.open("rb") as file:
        return file.read(16)


def identity_of(journal: Path) -> str:
    """The identity of a journal in hexadecimal digits; empty if it can't be read."""
    try:
        with JournalFile.open(journal) as file:
            return file.identity().hex()
    except (JournalError, OSError):
        return ""


class JournalSource:
    """A journal as it was when this was made: what is committed later is not given."""

    def __init__(self, file: JournalFile) -> None:
        self._file = file
        self._head = file.head()
        known = file.archives()
        self._archived_to = known[-1].last_seq if known else 0
        self.origin = Origin(file.identity().hex(), self._head, self._archived_to)
        self.archives = [one.file for one in known]

    def entries(self, wanted: Wanted) -> Iterator[Entry]:
        """Those that are wanted, notes of the journal among them by their time."""
        notes = self._notes()
        note = next(notes, None)
        for entry in self._records(wanted.since_us):
            while note is not None and note.time_us <= entry.time_us:
                if wanted.fits(note):
                    yield note
                note = next(notes, None)
            if entry.time_us > wanted.until_us:  # recorded time never runs backwards
                break
            if wanted.fits(entry):
                yield entry
        while note is not None:
            if wanted.fits(note):
                yield note
            note = next(notes, None)

    def span_of(self, instance: str) -> tuple[int, int] | None:
        """By the links of its records; all are read if its row is gone."""
        found = self._file.instance(instance)
        if found is not None and found[1]:
            return found[1][0][3], found[1][-1][3]
        return _span(self.entries(Wanted()), instance)

    def _records(self, since_us: int) -> Iterator[Entry]:
        after = self._first_at(since_us) - 1
        while after < self._head.seq:
            page = self._file.records(after, self._head.seq, PAGE)
            # Where there are no gaps, the last record of a page says how many there should be.
            if not page or (after >= self._archived_to and page[-1][0] - after != len(page)):
                raise RecordError(
                    f"records behind {after} went into an archive while they were read: nothing whole could be "
                    "given; ask again"
                )
            for seq, instance, kind, time_us, payload in page:
                yield Entry.of(seq, instance, kind, time_us, payload)
            after = page[-1][0]

    def _first_at(self, time_us: int) -> int:
        """A record before which all are earlier than this time, by halving."""
        low, high = 1, self._head.seq + 1
        while low < high:
            middle = (low + high) // 2
            found = self._file.records(middle - 1, self._head.seq, 1)
            if found and found[0][3] < time_us:
                low = found[0][0] + 1
            else:
                high = middle
        return low

    def _notes(self) -> Iterator[Entry]:
        after = 0
        while True:
            page = self._file.notes(after, PAGE)
            for one in page:
                if one.batch <= self._head.batch:
                    yield _entry_of(one)
            if len(page) < PAGE:
                return
            after = page[-1].batch


class ArchiveSource:
    """An archive, checked whole before anything of it is given."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            result = verify_archive(path)
        except JournalError as error:
            raise RecordError(str(error)) from error
        if not result.ok:
            raise RecordError(f"{path} is not whole: {result.reason}")
        self.origin = Origin(result.identity, result.head, result.first_seq - 1)
        self.archives: list[str] = []

    def span_of(self, instance: str) -> tuple[int, int] | None:
        """All is read."""
        return _span(self.entries(Wanted()), instance)

    def entries(self, wanted: Wanted) -> Iterator[Entry]:
        """Those that are wanted."""
        with ArchiveReader(self._path) as archive:
            for batch in archive.batches():
                if batch.note is not None and wanted.fits(note := _entry_of(batch.note)):
                    yield note
                for seq, instance, kind, time_us, _, payload in batch.records:
                    entry = Entry.of(seq, instance, kind, time_us, payload)
                    if wanted.fits(entry):
                        yield entry


def _span(entries: Iterable[Entry], instance: str) -> tuple[int, int] | None:
    times = [entry.time_us for entry in entries if entry.instance == instance]
    return (times[0], times[-1]) if times else None


def _entry_of(note: Note) -> Entry:
    return Entry.of(0, "", f"{NOTE}.{note.kind}", note.time_us, note.payload)


@dataclass(frozen=True, slots=True)
class KeptHead:
    """A head that was kept elsewhere. journal: identity of its journal in hex; empty if that isn't known."""

    batch: int
    hash_hex: str
    journal: str = ""
    whose: str = "the given"

    def may_be_of(self, journal: str) -> bool:
        """Whether it can be held against this journal."""
        return self.journal in ("", journal)

    def as_head(self) -> Head:
        """As the journal compares it."""
        return Head(self.batch, 0, self.hash_hex, 0)
