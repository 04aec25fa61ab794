"""Queries of what is committed, on a read-only connection of their own: never in the writer's way.

What must stay true: each query is one short read transaction on the reader's thread, with a limit where the result
could be large; a long read would keep the WAL from being checkpointed. The connection is opened ``mode=ro``, so that
it can neither write nor checkpoint. Every function here runs on that thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from journal import rowcheck
from journal.chain import genesis
from journal.cuts import archive_holding
from journal.errors import JournalCorrupt
from journal.links import LAST_RECORD
from journal.rows import ENTITY, ActivityTuple, Head, InstanceTuple, Records, RecordTuple

MAX_ROWS: Final = 10_000
"""No listing gives more rows at once, whatever its caller asks for; go on from the last one."""

SCAN_ROWS: Final = 20_000
"""A search through the log reads so many records at a time, each time as a short read of its own."""

_HEAD: Final = "SELECT batch, last_seq, hash, time_us FROM batches ORDER BY batch DESC LIMIT 1"
_RECORD: Final = "SELECT seq, instance, kind, time_us, payload FROM records"
_HISTORY: Final = (
    "WITH RECURSIVE own (seq, instance, kind, time_us, payload, prev) AS ("
    "  SELECT seq, instance, kind, time_us, payload, prev FROM records"
    f" WHERE seq = ({LAST_RECORD}) AND seq >= :first_seq"
    " UNION ALL"
    "  SELECT r.seq, r.instance, r.kind, r.time_us, r.payload, r.prev FROM own JOIN records AS r ON r.seq = own.prev"
    "  WHERE own.prev >= :first_seq"
    ") SELECT * FROM own ORDER BY seq"
)
_LATEST: Final = (
    "WITH RECURSIVE own (seq, instance, kind, time_us, payload, prev) AS ("
    "  SELECT seq, instance, kind, time_us, payload, prev FROM records WHERE seq = :seq"
    " UNION ALL"
    "  SELECT r.seq, r.instance, r.kind, r.time_us, r.payload, r.prev FROM own JOIN records AS r ON r.seq = own.prev"
    ") SELECT * FROM own LIMIT :limit"
)
_TYPES: Final = (int, str, str, int, bytes, int)
"""Of seq, instance, kind, time_us, payload, prev."""
_Value: TypeAlias = int | str


def attach(connection: sqlite3.Connection) -> None:
    """Read once, so that this connection takes part in the WAL: the writer is then never the last one to leave it."""
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()


def head(connection: sqlite3.Connection) -> Head:
    """The last batch, as this connection sees it; of an empty journal batch 0. Raises JournalCorrupt if it is damaged."""
    row = connection.execute(_HEAD).fetchone()
    if row is None:
        return Head(0, 0, genesis(identity(connection)).hex(), 0)
    batch, seq, digest, time_us = row
    if not (isinstance(seq, int) and isinstance(digest, bytes) and isinstance(time_us, int)):
        raise JournalCorrupt(f"batch {batch}: it holds what was never written")
    return Head(batch, seq, digest.hex(), time_us)


def identity(connection: sqlite3.Connection) -> bytes:
    """Who this journal is: 16 random bytes. Raises JournalCorrupt if that is lost."""
    found = connection.execute("SELECT identity FROM journal").fetchone()
    if found is None or not isinstance(found[0], bytes):
        raise JournalCorrupt("the journal has lost its identity")
    return found[0]


def history(connection: sqlite3.Connection, instance: str, first_seq: int) -> Records:
    """All records of an instance from first_seq on. Not limited: it is bounded by what an instance may do.

    Those that were archived are missing, and the result says where the newest of them is; never those of an
    orchestration that has a row. Raises JournalCorrupt if the links between them are broken: a shortened history must
    never pass for a whole one.
    """
    rows = _sound(connection.execute(_HISTORY, {"instance": instance, "first_seq": first_seq}).fetchall())
    older = rows[0][5] if rows else _last_record(connection, instance)
    if older < first_seq:
        return _linked(instance, rows, "")
    return _linked(instance, rows, _archive_of(connection, instance, older))


def instance_records(
    connection: sqlite3.Connection, instance: str, after_seq: int, limit: int, kinds: Sequence[str] | None
) -> Records:
    """Records of one instance after a sequence number, oldest first, of some kinds or all."""
    found = history(connection, instance, after_seq + 1)
    return Records([row for row in found if kinds is None or row[2] in kinds][:limit], found.archived_in)


def latest(connection: sqlite3.Connection, instance: str, limit: int, before_seq: int | None) -> Records:
    """The last records of an instance, newest first; before_seq: those before this record of the same instance.

    They end where the next older one was archived, and then the result says in which archive it is. Raises
    JournalCorrupt if the links between them are broken.
    """
    if before_seq is None:
        seq = _last_record(connection, instance)
    else:
        found = connection.execute("SELECT prev FROM records WHERE seq = ?", (before_seq,)).fetchone()
        if found is None:
            return Records((), archive_holding(connection, before_seq))
        seq = _number(found[0])
    limit = min(limit, MAX_ROWS)
    rows = _sound(connection.execute(_LATEST, {"seq": seq, "limit": limit}).fetchall()) if seq else []
    older = rows[-1][5] if rows else seq
    if not older or len(rows) == limit:
        return _linked(instance, rows, "")
    return _linked(instance, rows, _archive_of(connection, instance, older))


def _last_record(connection: sqlite3.Connection, instance: str) -> int:
    return _number(connection.execute(LAST_RECORD, {"instance": instance}).fetchone()[0])


def _number(value: object) -> int:
    """Damage shows in the type of a value as well. Raises JournalCorrupt."""
    if not isinstance(value, int):
        raise JournalCorrupt("a link between records holds what was never written")
    return value


def _sound(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Records, if they have the types that were written; what they say is for the chain to check. Raises JournalCorrupt."""
    for row in rows:
        if tuple(map(type, row)) != _TYPES[: len(row)]:
            raise JournalCorrupt(f"record {row[0]!r}: it holds what was never written")
    return rows


