"""The engine against a simple reference model: random starts, events, signals, timers, crashes and recoveries.

A state machine drives the real engine with random programs and random acts of clients, lets the power fail whenever it
likes (with a commit open, before it reaches the disk or just after), and holds the journal against ``model_reference``
whenever the engine is at rest. What must hold: no event that was taken on is lost, none is heard twice, the order of each
sender is kept; each result reaches its orchestration once; timers fire once and not early; what entities come to is the
sum of what they were told; nothing leaves the process before its cause is on disk; nobody is forgotten.

``GRIDLATCH_MODEL_SEED`` repeats a run; the seed is printed.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.conformance.model_programs import KEYS, NAMES, programs
from tests.conformance.model_site import ModelSite

SEED = int(os.environ.get("GRIDLATCH_MODEL_SEED", random.SystemRandom().randrange(2**32)))
SENDERS = ("operator", "scada", "sensor")
INSTANCES = [f"i{n}" for n in range(3)]

_instances = st.sampled_from(INSTANCES)
_senders = st.sampled_from(SENDERS)
_which = st.integers(0, 5)
_bursts = st.lists(st.tuples(st.sampled_from(NAMES), _senders), min_size=2, max_size=8)


class Model(RuleBasedStateMachine):
    """See above."""

    path: Path | None = None
    runs = steps = crashes = acts = turns = 0

    def __init__(self) -> None:
        super().__init__()
        self.number = 0
        self.broken = False
        self.site: ModelSite | None = None

    @initialize(max_live=st.sampled_from([1, 2, 10_000]))
    def begin(self, max_live: int) -> None:
        if self.path is not None:
            for old in self.path.parent.glob(f"{self.path.name}*"):
                old.unlink()
        self.site = ModelSite(self.path, max_live)

    def _next(self) -> int:
        type(self).steps += 1
        self.number += 1
        return self.number

    def _do(self, work: object) -> None:
        assert self.site is not None
        self.broken = True
        self.site.do(work)  # type: ignore[arg-type]
        if self.site.disk.held:
            for instance in INSTANCES:
                self.site.check_status(instance)
        else:
            self.site.audit()
        self.broken = False

    @rule(which=_which)
    def rewind(self, which: int) -> None:
        self._next()
        failed = self.site.ended("Failed")
        if failed:
            self._do(self.site.rewind(failed[which % len(failed)]))

    @rule(which=_which, before=programs, after=programs, events=_bursts, crash=st.sampled_from([None, False, True]))
    def fail_and_rewind(
        self, which: int, before: list[object], after: list[object], events: list[tuple[str, str]], crash: bool | None
    ) -> None:
        instance = INSTANCES[which % len(INSTANCES)]
        self.start(instance, [*before, ["must", which], *after])
        self._do(self._many(instance, events))
        self.rewind(which)
        if crash is not None:
            self.crash(crash)
        self.rewind(which)

    @rule(which=_which, status=st.sampled_from(["Completed", "Failed"]))
    def purge(self, which: int, status: str) -> None:
        self._next()
        ended = [name for name in self.site.ended(status) if name not in INSTANCES]
        if ended:
            self._do(self.site.purge(ended[which % len(ended)]))

    @rule(instance=_instances, program=programs)
    def start(self, instance: str, program: list[object]) -> None:
        self._do(self.site.start(instance, program, f"{instance}~{self._next()}"))

    @rule(instance=_instances, name=st.sampled_from([*NAMES, "A", "B"]), sender=_senders)
    def raise_event(self, instance: str, name: str, sender: str) -> None:
        self._do(self.site.send(instance, name, sender, self._next()))

    def _one_of(self, which: int) -> str:
        """An instance that has not ended, if there is one."""
        live = self.site.live() or INSTANCES
        return live[which % len(live)]

    async def _many(self, instance: str, events: list[tuple[str, str]]) -> None:
        for name, sender in events:
            await self.site.send(instance, name, sender, self._next())

    @rule(which=_which, events=_bursts)
    def raise_many(self, which: int, events: list[tuple[str, str]]) -> None:
        self._do(self._many(self._one_of(which), events))

    @rule(which=_which, first=_bursts, second=_bursts, crash=st.sampled_from([None, False, True]))
    @precondition(lambda self: not self.site.disk.held)
    def raise_while_the_disk_lags(
        self, which: int, first: list[tuple[str, str]], second: list[tuple[str, str]], crash: bool | None
    ) -> None:
        instance, other = self._one_of(which), self._one_of(which + 1)
        self.site.disk.hold(True)
        for events in (first[:2], first[2:]):
            self._do(self._many(instance, events))
            self._do(self._many(other, events))
        self.let_one_through()
        self._do(self._many(instance, second))
        if crash is None:
            self.let_go()
        else:
            self.crash(crash)

    @rule(which=_which, events=_bursts, crash=st.sampled_from([None, False, True]))
    def raise_while_suspended(self, which: int, events: list[tuple[str, str]], crash: bool | None) -> None:
        instance = self._one_of(which)
        self._do(self.site.control(instance, "suspend"))
        self._do(self._many(instance, events))
        if crash is not None:
            self.crash(crash)
        self._do(self.site.control(instance, "resume"))

    @rule(key=st.sampled_from(KEYS), ways=st.lists(st.sampled_from(["signal", "call", "ask"]), min_size=2, max_size=6))
    def tell_many(self, key: str, ways: list[str]) -> None:
        async def many() -> None:
            who = f"burst {self._next()}"
            for way in ways:
                await self.site.tell(key, f"{who}.{self._next()}", 1, way)

        self._do(many())

    @rule(
        key=st.sampled_from(KEYS),
        n=st.integers(-1, 9),
        way=st.sampled_from(["signal", "call", "ask", "post", "later"]),
        sender=_senders,
    )
    def tell(self, key: str, n: int, way: str, sender: str) -> None:
        # Posts are sent by somebody else: they may be lost, and later ones may not.
        who = sender if way == "signal" else f"{sender} {way} {self._next()}"
        self._do(self.site.tell(key, f"{who}.{self._next()}", n, way, n + 2))

    @rule(key=st.sampled_from(KEYS), program=programs)
    def begin_by_entity(self, key: str, program: list[object]) -> None:
        self._do(self.site.begin_by_entity(key, f"entity {self._next()}.1", program))

    @rule(seconds=st.sampled_from([0.7, 1, 2, 30, 3600]))
    def advance(self, seconds: float) -> None:
        self._next()
        self._do(self.site.advance(timedelta(seconds=seconds)))

    @rule(which=_which, word=st.sampled_from(["suspend", "resume", "suspend", "resume", "terminate"]))
    def control(self, which: int, word: str) -> None:
        self._next()
        self._do(self.site.control(self._one_of(which), word))

    @rule(is_open=st.booleans())
    def gate(self, is_open: bool) -> None:
        self._next()
        self.site.open_gate(is_open)
        self._do(asyncio.sleep(0))

    @rule()
    @precondition(lambda self: not self.site.disk.held)
    def hold(self) -> None:
        self._next()
        self.site.disk.hold(True)

    @rule()
    @precondition(lambda self: self.site.disk.held)
    def let_one_through(self) -> None:
        self._next()
        self.site.disk.let_through()
        self._do(asyncio.sleep(0))
        self.site.audit()

    @rule()
    @precondition(lambda self: self.site.disk.held)
    def let_go(self) -> None:
        self._next()
        self.site.disk.hold(False)
        self._do(asyncio.sleep(0))

    @rule(landed=st.booleans())
    def crash(self, landed: bool) -> None:
        self._next()
        self.site.crash(landed)
        self.site.audit()

    @rule(instance=_instances)
    def look(self, instance: str) -> None:
        self._next()
        self.site.check_status(instance)

    def teardown(self) -> None:
        site = self.site
        if site is None:
            return
        try:
            if not self.broken:
                site.finish()
        finally:
            kind = type(self)
            kind.runs += 1
            kind.crashes += site.crashes
            kind.acts += site.acts
            kind.turns += len(site.disk.shadow.records)
            site.close()


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Power failures by the hundred are told in critical words."""

    def drop(*_: object) -> str:
        raise structlog.DropEvent

    structlog.configure(processors=[drop])
    yield
    structlog.reset_defaults()


