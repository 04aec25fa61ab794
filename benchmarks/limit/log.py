"""A log with group commit on bare SQLite, and nothing else: what any durable engine in one Python process has to pay for.

Rows that were appended gather; one thread writes all that there are in one transaction with ``synchronous=FULL``, and
then calls back whoever waits for them. There is no hash chain, no table of instances, no index and no check of any kind:
not a journal, but the ceiling that a journal is measured against.
"""

from __future__ import annotations

import asyncio
import enum
import queue
import sqlite3
import threading
from collections.abc import Callable
from itertools import chain
from pathlib import Path

Row = tuple[int, str, int, bytes]
"""Number in the log, key, number within the key, body."""
ROWS_A_COMMIT = 1_000
ROWS_A_STATEMENT = 250


class Form(enum.Enum):
    """How a batch is written: many rows in each statement, or all of them as the lines of a single row."""

    VALUES = "values"
    ONE_ROW = "one row"


class Log:
    """Append from the event loop; the callback comes, on the loop, once the row is on disk."""

    def __init__(self, path: Path, form: Form) -> None:
        self.commits = 0
        self._path = path
        self._form = form
        self._rows: list[Row] = []
        self._told: list[Callable[[], None] | None] = []
        self._last = 0
        self._writing = False
        self._scheduled = False
        self._loop = asyncio.get_running_loop()
        self._work: queue.SimpleQueue[tuple[list[Row], list[Callable[[], None] | None]] | None] = queue.SimpleQueue()
        self._idle = asyncio.Event()
        self._idle.set()
        self._thread = threading.Thread(target=self._write, name="limit-log", daemon=True)
        self._thread.start()

    def append(self, key: str, number: int, body: bytes, told: Callable[[], None] | None = None) -> None:
        """Queue one row. told: called once it is on disk."""
        self._last += 1
        self._rows.append((self._last, key, number, body))
        self._told.append(told)
        if not self._writing and not self._scheduled:
            self._scheduled = True
            self._idle.clear()
            self._loop.call_soon(self._hand_over)

    async def close(self) -> None:
        """Return once all is on disk and the thread has ended."""
        await self._idle.wait()
        self._work.put(None)
        self._thread.join()

    def _hand_over(self) -> None:
        self._scheduled = False
        if not self._rows:
            self._idle.set()
            return
        self._writing = True
        rows, self._rows = self._rows[:ROWS_A_COMMIT], self._rows[ROWS_A_COMMIT:]
        told, self._told = self._told[:ROWS_A_COMMIT], self._told[ROWS_A_COMMIT:]
        self._work.put((rows, told))

    def _written(self, told: list[Callable[[], None] | None]) -> None:
        self.commits += 1
        self._writing = False
        if self._rows:  # the disk has its next work before anybody is told of the last
            self._hand_over()
        for tell in told:
            if tell is not None:
                tell()
        if not self._writing and not self._scheduled:
            self._hand_over()

    def _write(self) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS log"
            " (id INTEGER PRIMARY KEY, key TEXT NOT NULL, number INT NOT NULL, body BLOB NOT NULL)"
        )
        while (work := self._work.get()) is not None:
            rows, told = work
            connection.execute("BEGIN IMMEDIATE")
            self._put(connection, rows)
            connection.execute("COMMIT")
            self._loop.call_soon_threadsafe(self._written, told)
        connection.close()

    def _put(self, connection: sqlite3.Connection, rows: list[Row]) -> None:
        if self._form is Form.ONE_ROW:
            lines = b"\n".join([b"%d %s %d %s" % (last, key.encode(), at, body) for last, key, at, body in rows])
            connection.execute("INSERT INTO log VALUES (?,?,?,?)", (rows[-1][0], "", len(rows), lines))
            return
        for first in range(0, len(rows), ROWS_A_STATEMENT):
            piece = rows[first : first + ROWS_A_STATEMENT]
            marks = ",".join(["(?,?,?,?)"] * len(piece))
            connection.execute(f"INSERT INTO log VALUES {marks}", tuple(chain.from_iterable(piece)))


def read(path: Path) -> dict[str, list[bytes]]:
    """All bodies by key, in order."""
    connection = sqlite3.connect(path)
    found: dict[str, list[bytes]] = {}
    for key, body in connection.execute("SELECT key, body FROM log ORDER BY id"):
        found.setdefault(key, []).append(body)
    connection.close()
    return found
