"""Activities: bounded, on the loop or in a thread; every start gets exactly one report."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.durable import Registry
from gateway.durable.activities import ActivityRunner, PendingActivity, Report


class Reports(dict[Any, Report]):
    """Reports by key; a second one for the same key is an error."""

    def take(self, key: Any, report: Report) -> None:
        assert key not in self
        self[key] = report


def runner_of(function: Any, reports: Reports, max_running: int = 10, **options: Any) -> ActivityRunner:
    registry = Registry()
    registry.activity(function, "work", **options)
    return ActivityRunner(registry, None, reports.take, max_running)  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [ValueError("x"), StopIteration(3), SystemExit(1), asyncio.CancelledError()])
@pytest.mark.parametrize("threaded", [False, True])
async def test_whatever_an_activity_raises_is_reported(error, threaded, wait_until):
    async def awaited() -> None:
        raise error

    def called() -> None:
        raise error

    reports = Reports()
    runner = runner_of(called if threaded else awaited, reports)
    runner.start(("i", 1), PendingActivity("work"))
    await wait_until(lambda: ("i", 1) in reports)
    assert reports["i", 1].failure is not None


async def test_a_slow_activity_times_out(wait_until):
    async def slow() -> None:
        await asyncio.sleep(60)

    reports = Reports()
    runner_of(slow, reports, timeout_s=0.01).start(("i", 1), PendingActivity("work"))
    await wait_until(lambda: bool(reports))
    failure = reports["i", 1].failure
    assert failure is not None
    assert (failure.kind, "0.01 s" in failure.message) == ("TimeoutError", True)


async def test_only_so_many_run_at_once_and_cancelled_ones_never_start(wait_until):
    gate = asyncio.Event()
    started: list[int] = []

    async def work(number: int) -> None:
        started.append(number)
        await gate.wait()

    reports = Reports()
    runner = runner_of(work, reports, max_running=2)
    for number in range(5):
        runner.start(("i", number), PendingActivity("work", str(number).encode()))  # type: ignore[arg-type]
    await asyncio.sleep(0.01)
    assert (started, runner.running, runner.queued) == ([0, 1], 2, 3)
    runner.cancel(("i", 3))
    runner.cancel(("i", 0))
    await wait_until(lambda: len(started) == 3)
    gate.set()
    await wait_until(lambda: len(reports) == 3)
    assert started == [0, 1, 2, 4][: len(started)] or started == [0, 1, 2, 4]
    assert ("i", 0) not in reports
    assert ("i", 3) not in reports


async def test_draining_waits_then_cuts_off():
    async def work(number: int) -> None:
        await asyncio.sleep(0 if number else 60)

    reports = Reports()
    runner = runner_of(work, reports)
    for number in range(2):
        runner.start(("i", number), PendingActivity("work", str(number).encode()))  # type: ignore[arg-type]
    assert await runner.drain(0.05) == 1
    assert list(reports) == [("i", 1)]
    runner.start(("i", 2), PendingActivity("work"))
    assert runner.running == 0
