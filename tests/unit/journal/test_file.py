"""A journal read from outside: beside the daemon that writes it, without one, as a copy; and never anything but read."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from journal import Head, Journal, JournalCorrupt, JournalError, JournalFile, JournalNewer, JournalNotFound

from .conftest import Scribe


async def test_it_is_read_while_its_owner_writes_it(journal: Journal, scribe: Scribe, path: Path) -> None:
    batch = scribe.batch(("shed", "turn"), ("@breaker@1", "operations"), ("shed", "turn"))
    batch.instances["shed"] = Scribe.orchestration("shed")
    await journal.commit(batch)
    with JournalFile.open(path) as file:
        found = file.instance("shed")
        assert found is not None
        assert [record[0] for record in found[1]] == [1, 3]
        await journal.commit(scribe.batch(("shed", "turn")))
        found = file.instance("shed")
        assert found is not None
        assert len(found[1]) == 3, "each read sees what is committed by then, and holds nothing up"


async def test_a_row_comes_with_the_records_from_its_first_one_on(journal: Journal, scribe: Scribe, path: Path) -> None:
    batch = scribe.batch(("shed", "turn"), ("shed", "turn"), ("shed", "turn"))
    batch.instances["shed"] = Scribe.orchestration("shed", first_seq=2)
    batch.instances["asked"] = Scribe.orchestration("asked", first_seq=0)
    await journal.commit(batch)
    with JournalFile.open(path) as file:
        found = file.instance("shed")
        assert found is not None
        assert [record[0] for record in found[1]] == [2, 3], "what is from an earlier execution is not its history"
        asked = file.instance("asked")
        assert asked is not None
        assert asked[1] == []
        assert file.instance("nobody") is None


async def test_instances_are_listed_by_kind_and_status(journal: Journal, scribe: Scribe, path: Path) -> None:
    batch = scribe.batch(("a", "turn"))
    batch.instances |= {
        "a": Scribe.orchestration("a"),
        "b": Scribe.orchestration("b", "Completed"),
        "@breaker@1": Scribe.entity("@breaker@1"),
    }
    await journal.commit(batch)
    with JournalFile.open(path) as file:
        assert [row[0] for row in file.instances(kind="orchestration")] == ["a", "b"]
        assert [row[0] for row in file.instances(kind="orchestration", after="a")] == ["b"]
        assert [row[0] for row in file.instances(statuses=["Completed"])] == ["b"]


def test_a_copy_is_read_and_not_changed(head: Head, path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy" / "journal.db"
    copy.parent.mkdir()
    shutil.copy(path, copy)
    before = copy.read_bytes()
    with JournalFile.open(copy) as file:
        found = file.instance("plan")
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            file._connection.execute("DELETE FROM records")
    assert found is not None
    assert len(found[1]) == 20
    assert copy.read_bytes() == before


def test_what_is_no_journal_of_this_version_is_said(head: Head, path: Path, tmp_path: Path) -> None:
    with pytest.raises(JournalNotFound, match="does not exist"), JournalFile.open(tmp_path / "none.db"):
        pass
    text = tmp_path / "text.db"
    text.write_text("no database " * 100)
    with pytest.raises(JournalCorrupt), JournalFile.open(text):
        pass
    with closing(sqlite3.connect(path)) as connection:
        newest = connection.execute("PRAGMA user_version").fetchone()[0]
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(JournalNewer), JournalFile.open(path):
        pass
    if newest > 1:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA user_version = 1")
        with pytest.raises(JournalError, match="let the daemon"), JournalFile.open(path):
            pass


def test_broken_links_never_pass_for_a_shorter_history(head: Head, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE records SET prev = 29 WHERE seq = 30")
        connection.commit()
    with JournalFile.open(path) as file, pytest.raises(JournalCorrupt, match="plan"):
        file.instance("plan")


async def test_the_last_records_come_newest_first_and_go_on_from_any(journal: Journal, scribe: Scribe) -> None:
    for _ in range(3):
        await journal.commit(scribe.batch(("a", "turn"), ("b", "turn")))
    assert [record[0] for record in await journal.latest("a", 2)] == [5, 3]
    assert [record[0] for record in await journal.latest("a", 2, before_seq=3)] == [1]
    assert await journal.latest("a", 2, before_seq=1) == []
    assert await journal.latest("nobody") == []


async def test_broken_links_are_said_when_read_backwards(journal: Journal, scribe: Scribe, path: Path) -> None:
    for _ in range(3):
        await journal.commit(scribe.batch(("a", "turn"), ("b", "turn")))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE records SET prev = 4 WHERE seq = 5")
        connection.commit()
    with pytest.raises(JournalCorrupt, match="the records of a"):
        await journal.latest("a")
