"""The only code that changes a journal: one batch, one transaction. Runs on the connection's thread, never elsewhere.

What must stay true: ``chain`` describes exactly what is committed; it moves only after COMMIT has returned, and then
the batch is on disk (``synchronous=FULL``). After any failure nothing more is written (fail stop): after a failed
fsync nobody knows what is on the disk, and only a reopening finds out. On a crash here: the transaction is gone, the
file shows the batch before; after COMMIT it shows the batch, whether or not anyone was told.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final, TypeAlias

from journal.bulk import BulkStatement
from journal.chain import batch_hash
from journal.errors import BatchRefused, JournalWriteError
from journal.links import LastRecords
from journal.mark import MarkFile
from journal.rowcheck import with_sums
from journal.rows import (
    MAX_BATCH_RECORDS,
    BatchLike,
    Head,
    LinkedRecord,
    Note,
    RecordTuple,
)


@dataclass(frozen=True, slots=True)
class ChainEnd:
    """What the next batch continues."""

    batch: int
    seq: int
    last_message_id: int
    time_us: int
    hash: bytes

    def head(self) -> Head:
        """The same as people see it."""
        return Head(self.batch, self.seq, self.hash.hex(), self.time_us)


Statement: TypeAlias = tuple[str, Sequence[int | str | bytes]]
"""SQL and its values."""

_REMOVE_INSTANCES: Final = BulkStatement("DELETE FROM instances WHERE instance IN (", 1, ")")
_REMOVE_TIMERS: Final = BulkStatement("DELETE FROM timers WHERE (instance, task_id) IN (", 2, ")")
_REMOVE_ACTIVITIES: Final = BulkStatement("DELETE FROM activities WHERE (instance, task_id) IN (", 2, ")")
_REMOVE_MESSAGES: Final = BulkStatement("DELETE FROM messages WHERE message_id IN (", 1, ")")
_ADD_RECORDS: Final = BulkStatement("INSERT INTO records (seq, instance, kind, time_us, prev, payload)", 6)
_ADD_TAILS: Final = BulkStatement("REPLACE INTO tails (instance, last_seq, checksum)", 3)
_ADD_TIMERS: Final = BulkStatement("REPLACE INTO timers (instance, task_id, due_us, payload, checksum)", 5)
_ADD_ACTIVITIES: Final = BulkStatement("REPLACE INTO activities (instance, task_id, payload, checksum)", 4)
_ADD_MESSAGES: Final = BulkStatement("REPLACE INTO messages (message_id, target, payload, checksum)", 4)
_ADD_INSTANCES: Final = BulkStatement(
    "INSERT INTO instances (instance, kind, name, status, parent, created_us, updated_us, first_seq, state, last_seq,"
    " checksum)",
    11,
    " ON CONFLICT (instance) DO UPDATE SET kind = excluded.kind, name = excluded.name, status = excluded.status,"
    " parent = excluded.parent, created_us = excluded.created_us, updated_us = excluded.updated_us,"
    " first_seq = excluded.first_seq, state = excluded.state,"
    " last_seq = excluded.last_seq, checksum = excluded.checksum",
)
_TIME_US: Final = itemgetter(3)
_ADD_BATCH: Final = (
    "INSERT INTO batches (batch, first_seq, last_seq, last_message_id, time_us, prev_hash, hash)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)


class Writer:
    """Applies batches. Every method runs on the connection's thread; the properties may be read anywhere."""

    def __init__(self, end: ChainEnd, mark: MarkFile) -> None:
        self.end = end
        self._mark = mark
        self._last_records = LastRecords()
        self.failure: JournalWriteError | None = None
        self.batches = 0
        self.records = 0
        self.commit_ms_last = 0.0
        self.commit_ms_max = 0.0

    def commit(self, connection: sqlite3.Connection, batch: BatchLike) -> None:
        """One transaction. Raises BatchRefused (nothing changed) or JournalWriteError (nothing more is accepted)."""
        self.refuse_after_failure()
        started_ns = time.perf_counter_ns()
        records = batch.records
        self._check_order(records)
        try:
            connection.execute("BEGIN IMMEDIATE")
            linked, last = self._link(connection, records)
            following = self._next_end(batch, linked)
            self._remove(connection, batch)
            self._add(connection, batch, linked, last)
            connection.execute(_ADD_BATCH, _batch_row(self.end, following))
            connection.execute("COMMIT")
        except BaseException as error:  # whatever it was: no half transaction stays open, and nothing follows
            raise self._fail(connection, f"batch {self.end.batch + 1}", error) from error
        self._last_records.committed(last.items())
        self.end = following
        self._mark.write(following.batch, following.seq, following.time_us, following.hash)
        self.batches += 1
        self.records += len(records)
        self.commit_ms_last = (time.perf_counter_ns() - started_ns) / 1e6
        self.commit_ms_max = max(self.commit_ms_max, self.commit_ms_last)

    def note(
        self,
        connection: sqlite3.Connection,
        kind: str,
        payload: bytes,
        time_us: int = 0,
        also: Sequence[Statement] = (),
    ) -> None:
        """Commit a batch that holds a statement of the journal about itself, together with other changes of tables."""
        following, rows = note_rows(self.end, kind, payload, time_us)
        self.change(connection, f"the note {kind}", [*rows, *also])
        self.end = following
        self._mark.write(following.batch, following.seq, following.time_us, following.hash)

    def change(self, connection: sqlite3.Connection, what: str, statements: Sequence[Statement]) -> None:
        """Change tables in one transaction without a batch: only what the chain has announced already."""
        self.refuse_after_failure()
        try:
            connection.execute("BEGIN IMMEDIATE")
            for sql, values in statements:
                connection.execute(sql, values)
            connection.execute("COMMIT")
        except BaseException as error:  # as in commit
            raise self._fail(connection, what, error) from error

    def refuse_after_failure(self) -> None:
        """Raise the error that stopped the journal, if one did."""
        if self.failure is not None:
            raise JournalWriteError(f"the journal stopped earlier: {self.failure}")

    def _check_order(self, records: Sequence[RecordTuple]) -> None:
        if len(records) > MAX_BATCH_RECORDS:
            raise BatchRefused(f"{len(records)} records in one batch, {MAX_BATCH_RECORDS} is the limit")
        expected = self.end.seq + 1
        for record in records:
            if record[0] != expected:
                raise BatchRefused(f"record {record[0]} ({record[1]} {record[2]}) where {expected} must follow")
            expected += 1

    def _link(
        self, connection: sqlite3.Connection, records: Sequence[RecordTuple]
    ) -> tuple[list[LinkedRecord], dict[str, int]]:
        """The records with their links, and the last one of each instance among them."""
        last: dict[str, int] = {}
        linked = []
        for seq, instance, kind, time_us, payload in records:
            prev = last.get(instance)
            if prev is None:
                prev = self._last_records.of(connection, instance)
            linked.append((seq, instance, kind, time_us, prev, payload))
            last[instance] = seq
        return linked, last

    def _next_end(self, batch: BatchLike, records: Sequence[LinkedRecord]) -> ChainEnd:
        end = self.end
        number = end.batch + 1
        last_seq = end.seq + len(records)
        time_us = max(end.time_us, batch.time_us, max(map(_TIME_US, records), default=0))
        message_id = max(
            end.last_message_id, max(batch.messages_added, default=0), max(batch.messages_removed, default=0)
        )
        digest = batch_hash(end.hash, number, end.seq + 1, last_seq, message_id, time_us, records)
        return ChainEnd(number, last_seq, message_id, time_us, digest)

    def _remove(self, connection: sqlite3.Connection, batch: BatchLike) -> None:
        if batch.instances_removed:
            self._keep_tails(connection, batch.instances_removed)
            _REMOVE_INSTANCES.run(connection, [(instance,) for instance in batch.instances_removed])
        if batch.timers_removed:
            _REMOVE_TIMERS.run(connection, list(batch.timers_removed))
        if batch.activities_removed:
            _REMOVE_ACTIVITIES.run(connection, list(batch.activities_removed))
        if batch.messages_removed:
            _REMOVE_MESSAGES.run(connection, [(message_id,) for message_id in batch.messages_removed])

    def _add(
        self,
        connection: sqlite3.Connection,
        batch: BatchLike,
        linked: Sequence[LinkedRecord],
        last: Mapping[str, int],
    ) -> None:
        _ADD_RECORDS.run(connection, linked)
        if batch.instances:
            last_of = self._last_records.of
            rows = [(*row, last.get(row[0]) or last_of(connection, row[0])) for row in batch.instances.values()]
            _ADD_INSTANCES.run(connection, with_sums(rows, blob=8))
        tails = [item for item in last.items() if item[0] not in batch.instances]
        _ADD_TAILS.run(connection, with_sums(tails, blob=None))
        if batch.timers_added:
            _ADD_TIMERS.run(connection, with_sums(list(batch.timers_added.values()), blob=3))
        if batch.activities_added:
            _ADD_ACTIVITIES.run(connection, with_sums(list(batch.activities_added.values()), blob=2))
        if batch.messages_added:
            _ADD_MESSAGES.run(connection, with_sums(list(batch.messages_added.values()), blob=2))

    def _keep_tails(self, connection: sqlite3.Connection, instances: Iterable[str]) -> None:
        """Before their rows go: keep where the histories of these instances end."""
        last = [(instance, self._last_records.of(connection, instance)) for instance in instances]
        _ADD_TAILS.run(connection, with_sums([item for item in last if item[1]], blob=None))

    def _fail(self, connection: sqlite3.Connection, what: str, error: BaseException) -> JournalWriteError:
        reason = explain(error)
        try:
            if connection.in_transaction:  # SQLite rolls back by itself after some errors
                connection.execute("ROLLBACK")
        except sqlite3.Error as second:
            reason += f"; the roll-back failed too: {second}"
        self.failure = JournalWriteError(f"{what} could not be written: {reason}")
        return self.failure


