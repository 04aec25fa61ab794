"""The workbench: the real engine on virtual time, at rest after each verb, and the power failing when the test wants."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from gateway.durable import EntityId, OrchestrationRuntimeStatus, RetryOptions, TaskFailedError
from gateway.durable.testing import Ended, Stalled, UnexpectedCall, Workbench, play, survives_every_crash


def GridEmergencyProtocol(context):
    yield context.call_activity("SendDisconnectCommand", "tier1")
    yield context.create_timer(context.current_utc_datetime + timedelta(minutes=5))
    override = yield context.wait_for_external_event("OperatorOverride", timeout=300)
    if override and override.get("cancel"):
        return {"status": "aborted"}
    yield context.call_activity("SendReconnectCommand", "tier1")
    return {"status": "recovered"}


async def test_ten_minutes_pass_in_milliseconds():
    began = time.monotonic()
    async with Workbench() as bench:
        bench.stub("SendDisconnectCommand", {"7B": "done"})
        bench.stub("SendReconnectCommand", {"7B": "done"})
        assert await bench.run(GridEmergencyProtocol) == {"status": "recovered"}
        assert bench.called == [("SendDisconnectCommand", "tier1"), ("SendReconnectCommand", "tier1")]
        first, second = bench.calls
        assert second.at - first.at == timedelta(minutes=10)
    assert time.monotonic() - began < 2
