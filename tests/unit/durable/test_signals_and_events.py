"""Signals that wait for their time, events between orchestrations, and an endless restart that ends."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from gateway.clock import from_us
from gateway.durable import EntityId, LimitExceededError, OrchestrationRuntimeStatus, entity, orchestrator, underway
from gateway.durable.testing import Workbench

LAMP = EntityId("lamp", "1")


def lamp(context: Any) -> None:
    """Notes what it was told; ``blink`` tells it again, twice."""
    seen = context.get_state(list)
    if context.operation_name != "get":
        seen = [*seen, context.operation_name]
        context.set_state(seen)
    if context.operation_name == "blink" and seen.count("blink") < 3:
        at = context.current_utc_datetime + timedelta(seconds=1)
        context.signal_entity(LAMP, "blink", signal_time=at)
    context.set_result(seen)


def plans(context: Any):
    """Signals for later, in no order of their times."""
    now = context.current_utc_datetime
    context.signal_entity(LAMP, "late", signal_time=now + timedelta(seconds=30))
    context.signal_entity(LAMP, "soon", signal_time=now + timedelta(seconds=10))
    context.signal_entity(LAMP, "past", signal_time=now - timedelta(seconds=10))
    context.signal_entity(LAMP, "now")
    return "planned"


async def test_signals_come_at_their_times_also_after_a_restart():
    async with Workbench(entity(lamp), orchestrator(plans)) as bench:
        assert await bench.output(await bench.start("plans")) == "planned"
        assert await bench.call_entity(LAMP, "get") == ["past", "now"]
        assert len(bench.engine.timers) == 2
        await bench.crash()
        assert len(bench.engine.timers) == 2
        await bench.advance(timedelta(seconds=10))
        assert await bench.call_entity(LAMP, "get") == ["past", "now", "soon"]
        await bench.advance(timedelta(seconds=20))
        assert await bench.call_entity(LAMP, "get") == ["past", "now", "soon", "late"]
        assert bench.store.pending_timers == {}


async def test_an_entity_signals_itself_later(site, wait_until):
    site.registry.entity(lamp)
    engine = await site.start()
    at = from_us(engine.now_us()) + timedelta(seconds=1)
    await engine.client.signal_entity(LAMP, "blink", signal_time=at)
    for _ in range(1_000):
        state = (await engine.client.read_entity_state(LAMP)).entity_state
        if state == ["blink"] * 3:
            break
        await asyncio.sleep(0.002)
    assert state == ["blink"] * 3


async def test_numbers_of_waiting_signals_are_not_used_twice(site):
    site.registry.entity(lamp)
    engine = await site.start()
    later = from_us(engine.now_us()) + timedelta(hours=5)
    for _ in range(3):
        await engine.client.signal_entity(LAMP, "late", signal_time=later)
    before = set(site.store.pending_timers)
    await site.kill(engine)
    engine = await site.start()
    for _ in range(3):
        await engine.client.signal_entity(LAMP, "late", signal_time=later)
    assert len(set(site.store.pending_timers)) == 6
    assert before < set(site.store.pending_timers)


async def test_waiting_signals_have_a_limit(site, monkeypatch):
    monkeypatch.setattr(underway, "MAX_SCHEDULED_SIGNALS", 1)
    site.registry.entity(lamp)
    site.registry.orchestrator(plans)
    engine = await site.start()
    later = from_us(engine.now_us()) + timedelta(hours=5)
    await engine.client.signal_entity(LAMP, "late", signal_time=later)
    with pytest.raises(LimitExceededError, match="1 signals wait"):
        await engine.client.signal_entity(LAMP, "late", signal_time=later)
    await engine.client.wait_for_completion(
        await engine.client.start_new("plans"), 5
    )  # told in the log, and it goes on
    assert await engine.client.call_entity(LAMP, "get") == ["past", "now"]


async def test_a_signal_for_an_entity_that_is_gone_stays_until_it_is_back(site, wait_until):
    site.registry.entity(lamp)
    engine = await site.start()
    at = from_us(engine.now_us()) + timedelta(seconds=300)
    await engine.client.signal_entity(LAMP, "late", signal_time=at)
    await site.kill(engine)
    entities, site.registry._entities = site.registry._entities, {}
    engine = await site.start()
    await wait_until(lambda: len(engine.timers) == 0)
    assert engine.failure is None
    await site.kill(engine)
    site.registry._entities = entities
    engine = await site.start()
    await wait_until(lambda: site.store.pending_timers == {})
    assert await engine.client.call_entity(LAMP, "get") == ["late"]


def listener(context: Any):
    return (yield context.wait_for_external_event("word"))


def speaker(context: Any):
    for target in context.get_input():
        context.send_event(target, "Word", {"from": context.instance_id})
    return [event["type"] for event in context.histories]
    yield


async def test_an_orchestration_sends_events_to_another(site):
    site.registry.orchestrator(listener)
    site.registry.orchestrator(speaker)
    client = (await site.start()).client
    await client.start_new("listener", "l")
    done = await client.wait_for_completion(await client.start_new("speaker", "s", ["nobody", "l"]), 5)
    assert done.output == ["ExecutionStarted", "EventSent", "EventSent"]
    assert (await client.wait_for_completion("l", 5)).output == {"from": "s"}
    history = (await client.get_status("l", show_history=True)).history
    raised = [e for turn in history for e in turn["events"] if e["type"] == "EventRaised"]
    assert raised[0]["raised_by"] == "s"


async def test_an_endless_restart_is_ended_and_others_go_on(site):
    def spins(context: Any):
        context.continue_as_new(None)

    def eats(context: Any):
        """Takes one kept event each time: that is work, however long it lasts."""
        yield context.wait_for_external_event("word")
        count = context.get_input() + 1
        if count == 1_500:
            return count
        context.continue_as_new(count)
        return None

    site.registry.orchestrator(spins)
    site.registry.orchestrator(eats)
    client = (await site.start()).client
    await client.start_new("spins", "spins")
    await client.start_new("eats", "eats", 0)
    await asyncio.gather(*(client.raise_event("eats", "word") for _ in range(1_500)))
    ended = await client.wait_for_completion("spins", 20)
    assert ended.runtime_status is OrchestrationRuntimeStatus.Failed
    assert "continue_as_new 1000 times in a row without waiting for anything (in spins)" in ended.failure.message
    assert (await client.wait_for_completion("eats", 20)).output == 1_500
