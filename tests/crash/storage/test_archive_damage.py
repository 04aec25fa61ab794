"""Bits flipped in an archive: the journal's anchor finds each of them, and the archive alone each that changes a record."""

from __future__ import annotations

import gzip
import random
import time
import zlib
from collections.abc import Iterable
from pathlib import Path

import pytest
from crash.figures import figure
from crash.storage.given import Given
from crash.storage.judged import write_step

from gateway.durable.store import Batch
from journal import Archived, ArchiveReader, Journal, JournalError, verify_archive
from journal.archive import verify_archives

STEPS = 40
GZIP_HEAD_BYTES = 10


async def archived(folder: Path, given: Given) -> Archived:
    """A journal's archive of most of what it was given."""
    journal = await Journal.open(folder / "journal.db")
    try:
        for number in range(STEPS):
            await write_step(journal, given, number)
        purged = Batch()
        purged.time_us = given.moment(STEPS).last_time_us
        purged.instances_removed.update(name for name in given.moment(STEPS).instances if not name.startswith("@"))
        await journal.commit(purged)
        made = await journal.archive(given.moment(STEPS - 5).last_time_us, folder / "archives")
        assert made is not None
        return made
    finally:
        await journal.close()


def content(file: Path) -> list[object]:
    """All batches of an archive."""
    with ArchiveReader(file) as reader:
        return list(reader.batches())


def unpacked_otherwise(bytes_: bytes, whole: bytes) -> bool:
    """The control: whether a reader that checks neither gzip's sum nor any hash would believe other lines."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(bytes_[GZIP_HEAD_BYTES:]) not in (whole, b"")
    except zlib.error:
        return False


def alone(file: Path, whole: list[object]) -> bool:
    """Whether the archive by itself shows its damage, or holds what it held."""
    try:
        return not verify_archive(file).ok or content(file) == whole
    except JournalError:
        return True


async def flip(folder: Path, seed: int, flips: int | None) -> None:
    """So many flips (None: one in every byte)."""
    started, dice, given = time.perf_counter(), random.Random(seed), Given(seed, large=1_500)
    made = await archived(folder, given)
    assert isinstance(given.step(0), Batch)
    file = folder / "archives" / made.file
    whole, bytes_ = content(file), file.read_bytes()
    lines = gzip.decompress(bytes_)
    assert not unpacked_otherwise(bytes_, lines)
    assert verify_archives(file.parent, [made]).ok
    places: Iterable[int] = dice.choices(range(len(bytes_)), k=flips) if flips else range(len(bytes_))
    tried, wrong, believed = 0, [], 0
    for at in places:
        changed = bytearray(bytes_)
        changed[at] ^= 1 << dice.randrange(8)
        file.write_bytes(changed)
        tried += 1
        if verify_archives(file.parent, [made]).ok:
            wrong.append(f"seed {seed}: byte {at}: the journal's anchor does not see it")
        if not alone(file, whole):
            wrong.append(f"seed {seed}: byte {at}: the archive alone hides another content")
        believed += unpacked_otherwise(bytes(changed), lines)
    seconds = time.perf_counter() - started
    figure(
        "bit flips in an archive",
        tried,
        len(wrong),
        seed,
        seconds,
        f"unpacked without a check: {believed} of {tried} unseen",
    )
    assert believed, "no flip changed a line: this harness is blind"
    assert not wrong, "\n".join(wrong[:5])


async def test_a_flipped_bit_in_an_archive_is_found(memory: Path, seed: int) -> None:
    await flip(memory, seed, 500)


@pytest.mark.soak
async def test_every_byte_of_an_archive_is_flipped(memory: Path, seed: int) -> None:
    await flip(memory, seed, None)
