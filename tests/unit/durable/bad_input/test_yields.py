"""What an orchestrator may yield and ask for: tasks of its own, times that a calendar holds, sensible retries."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.durable import (
    RetryOptions,
)
from gateway.durable.retry import MAX_INTERVAL_MS


def stranger(context: Any) -> Any:
    KEPT["task"] = context.wait_for_external_event("never")
    yield KEPT["task"]


KEPT: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("foreign", "word"),
    [
        (lambda context: None, "NoneType"),
        (lambda context: [context.create_timer(timedelta(1))], "list"),
        (lambda context: (context.create_timer(timedelta(1)),), "write instead: yield context.task_all([...])"),
        (lambda context: asyncio.Future(loop=asyncio.get_running_loop()), "Future"),
        (lambda context: "text", "str"),
        (lambda context: (n for n in ()), "generator"),
        (lambda context: (n for n in ()), "write instead: yield from"),
        (lambda context: context.create_timer, "method"),
    ],
)
async def test_yielding_what_is_no_task(bad, foreign, word):
    def code(context: Any) -> Any:
        yield foreign(context)

    await bad.fails(code, "TypeError", "may yield tasks only", word, "test_yields.py:")


async def test_a_yield_that_was_forgotten(bad):
    def code(context: Any) -> Any:
        yield context.call_activity("echo", 1)
        return context.call_activity("echo", 2)

    await bad.fails(code, "NotSerializableError", "a task is not its result: yield it first")


async def test_yielding_a_task_of_another_instance(bad):
    bad.site.registry.orchestrator(stranger)
    await bad.client.start_new("stranger", "stranger")

    def alone(context: Any) -> Any:
        yield KEPT["task"]

    def among(context: Any) -> Any:
        yield context.task_any([context.create_timer(timedelta(1)), KEPT["task"]])

    for code in (alone, among):
        await bad.fails(code, "TypeError", "another orchestration")
    assert (await bad.client.get_status("stranger")).runtime_status == "Running"


async def test_a_task_may_be_waited_for_again_and_read_before_its_end(bad):
    def code(context: Any) -> Any:
        task = context.call_activity("echo", 7)
        before = [task.is_completed, task.result, task.is_faulted]
        results = [(yield task), (yield task), (yield task)]
        return [before, results, (yield context.task_all([task, task]))]

    assert (await bad.run(code)).output == [[False, None, False], [7, 7, 7], [7, 7]]


async def test_composites_of_anything_but_tasks(bad):
    await bad.fails(lambda c: c.task_any([]), "ValueError", "task_any needs at least one task")
    for wrong in (
        lambda c: c.task_all([1]),
        lambda c: c.task_any([None]),
        lambda c: c.task_all(c.create_timer(timedelta(1))),
    ):
        await bad.fails(wrong, "TypeError", "task")

    def code(context: Any) -> Any:
        return (yield context.task_all([]))

    assert (await bad.run(code)).output == []


@pytest.mark.parametrize(
    "far",
    [
        timedelta.max,
        timedelta(days=365 * 9000),
        float("nan"),
        float("inf"),
        1e300,
        "soon",
        None,
        5,
    ],
)
async def test_timers_that_no_calendar_holds(bad, far):
    def code(context: Any) -> Any:
        yield context.create_timer(far)

    status = await bad.run(code)
    assert status.failure is not None
    assert status.failure.kind in ("LimitExceededError", "TypeError", "ValueError")
    assert "timer" in status.failure.message


@pytest.mark.parametrize(
    "wrong", [timedelta.max, float("nan"), float("inf"), 1e300, "soon", timedelta(days=365 * 9000)]
)
async def test_time_outs_that_no_calendar_holds(bad, wrong):
    def code(context: Any) -> Any:
        yield context.wait_for_external_event("never", timeout=wrong)

    status = await bad.run(code)
    assert status.failure is not None
    assert status.failure.kind in ("LimitExceededError", "TypeError", "ValueError", "OverflowError")
    assert "time" in status.failure.message


async def test_timers_at_the_ends_of_time(bad):
    def past(context: Any) -> Any:
        for moment in (
            timedelta(0),
            timedelta(days=-1),
            timedelta.min,
            datetime.min,
            datetime(2000, 1, 1),
            datetime(1970, 1, 1, tzinfo=UTC),
        ):
            yield context.create_timer(moment)
        yield context.wait_for_external_event("never", timeout=-5)
        return "at once"

    def future(context: Any) -> Any:
        for moment in (datetime.max, datetime(9999, 12, 31, tzinfo=UTC)):
            context.create_timer(moment)
        return "not waited for"

    assert (await bad.run(past)).output == "at once"
    assert (await bad.run(future)).output == "not waited for"


@pytest.mark.parametrize(
    "options",
    [
        (0, 1),
        (-1, 1),
        (1, 0),
        (1, -3),
        (1, 3, 0.5),
        (1, 3, float("nan")),
        (float("nan"), 3),
        (1, float("nan")),
        (1, 3, 1.0, -1),
        (1, 3, 1.0, 0),
        (1, 3, 1.0, None, -1),
        (1, 3, 1.0, float("nan")),
        ("1", 3),
        (1, None),
        (10**30, 3),
        (1, 1000, float("inf")),
    ],
)
def test_retry_options_out_of_range(options):
    with pytest.raises((ValueError, TypeError)):
        RetryOptions(*options)


@pytest.mark.parametrize(
    "options",
    [(1, 1000, 1e300), (1, 1000, 10**30), (1, 10**9, 2.0), (10**12, 10**9, 10.0, 10**18)],
)
async def test_huge_retry_options_end_in_a_failure_and_not_in_an_overflow(bad, options):
    """No wait is longer than a thousand years, whatever was asked for."""

    def code(context: Any) -> Any:
        yield context.call_activity_with_retry("raises", RetryOptions(*options), "StopIteration")

    bad.site.registry.orchestrator(code, "retries")
    await bad.client.start_new("retries", "r")
    await asyncio.sleep(0.05)
    status = await bad.client.get_status("r")
    assert status.runtime_status in ("Running", "Failed")
    for attempts in (2, 3, 60, 999):
        assert 0 < (RetryOptions(*options).delay_us(attempts, 0) or 1) <= MAX_INTERVAL_MS * 1000
