"""Generated programs run end to end on this engine and on durabletask's in-memory backend: the same comes of them.

``CONFORMANCE_SEED=n`` repeats a run, ``CONFORMANCE_RUNS=n`` sets its length; each prints its figures and its seed. What is
compared: status, output, failure and custom status of every orchestration, the states of all entities, every activity in
the order of its orchestration, and that no two critical sections ran at once.
"""
# ruff: noqa: E402 - what is missing must be told before it is imported

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter, deque
from collections.abc import Callable

import msgspec
import pytest

WHY_NOT = "durabletask is not installed: NOTHING is compared with its backend (pip install -e '.[dev]')"
pytest.importorskip("durabletask.testing", reason=WHY_NOT)
pytest.importorskip("grpc", reason=WHY_NOT)

from gateway.durable import entities as entities_module
from gateway.durable import rewound
from gateway.durable.codec import pack
from gateway.durable.context import DurableOrchestrationContext
from gateway.durable.decisions import Decisions
from gateway.durable.entity import DurableEntityContext, EntityCore, OperationRequest
from gateway.durable.execution import Execution
from gateway.durable.external import ExternalEvents
from gateway.durable.history import EventRaised, OperationRecord
from gateway.durable.instances import Orchestration, OrchestrationRuntimeStatus
from gateway.durable.mailbox import Mailbox
from gateway.durable.orchestrations import Orchestrations
from gateway.durable.retry import RetryOptions
from gateway.durable.tasks import AllTask, Task
from tests.conformance.durabletask_comparison import Comparison, Limits, compare, first_difference, generate
from tests.conformance.durabletask_programs import features

SEED = int(os.environ.get("CONFORMANCE_SEED") or random.SystemRandom().randrange(2**32))
RUNS = int(os.environ.get("CONFORMANCE_RUNS") or 310)
HOW = f"(CONFORMANCE_SEED={SEED} repeats this run)"
TOO_FEW_FOR_SHARES = 200
REPLAYED_RUNS = 120
MUTANT_RUNS = 60

LEAST_SHARE = {
    "Act": 0.9, "All": 0.25, "First": 0.12, "Nap": 0.2, "Ask": 0.3, "Tell": 0.2, "Child": 0.3, "Start": 0.2, "Slow": 0.04,
    "Pause": 0.35, "Raise": 0.35, "early event": 0.02, "Signal": 0.06, "Suspend": 0.15, "Resume": 0.12, "Terminate": 0.03,
    "Patience": 0.1, "Send": 0.1, "Hear": 0.1, "Section": 0.4, "contention": 0.25, "broken section": 0.2,
    "forbidden in section": 0.2, "rollback": 0.08, "entity to entity": 0.1, "entity starts": 0.1,
    "scheduled signal": 0.01, "retry": 0.15, "retries used up": 0.005, "failure": 0.08,
    "child retry": 0.002, "continue as new": 0.12,
    "carried events": 0.03, "dropped events": 0.02, "Say": 0.1, "owner terminated": 0.008, "rewind": 0.05,
    "continue as new in a section": 0.02,
}  # fmt: skip
"""Of runs that have each feature: with fewer, too little of it would be compared."""


@pytest.fixture(scope="module")
def compared() -> Comparison:
    """All runs, played on both engines."""
    return asyncio.run(compare(generate(RUNS, SEED)))


def test_the_same_comes_of_every_program(compared: Comparison, capsys: pytest.CaptureFixture[str]):
    activities = sum(len(step) - 1 for o in compared.ours.values() for lane in o.activities.values() for step in lane)
    instances = sum(i is not None for o in compared.ours.values() for i in o.instances.values())
    with capsys.disabled():
        print(
            f"\nagainst durabletask: {len(compared.runs)} programs, {instances} named orchestrations,"
            f" {activities} activities, {len(compared.differences)} differences; ours {compared.seconds['ours']:.1f} s,"
            f" theirs {compared.seconds['theirs']:.1f} s {HOW}"
        )
    assert not compared.differences, f"{HOW}\n{compared.told()}"
    assert len(compared.runs) >= RUNS
    assert compared.engine_failure is None


