"""The counts of the breakers are those of a look at all of them, though only what has changed is looked at."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import structs

from gateway.census import KINDS, Census
from gateway.durable.entity import EntityCore, EntitySnapshot
from gateway.durable.identity import EntityId
from gateway.durable.instances import EntityInstance
from gateway.shedding.breaker_model import Block, Breaker, Command, Ended, Phase, Result, Shed
from protocols.base import Position, Quality

FEEDERS = {f"F{n}": None for n in range(30)}
COMMAND = Command("r", Position.OPEN, "a", "b", 0, 1, 0)
CHANGES: tuple[dict[str, Any], ...] = (
    *({"position": position} for position in Position),
    {"quality": Quality.GOOD},
    {"blocked": Block("a", "b", 1)},
    {"blocked": None},
    {"local": True},
    {"local": None},
    {"shed": Shed("p", 1, 5.0)},
    {"shed": None},
    {"phase": Phase.OPERATING, "command": COMMAND},
    {"phase": Phase.OPERATING, "command": structs.replace(COMMAND, procedure="p")},
    {"phase": Phase.RESOLVING, "command": structs.replace(COMMAND, procedure="q")},
    {"phase": Phase.RESOLVING, "command": structs.replace(COMMAND, procedure="q", wanted=False)},
    {"phase": Phase.UNRESOLVED, "command": COMMAND},
    {"phase": Phase.IDLE, "command": None},
    {"recent": (Ended("r", Position.OPEN, Result.FAILED, "", "a", 1),)},
    {"recent": (Ended("r", Position.OPEN, Result.DONE, "", "a", 1),)},
)


def by_hand(states: dict[str, Breaker]) -> dict[str, int]:
    counts = dict.fromkeys(KINDS, 0)
    for feeder in FEEDERS:
        state = states.get(feeder)
        counts["total"] += 1
        if state is None:
            counts["unknown"] += 1
            continue
        counts[state.position.value] += 1
        unresolved = state.phase in (Phase.RESOLVING, Phase.UNRESOLVED)
        counts["unresolved"] += unresolved
        counts["failed"] += not unresolved and bool(state.recent) and state.recent[-1].result is Result.FAILED
        counts["blocked"] += state.blocked is not None
        counts["local"] += state.local is True
    return counts


def check_lists(census: Census, states: dict[str, Breaker]) -> None:
    """Each breaker is in the lists that it belongs to, as it is now, and in no other."""
    unresolved = {f: s for f, s in states.items() if s.phase in (Phase.RESOLVING, Phase.UNRESOLVED)}
    failed = {f: s for f, s in states.items() if s.last is not None and s.last.result is Result.FAILED}
    assert census.unresolved == unresolved
    assert census.failed == {f: s for f, s in failed.items() if f not in unresolved}
    shed = {f: s.shed for f, s in states.items() if s.shed is not None and s.position is Position.OPEN}
    assert census.shed_kw == {f: one.kw for f, one in shed.items()}
    procedures: dict[str, dict[str, Breaker]] = {}
    for feeder, state in states.items():
        if feeder in shed:
            procedures.setdefault(shed[feeder].procedure, {})[feeder] = state
        if state.command is not None and state.command.wanted and state.command.procedure:
            procedures.setdefault(state.command.procedure, {})[feeder] = state
    assert census.procedures == procedures


def entity(name: str, key: str) -> EntityInstance:
    me = EntityId(name, key)
    return EntityInstance(str(me), name, 0, EntityCore(me, lambda _: None, Breaker, EntitySnapshot()))


@pytest.mark.parametrize("seed", range(5))
def test_the_counts_are_those_of_a_look_at_all(seed: int) -> None:
    chance, states = random.Random(seed), dict[str, Breaker]()
    looked_at: list[str] = []

    def state_of(feeder: str) -> Breaker | None:
        looked_at.append(feeder)
        return states.get(feeder)

    census = Census(state_of)
    assert census.count(FEEDERS) == by_hand({})
    for _ in range(300):
        looked_at.clear()
        changed = chance.sample(sorted(FEEDERS), chance.randint(0, 4))
        for feeder in changed:
            states[feeder] = structs.replace(states.get(feeder, Breaker()), **chance.choice(CHANGES))
            census.committed(entity("breaker", feeder))
        assert census.count(FEEDERS) == by_hand(states)
        assert sorted(looked_at) == sorted(changed)
        check_lists(census, states)


def test_catching_up_in_portions_comes_to_the_same() -> None:
    states = {feeder: Breaker(position=Position.OPEN) for feeder in FEEDERS}
    looked_at: list[str] = []

    def state_of(feeder: str) -> Breaker:
        looked_at.append(feeder)
        return states[feeder]

    census = Census(state_of)
    assert [census.catch_up(FEEDERS, 12) for _ in range(3)] == [False, False, True]
    assert sorted(looked_at) == sorted(FEEDERS)
    assert census.count(FEEDERS) == by_hand(states)
    assert len(looked_at) == len(FEEDERS)


def test_a_site_without_feeders_counts_nothing() -> None:
    census = Census(lambda _: None)
    census.count({})
    census.committed(entity("breaker", "gone"))
    assert set(census.count({}).values()) == {0}


def test_others_and_breakers_that_left_the_site_do_not_count() -> None:
    census = Census(lambda _: Breaker(position=Position.OPEN, shed=Shed("p", 1, 5.0)))
    before = census.count(FEEDERS)
    other: Any = SimpleNamespace(id="shed-1")
    for one in (other, entity("substation", "F1"), entity("breaker", "gone")):
        census.committed(one)
    assert census.count(FEEDERS) == before
    assert "gone" not in census.shed_kw
