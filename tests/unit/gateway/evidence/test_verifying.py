"""Files are checked by themselves and against each other: what was changed, cut or exchanged is found, and named."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from unit.gateway.evidence.records import AT, SECOND, some_batches, write

from gateway.evidence.entry import Wanted
from gateway.evidence.errors import CantCheck, RecordError
from gateway.evidence.exporting import export
from gateway.evidence.reading import JournalSource, KeptHead, open_record
from gateway.evidence.sinks import to_file
from gateway.evidence.verifying import Finding, verify
from journal import Head, Journal, JournalFile
from journal.chain import genesis


def head_of(path: Path) -> KeptHead:
    with JournalFile.open(path) as file:
        head = file.head()
    return KeptHead(head.batch, head.hash_hex)


def alone(path: Path, to: Path) -> Path:
    """A copy without the mark, which nobody has open."""
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)
    return to


def exported(path: Path, to: Path) -> Path:
    with open_record(path) as source, to_file(to) as sink:
        export(source, "csv", Wanted(), sink, "2026-01-14T09:00:00.000Z", None)
    return to


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def sole(files: Sequence[Path], head: KeptHead | None = None) -> Finding:
    (found,) = verify(files, head, None)
    return found


async def archived(path: Path, folder: Path, before_us: int) -> Path:
    journal = await Journal.open(path)
    done = await journal.archive(before_us, folder)
    await journal.close()
    assert done is not None
    return folder / done.file


def test_a_whole_journal_holds_the_head_that_was_kept(journal: Path) -> None:
    kept = head_of(journal)
    asyncio.run(write(journal, some_batches()))
    found = sole([journal], kept)
    assert (found.ok, found.holds, found.records, found.kind) == (True, True, 16, "journal")
    assert not sole([journal], KeptHead(kept.batch, "0" * 64)).ok


@pytest.mark.parametrize(
    "statements",
    [
        ["UPDATE records SET payload = x'78' WHERE seq = 3"],
        ["DELETE FROM records WHERE seq = 3"],
        ["UPDATE records SET seq = 99 WHERE seq = 3", "UPDATE records SET seq = 3 WHERE seq = 4"],
        ["DELETE FROM batches WHERE batch = 2"],
    ],
)
def test_what_was_done_to_rows_is_found(journal: Path, tmp_path: Path, statements: list[str]) -> None:
    copy = alone(journal, tmp_path / "copy.db")
    assert sole([copy]).ok
    change(copy, *statements)
    assert not sole([copy]).ok


def test_a_tail_that_was_cut_whole_is_found_by_the_head_or_by_the_mark(journal: Path, tmp_path: Path) -> None:
    kept = head_of(journal)
    copy = alone(journal, tmp_path / "copy.db")
    last = kept.batch
    change(copy, "DELETE FROM records WHERE seq = 8", f"DELETE FROM batches WHERE batch = {last}")
    assert sole([copy]).ok  # nothing in it says that there was more
    found = sole([copy], kept)
    assert not found.ok
    assert f"the journal ends at batch {last - 1}, {last} was seen before" in found.says[-1]
    shutil.copy(journal.with_name("journal.db.mark"), copy.with_name("copy.db.mark"))
    found = sole([copy])
    assert not found.ok
    assert found.says[-1].startswith(f"the mark's batch {last}: ")


def test_a_mark_that_is_not_there_or_damaged_is_told(journal: Path, tmp_path: Path) -> None:
    assert sole([journal]).unchecked == []
    copy = alone(journal, tmp_path / "copy.db")
    found = sole([copy])
    assert found.ok
    assert "whether its last batches were cut off: there is no mark (copy.db.mark beside it)" in found.unchecked[0]
    assert sole([copy], head_of(journal)).unchecked == []  # the head shows what the mark would
    copy.with_name("copy.db.mark").write_bytes(b"scribble" * 1_024)
    assert "the mark is damaged, or can't be read" in sole([copy]).unchecked[0]


def test_a_link_leads_to_the_mark_of_the_journal(journal: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "linked.db"
    link.symlink_to(journal)
    found = sole([link])
    assert found.unchecked == []
    assert f"holds the mark's batch {found.batch}" in found.says
    last = found.batch
    change(journal, "DELETE FROM records WHERE seq = 8", f"DELETE FROM batches WHERE batch = {last}")
    assert not sole([link]).ok


def test_no_batch_is_no_head_but_that_of_an_empty_journal(journal: Path, tmp_path: Path) -> None:
    with JournalFile.open(journal) as file:
        begins = genesis(file.identity()).hex()
    assert not sole([journal], KeptHead(0, "ab" * 32)).ok
    found = sole([journal], KeptHead(0, begins))
    assert (found.ok, found.holds) == (True, True)
    made = exported(journal, tmp_path / "x.csv")
    assert not sole([made], KeptHead(0, "ab" * 32)).holds


def test_an_empty_journal_and_its_export(tmp_path: Path) -> None:
    empty = tmp_path / "empty.db"
    asyncio.run(write(empty, []))
    made = exported(empty, tmp_path / "x.csv")
    first, second = verify([empty, made], None, None)
    assert (first.ok, second.ok, second.records) == (True, True, 0)
    assert "begins as x.csv's head of an empty journal says" in first.says


def test_which_key_signed_is_told(journal: Path) -> None:
    keys = [
        [("device.key", "gateway", {"event": event, "key": key, "before": before})]
        for event, key, before in (("device_key", "a" * 16, ""), ("device_key_changed", "b" * 16, "a" * 16))
    ]
    asyncio.run(write(journal, [*keys, *some_batches()]))
    says = [one for one in sole([journal]).says if one.startswith("key ")]
    assert says[0].startswith(f"key {'a' * 16} signs since record 9, ")
    assert says[1].startswith(f"key {'b' * 16} signs since record 10, ")
    assert "CHANGED" not in says[0]
    assert f"A CHANGED KEY, before it was {'a' * 16}" in says[1]


def test_a_stranger_s_mark_is_found(journal: Path, tmp_path: Path) -> None:
    asyncio.run(write(tmp_path / "other.db", some_batches()))
    shutil.copy(tmp_path / "other.db.mark", journal.with_name("journal.db.mark"))
    assert "the mark beside it is that of another journal" in sole([journal]).says


def test_an_export_is_held_against_its_journal(journal: Path, tmp_path: Path) -> None:
    made = exported(journal, tmp_path / "x.csv")
    asyncio.run(write(journal, some_batches()))
    first, second = verify([made, journal], None, None)
    assert (first.kind, first.ok, second.kind, second.ok) == ("journal", True, "export", True)
    assert "holds x.csv's batch 7" in first.says
    asyncio.run(write(tmp_path / "other.db", some_batches()))
    first, second = verify([made, tmp_path / "other.db"], None, None)
    assert first.ok
    assert "it comes from another journal than those that were given" in second.unchecked


def test_an_export_knows_the_head_at_its_time_alone(journal: Path, tmp_path: Path) -> None:
    kept = head_of(journal)
    made = exported(journal, tmp_path / "x.csv")
    assert sole([made], kept).holds
    assert not sole([made], KeptHead(kept.batch + 1, kept.hash_hex)).holds
    assert not sole([made], KeptHead(kept.batch, "0" * 64)).ok


def test_archives_are_held_in_a_row_and_against_the_journal(journal: Path, tmp_path: Path) -> None:
    early = head_of(journal)
    asyncio.run(write(journal, [*some_batches(), *some_batches()]))
    first = asyncio.run(archived(journal, tmp_path / "archive", AT + 6 * SECOND + 1))
    second = asyncio.run(archived(journal, tmp_path / "archive", AT + 12 * SECOND))
    findings = verify([second, journal, first], early, None)
    assert [one.kind for one in findings] == ["archive", "archive", "journal"]
    assert all(one.ok for one in findings), findings
    assert [one.holds for one in findings] == [True, False, False]
    assert f"continues {first.name}" in findings[1].says
    assert "2 of its 2 archives were given, and are those it names" in findings[2].says
    (found,) = verify([journal], early, None)
    assert found.ok
    assert not found.holds
    assert any(sentence.startswith("2 archives") for sentence in found.unchecked)
    assert any(first.name in sentence for sentence in found.unchecked)


def test_an_archive_of_which_a_byte_was_changed_is_found(journal: Path, tmp_path: Path) -> None:
    asyncio.run(write(journal, some_batches()))
    archive = asyncio.run(archived(journal, tmp_path / "archive", AT + 6 * SECOND))
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    archive.write_bytes(content)
    assert not sole([archive]).ok
    with pytest.raises(RecordError), open_record(archive):
        pass


def test_what_is_archived_is_said_and_can_be_read_from_the_archive(journal: Path, tmp_path: Path) -> None:
    asyncio.run(write(journal, some_batches()))
    archive = asyncio.run(archived(journal, tmp_path / "archive", AT + 6 * SECOND))
    with open_record(journal) as source:
        assert source.origin.archived_to > 0
        assert source.archives == [archive.name]
        left = list(source.entries(Wanted()))
    with open_record(archive) as source:
        moved = [entry.seq for entry in source.entries(Wanted()) if entry.seq]
    assert sorted({*moved, *(entry.seq for entry in left if entry.seq)}) == list(range(1, 17))
    assert "note.archived" in [entry.kind for entry in left]


def test_records_that_vanish_while_they_are_read_are_no_export(journal: Path) -> None:
    class Cut(JournalFile):
        def records(self, after_seq: int, up_to_seq: int, limit: int = 1_000) -> list[tuple[int, str, str, int, bytes]]:
            return [row for row in super().records(after_seq, up_to_seq, limit) if row[0] != 4]

    with JournalFile.open(journal) as file:
        file.__class__ = Cut
        with pytest.raises(RecordError, match="went into an archive while they were read"):
            list(JournalSource(file).entries(Wanted()))


def test_what_is_no_evidence_at_all(tmp_path: Path, journal: Path) -> None:
    (tmp_path / "soup").write_text("soup")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "stranger.db").write_bytes(b"SQLite format 3\x00" + bytes(4_096))
    for name in ("soup", "empty", "stranger.db"):
        assert not sole([tmp_path / name]).ok
    with pytest.raises(CantCheck, match="No such file"):
        verify([tmp_path / "nothing"], None, None)
    assert Head(1, 0, "", 0).batch == KeptHead(1, "").as_head().batch
