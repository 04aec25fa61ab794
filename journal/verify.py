"""The full check of the chain, in small steps, with or without a running journal.

What must stay true: it only reads; each step is a short read of its own (a long one would keep the WAL from being
checkpointed), which is sound because batches and records are never changed once written, and because a cut that is made
meanwhile makes it begin anew behind the cut. It finds flipped bytes, deleted, inserted and reordered rows, records that
no batch accounts for, and archives that the chain does not name. It can't find a tail that was cut off whole, or a chain
that was rewritten from some point on: for these, give it a head that was kept elsewhere.
"""

from __future__ import annotations

import gc
import sqlite3
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Final, TypeAlias

from journal import cuts
from journal.archive import verify_archives
from journal.chain import batch_hash, count_good, genesis
from journal.errors import JournalCorrupt
from journal.file import connect_read_only
from journal.kept import KeptCheck
from journal.leaving import LeavingCheck
from journal.rows import MAX_BATCH_RECORDS, Archived, BatchTuple, Head, LinkedRecord, Note, VerifyResult

STEP_BATCHES: Final = 1_024
STEP_RECORDS: Final = 2_000
"""One step reads batches until either number is reached; a single batch is always read whole."""

_BATCHES: Final = (
    "SELECT batch, first_seq, last_seq, last_message_id, time_us, prev_hash, hash FROM batches"
    " WHERE batch >= ? ORDER BY batch LIMIT ?"
)
_RECORDS: Final = (
    "SELECT seq, instance, kind, time_us, prev, payload FROM records WHERE seq BETWEEN ? AND ? ORDER BY seq"
)
_NOTES: Final = "SELECT batch, kind, payload FROM notes WHERE batch BETWEEN ? AND ?"
_EXTENT: Final = (
    "SELECT coalesce((SELECT max(batch) FROM batches), 0), coalesce((SELECT max(seq) FROM records), 0),"
    " coalesce((SELECT min(batch) FROM batches), 1), coalesce((SELECT min(seq) FROM records), 1)"
)
_STRAY_NOTE: Final = "SELECT min(batch) FROM notes WHERE batch NOT IN (SELECT batch FROM batches)"

Sink: TypeAlias = Callable[[BatchTuple, Note | None, Sequence[LinkedRecord]], None]
"""Is given each good batch."""


