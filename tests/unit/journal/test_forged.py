"""What a writer never gives: forged lines of archives, another journal's identity, a removal of nobody's, damaged types.

Whatever stands in a file, it leads to a reason or to an error of ours.
"""

# The loop has nothing else to do here: blocking on files is harmless.

from __future__ import annotations

import asyncio
import gzip
import random
import sqlite3
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from journal import (
    Archived,
    ArchiveReader,
    Head,
    Journal,
    JournalCorrupt,
    JournalError,
    JournalFile,
    accept_loss,
    backup_file,
    check_file,
    compact,
    cuts,
    look,
    reader,
    restore,
    verify_archive,
    verify_file,
)


@pytest.fixture
async def archived(path: Path, scribe, tmp_path: Path) -> Archived:
    """A closed journal at ``path`` with an archive of 20 batches beside it."""
    journal = await Journal.open(path)
    for number in range(20):
        await journal.commit(scribe.batch((f"plan-{number}", "TimerFired"), ("plan-0", "TaskCompleted")))
    before_us = scribe.time_us + 1
    for _ in range(5):
        await journal.commit(scribe.batch(("plan-0", "TimerFired")))
    one = await journal.archive(before_us, tmp_path / "archives")
    await journal.close()
    assert one is not None
    assert verify_file(path, archives=tmp_path / "archives").ok
    return one


def change(path: Path, sql: str, *values: object) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(sql, values)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"payload":"{}"}', b'"payload":"opened","payload_base64":"' + b64encode(b"{}") + b'"}'),
        (b'"payload":"{}"}', b'"payload":"{}","payload_base64":"' + b64encode(b"{}") + b'"}'),
        (b'"payload":"{}"}', b'"payload_base64":"' + b64encode(b"{}") + b'"}'),
        (b'"kind":"TimerFired"', b'"kind":"Opened","kind":"TimerFired"'),
        (b'"prev":0', b'"prev": 0'),
        (b'{"batch":1,', b'{"batch":9,"batch":1,'),
        (b'{"batch":1,', b'{"payload":"of no note","batch":1,'),
        (b'{"end":', b'{"end":7,"end":'),
        (b'{"format":', b'{"first_seq":7,"format":'),
    ],
)
def test_a_line_of_an_archive_says_one_thing_once(archived: Archived, tmp_path: Path, old: bytes, new: bytes) -> None:
    file = tmp_path / "archives" / archived.file
    content = gzip.decompress(file.read_bytes())
    assert old in content
    file.write_bytes(gzip.compress(content.replace(old, new, 1)))
    if b"format" in old:  # not even the header is that of an archive
        with pytest.raises(JournalCorrupt, match="not as it was written"):
            verify_archive(file)
        return
    result = verify_archive(file)
    assert not result.ok
    assert "not as it was written" in str(result.reason)


def test_an_archive_belongs_to_the_journal_that_its_chain_begins_with(archived: Archived, tmp_path: Path) -> None:
    file = tmp_path / "archives" / archived.file
    content = gzip.decompress(file.read_bytes())
    own = verify_archive(file).identity.encode()
    file.write_bytes(gzip.compress(content.replace(own, b"ab" * 16, 1)))
    result = verify_archive(file)
    assert not result.ok
    assert "another journal" in str(result.reason)


def test_an_identity_that_was_exchanged_is_found_behind_a_cut(archived: Archived, path: Path) -> None:
    change(path, "UPDATE journal SET identity = ?", b"\xab" * 16)
    result = verify_file(path)
    assert not result.ok
    assert "identity" in str(result.reason)


@pytest.mark.parametrize("archive", [1, 2])
def test_a_forged_removal_hides_no_added_record(archived: Archived, path: Path, archive: int) -> None:
    with closing(sqlite3.connect(path)) as connection:
        kept = [seq for (seq,) in connection.execute("SELECT seq FROM records WHERE seq <= ?", (archived.last_seq,))]
    free = next(seq for seq in range(1, archived.last_seq) if seq not in kept)
    change(path, "INSERT INTO records VALUES (?, 'plan-0', 'Opened', 1, 0, x'7b7d')", free)
    assert not verify_file(path).ok
    change(path, "INSERT INTO removal VALUES (1, ?, ?)", archive, cuts.pack_seqs(kept))
    result = verify_file(path)
    assert not result.ok
    assert "removed" in str(result.reason)


@pytest.mark.parametrize("forged", ["the first batch", "all batches", "all of it"])
def test_a_forged_removal_with_batches_of_the_archive_hides_nothing(
    archived: Archived, path: Path, tmp_path: Path, forged: str
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        kept = [seq for (seq,) in connection.execute("SELECT seq FROM records WHERE seq <= ?", (archived.last_seq,))]
        free = next(seq for seq in range(archived.last_seq, 0, -1) if seq not in kept)
        connection.execute("INSERT INTO removal VALUES (1, 1, ?)", (cuts.pack_seqs(kept),))
        with ArchiveReader(tmp_path / "archives" / archived.file) as archive:
            previous = archived.prev_hash
            for batch in archive.batches():
                if forged != "the first batch" or batch.batch == archived.first_batch:
                    row = (batch.batch, batch.first_seq, batch.last_seq, batch.last_message_id, batch.time_us)
                    connection.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?)", (*row, previous, batch.hash))
                previous = batch.hash
                if forged == "all of it":
                    connection.executemany("INSERT OR IGNORE INTO records VALUES (?, ?, ?, ?, ?, ?)", batch.records)
        if forged == "all of it":
            result = verify_file(path)
            assert (result.ok, result.not_compared) == (True, 0), "so it is before a removal begins"
        record = (free, "plan-0", "Opened", 1, 0, b"{}")
        connection.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?)", record)
    result = verify_file(path)
    assert not result.ok
    assert result.reason


