"""Entities: one operation at a time, each atomic; answers now or later; activities of their own."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from gateway.durable import EntityId, EntityOperationError, LimitExceededError, NotFoundError, Registry
from gateway.durable import history as h
from gateway.durable.engine import TURNS_PER_SLICE

ACCOUNT = EntityId("Account", "1")
LOGBOOK = EntityId("logbook", "all")


class Account:
    """A class-based entity."""

    def __init__(self) -> None:
        self.balance = 0

    def deposit(self, amount: int) -> int:
        self.balance += amount
        return self.balance

    def withdraw(self, amount: int, context: Any) -> int:
        self.balance -= amount
        context.signal_entity(LOGBOOK, "note", amount)
        if self.balance < 0:
            raise ValueError("not covered")
        return self.balance


def logbook(context: Any) -> None:
    notes = context.get_state(list)
    if context.operation_name == "note":
        context.set_state([*notes, context.get_input()])
    context.set_result(notes)


class Level(msgspec.Struct, frozen=True):
    """A typed state."""

    value: int = 0


def gauge(context: Any) -> None:
    level = context.get_state(Level)
    match context.operation_name:
        case "raise":
            context.set_state(Level(level.value + 1))
            if context.get_input() == "fail":
                raise RuntimeError("no")
        case "wait":
            context.defer_result()
            context.call_activity("measure", None, on_result="measured", context="w1")
        case "measured":
            context.resolve(context.get_input()["context"], context.get_input()["result"])
        case "end":
            context.destruct_on_exit()
    context.set_result(level.value)


async def test_a_failed_operation_leaves_nothing_and_the_batch_goes_on(site):
    site.registry.entity(Account)
    site.registry.entity(logbook)
    engine = await site.start()
    client = engine.client
    calls = [
        client.call_entity(ACCOUNT, "deposit", 10),
        client.call_entity(ACCOUNT, "withdraw", 50),
        client.call_entity(ACCOUNT, "withdraw", 3),
    ]
    first, second, third = await asyncio.gather(*calls, return_exceptions=True)
    assert (first, third) == (10, 7)
    assert isinstance(second, EntityOperationError)
    assert second.details.is_caused_by(ValueError)
    assert await client.call_entity(LOGBOOK, "read") == [3]
    assert (await client.read_entity_state(ACCOUNT)).entity_state == {"balance": 7}
    assert sum(r.instance == "@account@1" for r in site.store.records) == 1, "three operations, one record"


async def test_questions_and_results_that_wait_for_a_turn_are_not_written(site):
    async def look(_: object) -> str:
        return "seen"

    def watcher(context: Any) -> None:
        if context.operation_name == "look":
            context.call_activity(look, on_result="looked", context=context.defer_result())
        else:
            context.resolve(context.get_input()["context"], context.get_input()["result"])

    site.registry.activity(look)
    site.registry.entity(watcher)
    engine = await site.start()
    answers = await asyncio.gather(
        *(engine.client.call_entity(EntityId("watcher", str(n)), "look") for n in range(3 * TURNS_PER_SLICE))
    )
    assert set(answers) == {"seen"}
    assert not any(batch.messages_added for batch in site.store.batches), "who asked was told nothing yet"
    scheduled = next(n for n, batch in enumerate(site.store.batches) if batch.activities_added)
    taken = next(batch for batch in site.store.batches[scheduled:] if batch.activities_removed)
    assert {r.instance for r in taken.records} >= {key for key, _ in taken.activities_removed}
    assert not site.store.pending_activities


async def test_a_record_seals_the_state_that_the_row_holds(site):
    site.registry.entity(Account)
    engine = await site.start()
    seals = []
    for operation in ("deposit", "delete"):
        await engine.client.call_entity(ACCOUNT, operation, 10)
        await engine.on_disk()
        seals.append(h.decode_entity_record(site.store.records[-1].payload).state_sha256)
        if operation == "deposit":
            state = engine.client.read_entity_raw(ACCOUNT)
            assert b'"balance"' not in site.store.records[-1].payload, "the state itself is in the row alone"
    assert seals == [hashlib.sha256(state).hexdigest(), ""]


async def test_a_typed_state_rolls_back_and_can_end(site):
    async def measure(_: object) -> float:
        return 42.0

    site.registry.activity(measure)
    site.registry.entity(gauge, state_type=Level)
    engine = await site.start()
    key = EntityId("gauge", "g")
    await engine.client.call_entity(key, "raise")
    with pytest.raises(EntityOperationError):
        await engine.client.call_entity(key, "raise", "fail")
    assert await engine.client.call_entity(key, "get") == 1
    assert await engine.client.call_entity(key, "wait") == 42.0
    await engine.client.call_entity(key, "end")
    assert not (await engine.client.read_entity_state(key)).entity_exists


async def test_a_deferred_answer_reaches_an_orchestration_over_a_restart(site, wait_until):
    gate = asyncio.Event()

    async def measure(_: object) -> str:
        await gate.wait()
        return "measured"

    def asks(context):
        return (yield context.call_entity(EntityId("gauge", "g"), "wait"))

    site.registry.activity(measure)
    site.registry.entity(gauge, state_type=Level)
    site.registry.orchestrator(asks)
    engine = await site.start()
    await engine.client.start_new("asks", "i")
    await wait_until(lambda: engine.activities.running == 1)
    await site.kill(engine)
    gate.set()
    again = await site.start()
    assert (await again.client.wait_for_completion("i", 5)).output == "measured"


async def test_an_unknown_entity_or_a_full_mailbox_is_refused(site, monkeypatch):
    site.registry.entity(logbook)
    engine = await site.start()
    with pytest.raises(NotFoundError, match="logbook"):
        await engine.client.signal_entity(EntityId("logbuch", "all"), "note", 1)
    monkeypatch.setattr("gateway.durable.mailbox.MAX_MESSAGES", 2)
    engine.client.post_to_entity(LOGBOOK, "note", 1)
    engine.client.post_to_entity(LOGBOOK, "note", 2)
    with pytest.raises(LimitExceededError):
        engine.client.post_to_entity(LOGBOOK, "note", 3)
    assert await asyncio.wait_for(_read(engine), 5) == [1, 2]


async def _read(engine: Any) -> Any:
    await engine.on_disk()
    return await engine.client.call_entity(LOGBOOK, "read")


def test_states_must_be_frozen_and_code_must_not_be_async():
    class Loose(msgspec.Struct):
        value: int = 0

    async def orchestrates(context: Any) -> None: ...

    registry = Registry()
    with pytest.raises(TypeError, match="frozen"):
        registry.entity(gauge, state_type=Loose)
    with pytest.raises(TypeError, match="async"):
        registry.orchestrator(orchestrates)
    with pytest.raises(TypeError, match="async"):
        registry.entity(orchestrates)


def test_a_class_that_wants_arguments_is_refused_before_anyone_speaks_to_it():
    class Meter:
        def __init__(self, factor):
            self.factor = factor

    @dataclass
    class Reading:
        kw: float

    for wants in (Meter, Reading):
        with pytest.raises(TypeError, match=f"entity {wants.__name__} must be made without arguments"):
            Registry().entity(wants)
