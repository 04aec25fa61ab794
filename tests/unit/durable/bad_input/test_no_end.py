"""Code that does not let go: it catches everything, calls itself, or never waits."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from gateway.durable import (
    overrun,
)
from tests.unit.durable.bad_input.parts import BOX


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_code_that_catches_everything_can_be_ended(bad):
    def stubborn(context: Any) -> Any:
        while True:
            try:
                yield context.wait_for_external_event("go")
            except BaseException:  # noqa: BLE001 - that is the point
                context.set_custom_status("caught")

    def bitter(context: Any) -> Any:
        try:
            yield context.wait_for_external_event("go")
        finally:
            raise SystemExit("not me")

    def busy(context: Any) -> Any:
        try:
            yield context.wait_for_external_event("go")
        finally:
            context.call_activity("echo", "too late")
            context.signal_entity(BOX, "keep", "too late")

    def ignores(context: Any) -> Any:
        try:
            yield None
        finally:
            yield context.call_activity("echo", "too late")

    for code in (stubborn, bitter, busy):
        bad.site.registry.orchestrator(code)
        await bad.client.start_new(code.__name__, code.__name__)
        await bad.client.terminate(code.__name__, "enough")
        assert (await bad.client.wait_for_completion(code.__name__, 5)).runtime_status == "Terminated"
    await bad.fails(ignores, "TypeError", "may yield tasks only")
    await bad.engine.on_disk()
    assert await bad.client.call_entity(BOX, "get") is None
    assert not bad.site.store.pending_activities
    gc.collect()  # what Python says of a generator that ignores its end belongs to this test


async def test_code_that_calls_itself_without_end(bad):
    def endless(context: Any) -> Any:
        return endless(context)

    await bad.fails(endless, "RecursionError", "recursion")


@pytest.mark.parametrize("catching", [False, True])
async def test_code_that_never_waits_is_ended_and_the_engine_goes_on(bad, monkeypatch, catching):
    monkeypatch.setattr(overrun.watch, "limit_s", 0.1)
    monkeypatch.setattr(overrun.watch, "look_s", 0.02)

    def never(context: Any) -> Any:
        while True:
            try:
                context.is_replaying  # noqa: B018 - it only keeps busy
            except BaseException:
                if not catching:
                    raise
        yield

    await bad.fails(never, "LimitExceededError", "0.1 s", "test_no_end.py")
