"""The full check of the chain, in small steps, with or without a running journal.

What must stay true: it only reads; each step is a short read of its own (a long one would keep the WAL from being
checkpointed), which is sound because batches and records are never changed once written. It finds flipped bytes,
deleted, inserted and reordered rows, and records that no batch accounts for. It can't find a tail that was cut off
whole, or a chain that was rewritten from some point on: for these, give it a head that was kept elsewhere.
"""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from typing import Final, TypeAlias

from journal.chain import batch_hash, genesis
from journal.errors import JournalCorrupt
from journal.file import connect_read_only
from journal.rows import MAX_BATCH_RECORDS, Head, LinkedRecord, VerifyResult

STEP_BATCHES: Final = 256
STEP_RECORDS: Final = 2_000
"""One step reads batches until either number is reached; a single batch is always read whole."""

_BATCHES: Final = (
    "SELECT batch, first_seq, last_seq, last_message_id, time_us, prev_hash, hash FROM batches"
    " WHERE batch >= ? ORDER BY batch LIMIT ?"
)
_RECORDS: Final = (
    "SELECT seq, instance, kind, time_us, prev, payload FROM records WHERE seq BETWEEN ? AND ? ORDER BY seq"
)

_EXTENT: Final = (
    "SELECT coalesce((SELECT max(batch) FROM batches), 0), coalesce((SELECT max(seq) FROM records), 0),"
    " coalesce((SELECT min(batch) FROM batches), 1), coalesce((SELECT min(seq) FROM records), 1)"
)
BatchRow: TypeAlias = tuple[int, int, int, int, int, bytes, bytes]


class ChainCheck:
    """The state of a check between two steps: the last good batch, and what was found wrong."""

    def __init__(self, first: int, good: Head, expect: Head | None) -> None:
        self._next = first
        self._good = good
        self._expect = expect
        self._batches = 0
        self._records = 0
        self._bad: tuple[int, str] | None = None

    @classmethod
    def start(cls, connection: sqlite3.Connection, from_batch: int = 1, expect: Head | None = None) -> ChainCheck:
        """Begin at a batch, taking the one before it as good. Raises JournalCorrupt if the journal has no identity."""
        identity = connection.execute("SELECT identity FROM journal").fetchone()
        if identity is None:
            raise JournalCorrupt("the journal has lost its identity row")
        if expect is not None:
            from_batch = min(from_batch, max(expect.batch, 1))
        before = connection.execute(
            "SELECT batch, last_seq, hash, time_us FROM batches WHERE batch = ?", (from_batch - 1,)
        ).fetchone()
        if before is None:
            return cls(1, Head(0, 0, genesis(identity[0]).hex(), 0), expect)
        return cls(from_batch, Head(before[0], before[1], before[2].hex(), before[3]), expect)

    def step(self, connection: sqlite3.Connection) -> bool:
        """Check some more; False when done."""
        rows = connection.execute(_BATCHES, (self._next, STEP_BATCHES)).fetchall()
        budget = STEP_RECORDS
        for row in rows:
            if self._check_batch(connection, row):
                return False
            budget -= row[2] - row[1] + 1
            if budget <= 0:
                return True
        if len(rows) == STEP_BATCHES:
            return True
        self._check_end(connection)
        return False

    def result(self) -> VerifyResult:
        """What has been found so far."""
        bad_batch, reason = self._bad if self._bad is not None else (None, None)
        return VerifyResult(self._bad is None, self._batches, self._records, self._good, bad_batch, reason)

    def _check_batch(self, connection: sqlite3.Connection, row: BatchRow) -> bool:
        """Check one batch; True if it is bad."""
        batch, _, last_seq, _, time_us, _, stored = row
        try:
            reason = self._complaint(connection, row)
        except (sqlite3.OperationalError, struct.error, TypeError, AttributeError) as error:
            # A value of another type or range than any writer gives, or text that is not UTF-8.
            reason = f"it holds what was never written ({error})"
        if reason is not None:
            self._bad = (min(batch, self._next) if isinstance(batch, int) else self._next, reason)
            return True
        self._records += last_seq - self._good.seq
        self._batches += 1
        self._good = Head(batch, last_seq, stored.hex(), time_us)
        self._next = batch + 1
        return False

    def _complaint(self, connection: sqlite3.Connection, row: BatchRow) -> str | None:
        """What is wrong with a batch, the cheap checks first."""
        batch, first_seq, last_seq, last_message_id, time_us, prev_hash, stored = row
        if batch != self._next:
            return f"batch {self._next} is missing, {batch} follows {self._next - 1}"
        if prev_hash.hex() != self._good.hash_hex:
            return "it does not continue the batch before it (previous hash differs)"
        if first_seq != self._good.seq + 1:
            return f"its records begin at {first_seq}, {self._good.seq + 1} must follow"
        count = last_seq - first_seq + 1
        if not 0 <= count <= MAX_BATCH_RECORDS:
            return f"it claims {count} records"
        records: list[LinkedRecord] = connection.execute(_RECORDS, (first_seq, last_seq)).fetchall()
        if len(records) != count:
            return f"{len(records)} records of {count} are there"
        if stored != batch_hash(prev_hash, batch, first_seq, last_seq, last_message_id, time_us, records):
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
        elif self._expect is not None and self._expect.batch > last_batch:
            self._bad = (self._next, f"the journal ends at batch {last_batch}, {self._expect.batch} was seen before")


def verify_file(path: Path, from_batch: int = 1, expect: Head | None = None) -> VerifyResult:
    """Check the journal at ``path``, whether or not a daemon is writing it. Blocks; needs no lock.

    ``expect`` is a head that was seen earlier, kept outside the machine: the chain must contain it.
    Raises JournalNotFound, JournalNewer, JournalCorrupt (not readable as a database).
    """
    path = path.resolve()
    try:
        with closing(connect_read_only(path)) as connection:
            check = ChainCheck.start(connection, from_batch, expect)
            while check.step(connection):
                pass
            return check.result()
    except sqlite3.DatabaseError as error:
        raise JournalCorrupt(f"{path}: {error}") from error
