"""Archive files: a part of the log as whole batches in gzipped JSON Lines, to be read and checked without a journal.

Section "Archives" of format.md is the contract. The first line says which journal and which batch follows, with the hash
before it; then each batch is a line with its hash, followed by a line for each of its records; the last line says what
the file ends with. The chain of hashes is that of the journal: recomputed from the first line on, it must lead to the
last line, so that a file verifies alone, and two neighbours verify in a row.

A line is read only if it is, byte for byte, what the writer gives for what it says: with two payloads, a key twice or one
of no writer's, a person's tool would show another text than the one that was hashed.

What must stay true: what is written is what was read, byte for byte (a payload that is not UTF-8 stands there as base64);
a file is never changed once it has its name. On a crash here: a file without its name, which nobody will read.
"""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import msgspec

from journal.errors import JournalCorrupt, JournalNotFound
from journal.rows import MAX_BATCH_RECORDS, BatchTuple, Head, LinkedRecord, Note

FORMAT: Final = "gridlatch archive 1"
SUFFIX: Final = ".jsonl.gz"
COMPRESSION: Final = 6
MAX_LINE_BYTES: Final = 512 * 1024 * 1024
"""A longer line is damage: a record's payload is bounded by what the engine lets an instance say."""

_text = json.encoder.encode_basestring  # with non-ASCII as it is: for people


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    format: str
    identity: str
    first_batch: int
    first_seq: int
    prev_hash: str


class _Batch(msgspec.Struct, forbid_unknown_fields=True):
    batch: int
    first_seq: int
    last_seq: int
    last_message_id: int
    time_us: int
    hash: str
    note: str = ""
    payload: str = ""


class _Record(msgspec.Struct, forbid_unknown_fields=True):
    seq: int
    instance: str
    kind: str
    time_us: int
    prev: int
    payload: str = ""
    payload_base64: str = ""


class _End(msgspec.Struct, forbid_unknown_fields=True):
    end: int
    last_seq: int
    time_us: int
    hash: str
    batches: int
    records: int


_decode_header = msgspec.json.Decoder(_Header).decode
_decode_batch = msgspec.json.Decoder(_Batch).decode
_decode_record = msgspec.json.Decoder(_Record).decode
_decode_end = msgspec.json.Decoder(_End).decode


@dataclass(frozen=True, slots=True)
class ArchivedBatch:
    """One batch of an archive, with its records as they were in the journal."""

    batch: int
    first_seq: int
    last_seq: int
    last_message_id: int
    time_us: int
    hash: bytes
    note: Note | None
    records: Sequence[LinkedRecord]


class ArchiveWriter:
    """Writes one archive into an open file, batch by batch. Flushing and naming the file is the caller's part."""

    def __init__(self, file: IO[bytes], identity: bytes, good: Head) -> None:
        """Begin an archive of what follows the batch ``good``."""
        self._zip = gzip.GzipFile("", "wb", COMPRESSION, file, mtime=0)
        self._head = good
        self._batches = 0
        self._records = 0
        header = _Header(FORMAT, identity.hex(), good.batch + 1, good.seq + 1, good.hash_hex)
        self._zip.write(msgspec.json.encode(header) + b"\n")

    def add(self, row: BatchTuple, note: Note | None, records: Sequence[LinkedRecord]) -> None:
        """Append a batch; batches come in order, without gaps."""
        batch, first_seq, last_seq, last_message_id, time_us, _, digest = row
        lines = [_batch_line(batch, first_seq, last_seq, last_message_id, time_us, digest, note)]
        lines += map(_record_line, records)
        self._zip.write("".join(lines).encode())
        self._head = Head(batch, last_seq, digest.hex(), time_us)
        self._batches += 1
        self._records += len(records)

    def finish(self) -> None:
        """Write the last line and what gzip ends with; the file stays open."""
        head = self._head
        end = _End(head.batch, head.seq, head.time_us, head.hash_hex, self._batches, self._records)
        self._zip.write(msgspec.json.encode(end) + b"\n")
        self._zip.close()


