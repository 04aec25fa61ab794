"""What was: positions of a breaker from the journal, loads from the trend store, events as they were told.

Each answer is a page of bounded size with the place where the next one goes on. What must stay true: a position is one that
was read, at the time at which it got into the journal; reading is bounded (``RECORDS_AT_MOST`` records of one breaker, the
newest), one answer at a time is made, and it is made beside the loop. A place that a client made up is no place: such a
page is empty. Nothing is changed here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import msgspec

from gateway.durable import history as h
from gateway.operations.desk import Desk, Record
from gateway.operator import names
from gateway.operator.announcer import EVENT, EVENTS, EventRecord
from gateway.operator.breaker_values import dbpos, grade_of
from gateway.shedding.breaker_model import CommandResult, Observation, ReadbackResult
from gateway.shedding.entities import breaker_id
from gateway.trend import TrendSample, TrendStore
from protocols.opcua.surface import Event, EventPage, Grade, HistoryPage, Sample

PAGE_AT_MOST = 10_000
RECORDS_AT_MOST = 50_000
READ_AT_ONCE = 2_000

_READ_BACK = ("done", "failed")
"""Outcomes of a command after which its breaker was read; after any other the position is an older one."""
_observation = msgspec.json.Decoder(Observation).decode
_command_result = msgspec.json.Decoder(CommandResult).decode
_readback_result = msgspec.json.Decoder(ReadbackResult).decode
_event = msgspec.json.Decoder(EventRecord).decode


class Histories:
    """Reads what the desk's journal and trend store hold."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._one = asyncio.Semaphore(1)

    async def values(
        self, object_key: str, variable: str, start_us: int, end_us: int, limit: int, after: str, newest_first: bool
    ) -> HistoryPage:
        """See Backend. What has no history gives an empty page."""
        wanted = object_key, variable
        limit = max(1, min(limit, PAGE_AT_MOST))
        async with self._one:
            if wanted == (names.STRESS, "LoadKw"):
                return await self._loads(_load, start_us, end_us, limit, after, newest_first)
            if wanted == (names.SHEDDING, "ShedKw"):
                return await self._loads(_shed, start_us, end_us, limit, after, newest_first)
            feeder = _feeder(object_key)
            if variable != "Pos" or feeder not in self._desk.field.feeders:
                return HistoryPage(())
            records = await self._records(str(breaker_id(feeder)), start_us)
            made = await asyncio.to_thread(_positions, records, start_us, end_us, limit, after, newest_first)
        return HistoryPage([sample for _, sample in made[0]], made[1])

    async def events(self, start_us: int, end_us: int, limit: int, after: str, newest_first: bool) -> EventPage:
        """See Backend."""
        limit = max(1, min(limit, PAGE_AT_MOST))
        async with self._one:
            records = await self._records(EVENTS, start_us)
            made = await asyncio.to_thread(_events, records, start_us, end_us, limit, after, newest_first)
        return EventPage([event for _, event in made[0]], made[1])

    async def _records(self, instance: str, start_us: int) -> list[Record]:
        """Records of one instance back to this time, newest first."""
        found: list[Record] = []
        before: int | None = None
        while len(found) < RECORDS_AT_MOST:
            page = await self._desk.log.latest(instance, READ_AT_ONCE, before_seq=before)
            found += page
            if len(page) < READ_AT_ONCE or page[-1][3] < start_us:
                break
            before = page[-1][0]
        return found

    async def _loads(
        self,
        sample_of: Callable[[TrendSample], Sample],
        start_us: int,
        end_us: int,
        limit: int,
        after: str,
        newest_first: bool,
    ) -> HistoryPage:
        place = _place(after, 1)
        if place is None:
            return HistoryPage(())
        if place and newest_first:
            end_us = min(end_us, place[0] - 1)
        elif place:
            start_us = max(start_us, place[0] + 1)
        trend: TrendStore = self._desk.watch.trend
        found = await asyncio.to_thread(trend.page, start_us, end_us, limit + 1, newest_first)
        more = str(found[limit - 1].time_us) if len(found) > limit else ""
        return HistoryPage([sample_of(one) for one in found[:limit]], more)


