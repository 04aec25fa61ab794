"""Moving the beginning of the log to archives: nothing is lost, nothing goes before its time, and a crash harms nothing."""

# The loop has nothing else to do here: blocking on files is harmless.
# ruff: noqa: ASYNC240

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from gateway.durable.store import Batch
from journal import (
    ArchiveFailed,
    ArchiveReader,
    Head,
    Journal,
    JournalCorrupt,
    JournalError,
    JournalFile,
    verify_archive,
    verify_file,
)
from journal import archive as archive_module
from journal import retention as retention_module
from journal import verify as verify_module
from journal.archive_file import ArchiveWriter
from journal.cuts import archives, pack_seqs, removal
from journal.retention import Retention
from journal.rows import RecordTuple
from journal.thread import SqliteThread

BREAKER = "@breaker@7B"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "archives"


async def story(journal: Journal, scribe) -> dict[str, int]:
    """Ten batches: a breaker, a live plan with a long past, one that has ended, one that was purged; and times."""
    times = {}
    for number in range(10):
        batch = scribe.batch((BREAKER, "Opened"), ("live", "turn"), ("ended", "turn"), ("", "audit"))
        batch.instances[BREAKER] = scribe.entity(BREAKER)
        batch.instances["live"] = scribe.orchestration("live", first_seq=12)
        batch.instances["ended"] = scribe.orchestration("ended", "Completed", first_seq=3)
        if number < 4:
            more = scribe.batch(("gone", "turn"))
            batch.records += more.records
            batch.time_us = more.time_us
            batch.instances["gone"] = scribe.orchestration("gone", "Completed", first_seq=5)
        if number == 4:
            more = scribe.batch(("gone", "purged"))
            batch.records += more.records
            batch.time_us = more.time_us
            batch.instances_removed.add("gone")
        await journal.commit(batch)
        times[f"after {number}"] = batch.time_us + 1
    return times


def kept_seqs(path: Path, up_to: int) -> set[int]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        return {seq for (seq,) in connection.execute("SELECT seq FROM records WHERE seq <= ?", (up_to,))}


async def all_records(journal: Journal) -> list[RecordTuple]:
    return list(await journal.records(0, 10_000))


async def test_what_is_old_goes_into_a_file_and_what_is_needed_stays(journal: Journal, scribe, folder: Path) -> None:
    times = await story(journal, scribe)
    before = {record[0]: record for record in await all_records(journal)}
    archived = await journal.archive(times["after 6"], folder)
    assert archived is not None
    assert (archived.first_batch, archived.last_batch, archived.first_seq) == (1, 7, 1)
    assert archived.records == archived.last_seq == 7 * 4 + 5
    assert not journal.stats.removing

    with ArchiveReader(folder / archived.file) as file:
        inside = {row[0]: row for batch in file.batches() for row in batch.records}
    assert {seq: (*row[:4], row[5]) for seq, row in inside.items()} == {
        seq: record for seq, record in before.items() if seq <= archived.last_seq
    }, "every record, byte for byte"

    stayed = {record[0]: record for record in await all_records(journal) if record[0] <= archived.last_seq}
    live = {seq for seq, record in before.items() if record[1] == "live" and 12 <= seq <= archived.last_seq}
    ended = {seq for seq, record in before.items() if record[1] == "ended" and 3 <= seq <= archived.last_seq}
    purged = {seq for seq, record in before.items() if record[2] == "purged"}
    assert set(stayed) == live | ended | purged, "the breaker and the audit have later records"
    assert archived.kept == len(stayed)

    assert (await journal.verify()).ok
    assert verify_file(journal.path, archives=folder).records == len(before)
    stats = journal.stats
    assert (stats.archives, stats.archived_batches, stats.archived_records) == (1, 7, archived.records)
    assert stats.mark_batch == journal.head().batch == 11, "the cut is a batch of its own"


async def test_the_chain_says_what_was_cut(journal: Journal, scribe, folder: Path) -> None:
    times = await story(journal, scribe)
    first = await journal.archive(times["after 2"], folder)
    second = await journal.archive(times["after 6"], folder)
    assert first is not None
    assert second is not None
    assert await journal.archives() == [first, second]
    notes = await journal.notes()
    assert [(note.batch, note.kind) for note in notes] == [(11, "archived"), (12, "archived")]
    assert first.file.encode() in notes[0].payload
    assert second.file_sha256.hex().encode() in notes[1].payload
    assert notes[1].time_us == times["after 9"] - 1
    assert await journal.notes(after_batch=11) == notes[1:]
    await journal.close()
    with JournalFile.open(journal.path) as file:
        assert file.archives() == [first, second]
        assert file.notes() == notes