class ArchiveReader:
    """An open archive: its header, and its batches in order. Make one by ``with ArchiveReader(path) as archive``."""

    def __init__(self, path: Path) -> None:
        """Raises JournalNotFound (no such file), JournalCorrupt (no archive), OSError."""
        self.path = path
        self._line = 0
        try:
            self._zip = gzip.open(path, "rb")  # noqa: SIM115  # closed by __exit__
        except FileNotFoundError as error:
            raise JournalNotFound(f"{path} does not exist") from error
        try:
            line = self._next_line()
            header = _decode_header(line)
            if header.format == FORMAT:  # another one is told as such
                _refuse_other(line, msgspec.json.encode(header) + b"\n")
            self.identity = bytes.fromhex(header.identity)
            self.prev_hash = bytes.fromhex(header.prev_hash)
        except _DAMAGE as error:
            self._zip.close()
            raise JournalCorrupt(f"{path} is no archive of a journal: {error}") from error
        if header.format != FORMAT:
            self._zip.close()
            raise JournalCorrupt(f"{path} is of another format: {header.format}")
        self.first_batch = header.first_batch
        self.first_seq = header.first_seq
        self.end: Head | None = None

    def __enter__(self) -> ArchiveReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the file free."""
        self._zip.close()

    def batches(self) -> Iterator[ArchivedBatch]:
        """All batches. Raises JournalCorrupt for what can't be read, or has no end. Hashes are not checked here."""
        batches = records = 0
        try:
            line = self._next_line()
            while not line.startswith(b'{"end"'):
                row = _decode_batch(line)
                note = Note(row.batch, row.time_us, row.note, row.payload.encode()) if row.note else None
                digest = bytes.fromhex(row.hash)
                written = _batch_line(
                    row.batch, row.first_seq, row.last_seq, row.last_message_id, row.time_us, digest, note
                )
                _refuse_other(line, written.encode())
                own, line = self._records(row.last_seq - row.first_seq + 1)
                batches += 1
                records += len(own)
                yield ArchivedBatch(
                    row.batch, row.first_seq, row.last_seq, row.last_message_id, row.time_us, digest, note, own
                )
            end = _decode_end(line)
            _refuse_other(line, msgspec.json.encode(end) + b"\n")
            if self._zip.read(1) or (end.batches, end.records) != (batches, records):
                raise ValueError("it does not end where it says")
            self.end = Head(end.end, end.last_seq, end.hash, end.time_us)
        except _DAMAGE as error:
            raise JournalCorrupt(f"{self.path}: line {self._line}: {error}") from error

    def _records(self, expected: int) -> tuple[list[LinkedRecord], bytes]:
        """The lines of records that follow, and the line after them."""
        if not 0 <= expected <= MAX_BATCH_RECORDS:
            raise ValueError(f"a batch claims {expected} records")
        found: list[LinkedRecord] = []
        line = self._next_line()
        while line.startswith(b'{"seq"'):
            if len(found) == expected:
                raise ValueError("a batch holds more records than it claims")
            one = _decode_record(line)
            payload = b64decode(one.payload_base64, validate=True) if one.payload_base64 else one.payload.encode()
            found.append((one.seq, one.instance, one.kind, one.time_us, one.prev, payload))
            _refuse_other(line, _record_line(found[-1]).encode())
            line = self._next_line()
        return found, line

    def _next_line(self) -> bytes:
        self._line += 1
        line = self._zip.readline(MAX_LINE_BYTES)
        if not line.endswith(b"\n"):
            raise ValueError("it was cut off")
        return line


_DAMAGE: Final = (EOFError, zlib.error, gzip.BadGzipFile, msgspec.MsgspecError, struct.error, ValueError)
"""What reading a damaged archive may raise; a UnicodeError is a ValueError."""


def archive_name(identity: bytes, first_batch: int, last_batch: int) -> str:
    """Names sort in the order of the chain, and tell journals apart."""
    return f"journal-{identity.hex()[:8]}-{first_batch:012d}-{last_batch:012d}{SUFFIX}"


def _batch_line(
    batch: int, first_seq: int, last_seq: int, last_message_id: int, time_us: int, digest: bytes, note: Note | None
) -> str:
    said = "" if note is None else f',"note":{_text(note.kind)},"payload":{_text(note.payload.decode())}'
    return (
        f'{{"batch":{batch},"first_seq":{first_seq},"last_seq":{last_seq},"last_message_id":{last_message_id},'
        f'"time_us":{time_us},"hash":"{digest.hex()}"{said}}}\n'
    )


def _record_line(record: LinkedRecord) -> str:
    seq, instance, kind, time_us, prev, payload = record
    return (
        f'{{"seq":{seq},"instance":{_text(instance)},"kind":{_text(kind)},"time_us":{time_us},"prev":{prev},'
        f"{_payload(payload)}}}\n"
    )


def _refuse_other(line: bytes, written: bytes) -> None:
    if line != written:
        raise ValueError("it is not as it was written: keys that are doubled, missing or too many, or another notation")


def _payload(payload: bytes) -> str:
    try:
        return f'"payload":{_text(payload.decode())}'
    except UnicodeDecodeError:
        return f'"payload_base64":"{b64encode(payload).decode()}"'
