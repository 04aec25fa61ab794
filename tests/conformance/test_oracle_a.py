"""Generated programs run on this engine; Microsoft's SDK judges every decision in their journals.

``CONFORMANCE_SEED=n`` repeats a run, ``CONFORMANCE_PROGRAMS=n`` sets its length; each run prints its figures and its seed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, Phase, given, seed, settings

from gateway.durable import RetryOptions
from gateway.durable import history as h
from gateway.durable.codec import unpack
from gateway.durable.execution import Execution
from gateway.durable.external import ExternalEvents
from gateway.durable.tasks import AllTask, AnyTask, Task
from gateway.durable.timers import Timers
from tests.conformance.program_strategy import scripts
from tests.conformance.programs import Json
from tests.conformance.v1_comparison import Tally, compare

SEED = int(os.environ.get("CONFORMANCE_SEED") or random.SystemRandom().randrange(2**32))
PROGRAMS = int(os.environ.get("CONFORMANCE_PROGRAMS") or 2000)
MUTANT_PROGRAMS = 2000
"""At most; a broken engine is mostly found within 50."""
ENOUGH_FOR_SHARES = 500

LEAST_SHARE = {
    "wait": 0.6, "activity": 0.5, "all": 0.2, "any": 0.15, "nested": 0.1, "timer": 0.15, "event": 0.2, "events told": 0.2,
    "entity": 0.1, "entity failure": 0.05, "signal": 0.1, "sub": 0.15, "retry activity": 0.1, "retry sub": 0.03,
    "failure": 0.2, "try": 0.1, "raise_if_odd": 0.05, "status": 0.05, "if": 0.08, "repeat": 0.04, "rounds": 0.05,
    "start": 0.1, "slot": 0.04, "cancel": 0.005, "now": 0.05, "several turns": 0.4, "several events in a turn": 0.1,
}  # fmt: skip
"""Of programs that have each feature: a run with fewer would compare too little of it. (The last two: of executions.)"""


@pytest.fixture(autouse=True)
def _quiet_log() -> Iterator[None]:
    """Thousands of programs that fail on purpose: their warnings say nothing."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def run(judge: Callable[[Json], None], programs: int, phases: tuple[Phase, ...], number: int) -> None:
    @seed(number)
    @settings(
        max_examples=programs,
        phases=phases,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(scripts())
    def each(script: Json) -> None:
        judge(script)

    each()


def test_every_decision_is_that_of_v1_save_for_the_listed_differences(
    runner: asyncio.Runner, capsys: pytest.CaptureFixture[str]
):
    tally, began = Tally(), time.monotonic()
    how = f"(CONFORMANCE_SEED={SEED} repeats this run)"
    try:
        run(lambda script: compare(script, runner, tally), PROGRAMS, (Phase.generate, Phase.shrink), SEED)
    except BaseException as error:
        error.add_note(how)
        raise
    with capsys.disabled():
        print(f"\nagainst azure-functions-durable: {tally}; {time.monotonic() - began:.0f} s {how}")
    if PROGRAMS < ENOUGH_FOR_SHARES:
        return  # too few for shares
    assert tally.programs >= PROGRAMS
    shares = {name: tally.features[name] / tally.programs for name in LEAST_SHARE}
    assert not {name: share for name, share in shares.items() if share < LEAST_SHARE[name]}
    assert set(tally.outcomes) == {"running", "completed", "failed", "continued"}
    assert {"task_all fails fast", "the newest wait takes the event"} >= set(tally.forks) != set()
    assert tally.cuts > 3 * tally.programs
    assert tally.actions > 8 * tally.programs


# An oracle that finds nothing wrong proves nothing, unless it finds what is wrong. Each of these breaks the engine.


def all_completes_with_the_first(mutate: pytest.MonkeyPatch) -> None:
    mutate.setattr(AllTask, "child_completed", lambda self, child: self.succeed([c.result for c in self.children]))


def all_fails_fast(mutate: pytest.MonkeyPatch) -> None:
    mutate.setattr(AllTask, "child_completed", _fail_fast)


def _fail_fast(self: AllTask, child: Task, before: Callable[..., None] = AllTask.child_completed) -> None:
    before(self, child)
    if child.exception is not None:
        self.fail(child.exception)


def all_mixes_up_its_results(mutate: pytest.MonkeyPatch) -> None:
    def succeed(self: AllTask, value: Json, before: Callable[..., None] = Task.succeed) -> None:
        before(self, value[::-1])

    mutate.setattr(AllTask, "succeed", succeed)


def any_names_the_last(mutate: pytest.MonkeyPatch) -> None:
    mutate.setattr(AnyTask, "child_completed", lambda self, child: self.succeed(self.children[-1]))


def kept_events_come_out_reversed(mutate: pytest.MonkeyPatch) -> None:
    def keep(self: ExternalEvents, event: h.EventRaised, before: Callable[..., None] = ExternalEvents.keep) -> None:
        before(self, event)
        self._kept[event.name.lower()].rotate(1)

    mutate.setattr(ExternalEvents, "keep", keep)


def the_newest_wait_takes_the_event(mutate: pytest.MonkeyPatch) -> None:
    before = ExternalEvents.raised

    def raised(self: ExternalEvents, event: h.EventRaised) -> None:
        waits = self._waits.get(event.name.lower())
        if waits:
            waits.rotate(1)
        before(self, event)

    mutate.setattr(ExternalEvents, "raised", raised)


def timers_fire_early(mutate: pytest.MonkeyPatch) -> None:
    before = Timers.set
    mutate.setattr(Timers, "set", lambda self, instance, task, due_us: before(self, instance, task, due_us - 1_000_000))


def timers_are_set_too_late(mutate: pytest.MonkeyPatch) -> None:
    before = Execution.timer
    mutate.setattr(Execution, "timer", lambda self, due_us: before(self, due_us + 1))


def failures_are_swallowed(mutate: pytest.MonkeyPatch) -> None:
    mutate.setattr(Task, "fail", lambda self, error: self.succeed(None))


def a_retry_too_many(mutate: pytest.MonkeyPatch) -> None:
    before = RetryOptions.delay_us
    mutate.setattr(RetryOptions, "delay_us", lambda self, attempts, elapsed: before(self, attempts - 1, elapsed))


def actions_after_continue_as_new_count(mutate: pytest.MonkeyPatch) -> None:
    before = Execution._end_completed

    def end(self: Execution, result: object) -> None:
        self._actions_at_continue = len(self._actions)
        before(self, result)

    mutate.setattr(Execution, "_end_completed", end)


def the_last_continue_as_new_counts(mutate: pytest.MonkeyPatch) -> None:
    before = Execution.continue_as_new

    def again(self: Execution, value: Json, keep_events: bool) -> None:
        self.continue_input = None
        before(self, value, keep_events)

    mutate.setattr(Execution, "continue_as_new", again)


def an_event_is_lost_at_continue_as_new(mutate: pytest.MonkeyPatch) -> None:
    before = ExternalEvents.leftover
    mutate.setattr(ExternalEvents, "leftover", lambda self: before(self)[1:])


def entities_answer_with_less(mutate: pytest.MonkeyPatch) -> None:
    before = Execution._completed

    def completed(self: Execution, task_id: int, result: Any) -> None:
        value = unpack(result)
        before(self, task_id, result if not isinstance(value, int) or value < 5 else type(result)(b"5"))

    mutate.setattr(Execution, "_completed", completed)


MUTANTS = (
    all_completes_with_the_first,
    all_fails_fast,
    all_mixes_up_its_results,
    any_names_the_last,
    kept_events_come_out_reversed,
    the_newest_wait_takes_the_event,
    timers_fire_early,
    timers_are_set_too_late,
    failures_are_swallowed,
    a_retry_too_many,
    actions_after_continue_as_new_count,
    the_last_continue_as_new_counts,
    an_event_is_lost_at_continue_as_new,
    entities_answer_with_less,
)


class Found(Exception):
    """The broken engine was caught."""


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_broken_engine_is_found(mutant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch):
    mutant(monkeypatch)
    programs = 0

    def judge(script: Json) -> None:
        nonlocal programs
        programs += 1
        with asyncio.Runner() as runner:
            try:
                compare(script, runner, Tally())
            except Exception as error:
                raise Found(f"after {programs} programs: {error}") from error

    with pytest.raises(Found):
        run(judge, MUTANT_PROGRAMS, (Phase.generate,), SEED)
