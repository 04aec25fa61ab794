"""Moving the beginning of the log to an archive: online, beside commits, and crash-safe at every step.

The steps, each durable before the next one begins:

1. choose the cut: the last batch before the given time, at most MAX_RECORDS records away from the last cut;
2. find which records stay: all of each orchestration that has a row (from its first_seq on), and the last one of every
   name, so that every chain of links still ends in a record, and a name that was used is known as used;
3. write the archive under a name that nobody reads, checking the chain on the way; flush it, drop it from the page
   cache, read it back and check it; give it its name and flush the folder;
4. commit the note "archived", the row in ``archives`` and the row in ``removal``, in one transaction;
5. remove batches, notes and records up to the cut, in slices, each a short transaction; the last one removes the row in
   ``removal``.

What must stay true: nothing is removed before step 4 is on disk; what is removed is exactly what the archive holds and
is not named as staying. What stays is chosen before step 4 while commits go on: an instance that ends or goes on
meanwhile only makes it more than needed.
On a crash here: before step 4 the journal is as it was, and a file may lie in the folder that no journal names; from
step 4 on the next call resumes with step 5. An archive that is in the way under the same name is kept aside.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Final, Protocol, TypeVar

from journal import cuts
from journal.archive import ArchiveCheck
from journal.archive_file import ArchiveWriter, archive_name
from journal.chain import genesis, records_bytes
from journal.errors import ArchiveFailed, JournalCorrupt
from journal.folders import give_to_owner_of_folder, sync_folder
from journal.rows import ENTITY, Archived, Head
from journal.verify import ChainCheck
from journal.writer import Statement, Writer

T = TypeVar("T")

MAX_RECORDS: Final = 1_000_000
"""One archive holds at most so many records, and always a whole batch: so a check of it has an end."""
SLICE_RECORDS: Final = 1_000
"""So many records are removed in one transaction: some milliseconds in which a commit waits."""
SLICE_BATCHES: Final = 5_000
STAYING_AT_ONCE: Final = 500
PAUSE_S: Final = 0.005
"""Between two steps, so that commits and the event loop come first."""

_LAST_RECORDS: Final = (
    "SELECT last_seq FROM instances WHERE last_seq BETWEEN 1 AND :cut UNION"
    " SELECT last_seq FROM tails AS t WHERE last_seq BETWEEN 1 AND :cut"
    " AND NOT EXISTS (SELECT 1 FROM instances AS i WHERE i.instance = t.instance AND i.last_seq > t.last_seq)"
)
_WITH_HISTORY: Final = (
    "SELECT instance, first_seq,"  # its records may have gone on without its row being written
    " max(last_seq, coalesce((SELECT t.last_seq FROM tails AS t WHERE t.instance = i.instance), 0))"
    " FROM instances AS i WHERE kind <> ? AND first_seq BETWEEN 1 AND ? AND instance > ? ORDER BY instance LIMIT ?"
)
_OWN: Final = (
    "WITH RECURSIVE own (seq, prev) AS ("
    "  SELECT seq, prev FROM records WHERE seq = :last UNION ALL"
    "  SELECT r.seq, r.prev FROM own JOIN records AS r ON r.seq = own.prev WHERE own.prev >= :first"
    ") SELECT seq FROM own WHERE seq <= :cut"
)
_STAYING: Final = "SELECT seq, instance, kind, time_us, prev, payload FROM records WHERE seq IN ({}) ORDER BY seq"
_REMOVABLE: Final = "SELECT seq FROM records WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
_BEFORE_ALL: Final = -(2**63)


class Runs(Protocol):
    """Calls functions with a connection, one after the other, on a thread of its own."""

    def __call__(self, function: Callable[[sqlite3.Connection], T]) -> Awaitable[T]: ...


@dataclass(frozen=True, slots=True)
class Cut:
    """What is to be archived: all that follows ``before``, up to ``last``."""

    before: Head
    last: Head


class Retention:
    """One archiving. reading: a connection of its own; writing: the writer's."""

    def __init__(self, reading: Runs, writing: Runs, writer: Writer, identity: bytes) -> None:
        self._reading = reading
        self._writing = writing
        self._writer = writer
        self._identity = identity

    async def archive(self, before_us: int, folder: Path) -> Archived | None:
        """Finish what an earlier one began, then archive what is older than before_us; None if nothing is.

        Raises ArchiveFailed (nothing was removed), JournalCorrupt, JournalWriteError.
        """
        await self.resume()
        known = await self._reading(cuts.archives)
        cut = await self._reading(partial(_choose, known=known, before_us=before_us, identity=self._identity))
        if cut is None:
            return None
        staying = await self._staying(cut)
        kept_sha256 = await self._hash(staying)
        file, file_sha256 = await self._write(cut, folder)
        archived = Archived(
            len(known) + 1,
            cut.before.batch + 1,
            cut.last.batch,
            cut.before.seq + 1,
            cut.last.seq,
            cut.last.time_us,
            bytes.fromhex(cut.before.hash_hex),
            bytes.fromhex(cut.last.hash_hex),
            len(staying),
            kept_sha256,
            file,
            file_sha256,
        )
        also = [_row_of(archived), (_ADD_REMOVAL, (archived.archive, cuts.pack_seqs(staying)))]
        payload = cuts.statement([*known, archived])
        await self._writing(partial(self._writer.note, kind=cuts.ARCHIVED, payload=payload, also=also))
        await self.resume()
        return archived

    async def resume(self) -> None:
        """Remove what is archived and still there."""
        pending = await self._reading(cuts.removal)
        if pending is None:
            return
        known = await self._reading(cuts.archives)
        reason = await self._reading(partial(cuts.complaint, known=known))
        cut = known[-1] if known else None
        # What goes now can't be brought back: so it is only done on the word of the chain.
        if reason is not None or cut is None or pending[0] != cut.archive:
            raise JournalCorrupt(f"what was archived can't be removed: {reason or 'it is not the newest archive'}")
        if await self._hash(pending[1]) != cut.kept_sha256:
            raise JournalCorrupt(
                "what was archived can't be removed: the records that stay are not those that were named"
            )
        stay = frozenset(pending[1])
        after: int | None = _BEFORE_ALL
        while after is not None:
            ranges, after = await self._reading(partial(_removable, after=after, up_to=cut.last_seq, stay=stay))
            await self._change([(_REMOVE_RECORDS, one) for one in ranges])
        first = await self._reading(_first_batch)
        for batch in range(first, cut.last_batch + SLICE_BATCHES, SLICE_BATCHES):
            up_to = (min(batch, cut.last_batch),)
            await self._change([(_REMOVE_BATCHES, up_to), (_REMOVE_NOTES, up_to)])
        await self._change([("DELETE FROM removal", ())])

    async def _change(self, statements: Sequence[Statement]) -> None:
        if statements:
            await self._writing(
                partial(self._writer.change, what="a removal of what is archived", statements=statements)
            )
            await asyncio.sleep(PAUSE_S)

    async def _through(self, step: Callable[[sqlite3.Connection], bool]) -> None:
        """All steps, with room between them."""
        more = True
        while more:
            more = await self._reading(step)
            await asyncio.sleep(PAUSE_S)

    async def _staying(self, cut: Cut) -> list[int]:
        """Which records up to the cut stay."""
        staying = set(await self._reading(partial(_last_records, cut=cut.last.seq)))
        after: str | None = ""
        while after is not None:
            seqs, after = await self._reading(partial(_histories, cut=cut.last.seq, after=after))
            staying.update(seqs)
            await asyncio.sleep(PAUSE_S)
        return sorted(staying)

    async def _hash(self, seqs: Sequence[int]) -> bytes:
        digest = hashlib.sha256()
        for start in range(0, len(seqs), STAYING_AT_ONCE):
            digest.update(await self._reading(partial(_bytes_of, seqs=seqs[start : start + STAYING_AT_ONCE])))
            await asyncio.sleep(0)
        return digest.digest()

    async def _write(self, cut: Cut, folder: Path) -> tuple[str, bytes]:
        """The archive under its name, on disk and checked: name and SHA-256."""
        name = archive_name(self._identity, cut.before.batch + 1, cut.last.batch)
        part = folder / (name + ".part")
        try:
            with _made(part) as file:
                writer = ArchiveWriter(file, self._identity, cut.before)
                check = await self._reading(partial(ChainCheck.start, up_to=cut.last.batch, sink=writer.add))
                await self._through(check.step)
                if not check.result().ok:
                    raise JournalCorrupt(f"batch {check.result().first_bad_batch}: {check.result().reason}")
                await self._reading(lambda _: _finish(writer, file))
            archive = await self._reading(lambda _: ArchiveCheck(part))
            await self._through(lambda _: archive.step())
            result = archive.result()
            if not result.ok or result.head != check.result().head:
                raise ArchiveFailed(f"{part} does not hold what was written into it: {result.reason}")
            await self._reading(lambda _: _name(part, folder / name))
        except OSError as error:
            raise ArchiveFailed(f"{part} can't be written: {error}") from error
        finally:
            with suppress(OSError):  # what stays is overwritten by the next one
                part.unlink(missing_ok=True)
        return name, result.file_sha256


