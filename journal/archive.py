"""The check of archives: alone, in a row, and against the journal that names them.

What must stay true: it only reads, in small steps; whatever stands in a file leads to a reason or an error of ours, never
to another exception. On a crash here: nothing was changed.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from journal.archive_file import ArchivedBatch, ArchiveReader
from journal.chain import batch_hash, genesis
from journal.errors import JournalCorrupt, JournalNotFound
from journal.rows import Archived, Head, VerifyResult

STEP_RECORDS: Final = 2_000
"""One step of a check reads batches until it has seen so many records."""


@dataclass(frozen=True, slots=True)
class ArchiveResult:
    """Outcome of a check of one archive. ``head`` is the last good batch; batches and records count the good ones."""

    ok: bool
    file: Path
    identity: str
    """Of the journal that it came from, in hex."""
    first_batch: int
    first_seq: int
    prev_hash: str
    """Of the batch before the first, in hex: the head of the archive before this one."""
    batches: int
    records: int
    head: Head
    file_sha256: bytes
    first_bad_batch: int | None = None
    reason: str | None = None


class ArchiveCheck:
    """A check of one archive in steps. See ``verify_archive``."""

    def __init__(self, path: Path, after: ArchiveResult | None = None, expect: Head | None = None) -> None:
        if not path.is_file():
            raise JournalNotFound(f"{path} does not exist")
        with path.open("rb") as file:
            self._digest = hashlib.file_digest(file, "sha256").digest()
        self._archive = archive = ArchiveReader(path)
        self._expect = expect
        self._rest = archive.batches()
        self._good = Head(archive.first_batch - 1, archive.first_seq - 1, archive.prev_hash.hex(), 0)
        self._batches = 0
        self._records = 0
        self._reason = _complaint_about_start(archive, after)

    def step(self) -> bool:
        """Check some more; False when done, and then the file is closed."""
        budget = STEP_RECORDS
        while self._reason is None and budget > 0:
            try:
                one = next(self._rest, None)
                if one is None:
                    break
                self._reason = _complaint(one, self._good, self._expect)
            except JournalCorrupt as error:
                self._reason = str(error)
                break
            except struct.error as error:  # a number of another range than any writer gives
                self._reason = f"it holds what was never written ({error})"
                break
            if self._reason is None:
                self._good = Head(one.batch, one.last_seq, one.hash.hex(), one.time_us)
                self._batches += 1
                self._records += len(one.records)
                budget -= len(one.records) + 1
        if self._reason is None and budget <= 0:
            return True
        if self._reason is None and self._archive.end != self._good:
            self._reason = "its last line names another end"
        self._archive.close()
        return False

    def result(self) -> ArchiveResult:
        """What has been found."""
        archive, ok = self._archive, self._reason is None
        return ArchiveResult(
            ok,
            archive.path,
            archive.identity.hex(),
            archive.first_batch,
            archive.first_seq,
            archive.prev_hash.hex(),
            self._batches,
            self._records,
            self._good,
            self._digest,
            None if ok else self._good.batch + 1,
            self._reason,
        )


def verify_archive(path: Path, after: ArchiveResult | None = None, expect: Head | None = None) -> ArchiveResult:
    """Check one archive from its first line to its last; ``after``: it must continue that one. Blocks; only reads.

    ``expect``: a head that was seen earlier; if its batch is of this archive, it must be that one.
    Raises JournalNotFound, JournalCorrupt (not even a header is there), OSError.
    """
    check = ArchiveCheck(path, after, expect)
    while check.step():
        pass
    return check.result()


def verify_archives(folder: Path, known: Sequence[Archived], expect: Head | None = None) -> VerifyResult:
    """Check that these archives lie in the folder, each whole, and each as the journal names it. Blocks; only reads."""
    batches = records = 0
    good = Head(0, 0, "", 0)
    for one in known:
        try:
            result = verify_archive(folder / one.file, None, expect)
        except (JournalNotFound, JournalCorrupt) as error:
            return VerifyResult(False, batches, records, good, one.first_batch, str(error))
        reason = contradiction(one, result)
        batches, records, good = batches + result.batches, records + result.records, result.head
        if reason is not None:
            return VerifyResult(False, batches, records, good, good.batch + 1, reason)
    return VerifyResult(True, batches, records, good)


def contradiction(one: Archived, result: ArchiveResult) -> str | None:
    """What is wrong with this archive, by a check of it and by what the journal says of it; None if nothing is."""
    named = (one.prev_hash.hex(), one.first_batch, one.head, one.file_sha256)
    if not result.ok:
        return f"{one.file}: {result.reason}"
    if named != (result.prev_hash, result.first_batch, result.head, result.file_sha256):
        return f"{one.file} is not the archive that the journal names"
    return None


def _complaint_about_start(archive: ArchiveReader, after: ArchiveResult | None) -> str | None:
    if archive.first_batch == 1 and archive.prev_hash != genesis(archive.identity):
        return "it names another journal than the one that its chain begins with"
    if after is None:
        return None
    if archive.identity.hex() != after.identity:
        return "it is of another journal than the one before it"
    if (archive.first_batch, archive.first_seq) != (after.head.batch + 1, after.head.seq + 1):
        return f"it begins at batch {archive.first_batch}, {after.head.batch + 1} must follow"
    if archive.prev_hash.hex() != after.head.hash_hex:
        return "it does not continue the archive before it (previous hash differs)"
    return None


def _complaint(one: ArchivedBatch, good: Head, expect: Head | None) -> str | None:
    if (one.batch, one.first_seq) != (good.batch + 1, good.seq + 1):
        return f"batch {one.batch} from record {one.first_seq} on, where batch {good.batch + 1} must follow"
    if len(one.records) != one.last_seq - one.first_seq + 1 or (one.note is not None and one.records):
        return f"{len(one.records)} records of {one.last_seq - one.first_seq + 1} are there"
    previous = bytes.fromhex(good.hash_hex)
    digest = batch_hash(
        previous, one.batch, one.first_seq, one.last_seq, one.last_message_id, one.time_us, one.records, one.note
    )
    if digest != one.hash:
        return "its content differs from what was written (hash differs)"
    if expect is not None and expect.batch == one.batch and expect.hash_hex != one.hash.hex():
        return "it is not the batch that the expected head names"
    return None
