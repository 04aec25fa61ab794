"""Many rows in few statements.

``executemany`` drops and retakes the interpreter's lock at each row, and so fights a busy event loop for it; statements
with many rows of VALUES do it once each. Rows are cut into pieces of fixed sizes, largest first, so that the number of
different statements stays small and sqlite3's statement cache holds them all.

What must stay true: all rows are bound as parameters; pieces stay below SQLite's limit of 32,766 parameters.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Final, TypeAlias

Value: TypeAlias = int | str | bytes
PIECES: Final = (256, 128, 64, 32, 16, 8, 4, 2, 1)


class BulkStatement:
    """``prefix`` + rows of VALUES + ``suffix``, for rows of ``columns`` fields."""

    __slots__ = ("_sql",)

    def __init__(self, prefix: str, columns: int, suffix: str = "") -> None:
        row = "(" + ",".join("?" * columns) + ")"
        self._sql = [(size, f"{prefix} VALUES {','.join([row] * size)}{suffix}") for size in PIECES]

    def run(self, connection: sqlite3.Connection, rows: Sequence[tuple[Value, ...]]) -> None:
        """Execute for all rows, in their order; within the caller's transaction."""
        start, left = 0, len(rows)
        for size, sql in self._sql:
            while left >= size:
                connection.execute(sql, tuple(chain.from_iterable(rows[start : start + size])))
                start += size
                left -= size
