"""A journal looked at from outside: figures, check and copy of what lies there, and not a byte of it changed."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from journal import (
    BackupFailed,
    Journal,
    JournalCorrupt,
    JournalError,
    JournalNotFound,
    JournalTailLost,
    MarkFound,
    backup_file,
    check_file,
    look,
    verify_file,
)


def batch(seq: int) -> Any:
    empty = {name: [] for name in ("instances_removed", "messages_added", "messages_removed", "timers_added")}
    empty |= {name: [] for name in ("timers_removed", "activities_added", "activities_removed")}
    record = (seq, "i", "k", seq, b"{}" * 300)
    return SimpleNamespace(records=[record], instances={}, time_us=seq, last_message_id=0, **empty)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of 40 batches."""
    made = tmp_path / "state" / "journal.db"
    made.parent.mkdir()

    async def write() -> None:
        journal = await Journal.open(made)
        for seq in range(1, 41):
            await journal.commit(batch(seq))
        await journal.close()

    asyncio.run(write())
    return made


def test_its_figures_are_those_of_a_start(path: Path) -> None:
    found = look(path)
    assert (found.head.batch, found.marked_batch, found.mark_found) == (40, 40, MarkFound.HELD)
    assert (found.file_bytes, found.wal_bytes, found.archived_batches) == (path.stat().st_size, 0, 0)


def test_what_is_not_there_or_no_journal_is_told(path: Path, tmp_path: Path) -> None:
    for work in (look, check_file):
        with pytest.raises(JournalNotFound):
            work(tmp_path / "none.db")
    (tmp_path / "text.db").write_text("no database, but long enough to be read as one\n" * 9)
    with pytest.raises(JournalError, match="not a database"):
        look(tmp_path / "text.db")
    path.unlink()
    with pytest.raises(JournalTailLost, match="is gone or empty"):
        look(path)


def test_a_sound_file_has_no_complaints_and_a_damaged_one_has(path: Path) -> None:
    assert check_file(path) == []
    with sqlite3.connect(path) as connection:
        pages, size = (connection.execute(f"PRAGMA {one}").fetchone()[0] for one in ("page_count", "page_size"))
    content = bytearray(path.read_bytes())
    content[(pages - 2) * size : (pages - 2) * size + 12] = b"\xff" * 12
    path.write_bytes(content)
    try:
        complaints = check_file(path)
    except JournalCorrupt as error:
        complaints = [str(error)]
    assert complaints


def test_a_copy_is_whole_and_has_a_mark_and_nothing_is_overwritten(path: Path, tmp_path: Path) -> None:
    assert backup_file(path, tmp_path / "copy.db") == look(path).head
    assert verify_file(tmp_path / "copy.db").batches == 40
    assert look(tmp_path / "copy.db").mark_found is MarkFound.HELD
    with pytest.raises(BackupFailed, match="nothing is overwritten"):
        backup_file(path, tmp_path / "copy.db")
    with pytest.raises(BackupFailed, match="can't be written"):
        backup_file(path, tmp_path / "none" / "copy.db")
    assert sorted(one.name for one in tmp_path.glob("*.part*")) == []


def test_an_owner_that_writes_meanwhile_is_not_disturbed_and_no_trouble(path: Path, tmp_path: Path) -> None:
    async def beside() -> None:
        journal = await Journal.open(path)
        writing = True

        async def write() -> int:
            seq = 40
            while writing:
                seq += 1
                await journal.commit(batch(seq))
            return seq

        task = asyncio.create_task(write())
        for number in range(5):
            assert (await asyncio.to_thread(look, path)).head.batch >= 40
            await asyncio.to_thread(backup_file, path, tmp_path / f"copy{number}.db")
            assert await asyncio.to_thread(check_file, path) == []
        writing = False
        last = await task
        await journal.close()
        assert verify_file(path).batches == last

    asyncio.run(asyncio.wait_for(beside(), 60))
    assert all(verify_file(one).ok for one in tmp_path.glob("copy?.db"))


def test_a_copy_on_a_medium_that_can_only_be_read_is_read(path: Path, tmp_path: Path) -> None:
    shutil.copy(path, tmp_path / "alone.db")
    assert look(tmp_path / "alone.db").mark_found is MarkFound.NONE
