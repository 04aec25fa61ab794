"""What was: positions, loads and events, page by page, in both directions, and never more than was asked for."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

import pytest

from gateway.shedding.entities import breaker_id
from gateway.trend import TrendSample
from protocols.base import Position, Quality
from protocols.opcua.surface import Grade, Sample
from tests.operator_house import FAR_US, OPERATOR, House

Page = Callable[[str], Awaitable[tuple[list[object], str]]]


async def all_pages(page: Page) -> tuple[list[object], int]:
    """All pages in one, and how many there were."""
    found: list[object] = []
    after, pages = "", 0
    while True:
        some, after = await page(after)
        found += some
        pages += 1
        assert pages < 50
        if not after:
            return found, pages


async def see(house: House, position: Position, quality: Quality = Quality.GOOD) -> None:
    house.clock.advance(10.0)
    seen = {"position": position.value, "quality": quality.value, "local": False, "op_count": 1}
    await house.client.signal_entity(breaker_id("B1"), "observe", seen)
    await house.until(lambda: house.engine.idle, "it is on disk")


@pytest.fixture
async def moved(house: House) -> House:
    """B1 was seen, opened, closed by itself, and lost."""
    await see(house, Position.CLOSED)
    await see(house, Position.CLOSED)
    house.clock.advance(10.0)
    await house.call(OPERATOR, "Feeder/B1", "Open", "why")
    await see(house, Position.INTERMEDIATE)
    await see(house, Position.CLOSED)
    await see(house, Position.CLOSED, Quality.BAD)
    return house


class TestPositions:
    async def test_each_change_is_there_once_with_its_time(self, moved: House) -> None:
        page = await moved.backend.history("Feeder/B1", "Pos", 0, FAR_US, 100, "", False)
        assert [(sample.value, sample.grade) for sample in page.samples] == [
            (2, Grade.GOOD),
            (1, Grade.GOOD),
            (0, Grade.GOOD),
            (2, Grade.GOOD),
            (2, Grade.BAD),
        ]
        times = [sample.time_us for sample in page.samples]
        assert times == sorted(times)
        assert page.next == ""

    @pytest.mark.parametrize("newest_first", [False, True])
    @pytest.mark.parametrize("limit", [1, 2, 5])
    async def test_pages_make_the_whole(self, moved: House, limit: int, newest_first: bool) -> None:
        async def page(after: str) -> tuple[list[object], str]:
            one = await moved.backend.history("Feeder/B1", "Pos", 0, FAR_US, limit, after, newest_first)
            assert len(one.samples) <= limit
            return list(one.samples), one.next

        found, pages = await all_pages(page)
        whole = list((await moved.backend.history("Feeder/B1", "Pos", 0, FAR_US, 100, "", False)).samples)
        assert found == (whole[::-1] if newest_first else whole)
        assert pages == math.ceil(5 / limit)

    async def test_both_ends_belong_to_a_span(self, moved: House) -> None:
        whole = (await moved.backend.history("Feeder/B1", "Pos", 0, FAR_US, 100, "", False)).samples
        start_us, end_us = whole[1].time_us, whole[3].time_us
        part = await moved.backend.history("Feeder/B1", "Pos", start_us, end_us, 100, "", False)
        assert list(part.samples) == list(whole[1:4])

    async def test_what_has_no_history_has_an_empty_one(self, moved: House) -> None:
        for key, variable in (
            ("Feeder/B1", "MW"),
            ("Feeder/Z9", "Pos"),
            ("Gateway", "Pos"),
            ("", ""),
            ("Feeder/", "Pos"),
        ):
            assert (await moved.backend.history(key, variable, 0, FAR_US, 10, "", False)).samples == ()

    @pytest.mark.parametrize("after", ["x", "1", "1.2.3", "-1.0", "1.", "٣.٣", "9" * 400, "1.1\x00"])
    async def test_a_place_that_is_none_gives_nothing(self, moved: House, after: str) -> None:
        page = await moved.backend.history("Feeder/B1", "Pos", 0, FAR_US, 10, after, False)
        assert (list(page.samples), page.next) == ([], "")
        assert (await moved.backend.event_history(0, FAR_US, 10, after + ".", True)).next == ""

    async def test_reading_is_bounded_to_the_newest(self, moved: House, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("gateway.operator.history.RECORDS_AT_MOST", 2)
        monkeypatch.setattr("gateway.operator.history.READ_AT_ONCE", 2)
        page = await moved.backend.history("Feeder/B1", "Pos", 0, FAR_US, 10, "", False)
        assert [(sample.value, sample.grade) for sample in page.samples] == [(2, Grade.GOOD), (2, Grade.BAD)]


class TestLoads:
    @pytest.fixture
    async def measured(self, house: House) -> House:
        """Ten samples, one of them not measured."""
        for n in range(1, 11):
            load = None if n == 5 else 900.0 + n
            house.trend.append(TrendSample(n * 1_000_000, load, 1_000.0, n * 10.0, n))
        return house

    @pytest.mark.parametrize("newest_first", [False, True])
    async def test_load_of_the_transformer(self, measured: House, newest_first: bool) -> None:
        async def page(after: str) -> tuple[list[object], str]:
            one = await measured.backend.history("GridStress", "LoadKw", 2_000_000, 9_000_000, 3, after, newest_first)
            return list(one.samples), one.next

        found, pages = await all_pages(page)
        wanted = [
            Sample(None, Grade.BAD, n * 1_000_000) if n == 5 else Sample(900.0 + n, Grade.GOOD, n * 1_000_000)
            for n in range(2, 10)
        ]
        assert found == (wanted[::-1] if newest_first else wanted)
        assert pages == 3

    async def test_what_was_shed(self, measured: House) -> None:
        page = await measured.backend.history("LoadShedding", "ShedKw", 0, FAR_US, 2, "", False)
        assert list(page.samples) == [Sample(10.0, Grade.GOOD, 1_000_000), Sample(20.0, Grade.GOOD, 2_000_000)]
        assert page.next == "2000000"


class TestEvents:
    @pytest.mark.parametrize("newest_first", [False, True])
    async def test_they_are_read_as_they_were_told(self, house: House, newest_first: bool) -> None:
        for number in range(7):
            house.clock.advance(1.0)
            house.backend.announcer.tell("DeviceLost", f"device {number}", Device=str(number), Reason="")
        await house.engine.on_disk()

        async def page(after: str) -> tuple[list[object], str]:
            one = await house.backend.event_history(0, FAR_US, 3, after, newest_first)
            return list(one.events), one.next

        found, pages = await all_pages(page)
        assert found == (house.server.events[::-1] if newest_first else house.server.events)
        assert (len(found), pages) == (7, 3)

    async def test_they_outlive_a_restart(self, house: House) -> None:
        house.backend.announcer.tell("ModeChanged", "mode is monitor", Mode="monitor", Reason="x")
        await house.engine.on_disk()
        told = list(house.server.events)
        await house.power_cut()
        await house.open()
        assert list((await house.backend.event_history(0, FAR_US, 10, "", False)).events) == told

    async def test_a_span(self, house: House) -> None:
        for number in range(5):
            house.clock.advance(1.0)
            house.backend.announcer.tell("DeviceLost", f"device {number}", Device=str(number), Reason="")
        await house.engine.on_disk()
        events = house.server.events
        page = await house.backend.event_history(events[1].time_us, events[3].time_us, 10, "", False)
        assert list(page.events) == events[1:4]


async def test_many_readers_are_served_one_after_the_other(moved: House) -> None:
    reads = [moved.backend.history("Feeder/B1", "Pos", 0, FAR_US, 10, "", False) for _ in range(20)]
    assert {len(page.samples) for page in await asyncio.gather(*reads)} == {5}