def _archive_of(connection: sqlite3.Connection, instance: str, missing: int) -> str:
    """Which archive holds a record that is not there. Raises JournalCorrupt if it should be there."""
    needed = connection.execute(
        "SELECT 1 FROM instances WHERE instance = ? AND kind <> ? AND first_seq BETWEEN 1 AND ?",
        (instance, ENTITY, missing),
    ).fetchone()
    name = archive_holding(connection, missing) if needed is None else ""
    if not name:
        raise JournalCorrupt(f"the records of {instance} are not linked to each other as they should be")
    return name


def _linked(instance: str, rows: Sequence[tuple[int, str, str, int, bytes, int]], archive: str) -> Records:
    if any(row[1] != instance for row in rows):
        raise JournalCorrupt(f"the records of {instance} are not linked to each other as they should be")
    return Records([row[:5] for row in rows], archive)


def records(
    connection: sqlite3.Connection, after_seq: int, up_to_seq: int, limit: int, kinds: Sequence[str] | None
) -> list[RecordTuple]:
    """Records of a range of sequence numbers (the end included), oldest first, of some kinds or all.

    Raises JournalCorrupt for a record that holds what was never written.
    """
    clause = "" if kinds is None else f" AND kind IN ({_marks(kinds)})"
    query = f"{_RECORD} WHERE seq > ? AND seq <= ?{clause} ORDER BY seq LIMIT ?"
    return _sound(connection.execute(query, (after_seq, up_to_seq, *(kinds or ()), limit)).fetchall())


def instance_row(connection: sqlite3.Connection, instance: str) -> InstanceTuple | None:
    """The row of one instance, terminal ones too."""
    rows = connection.execute(f"{rowcheck.INSTANCE} WHERE instance = ?", (instance,)).fetchall()
    return _instances(rows)[0] if rows else None


def instance_rows(
    connection: sqlite3.Connection,
    kind: str | None,
    name: str | None,
    statuses: Sequence[str] | None,
    prefix: str | None,
    created_from_us: int | None,
    created_to_us: int | None,
    limit: int,
    after: str | None,
) -> list[InstanceTuple]:
    """Rows in the order of instance id; None means no such condition. Both ends of the creation time are included."""
    conditions: list[tuple[str, _Value | None]] = [
        ("kind = ?", kind),
        ("name = ?", name),
        ("instance >= ?", prefix),
        ("instance < ?", _after_prefix(prefix) if prefix else None),
        ("created_us >= ?", created_from_us),
        ("created_us <= ?", created_to_us),
        ("instance > ?", after),
    ]
    where = [condition for condition, value in conditions if value is not None]
    values = [value for _, value in conditions if value is not None]
    if statuses is not None:
        where.append(f"status IN ({_marks(statuses)})")
        values.extend(statuses)
    values.append(min(limit, MAX_ROWS))
    clause = f" WHERE {' AND '.join(where)}" if where else ""
    return _instances(connection.execute(f"{rowcheck.INSTANCE}{clause} ORDER BY instance LIMIT ?", values).fetchall())


def activities(connection: sqlite3.Connection, limit: int) -> list[ActivityTuple]:
    """Activities without a result, in the order of instance and task."""
    query = f"{rowcheck.ACTIVITY} ORDER BY instance, task_id LIMIT ?"
    rows = connection.execute(query, (min(limit, MAX_ROWS),)).fetchall()
    return [row[:3] for row in rowcheck.checked("activities", rows)]


def timers(connection: sqlite3.Connection, limit: int) -> list[tuple[str, int, int, bytes]]:
    """Pending timers, in the order of instance and task."""
    query = f"{rowcheck.TIMER} ORDER BY instance, task_id LIMIT ?"
    rows = connection.execute(query, (min(limit, MAX_ROWS),)).fetchall()
    return [row[:4] for row in rowcheck.checked("timers", rows)]


def _instances(rows: list[tuple[Any, ...]]) -> list[InstanceTuple]:
    return [row[:9] for row in rowcheck.checked("instances", rows)]


def _marks(values: Sequence[str]) -> str:
    return ",".join("?" * len(values))


def _after_prefix(prefix: str) -> str | None:
    """The smallest text greater than every text with this prefix (SQLite compares UTF-8, hence code points)."""
    kept = prefix.rstrip("\U0010ffff")
    if not kept:
        return None
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if following == 0xD800 else following)