def test_a_removal_that_no_archive_goes_with_is_told(head: Head, path: Path) -> None:
    change(path, "INSERT INTO removal VALUES (1, 1, ?)", cuts.pack_seqs([]))
    result = verify_file(path)
    assert not result.ok
    assert "no archive is named" in str(result.reason)


def test_a_removal_of_another_archive_is_told(archived: Archived, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        kept = [seq for (seq,) in connection.execute("SELECT seq FROM records WHERE seq <= ?", (archived.last_seq,))]
    change(path, "INSERT INTO removal VALUES (1, 2, ?)", cuts.pack_seqs(kept))
    result = verify_file(path)
    assert not result.ok
    assert "not the newest archive" in str(result.reason)


def read_all(path: Path) -> None:
    with JournalFile.open(path) as file:
        file.head()
        file.identity()
        file.archives()
        file.notes()
        file.instances()
        file.records(0, 100)


def open_and_close(path: Path) -> None:
    async def opened() -> None:
        await (await Journal.open(path)).close()

    asyncio.run(opened())


def back_up(path: Path) -> None:
    backup_file(path, removed(path.with_name("backup.db")))


def put_back(path: Path) -> None:
    restore(path, removed(path.with_name("restored.db")))


READERS: tuple[Callable[[Path], object], ...] = (verify_file, lambda path: verify_file(path, 22), read_all)
USERS: tuple[Callable[[Path], object], ...] = (
    look,
    check_file,
    back_up,
    put_back,
    compact,
    accept_loss,
    open_and_close,
)
"""What people do to a journal; the last of them may change it."""


def removed(path: Path) -> Path:
    """A name that is free."""
    for left in path.parent.glob(f"{path.name}*"):
        left.unlink()
    return path


def fresh(path: Path, content: bytes) -> Path:
    """A copy with this content, and nothing of an earlier one beside it."""
    copy = removed(path.with_name("copy.db"))
    copy.write_bytes(content)
    return copy


def test_a_value_of_another_type_is_an_error_of_ours_wherever_it_stands(archived: Archived, path: Path) -> None:
    change(path, "INSERT INTO removal VALUES (1, 1, ?)", cuts.pack_seqs([1]))
    content = path.read_bytes()
    with closing(sqlite3.connect(path)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        columns = [(table, row[1]) for table in tables for row in connection.execute(f"PRAGMA table_info('{table}')")]
    changed = set()
    for table, column in columns:
        for value in ("text", b"\xff\xfe", 1.5, None):
            copy = fresh(path, content)
            change_schema(copy)
            with suppress(sqlite3.Error):  # a primary key takes integers alone
                change(copy, f"UPDATE {table} SET {column} = ?", value)
                changed.add((table, column))
            for using in (*READERS, *USERS):
                with suppress(JournalError):
                    using(copy)
    assert {("batches", "first_seq"), ("archives", "hash"), ("removal", "kept"), ("notes", "payload")} <= changed
    assert {("journal", "identity"), ("records", "payload"), ("archives", "last_seq")} <= changed


def test_a_record_with_a_value_of_another_type_is_given_to_nobody(archived: Archived, path: Path) -> None:
    """A bit that flips in a row's head changes types, and SQLite's quick check lets it pass."""
    content = path.read_bytes()
    with closing(sqlite3.connect(path)) as connection:
        instance, seq = connection.execute("SELECT instance, max(seq) FROM records").fetchone()
    refused: Counter[str] = Counter()
    for table, column in (
        ("records", "prev"), ("records", "payload"), ("records", "time_us"), ("records", "kind"),
        ("instances", "last_seq"), ("tails", "last_seq"),
    ):  # fmt: skip
        for value in ("text", b"\xff\xfe", 1.5, None):
            copy = fresh(path, content)
            change_schema(copy)
            with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
                connection.execute("PRAGMA ignore_check_constraints = ON")
                connection.execute(f"UPDATE {table} SET {column} = ?", (value,))
                for ask in (
                    lambda: reader.history(connection, instance, 1),
                    lambda: reader.latest(connection, instance, 10, None),
                    lambda: reader.latest(connection, instance, 10, seq),
                    lambda: reader.records(connection, 0, 10_000, 10_000, None),
                ):
                    try:
                        found = ask()
                    except JournalError:
                        refused[f"{table}.{column}"] += 1
                    else:
                        assert all(tuple(map(type, row)) == (int, str, str, int, bytes) for row in found)
    assert refused["records.prev"] > 4
    assert refused["records.payload"] > 4


def change_schema(path: Path) -> None:
    """Let its tables take anything."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET sql = replace(replace(sql, 'STRICT', ''), 'NOT NULL', '')")


@pytest.mark.parametrize("seed", range(4))
def test_a_flipped_bit_of_the_first_page_is_an_error_of_ours(archived: Archived, path: Path, seed: int) -> None:
    content, chance = path.read_bytes(), random.Random(seed)
    for turn in range(60):
        damaged = bytearray(content)
        damaged[chance.randrange(4_096)] ^= 1 << chance.randrange(8)
        copy = fresh(path, damaged)
        for using in (*READERS, USERS[turn % len(USERS)]):
            with suppress(JournalError):
                using(copy)