_ADD_ARCHIVE: Final = (
    "INSERT INTO archives (archive, first_batch, last_batch, first_seq, last_seq, time_us, prev_hash, hash, kept,"
    " kept_sha256, file, file_sha256) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_ADD_REMOVAL: Final = "INSERT INTO removal (id, archive, kept) VALUES (1, ?, ?)"
_REMOVE_RECORDS: Final = "DELETE FROM records WHERE seq BETWEEN ? AND ?"
_REMOVE_BATCHES: Final = "DELETE FROM batches WHERE batch <= ?"
_REMOVE_NOTES: Final = "DELETE FROM notes WHERE batch <= ?"


def _row_of(one: Archived) -> Statement:
    return _ADD_ARCHIVE, (
        one.archive,
        one.first_batch,
        one.last_batch,
        one.first_seq,
        one.last_seq,
        one.time_us,
        one.prev_hash,
        one.hash,
        one.kept,
        one.kept_sha256,
        one.file,
        one.file_sha256,
    )


def _choose(connection: sqlite3.Connection, known: Sequence[Archived], before_us: int, identity: bytes) -> Cut | None:
    """The cut; None if there is no record that is old enough."""
    before = known[-1].head if known else Head(0, 0, genesis(identity).hex(), 0)
    good, bad = before.batch, connection.execute("SELECT coalesce(max(batch), 0) FROM batches").fetchone()[0] + 1
    while bad - good > 1:  # times and sequence numbers of batches never go back
        middle = (good + bad) // 2
        row = connection.execute("SELECT last_seq, time_us FROM batches WHERE batch = ?", (middle,)).fetchone()
        if row is None:
            raise JournalCorrupt(f"batch {middle} is missing")
        fits = row[1] < before_us and row[0] - before.seq <= MAX_RECORDS
        good, bad = (middle, bad) if fits else (good, middle)
    if good == before.batch:
        return None
    row = connection.execute("SELECT last_seq, hash, time_us FROM batches WHERE batch = ?", (good,)).fetchone()
    last = Head(good, row[0], row[1].hex(), row[2])
    return Cut(before, last) if last.seq > before.seq else None


def _last_records(connection: sqlite3.Connection, cut: int) -> list[int]:
    return [seq for (seq,) in connection.execute(_LAST_RECORDS, {"cut": cut})]


def _histories(connection: sqlite3.Connection, cut: int, after: str) -> tuple[list[int], str | None]:
    """Records up to the cut of some orchestrations that have a row; and the last one, if more may follow."""
    rows = connection.execute(_WITH_HISTORY, (ENTITY, cut, after, STAYING_AT_ONCE)).fetchall()
    seqs = []
    for _, first_seq, last_seq in rows:
        found = connection.execute(_OWN, {"last": last_seq, "first": first_seq, "cut": cut})
        seqs += [seq for (seq,) in found]
    return seqs, rows[-1][0] if len(rows) == STAYING_AT_ONCE else None


def _bytes_of(connection: sqlite3.Connection, seqs: Sequence[int]) -> bytes:
    return records_bytes(connection.execute(_STAYING.format(",".join("?" * len(seqs))), seqs))


def _removable(
    connection: sqlite3.Connection, after: int, up_to: int, stay: frozenset[int]
) -> tuple[list[tuple[int, int]], int | None]:
    """Ranges of records that may go, of the next ones after a record; and the last one looked at, if more may follow."""
    seqs = [seq for (seq,) in connection.execute(_REMOVABLE, (after, up_to, SLICE_RECORDS))]
    ranges: list[tuple[int, int]] = []
    stayed = True
    for seq in seqs:
        if seq in stay:
            stayed = True
        elif stayed:
            ranges.append((seq, seq))
            stayed = False
        else:
            ranges[-1] = (ranges[-1][0], seq)
    return ranges, seqs[-1] if len(seqs) == SLICE_RECORDS else None


def _first_batch(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT min(batch) FROM batches").fetchone()[0])


def _made(part: Path) -> IO[bytes]:
    """The file, empty: what an interrupted call left of it is of no use."""
    if not part.parent.is_dir():
        part.parent.mkdir(mode=0o750)
        sync_folder(part.parent.parent)
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    give_to_owner_of_folder(descriptor, part)
    return os.fdopen(descriptor, "wb")


def _finish(writer: ArchiveWriter, file: IO[bytes]) -> None:
    writer.finish()
    file.flush()
    os.fsync(file.fileno())
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # what is read back comes from the disk


def _name(part: Path, final: Path) -> None:
    if final.exists():
        final.rename(final.with_name(final.name + ".unnamed"))
    part.rename(final)
    sync_folder(final.parent)
