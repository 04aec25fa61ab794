"""Whatever an author's code raises is told in bounds, and is journaled."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gateway.durable import (
    TaskFailedError,
)
from tests.unit.durable.bad_input.parts import BOX, RAISED, Mute


@pytest.mark.parametrize("what", RAISED)
async def test_whatever_is_raised_is_told_in_bounds(bad, what):
    def code(context: Any) -> Any:
        yield context.create_timer(timedelta(0))
        raise RAISED[what]

    def at_once(context: Any) -> Any:
        raise RAISED[what]

    def asks(context: Any) -> Any:
        told = []
        for call in (
            lambda: context.call_activity("raises", what),
            lambda: context.call_activity("raises_in_thread", what),
            lambda: context.call_entity(BOX, "raise", what),
        ):
            try:
                yield call()
            except TaskFailedError as error:
                told.append(error.details.kind)
        return told

    for raising in (code, at_once):
        status = await bad.run(raising)
        assert status.runtime_status == "Failed"
        assert status.failure is not None
        assert len(status.failure.message) < 100_000
        assert len(status.failure.traceback) < 100_000
    kinds = (await bad.run(asks)).output
    assert len(kinds) == 3
    assert max(len(record.payload) for record in bad.site.store.records) < 1_000_000
    assert await bad.client.call_entity(BOX, "get") is None


async def test_an_exception_that_cannot_speak_is_named_all_the_same(bad):
    def code(context: Any) -> Any:
        raise Mute

    await bad.fails(code, "Mute", "Mute")


async def test_failures_handed_up_through_many_parents_stay_in_bounds(bad):
    def descend(context: Any) -> Any:
        depth = context.get_input()
        if not depth:
            raise ValueError("z" * 1000)
        yield context.call_sub_orchestrator("descend", depth - 1, f"level {depth}")

    bad.site.registry.orchestrator(descend)
    await bad.client.start_new("descend", "top", 400)
    status = await bad.client.wait_for_completion("top", 20)
    assert status.runtime_status == "Failed"
    assert max(len(record.payload) for record in bad.site.store.records) < 200_000