async def test_a_note_is_archived_with_its_batch(journal: Journal, scribe, folder: Path) -> None:
    times = await story(journal, scribe)
    await journal.archive(times["after 2"], folder)
    await journal.commit(scribe.batch(("live", "turn")))
    second = await journal.archive(scribe.time_us + 1, folder)
    assert second is not None
    with ArchiveReader(folder / second.file) as file:
        assert [batch.note.kind for batch in file.batches() if batch.note is not None] == ["archived"]
    assert [note.batch for note in await journal.notes()] == [second.last_batch + 1]
    assert (await journal.verify()).ok


async def test_archives_verify_alone_and_in_a_row(journal: Journal, scribe, folder: Path) -> None:
    times = await story(journal, scribe)
    files = []
    for moment in ("after 2", "after 5", "after 8"):
        archived = await journal.archive(times[moment], folder)
        assert archived is not None
        files.append(folder / archived.file)
    assert sorted(files) == files, "names sort in the order of the chain"
    before = None
    for file in files:
        alone = verify_archive(file)
        assert alone.ok
        result = verify_archive(file, after=before)
        assert result.ok
        before = result
    assert before is not None
    assert not verify_archive(files[2], after=verify_archive(files[0])).ok
    assert (before.head.batch + 1) == 10


async def test_nothing_old_is_nothing_to_do(journal: Journal, scribe, folder: Path) -> None:
    assert await journal.archive(10**15, folder) is None, "an empty journal"
    times = await story(journal, scribe)
    assert await journal.archive(1_000, folder) is None
    assert await journal.archive(times["after 9"], folder) is not None
    for _ in range(2):
        assert await journal.archive(10**15, folder) is None, "the note of an archive is no reason for another one"
    assert (await journal.verify()).ok
    assert len(list(folder.iterdir())) == 1


async def test_an_archive_has_a_limited_size(journal: Journal, scribe, folder: Path, monkeypatch) -> None:
    times = await story(journal, scribe)
    monkeypatch.setattr(retention_module, "MAX_RECORDS", 14)
    sizes = []
    while (archived := await journal.archive(times["after 9"], folder)) is not None:
        sizes.append(archived.records)
    assert sum(sizes) == 45
    assert max(sizes) <= 14
    assert (await journal.verify()).ok
    assert verify_file(journal.path, archives=folder).ok


async def test_links_over_the_cut_are_told_and_never_called_corrupt(journal: Journal, scribe, folder: Path) -> None:
    times = await story(journal, scribe)
    whole = {name: await journal.latest(name) for name in (BREAKER, "live", "ended", "gone", "")}
    assert all(not records.archived_in for records in whole.values())
    first = await journal.archive(times["after 2"], folder)
    second = await journal.archive(times["after 8"], folder)
    assert first is not None
    assert second is not None
    for name in (BREAKER, ""):
        latest = await journal.latest(name)
        assert latest == whole[name][:1]
        assert latest.archived_in == second.file
        assert (await journal.latest(name, 1)).archived_in == "", "as much as was asked for"
        assert (await journal.latest(name, before_seq=latest[0][0])).archived_in == second.file
        assert await journal.history(name, 1) == latest
        assert (await journal.history(name, 1)).archived_in == second.file
    oldest = whole[BREAKER][-1][0]
    assert (await journal.latest(BREAKER, before_seq=oldest)).archived_in == first.file, (
        "the asker saw it before the cut"
    )
    gone = await journal.history("gone", 1)
    assert [record[2] for record in gone] == ["purged"], "that the name was used stays known"
    assert gone.archived_in == second.file
    for name, first_seq in (("live", 12), ("ended", 3)):
        history = await journal.history(name, first_seq)
        assert list(history) == [record for record in reversed(whole[name]) if record[0] >= first_seq]
        assert history.archived_in == ""
    assert (await journal.history("live", 1)).archived_in == first.file, "an earlier run of it"
    everything = await journal.records(0, 10_000)
    assert everything.archived_in == first.file
    assert (await journal.records(second.last_seq)).archived_in == ""
    assert (await journal.records(0, instance=BREAKER)).archived_in == second.file