class ChainCheck:
    """The state of a check between two steps: the last good batch, and what was found wrong."""

    def __init__(self, expect: Head | None, up_to: int | None, sink: Sink | None) -> None:
        self._expect = expect
        self._up_to = up_to
        self._sink = sink
        self._known: Sequence[Archived] = ()
        self._kept: KeptCheck | None = None
        self._leaving: LeavingCheck | None = None
        self._not_compared = 0
        self._good = Head(0, 0, "", 0)
        self._next = 1
        self._batches = 0
        self._records = 0
        self._bad: tuple[int, str] | None = None

    @classmethod
    def start(
        cls,
        connection: sqlite3.Connection,
        from_batch: int = 1,
        expect: Head | None = None,
        *,
        up_to: int | None = None,
        sink: Sink | None = None,
    ) -> ChainCheck:
        """Begin at a batch, taking the one before it as good; at the cut, if the batch lies before it.

        up_to: end after this batch, and leave all behind it unseen. Raises JournalCorrupt if the journal has no identity.
        """
        check = cls(expect, up_to, sink)
        check._begin(connection, from_batch if expect is None else min(from_batch, max(expect.batch, 1)))
        return check

    def step(self, connection: sqlite3.Connection) -> bool:
        """Check some more; False when done."""
        if self._kept is not None:
            more = self._check_kept(connection)
        elif self._leaving is not None:
            more = self._check_leaving(connection)
        else:
            more = self._check_some(connection)
        if self._bad is not None and self._sink is None and cuts.archives(connection) != self._known:
            # What it was looking at has been archived in the meantime: what is missing may only be gone.
            self._begin(connection, 1)
            return True
        return more

    def result(self) -> VerifyResult:
        """What has been found so far."""
        bad_batch, reason = self._bad if self._bad is not None else (None, None)
        return VerifyResult(
            self._bad is None, self._batches, self._records, self._good, bad_batch, reason, self._not_compared
        )

    def _begin(self, connection: sqlite3.Connection, from_batch: int) -> None:
        identity = connection.execute("SELECT identity FROM journal").fetchone()
        if identity is None or not isinstance(identity[0], bytes):
            raise JournalCorrupt("the journal has lost its identity")
        self._known = cuts.archives(connection)
        self._batches = self._records = self._not_compared = 0
        self._bad = self._kept = self._leaving = None
        cut = self._known[-1] if self._known else None
        before = connection.execute(
            "SELECT batch, last_seq, hash, time_us FROM batches WHERE batch = ?", (from_batch - 1,)
        ).fetchone()
        if before is not None and not (isinstance(before[1], int) and isinstance(before[2], bytes)):
            raise JournalCorrupt(f"batch {before[0]}: it holds what was never written")
        if before is not None and (cut is None or before[0] > cut.last_batch):
            self._good = Head(before[0], before[1], before[2].hex(), before[3])
        elif cut is not None:
            self._good = cut.head
            self._kept = KeptCheck(cut, cuts.removal(connection))
        else:
            self._good = Head(0, 0, genesis(identity[0]).hex(), 0)
        self._next = self._good.batch + 1

    def _check_kept(self, connection: sqlite3.Connection) -> bool:
        assert self._kept is not None
        reason = self._kept.step(connection)
        if reason is not None:
            self._bad = (self._good.batch, reason)
        elif self._kept.done:
            self._leaving, self._kept = self._kept.leaving, None
        return reason is None

    def _check_leaving(self, connection: sqlite3.Connection) -> bool:
        assert self._leaving is not None
        reason = self._leaving.step(connection)
        if reason is not None:
            self._bad = (self._good.batch, reason)
        elif self._leaving.done:
            self._not_compared, self._leaving = self._leaving.not_compared, None
        return reason is None

    def _check_some(self, connection: sqlite3.Connection) -> bool:
        found = connection.execute(_BATCHES, (self._next, STEP_BATCHES)).fetchall()
        rows = self._one_step(found)
        records = _all_records(connection, rows, self._good.seq)
        notes = _notes(connection, rows)
        good = self._take_good(rows, records, notes) if records is not None else 0
        for row in rows[good:]:
            if self._check_batch(connection, row, notes.get(row[0])):
                return False
        if self._up_to is not None and self._next > self._up_to:
            return False
        if rows and (len(rows) < len(found) or len(found) == STEP_BATCHES):
            return True
        self._check_end(connection)
        return False

    def _take_good(self, rows: Sequence[BatchTuple], records: Sequence[LinkedRecord], notes: Mapping[int, Note]) -> int:
        """Take as many batches as are good, of rows whose records are all there: a few microseconds a batch.

        Anything that is not as it should be is left to ``_check_batch``, which says what it is; so are the batch of a
        note and that of the expected head.
        """
        expected = self._expect.batch if self._expect is not None else None
        plain = list(takewhile(lambda row: row[0] not in notes and row[0] != expected, rows))
        try:
            good = count_good(bytes.fromhex(self._good.hash_hex), self._next, plain, records)
        except (struct.error, TypeError, AttributeError):
            return 0
        if self._sink is not None:
            begin = 0
            for row in plain[:good]:
                self._sink(row, None, records[begin : begin + _count(row)])
                begin += _count(row)
        if good:
            self._good_so_far(plain[good - 1], good)
        return good

    def _one_step(self, found: Sequence[BatchTuple]) -> Sequence[BatchTuple]:
        """As many of the rows as one step may read."""
        budget = STEP_RECORDS
        for taken, row in enumerate(found):
            if self._up_to is not None and row[0] > self._up_to:
                return found[:taken]
            try:
                budget -= _count(row)
            except TypeError:  # of a type that no writer gives: this row is looked at by itself, and it says so
                budget = 0
            if budget <= 0:
                return found[: taken + 1]
        return found

    def _check_batch(self, connection: sqlite3.Connection, row: BatchTuple, note: Note | None) -> bool:
        """Check one batch; True if it is bad, and then why is known."""
        batch = row[0]
        records: Sequence[LinkedRecord] = ()
        try:
            reason = self._head_complaint(row)
            if reason is None:
                records = connection.execute(_RECORDS, (row[1], row[2])).fetchall()
                reason = self._content_complaint(row, note, records)
        except (sqlite3.OperationalError, struct.error, TypeError, AttributeError) as error:
            # A value of another type or range than any writer gives, or text that is not UTF-8.
            reason = f"it holds what was never written ({error})"
        if reason is not None:
            self._bad = (min(batch, self._next) if isinstance(batch, int) else self._next, reason)
            return True
        if self._sink is not None:
            self._sink(row, note, records)
        self._good_so_far(row, 1)
        return False

    def _good_so_far(self, row: BatchTuple, batches: int) -> None:
        """So many more batches are good, up to this one."""
        batch, _, last_seq, _, time_us, _, stored = row
        self._records += last_seq - self._good.seq
        self._batches += batches
        self._good = Head(batch, last_seq, stored.hex(), time_us)
        self._next = batch + 1

    def _head_complaint(self, row: BatchTuple) -> str | None:
        """What is wrong with a batch's own row, without its records."""
        batch, first_seq, _, _, _, prev_hash, _ = row
        if batch != self._next:
            return f"batch {self._next} is missing, {batch} follows {self._next - 1}"
        if prev_hash.hex() != self._good.hash_hex:
            return "it does not continue the batch before it (previous hash differs)"
        if first_seq != self._good.seq + 1:
            return f"its records begin at {first_seq}, {self._good.seq + 1} must follow"
        if not 0 <= _count(row) <= MAX_BATCH_RECORDS:
            return f"it claims {_count(row)} records"
        return None

    def _content_complaint(self, row: BatchTuple, note: Note | None, records: Sequence[LinkedRecord]) -> str | None:
        batch, first_seq, last_seq, last_message_id, time_us, prev_hash, stored = row
        if len(records) != _count(row):
            return f"{len(records)} records of {_count(row)} are there"
        if note is not None and records:
            return "it holds records and a note"
        if stored != batch_hash(prev_hash, batch, first_seq, last_seq, last_message_id, time_us, records, note):
            return "its content differs from what was written (hash differs)"
        if self._expect is not None and batch == self._expect.batch and stored.hex() != self._expect.hash_hex:
            return "it is not the batch that the expected head names (the chain was rewritten)"
        return None

    def _check_end(self, connection: sqlite3.Connection) -> None:
        # One statement, hence one moment: a batch that is committed just now is seen with its records or not at all.
        last_batch, last_seq, first_batch, first_seq = connection.execute(_EXTENT).fetchone()
        if last_batch == self._good.batch and last_seq > self._good.seq:
            self._bad = (self._next, f"records from {self._good.seq + 1} on belong to no batch")
        elif first_seq < 1 or first_batch < 1:
            self._bad = (1, f"rows before the first: record {first_seq}, batch {first_batch}")
        elif connection.execute("PRAGMA user_version").fetchone()[0] >= cuts.FIRST_VERSION:
            self._check_cut(connection)
        if self._bad is None and self._expect is not None:
            self._check_expected(self._expect, max(last_batch, self._good.batch))

    def _check_cut(self, connection: sqlite3.Connection) -> None:
        stray = connection.execute(_STRAY_NOTE).fetchone()[0]
        reason = cuts.complaint(connection, self._known)
        if stray is not None:
            self._bad = (stray, "a note belongs to no batch")
        elif reason is not None:
            self._bad = (self._known[-1].last_batch if self._known else 1, reason)

    def _check_expected(self, expect: Head, last_batch: int) -> None:
        """A head that was seen before must still be there; what an archive holds, only its end shows from here."""
        if expect.batch > last_batch:
            self._bad = (self._next, f"the journal ends at batch {last_batch}, {expect.batch} was seen before")
        for one in self._known:
            if expect.batch == one.last_batch and expect.hash_hex != one.hash.hex():
                self._bad = (expect.batch, f"it is not the batch that the expected head names ({one.file})")
            elif one.first_batch <= expect.batch < one.last_batch:
                self._bad = (expect.batch, f"the expected head is archived: look for it in {one.file}")


