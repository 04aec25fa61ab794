"""What may be asked of the journal while the daemon runs: who asked is on record, and a refusal says why."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from gateway.control import Code, ControlError
from gateway.housekeeping_troubles import CareFailed
from gateway.operations import Desk
from tests.core_station import Station

from .conftest import Ask

DAY_US = 86_400_000_000


class FakeWork:
    """What is asked of it, and its answers."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.seen: tuple[int, int] | None = None
        self.fails = ""

    async def check(self) -> dict[str, Any]:
        return await self._answer("check", {"ok": True})

    async def backup(self, target: Path | None, seen: tuple[int, int] | None) -> dict[str, Any]:
        self.seen = seen
        return await self._answer(target, {"file": str(target)})

    async def archive(self, before_us: int) -> list[dict[str, Any]]:
        told = await self._answer(before_us, {"file": "1.gz"})
        return [told]

    async def _answer(self, what: Any, told: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(what)
        if self.fails:
            raise CareFailed(self.fails)
        return told


@pytest.fixture
def work(desk: Desk) -> FakeWork:
    """Somebody looks after the journal."""
    made = FakeWork()
    care: Any = SimpleNamespace(work=made, care=SimpleNamespace(keep_days=90), stats=lambda: {"batch": 3})
    desk.health.care = care
    return made


def recorded(station: Station, kind: str = "audit") -> list[dict[str, Any]]:
    return [msgspec.json.decode(one.payload) for one in station.store.records if one.kind == kind]


async def refusal(asked: Any) -> tuple[Code, str]:
    with pytest.raises(ControlError) as caught:
        await asked
    return caught.value.code, str(caught.value)


async def test_what_is_asked_is_on_record_with_who_asked(ask: Ask, work: FakeWork, station: Station) -> None:
    assert await ask("journal.stats") == {"batch": 3}
    assert await ask("journal.check", actor="olga") == {"ok": True}
    assert await ask("journal.backup", target="/mnt/b.db", actor="olga", device=7, inode=9) == {"file": "/mnt/b.db"}
    assert work.seen == (7, 9)
    assert [(one["op"], one["actor"], one.get("target")) for one in recorded(station)] == [
        ("journal.check", "olga (scada)", None),
        ("journal.backup", "olga (scada)", "/mnt/b.db"),
    ]
    assert work.asked == ["check", Path("/mnt/b.db")]
    await ask("journal.backup", actor="olga")
    assert (work.asked[-1], work.seen) == (None, None), "the daemon chooses"


async def test_what_is_not_done_is_refused_with_the_reason_and_that_is_on_record(
    ask: Ask, work: FakeWork, station: Station
) -> None:
    work.fails = "/mnt is full"
    assert await refusal(ask("journal.backup", target="/mnt/b.db")) == (Code.REFUSED, "/mnt is full")
    await station.engine.on_disk()
    assert recorded(station, "audit_refused")[0]["refused"] == "/mnt is full"


async def test_archives_go_up_to_a_day_or_to_what_the_site_keeps(ask: Ask, work: FakeWork, station: Station) -> None:
    told = await ask("journal.archive", before="2026-01-01")
    assert told == {"before": "2026-01-01T00:00:00.000Z", "files": [{"file": "1.gz"}]}
    await ask("journal.archive")
    first_us = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1e6)
    assert work.asked == [first_us, station.engine.now_us() - 90 * DAY_US]
    assert recorded(station)[0]["before"] == "2026-01-01T00:00:00.000Z"


async def test_nothing_of_the_future_is_archived_and_nothing_without_a_day_where_the_site_names_none(
    ask: Ask, work: FakeWork, desk: Desk
) -> None:
    code, words = await refusal(ask("journal.archive", before="2099-01-01"))
    assert (code, "still to come" in words) == (Code.BAD_REQUEST, True)
    code, words = await refusal(ask("journal.archive", before="soon"))
    assert (code, "is no time" in words) == (Code.BAD_REQUEST, True)
    care: Any = desk.health.care
    care.care.keep_days = 0
    code, words = await refusal(ask("journal.archive"))
    assert (code, "--before DATE" in words) == (Code.BAD_REQUEST, True)
    assert work.asked == []


async def test_where_nobody_looks_after_it_that_is_said(ask: Ask) -> None:
    assert (await refusal(ask("journal.stats")))[0] is Code.UNAVAILABLE