async def test_a_name_goes_on_behind_the_cut(journal: Journal, scribe, folder: Path) -> None:
    await story(journal, scribe)
    assert await journal.archive(scribe.time_us + 1, folder) is not None
    await journal.commit(scribe.batch((BREAKER, "Closed"), ("gone", "turn")))
    assert [record[2] for record in await journal.latest(BREAKER)] == ["Closed", "Opened"]
    assert [record[2] for record in await journal.history("gone", 1)] == ["purged", "turn"]
    assert (await journal.verify()).ok


async def test_a_live_history_stays_although_it_went_on_without_its_row(journal: Journal, scribe, folder: Path) -> None:
    first = scribe.batch(("live", "turn"), ("other", "turn"))
    first.instances["live"] = scribe.orchestration("live", first_seq=1)
    await journal.commit(first)
    for _ in range(3):
        await journal.commit(scribe.batch(("live", "event"), ("other", "turn")))
    assert await journal.archive(scribe.time_us + 1, folder) is not None
    await journal.commit(scribe.batch(("live", "event")))
    assert [row[0] for row in await journal.history("live", 1)] == [1, 3, 5, 7, 9]


async def test_a_later_archive_lets_go_what_is_not_needed_any_more(journal: Journal, scribe, folder: Path) -> None:
    times = await story(journal, scribe)
    first = await journal.archive(times["after 6"], folder)
    assert first is not None
    batch = scribe.batch(("live", "purged"), ("ended", "purged"))
    batch.instances_removed |= {"live", "ended"}
    await journal.commit(batch)
    last = await journal.archive(batch.time_us + 1, folder)
    assert last is not None
    stayed = await all_records(journal)
    assert [record[2] for record in stayed] == ["purged", "Opened", "audit", "purged", "purged"]
    assert last.kept == 5
    assert (await journal.verify()).ok
    assert verify_file(journal.path, archives=folder).ok


async def test_commits_go_on_while_it_is_archived(journal: Journal, scribe, folder: Path, monkeypatch) -> None:
    """Each commit waits for one slice at most; the cut and what stays are decided while the journal moves on."""
    times = await story(journal, scribe)
    monkeypatch.setattr(retention_module, "SLICE_RECORDS", 2)
    archiving = asyncio.create_task(journal.archive(times["after 6"], folder))
    committed = 0
    while not archiving.done():
        batch = scribe.batch(("live", "turn"), (BREAKER, "Closed"))
        batch.instances["live"] = scribe.orchestration("live", first_seq=12)
        await journal.commit(batch)
        committed += 1
    assert committed > 10
    assert (await archiving) is not None
    result = await journal.verify()
    assert result.ok
    assert result.head == journal.head()
    history = await journal.history("live", 12)
    assert len(history) == 8 + committed


class Steps:
    """The journal's folder as it is before each step of an archiving, kept aside: what a kill at that moment leaves."""

    def __init__(self, path: Path, folder: Path, aside: Path) -> None:
        self.path, self.folder, self.aside = path, folder, aside
        self.copies: list[Path] = []
        self.before_us = 0

    def before(self, run: Callable) -> Callable:
        async def stepping(function: Callable) -> object:
            self.keep()
            return await run(function)

        return stepping

    def keep(self) -> None:
        copy = self.aside / f"{len(self.copies):03d}"
        copy.mkdir(parents=True)
        for suffix in ("", "-wal", ".mark"):
            shutil.copy(self.path.with_name(self.path.name + suffix), copy)
        if self.folder.exists():
            shutil.copytree(self.folder, copy / self.folder.name)
        self.copies.append(copy)


@pytest.fixture
async def steps(journal: Journal, scribe, folder: Path, tmp_path: Path, monkeypatch) -> Steps:
    """A second archiving of a journal, step by step."""
    for name, size in (("SLICE_RECORDS", 8), ("SLICE_BATCHES", 3), ("STAYING_AT_ONCE", 5), ("PAUSE_S", 0)):
        monkeypatch.setattr(retention_module, name, size)
    monkeypatch.setattr(verify_module, "STEP_BATCHES", 3)
    monkeypatch.setattr(archive_module, "STEP_RECORDS", 8)
    times = await story(journal, scribe)
    assert await journal.archive(times["after 1"], folder) is not None
    kept = Steps(journal.path, folder, tmp_path / "aside")
    thread = await SqliteThread.open(journal.path, read_only=True)
    identity = journal._care._identity
    run = Retention(kept.before(thread.run), kept.before(journal._writing), journal._writer, identity)
    kept.before_us = times["after 7"]
    assert await run.archive(kept.before_us, folder) is not None
    kept.keep()
    await thread.close(5.0)
    return kept


