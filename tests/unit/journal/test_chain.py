"""The chain: its bytes are as documented, and no tampering goes unseen."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from journal import Head, Journal, JournalCorrupt, JournalNewer, JournalNotFound, schema, verify, verify_file
from journal.chain import batch_hash, genesis


def test_the_bytes_are_those_of_the_format() -> None:
    """Written out by hand from format.md: if this test fails, journals in the field can no longer be verified."""
    previous = bytes(range(32))
    expected = previous
    expected += (7).to_bytes(8, "big") + (20).to_bytes(8, "big") + (21).to_bytes(8, "big")
    expected += (5).to_bytes(8, "big") + (-1).to_bytes(8, "big", signed=True) + (2).to_bytes(4, "big")
    expected += (20).to_bytes(8, "big") + (1_000).to_bytes(8, "big") + (0).to_bytes(8, "big")
    expected += (2).to_bytes(4, "big") + (1).to_bytes(4, "big") + (3).to_bytes(4, "big") + "ä".encode() + b"k" + b"{1}"
    expected += (21).to_bytes(8, "big") + (1_001).to_bytes(8, "big") + (20).to_bytes(8, "big")
    expected += (2).to_bytes(4, "big") + (2).to_bytes(4, "big") + (0).to_bytes(4, "big") + "ä".encode() + b"kk"
    records = [(20, "ä", "k", 1_000, 0, b"{1}"), (21, "ä", "kk", 1_001, 20, b"")]
    assert batch_hash(previous, 7, 20, 21, 5, -1, records) == hashlib.sha256(expected).digest()
    assert genesis(b"i" * 16) == hashlib.sha256(b"gridlatch journal 1\n" + b"i" * 16).digest()


def test_moving_a_byte_between_fields_changes_the_hash() -> None:
    def digest(instance: str, kind: str, payload: bytes) -> bytes:
        return batch_hash(bytes(32), 1, 1, 1, 0, 0, [(1, instance, kind, 0, 0, payload)])

    assert len({digest("ab", "c", b"d"), digest("a", "bc", b"d"), digest("ab", "", b"cd")}) == 3


def test_a_sound_journal_verifies(path: Path, head: Head) -> None:
    result = verify_file(path)
    assert (result.ok, result.batches, result.records, result.head) == (True, 10, 30, head)
    later = verify_file(path, from_batch=8)
    assert (later.ok, later.batches, later.records, later.head) == (True, 3, 9, head)


def test_the_result_does_not_depend_on_the_steps(path: Path, head: Head, monkeypatch) -> None:
    for batches, records in ((1, 1), (3, 1_000), (10, 4), (5, 3)):
        monkeypatch.setattr(verify, "STEP_BATCHES", batches)
        monkeypatch.setattr(verify, "STEP_RECORDS", records)
        result = verify_file(path)
        assert (result.ok, result.batches, result.records) == (True, 10, 30)


TAMPERINGS = [
    ("UPDATE records SET payload = x'7B7E' WHERE seq = 14", 5, "content differs"),
    ("UPDATE records SET time_us = time_us + 1 WHERE seq = 14", 5, "content differs"),
    ("UPDATE records SET instance = 'plam' WHERE seq = 13", 5, "content differs"),
    ("UPDATE records SET kind = 'Closed' WHERE seq = 14", 5, "content differs"),
    ("UPDATE records SET prev = prev - 1 WHERE seq = 15", 5, "content differs"),
    ("DELETE FROM records WHERE seq = 14", 5, "2 records of 3"),
    ("DELETE FROM batches WHERE batch = 5", 5, "batch 5 is missing"),
    ("DELETE FROM batches WHERE batch = 1", 1, "batch 1 is missing"),
    ("UPDATE batches SET batch = -3 WHERE batch = 10", 10, "belong to no batch"),
    ("UPDATE batches SET batch = 99 WHERE batch = 10", 10, "batch 10 is missing"),
    ("UPDATE batches SET time_us = 1 WHERE batch = 5", 5, "content differs"),
    ("UPDATE batches SET last_message_id = 1 WHERE batch = 5", 5, "content differs"),
    ("UPDATE batches SET last_seq = last_seq - 1 WHERE batch = 5", 5, "content differs"),
    ("UPDATE batches SET first_seq = first_seq + 1 WHERE batch = 5", 5, "begin at 14"),
    ("UPDATE batches SET hash = zeroblob(32) WHERE batch = 5", 5, "content differs"),
    ("UPDATE batches SET prev_hash = zeroblob(32) WHERE batch = 5", 5, "does not continue"),
    ("INSERT INTO records VALUES (31, 'plan', 'Forged', 1, 30, x'7B7D')", 11, "belong to no batch"),
    ("UPDATE journal SET identity = zeroblob(16)", 1, "does not continue"),
    ("UPDATE records SET prev = -1 WHERE seq = 14", 5, "never written"),
    ("UPDATE records SET instance = CAST(x'FF' AS TEXT) WHERE seq = 14", 5, "never written"),
    ("UPDATE batches SET last_seq = 4611686018427387904 WHERE batch = 5", 5, "claims"),
    ("UPDATE batches SET last_seq = 1 WHERE batch = 5", 5, "claims"),
    ("INSERT INTO records VALUES (-1, 'plan', 'Forged', 1, -2, x'7B7D')", 1, "before the first"),
    ("DELETE FROM batches", 1, "belong to no batch"),
]
EXCHANGED = (
    "UPDATE records SET seq = -1, prev = -2 WHERE seq = 13",
    "UPDATE records SET seq = 13 WHERE seq = 14",
    "UPDATE records SET seq = 14 WHERE seq = -1",
)


@pytest.mark.parametrize(("tamper", "batch", "reason"), TAMPERINGS)
def test_tampering_is_named(path: Path, head: Head, tamper: str, batch: int, reason: str) -> None:
    change(path, tamper)
    result = verify_file(path)
    assert not result.ok
    assert result.first_bad_batch == batch
    assert reason in str(result.reason)
    assert result.head.batch == batch - 1 or "before the first" in reason


def test_exchanged_records_are_found(path: Path, head: Head) -> None:
    change(path, *EXCHANGED)
    result = verify_file(path)
    assert (result.ok, result.first_bad_batch) == (False, 5)


def test_a_tail_cut_off_whole_is_found_by_a_head_kept_elsewhere(path: Path, head: Head) -> None:
    change(path, "DELETE FROM records WHERE seq > 24", "DELETE FROM batches WHERE batch > 8")
    assert verify_file(path).ok, "nothing in the journal itself shows the loss"
    result = verify_file(path, expect=head)
    assert not result.ok
    assert "ends at batch 8, 10 was seen" in str(result.reason)


def test_a_rewritten_chain_is_found_by_a_head_kept_elsewhere(path: Path, head: Head) -> None:
    with closing(sqlite3.connect(path)) as connection:
        before, good = connection.execute("SELECT prev_hash, last_message_id FROM batches WHERE batch = 10").fetchone()
    forged = [(seq, "plan", "Forged", 0, 0, b"{}") for seq in (28, 29, 30)]
    digest = batch_hash(before, 10, 28, 30, good, head.time_us, forged)
    change(
        path,
        "UPDATE records SET instance='plan', kind='Forged', time_us=0, prev=0, payload=x'7B7D' WHERE seq >= 28",
        f"UPDATE batches SET hash = x'{digest.hex()}' WHERE batch = 10",
    )
    assert verify_file(path).ok, "whoever can write the file can forge a chain that fits"
    for from_batch in (1, 10, 99):
        result = verify_file(path, from_batch, expect=head)
        assert not result.ok
        assert "rewritten" in str(result.reason)


def test_an_expected_head_before_the_beginning_is_checked_all_the_same(path: Path, head: Head) -> None:
    assert not verify_file(path, 9, expect=Head(5, 15, "00" * 32, 0)).ok


def test_an_expected_head_that_is_there_is_fine(path: Path, head: Head) -> None:
    assert verify_file(path, expect=head).ok


async def test_a_running_journal_verifies_beside_commits(journal: Journal, scribe, monkeypatch) -> None:
    monkeypatch.setattr(verify, "STEP_BATCHES", 1)
    for _ in range(20):
        await journal.commit(scribe.batch(("plan", "TimerFired"), ("plan", "TaskCompleted")))
        result = await journal.verify()
        assert result.ok
        assert result.head == journal.head()
        assert verify_file(journal.path).ok, "the module's own check needs no lock"


def test_what_is_no_journal_is_said_so(tmp_path: Path, path: Path) -> None:
    with pytest.raises(JournalNotFound, match="does not exist"):
        verify_file(path)
    path.touch()
    with pytest.raises(JournalNotFound, match="empty"):
        verify_file(path)
    path.write_bytes(b"rubbish" * 1_000)
    with pytest.raises(JournalCorrupt, match="not a database"):
        verify_file(path)


def test_a_newer_journal_is_not_judged(path: Path, head: Head) -> None:
    change(path, f"PRAGMA user_version = {schema.MIGRATIONS[-1].version + 1}")
    with pytest.raises(JournalNewer):
        verify_file(path)


def test_flipped_bits_anywhere_in_the_log_never_verify(path: Path, head: Head) -> None:
    """Each bit of the pages that hold records and batches, in strides: the head changes or the check fails."""
    with closing(sqlite3.connect(path)) as connection:
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        pages = [row[0] for row in connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'records'")]
        payload = b"TaskCompleted"
    content = path.read_bytes()
    page = content[(pages[0] - 1) * size : pages[0] * size]
    first = page.index(payload)
    for offset in range(first, size, 37):
        changed = bytearray(content)
        changed[(pages[0] - 1) * size + offset] ^= 1 << (offset % 8)
        path.write_bytes(changed)
        try:
            result = verify_file(path)
        except JournalCorrupt:
            continue
        assert not result.ok, f"flip at {offset} of the page went unseen"


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        for statement in statements:
            connection.execute(statement)
