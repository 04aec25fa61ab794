"""For every prefix of every journal, recovery gives the state that the prefix had.

Random work runs on the real engine, with a disk that is held now and then, so that decisions run far ahead of it. At each
commit the engine's books are written down as they are when the batch is sealed. Then, for every number of batches, a fresh
engine recovers from so many of them, replays every orchestration, and must have the same books: rows, mail in its order
(parked mail, too), timers, activities, scheduled signals, and what every generator waits for. It then runs to its end,
and what comes out must be what the reference permits, with all that clients had been promised by then. Work whose outcome
does not depend on the moment must come to the same end from every prefix.

``GRIDLATCH_MODEL_SEED`` repeats a run; the seed is printed.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from gateway.durable import Engine
from gateway.durable.store import Batch
from gateway.durable.testing import MemoryStore
from journal import Journal
from tests.conformance.model_audit import Facts
from tests.conformance.model_books import books_of, differences, rehearsed_books_of
from tests.conformance.model_programs import KEYS, NAMES, flat, programs, settled_steps
from tests.conformance.model_site import ModelSite
from tests.conformance.test_model import SEED

Json = Any


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Power failures by the hundred are told in critical words."""

    def drop(*_: object) -> str:
        raise structlog.DropEvent

    structlog.configure(processors=[drop])
    yield
    structlog.reset_defaults()


_which = st.integers(0, 5)
_ways = st.sampled_from(["signal", "call", "ask", "later"])
_bursts = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(["operator", "scada"])), min_size=1, max_size=5)
_acts = st.one_of(
    st.tuples(st.just("start"), _which, programs),
    st.tuples(st.just("start"), _which, programs),
    st.tuples(st.just("raise"), _which, _bursts),
    st.tuples(st.just("suspend and raise"), _which, _bursts),
    st.tuples(st.just("tell"), st.sampled_from(KEYS), st.lists(_ways, max_size=6)),
    st.tuples(st.just("begin"), st.sampled_from(KEYS), programs),
    st.tuples(st.just("advance"), st.sampled_from([0.7, 2, 60])),
    st.tuples(st.just("control"), _which, st.sampled_from(["suspend", "resume", "suspend", "terminate"])),
    st.tuples(st.just("gate"), st.booleans()),
    st.tuples(st.just("hold")),
    st.tuples(st.just("let one through")),
    st.tuples(st.just("let go")),
)
stories = st.lists(_acts, min_size=2, max_size=14)


@dataclass
class Chapter:
    """One batch: the books when it was sealed, and what the world knew before the next one landed."""

    batch: Batch
    books: Json
    now: datetime
    facts: Facts = field(default_factory=Facts)


class Teller:
    """Runs a story and writes its chapters."""

    def __init__(self, max_live: int = 10_000) -> None:
        self.chapters: list[Chapter] = []
        self.number = 0
        self.site = ModelSite(max_live=max_live, committing=self._commits)

    def _commits(self, batch: Batch) -> None:
        self.site.watch()
        if self.chapters:
            self.chapters[-1].facts = copy.deepcopy(self.site.facts)
        self.chapters.append(Chapter(batch, books_of(self.site.engine), self.site.clock.now))

    def tell(self, story: list[Json], raising: bool = True) -> None:
        """Do all that the story says, to its end."""
        for act in story:
            self._act(act)
        self.site.finish(raising)
        if self.chapters:
            self.chapters[-1].facts = copy.deepcopy(self.site.facts)
        batches = self.site.disk.shadow.batches
        assert [chapter.batch for chapter in self.chapters] == batches

    def _next(self) -> int:
        self.number += 1
        return self.number

    def _instance(self, which: int) -> str:
        live = self.site.live() or ["i0"]
        return live[which % len(live)]

    def _act(self, act: Json) -> None:
        site = self.site
        match act:
            case ("start", which, program):
                instance = f"i{which % 3}"
                site.do(site.start(instance, program, f"{instance}~{self._next()}"))
            case ("raise", which, events):
                site.do(self._raise(self._instance(which), events))
            case ("suspend and raise", which, events):
                instance = self._instance(which)
                site.do(site.control(instance, "suspend"))
                site.do(self._raise(instance, events))
            case ("tell", key, ways):
                site.do(self._tell(key, ways))
            case ("begin", key, program):
                site.do(site.begin_by_entity(key, f"entity {self._next()}.1", program))
            case ("advance", seconds):
                site.do(site.advance(timedelta(seconds=seconds)))
            case ("control", which, word):
                site.do(site.control(self._instance(which), word))
            case ("gate", is_open):
                site.open_gate(is_open)
                site.do(asyncio.sleep(0))
            case ("hold",):
                site.disk.hold(True)
            case ("let one through",):
                site.disk.let_through()
                site.do(asyncio.sleep(0))
            case ("let go",):
                site.disk.hold(False)
                site.do(asyncio.sleep(0))

    async def _raise(self, instance: str, events: list[tuple[str, str]]) -> None:
        for name, sender in events:
            await self.site.send(instance, name, sender, self._next())

    async def _tell(self, key: str, ways: list[str]) -> None:
        for way in ways:
            await self.site.tell(key, f"teller {way}.{self._next()}", 1, way, 3)