def explain(error: BaseException) -> str:
    """The error in words that an operator can act on."""
    name = getattr(error, "sqlite_errorname", "") or type(error).__name__
    match name:
        case "SQLITE_FULL":
            return f"disk full ({error})"
        case "SQLITE_BUSY":
            return f"another program holds the database open for writing ({error})"
        case _:
            return f"{name}: {error}"


def note_rows(end: ChainEnd, kind: str, payload: bytes, time_us: int) -> tuple[ChainEnd, list[Statement]]:
    """A batch that holds a note and nothing else: what the chain ends with then, and how it is written."""
    note = Note(end.batch + 1, max(end.time_us, time_us), kind, payload)
    digest = batch_hash(end.hash, note.batch, end.seq + 1, end.seq, end.last_message_id, note.time_us, [], note)
    following = ChainEnd(note.batch, end.seq, end.last_message_id, note.time_us, digest)
    add_note = "INSERT INTO notes (batch, kind, payload) VALUES (?, ?, ?)"
    return following, [(_ADD_BATCH, _batch_row(end, following)), (add_note, (note.batch, kind, payload))]


def _batch_row(before: ChainEnd, end: ChainEnd) -> tuple[int, int, int, int, int, bytes, bytes]:
    return end.batch, before.seq + 1, end.seq, end.last_message_id, end.time_us, before.hash, end.hash
