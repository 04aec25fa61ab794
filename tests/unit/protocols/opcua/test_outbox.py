"""What happened first is told first, in slices, and the newest value of each variable is never lost."""

from __future__ import annotations

import asyncio
import time
from functools import partial

from protocols.opcua.outbox import Outbox


async def until_empty(outbox: Outbox) -> None:
    while len(outbox):  # noqa: ASYNC110 - it is told by the loop itself
        await asyncio.sleep(0)


async def test_changes_and_events_are_told_in_the_order_in_which_they_happened() -> None:
    told: list[object] = []
    outbox = Outbox()
    outbox.change("a", partial(told.append, 1))
    outbox.event(partial(told.append, "shed"))
    outbox.open()
    outbox.change("a", partial(told.append, 2))
    await until_empty(outbox)
    assert told == [1, "shed", 2]


async def test_a_flood_is_told_in_slices_between_which_others_are_served() -> None:
    outbox = Outbox(slice_s=0.005)
    outbox.open()
    for number in range(60):
        outbox.change(number, partial(time.sleep, 0.001))
    turns = 0
    while len(outbox):
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 8


async def test_when_it_is_full_the_newest_value_takes_the_place_of_the_one_before() -> None:
    told: list[object] = []
    outbox = Outbox(most_changes=2)
    for variable, value in (("a", 1), ("b", 1), ("a", 2), ("c", 1), ("a", 3)):
        outbox.change(variable, partial(told.append, (variable, value)))
    outbox.open()
    await until_empty(outbox)
    assert told == [("a", 3), ("b", 1), ("c", 1)]


async def test_when_there_are_too_many_events_the_oldest_is_lost_and_counted() -> None:
    told: list[object] = []
    outbox = Outbox(most_events=2)
    for number in range(4):
        outbox.event(partial(told.append, number))
    outbox.open()
    await until_empty(outbox)
    assert told == [2, 3]
    assert outbox.lost_events == 2


async def test_one_who_fails_does_not_keep_the_others_from_being_told() -> None:
    told: list[object] = []
    outbox = Outbox()
    outbox.open()
    outbox.event(lambda: 1 // 0)
    outbox.event(partial(told.append, "next"))
    await until_empty(outbox)
    assert told == ["next"]


async def test_after_the_end_nothing_is_told() -> None:
    told: list[object] = []
    outbox = Outbox()
    outbox.open()
    outbox.event(partial(told.append, 1))
    outbox.close()
    outbox.event(partial(told.append, 2))
    await asyncio.sleep(0.01)
    assert told == []
