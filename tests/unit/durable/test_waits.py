"""What an orchestration waits for, in words with its line."""

from __future__ import annotations

from datetime import timedelta

from gateway.durable import history as h
from gateway.durable.codec import pack
from gateway.durable.identity import EntityId
from gateway.durable.waits import wait_in_words

from .test_execution import Run


def waits(context):
    yield context.call_activity("Open", "T1")
    yield context.create_timer(timedelta(minutes=5))
    yield context.wait_for_external_event("Go")
    yield context.wait_for_external_event("Go", timeout=60)
    yield context.call_entity(EntityId("breaker", "7B"), "open")
    yield context.task_any([context.wait_for_external_event("A"), context.wait_for_external_event("B")])
    yield context.call_sub_orchestrator("Child", instance_id="kid")


def test_each_kind_of_wait_has_its_words():
    run = Run(waits)
    steps = [
        ("the activity 'Open'", h.TaskCompleted(1)),
        ("its timer at 2026-01-14T08:05:00.000Z", h.TimerFired(2)),
        ("the event 'Go'", h.EventRaised("go")),
        ("the event 'Go' until 2026-01-14T08:01:00.000Z", h.EventRaised("go")),
        ("the answer of @breaker@7B to 'open'", h.EntityOperationCompleted(4)),
        ("any of (the event 'A', the event 'B')", h.EventRaised("b", pack(1, "it"))),
        ("the sub-orchestration 'kid' (Child)", h.SubOrchestrationInstanceCompleted(5)),
    ]
    for words, event in steps:
        told = wait_in_words(run.execution)
        assert told.startswith(f"waits for {words} (it waits at ")
        assert "test_waits.py:" in told
        run(event)
    assert wait_in_words(run.execution) == "waits for nothing"
