"""A journal file, or a copy of one, read from outside: while a daemon writes it, or without any.

What must stay true: nothing is written and no lock of the owner is needed; what belongs together (an instance's row and
its records) is read in one transaction, hence of one moment; each read is short, so that it keeps no checkpoint from
happening. A crash here changes nothing.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from journal import cuts, reader, schema
from journal.errors import JournalCorrupt, JournalError, JournalNotFound, JournalReadError
from journal.rows import Archived, Head, InstanceTuple, Note, Records, RecordTuple


def connect_read_only(path: Path, *, immutable: bool = False) -> sqlite3.Connection:
    """A connection that can only read; ``path`` is resolved already. Raises sqlite3.Error.

    immutable: nobody writes the file, and no files are made beside it.

    Raises JournalNotFound (no file, or a stranger's), JournalNewer.
    """
    if not path.is_file():
        raise JournalNotFound(f"{path} does not exist")
    uri = f"{path.as_uri()}?mode=ro"
    if immutable or (not os.access(path.parent, os.W_OK) and not path.with_name(path.name + "-wal").exists()):
        uri += "&immutable=1"  # a copy on read-only media: SQLite could make no lock files there
    connection = sqlite3.connect(uri, uri=True, isolation_level=None)
    try:
        if schema.version_of(connection, path) == 0:
            raise JournalNotFound(f"{path} is empty")
    except BaseException:
        connection.close()
        raise
    return connection


class JournalFile:
    """An open file. Make one by ``with JournalFile.open(path) as file``."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path) -> Iterator[JournalFile]:
        """Open for the time of a ``with``.

        Raises JournalNotFound, JournalNewer, JournalError (of an older version), JournalCorrupt (no database).
        """
        path = path.resolve()
        with contextlib.ExitStack() as undo:
            try:
                connection = undo.enter_context(closing(connect_read_only(path)))
                version = schema.version_of(connection, path)
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the latter: a complaint that quotes damage
                raise JournalCorrupt(f"{path}: {error}") from error
            newest = schema.MIGRATIONS[-1].version
            if version < newest:
                raise JournalError(
                    f"{path} has schema version {version}, and can be read from {newest} on: let the daemon of this "
                    "version open it (or a copy of it) once"
                )
            yield cls(path, connection)

    def instances(
        self,
        *,
        kind: str | None = None,
        name: str | None = None,
        statuses: Sequence[str] | None = None,
        prefix: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[InstanceTuple]:
        """Rows in the order of instance id, at most limit (and 10,000), those after the id ``after``."""
        with self._moment():
            return reader.instance_rows(self._connection, kind, name, statuses, prefix, None, None, limit, after)

    def instance(self, instance: str) -> tuple[InstanceTuple, Records] | None:
        """The row of one instance and its records since the row's first_seq, of one moment; None if it is unknown.

        Raises JournalCorrupt if its records are not linked as they should be.
        """
        with self._moment():
            row = reader.instance_row(self._connection, instance)
            if row is None:
                return None
            # An instance whose start has not been handled yet has no record of its own.
            return row, reader.history(self._connection, instance, row[7]) if row[7] else Records()

    def head(self) -> Head:
        """Where the chain ends now."""
        with self._moment():
            return reader.head(self._connection)

    def identity(self) -> bytes:
        """Who this journal is: 16 random bytes."""
        with self._moment():
            return reader.identity(self._connection)

    def records(self, after_seq: int, up_to_seq: int, limit: int = 1_000) -> list[RecordTuple]:
        """Records of all instances after a sequence number, none after up_to_seq, oldest first, at most limit."""
        with self._moment():
            return reader.records(self._connection, after_seq, up_to_seq, limit, None)

    def latest(self, instance: str, limit: int = 1_000) -> Records:
        """The last records of one instance, newest first. Raises JournalCorrupt if the links between them are broken."""
        with self._moment():
            return reader.latest(self._connection, instance, limit, None)

    def archives(self) -> list[Archived]:
        """The parts of the log that are in archives, oldest first."""
        with self._moment():
            return cuts.archives(self._connection)

    def notes(self, after_batch: int = 0, limit: int = 1_000) -> list[Note]:
        """What the journal says of itself, oldest first, after a batch."""
        with self._moment():
            return cuts.notes(self._connection, after_batch, limit)

    @contextlib.contextmanager
    def _moment(self) -> Iterator[None]:
        try:
            self._connection.execute("BEGIN")
            yield
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            raise JournalReadError(f"{self.path}: {error}") from error
        finally:
            if self._connection.in_transaction:
                with contextlib.suppress(sqlite3.DatabaseError):  # it only read: what failed is being told already
                    self._connection.execute("COMMIT")
