"""From a file to a journal that can be continued: settings, schema, integrity, the end of the chain, what is live.

What must stay true: the settings are in force before the first write; nothing of a file that is refused (newer,
corrupt, a stranger's) is changed; the cost of a recovery follows what is live and the size of the chain's tail, never
the length of the log. On a crash here: nothing was changed but a migration, which is one transaction.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from journal import rowcheck, schema
from journal.chain import genesis
from journal.errors import JournalCorrupt, JournalError
from journal.mark import Mark, compare, refuse_missing
from journal.rows import Recovered
from journal.verify import ChainCheck
from journal.writer import ChainEnd

TAIL_BATCHES: Final = 64
TAIL_RECORDS: Final = 5_000
"""The tail that is checked at each start: so many batches, but no further back once so many records are reached; the newest
batch in any case. It is there for torn or stale pages at the end: the daily check reads the rest."""
AUTOCHECKPOINT_PAGES: Final = 4_096
JOURNAL_SIZE_LIMIT_BYTES: Final = 32 * 1024 * 1024

_CHECKED_TABLES: Final = ("journal", "notes", "archives", "removal", "instances", "timers", "activities", "messages")
"""What a start reads of the tables' pages; the log and its batches are SQLite's check after the start."""
_SETTINGS: Final = (
    "PRAGMA synchronous = FULL",  # first: a switch to WAL under a lesser setting would not be durable itself
    "PRAGMA cell_size_check = ON",
    "PRAGMA secure_delete = OFF",  # Debian's default is ON: zeroing deleted rows wears flash for nothing
    "PRAGMA temp_store = MEMORY",
    f"PRAGMA journal_size_limit = {JOURNAL_SIZE_LIMIT_BYTES}",
    f"PRAGMA wal_autocheckpoint = {AUTOCHECKPOINT_PAGES}",
)
LIVE_INSTANCES: Final = (
    "SELECT instance, kind, name, status, parent, created_us, updated_us, first_seq, state FROM instances"
    + rowcheck.LIVE
)


def inspect(connection: sqlite3.Connection, path: Path, mark: Mark | None) -> ChainEnd | None:
    """Judge the file on a connection that can only read, so that a refused one stays as it was found, its WAL too.

    A connection that could write would fold the WAL into the file when it closes. None: a file without tables yet, whose
    making was interrupted, or has not begun. Raises JournalNewer, JournalNotFound, JournalCorrupt, JournalTailLost.
    """
    with _named_damage(path):
        try:
            connection.execute("PRAGMA cell_size_check = ON")
            version = schema.version_of(connection, path)
        except sqlite3.OperationalError:
            if mark is None:
                return None  # the very first write was cut short: only a connection that can write can undo it
            raise
        if not version and mark is not None:
            raise refuse_missing(path, mark)
        if not version:
            return None
        _quick_check(connection, path)
        end = _chain_end(connection, path)
        if version >= rowcheck.SINCE_VERSION and (wrong := rowcheck.live_complaint(connection)):
            raise JournalCorrupt(f"{path}: {wrong}")
        if mark is not None:
            compare(connection, path, mark)  # last: what is told as a lost tail is sound in itself
        return end


def prepare(connection: sqlite3.Connection, path: Path, end: ChainEnd | None) -> ChainEnd:
    """Make the open file ready for its only writer; ``end`` as ``inspect`` found it.

    Raises JournalNewer, JournalNotFound, JournalCorrupt.
    """
    with _named_damage(path):
        for setting in _SETTINGS:
            connection.execute(setting)
        version = schema.version_of(connection, path)
        mode = connection.execute("PRAGMA journal_mode = wal").fetchone()[0]
        synchronous = connection.execute("PRAGMA synchronous").fetchone()[0]
        if mode != "wal" or synchronous != 2:
            raise JournalError(
                f"{path}: this file system allows no WAL (journal_mode={mode}, synchronous={synchronous})"
            )
        if schema.migrate(connection, version):
            # The tables must not live in the WAL alone: a lost WAL would make the journal look new.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        else:
            # A process killed in the middle of a flush leaves a whole batch that is in memory alone. Now it is on disk,
            # before anyone acts on it and before the mark names it. Waits for no reader.
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        return end if end is not None else _chain_end(connection, path)


def recover(connection: sqlite3.Connection, end: ChainEnd) -> Recovered:
    """Everything that is live, in bulk."""
    return Recovered(
        last_seq=end.seq,
        last_message_id=end.last_message_id,
        last_time_us=end.time_us,
        instances=connection.execute(LIVE_INSTANCES).fetchall(),
        messages=connection.execute("SELECT message_id, target, payload FROM messages ORDER BY message_id").fetchall(),
        timers=connection.execute(
            "SELECT instance, task_id, due_us, payload FROM timers ORDER BY instance, task_id"
        ).fetchall(),
        activities=connection.execute(
            "SELECT instance, task_id, payload FROM activities ORDER BY instance, task_id"
        ).fetchall(),
    )


@contextlib.contextmanager
def _named_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:  # SQLite's complaint quotes the damage
        raise JournalCorrupt(f"{path}: the schema is damaged: {error.object!r}") from error
    except (TypeError, AttributeError) as error:
        raise JournalCorrupt(f"{path}: at its end it holds what was never written ({error})") from error
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorname", "") in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
            raise JournalCorrupt(f"{path}: {error}") from error
        raise


def _quick_check(connection: sqlite3.Connection, path: Path) -> None:
    """The pages of all that a start acts on. The log is looked through after it: that takes as long as the log is."""
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    for table in _CHECKED_TABLES:
        if table not in there:  # of an older version
            continue
        complaints = [str(row[0]) for row in connection.execute(f"PRAGMA quick_check('{table}')")]
        if complaints != ["ok"]:
            raise JournalCorrupt(f"{path}: SQLite's own check found: {'; '.join(complaints[:5])}")


def _chain_end(connection: sqlite3.Connection, path: Path) -> ChainEnd:
    """The end of the chain, once its tail has been checked."""
    tail = connection.execute(
        "SELECT batch, last_seq FROM batches ORDER BY batch DESC LIMIT ?", (TAIL_BATCHES + 1,)
    ).fetchall()
    check = ChainCheck.start(connection, _first_of_tail(tail))
    while check.step(connection):
        pass
    result = check.result()
    if not result.ok:
        raise JournalCorrupt(f"{path}: batch {result.first_bad_batch}: {result.reason}")
    row = connection.execute(
        "SELECT batch, last_seq, last_message_id, time_us, hash FROM batches ORDER BY batch DESC LIMIT 1"
    ).fetchone()
    if row is None:
        identity = connection.execute("SELECT identity FROM journal").fetchone()[0]
        return ChainEnd(0, 0, 0, 0, genesis(identity))
    return ChainEnd(*row)


def _first_of_tail(tail: Sequence[tuple[int, int]]) -> int:
    """Where to begin, of (batch, last_seq) of the last batches, newest first: at least at the newest."""
    if not tail:
        return 1
    before = [*tail[1:], (0, 0)] if tail[-1][0] == 1 else tail[1:]
    near = [batch for batch, last_seq in before if tail[0][1] - last_seq <= TAIL_RECORDS]
    return (near[-1] if near else tail[0][0] - 1) + 1
