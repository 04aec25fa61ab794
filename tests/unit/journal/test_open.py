"""Opening: one owner, known versions only, and nothing corrupt."""

# The loop has nothing else to do here: blocking on files and processes is harmless.
# ruff: noqa: ASYNC220, ASYNC240

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from importlib.resources import files
from pathlib import Path

import pytest

from journal import Head, Journal, JournalCorrupt, JournalError, JournalLocked, JournalNewer, JournalNotFound, schema
from journal.lock import OwnerLock
from journal.schema import Migration, load_migrations, statements

ROOT = Path(__file__).resolve().parents[3]

OWNER = """
import asyncio, sys
from pathlib import Path
from journal import Journal

async def main():
    await Journal.open(Path(sys.argv[1]))
    print("open", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_a_second_daemon_is_refused_until_the_first_is_gone(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, path], stdout=subprocess.PIPE, cwd=ROOT) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"open\n"
        with pytest.raises(JournalLocked, match=f"pid {owner.pid}") as refused:
            await Journal.open(path)
        assert refused.value.pid == owner.pid
        owner.kill()  # no clean-up by the owner: the kernel drops the lock
        owner.wait()
    await (await Journal.open(path)).close()


async def test_one_process_cannot_open_it_twice_not_even_by_another_name(path: Path, journal: Journal) -> None:
    alias = path.with_name("alias.db")
    alias.symlink_to(path)
    for name in (path, alias):
        with pytest.raises(JournalLocked, match=str(os.getpid())):
            await Journal.open(name)


def test_the_lock_is_given_free_though_the_disk_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(descriptor: int, size: int) -> None:
        raise OSError(5, "Input/output error")

    lock = OwnerLock(path)
    monkeypatch.setattr(os, "ftruncate", failing)
    lock.release()
    with pytest.raises(OSError, match="Input/output"):
        OwnerLock(path)
    monkeypatch.undo()
    OwnerLock(path).release()


async def test_a_lock_file_without_a_pid_still_gives_a_clear_error(path: Path, journal: Journal) -> None:
    path.with_name("journal.db.lock").write_text("")
    with pytest.raises(JournalLocked, match="another process"):
        await Journal.open(path)


async def test_a_missing_journal_is_only_made_when_asked(path: Path) -> None:
    with pytest.raises(JournalNotFound):
        await Journal.open(path, create=False)
    assert not path.exists()


async def test_a_folder_that_is_not_there_is_an_error_of_ours(path: Path) -> None:
    with pytest.raises(JournalError, match="can't be opened"):
        await Journal.open(path / "deeper" / "journal.db")


async def test_others_cannot_read_it(path: Path, journal: Journal) -> None:
    assert path.stat().st_mode & 0o007 == 0
    assert path.with_name("journal.db-wal").stat().st_mode & 0o007 == 0


async def test_a_strangers_database_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as stranger:
        stranger.execute("CREATE TABLE t (x)")
    before = path.read_bytes()
    with pytest.raises(JournalNotFound, match="not a gridlatch journal"):
        await Journal.open(path)
    assert path.read_bytes() == before


async def test_a_newer_schema_is_refused_unchanged(path: Path, head: Head) -> None:
    newer = schema.MIGRATIONS[-1].version + 1
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA user_version = {newer}")
    before = path.read_bytes()
    with pytest.raises(JournalNewer, match=f"version {newer}.*up to {newer - 1}") as refused:
        await Journal.open(path)
    assert (refused.value.found, refused.value.supported) == (newer, newer - 1)
    assert path.read_bytes() == before


async def test_rubbish_is_corrupt(path: Path) -> None:
    path.write_bytes(b"rubbish" * 1_000)
    with pytest.raises(JournalCorrupt, match="not a database"):
        await Journal.open(path)


async def test_a_refused_journal_is_free_again(path: Path) -> None:
    path.write_bytes(b"rubbish" * 1_000)
    for _ in range(2):
        with pytest.raises(JournalCorrupt):
            await Journal.open(path)


async def test_a_damaged_page_is_found_at_the_start(path: Path, head: Head) -> None:
    with closing(sqlite3.connect(path)) as connection:
        root, size = connection.execute(
            "SELECT rootpage, (SELECT page_size FROM pragma_page_size) FROM sqlite_schema WHERE name = 'instances'"
        ).fetchone()
    content = bytearray(path.read_bytes())
    content[(root - 1) * size : root * size] = os.urandom(size)
    path.write_bytes(content)
    with pytest.raises(JournalCorrupt):
        await Journal.open(path)


@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        ("UPDATE records SET payload = x'00' WHERE seq = 29", "batch 10: its content differs"),
        ("DELETE FROM records WHERE seq = 30", "batch 10: 2 records of 3"),
        ("DELETE FROM batches WHERE batch = 10", "records from 28 on belong to no batch"),
        ("UPDATE batches SET prev_hash = zeroblob(32) WHERE batch = 9", "batch 9: it does not continue"),
        ("DELETE FROM journal", "lost its identity"),
    ],
)
async def test_a_contradiction_in_the_tail_is_found_at_the_start(
    path: Path, head: Head, tamper: str, says: str
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(tamper)
    with pytest.raises(JournalCorrupt, match=says):
        await Journal.open(path)


async def test_a_crash_during_creation_leaves_a_file_that_can_still_become_a_journal(path: Path) -> None:
    path.touch()
    journal = await Journal.open(path)
    assert journal.head().batch == 0
    await journal.close()


async def test_a_damaged_schema_is_named_although_sqlites_complaint_is_no_text(path: Path, head: Head) -> None:
    content = path.read_bytes()
    at = content.index(b"CHECK (prev >= 0") + len(b"CHECK (")
    path.write_bytes(content[:at] + b"\xb0" + content[at + 1 :])
    with pytest.raises(JournalCorrupt, match="schema"):
        await Journal.open(path)


async def test_a_new_journals_identity_does_not_depend_on_the_wal(path: Path) -> None:
    journal = await Journal.open(path)
    copy = path.with_name("copy.db")
    copy.write_bytes(path.read_bytes())
    again = await Journal.open(copy)
    assert again.head() == journal.head()
    await again.close()
    await journal.close()


async def test_two_journals_have_different_beginnings(path: Path, journal: Journal) -> None:
    other = await Journal.open(path.with_name("other.db"))
    assert other.head().hash_hex != journal.head().hash_hex
    await other.close()


NEXT = Migration(
    schema.MIGRATIONS[-1].version + 1,
    "extra",
    "-- one more; of two statements\nCREATE TABLE extra (\n  x TEXT\n) STRICT;\nINSERT INTO extra VALUES ('a;b');\n",
)


async def test_an_older_journal_is_migrated_and_keeps_its_content(path: Path, head: Head, monkeypatch) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, NEXT))
    journal = await Journal.open(path)
    assert journal.head() == head
    assert (await journal.verify()).ok
    await journal.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (NEXT.version,)
        assert connection.execute("SELECT x FROM extra").fetchall() == [("a;b",)]
    monkeypatch.undo()
    with pytest.raises(JournalNewer):
        await Journal.open(path)


async def test_a_failing_migration_changes_nothing(path: Path, head: Head, monkeypatch) -> None:
    broken = Migration(NEXT.version, "broken", NEXT.sql + "INSERT INTO nowhere VALUES (1);\n")
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, broken))
    with pytest.raises(JournalError, match="nowhere"):
        await Journal.open(path)
    monkeypatch.undo()
    journal = await Journal.open(path)
    assert journal.head() == head
    await journal.close()
    with closing(sqlite3.connect(path)) as connection:
        assert not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'extra'").fetchall()


def test_the_migrations_lead_to_the_schema_as_written() -> None:
    def tables(sql: list[str]) -> list[tuple[str, ...]]:
        with closing(sqlite3.connect(":memory:")) as connection:
            for statement in sql:
                connection.execute(statement)
            return connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name").fetchall()

    migrated = tables([statement for step in schema.MIGRATIONS for statement in statements(step.sql)])
    assert migrated == tables(statements(files("journal").joinpath("schema.sql").read_text()))
    assert all("STRICT" in row[2] for row in migrated if row[0] == "table")


def test_migrations_with_a_gap_are_a_defect(tmp_path: Path) -> None:
    (tmp_path / "0001_a.sql").write_text("SELECT 1;")
    (tmp_path / "0003_c.sql").write_text("SELECT 1;")
    with pytest.raises(ValueError, match="numbered"):
        load_migrations(tmp_path)


def test_a_forgotten_close_does_not_keep_the_process_alive(path: Path) -> None:
    forget = OWNER.replace("await asyncio.sleep(60)", "pass")
    subprocess.run([sys.executable, "-W", "ignore", "-c", forget, path], cwd=ROOT, timeout=20, check=True)
    asyncio.run(_open_and_close(path))


def test_a_stuck_disk_does_not_keep_the_process_alive(path: Path) -> None:
    stuck = OWNER.replace(
        "    await Journal.open(Path(sys.argv[1]))",
        "    import time\n    journal = await Journal.open(Path(sys.argv[1]))\n"
        "    stuck = asyncio.create_task(journal._write.run(lambda _: time.sleep(300)))",
    ).replace("asyncio.sleep(60)", "asyncio.sleep(0.05)")
    subprocess.run([sys.executable, "-W", "ignore", "-c", stuck, path], cwd=ROOT, timeout=30, check=True)


async def _open_and_close(path: Path) -> None:
    await (await Journal.open(path)).close()
