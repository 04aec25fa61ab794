"""Histories in a file: recorded runs that can be carried to another machine and replayed there.

The format is JSON lines in UTF-8. The first line is a header::

    {"format": "gridlatch-histories", "version": 1, "exported": "2026-01-14T08:00:00Z"}

Each further line is one instance with the turns of its present execution, oldest first; times are microseconds since
1970, ``turn`` is the record as the journal holds it (``TurnRecord``, see ``history.py``)::

    {"instance": "shed-1", "name": "LoadSheddingProtocol", "status": "Running", "parent": "", "created_us": 1,
     "updated_us": 2, "version": "", "execution": 1, "replays": 0,
     "turns": [{"seq": 7, "time_us": 1, "turn": {"events": [...]}}]}

What must stay true: a field may be added with a default, never renamed; a file of a newer version is refused; a file that
was cut off in the middle of a line is told as such. On a crash while writing: the last line is not whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

import msgspec

from gateway.durable import history as h
from gateway.durable.codec import Raw
from gateway.durable.errors import ExportError
from gateway.durable.instances import decode_state
from gateway.durable.store import InstanceRow

FORMAT = "gridlatch-histories"
VERSION = 1
MAX_LINE_BYTES = 256 * 1024 * 1024
"""A longer line is refused: no history that the engine allows is that long."""


class Header(msgspec.Struct, frozen=True):
    """The first line."""

    format: str = FORMAT
    version: int = VERSION
    exported: str = ""


class RecordedTurn(msgspec.Struct, frozen=True):
    """One turn, not decoded: what this version can't read must not hide the rest."""

    seq: int
    time_us: int
    turn: Raw


class RecordedHistory(msgspec.Struct, frozen=True):
    """One instance with the turns of its present execution."""

    instance: str
    name: str
    status: str
    parent: str = ""
    created_us: int = 0
    updated_us: int = 0
    version: str = ""
    execution: int = 1
    replays: int = 0
    turns: list[RecordedTurn] = []

    def decoded(self) -> list[tuple[int, int, h.TurnRecord]]:
        """The turns as seq, time and record. Raises msgspec.MsgspecError for what this version can't read."""
        return [(turn.seq, turn.time_us, h.decode_turn(turn.turn)) for turn in self.turns]


_encode = msgspec.json.Encoder().encode
_decode_header = msgspec.json.Decoder(Header).decode
_decode_history = msgspec.json.Decoder(RecordedHistory).decode


def recorded(row: InstanceRow, records: Sequence[tuple[int, str, str, int, bytes]]) -> RecordedHistory:
    """The history of an orchestration: of its row, and its records since the row's first_seq.

    The row may be older than the records: an execution that began after it was read is left out.
    Raises msgspec.MsgspecError for a row, or a record, that this version can't read.
    """
    state = decode_state(row.state)
    turns: list[RecordedTurn] = []
    for seq, _, kind, time_us, payload in records:
        if kind != h.TURN:
            continue
        if _begins(payload) and turns:
            break
        turns.append(RecordedTurn(seq, time_us, Raw(payload)))
    return RecordedHistory(
        row.instance,
        row.name,
        row.status,
        row.parent,
        row.created_us,
        row.updated_us,
        state.version,
        state.execution,
        state.replays,
        turns,
    )


class _FirstEvent(msgspec.Struct):
    events: list[dict[str, Raw]] = []


_decode_first = msgspec.json.Decoder(_FirstEvent).decode


def _begins(payload: bytes) -> bool:
    """True for the first turn of an execution. Raises msgspec.MsgspecError for what would break the line it is put in."""
    events = _decode_first(payload).events
    return bool(events) and bytes(events[0].get("type", b"")) == b'"ExecutionStarted"'


def lines(header: Header, histories: Iterable[RecordedHistory]) -> Iterator[bytes]:
    """The lines of a file, each with its line feed."""
    yield _encode(header) + b"\n"
    for history in histories:
        yield _encode(history) + b"\n"


def read(file: BinaryIO) -> Iterator[RecordedHistory]:
    """The histories of a file that ``lines`` wrote, one after the other. Raises ExportError."""
    number = 1
    try:
        header = _decode_header(file.readline(64 * 1024))
        if header.format != FORMAT:
            raise ExportError(f"line 1 says format {header.format[:60]!r}, not {FORMAT}")
        if header.version > VERSION:
            raise ExportError(f"the file has version {header.version}; this software reads up to {VERSION}")
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise ExportError(f"line {number} has more than {MAX_LINE_BYTES} bytes")
            if line.strip():
                yield _decode_history(line)
    except msgspec.MsgspecError as error:
        raise ExportError(f"line {number} is not one of an export of histories: {error}") from error
    except UnicodeDecodeError as error:
        raise ExportError(f"line {number} is not UTF-8: {error}") from error
