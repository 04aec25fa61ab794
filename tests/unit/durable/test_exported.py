"""Histories in a file: what is written is read back, a file of anything else is refused with its line."""

from __future__ import annotations

import io

import msgspec
import pytest

from gateway.durable import ExportError
from gateway.durable import history as h
from gateway.durable.codec import pack
from gateway.durable.exported import Header, lines, read, recorded
from gateway.durable.instances import ORCHESTRATION, OrchestrationState, encode_state
from gateway.durable.store import InstanceRow


def row(instance: str = "drill", state: bytes | None = None) -> InstanceRow:
    given = encode_state(OrchestrationState(version="2", execution=3, replays=7)) if state is None else state
    return InstanceRow(instance, ORCHESTRATION, "Drill", "Running", "", 10, 20, 5, given)


def turn(*events: h.Event) -> bytes:
    return h.encode_turn(h.TurnRecord(list(events)))  # type: ignore[arg-type]


STARTED = turn(h.ExecutionStarted("Drill", pack({"a": "ä"}, "input")), h.TaskScheduled(1, "Open"))
DONE = turn(h.TaskCompleted(1, pack(1, "it")), h.ExecutionCompleted())


def test_what_was_written_is_read_back() -> None:
    history = recorded(row(), [(5, "drill", "turn", 11, STARTED), (9, "drill", "turn", 12, DONE)])
    text = b"".join(lines(Header(exported="now"), [history, history]))
    assert text.count(b"\n") == 3
    back = list(read(io.BytesIO(text)))
    assert back == [history, history]
    assert (back[0].version, back[0].execution, back[0].replays) == ("2", 3, 7)
    (_, _, first), (seq, time_us, last) = back[0].decoded()
    assert (seq, time_us) == (9, 12)
    assert isinstance(first.events[0], h.ExecutionStarted)
    assert isinstance(last.events[-1], h.ExecutionCompleted)


def test_only_turns_of_the_execution_of_the_row_belong_to_it() -> None:
    later = [(5, "drill", "turn", 11, STARTED), (6, "drill", "note", 11, b"{}"), (7, "drill", "turn", 12, STARTED)]
    assert [one.seq for one in recorded(row(), later).turns] == [5], "the next execution began after the row was read"


@pytest.mark.parametrize("payload", [b"{not json", b'{"events": 3}'])
def test_what_can_not_be_put_into_a_line_is_told(payload: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        recorded(row(), [(5, "drill", "turn", 11, payload)])
    with pytest.raises(msgspec.MsgspecError):
        recorded(row(state=b"?"), [])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "line 1 is not one"),
        (b"def f():\n", "line 1 is not one"),
        (b'{"format": "other", "version": 1}\n', "format 'other'"),
        (b'{"format": "gridlatch-histories", "version": 2}\n', "version 2; this software reads up to 1"),
        (b'{"format": "gridlatch-histories", "version": 1}\n{"instance": "a", "na', "line 2 is not one"),
        (b'{"format": "gridlatch-histories", "version": 1}\n\xff\xfe\n', "line 2 is not"),
        (b'{"format": "gridlatch-histories", "version": 1}\n\n{"instance": 3}\n', "line 3 is not one"),
    ],
)
def test_another_file_is_refused_with_its_line(text: bytes, words: str) -> None:
    with pytest.raises(ExportError, match=words):
        list(read(io.BytesIO(text)))
