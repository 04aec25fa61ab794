"""Schema versions: numbered SQL files that each bring a journal one version forward.

What must stay true: a migration that has once been released never changes; versions count 1, 2, 3 … without gaps; all
that are missing are applied in one transaction together with the new version number. On a crash here: the file keeps
its old version and the next start migrates again.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from journal.errors import JournalNewer, JournalNotFound

APPLICATION_ID: Final = 0x47524C54
"""'GRLT' in the file's header: marks a journal of ours."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One step forward: from version - 1 to version."""

    version: int
    name: str
    sql: str


def load_migrations(folder: Traversable) -> tuple[Migration, ...]:
    """The migrations of a folder, in order. Raises ValueError if their numbers have a gap."""
    found = []
    for item in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if item.name.endswith(".sql"):
            number, _, name = item.name.removesuffix(".sql").partition("_")
            found.append(Migration(int(number), name, item.read_text(encoding="utf-8")))
    if [step.version for step in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"migrations must be numbered 1, 2, 3 …, found {[step.version for step in found]}")
    return tuple(found)


MIGRATIONS: tuple[Migration, ...] = load_migrations(files("journal").joinpath("migrations"))


def statements(sql: str) -> list[str]:
    """Split a script at the semicolons that end a statement (not those within strings, comments or triggers)."""
    found = []
    pending = ""
    for line in sql.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            found.append(pending.strip())
            pending = ""
    return found


def version_of(connection: sqlite3.Connection, path: Path) -> int:
    """The file's schema version; 0 if it is empty. Raises JournalNotFound for a stranger's file, JournalNewer."""
    application_id = _number(connection, "PRAGMA application_id")
    version = _number(connection, "PRAGMA user_version")
    empty = not application_id and not version and not _number(connection, "SELECT count(*) FROM sqlite_schema")
    if empty:
        return 0
    if application_id != APPLICATION_ID:
        raise JournalNotFound(f"{path} is an SQLite database, but not a gridlatch journal")
    supported = MIGRATIONS[-1].version
    if version > supported:
        raise JournalNewer(path, version, supported)
    return version


def migrate(connection: sqlite3.Connection, version: int) -> bool:
    """Bring the file from ``version`` to the newest, in one transaction. Returns whether there was anything to do."""
    missing = MIGRATIONS[version:]
    if not missing:
        return False
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in missing:
            for statement in statements(step.sql):
                connection.execute(statement)
        if version == 0:
            connection.execute("INSERT INTO journal (id, identity) VALUES (1, ?)", (os.urandom(16),))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {missing[-1].version}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return True


def _number(connection: sqlite3.Connection, sql: str) -> int:
    return int(connection.execute(sql).fetchone()[0])