def verify_file(
    path: Path, from_batch: int = 1, expect: Head | None = None, archives: Path | None = None
) -> VerifyResult:
    """Check the journal at ``path``, whether or not a daemon is writing it. Blocks; needs no lock.

    ``expect`` is a head that was seen earlier, kept outside the machine: the chain must contain it. ``archives``: the
    folder of its archives; each that the journal names must lie there, whole, and is counted with the result.
    Raises JournalNotFound, JournalNewer, JournalCorrupt (not readable as a database).
    """
    path = path.resolve()
    try:
        with closing(connect_read_only(path)) as connection:
            before = None
            if archives is not None:
                before = verify_archives(archives, cuts.archives(connection), expect)
                if not before.ok:
                    return before
                expect = expect if expect is not None and expect.batch > before.head.batch else None
            check = ChainCheck.start(connection, from_batch, expect)
            with _no_cycles():
                while check.step(connection):
                    pass
            result = check.result()
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the latter: a complaint that quotes damage
        raise JournalCorrupt(f"{path}: {error}") from error
    if before is None:
        return result
    return replace(result, batches=result.batches + before.batches, records=result.records + before.records)


@contextmanager
def _no_cycles() -> Iterator[None]:
    """Spare the search for cycles, a quarter of the time: millions of rows come and go here, and make none."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _count(row: BatchTuple) -> int:
    """Number of records that a batch's row claims. Raises TypeError for what no writer gives."""
    return row[2] - row[1] + 1


def _all_records(
    connection: sqlite3.Connection, rows: Sequence[BatchTuple], after_seq: int
) -> Sequence[LinkedRecord] | None:
    """The records of several batches in one read; None if anything about them is not as it should be."""
    following = after_seq + 1
    try:
        for row in rows:
            if row[1] != following or not 0 <= _count(row) <= MAX_BATCH_RECORDS:
                return None
            following = row[2] + 1
        found = connection.execute(_RECORDS, (after_seq + 1, following - 1)).fetchall()
    except (sqlite3.OperationalError, TypeError):
        return None  # each batch by itself will tell
    return found if len(found) == following - after_seq - 1 else None


def _notes(connection: sqlite3.Connection, rows: Sequence[BatchTuple]) -> dict[int, Note]:
    if not rows or connection.execute("PRAGMA user_version").fetchone()[0] < cuts.FIRST_VERSION:
        return {}
    found = connection.execute(_NOTES, (rows[0][0], rows[-1][0])).fetchall()
    return {batch: Note(batch, 0, kind, payload) for batch, kind, payload in found}
