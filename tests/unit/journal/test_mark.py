"""The high-water mark: what a damaged or lost write-ahead log drops in silence is found at the next start."""

# The loop has nothing else to do here: blocking on files and processes is harmless.
# ruff: noqa: ASYNC240

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from journal import (
    Head,
    Journal,
    JournalCorrupt,
    JournalLocked,
    JournalReadError,
    JournalTailLost,
    MarkFound,
    accept_loss,
    verify_file,
)
from journal import journal as journal_module
from journal.mark import SLOT_BYTES, MarkFile, mark_path, read_mark


async def crashed(path: Path, scribe, batches: int = 5) -> tuple[Path, Head]:
    """What a killed process leaves: copies of file, WAL and mark of an open journal; and the head it acknowledged."""
    journal = await Journal.open(path)
    for _ in range(batches):
        await journal.commit(scribe.batch(("plan", "TimerFired"), payload=b"x" * 500))
    copy = path.parent / "crashed" / path.name
    copy.parent.mkdir()
    for suffix in ("", "-wal", ".mark"):
        shutil.copy(path.with_name(path.name + suffix), copy.with_name(copy.name + suffix))
    head = journal.head()
    await journal.close()
    return copy, head


def wal_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def marked(path: Path) -> Head:
    found, mark = read_mark(path)
    assert found is MarkFound.HELD
    assert mark is not None
    return mark.head


async def opened_or_refused(path: Path, head: Head) -> JournalTailLost | None:
    """The refusal; or None, and then all is there."""
    try:
        journal = await Journal.open(path)
    except JournalTailLost as error:
        return error
    assert journal.head() == head
    await journal.close()
    return None


async def test_the_mark_names_each_batch_once_it_is_on_disk(journal: Journal, scribe) -> None:
    assert marked(journal.path) == journal.head()
    for _ in range(3):
        await journal.commit(scribe.batch(("plan", "TimerFired")))
        assert marked(journal.path) == journal.head()
        assert journal.stats.mark_batch == journal.head().batch


async def test_a_refused_batch_moves_no_mark(journal: Journal, scribe) -> None:
    await journal.commit(scribe.batch(("plan", "TimerFired")))
    await journal._write.run(lambda connection: connection.execute("PRAGMA query_only = ON"))
    before = marked(journal.path)
    with pytest.raises(Exception, match="could not be written"):
        await journal.commit(scribe.batch(("plan", "TimerFired")))
    assert marked(journal.path) == before


async def test_a_crashed_journal_with_its_whole_wal_opens(path: Path, scribe) -> None:
    copy, head = await crashed(path, scribe)
    journal = await Journal.open(copy)
    assert journal.head() == head
    assert journal.stats.mark_found == "held"
    await journal.close()


async def test_what_a_start_finds_is_in_the_file_before_the_mark_names_it(path: Path, scribe) -> None:
    """A whole batch that a killed process left may be in memory alone: a loss of power would put the mark ahead of it."""
    copy, head = await crashed(path, scribe)
    named = MarkFile.write
    seen = []

    def naming(self: MarkFile, *what: object) -> None:
        alone = copy.with_name("alone.db")
        shutil.copy(copy, alone)
        seen.append(verify_file(alone).head)
        named(self, *what)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as watched:
        watched.setattr(MarkFile, "write", naming)
        journal = await Journal.open(copy)
    assert seen == [head], "without its WAL"
    await journal.close()


async def test_a_flipped_bit_in_the_wal_is_found_at_the_start_and_nothing_is_changed(path: Path, scribe) -> None:
    """Flips all over the WAL: each is either without effect, or refused, and then every byte is as it was."""
    copy, head = await crashed(path, scribe)
    whole = wal_of(copy).read_bytes()
    database = copy.read_bytes()
    chance = random.Random(5)
    refused = 0
    for number, offset in enumerate(chance.sample(range(len(whole)), 60)):
        damaged = bytearray(whole)
        damaged[offset] ^= 1 << number % 8
        wal_of(copy).write_bytes(damaged)
        error = await opened_or_refused(copy, head)
        if error is None:
            copy.write_bytes(database)
            continue
        refused += 1
        assert error.marked == head
        assert error.missing_batches == 5 - (error.found.batch if error.found is not None else 0)
        assert f"{error.missing_batches} batches with {error.missing_batches} records are missing" in str(error)
        assert "accept the loss" in str(error)
        assert wal_of(copy).read_bytes() == damaged
        assert copy.read_bytes() == database
        assert marked(copy) == head
    assert refused > 50, "the WAL's header alone has bytes that say nothing"


