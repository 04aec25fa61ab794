"""One SQLite connection on the one thread that may touch it.

aiosqlite hands each call to the connection's thread; a hop costs some 80 µs, more than the statement itself. So whole
transactions are handed over as one function. That needs what aiosqlite keeps to itself: its queue, its connection, its
thread; this file is the only one that uses them, and says so at import if a later version has no such thing.

What must stay true: functions run one after the other, in the order in which ``run`` was called. A cancelled caller
does not stop its function. On a crash here: the thread dies with the process; it is a daemon thread, so that a
forgotten or hanging connection can't keep the process from ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import aiosqlite

from journal.errors import JournalError

T = TypeVar("T")

BUSY_TIMEOUT_S: Final = 5.0
"""How long SQLite waits for a stranger's lock (a person with the sqlite3 shell) before the journal gives up."""
CACHED_STATEMENTS: Final = 256

_never_started = aiosqlite.connect(":memory:")
_missing = [name for name in ("_connection", "_running", "_thread", "_tx") if not hasattr(_never_started, name)]
if _missing:
    raise ImportError(
        f"aiosqlite {aiosqlite.__version__} has no Connection.{_missing[0]}, which the journal needs to hand a whole "
        "batch to the connection's thread; install aiosqlite 0.22"
    )


class SqliteThread:
    """A connection and its thread. ``run`` is the only door."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, path: Path, *, read_only: bool) -> SqliteThread:
        """Connect to an existing file; raises sqlite3.Error. Autocommit: only explicit BEGINs begin a transaction."""
        uri = f"{path.as_uri()}?mode={'ro' if read_only else 'rw'}"
        connection = aiosqlite.connect(
            uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S, cached_statements=CACHED_STATEMENTS
        )
        connection._thread.daemon = True
        return cls(await connection)

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Call ``function(connection)`` on the thread, after all that was handed over before; its errors come back."""
        return await self.submit(function)

    def submit(self, function: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """As ``run``, without waiting. Whoever cancels the future only stops waiting. Raises JournalError when closed."""
        connection = self._connection
        raw = connection._connection
        if raw is None or not connection._running:
            raise JournalError("the journal is closed")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        connection._tx.put_nowait((future, partial(function, raw)))
        return future

    def interrupt(self) -> None:
        """Let the statement that runs now fail. Harmless when none does, or when it is closed."""
        raw = self._connection._connection
        if raw is not None:
            with contextlib.suppress(sqlite3.ProgrammingError):
                raw.interrupt()

    async def close(self, timeout_s: float) -> bool:
        """Close after all that was handed over before. False if that took longer than timeout_s: it is abandoned."""
        closing = asyncio.ensure_future(self._connection.close())
        done, _ = await asyncio.wait({closing}, timeout=timeout_s)
        if not done:
            closing.cancel()
            return False
        closing.result()
        return True
