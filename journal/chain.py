"""The hash chain: pure functions from rows to bytes to a hash. Section "Hash chain" of format.md is the contract.

What must stay true: the bytes of a batch are a function of its rows alone, and no two different batches have the same
bytes (each variable part is preceded by its length; a note stands only where there are no records). Changing anything
here breaks every journal ever written.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from typing import Final

from journal.rows import BatchTuple, LinkedRecord, Note

_GENESIS_TAG: Final = b"gridlatch journal 1\n"
_BATCH_HEAD: Final = struct.Struct(">QQQQqI")  # batch, first_seq, last_seq, last_message_id, time_us, number of records
_RECORD_HEAD: Final = struct.Struct(">QqQIII")  # seq, time_us, prev, bytes of instance, of kind, of payload
_NOTE_HEAD: Final = struct.Struct(">II")  # bytes of kind, of payload


def genesis(identity: bytes) -> bytes:
    """The hash that stands before batch 1 of the journal with this identity (16 bytes)."""
    return hashlib.sha256(_GENESIS_TAG + identity).digest()


def batch_hash(
    previous: bytes,
    batch: int,
    first_seq: int,
    last_seq: int,
    last_message_id: int,
    time_us: int,
    records: Sequence[LinkedRecord],
    note: Note | None = None,
) -> bytes:
    """SHA-256 over the previous hash, the batch's own row and its records, in the order of seq; or its note."""
    head = _BATCH_HEAD.pack(batch, first_seq, last_seq, last_message_id, time_us, len(records))
    parts = [previous, head, records_bytes(records)] if records else [previous, head]
    if note is not None:
        kind = note.kind.encode()
        parts += (_NOTE_HEAD.pack(len(kind), len(note.payload)), kind, note.payload)
    return hashlib.sha256(b"".join(parts)).digest()


def records_bytes(records: Iterable[LinkedRecord]) -> bytes:
    """The canonical bytes of records, one after the other."""
    pack = _RECORD_HEAD.pack
    parts: list[bytes] = []
    for seq, instance, kind, record_time_us, prev, payload in records:
        who = instance.encode()
        what = kind.encode()
        parts += (pack(seq, record_time_us, prev, len(who), len(what), len(payload)), who, what, payload)
    return b"".join(parts)


def count_good(previous: bytes, following: int, rows: Sequence[BatchTuple], records: Sequence[LinkedRecord]) -> int:
    """How many of these batches, from the first on, continue each other and hold what their hashes say.

    previous: the hash before them. following: number of the first. records: those of all, in order, none missing; none of
    the batches has a note. The same as ``batch_hash`` for one after the other, in half the time. Raises struct.error,
    TypeError, AttributeError for values that no writer gives.
    """
    pack, head, sha256, join = _RECORD_HEAD.pack, _BATCH_HEAD.pack, hashlib.sha256, b"".join
    parts = [
        join(
            (
                pack(seq, time_us, prev, len(who := i.encode()), len(what := k.encode()), len(payload)),
                who,
                what,
                payload,
            )
        )
        for seq, i, k, time_us, prev, payload in records
    ]
    begin = 0
    for number, row in enumerate(rows):
        batch, first_seq, last_seq, last_message_id, time_us, prev_hash, stored = row
        if batch != following or prev_hash != previous:
            return number
        end = begin + last_seq - first_seq + 1
        own = head(batch, first_seq, last_seq, last_message_id, time_us, end - begin)
        if stored != sha256(join((prev_hash, own, *parts[begin:end]))).digest():
            return number
        begin, previous, following = end, stored, batch + 1
    return len(rows)
