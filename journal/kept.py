"""The check of the records that stayed on this side of a cut.

What must stay true: it only reads, in small steps; all records up to the cut are looked at, so that none can be added.
While a removal is under way, records that are about to go are passed over: ``leaving`` looks at these. There are some only
as long as the first batch of the archive has its row, for a removal takes all records before any batch.
On a crash here: nothing was changed.
"""

from __future__ import annotations

import hashlib
import sqlite3
import struct
from typing import Final

from journal.chain import records_bytes
from journal.leaving import LeavingCheck
from journal.rows import Archived

STEP_RECORDS: Final = 2_000
_KEPT: Final = (
    "SELECT seq, instance, kind, time_us, prev, payload FROM records WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
)
_BATCH: Final = "SELECT 1 FROM batches WHERE batch = ?"
_BEFORE_ALL: Final = -(2**63)


class KeptCheck:
    """Whether the records that stayed on this side of a cut are those that its archive names.

    leaving: the check of those that are about to go, once this one is done and has seen some.
    """

    def __init__(self, cut: Archived, removal: tuple[int, list[int]] | None) -> None:
        self._cut = cut
        self._stay = frozenset(removal[1]) if removal is not None else None
        self._after = _BEFORE_ALL
        self._count = 0
        self._hash = hashlib.sha256()
        self._first_leaving: int | None = None
        self._older = 0
        self.done = False

    @property
    def leaving(self) -> LeavingCheck | None:
        """None where nothing is about to go."""
        if self._stay is None or self._first_leaving is None:
            return None
        return LeavingCheck(self._cut, self._stay, self._first_leaving, self._older)

    def step(self, connection: sqlite3.Connection) -> str | None:
        """Check some more; what is wrong, once all were seen."""
        # Before the records: were it asked after them, a removal could have come to the batches in between.
        removing = connection.execute(_BATCH, (self._cut.first_batch,)).fetchone() is not None
        rows = connection.execute(_KEPT, (self._after, self._cut.last_seq, STEP_RECORDS)).fetchall()
        self.done = len(rows) < STEP_RECORDS
        if rows:
            self._after = rows[-1][0]
        if self._stay is not None:  # the others are on their way out, and the archive holds them
            leaving = [row[0] for row in rows if row[0] not in self._stay]
            if leaving and not removing:
                return "records are there that were archived and removed"
            if leaving and self._first_leaving is None:
                self._first_leaving = leaving[0]
            self._older += sum(seq < self._cut.first_seq for seq in leaving)
            rows = [row for row in rows if row[0] in self._stay]
        self._count += len(rows)
        try:
            self._hash.update(records_bytes(rows))
        except (struct.error, TypeError, AttributeError) as error:
            return f"among the records that stayed when it was archived is what was never written ({error})"
        if not self.done:
            return None
        if self._count != self._cut.kept:
            return f"{self._cut.kept} records stayed when it was archived, {self._count} are there"
        if self._hash.digest() != self._cut.kept_sha256:
            return "a record that stayed when it was archived differs from what was written (hash differs)"
        return None
