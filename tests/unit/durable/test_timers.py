"""Timers: in the order of due times and of creation; cancelled ones never fire."""

from __future__ import annotations

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
