"""Critical sections: one owner at a time, others queue, and whoever ends gives up what it held."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway.durable import EntityId, OrchestrationRuntimeStatus, TaskFailedError
from gateway.durable.instances import EntityInstance
from gateway.durable.testing import MemoryStore

A, B, C = (EntityId("account", name) for name in "abc")


class Account:
    """What is in it, and who put it there."""

    def __init__(self) -> None:
        self.entries: list[str] = []

    def get(self) -> list[str]:
        return self.entries

    def put(self, entry: str) -> None:
        self.entries.append(entry)


def two_entries(context: Any):
    """Read, wait, write: what a lock is for."""
    name, order = context.get_input()
    with (yield context.lock_entities([EntityId("account", key) for key in order])):
        for key in order:
            yield context.call_entity(EntityId("account", key), "put", f"{name} in")
        yield context.call_activity("pause", name)
        for key in order:
            yield context.call_entity(EntityId("account", key), "put", f"{name} out")
    return name


def holder(context: Any):
    """Hold an account until told otherwise."""
    with (yield context.lock_entities([A])):
        context.set_custom_status("inside")
        told = yield context.wait_for_external_event("go")
        if told == "raise":
            raise ValueError("on purpose")
        if told == "again":
            context.continue_as_new(None)
            return None
    yield context.wait_for_external_event("end")
    return "left"


def register(site: Any) -> None:
    async def pause(name: str) -> None:
        await asyncio.sleep(0.001)

    site.registry.entity(Account)
    site.registry.orchestrator(two_entries)
    site.registry.orchestrator(holder)
    site.registry.activity(pause)


async def held(client: Any, instance: str) -> None:
    """Wait until it is in its section, as committed."""
    for _ in range(20_000):
        if (await client.get_status(instance)).custom_status == "inside":
            return
        await asyncio.sleep(0.001)
    raise AssertionError("never got the lock")


async def test_nobody_comes_between_and_opposite_orders_do_not_block_each_other(site):
    register(site)
    client = (await site.start()).client
    inputs = [(f"p{n}", "abc" if n % 2 else "cba") for n in range(20)]
    ids = [await client.start_new("two_entries", client_input=one) for one in inputs]
    for instance in ids:
        status = await client.wait_for_completion(instance, 10)
        assert status.runtime_status is OrchestrationRuntimeStatus.Completed
    for account in (A, B, C):
        entries = (await client.read_entity_state(account)).entity_state["entries"]
        assert len(entries) == 40
        pairs = list(zip(entries[::2], entries[1::2], strict=True))
        assert all(first.removesuffix(" in") == second.removesuffix(" out") for first, second in pairs)


async def test_others_queue_in_order_and_reads_are_not_held_up(site):
    register(site)
    engine = await site.start()
    client = engine.client
    await client.signal_entity(A, "put", "before")
    await client.start_new("holder", "h")
    await held(client, "h")
    question = asyncio.ensure_future(client.call_entity(A, "get"))
    await asyncio.sleep(0)
    for n in range(3):
        await client.signal_entity(A, "put", f"late {n}")
    await asyncio.sleep(0.01)
    assert not question.done()
    assert (await client.read_entity_state(A)).entity_state["entries"] == ["before"]
    await client.raise_event("h", "go")
    assert await question == ["before"]
    assert (await client.call_entity(A, "get")) == ["before", "late 0", "late 1", "late 2"]
    await client.raise_event("h", "end")
    await client.wait_for_completion("h", 5)


@pytest.mark.parametrize("how", ["raise", "again", "terminate", "return"])
async def test_however_it_ends_the_lock_is_given_up(site, how):
    register(site)
    client = (await site.start()).client
    await client.start_new("holder", "h")
    await held(client, "h")
    await client.signal_entity(A, "put", "late")
    if how == "terminate":
        await client.terminate("h", "enough")
    else:
        await client.raise_event("h", "go", how)
    if how == "again":
        await client.start_new("holder", "other")
        await client.raise_event("h", "go")
        await held(client, "other")
    else:
        assert await client.call_entity(A, "get") == ["late"]


async def test_one_that_is_ended_while_it_queues_never_gets_the_lock(site):
    register(site)
    engine = await site.start()
    client = engine.client
    await client.start_new("holder", "first")
    await held(client, "first")
    await client.start_new("holder", "second")
    await client.start_new("holder", "third")
    await client.terminate("second", "not needed")
    await client.raise_event("first", "go")
    await held(client, "third")
    entity = engine.instances[str(A)]
    assert isinstance(entity, EntityInstance)
    assert entity.core.lock is not None
    assert entity.core.lock[0] == "third"


async def test_the_lock_and_its_queue_survive_a_crash_at_every_commit(site, wait_until):
    register(site)
    engine = await site.start()
    client = engine.client
    for n, order in enumerate(("abc", "cba", "bc")):
        await client.start_new("two_entries", f"p{n}", [f"p{n}", order])
    for n in range(3):
        await client.wait_for_completion(f"p{n}", 5)
    batches = list(site.store.batches)
    for cut in range(1, len(batches)):
        again = await site.start(MemoryStore.after(batches[:cut]))
        started = [i for i in ("p0", "p1", "p2") if site.store.rows.get(i) or i in again.instances]
        for instance in started:
            status = await again.client.wait_for_completion(instance, 5)
            assert status.runtime_status is OrchestrationRuntimeStatus.Completed, (cut, status)
        for account in (A, B, C):
            core = again.ledger.entity(account).core
            await wait_until(lambda core=core: core.lock is None)
            state = (await again.client.read_entity_state(account)).entity_state
            entries = [] if state is None else state["entries"]
            assert [e.split()[0] for e in entries[::2]] == [e.split()[0] for e in entries[1::2]], cut
        await again.stop(0.1)


def rule(breaks: Callable[[Any], Any]) -> Any:
    """An orchestrator that breaks a rule in a critical section of A."""

    def orchestrator(context: Any):
        with (yield context.lock_entities([A, A])):
            yield breaks(context)

    return orchestrator


RULES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "nested": (lambda c: c.lock_entities([B]), "can't be nested"),
    "child": (lambda c: c.call_sub_orchestrator("two_entries", ["x", "b"]), "the sub-orchestration two_entries"),
    "other": (
        lambda c: c.call_entity(B, "get"),
        "to call @account@b is not allowed in the critical section of @account@a",
    ),
    "signal": (lambda c: c.signal_entity(A, "put", "x"), "to signal @account@a is not allowed"),
}


@pytest.mark.parametrize("name", RULES)
async def test_rules_inside(site, name):
    register(site)
    breaks, words = RULES[name]
    site.registry.orchestrator(rule(breaks), "rule")
    client = (await site.start()).client
    status = await client.wait_for_completion(await client.start_new("rule"), 5)
    assert status.failure is not None
    assert status.failure.kind == "EntityLockError"
    assert words in status.failure.message
    assert await client.call_entity(A, "get") == []


async def test_what_can_not_be_locked_is_refused_at_the_yield(site):
    register(site)
    site.registry.entity(Account, "meter", lockable=False)

    def tries(context: Any):
        seen = []
        for target in ("meter", "nothing"):
            try:
                yield context.lock_entities([A, EntityId(target, "1")])
            except TaskFailedError as error:
                seen.append(error.details.message)
        with (yield context.lock_entities([A])) as lock:
            context.signal_entity(B, "put", "from inside")
            lock.release()
            context.signal_entity(A, "put", "after")
        return seen

    site.registry.orchestrator(tries)
    client = (await site.start()).client
    status = await client.wait_for_completion(await client.start_new("tries"), 5)
    assert status.output[0] == "@meter@1 can't be locked: others must always reach it"
    assert "no entity called 'nothing'" in status.output[1]
    assert await client.call_entity(A, "get") == ["after"]
    assert await client.call_entity(B, "get") == ["from inside"]


async def test_an_empty_lock_is_a_mistake(site):
    register(site)
    site.registry.orchestrator(lambda context: context.lock_entities([]), "empty")
    client = (await site.start()).client
    status = await client.wait_for_completion(await client.start_new("empty"), 5)
    assert status.failure is not None
    assert "at least one entity" in status.failure.message
