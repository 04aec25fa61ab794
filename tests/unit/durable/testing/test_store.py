"""The store in memory: what it keeps, what it refuses, how it breaks."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from gateway.durable.store import Batch, InstanceRow, MessageRow, RecordRow, TimerRow
from gateway.durable.testing import MemoryStore, PowerLost, VirtualClock


def row(instance: str, status: str = "Running") -> InstanceRow:
    return InstanceRow(instance, "orchestration", "proc", status, "", 1, 1, 1, b"{}")


def batch(seq: int, *rows: InstanceRow) -> Batch:
    made = Batch()
    made.records.append(RecordRow(seq, "i", "turn", seq * 10, b"{}"))
    made.instances = {one.instance: one for one in rows}
    return made


async def test_what_is_committed_is_found_again_and_what_ended_is_not_live():
    store = MemoryStore()
    await store.commit(batch(1, row("a"), row("b")))
    await store.commit(batch(2, row("b", "Completed")))
    again = MemoryStore.after(store.batches)
    found = await again.recover()
    assert ([r.instance for r in found.instances], found.last_seq, found.last_time_us) == (["a"], 2, 20)
    assert [r.instance for r in await again.instances()] == ["a", "b"]
    earlier = await MemoryStore.after(store.batches[:1]).recover()
    assert [r.instance for r in earlier.instances] == ["a", "b"]


async def test_what_was_purged_is_gone_and_its_records_stay():
    store = MemoryStore()
    await store.commit(batch(1, row("a", "Completed")))
    purge = Batch()
    purge.instances_removed.add("a")
    await store.commit(purge)
    assert await store.instance("a") is None
    assert len(store.records) == 1
    await store.commit(batch(2, row("a")))
    assert await store.instance("a") is not None, "removals come before additions: the id is free again"


async def test_a_gap_or_a_message_handled_twice_is_a_defect_of_the_engine():
    store = MemoryStore()
    with pytest.raises(AssertionError, match="record 2 where 1 must follow"):
        await store.commit(batch(2))
    twice = Batch()
    twice.messages_removed.add(7)
    with pytest.raises(AssertionError, match="message 7 handled twice"):
        await MemoryStore().commit(twice)
    ended = Batch()
    ended.activities_removed.add(("i", 1))
    with pytest.raises(AssertionError, match="ended twice"):
        await MemoryStore().commit(ended)


async def test_messages_come_back_in_no_order_and_timers_are_kept():
    made = batch(1)
    for number in (3, 4):
        made.add_message(MessageRow(number, "i", b"{}"))
    made.add_timer(TimerRow("i", 1, 99, b""))
    store = MemoryStore()
    await store.commit(made)
    found = await store.recover()
    assert [m.message_id for m in found.messages] == [4, 3]
    assert (found.last_message_id, found.timers) == (4, [TimerRow("i", 1, 99, b"")])


async def test_the_power_fails_before_a_batch_or_after_it():
    store = MemoryStore()
    store.lose_power(before=2)
    await store.commit(batch(1))
    with pytest.raises(PowerLost, match="before batch 2"):
        await store.commit(batch(2))
    assert (len(store.batches), store.torn) == (1, True)

    store = MemoryStore()
    store.lose_power(after=1)
    with pytest.raises(PowerLost, match="after batch 1"):
        await store.commit(batch(1))
    assert (len(store.batches), store.power_lost, store.torn) == (1, True, False)
    with pytest.raises(PowerLost):
        await store.commit(batch(2))
    assert len(store.batches) == 1


async def test_a_held_store_answers_once_it_is_let_go_and_a_full_one_refuses():
    store = MemoryStore()
    store.hold()
    commit = asyncio.ensure_future(store.commit(batch(1)))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not commit.done()
    assert not store.batches
    store.let_go()
    await commit
    store.fail_at = 2
    with pytest.raises(OSError, match="no space left"):
        await store.commit(batch(2))
    assert len(store.batches) == 1


async def test_the_clock_stands_until_it_is_moved_and_wakes_sleepers_in_order():
    clock = VirtualClock(datetime(2026, 1, 1, tzinfo=UTC))
    woken: list[str] = []

    async def sleeps(name: str, minutes: int) -> None:
        await clock.sleep(timedelta(minutes=minutes))
        woken.append(name)

    sleepers = [asyncio.ensure_future(sleeps(*one)) for one in (("late", 9), ("soon", 5), ("given up", 1))]
    await asyncio.sleep(0)
    sleepers[2].cancel()
    await asyncio.sleep(0)
    assert clock.next_wake_us() == clock.now_us() + 300_000_000
    assert clock.real_seconds_until(clock.now_us() + 1) > 3600, "no real time brings it nearer"
    assert clock.real_seconds_until(clock.now_us()) == 0
    clock.go_on(timedelta(minutes=10))
    await asyncio.gather(*sleepers[:2])
    assert woken == ["soon", "late"]
    assert clock.next_wake_us() is None
    clock.go_to(0)
    assert clock.now == datetime(2026, 1, 1, 0, 10, tzinfo=UTC), "it never goes back"
