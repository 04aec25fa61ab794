"""A VFS for SQLite, in Python, whose power can be cut at any call: what was not flushed is then lost, kept or torn.

What must stay true: SQLite reads back what it wrote, as it does through a page cache; the model of the disk (see
crash_states.py) is told of each write, change of size, flush and removal, and once the power is off nothing goes through
any more. SQLite's own VFS flushes the folder when a new log or rollback journal is first flushed; so does this one.
The shared memory of the WAL is no file here.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import apsw
from crash.storage.crash_states import Disk, Entry, Operation, State

FOLDER_FILE = 1
"""The number under which the model knows the folder."""
NEW_LOG = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL


class Power:
    """Of one disk: counts the calls that change something, and goes off at one of them."""

    def __init__(self, folder: Path, state: State, off_at: int) -> None:
        self.folder = folder
        self.disk = Disk(folder)
        self.off_at = off_at
        self.calls = 0
        self._files = FOLDER_FILE
        self.disk.take(Entry(Operation.OPENED, FOLDER_FILE, os.O_RDONLY, os.fsencode(folder)))
        for name, content in state.items():
            file = self.opened(folder / name)
            self.disk.take(Entry(Operation.WRITTEN, file, 0, content))
            self.disk.take(Entry(Operation.FLUSHED, file, 0, b""))
        self.flush_folder()

    @property
    def off(self) -> bool:
        return self.calls >= self.off_at

    def use(self) -> None:
        """One call that changes something; fails when the power is off."""
        if self.off:
            raise apsw.IOError("the power is off")
        self.calls += 1

    def opened(self, path: Path) -> int:
        """A number for an opened file."""
        self._files += 1
        self.disk.take(Entry(Operation.OPENED, self._files, os.O_CREAT, os.fsencode(path)))
        return self._files

    def flush_folder(self) -> None:
        self.disk.take(Entry(Operation.FLUSHED, FOLDER_FILE, 0, b""))

    def left(self, dice: random.Random) -> State:
        """What is on the disk now, as far as chance decides."""
        return dice.choice((self.disk.nothing_more, self.disk.everything, *[lambda: self.disk.any_state(dice)] * 4))()


class PoweredFile(apsw.VFSFile):
    """One file that SQLite opened."""

    def __init__(self, name: str | apsw.URIFilename, flags: list[int], power: Power) -> None:
        path = name if isinstance(name, str) else name.filename()
        self._new_log = bool(flags[0] & NEW_LOG) and not Path(path).exists()
        super().__init__("", name, flags)
        self._power = power
        self._file = power.opened(Path(path))

    def xWrite(self, data: bytes, offset: int) -> None:
        self._power.use()
        super().xWrite(data, offset)
        self._power.disk.take(Entry(Operation.WRITTEN, self._file, offset, bytes(data)))

    def xTruncate(self, size: int) -> None:
        self._power.use()
        super().xTruncate(size)
        self._power.disk.take(Entry(Operation.TRUNCATED, self._file, size, b""))

    def xSync(self, flags: int) -> None:
        self._power.use()
        super().xSync(flags)
        self._power.disk.take(Entry(Operation.FLUSHED, self._file, 0, b""))
        if self._new_log:
            self._new_log = False
            self._power.flush_folder()


class PoweredVFS(apsw.VFS):
    """All files of one connection. Keep it as long as the connection."""

    def __init__(self, name: str, power: Power) -> None:
        self._power = power
        super().__init__(name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        assert name is not None, "no temporary files are expected"
        return PoweredFile(name, flags, self._power)

    def xDelete(self, name: str, sync_folder: bool) -> None:
        self._power.use()
        super().xDelete(name, sync_folder)
        self._power.disk.take(Entry(Operation.REMOVED, 0, 0, os.fsencode(name)))
        if sync_folder:
            self._power.flush_folder()


class LikeSqlite3:
    """An apsw connection with what the journal uses of sqlite3's: ``execute``, ``in_transaction``, its errors."""

    def __init__(self, path: Path, vfs: str) -> None:
        self._connection = apsw.Connection(str(path), vfs=vfs, flags=apsw.SQLITE_OPEN_READWRITE)

    def execute(self, sql: str, values: Sequence[object] = ()) -> LikeRows:
        try:
            # All rows at once, as the statements here give few; so a statement never stays open.
            return LikeRows(self._connection.execute(sql, values).fetchall())  # type: ignore[arg-type]
        except apsw.Error as error:
            raise sqlite3.OperationalError(f"{type(error).__name__}: {error}") from error

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def close(self) -> None:
        """Closing would checkpoint; without power it can't."""
        with contextlib.suppress(apsw.Error):
            self._connection.close(True)


class LikeRows:
    """The rows of one statement."""

    def __init__(self, rows: list[tuple[object, ...]]) -> None:
        self._rows = rows

    def fetchall(self) -> list[tuple[object, ...]]:
        return self._rows

    def fetchone(self) -> tuple[object, ...] | None:
        return self._rows[0] if self._rows else None

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self._rows)