def check_books(chapter: Chapter, shadow: MemoryStore, site: ModelSite) -> None:
    """A fresh engine on this prefix has the books that the engine had."""

    async def recovered() -> Json:
        engine = Engine(shadow, site.registry, site.clock)
        await engine.recover()
        return await rehearsed_books_of(engine)

    assert not (found := differences(chapter.books, asyncio.run(recovered()))), "\n".join(found)


def go_on(chapter: Chapter, batches: list[Batch], path: Path | None = None) -> ModelSite:
    """A site that begins with what a crash right after this chapter leaves."""
    facts = copy.deepcopy(chapter.facts)
    return ModelSite(path, shadow=MemoryStore.after(batches), facts=facts, now=chapter.now)


class Count:
    """How much was tried."""

    stories = prefixes = 0


def repeated(examples: int) -> Any:
    """A property that is tried so often."""
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )


def check_every_prefix(story: list[Json], max_live: int) -> None:
    teller = Teller(max_live)
    try:
        teller.tell(story)
    finally:
        teller.site.close()
    batches = [chapter.batch for chapter in teller.chapters]
    Count.stories += 1
    for number, chapter in enumerate(teller.chapters, 1):
        Count.prefixes += 1
        check_books(chapter, MemoryStore.after(batches[:number]), teller.site)
        site = go_on(chapter, batches[:number])
        try:
            site.finish()
        finally:
            site.close()


def test_every_prefix_of_random_work() -> None:
    run_prefixes(50)


@pytest.mark.soak
def test_every_prefix_of_random_work_for_long() -> None:
    run_prefixes(3_000)


def run_prefixes(examples: int) -> None:
    Count.stories = Count.prefixes = 0
    print(f"GRIDLATCH_MODEL_SEED={SEED}")

    @seed(SEED)
    @repeated(examples)
    @given(story=stories, max_live=st.sampled_from([1, 10_000]))
    def every_prefix(story: list[Json], max_live: int) -> None:
        check_every_prefix(story, max_live)

    every_prefix()
    print(f"{Count.stories} stories, {Count.prefixes} prefixes")


def ends_of(site: ModelSite) -> Json:
    """What everything has come to."""
    return {
        name: [row.status, site.output(name) if row.kind == "orchestration" else site.state(name)]
        for name, row in site.disk.shadow.rows.items()
    }


def test_work_that_does_not_depend_on_the_moment_ends_the_same_from_every_prefix() -> None:
    Count.stories = Count.prefixes = 0
    print(f"GRIDLATCH_MODEL_SEED={SEED}")

    @seed(SEED)
    @repeated(150)
    @given(steps=st.lists(settled_steps, min_size=1, max_size=6).map(flat))
    def same_end(steps: list[Json]) -> None:
        teller = Teller()
        try:
            teller.tell([("start", 0, steps)], raising=False)
            expected = ends_of(teller.site)
        finally:
            teller.site.close()
        batches = [chapter.batch for chapter in teller.chapters]
        Count.stories += 1
        for number, chapter in enumerate(teller.chapters, 1):
            Count.prefixes += 1
            site = go_on(chapter, batches[:number])
            try:
                site.finish(raising=False)
                assert ends_of(site) == expected, f"after {number} of {len(batches)}"
            finally:
                site.close()

    same_end()
    print(f"{Count.stories} stories, {Count.prefixes} prefixes")


def test_every_prefix_on_a_real_journal(tmp_path: Path) -> None:
    Count.stories = Count.prefixes = 0
    print(f"GRIDLATCH_MODEL_SEED={SEED}")

    @seed(SEED)
    @repeated(5)
    @given(story=st.lists(_acts, min_size=2, max_size=6))
    def every_prefix(story: list[Json]) -> None:
        Count.stories += 1
        teller = Teller()
        try:
            teller.tell(story)
        finally:
            teller.site.close()
        batches = [chapter.batch for chapter in teller.chapters]
        for number, chapter in enumerate(teller.chapters, 1):
            Count.prefixes += 1
            path = tmp_path / f"{Count.stories}-{number}.db"
            asyncio.run(_write(path, batches[:number]))
            site = go_on(chapter, batches[:number], path)
            try:
                site.finish()
                assert site.loop.run_until_complete(site.verified())
            finally:
                site.close()

    every_prefix()
    print(f"{Count.stories} stories, {Count.prefixes} prefixes")


async def _write(path: Path, batches: list[Batch]) -> None:
    journal = await Journal.open(path)
    for batch in batches:
        await journal.commit(batch)
    await journal.close()