async def test_a_lost_wal_is_found(path: Path, scribe) -> None:
    copy, _ = await crashed(path, scribe)
    wal_of(copy).unlink()
    before = copy.read_bytes()
    with pytest.raises(JournalTailLost, match=r"ends at batch 0, but batch 5 .* 5 batches with 5 records are missing"):
        await Journal.open(copy)
    assert copy.read_bytes() == before


async def test_put_back_in_place_what_was_missing_it_opens(path: Path, scribe) -> None:
    copy, head = await crashed(path, scribe)
    aside = wal_of(copy).rename(copy.parent / "aside")
    with pytest.raises(JournalTailLost):
        await Journal.open(copy)
    aside.rename(wal_of(copy))
    journal = await Journal.open(copy)
    assert journal.head() == head
    await journal.close()


async def test_a_journal_that_is_gone_is_not_made_anew(path: Path, head: Head) -> None:
    path.unlink()
    with pytest.raises(JournalTailLost, match="gone or empty"):
        await Journal.open(path)
    assert not path.exists()
    path.touch()
    with pytest.raises(JournalTailLost, match="gone or empty"):
        await Journal.open(path)
    assert path.stat().st_size == 0


async def test_another_journal_in_its_place_is_refused(path: Path, head: Head) -> None:
    other = path.with_name("other.db")
    await (await Journal.open(other)).close()
    shutil.copy(other, path)
    with pytest.raises(JournalTailLost, match="another journal") as refused:
        await Journal.open(path)
    assert refused.value.missing_batches is None


async def test_an_older_copy_that_went_on_differently_is_refused(path: Path, scribe, tmp_path: Path) -> None:
    """As long as the marked one, and sound in itself: the hash tells."""
    journal = await Journal.open(path)
    await journal.commit(scribe.batch(("plan", "TimerFired")))
    await journal.close()
    fork = tmp_path / "fork.db"
    shutil.copy(path, fork)
    for name, what in ((path, b"one"), (fork, b"two")):
        journal = await Journal.open(name)
        scribe.seq = 1
        await journal.commit(scribe.batch(("plan", "TimerFired"), payload=what))
        await journal.close()
    assert verify_file(fork).ok
    shutil.copy(fork, path)
    with pytest.raises(JournalTailLost, match="another batch 2"):
        await Journal.open(path)


async def test_a_mark_that_is_behind_is_fine_and_catches_up(path: Path, scribe) -> None:
    """After a loss of power the mark may be as old as its last flush."""
    journal = await Journal.open(path)
    old = mark_path(path).read_bytes()
    for _ in range(3):
        await journal.commit(scribe.batch(("plan", "TimerFired")))
    await journal.close()
    mark_path(path).write_bytes(old)
    journal = await Journal.open(path)
    assert journal.stats.mark_found == "held"
    assert marked(path) == journal.head()
    await journal.close()


async def test_a_journal_without_a_mark_gets_one_and_says_so(path: Path, head: Head) -> None:
    mark_path(path).unlink()
    journal = await Journal.open(path)
    assert journal.stats.mark_found == "none"
    assert marked(path) == head
    await journal.close()
    journal = await Journal.open(path)
    assert journal.stats.mark_found == "held"
    await journal.close()


async def test_a_torn_slot_leaves_the_other(path: Path, head: Head, scribe) -> None:
    journal = await Journal.open(path)
    scribe.seq = head.seq
    await journal.commit(scribe.batch(("plan", "TimerFired")))
    await journal.close()
    whole = mark_path(path).read_bytes()
    seen = set()
    for offset in (20, SLOT_BYTES + 20):
        torn = bytearray(whole)
        torn[offset] ^= 1
        mark_path(path).write_bytes(torn)
        seen.add(marked(path).batch)
    assert seen == {head.batch, head.batch + 1}


