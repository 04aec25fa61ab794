"""Who did what: the records of nobody, newest first, by user, operation, time and refusal, a page at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.clock import iso
from gateway.control import Code
from gateway.durable.store import Batch, RecordRow
from gateway.evidence.entry import is_refused
from gateway.operations import Desk, audit, handlers
from gateway.operator import deeds
from journal import Journal
from protocols.opcua.surface import Doing, Status

from .conftest import Ask
from .test_operations import refused

AT = 1_768_435_200_000_000
OLA = {"via": "opcua", "user": "ola", "role": "OPERATOR", "session": "s1", "address": "10.0.0.1:5"}


class Book:
    """A real journal, and the operation over it. A record each second."""

    def __init__(self, journal: Journal, desk: Desk) -> None:
        self.journal = journal
        self.ask = handlers(replace(desk, log=journal))["audit.list"]

    async def write(self, *records: tuple[str, str, dict[str, Any] | bytes]) -> None:
        """Records of (instance, kind, what it says)."""
        batch = Batch()
        for seq, (instance, kind, told) in enumerate(records, self.journal.head().seq + 1):
            payload = told if isinstance(told, bytes) else msgspec.json.encode(told)
            batch.records.append(RecordRow(seq, instance, kind, AT + seq * 1_000_000, payload))
        batch.time_us = batch.records[-1].time_us
        await self.journal.commit(batch)

    async def seqs(self, **args: Any) -> list[int]:
        """The numbers of the records on one page."""
        page: Any = await self.ask(args)
        return [one["seq"] for one in page["records"]]


@pytest.fixture
async def book(tmp_path: Path, desk: Desk) -> AsyncIterator[Book]:
    journal = await Journal.open(tmp_path / "journal.db")
    one = Book(journal, desk)
    yield one
    await journal.close()


def asked(op: str, actor: str = "ola", **more: Any) -> tuple[str, str, dict[str, Any]]:
    return ("", "audit", {"op": op, "actor": actor, **more})


TURN = ("plan", "turn", b"{}")
DAY = (
    ("", "gateway", {"event": "started", "pid": 7}),  # 1
    TURN,
    asked("opcua.login", peer=OLA),  # 3
    asked("mode", "jane (root)", peer={"user": "root", "pid": 9}),  # 4
    TURN,
    ("", "audit_refused", {"op": "mode", "actor": "bob", "refused": "no"}),  # 6
    asked("opcua.login_refused", "eve", detail="wrong"),  # 7
    asked("opcua.BreakerType.Open", peer=OLA, status="ok", message="opened"),  # 8
    asked("opcua.BreakerType.Open", peer=OLA, status="refused", message="blocked"),  # 9
    TURN,
)


async def test_newest_first_and_nothing_but_the_records_of_nobody(book: Book) -> None:
    await book.write(*DAY)
    page: Any = await book.ask({})
    assert [one["seq"] for one in page["records"]] == [9, 8, 7, 6, 4, 3, 1]
    assert page["next"] is None
    last = page["records"][0]
    assert (last["kind"], last["time_us"], last["refused"]) == ("audit", AT + 9_000_000, True)
    assert last["told"] == DAY[8][2]


async def test_an_empty_journal_has_an_empty_list(book: Book) -> None:
    assert await book.ask({}) == {"records": [], "next": None}


@pytest.mark.parametrize(
    ("args", "seqs"),
    [
        ({"refused": True}, [9, 7, 6]),
        ({"op": "opcua."}, [9, 8, 7, 3]),
        ({"op": "gateway.st"}, [1]),
        ({"user": "ola"}, [9, 8, 3]),
        ({"user": "jane"}, [4]),
        ({"user": "root"}, [4]),
        ({"user": "jan"}, []),
        ({"user": "ola", "refused": True}, [9]),
        ({"since": iso(AT + 4_000_000), "until": iso(AT + 8_000_000)}, [8, 7, 6, 4]),
        ({"until": iso(AT)}, []),
        ({"since": iso(AT + 99_000_000)}, []),
        ({"until": iso(AT + 99_000_000), "before": 4}, [3, 1]),
        ({"before": 5}, [4, 3, 1]),  # of another instance: no link, and yet a place
        ({"before": 10**9}, [9, 8, 7, 6, 4, 3, 1]),
        ({"before": 1}, []),
    ],
)
async def test_what_is_asked_for(book: Book, args: dict[str, Any], seqs: list[int]) -> None:
    await book.write(*DAY)
    assert await book.seqs(**args) == seqs


async def test_pages_follow_each_other_without_gap_or_repetition(book: Book) -> None:
    await book.write(*DAY)
    seen: list[int] = []
    args: dict[str, Any] = {"limit": 2}
    while True:
        page: Any = await book.ask(args)
        seen += [one["seq"] for one in page["records"]]
        if page["next"] is None:
            break
        args["before"] = page["next"]
    assert seen == [9, 8, 7, 6, 4, 3, 1]


@pytest.mark.parametrize("ahead", [0, 100_000])
async def test_a_search_is_bounded_and_says_where_to_go_on(
    book: Book, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    monkeypatch.setattr(audit, "SLICE", 3)
    monkeypatch.setattr(audit, "READ_AT_MOST", 6)
    monkeypatch.setattr(audit, "LOOK_AHEAD", ahead)
    await book.write(*(asked("a" if n == 0 else "b") for n in range(10)))
    assert await book.ask({"op": "a"}) == {"records": [], "next": 5}
    if ahead:
        assert await book.seqs(op="a", before=5) == [1]


async def test_an_answer_has_no_more_bytes_than_it_may(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "BYTES_AT_MOST", 50)
    await book.write(*(asked("a", reason="x" * 40) for _ in range(3)))
    page: Any = await book.ask({})
    assert ([one["seq"] for one in page["records"]], page["next"]) == ([3], 3)


async def test_a_record_that_can_t_be_read_hides_no_other(book: Book) -> None:
    await book.write(asked("a"), ("", "audit", b"{no"), asked("c"))
    page: Any = await book.ask({})
    assert [one["told"]["op"] for one in page["records"]] == ["c", "?", "a"]
    assert "can't be read" in page["records"][1]["told"]["detail"]


def test_what_is_no_refusal_at_the_door_is_what_the_door_calls_good() -> None:
    told = {doing: is_refused("audit", {"op": f"opcua.{doing.value}"}) for doing in Doing}
    assert {doing for doing, bad in told.items() if not bad} == deeds._GOOD
    calls = [status for status in Status if not is_refused("audit", {"status": status.value, "message": ""})]
    assert calls == [Status.OK]


async def test_what_operations_record_is_found(ask: Ask) -> None:
    await ask("breakers.block", feeder="B1", reason="crew", actor="ada")
    (one,) = (await ask("audit.list", user="ada"))["records"]
    assert (one["told"]["op"], one["told"]["reason"], one["refused"]) == ("breakers.block", "crew", False)


async def test_who_takes_the_record_out_is_on_record(ask: Ask) -> None:
    told = {"format": "csv", "filter": '{"feeder":"B1"}', "to": "/tmp/x.csv"}
    assert await ask("audit.exported", **told, actor="ada") == {"recorded": True}
    (one,) = (await ask("audit.list", user="ada"))["records"]
    assert {key: one["told"][key] for key in told} == told
    assert one["told"]["actor"].startswith("ada")


@pytest.mark.parametrize("args", [{"before": 0}, {"before": "9"}, {"before": True}, {"since": "soon"}, {"limit": 0}])
async def test_what_can_t_be_asked(ask: Ask, args: dict[str, Any]) -> None:
    assert (await refused(ask("audit.list", **args)))[0] is Code.BAD_REQUEST