def test_the_same_comes_of_replaying_everything(compared: Comparison):
    """An engine that keeps one generator only replays nearly every turn from the journal."""
    chosen = compared.runs[:REPLAYED_RUNS]
    found, replays = asyncio.run(first_difference(chosen, compared.theirs, Limits(20.0, 3.0), max_live=1))
    assert not found, HOW
    assert replays > 5 * len(chosen)


def test_no_two_critical_sections_ran_at_once(compared: Comparison):
    assert not [o.overlaps for o in (*compared.ours.values(), *compared.theirs.values()) if o.overlaps], HOW


def test_nothing_is_left_running(compared: Comparison):
    assert not compared.threads_left


@pytest.mark.skipif(RUNS < TOO_FEW_FOR_SHARES, reason=f"{RUNS} programs are too few for shares")
def test_the_programs_show_enough(compared: Comparison):
    shares = {name: compared.features[name] / len(compared.runs) for name in LEAST_SHARE}
    assert not {name: share for name, share in shares.items() if share < LEAST_SHARE[name]}, HOW
    ended = Counter(i[0] for o in compared.ours.values() for i in o.instances.values() if i is not None)
    assert min(ended[status] for status in ("Completed", "Failed", "Terminated")) >= len(compared.runs) // 40
    seen = [mark for o in compared.theirs.values() for mark in o.marks if isinstance(mark, list)]
    still = [mark for mark in seen if mark[0] == "still"]
    assert len(still) >= len(compared.runs) // 10
    assert all(status == "Suspended" for _, status, _ in still), "seen by durabletask while it was suspended"
    assert len([mark for mark in seen if mark[0] == "rewound"]) >= len(compared.runs) // 20


# An oracle that finds nothing wrong proves nothing, unless it finds what is wrong. Each of these breaks the engine.


def a_failed_operation_keeps_its_state(mutate: pytest.MonkeyPatch) -> None:
    def set_state(
        self: DurableEntityContext, state: object, before: Callable[..., None] = DurableEntityContext.set_state
    ):
        before(self, state)
        self._entity.state = None if state is None else pack(state, "a state")

    mutate.setattr(DurableEntityContext, "set_state", set_state)


def a_failed_operation_keeps_its_signals(mutate: pytest.MonkeyPatch) -> None:
    sent: list[object] = []
    act, step = DurableEntityContext._act, EntityCore.step

    def note(self: DurableEntityContext, action: object) -> None:
        sent.append(action)
        act(self, action)  # type: ignore[arg-type]

    def keep(self: EntityCore, request: OperationRequest, now_us: int) -> tuple[OperationRecord, bool]:
        sent.clear()
        record, answer = step(self, request, now_us)
        return (msgspec.structs.replace(record, actions=tuple(sent)) if record.failure else record), answer

    mutate.setattr(DurableEntityContext, "_act", note)
    mutate.setattr(EntityCore, "step", keep)


def a_lock_keeps_nobody_out(mutate: pytest.MonkeyPatch) -> None:
    mutate.setattr(entities_module, "_may_pass", lambda mail, owner: True)


def a_terminated_owner_keeps_its_locks(mutate: pytest.MonkeyPatch) -> None:
    def unlock(self: Decisions, instance: Orchestration, before: Callable[..., None] = Decisions.unlock) -> None:
        if instance.status is not OrchestrationRuntimeStatus.Terminated:
            before(self, instance)

    mutate.setattr(Decisions, "unlock", unlock)


def a_section_allows_everything(mutate: pytest.MonkeyPatch) -> None:
    mutate.setattr(Execution, "check_in_section", lambda *_, **__: None)


def suspension_stops_nothing(mutate: pytest.MonkeyPatch) -> None:
    mutate.setattr(Orchestrations, "_has_control", lambda self, instance: True)


def what_came_while_suspended_is_mixed_up(mutate: pytest.MonkeyPatch) -> None:
    def unpark(self: Mailbox, before: Callable[..., None] = Mailbox.unpark) -> None:
        self.parked.reverse()
        before(self)

    mutate.setattr(Mailbox, "unpark", unpark)


def the_newest_event_comes_first(mutate: pytest.MonkeyPatch) -> None:
    def keep(self: ExternalEvents, event: EventRaised) -> None:
        self._kept.setdefault(event.name.lower(), deque()).appendleft(event)
        self.count += 1

    mutate.setattr(ExternalEvents, "keep", keep)


