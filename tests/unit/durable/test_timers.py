"""Timers: in the order of due times and of creation; cancelled ones never fire."""

from __future__ import annotations

import heapq

import pytest

from gateway.clock import ManualClock
from gateway.durable.timers import Timers


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_000_000)


async def test_due_timers_fire_together_in_order(clock, wait_until):
    fired: list[tuple[str, int]] = []
    timers = Timers(clock, fired.extend)
    timers.start()
    for number, due_s in enumerate((3, 1, 2, 1, 9)):
        timers.set("i", number, due_s * 1_000_000 + 1_000_000)
    assert timers.cancel("i", 2)
    assert not timers.cancel("i", 2)
    clock.advance(4)
    await wait_until(lambda: len(fired) == 3)
    assert fired == [("i", 1), ("i", 3), ("i", 0)]
    assert timers.next_due() == (10_000_000, "i", 4)
    assert len(timers) == 1
    timers.stop()


async def test_cancelled_timers_leave_the_heap(clock):
    timers = Timers(clock, lambda fired: None)
    for number in range(1000):
        timers.set("i", number, 5_000_000 + number)
    for number in range(999):
        timers.cancel("i", number)
    assert len(timers._heap) < 100
    assert timers.next_due() == (5_000_999, "i", 999)


async def test_a_stop_while_firing_holds(clock, wait_until):
    fired: list[tuple[str, int]] = []

    def fire(keys: list[tuple[str, int]]) -> None:
        fired.extend(keys)
        timers.stop()

    timers = Timers(clock, fire)
    timers.start()
    timers.set("i", 1, 1_000_000)
    timers.set("i", 2, 2_000_000)
    await wait_until(lambda: bool(fired))
    assert timers._handle is None


async def test_the_first_are_told_in_order_of_due_times_without_those_that_were_cancelled(clock):
    timers = Timers(clock, lambda fired: None)
    assert timers.first(3) == []
    for number, due_us in enumerate((9, 4, 7, 4, 1, 8, 2)):
        timers.set("i", number, due_us)
    timers.cancel("i", 4)
    timers.set("i", 1, 6)  # set anew: the entry of before counts no more
    assert timers.first(4) == [(2, "i", 6), (4, "i", 3), (6, "i", 1), (7, "i", 2)]
    assert timers.first(100) == [(2, "i", 6), (4, "i", 3), (6, "i", 1), (7, "i", 2), (8, "i", 5), (9, "i", 0)]
    assert timers.next_due() == (2, "i", 6)


async def test_the_first_of_very_many_cost_no_look_at_the_others(clock, monkeypatch):
    timers = Timers(clock, lambda fired: None)
    for number in range(10_000):
        timers.set("i", number, 10_000 - number)
    pushed = []
    push = heapq.heappush
    monkeypatch.setattr(
        "gateway.durable.timers.heapq.heappush", lambda heap, item: (pushed.append(item), push(heap, item))
    )
    assert [due_us for due_us, _, _ in timers.first(20)] == list(range(1, 21))
    assert len(pushed) <= 40