def run_model(path: Path | None, examples: int, steps: int) -> None:
    model = type("Model", (Model,), {"path": path})
    print(f"GRIDLATCH_MODEL_SEED={SEED}")
    run_state_machine_as_test(
        seed(SEED)(model),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            print_blob=False,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        ),
    )
    print(f"{model.runs} runs, {model.steps} steps, {model.acts} acts, {model.crashes} crashes, {model.turns} records")


def test_a_child_that_is_rewound_alone_and_fails_at_once_again_is_known_to_be_rewound() -> None:
    """Found by the model: it tells again what it had told, and its journal says that it was rewound."""
    site = ModelSite()
    try:
        site.do(site.start("i0", [["sub", [["tell", "k1", 0], ["boom"]]]], "i0~1"))
        assert site.ended("Failed") == ["i0:0001"]
        site.do(site.rewind("i0:0001"))
        look = site.finish()
        assert look.references["i0:0001"].rewinds == 1
        assert site.state("@tally@k1")["seen"] == ["i0~1.1.1", "i0~1.1.1"]
        assert site.ended("Completed") == ["i0"]
    finally:
        site.close()


def test_a_rewind_that_is_on_disk_before_its_turn_is_no_contradiction_to_what_the_parent_heard() -> None:
    """Found by the model: the parent has heard of a failure, and the child is said to run again."""
    site = ModelSite()
    try:
        site.do(site.start("i0", [["sub", [["act", 1], ["boom"]]]], "i0~1"))
        site.disk.hold(True)
        site.do(site.rewind("i0:0001"))
        site.disk.let_through()
        site.do(asyncio.sleep(0))
        assert site.disk.shadow.rows["i0:0001"].status == "Running"
        assert site.audit().references["i0:0001"].rewinds == 0
        assert site.finish().references["i0:0001"].rewinds == 1
    finally:
        site.close()


def test_the_engine_is_what_the_model_says() -> None:
    run_model(None, 80, 30)


def test_the_same_on_a_real_journal(tmp_path: Path) -> None:
    run_model(tmp_path / "journal.db", 10, 25)


@pytest.mark.soak
def test_the_engine_is_what_the_model_says_for_long() -> None:
    run_model(None, 5_000, 80)
