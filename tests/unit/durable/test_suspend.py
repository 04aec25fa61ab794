"""Suspend and resume: what comes meanwhile is kept in order, nothing runs, nothing is lost."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from gateway.clock import from_us
from gateway.durable import GoneError, LimitExceededError, OrchestrationRuntimeStatus, mailbox, orchestrator
from gateway.durable.testing import MemoryStore, Workbench

Status = OrchestrationRuntimeStatus


def three_events(context: Any):
    """What it heard, in order."""
    heard = []
    for _ in range(3):
        heard.append((yield context.wait_for_external_event("word")))
        context.set_custom_status(heard)
    return heard


def sleeper(context: Any):
    """Wakes after a while."""
    yield context.create_timer(timedelta(seconds=1))
    return context.current_utc_datetime.isoformat()


async def suspended(client: Any, instance: str) -> None:
    while (await client.get_status(instance)).runtime_status is not Status.Suspended:  # noqa: ASYNC110 - a query
        await asyncio.sleep(0.001)


async def test_events_wait_in_order_until_it_is_resumed(site):
    site.registry.orchestrator(three_events)
    engine = await site.start()
    client = engine.client
    await client.start_new("three_events", "i")
    await client.raise_event("i", "word", 1)
    await client.suspend("i", "maintenance", raised_by="jane")
    await client.raise_event("i", "word", 2)
    await client.raise_event("i", "word", 3)
    await suspended(client, "i")
    assert (await client.get_status("i")).custom_status == [1]
    await client.resume("i", "done")
    assert (await client.wait_for_completion("i", 5)).output == [1, 2, 3]
    kinds = [e["type"] for r in (await client.get_status("i", show_history=True)).history for e in r["events"]]
    assert [k for k in kinds if k.startswith("Execution")] == [
        "ExecutionStarted",
        "ExecutionSuspended",
        "ExecutionResumed",
        "ExecutionCompleted",
    ]


async def test_a_timer_that_came_due_meanwhile_fires_at_resume():
    async with Workbench() as bench:
        bench.add(orchestrator(sleeper))
        instance = await bench.start("sleeper")
        began = bench.clock.now_us()
        await bench.tell(lambda client: client.suspend(instance, "wait"))
        await bench.advance(timedelta(minutes=1))
        assert len(bench.engine.timers) == 0
        assert (await bench.status(instance)).runtime_status is Status.Suspended
        await bench.tell(lambda client: client.resume(instance, "go"))
        assert await bench.output(instance) == from_us(began + 60_000_000).isoformat()


async def test_suspended_over_a_crash_at_every_commit(site):
    site.registry.orchestrator(three_events)
    engine = await site.start()
    client = engine.client
    await client.start_new("three_events", "i")
    for n in range(3):
        if n == 1:
            await client.suspend("i", "wait")
        await client.raise_event("i", "word", n)
    await suspended(client, "i")
    await client.resume("i", "go")
    await client.wait_for_completion("i", 5)
    batches = list(site.store.batches)
    for cut in range(1, len(batches)):
        again = await site.start(MemoryStore.after(batches[:cut]))
        status = await again.client.get_status("i")
        if status.runtime_status not in (Status.Completed,):
            await again.client.resume("i", "after the crash")
            for _ in range(3):
                try:
                    await again.client.raise_event("i", "word", "more")
                except GoneError:
                    break
                await asyncio.sleep(0)
        status = await again.client.wait_for_completion("i", 5)
        heard = [word for word in status.output if word != "more"]
        assert heard == list(range(len(heard))), cut
        await again.stop(0.1)


async def test_terminate_reaches_a_suspended_one_and_its_mail_goes(site):
    site.registry.orchestrator(three_events)
    engine = await site.start()
    client = engine.client
    await client.start_new("three_events", "i")
    await client.suspend("i", "wait")
    await client.raise_event("i", "word", 1)
    await suspended(client, "i")
    await client.terminate("i", "no")
    assert (await client.wait_for_completion("i", 5)).runtime_status is Status.Terminated
    assert site.store.messages == {}
    with pytest.raises(GoneError):
        await client.suspend("i", "again")
    with pytest.raises(GoneError):
        await client.resume("i", "again")


async def test_one_resumption_is_enough_however_often_it_was_suspended(site):
    site.registry.orchestrator(three_events)
    client = (await site.start()).client
    await client.start_new("three_events", "i")
    await client.suspend("i", "a")
    await client.suspend("i", "b")
    await suspended(client, "i")
    await client.resume("i", "a")
    for n in range(3):
        await client.raise_event("i", "word", n)
    assert (await client.wait_for_completion("i", 5)).output == [0, 1, 2]


async def test_what_is_kept_has_a_limit_and_resume_always_gets_through(site, monkeypatch):
    monkeypatch.setattr(mailbox, "MAX_MESSAGES", 3)
    monkeypatch.setattr("gateway.durable.client.MAX_BUFFERED_EVENTS", 3)
    site.registry.orchestrator(three_events)
    client = (await site.start()).client
    await client.start_new("three_events", "i")
    await client.suspend("i", "wait")
    await suspended(client, "i")
    for n in range(3):
        await client.raise_event("i", "word", n)
    with pytest.raises(LimitExceededError):
        await client.raise_event("i", "word", 4)
    await client.resume("i", "go")
    assert (await client.wait_for_completion("i", 5)).output == [0, 1, 2]
