"""Backup while it runs, restore on a clean host, compaction, SQLite's own check, figures."""

# The loop has nothing else to do here: blocking on files is harmless.
# ruff: noqa: ASYNC240

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from journal import (
    BackupFailed,
    Head,
    Journal,
    JournalCorrupt,
    JournalError,
    JournalFile,
    JournalLocked,
    JournalTailLost,
    accept_loss,
    compact,
    copying,
    offline,
    restore,
    verify_file,
)
from journal.mark import MarkFile, MarkFound, mark_path, read_mark


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "copies").mkdir()
    return tmp_path / "copies" / "backup.db"


def no_room(_: object) -> SimpleNamespace:
    return SimpleNamespace(f_bavail=10, f_frsize=4096)


async def test_a_backup_is_a_whole_journal_with_its_own_mark(journal: Journal, scribe, target: Path) -> None:
    batch = scribe.batch(("plan", "TimerFired"))
    batch.instances["plan"] = scribe.orchestration("plan")
    await journal.commit(batch)
    head = await journal.backup(target)
    assert head == journal.head()
    assert sorted(file.name for file in target.parent.iterdir()) == ["backup.db", "backup.db.mark"]
    assert verify_file(target, expect=head).ok
    found, mark = read_mark(target)
    assert found is MarkFound.HELD
    assert mark is not None
    assert mark.head == head
    assert target.stat().st_mode & 0o007 == 0
    copy = await Journal.open(target)
    assert copy.stats.mark_found == "held"
    assert copy.head() == head
    assert [row[0] for row in (await copy.recover()).instances] == ["plan"]
    await copy.close()


async def test_commits_go_on_during_a_backup_and_it_is_of_one_batch(
    journal: Journal, scribe, target: Path, monkeypatch
) -> None:
    """Many steps, a commit between any two of them: without a moment held fast the copying would never end."""
    monkeypatch.setattr(copying, "PAGES_AT_ONCE", 2)
    for number in range(30):
        batch = scribe.batch(*[("plan", "TimerFired")] * 10, payload=b"x" * 1_000)
        batch.instances["plan"] = scribe.entity("plan", b"%d" % (number + 1))
        await journal.commit(batch)
    before = journal.head()
    backing_up = asyncio.create_task(journal.backup(target))
    while not backing_up.done():
        batch = scribe.batch(("plan", "TimerFired"))
        batch.instances["plan"] = scribe.entity("plan", b"%d" % (journal.head().batch + 1))
        await journal.commit(batch)
    head = await backing_up
    assert before.batch <= head.batch < journal.head().batch
    assert verify_file(target, expect=head).ok
    copy = await Journal.open(target)
    row = await copy.instance("plan")
    assert row is not None
    assert row[8] == b"%d" % head.batch, "projections and chain are of the same moment"
    await copy.close()


async def test_a_backup_overwrites_nothing(journal: Journal, target: Path) -> None:
    for name in ("backup.db", "backup.db-wal", "backup.db.mark"):
        in_the_way = target.with_name(name)
        in_the_way.write_text("precious")
        with pytest.raises(BackupFailed, match="exists already"):
            await journal.backup(target)
        assert in_the_way.read_text() == "precious"
        in_the_way.unlink()
    await journal.backup(target)
    with pytest.raises(BackupFailed, match="exists already"):
        await journal.backup(target)