def names_of_events_mind_case(mutate: pytest.MonkeyPatch) -> None:
    def raised(self: ExternalEvents, event: EventRaised, before: Callable[..., None] = ExternalEvents.raised) -> None:
        before(self, msgspec.structs.replace(event, name=event.name if event.name != event.name.upper() else "?"))

    mutate.setattr(ExternalEvents, "raised", raised)


def events_are_not_carried(mutate: pytest.MonkeyPatch) -> None:
    mutate.setattr(Execution, "leftover_events", lambda self: ())


def events_are_always_carried(mutate: pytest.MonkeyPatch) -> None:
    mutate.setattr(Execution, "leftover_events", lambda self: self._external.leftover())


def a_retry_too_many(mutate: pytest.MonkeyPatch) -> None:
    def delay_us(
        self: RetryOptions, attempts: int, elapsed_us: int, before: Callable[..., int | None] = RetryOptions.delay_us
    ):
        return before(self, attempts - 1, elapsed_us) if attempts > 1 else 1000

    mutate.setattr(RetryOptions, "delay_us", delay_us)


def all_fails_fast(mutate: pytest.MonkeyPatch) -> None:
    def child_completed(self: AllTask, child: Task, before: Callable[..., None] = AllTask.child_completed) -> None:
        before(self, child)
        if child.exception is not None:
            self.fail(child.exception)

    mutate.setattr(AllTask, "child_completed", child_completed)


def signals_between_entities_are_lost(mutate: pytest.MonkeyPatch) -> None:
    mutate.setattr(DurableEntityContext, "signal_entity", lambda *_, **__: None)


def sent_events_are_lost(mutate: pytest.MonkeyPatch) -> None:
    mutate.setattr(DurableOrchestrationContext, "send_event", lambda *_: None)


def a_rewind_repeats_everything(mutate: pytest.MonkeyPatch) -> None:
    mutate.setattr(rewound, "_failure", lambda turns: (0, 0))


MUTANTS: dict[Callable[[pytest.MonkeyPatch], None], set[str]] = {
    a_failed_operation_keeps_its_state: {"rollback"},
    a_failed_operation_keeps_its_signals: {"rollback"},
    a_lock_keeps_nobody_out: {"contention"},
    a_terminated_owner_keeps_its_locks: {"owner terminated"},
    a_section_allows_everything: {"forbidden in section"},
    suspension_stops_nothing: {"Suspend", "Resume"},
    what_came_while_suspended_is_mixed_up: {"Suspend", "Resume"},
    the_newest_event_comes_first: {"early event"},
    names_of_events_mind_case: {"Raise"},
    events_are_not_carried: {"carried events"},
    events_are_always_carried: {"dropped events"},
    a_retry_too_many: {"retries used up"},
    all_fails_fast: {"All", "failure"},
    signals_between_entities_are_lost: {"entity to entity"},
    sent_events_are_lost: {"Send"},
    a_rewind_repeats_everything: {"rewind"},
}


@pytest.mark.skipif(RUNS < TOO_FEW_FOR_SHARES, reason=f"{RUNS} programs are too few to find every defect")
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_broken_engine_is_found(
    mutant: Callable[[pytest.MonkeyPatch], None], compared: Comparison, monkeypatch: pytest.MonkeyPatch
):
    chosen = [(name, run) for name, run in compared.runs if MUTANTS[mutant] <= features(run)][:MUTANT_RUNS]
    mutant(monkeypatch)
    found, _ = asyncio.run(first_difference(chosen, compared.theirs, Limits()))
    assert found, f"not found in {len(chosen)} programs {HOW}"


@pytest.mark.skipif(RUNS < TOO_FEW_FOR_SHARES, reason=f"{RUNS} programs are too few to find every defect")
def test_a_whole_engine_is_not_found(compared: Comparison):
    """Else the limits for broken ones would be too tight for this machine, and would find anything."""
    found, _ = asyncio.run(first_difference(compared.runs[:MUTANT_RUNS], compared.theirs, Limits()))
    assert not found, HOW
