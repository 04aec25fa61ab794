"""The archive file by itself: its bytes are as documented, it can be read by a person, and no damage goes unseen."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from pathlib import Path

import pytest

from journal import ArchiveReader, Head, JournalCorrupt, JournalNotFound, verify_archive
from journal.archive_file import ArchiveWriter, archive_name
from journal.chain import batch_hash, genesis
from journal.rows import BatchTuple, LinkedRecord, Note

IDENTITY = b"0123456789abcdef"
NAMES = ["@breaker@7B", "plan", "", "Öl-Kühler", 'a "quoted" \\ name', "two\nlines", "null \x00 and \u2028", "👷"]
PAYLOADS = [b"{}", b"", b'{"a":"\\u00e4"}', "ä€👷".encode(), b"\xff\xfe\x00", b'"\\', b"x" * 5_000]


def content(batches: int = 12, seed: int = 1) -> list[tuple[BatchTuple, Note | None, list[LinkedRecord]]]:
    """Batches that continue each other, with all sorts of names and payloads, one of them a note."""
    chance = random.Random(seed)
    previous, seq = genesis(IDENTITY), 0
    found: list[tuple[BatchTuple, Note | None, list[LinkedRecord]]] = []
    for batch in range(1, batches + 1):
        time_us = 1_764_000_000_000_000 + batch
        note = Note(batch, time_us, "archived", '{"file":"ä"}'.encode()) if batch == 5 else None
        records: list[LinkedRecord] = [
            (seq + n + 1, chance.choice(NAMES), "turn", time_us - n, max(0, seq + n - 3), chance.choice(PAYLOADS))
            for n in range(0 if note else chance.randint(0, 5))
        ]
        last = seq + len(records)
        digest = batch_hash(previous, batch, seq + 1, last, batch * 2, time_us, records, note)
        found.append(((batch, seq + 1, last, batch * 2, time_us, previous, digest), note, records))
        previous, seq = digest, last
    return found


def written(path: Path, batches: list[tuple[BatchTuple, Note | None, list[LinkedRecord]]], good: Head) -> Path:
    with path.open("wb") as file:
        writer = ArchiveWriter(file, IDENTITY, good)
        for row, note, records in batches:
            writer.add(row, note, records)
        writer.finish()
    return path


START = Head(0, 0, genesis(IDENTITY).hex(), 0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path / archive_name(IDENTITY, 1, 12), content(), START)


def test_what_was_written_is_read_byte_for_byte(file: Path) -> None:
    with ArchiveReader(file) as archive:
        assert (archive.identity, archive.first_batch, archive.first_seq) == (IDENTITY, 1, 1)
        assert archive.prev_hash == genesis(IDENTITY)
        found = list(archive.batches())
        assert archive.end is not None
    for one, (row, note, records) in zip(found, content(), strict=True):
        assert (one.batch, one.first_seq, one.last_seq, one.last_message_id, one.time_us, one.hash) == (
            *row[:5],
            row[6],
        )
        assert (one.note, list(one.records)) == (note, records)


def test_it_verifies_and_says_what_it_is(file: Path) -> None:
    result = verify_archive(file)
    last = content()[-1][0]
    assert (result.ok, result.batches, result.first_batch) == (True, 12, 1)
    assert result.head == Head(12, last[2], last[6].hex(), last[4])
    assert result.records == last[2]
    assert result.identity == IDENTITY.hex()
    assert result.file_sha256 == hashlib.sha256(file.read_bytes()).digest()


def test_a_person_can_read_it_with_common_tools(file: Path) -> None:
    """The lines of format.md: a header, a line for each batch and each record, an end."""
    lines = [json.loads(line) for line in gzip.decompress(file.read_bytes()).decode().split("\n")[:-1]]
    assert lines[0]["format"] == "gridlatch archive 1"
    assert list(lines[1]) == ["batch", "first_seq", "last_seq", "last_message_id", "time_us", "hash"]
    assert list(lines[-1]) == ["end", "last_seq", "time_us", "hash", "batches", "records"]
    records = [line for line in lines if "seq" in line]
    assert all(list(line)[:5] == ["seq", "instance", "kind", "time_us", "prev"] for line in records)
    assert any(line.get("payload") == "ä€👷" for line in records)
    assert any("payload_base64" in line for line in records)


def test_the_same_content_is_the_same_file(tmp_path: Path) -> None:
    one, two = (written(tmp_path / name, content(), START) for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_every_flipped_byte_of_the_file_is_found_or_harmless(file: Path) -> None:
    """gzip's own header has bytes that say nothing; all others lead to a complaint or an unreadable file."""
    whole = file.read_bytes()
    sound = []
    for offset in range(len(whole)):
        flipped = bytearray(whole)
        flipped[offset] ^= 1 << offset % 8
        file.write_bytes(flipped)
        try:
            if verify_archive(file).ok:
                sound.append(offset)
        except JournalCorrupt:
            continue
    assert set(sound) <= {4, 5, 6, 7, 8, 9}, "time, flags of the compressor, and operating system"