async def test_a_backup_without_room_or_folder_leaves_nothing(
    journal: Journal, scribe, target: Path, monkeypatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr(os, "statvfs", no_room)
        with pytest.raises(BackupFailed, match="0 MiB free, 16 MiB are needed"):
            await journal.backup(target)
    assert not list(target.parent.iterdir())
    with pytest.raises(BackupFailed, match="can't be written"):
        await journal.backup(target.parent / "nowhere" / "backup.db")
    await journal.commit(scribe.batch(("plan", "TimerFired")))


async def test_a_damaged_journal_makes_no_backup(journal: Journal, scribe, target: Path) -> None:
    await journal.commit(scribe.batch(("plan", "TimerFired")))
    await journal._write.run(lambda connection: connection.execute("UPDATE records SET kind = 'x'"))
    with pytest.raises(JournalCorrupt, match="batch 1: its content differs"):
        await journal.backup(target)
    assert not list(target.parent.iterdir())


async def test_what_an_interrupted_backup_left_is_in_nobodys_way(journal: Journal, target: Path) -> None:
    for suffix in (".part", ".part-wal", ".part.mark"):
        target.with_name(target.name + suffix).write_text("half")
    await journal.backup(target)
    assert sorted(file.name for file in target.parent.iterdir()) == ["backup.db", "backup.db.mark"]


async def test_a_backup_can_be_given_up(journal: Journal, scribe, target: Path, monkeypatch) -> None:
    monkeypatch.setattr(copying, "PAGES_AT_ONCE", 1)
    monkeypatch.setattr(copying, "PAUSE_S", 0.02)
    await journal.commit(scribe.batch(*[("plan", "TimerFired")] * 100, payload=b"x" * 4_000))
    backing_up = asyncio.create_task(journal.backup(target))
    await asyncio.sleep(0.1)
    backing_up.cancel()
    await asyncio.wait({backing_up})
    assert not list(target.parent.iterdir())
    await journal.commit(scribe.batch(("plan", "TimerFired")))
    closing_now = asyncio.create_task(journal.backup(target))
    await asyncio.sleep(0.1)
    await journal.close()
    with pytest.raises(JournalError):
        await closing_now
    assert not list(target.parent.iterdir())


async def test_a_backup_of_a_cut_journal_knows_its_archives(
    journal: Journal, scribe, target: Path, tmp_path: Path
) -> None:
    for _ in range(6):
        await journal.commit(scribe.batch(("plan", "TimerFired")))
    archived = await journal.archive(scribe.time_us - 2, tmp_path / "archives")
    assert archived is not None
    head = await journal.backup(target)
    result = verify_file(target, archives=tmp_path / "archives")
    assert (result.ok, result.head, result.records) == (True, head, 6)


async def test_restored_on_a_clean_host_it_goes_on(path: Path, head: Head, target: Path, tmp_path: Path) -> None:
    journal = await Journal.open(path)
    taken = await journal.backup(target)
    await journal.close()
    host = tmp_path / "host"
    host.mkdir()
    restored = restore(target, host / "journal.db", time_us=5_000_000, by="anna")
    assert restored.batch == taken.batch + 1
    assert restored.seq == taken.seq
    journal = await Journal.open(host / "journal.db")
    assert journal.head() == restored
    assert journal.stats.mark_found == "held"
    (note,) = await journal.notes()
    assert (note.kind, note.time_us) == ("restored", 5_000_000)
    assert b'"by": "anna"' in note.payload
    assert taken.hash_hex.encode() in note.payload
    assert (await journal.verify(expect=taken)).ok
    assert (await journal.recover()).last_seq == taken.seq, "the next record is the one that would have been next"
    await journal.close()
    assert not [file for file in host.iterdir() if ".part" in file.name]


async def test_a_restore_overwrites_nothing_and_needs_no_daemon_there(path: Path, head: Head, target: Path) -> None:
    journal = await Journal.open(path)
    await journal.backup(target)
    with pytest.raises(JournalLocked):
        restore(target, path)
    await journal.close()
    before = path.read_bytes()
    with pytest.raises(BackupFailed, match="exists already"):
        restore(target, path)
    path.unlink()
    with pytest.raises(BackupFailed, match=r"journal\.db\.mark exists already"):
        restore(target, path)
    path.write_bytes(before)


async def test_a_damaged_backup_is_not_restored(path: Path, head: Head, target: Path, tmp_path: Path) -> None:
    journal = await Journal.open(path)
    await journal.backup(target)
    await journal.close()
    whole = target.read_bytes()
    clean = tmp_path / "clean.db"
    with closing(sqlite3.connect(target, isolation_level=None)) as connection:
        connection.execute("UPDATE records SET payload = x'00' WHERE seq = 1")
    with pytest.raises(JournalCorrupt, match="batch 1: its content differs"):
        restore(target, clean)
    target.write_bytes(whole)
    with closing(sqlite3.connect(target, isolation_level=None)) as connection:
        connection.execute("DELETE FROM records WHERE seq > 24")
        connection.execute("DELETE FROM batches WHERE batch > 8")
    with pytest.raises(JournalTailLost, match="2 batches with 6 records are missing"):
        restore(target, clean)
    assert not clean.exists()
    assert not mark_path(clean).exists()


async def test_a_plain_copy_with_its_wal_can_be_restored(path: Path, scribe, tmp_path: Path) -> None:
    journal = await Journal.open(path)
    await journal.commit(scribe.batch(("plan", "TimerFired")))
    plain = tmp_path / "plain.db"
    shutil.copy(path, plain)
    shutil.copy(path.with_name("journal.db-wal"), tmp_path / "plain.db-wal")
    head = journal.head()
    await journal.close()
    assert restore(plain, tmp_path / "clean.db").seq == head.seq
    assert verify_file(tmp_path / "clean.db", expect=head).ok


async def large(path: Path, scribe, folder: Path) -> Head:
    """A closed journal with much room in it that was archived away."""
    journal = await Journal.open(path)
    for _ in range(20):
        await journal.commit(scribe.batch(*[("plan", "TimerFired")] * 10, payload=b"x" * 1_000))
    assert await journal.archive(scribe.time_us - 5, folder) is not None
    await journal.close()
    return journal.head()


async def test_a_copy_whose_mark_cannot_be_made_leaves_nothing_and_is_in_nobodys_way(
    path: Path, scribe, tmp_path: Path
) -> None:
    head = await large(path, scribe, tmp_path / "archives")
    target = tmp_path / "clean" / "journal.db"
    target.parent.mkdir()
    blocks = target.with_name("journal.db.mark.new")
    blocks.mkdir()
    with pytest.raises(BackupFailed, match="mark can't be made"):
        restore(path, target)
    journal = await Journal.open(path)
    with pytest.raises(BackupFailed, match="mark can't be made"):
        await journal.backup(target)
    blocks.rmdir()
    assert [file.name for file in target.parent.iterdir() if file.suffix != ".lock"] == []
    assert await journal.backup(target) == head
    await journal.close()


def test_what_root_opens_beside_a_journal_follows_no_link(tmp_path: Path) -> None:
    """The folder is the daemon's; a link there must not lead root to a file of its own."""
    other = tmp_path / "shadow"
    other.write_text("root's")
    for name, act in (("journal.db.lock", accept_loss), ("journal.db.lock", compact)):
        tmp_path.joinpath(name).symlink_to(other)
        with pytest.raises((JournalError, OSError), match="symbolic links"):
            act(tmp_path / "journal.db")
        tmp_path.joinpath(name).unlink()
    assert other.read_text() == "root's"


async def test_compacting_gives_the_room_back(path: Path, scribe, tmp_path: Path) -> None:
    head = await large(path, scribe, tmp_path / "archives")
    before = path.stat()
    done = compact(path)
    assert done.bytes_before == before.st_size
    assert done.bytes_after == path.stat().st_size < before.st_size / 3
    assert path.stat().st_mode == before.st_mode
    assert verify_file(path, expect=head, archives=tmp_path / "archives").ok
    journal = await Journal.open(path)
    assert (journal.head(), journal.stats.mark_found) == (head, "held")
    assert journal.stats.free_bytes == 0
    await journal.commit(scribe.batch(("plan", "TimerFired")))
    assert len(await journal.latest("plan")) == 11
    await journal.close()
    assert not [file for file in path.parent.iterdir() if ".compact" in file.name]


async def test_compacting_needs_room_and_no_daemon(path: Path, scribe, tmp_path: Path, monkeypatch) -> None:
    await large(path, scribe, tmp_path / "archives")
    before = path.read_bytes()
    with monkeypatch.context() as full:
        full.setattr(os, "statvfs", no_room)
        with pytest.raises(BackupFailed, match="are needed for a copy"):
            compact(path)
    assert path.read_bytes() == before
    journal = await Journal.open(path)
    begun = path.with_name("journal.db.compact")
    begun.write_bytes(b"of another compact, which is under way")
    with pytest.raises(JournalLocked):
        compact(path)
    assert begun.exists()
    await journal.close()


async def test_compacting_refuses_what_is_not_whole(path: Path, scribe, tmp_path: Path) -> None:
    await large(path, scribe, tmp_path / "archives")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE records SET kind = 'x' WHERE seq = 200")
    before = path.read_bytes()
    with pytest.raises(JournalCorrupt):
        compact(path)
    assert path.read_bytes() == before
    mark_path(path).rename(path.with_name("aside"))
    other = path.with_name("other.db")
    await (await Journal.open(other)).close()
    shutil.copy(mark_path(other), mark_path(path))
    shutil.copy(other, path)
    shutil.copy(path.with_name("aside"), mark_path(path))
    with pytest.raises(JournalTailLost):
        compact(path)


async def test_a_crash_while_compacting_leaves_the_old_file(path: Path, scribe, tmp_path: Path, monkeypatch) -> None:
    head = await large(path, scribe, tmp_path / "archives")
    path.with_name("journal.db.compact").write_bytes(b"half")

    def pulled(_: Path, __: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as crash:
        crash.setattr(Path, "replace", pulled)
        with pytest.raises(KeyboardInterrupt):
            compact(path)
    assert verify_file(path, expect=head).ok
    assert compact(path).bytes_after == path.stat().st_size


async def test_the_full_check_finds_nothing_in_a_sound_file(journal: Journal, scribe) -> None:
    await journal.commit(scribe.batch(("plan", "TimerFired")))
    assert await journal.check() == []


async def test_the_full_check_finds_a_damaged_index_beside_commits(path: Path, scribe) -> None:
    journal = await Journal.open(path)
    batch = scribe.batch(("plan", "TimerFired"))
    batch.instances["plan"] = scribe.orchestration("plan")
    await journal.commit(batch)

    def damage(connection: sqlite3.Connection) -> None:
        """Change what the index says it covers: its content is then another than the table's."""
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_schema SET sql = replace(sql, 'OR status', 'AND status') WHERE name = 'instances_live'"
        )
        connection.execute("PRAGMA writable_schema = RESET")

    await journal._write.run(damage)
    checking = asyncio.create_task(journal.check())
    await journal.commit(scribe.batch(("plan", "TimerFired")))
    complaints = await checking
    assert complaints
    assert any("instances_live" in complaint for complaint in complaints)
    await journal.close()


async def test_the_figures(path: Path, scribe, tmp_path: Path) -> None:
    await large(path, scribe, tmp_path / "archives")
    journal = await Journal.open(path)
    stats = journal.stats
    assert stats.file_bytes == path.stat().st_size
    assert 100_000 < stats.free_bytes < stats.file_bytes
    assert (stats.archives, stats.archived_batches, stats.archived_records) == (1, 19, 190)
    assert (stats.removing, stats.wal_alarm, stats.mark_alarm) == (False, False, "")
    await journal.close()
    assert journal.stats.file_bytes == 0, "closed"


async def test_a_loss_is_stated_in_the_chain_before_it_is_accepted(path: Path, head: Head, monkeypatch) -> None:
    """Cut short between the two, the journal is refused as before."""
    path.unlink()

    def pulled(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as crash:
        crash.setattr(offline, "MarkFile", pulled)
        with pytest.raises(KeyboardInterrupt):
            accept_loss(path)
    with pytest.raises(JournalTailLost, match="another journal"):
        await Journal.open(path)
    assert accept_loss(path) is not None
    journal = await Journal.open(path)
    assert [note.kind for note in await journal.notes()] == ["loss-accepted"] * 2
    await journal.close()


async def test_a_loss_that_is_stated_but_not_marked_says_both_and_can_be_accepted_again(
    path: Path, head: Head, monkeypatch
) -> None:
    path.unlink()

    def full(mark: MarkFile, *_: object) -> None:
        mark._not_written = f"{mark.path} can't be written: No space left on device"

    with monkeypatch.context() as broken:
        broken.setattr(MarkFile, "write", full)
        with pytest.raises(JournalError, match=r"stands in the chain as batch 1, but .*mark can't be written"):
            accept_loss(path)
    with pytest.raises(JournalTailLost):
        await Journal.open(path)
    assert accept_loss(path) is not None
    journal = await Journal.open(path)
    assert (await journal.verify()).ok
    await journal.close()


async def test_an_accepted_loss_stands_in_the_chain(path: Path, scribe) -> None:
    journal = await Journal.open(path)
    for _ in range(3):
        await journal.commit(scribe.batch(("plan", "TimerFired")))
    head = journal.head()
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    shutil.copy(mark_path(path), mark_path(copy))
    await journal.close()
    loss = accept_loss(copy, time_us=7_000_000, by="anna")
    assert loss is not None
    assert loss.found.batch == 0
    with JournalFile.open(copy) as file:
        (note,) = file.notes()
    assert (note.batch, note.kind, note.time_us) == (1, "loss-accepted", 7_000_000)
    for said in (head.hash_hex, '"marked_batch": 3', '"by": "anna"', "3 records are missing"):
        assert said.encode() in note.payload
    journal = await Journal.open(copy)
    assert journal.head().batch == 1
    assert (await journal.verify()).ok
    await journal.close()
