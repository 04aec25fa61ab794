"""Limits on how much an instance may do."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from typing import Any

import pytest

from gateway.durable import (
    EntityOperationError,
    LimitExceededError,
)
from gateway.durable.execution import MAX_ACTIONS
from tests.unit.durable.bad_input.parts import BOX, ENTITY_CALLS


async def test_too_many_actions(bad):
    def code(context: Any) -> Any:
        for _ in range(MAX_ACTIONS + 1):
            context.create_timer(timedelta(0)).cancel()
        yield

    await bad.fails(code, "LimitExceededError", f"{MAX_ACTIONS} actions", "continue_as_new")


async def test_one_turn_may_hand_over_so_much_and_go_on_after_a_wait(bad, monkeypatch):
    monkeypatch.setattr("gateway.durable.execution.MAX_TURN_BYTES", 3_000)
    value = "x" * 900

    def code(context: Any) -> Any:
        for _ in range(2):
            tasks = [context.call_activity("echo", value) for _ in range(2)]
            context.signal_entity(BOX, "get", value)
            for call in (
                lambda: context.call_activity("echo", value),
                lambda: context.send_event("bystander", "other", value),
                lambda: context.call_sub_orchestrator("bystander", value),
                lambda: context.call_entity(BOX, "get", value),
            ):
                with pytest.raises(LimitExceededError, match="one turn may hand over 3000 bytes"):
                    call()
            yield context.task_all(tasks)
        return "well"

    assert (await bad.run(code)).output == "well"


async def test_one_operation_may_hand_over_so_much(bad, monkeypatch):
    monkeypatch.setattr(sys.modules["gateway.durable.entity"], "MAX_TURN_BYTES", 3_000)
    ENTITY_CALLS["many signals"] = lambda c: [c.signal_entity(BOX, "get", "x" * 900) for _ in range(4)]
    with pytest.raises(EntityOperationError, match="an operation may hand over 3000 bytes"):
        await bad.client.call_entity(BOX, "call", "many signals")
    ENTITY_CALLS.pop("many signals")
    assert await bad.client.call_entity(BOX, "get") is None


async def test_a_turn_of_an_entity_is_journaled_in_pieces_that_fit(bad, monkeypatch):
    monkeypatch.setattr("gateway.durable.entities.MAX_TURN_BYTES", 3_000)
    await asyncio.gather(*(bad.client.call_entity(BOX, "keep", "x" * 900) for _ in range(20)))
    assert max(len(record.payload) for record in bad.site.store.records) < 5_000


async def test_events_that_nobody_asked_for_can_be_left_to_the_next_execution_within_limits(bad, monkeypatch):
    monkeypatch.setattr("gateway.durable.execution.MAX_TURN_BYTES", 3_000)

    def code(context: Any) -> Any:
        yield context.wait_for_external_event("go")
        context.continue_as_new(None)

    bad.site.registry.orchestrator(code, "leaves")
    await bad.client.start_new("leaves", "l")
    for _ in range(4):
        await bad.client.raise_event("l", "other", "x" * 900)
    await bad.client.raise_event("l", "go")
    status = await bad.client.wait_for_completion("l", 5)
    assert status.failure is not None
    assert "3608 bytes of events that nobody asked for; the limit is 3000" in status.failure.message


async def test_too_many_steps_without_waiting(bad):
    def code(context: Any) -> Any:
        done = context.task_all([])
        while True:
            yield done

    await bad.fails(code, "LimitExceededError", "steps without waiting")


async def test_continue_as_new_without_end(bad):
    def code(context: Any) -> Any:
        context.continue_as_new(context.get_input() + 1)
        return
        yield

    await bad.fails(code, "LimitExceededError", "continue_as_new", "1000", value=0)


async def test_what_is_asked_for_after_continue_as_new_takes_no_event(bad):
    """Actions after it are ignored; so is a wait: the event is for the next execution."""

    def code(context: Any) -> Any:
        if context.get_input() == "again":
            return (yield context.wait_for_external_event("go"))
        yield context.wait_for_external_event("begin")
        context.continue_as_new("again")
        yield context.wait_for_external_event("go")
        return None

    bad.site.registry.orchestrator(code, "continues")
    await bad.client.start_new("continues", "c")
    await bad.client.raise_event("c", "go", 1)
    await bad.client.raise_event("c", "begin")
    assert (await bad.client.wait_for_completion("c", 2)).output == 1