def test_every_shorter_file_is_found(file: Path) -> None:
    whole = file.read_bytes()
    for length in range(0, len(whole), 3):
        file.write_bytes(whole[:length])
        try:
            assert not verify_archive(file).ok, length
        except JournalCorrupt:
            continue


EDITS = [
    (b'"kind":"turn"', b'"kind":"torn"', "content differs"),
    (b'"last_message_id":4,', b'"last_message_id":5,', "content differs"),
    (b'"hash":"', b'"hash":"00', "content differs"),
    (b'"note":"archived"', b'"note":"restored"', "content differs"),
    (b'"batch":3,', b'"batch":4,', "batch 3 must follow"),
    (b'"batches":12', b'"batches":11', "does not end where it says"),
    (b'"end":12', b'"end":11', "names another end"),
    (b'"prev":0', b'"prev":-1', "never written"),
    (b'"prev":0', b'"other":0', "unknown field"),
    (b'"kind":"turn"', b'"kind":7', "Expected `str`"),
]


@pytest.mark.parametrize(("old", "new", "reason"), EDITS)
def test_an_edited_archive_is_found(file: Path, old: bytes, new: bytes, reason: str) -> None:
    plain = gzip.decompress(file.read_bytes())
    assert old in plain
    file.write_bytes(gzip.compress(plain.replace(old, new, 1)))
    result = verify_archive(file)
    assert not result.ok
    assert reason in str(result.reason)
    assert result.first_bad_batch == result.head.batch + 1


@pytest.mark.parametrize("kind", [b'{"batch"', b'{"seq"'])
def test_lines_that_are_missing_doubled_or_exchanged_are_found(file: Path, kind: bytes) -> None:
    lines = gzip.decompress(file.read_bytes()).splitlines(keepends=True)
    for number, line in enumerate(lines):
        if line.startswith(kind):
            for changed in (
                lines[:number] + lines[number + 1 :],
                [*lines[: number + 1], *lines[number:]],
                [*lines[:number], lines[number + 1], line, *lines[number + 2 :]],
            ):
                file.write_bytes(gzip.compress(b"".join(changed)))
                assert not verify_archive(file).ok


def test_what_follows_its_end_is_found(file: Path) -> None:
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()) + b"{}\n"))
    assert "does not end where it says" in str(verify_archive(file).reason)


def test_neighbours_verify_in_a_row(tmp_path: Path) -> None:
    batches = content()
    cut = batches[6][0]
    one = written(tmp_path / "one", batches[:7], START)
    two = written(tmp_path / "two", batches[7:], Head(7, cut[2], cut[6].hex(), cut[4]))
    other = written(tmp_path / "other", content(seed=2)[:7], START)
    first = verify_archive(one)
    assert verify_archive(two, after=first).ok
    assert "begins at batch 1, 8 must follow" in str(verify_archive(one, after=first).reason)
    fork = verify_archive(other)
    assert fork.ok
    assert not verify_archive(two, after=fork).ok


def test_a_head_kept_elsewhere_is_held_against_it(file: Path) -> None:
    row = content()[3][0]
    assert verify_archive(file, expect=Head(4, row[2], row[6].hex(), row[4])).ok
    result = verify_archive(file, expect=Head(4, row[2], "00" * 32, row[4]))
    assert (result.ok, result.first_bad_batch) == (False, 4)


def test_what_is_no_archive_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "some.gz"
    with pytest.raises(JournalNotFound):
        verify_archive(path)
    for rubbish in (b"", b"rubbish", gzip.compress(b"rubbish\n"), gzip.compress(b"{}\n")):
        path.write_bytes(rubbish)
        with pytest.raises(JournalCorrupt, match="no archive of a journal"):
            verify_archive(path)
    header = {"identity": "00", "first_batch": 1, "first_seq": 1, "prev_hash": "00"}
    path.write_bytes(gzip.compress(json.dumps({"format": "gridlatch archive 2", **header}).encode() + b"\n"))
    with pytest.raises(JournalCorrupt, match="another format: gridlatch archive 2"):
        verify_archive(path)