def _feeder(key: str) -> str:
    try:
        return names.feeder_of(key)
    except ValueError:
        return ""


def _place(after: str, parts: int) -> tuple[int, ...] | None:
    """The place that a page ended at: () for the beginning, None for what is no place."""
    if not after:
        return ()
    words = after.split(".")
    if len(words) != parts or not all(word.isascii() and word.isdigit() and len(word) <= 20 for word in words):
        return None
    return tuple(int(word) for word in words)


def _load(sample: TrendSample) -> Sample:
    grade = Grade.BAD if sample.load_kw is None else Grade.GOOD
    return Sample(sample.load_kw, grade, sample.time_us)


def _shed(sample: TrendSample) -> Sample:
    return Sample(sample.shed_kw, Grade.GOOD, sample.time_us)


# Positions of a breaker

Spot = tuple[int, int]
"""Record, and operation in it."""


def positions(records: Iterable[Record]) -> Iterator[tuple[Spot, Sample]]:
    """The positions that these records (oldest first) tell of, where they or their quality changed."""
    last: tuple[int | None, Grade] | None = None
    for seq, _, kind, time_us, payload in records:
        if kind != h.OPERATION:
            continue
        for number, operation in enumerate(h.decode_entity_record(payload).operations):
            read = _read(operation)
            if read is None:
                continue
            value = dbpos(read[0])
            grade = Grade.BAD if value is None else grade_of(read[1])
            if (value, grade) != last:
                last = value, grade
                yield (seq, number), Sample(value, grade, time_us)


def _read(operation: h.OperationRecord) -> tuple[str, str] | None:
    """Position and quality that were read of the breaker in one operation; as its entity takes it."""
    if operation.failure is not None:
        return None
    match operation.name:
        case "observe":
            seen = _observation(operation.input)
            return seen.position.value, seen.quality.value
        case "command_result":
            ended = _command_result(operation.input).result
            if ended is None or ended.outcome.value not in _READ_BACK or ended.position.value == "unknown":
                return None
            return ended.position.value, "good"
        case "readback_result":
            read = _readback_result(operation.input).result
            return None if read is None else (read.position.value, read.quality.value)
        case _:
            return None


def _positions(
    newest: Sequence[Record], start_us: int, end_us: int, limit: int, after: str, newest_first: bool
) -> tuple[list[tuple[Spot, Sample]], str]:
    place = _place(after, 2)
    if place is None:
        return [], ""
    found = [one for one in positions(reversed(newest)) if start_us <= one[1].time_us <= end_us]
    if newest_first:
        found.reverse()
    if place:
        found = [one for one in found if (one[0] < place if newest_first else one[0] > place)]
    more = f"{found[limit - 1][0][0]}.{found[limit - 1][0][1]}" if len(found) > limit else ""
    return found[:limit], more


# Events


def _events(
    newest: Sequence[Record], start_us: int, end_us: int, limit: int, after: str, newest_first: bool
) -> tuple[list[tuple[int, Event]], str]:
    place = _place(after, 1)
    if place is None:
        return [], ""
    rows = (
        row
        for row in (newest if newest_first else reversed(newest))
        if row[2] == EVENT
        and start_us <= row[3] <= end_us
        and (not place or (row[0] < place[0] if newest_first else row[0] > place[0]))
    )
    found = [(row[0], _told(row)) for row in islice(rows, limit + 1)]
    return found[:limit], str(found[limit - 1][0]) if len(found) > limit else ""


def _told(row: Record) -> Event:
    told = _event(row[4])
    return Event(told.type, told.source, told.message, told.severity, row[3], told.fields)
