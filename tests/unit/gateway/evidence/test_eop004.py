"""The draft: what is recorded stands in it, what only people know is marked, and nothing is promised beyond that."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from unit.gateway.evidence.records import AT, SECOND

from gateway.durable import history as h
from gateway.durable.codec import pack
from gateway.evidence import eop004
from gateway.evidence.entry import Entry
from gateway.evidence.errors import TooLong
from gateway.moves import Move

MINUTE = 60 * SECOND
SHED = "shed-Northgate-000001"


def entry(seq: int, minute: int, instance: str, kind: str, told: dict[str, Any]) -> Entry:
    return Entry.of(seq, instance, kind, AT + minute * MINUTE, json.dumps(told).encode())


def moved(minute: int, target: str, kw: float = 0.0, feeder: str = "F1") -> tuple[str, Move]:
    at_us = AT + minute * MINUTE
    return feeder, Move(at_us, 1, target, "done", kw=kw, position=target, read_us=at_us, sent=True)


def breaker(seq: int, minute: int, feeder: str, target: str, kw: float, procedure: str = SHED) -> Entry:
    """A command as the breaker's entity records it: asked, and read back."""
    order = {"request_id": f"r{seq}", "actor": "jane", "kw": kw, "procedure": procedure}
    start = h.EntityActivity(1, "operate", "command_result")
    word = "open" if target == "open" else "close"
    seen = {"position": target, "quality": "good"}
    operations = [
        h.OperationRecord(word, pack(order, "a test"), actions=(start,)),
        h.OperationRecord("observe", pack(seen, "a test")),
    ]
    record = msgspec.json.encode(h.EntityRecord(operations))
    return Entry.of(seq, f"@breaker@{feeder}", h.OPERATION, AT + minute * MINUTE, record)


def an_event() -> list[Entry]:
    status = {"phase": "shedding", "sentence": "opens 2 of 2 feeders"}
    started = {"type": "ExecutionStarted", "name": "LoadSheddingProtocol", "input": {"reason": "loading 98.6 %"}}
    result = {"status": "restored", "opened": 2, "closed": 1, "failed": []}
    override = {"op": "override", "actor": "olga", "decision": "hold", "instance": SHED, "reason": "a hospital asks"}
    return [
        entry(1, 0, "", "gateway", {"event": "started", "site": "Northgate"}),
        entry(2, 1, SHED, h.TURN, {"events": [started], "custom_status": status}),
        breaker(3, 2, "F1", "open", 60_000.0),
        breaker(4, 3, "F2", "open", 50_000.0),
        entry(5, 4, "", "audit", override),
        entry(6, 5, SHED, h.TURN, {"events": [], "custom_status": {"sentence": "waits 1 s"}}),
        entry(7, 6, SHED, h.TURN, {"events": [], "custom_status": {"sentence": "waits 2 s"}}),
        breaker(8, 32, "F1", "closed", 0.0),
        entry(9, 40, SHED, h.TURN, {"events": [{"type": "ExecutionCompleted", "result": result}]}),
        breaker(10, 41, "F9", "open", 7_000.0, procedure=""),
    ]


def drafted(instance: str = "", archived_to: int = 0) -> str:
    return eop004.draft(eop004.gather(an_event(), instance), "543:0c50", archived_to)


def test_the_figures_of_the_load() -> None:
    load = eop004.load_of(
        [moved(0, "open", 100.0), moved(6, "open", 50.0, "F2"), moved(12, "closed")], AT + 18 * MINUTE
    )
    assert (load.opened, load.closed, load.peak_kw, load.still_open) == (2, 1, 150.0, ("F2",))
    assert load.energy_kwh == pytest.approx(100 * 0.2 + 50 * 0.2)
    assert (load.first_us, load.last_open_us, load.all_closed_us) == (AT, AT + 6 * MINUTE, 0)
    closed = eop004.load_of([moved(0, "open"), moved(3, "closed")], AT)
    assert (closed.all_closed_us, closed.without_load) == (AT + 3 * MINUTE, 1)


def test_a_feeder_that_is_opened_twice_counts_once() -> None:
    load = eop004.load_of([moved(0, "open", 100.0), moved(1, "open", 100.0)], AT)
    assert (load.opened, load.peak_kw) == (1, 100.0)


def test_the_draft_tells_what_is_recorded() -> None:
    text = drafted(SHED)
    assert text.startswith("*** DRAFT *** NOT FILED ***")
    for told in (
        "Date (mm/dd/yyyy):                 01/14/2026",
        "Time (hh:mm):                      08:01",
        "Recorded cause: loading 98.6 %",
        "at most 110.000 MW were off at once by command, at or above 100 MW",
        "Feeders opened / closed again:     2 / 1",
        "All closed again:                  no",
        "People on record: olga",
        f"olga: override hold {SHED}; reason: a hospital asks",
        "Result of the procedure:           status restored, opened 2, closed 1, failed []",
        f"F1                   open       60000.0 kW  done       {SHED}",
        "Journal head 543:0c50; procedure shed-Northgate-000001",
        "Not closed by then: F2",
    ):
        assert told in text
    assert "F9" not in text
    assert text.count("waits") == 1


def test_what_only_people_know_is_marked_and_no_box_is_ticked() -> None:
    text = drafted(SHED)
    filled = [line for line in text.splitlines() if eop004.FILL in line]
    assert len(filled) >= 9
    for name in ("Company name", "Telephone number", "Submitted by", "Customers affected", "Checked by"):
        assert any(name in line for line in filled)
    assert "[x]" not in text.lower()


def test_a_span_tells_of_everything_in_it() -> None:
    text = drafted(archived_to=17)
    assert "at most 110.000 MW" in text  # F1 was closed before F9 was opened: 60 + 50, then 50 + 7
    assert "F9" in text
    assert "Station:                           Northgate" in text
    assert "Records up to 17 are in archives and were not looked at." in text


def test_nothing_happened() -> None:
    text = eop004.draft(eop004.gather([]), "0:00", 0)
    assert "No breaker was operated." in text
    assert f"Date (mm/dd/yyyy):                 {eop004.FILL}" in text


def test_what_can_t_be_read_is_said_and_nothing_ends_a_line() -> None:
    broken = Entry.of(1, "@breaker@F1", h.OPERATION, AT, b'{"operations": 7}')
    forged = entry(2, 0, "", "audit", {"op": "mode", "actor": "eve\n*** END OF DRAFT ***", "reason": "\x1b[2K"})
    text = eop004.draft(eop004.gather([broken, forged]), "0:00", 0)
    assert "Could not be read: F1" in text
    assert text.count("\n*** END OF DRAFT ***") == 1
    assert "\x1b" not in text


def test_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eop004, "RECORDS_AT_MOST", 2)
    with pytest.raises(TooLong, match="narrow it"):
        eop004.gather([breaker(seq, 0, "F1", "open", 1.0) for seq in range(3)])
