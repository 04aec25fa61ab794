"""The check of the records that are about to be removed behind a cut, as long as a removal is under way.

A removal takes the records that do not stay in the order of their numbers, then the rows of their batches in the same
order. So as long as one of these records is there, all batches of the archive are, and all records from the first one
that does not stay on. From the last batch backwards each batch whose records are all there must be what was archived;
one added between them, or in front of them, fits into no such state.

What can't be compared is counted: records of the one batch where the removal stands, and those that an earlier cut left
and this one lets go.
What must stay true: it only reads, in small steps, beside a removal that goes on. On a crash here: nothing was changed.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Sequence
from typing import Final

from journal.chain import batch_hash
from journal.rows import MAX_BATCH_RECORDS, Archived, LinkedRecord, Note

_NotedBatch = tuple[int, int, int, int, int, bytes, bytes, str | None, bytes | None]
"""A row of ``batches`` with kind and payload of its note."""

STEP_BATCHES: Final = 64
STEP_RECORDS: Final = 2_000
"""One step ends when either number is reached; a single batch is always read whole."""
_BATCHES: Final = (
    "SELECT batch, first_seq, last_seq, last_message_id, time_us, prev_hash, hash, notes.kind, notes.payload"
    " FROM batches LEFT JOIN notes USING (batch) WHERE batch BETWEEN ? AND ? ORDER BY batch DESC LIMIT ?"
)
"""With its note, where it has one: the removal may take both before another statement looks."""
_RECORDS: Final = (
    "SELECT seq, instance, kind, time_us, prev, payload FROM records WHERE seq BETWEEN ? AND ? ORDER BY seq"
)
_THERE: Final = "SELECT 1 FROM records WHERE seq = ?"


class LeavingCheck:
    """Whether what is about to go is what was archived.

    stay: the records that stay. first: the first one that does not, and was there. older: how many that an earlier cut
    had left were there and do not stay. not_compared: how many records only their archive can tell of.
    """

    def __init__(self, cut: Archived, stay: frozenset[int], first: int, older: int) -> None:
        self.done = False
        self.not_compared = 0
        self._cut = cut
        self._stay = stay
        self._first = first
        self._older = older
        self._end = (cut.last_batch, cut.last_seq, cut.hash)

    def step(self, connection: sqlite3.Connection) -> str | None:
        """Check some more; what is wrong, where something is."""
        rows = connection.execute(_BATCHES, (self._cut.first_batch, self._end[0], STEP_BATCHES)).fetchall()
        if not rows:
            return self._gone(connection, self._cut.last_seq + 1)
        seen = 0
        try:
            for row in rows:
                if row[0] != self._end[0]:  # the removal has come to the rows of the batches
                    return self._gone(connection, self._cut.last_seq + 1)
                reason = self._one(connection, row)
                seen += row[2] - row[1] + 1
                if reason is not None or self.done or seen > STEP_RECORDS:
                    return reason
        except (struct.error, TypeError, AttributeError) as error:
            return f"batch {self._end[0]}: it holds what was never written ({error})"
        return None

    def _one(self, connection: sqlite3.Connection, row: _NotedBatch) -> str | None:
        batch, first_seq, last_seq, last_message_id, time_us, prev_hash, stored, kind, payload = row
        if (batch, last_seq, stored) != self._end or not 0 <= last_seq - first_seq + 1 <= MAX_BATCH_RECORDS:
            return f"batch {batch}: it is not the one that was archived"
        records = connection.execute(_RECORDS, (first_seq, last_seq)).fetchall()
        if len(records) < last_seq - first_seq + 1:
            return self._where_it_stands(connection, batch, last_seq, records)
        said = Note(batch, time_us, kind, payload) if kind is not None and payload is not None else None
        if stored != batch_hash(prev_hash, batch, first_seq, last_seq, last_message_id, time_us, records, said):
            return f"batch {batch}: it differs from what was archived (hash differs)"
        self._end = (batch - 1, first_seq - 1, prev_hash)
        if batch > self._cut.first_batch:
            return None
        self.done = True
        self.not_compared += self._older
        begin = (self._cut.first_batch - 1, self._cut.first_seq - 1, self._cut.prev_hash)
        return None if self._end == begin else f"batch {batch}: it does not begin where the archive begins"

    def _where_it_stands(
        self, connection: sqlite3.Connection, batch: int, last_seq: int, records: Sequence[LinkedRecord]
    ) -> str | None:
        """Some records of this batch are gone: so are all before them that do not stay, and none after them."""
        first = min((record[0] for record in records if record[0] not in self._stay), default=last_seq + 1)
        following = [record for record in records if record[0] >= first]
        if len(following) < last_seq - first + 1:
            return f"batch {batch}: records of it are there, and later ones were removed already"
        self.not_compared += sum(record[0] not in self._stay for record in following)
        return self._gone(connection, first)

    def _gone(self, connection: sqlite3.Connection, below: int) -> str | None:
        """Nothing that does not stay is left before this record."""
        self.done = True
        if self._first < below and connection.execute(_THERE, (self._first,)).fetchone() is not None:
            return "records are there that were archived and removed"
        return None