async def test_every_flipped_bit_of_a_slot_is_found(path: Path, head: Head) -> None:
    whole = mark_path(path).read_bytes()
    slots = [offset for offset in (0, SLOT_BYTES) if any(whole[offset : offset + 8])]
    for bit in range(0, 120 * 8, 7):  # every byte
        flipped = bytearray(whole)
        for slot in slots:
            flipped[slot + bit // 8] ^= 1 << bit % 8
        mark_path(path).write_bytes(flipped)
        assert read_mark(path) == (MarkFound.UNREADABLE, None)


async def test_a_damaged_mark_is_told_and_kept_aside(path: Path, head: Head) -> None:
    mark_path(path).write_bytes(b"rubbish" * 2_000)
    journal = await Journal.open(path)
    assert journal.stats.mark_found == "unreadable"
    assert journal.stats.mark_alarm == ""
    assert marked(path) == head
    assert mark_path(path).with_name("journal.db.mark.unreadable").read_bytes().startswith(b"rubbish")
    await journal.close()


async def test_a_mark_that_is_not_given_to_us_is_never_replaced(path: Path, scribe, monkeypatch) -> None:
    journal = await Journal.open(path)
    await journal.commit(scribe.batch(("plan", "TimerFired")))
    await journal.close()
    before = mark_path(path).read_bytes()
    really = Path.open

    def denied(self: Path, *args: object, **kwargs: object) -> object:
        if self == mark_path(path):
            raise OSError(5, "Input/output error")
        return really(self, *args, **kwargs)

    with monkeypatch.context() as broken:
        broken.setattr(Path, "open", denied)
        for attempt in (Journal.open(path), Journal.open(path)):  # the lock is given back, too
            with pytest.raises(JournalReadError, match=r"mark .* can't be read: Input/output error"):
                await attempt
    assert mark_path(path).read_bytes() == before
    journal = await Journal.open(path)
    assert journal.stats.mark_found == "held"
    await journal.close()


async def test_a_mark_that_cannot_be_written_is_an_alarm_and_never_a_stop(path: Path, scribe, monkeypatch) -> None:
    journal = await Journal.open(path)
    await journal.commit(scribe.batch(("plan", "TimerFired")))

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", full)
        await journal.commit(scribe.batch(("plan", "TimerFired")))
        assert "can't be written: No space left" in journal.stats.mark_alarm
        assert journal.stats.mark_batch == 1
    await journal.commit(scribe.batch(("plan", "TimerFired")))
    assert journal.stats.mark_alarm == ""
    assert marked(path) == journal.head()
    await journal.close()


async def test_a_mark_that_cannot_be_made_is_an_alarm_and_never_a_stop(path: Path, scribe) -> None:
    mark_path(path).mkdir()
    journal = await Journal.open(path)
    await journal.commit(scribe.batch(("plan", "TimerFired")))
    assert journal.stats.mark_found == "unreadable"
    assert journal.stats.mark_alarm == ""
    await journal.close()
    mark_path(path).unlink()
    path.with_name("journal.db.mark.new").mkdir()
    journal = await Journal.open(path)
    scribe.seq = 1
    await journal.commit(scribe.batch(("plan", "TimerFired")))
    assert "can't be opened" in journal.stats.mark_alarm
    await journal.close()


async def test_it_is_flushed_soon_after_a_change_and_when_closing(path: Path, scribe, monkeypatch) -> None:
    flushed = []
    flush = MarkFile.flush

    def counted(self: MarkFile) -> None:
        if self.unflushed:
            flushed.append(self.batch)
        flush(self)

    monkeypatch.setattr(MarkFile, "flush", counted)
    monkeypatch.setattr(journal_module, "MARK_FLUSH_S", 0.0)
    journal = await Journal.open(path)
    await journal.commit(scribe.batch(("plan", "TimerFired")))
    while flushed[-1] != 1:
        await journal.probe()
    monkeypatch.setattr(journal_module, "MARK_FLUSH_S", 3_600.0)
    while journal._mark_timer is not None:
        await journal.probe()
    await journal.commit(scribe.batch(("plan", "TimerFired")))
    assert flushed[-1] == 1, "no commit waits for a flush of the mark"
    await journal.close()
    assert flushed[-1] == 2


async def test_a_person_can_accept_the_loss(path: Path, scribe) -> None:
    copy, head = await crashed(path, scribe)
    damaged = bytearray(wal_of(copy).read_bytes())
    damaged[len(damaged) // 2] ^= 4
    wal_of(copy).write_bytes(damaged)
    with pytest.raises(JournalTailLost) as refused:
        await Journal.open(copy)
    loss = accept_loss(copy)
    assert loss is not None
    assert (loss.marked, loss.what) == (head, refused.value.what)
    assert loss.found == refused.value.found
    assert loss.kept_wal is not None
    assert loss.kept_wal.read_bytes() == damaged, "what is left of the lost batches is kept"
    assert accept_loss(copy) is None
    journal = await Journal.open(copy)
    assert journal.stats.mark_found == "held"
    assert (await journal.verify()).ok
    await journal.close()


async def test_accepting_needs_a_loss_and_a_journal_without_a_daemon(path: Path, head: Head) -> None:
    assert accept_loss(path) is None
    journal = await Journal.open(path)
    with pytest.raises(JournalLocked):
        accept_loss(path)
    await journal.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE records SET payload = x'00' WHERE seq = 29")
    with pytest.raises(JournalCorrupt, match="content differs"):
        accept_loss(path)


async def test_a_journal_that_is_gone_can_be_begun_anew_by_a_person(path: Path, head: Head) -> None:
    path.unlink()
    loss = accept_loss(path)
    assert loss is not None
    assert (loss.marked, loss.found.batch, loss.kept_wal) == (head, 0, None)
    journal = await Journal.open(path)
    assert journal.stats.mark_found == "held"
    await journal.close()