async def test_a_crash_before_any_step_harms_nothing(journal: Journal, steps: Steps, scribe, folder: Path) -> None:
    """Each copy opens, is sound, lost nothing, and the next archiving leads to where the undisturbed one led."""
    whole = verify_file(journal.path, archives=folder).records
    final = await all_records(journal)
    resumed = unnamed = 0
    assert len(steps.copies) > 25
    for copy in steps.copies:
        reopened = await Journal.open(copy / "journal.db")
        assert (await reopened.verify()).ok, copy.name
        result = verify_file(copy / "journal.db", archives=copy / "archives")
        assert (result.ok, result.records) == (True, whole), copy.name
        resumed += reopened.stats.removing
        unnamed += len(list((copy / "archives").glob("*.gz"))) > reopened.stats.archives
        await reopened.archive(steps.before_us, copy / "archives")
        assert not reopened.stats.removing
        assert await all_records(reopened) == final, copy.name
        assert reopened.stats.archives == 2
        result = verify_file(copy / "journal.db", archives=copy / "archives")
        assert (result.ok, result.records) == (True, whole), copy.name
        assert not list((copy / "archives").glob("*.part"))
        await reopened.close()
    assert resumed > 5, "crashes in the middle of the removal were met"
    assert unnamed > 0, "a crash between the archive and the note that names it was met"


async def test_a_half_removed_prefix_is_sound_and_readable(steps: Steps) -> None:
    """Between two slices: what is on its way out is no contradiction; what must stay is still checked."""
    copy = steps.copies[-4]
    with closing(sqlite3.connect(copy / "journal.db", isolation_level=None)) as connection:
        assert connection.execute("SELECT count(*) FROM removal").fetchone() == (1,)
    assert verify_file(copy / "journal.db").ok
    with closing(sqlite3.connect(copy / "journal.db", isolation_level=None)) as connection:
        connection.execute(
            "UPDATE records SET payload = x'00' WHERE seq = (SELECT min(seq) FROM records WHERE instance = 'live')"
        )
    result = verify_file(copy / "journal.db")
    assert "stayed when it was archived differs" in str(result.reason)


async def test_nothing_is_added_or_changed_unseen_while_a_removal_is_under_way(steps: Steps) -> None:
    """Wherever the removal stands: one record more, or another one than was archived, is found, or told as not compared."""
    under_way = passed_over = 0
    for copy in steps.copies:
        file = copy / "journal.db"
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            pending = removal(connection)
            if pending is None:
                continue
            cut = archives(connection)[-1]
            there = {seq for (seq,) in connection.execute("SELECT seq FROM records WHERE seq <= ?", (cut.last_seq,))}
            leaving = sorted(there - set(pending[1]))
            before, told = verify_file(file), set()
            assert before.ok
            for seq in set(range(1, cut.last_seq + 1)) - there:
                connection.execute("INSERT INTO records VALUES (?, 'live', 'Opened', 1, 0, x'7b7d')", (seq,))
                result = verify_file(file)
                assert not result.ok or result.not_compared == before.not_compared + 1, (copy.name, seq)
                if result.ok and seq >= cut.first_seq:
                    of = "SELECT batch FROM batches WHERE ? BETWEEN first_seq AND last_seq"
                    told.update(connection.execute(of, (seq,)))
                connection.execute("DELETE FROM records WHERE seq = ?", (seq,))
            assert len(told) <= 1, "only where the removal stands"
            not_found = 0
            for seq in leaving:
                old = connection.execute("SELECT payload FROM records WHERE seq = ?", (seq,)).fetchone()
                connection.execute("UPDATE records SET payload = x'00' WHERE seq = ?", (seq,))
                not_found += verify_file(file).ok
                connection.execute("UPDATE records SET payload = ? WHERE seq = ?", (*old, seq))
            assert before.not_compared == not_found <= len(leaving)
            under_way += bool(leaving)
            passed_over += not_found
    assert under_way > 3
    assert passed_over > 0


