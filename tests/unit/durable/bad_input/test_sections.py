"""Critical sections: their rules, what can't be locked, and who waits."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.durable import (
    EntityId,
    EntityLockError,
)
from tests.unit.durable.bad_input.parts import BOX

OTHER = EntityId("box", "other")


async def test_rules_of_a_critical_section(bad):
    def code(context: Any) -> Any:
        told = []
        with (yield context.lock_entities([BOX])):
            for wrong in (
                lambda: context.lock_entities([OTHER]),
                lambda: context.call_sub_orchestrator("bystander"),
                lambda: context.call_entity(OTHER, "get"),
                lambda: context.signal_entity(BOX, "get"),
            ):
                with pytest.raises(EntityLockError) as caught:
                    wrong()
                told.append(str(caught.value))
            yield context.call_entity(BOX, "keep", 1)
        return told

    nested, child, other, signal = (await bad.run(code)).output
    assert "nested" in nested
    assert "the sub-orchestration bystander is not allowed in the critical section of @box@b" in child
    assert "to call @box@other is not allowed in the critical section of @box@b" in other
    assert "to signal @box@b is not allowed" in signal
    assert await bad.client.call_entity(BOX, "get") == 1


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        (lambda c: c.lock_entities([]), "ValueError"),
        (lambda c: c.lock_entities(["box"]), "ValueError"),
        (lambda c: c.lock_entities([None]), "TypeError"),
        (lambda c: c.lock_entities(5), "TypeError"),
        (lambda c: c.lock_entities([EntityId("nope", "k")]), "TaskFailedError"),
        (lambda c: c.lock_entities([BOX, EntityId("nope", "k")]), "TaskFailedError"),
    ],
)
async def test_what_cannot_be_locked(bad, wrong, kind):
    def code(context: Any) -> Any:
        with (yield wrong(context)):
            return "never"

    await bad.fails(code, kind)
    assert await asyncio.wait_for(bad.client.call_entity(BOX, "get"), 2) is None


async def test_operations_of_others_on_a_locked_entity_wait_and_a_broken_section_frees_it(bad):
    def holds(context: Any) -> Any:
        with (yield context.lock_entities([BOX])):
            yield context.call_entity(BOX, "keep", "mine")
            yield context.wait_for_external_event("done")
            raise RuntimeError("within")

    bad.site.registry.orchestrator(holds)
    await bad.client.start_new("holds", "h")
    others = [asyncio.ensure_future(bad.client.call_entity(BOX, "keep", number)) for number in range(3)]
    await asyncio.sleep(0)
    await bad.client.signal_entity(BOX, "keep", "signalled")
    await asyncio.sleep(0.02)
    assert not any(other.done() for other in others)
    assert (await bad.client.read_entity_state(BOX)).entity_state == "mine"
    await bad.client.raise_event("h", "done")
    assert (await bad.client.wait_for_completion("h", 5)).runtime_status == "Failed"
    await asyncio.wait_for(asyncio.gather(*others), 5)
    assert await bad.client.call_entity(BOX, "get") == "signalled"
