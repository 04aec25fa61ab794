"""Checksums of the projections' rows: a changed bit in what is live is found before anyone acts on it.

The hash chain covers records and batches; SQLite's own checks look at how pages hang together, not at what stands in a
cell. So each row of a projection carries a CRC-32 over its fields: it is there against decay, not against a person (the
entity's last record, which the chain covers, is the witness against that one).

What must stay true: a sum is a function of the row's values alone, the same in every version of Python. A row without a
sum (NULL) was written before there were any, and gets one when it is next written. On a crash here: nothing was changed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias, TypeVar, cast
from zlib import crc32

from journal.errors import JournalCorrupt

SINCE_VERSION: Final = 3
"""The first schema version that has sums."""

Value: TypeAlias = int | str | bytes
Row = TypeVar("Row", bound=tuple[object, ...])

_INSTANCE_COLUMNS: Final = "instance, kind, name, status, parent, created_us, updated_us, first_seq, state, last_seq"
INSTANCE: Final = f"SELECT {_INSTANCE_COLUMNS}, checksum FROM instances"
TIMER: Final = "SELECT instance, task_id, due_us, payload, checksum FROM timers"
ACTIVITY: Final = "SELECT instance, task_id, payload, checksum FROM activities"
MESSAGE: Final = "SELECT message_id, target, payload, checksum FROM messages"
TAIL: Final = "SELECT instance, last_seq, checksum FROM tails"
LIVE: Final = " WHERE kind = 'entity' OR status NOT IN ('Completed', 'Failed', 'Terminated')"
_ALL: Final = {"instances": INSTANCE, "timers": TIMER, "activities": ACTIVITY, "messages": MESSAGE, "tails": TAIL}


def row_sum(values: Sequence[object]) -> int:
    """Of a row's values, in the order of their columns, without the sum itself. At most one of them is a blob."""
    blob, plain = b"", []
    for value in values:
        if isinstance(value, bytes):
            blob = value
        else:
            plain.append(str(value))
    return crc32(blob, crc32("\n".join(plain).encode()))


def with_sums(rows: Sequence[tuple[Value, ...]], blob: int | None) -> list[tuple[Value, ...]]:
    """The same rows, each with its sum at its end. blob: the column that is one.

    The same as ``row_sum`` of each, in half the time: every commit comes by here.
    """
    if not rows:
        return []
    columns = len(rows[0])
    if blob is None:
        lines = "\n".join(["%s"] * columns)
        return [(*row, crc32((lines % row).encode())) for row in rows]
    lines, after = "\n".join(["%s"] * (columns - 1)), blob + 1
    return [
        (*row, crc32(cast(bytes, row[blob]), crc32((lines % (*row[:blob], *row[after:])).encode()))) for row in rows
    ]


def sound(row: Sequence[object]) -> bool:
    """Whether a row that ends in its sum is what was written."""
    return row[-1] is None or row[-1] == row_sum(row[:-1])


def checked(table: str, rows: list[Row]) -> list[Row]:
    """The rows, which end in their sums. Raises JournalCorrupt for the first that is not what was written."""
    for row in rows:
        if not sound(row):
            raise JournalCorrupt(complaint(table, row))
    return rows


def complaint(table: str, row: Sequence[object]) -> str:
    """In words."""
    return f"the row of {row[0]} in {table} is not what was written (checksum differs)"


def live_complaint(connection: sqlite3.Connection) -> str | None:
    """What is wrong with what a recovery will read; None if nothing is. The cost follows what is live."""
    for table, query in _ALL.items():
        if table != "tails":
            for row in connection.execute(query + LIVE if table == "instances" else query):
                if not sound(row):
                    return complaint(table, row)
    return None


def complaints(connection: sqlite3.Connection) -> Iterator[str]:
    """What is wrong with any row of the projections."""
    for table, query in _ALL.items():
        for row in connection.execute(query):
            if not sound(row):
                yield complaint(table, row)