async def test_a_check_that_a_removal_overtakes_complains_of_nothing(
    journal: Journal, scribe, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second archive ends in the note of the first, whose batch has no records: it stands longest. A removal may
    commit ahead of any statement of a check: here of each in turn."""
    times = await story(journal, scribe)
    await journal.archive(times["after 4"], folder)
    await journal.commit(scribe.batch(("ended", "turn")))
    with monkeypatch.context() as stopped:
        stopped.setattr(Retention, "resume", _nothing)
        cut = await journal.archive(scribe.time_us, folder)
    assert cut is not None
    await journal.commit(scribe.batch(("ended", "turn")))
    await journal.close()
    overtaken = 0
    for ahead_of in range(1_000):
        copy = folder / f"{ahead_of}.db"
        shutil.copy(journal.path, copy)
        with (
            closing(sqlite3.connect(copy, isolation_level=None)) as reading,
            closing(sqlite3.connect(copy, isolation_level=None)) as removing,
        ):
            pending = removal(removing)
            assert pending is not None
            overtaking = _Overtaking(reading, removing, ahead_of, frozenset(pending[1]), cut.last_seq, cut.last_batch)
            check = verify_module.ChainCheck.start(overtaking)  # type: ignore[arg-type]
            while check.step(overtaking):  # type: ignore[arg-type]
                pass
            assert check.result().ok, (ahead_of, check.result())
        overtaken += overtaking.done
        if not overtaking.done:
            break
    assert overtaken > 10


async def _nothing(retention: Retention) -> None:
    """Instead of a removal."""


class _Overtaking:
    """A connection that a whole removal overtakes ahead of one of its statements."""

    def __init__(
        self,
        reading: sqlite3.Connection,
        removing: sqlite3.Connection,
        ahead_of: int,
        stay: frozenset[int],
        last_seq: int,
        last_batch: int,
    ) -> None:
        self.done = False
        self._reading, self._removing, self._left = reading, removing, ahead_of
        self._stay, self._last_seq, self._last_batch = stay, last_seq, last_batch

    def execute(self, *what: object) -> sqlite3.Cursor:
        if self._left == 0 and not self.done:
            self._remove()
        self._left -= 1
        return self._reading.execute(*what)  # type: ignore[arg-type]

    def _remove(self) -> None:
        self.done = True
        for (seq,) in self._removing.execute("SELECT seq FROM records WHERE seq <= ?", (self._last_seq,)).fetchall():
            if seq not in self._stay:
                self._removing.execute("DELETE FROM records WHERE seq = ?", (seq,))
        self._removing.execute("BEGIN")
        self._removing.execute("DELETE FROM batches WHERE batch <= ?", (self._last_batch,))
        self._removing.execute("DELETE FROM notes WHERE batch <= ?", (self._last_batch,))
        self._removing.execute("COMMIT")
        self._removing.execute("DELETE FROM removal")


async def test_nothing_is_announced_before_the_archive_is_on_disk(
    journal: Journal, scribe, folder: Path, monkeypatch
) -> None:
    """Flush of the file, check, name, flush of the folder, note, mark, removal: in this order."""
    order = []
    times = await story(journal, scribe)
    step = archive_module.ArchiveCheck.step

    def told(name: str, function: Callable) -> Callable:
        def telling(*args: object, **named: object) -> object:
            order.append(name)
            return function(*args, **named)

        return telling

    fsync = os.fsync

    def flushing(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            order.append("flush file")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", flushing)
    monkeypatch.setattr(archive_module.ArchiveCheck, "step", told("check", step))
    sync_folder = retention_module.sync_folder

    def syncing(flushed_folder: Path) -> None:
        order.append("flush folder" if flushed_folder == folder else "flush its parent")
        sync_folder(flushed_folder)

    monkeypatch.setattr(retention_module, "sync_folder", syncing)
    monkeypatch.setattr(journal._writer, "note", told("note", journal._writer.note))
    monkeypatch.setattr(journal._writer._mark, "write", told("mark", journal._writer._mark.write))
    change = journal._writer.change

    def changing(connection: sqlite3.Connection, what: str, statements: list) -> None:
        order.append(what)
        change(connection, what, statements)

    monkeypatch.setattr(journal._writer, "change", changing)
    await journal.archive(times["after 6"], folder)
    order = [name for number, name in enumerate(order) if name not in order[:number]]
    removal = "a removal of what is archived"
    wanted = ["flush its parent", "flush file", "check", "flush folder", "note", "the note archived", "mark", removal]
    assert [name for name in order if name in wanted] == wanted


async def test_an_archive_that_cannot_be_written_costs_nothing(journal: Journal, scribe, folder: Path) -> None:
    times = await story(journal, scribe)
    before = await all_records(journal)
    folder.write_text("no folder")
    with pytest.raises(ArchiveFailed, match="can't be written"):
        await journal.archive(times["after 6"], folder)
    assert await all_records(journal) == before
    folder.unlink()
    await journal.commit(scribe.batch((BREAKER, "Closed")))
    assert await journal.archive(times["after 6"], folder) is not None


async def test_an_archive_that_reads_back_otherwise_costs_nothing(
    journal: Journal, scribe, folder: Path, monkeypatch
) -> None:
    times = await story(journal, scribe)
    finish = retention_module._finish

    def damaging(writer: ArchiveWriter, file) -> None:
        finish(writer, file)
        content = bytearray(
            Path(file.name if isinstance(file.name, str) else f"/proc/self/fd/{file.name}").read_bytes()
        )
        content[len(content) // 2] ^= 1
        file.seek(0)
        file.write(content)
        file.flush()

    before = await all_records(journal)
    with monkeypatch.context() as broken:
        broken.setattr(retention_module, "_finish", damaging)
        with pytest.raises((ArchiveFailed, JournalCorrupt)):
            await journal.archive(times["after 6"], folder)
    assert await all_records(journal) == before
    assert not list(folder.iterdir())
    assert await journal.archive(times["after 6"], folder) is not None


async def test_a_damaged_log_is_not_archived(journal: Journal, scribe, folder: Path) -> None:
    times = await story(journal, scribe)
    await journal._write.run(lambda connection: connection.execute("UPDATE records SET kind = 'x' WHERE seq = 12"))
    with pytest.raises(JournalCorrupt, match="batch 3: its content differs"):
        await journal.archive(times["after 6"], folder)
    assert not list(folder.iterdir())
    assert len(await all_records(journal)) == 45
    assert await journal.archive(times["after 1"], folder) is not None, "what is sound before it may go"


async def test_it_can_be_given_up_and_begun_again(journal: Journal, scribe, folder: Path, monkeypatch) -> None:
    times = await story(journal, scribe)
    monkeypatch.setattr(retention_module, "SLICE_RECORDS", 2)
    monkeypatch.setattr(retention_module, "PAUSE_S", 0.01)
    for wait_s in (0.0, 0.01, 0.05, 0.1):
        archiving = asyncio.create_task(journal.archive(times["after 6"], folder))
        await asyncio.sleep(wait_s)
        archiving.cancel()
        await asyncio.wait({archiving})
        assert (await journal.verify()).ok
    await journal.archive(times["after 6"], folder)
    assert not journal.stats.removing
    assert verify_file(journal.path, archives=folder).ok


async def test_closing_ends_it(path: Path, scribe, folder: Path, monkeypatch) -> None:
    journal = await Journal.open(path)
    times = await story(journal, scribe)
    monkeypatch.setattr(retention_module, "PAUSE_S", 0.05)
    archiving = asyncio.create_task(journal.archive(times["after 6"], folder))
    await asyncio.sleep(0.02)
    await journal.close()
    with pytest.raises(JournalError):
        await archiving
    assert verify_file(path).ok
    with pytest.raises(JournalError, match="closed"):
        await journal.archive(times["after 6"], folder)


async def test_an_archive_in_the_way_is_kept_aside(journal: Journal, scribe, folder: Path) -> None:
    """Of a journal that was restored from a backup, the same batches may be archived a second time, with other content."""
    times = await story(journal, scribe)
    archived = await journal.archive(times["after 2"], folder)
    assert archived is not None
    name = archived.file.replace("000000000001-000000000003", "000000000004-000000000007")
    (folder / name).write_text("of another life")
    again = await journal.archive(times["after 6"], folder)
    assert again is not None
    assert again.file == name
    assert (folder / (name + ".unnamed")).read_text() == "of another life"
    assert verify_file(journal.path, archives=folder).ok


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("UPDATE removal SET kept = zeroblob(20)", "list of the records that stay .* is damaged"),
        ("UPDATE removal SET kept = (SELECT x FROM other)", "not those that were named"),
        ("UPDATE removal SET archive = 1", "not the newest archive"),
        ("UPDATE archives SET last_seq = last_seq + 3 WHERE archive = 2", "not those that its chain names"),
        ("DELETE FROM archives", "no archive|not those that its chain names"),
        ("DELETE FROM records WHERE seq = 22", "not those that were named"),
    ],
)
async def test_a_removal_goes_on_only_on_the_word_of_the_chain(steps: Steps, damage: str, says: str) -> None:
    """A changed bit in what a resumed removal goes by would let it remove what no archive holds."""
    copy = steps.copies[-4]
    reopened = await Journal.open(copy / "journal.db")
    before = await all_records(reopened)

    def damaging(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TEMP TABLE other (x)")
        connection.execute("INSERT INTO other VALUES (?)", (pack_seqs([22]),))
        connection.execute(damage)

    await reopened._write.run(damaging)
    with pytest.raises(JournalCorrupt, match=says):
        await reopened.archive(steps.before_us, copy / "archives")
    assert [r for r in before if r[0] != 22] == [r for r in await all_records(reopened) if r[0] != 22]
    await reopened.close()


TAMPERINGS = [
    ("UPDATE records SET payload = x'00' WHERE seq = 17", "stayed when it was archived differs"),
    ("DELETE FROM records WHERE seq = 17", "records stayed when it was archived"),
    ("INSERT INTO records VALUES (16, 'live', 'Forged', 1, 12, x'7B7D')", "records stayed when it was archived"),
    ("INSERT INTO records VALUES (-5, 'live', 'Forged', 1, -12, x'7B7D')", "never written"),
    ("UPDATE records SET prev = -1 WHERE seq = 17", "never written"),
    ("UPDATE archives SET hash = zeroblob(32) WHERE archive = 2", "does not continue"),
    ("UPDATE archives SET last_batch = 6 WHERE archive = 2", "is missing"),
    ("UPDATE archives SET hash = zeroblob(32) WHERE archive = 1", "not those that its chain names"),
    ("UPDATE archives SET file = 'other' WHERE archive = 1", "not those that its chain names"),
    ("UPDATE archives SET file_sha256 = zeroblob(32) WHERE archive = 2", "not those that its chain names"),
    ("UPDATE archives SET kept = kept + 1 WHERE archive = 2", "records stayed when it was archived"),
    ("DELETE FROM archives WHERE archive = 1", "not those that its chain names"),
    ("DELETE FROM archives", "is missing"),
    ("UPDATE notes SET payload = x'7B7D'", "content differs"),
    ("UPDATE notes SET kind = 'other'", "content differs"),
    ("DELETE FROM notes", "content differs"),
    ("INSERT INTO notes VALUES (99, 'archived', x'7B7D')", "a note belongs to no batch"),
    ("INSERT INTO notes VALUES (9, 'archived', x'7B7D')", "holds records and a note"),
    ("INSERT INTO batches VALUES (3, 1, 1, 0, 1, zeroblob(32), zeroblob(32))", "rows of some are there"),
]


@pytest.mark.parametrize(("tamper", "reason"), TAMPERINGS)
async def test_tampering_around_a_cut_is_found(path: Path, scribe, folder: Path, tamper: str, reason: str) -> None:
    journal = await Journal.open(path)
    times = await story(journal, scribe)
    for moment in ("after 2", "after 6"):
        await journal.archive(times[moment], folder)
    await journal.close()
    assert verify_file(path).ok
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(tamper)
    result = verify_file(path)
    assert not result.ok
    assert reason in str(result.reason)


async def test_a_record_of_a_live_history_that_is_gone_is_corruption_not_archive(
    journal: Journal, scribe, folder: Path
) -> None:
    times = await story(journal, scribe)
    await journal.archive(times["after 6"], folder)
    await journal._write.run(lambda connection: connection.execute("DELETE FROM records WHERE seq = 22"))
    with pytest.raises(JournalCorrupt, match="live are not linked"):
        await journal.history("live", 12)


async def test_archives_that_are_gone_or_changed_are_found(path: Path, scribe, folder: Path) -> None:
    journal = await Journal.open(path)
    times = await story(journal, scribe)
    names = []
    for moment in ("after 2", "after 6"):
        archived = await journal.archive(times[moment], folder)
        assert archived is not None
        names.append(archived.file)
    await journal.close()
    whole = (folder / names[1]).read_bytes()
    other = bytearray(whole)
    other[4] ^= 1  # a byte of gzip's header that no reader looks at
    (folder / names[1]).write_bytes(other)
    result = verify_file(path, archives=folder)
    assert "not the archive that the journal names" in str(result.reason)
    (folder / names[1]).unlink()
    result = verify_file(path, archives=folder)
    assert (result.ok, result.first_bad_batch, result.batches) == (False, 4, 3)
    assert "does not exist" in str(result.reason)
    assert verify_file(path).ok, "what is left in the journal is sound"


async def test_a_head_that_was_archived_is_looked_for_there(path: Path, scribe, folder: Path) -> None:
    journal = await Journal.open(path)
    heads = []
    for _ in range(6):
        await journal.commit(scribe.batch((BREAKER, "Opened")))
        heads.append(journal.head())
    archived = await journal.archive(heads[3].time_us + 1, folder)
    assert archived is not None
    await journal.close()
    inside, end, behind = heads[1], heads[3], heads[5]
    assert not verify_file(path, expect=inside).ok
    assert f"look for it in {archived.file}" in str(verify_file(path, expect=inside).reason)
    assert verify_file(path, expect=inside, archives=folder).ok
    assert verify_archive(folder / archived.file, expect=inside).ok
    for head in (end, behind):
        assert verify_file(path, expect=head).ok
        assert verify_file(path, expect=head, archives=folder).ok
    for head in (inside, end, behind):
        forged = Head(head.batch, head.seq, "00" * 32, head.time_us)
        assert not verify_file(path, expect=forged).ok
        assert not verify_file(path, expect=forged, archives=folder).ok


async def test_a_check_that_is_overtaken_by_a_cut_begins_anew(
    journal: Journal, scribe, folder: Path, monkeypatch
) -> None:
    times = await story(journal, scribe)
    monkeypatch.setattr(verify_module, "STEP_BATCHES", 1)
    check = verify_module.ChainCheck.start
    with closing(sqlite3.connect(f"{journal.path.as_uri()}?mode=ro", uri=True)) as connection:
        running = check(connection)
        assert running.step(connection)
        await journal.archive(times["after 6"], folder)
        while running.step(connection):
            pass
        assert running.result().ok
        assert running.result().head == journal.head()


async def test_the_mark_holds_over_a_cut(path: Path, scribe, folder: Path) -> None:
    """A mark that is older than the cut: its batch has no row any more, and that is no loss."""
    journal = await Journal.open(path)
    times = await story(journal, scribe)
    mark = path.with_name("journal.db.mark")
    old = mark.read_bytes()
    await journal.archive(times["after 9"], folder)
    await journal.close()
    mark.write_bytes(old)
    journal = await Journal.open(path)
    assert journal.stats.mark_found == "held"
    await journal.close()


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_is_done_nothing_is_lost(path: Path, scribe, folder: Path, seed: int) -> None:
    """A random life with many cuts, held against a plain list of all that was ever written."""
    chance = random.Random(seed)
    journal = await Journal.open(path)
    written: dict[int, tuple] = {}
    rows: dict[str, int] = {}  # orchestrations that have a row: first_seq
    for _ in range(120):
        action = chance.random()
        if action < 0.8:
            batch = random_batch(chance, scribe, rows)
            written |= {record[0]: tuple(record) for record in batch.records}
            await journal.commit(batch)
        elif action < 0.9:
            await journal.archive(chance.randint(1_000, scribe.time_us + 1), folder)
        else:
            await journal.close()
            journal = await Journal.open(path)
    for name, first_seq in rows.items():
        history = await journal.history(name, first_seq)
        assert list(history) == [r for seq, r in sorted(written.items()) if r[1] == name and seq >= first_seq]
        assert history.archived_in == ""
    for name in {record[1] for record in written.values()}:
        last = max(seq for seq, record in written.items() if record[1] == name)
        assert (await journal.latest(name, 1))[0] == written[last], "the last record of each name stays"
    archives = await journal.archives()
    inside = {}
    for archived in archives:
        with ArchiveReader(folder / archived.file) as file:
            inside |= {row[0]: (*row[:4], row[5]) for batch in file.batches() for row in batch.records}
    outside = {record[0]: record for record in await all_records(journal)}
    assert inside | outside == written
    result = verify_file(path, archives=folder)
    assert (result.ok, result.records, result.head) == (True, len(written), journal.head())
    await journal.close()


def random_batch(chance: random.Random, scribe, rows: dict[str, int]) -> Batch:
    names = [chance.choice(["@a@1", "@a@2", "", "o1", "o2", "o3", "o4"]) for _ in range(chance.randint(0, 6))]
    batch = scribe.batch(
        *[(name, "turn") for name in names], payload=chance.choice([b"{}", b'"\xc3\xa4"', b"\xff\x00"])
    )
    batch.time_us = scribe.time_us
    for record in batch.records:
        if record.instance.startswith("@"):
            batch.instances[record.instance] = scribe.entity(record.instance)
        elif record.instance:
            first_seq = rows.setdefault(record.instance, record.seq)
            if chance.random() < 0.1:  # continued as new
                first_seq = rows[record.instance] = record.seq
            status = chance.choice(["Running", "Completed"])
            batch.instances[record.instance] = scribe.orchestration(record.instance, status, first_seq=first_seq)
    for name in list(rows):
        if name not in batch.instances and chance.random() < 0.05:
            del rows[name]
            batch.instances_removed.add(name)
    return batch
