"""The watch beside the engine: whom it tells, and when it keeps silent so that an idle journal stays idle."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from gateway.clock import SystemClock
from gateway.durable.codec import Raw
from gateway.durable.entity import EntityCore, EntitySnapshot
from gateway.durable.identity import EntityId
from gateway.durable.instances import EntityInstance
from gateway.shedding.breaker_model import Breaker, Phase
from gateway.shedding.substation import Running, Substation
from gateway.watch import AT_ONCE, EVALUATE_EVERY, OBSERVATIONS_A_ROUND, CommittedBreakers, Observer, Watch
from protocols.base import BreakerReading, Position, Quality

SITE = SimpleNamespace(name="North", transformer=SimpleNamespace(name="TX"))


def watch_over(state: Substation | None, told: list[tuple[str, str]]) -> Watch:
    instances = {}
    if state is not None:
        me = EntityId("substation", "North")
        core = EntityCore(me, lambda _: None, Substation, EntitySnapshot(Raw(msgspec.json.encode(state))))
        instances[str(me)] = EntityInstance(str(me), "substation", 0, core)
    client = SimpleNamespace(post_to_entity=lambda entity, operation, _: told.append((str(entity), operation)))
    parts: Any = SimpleNamespace(
        instances=instances, client=client, site=SITE, clock=SystemClock(), on_commit=[], get=lambda _: None
    )
    return Watch(parts, parts, parts, parts, parts, armed=False)


RUNNING = Running("shed-North-000001", 1, "loading")


@pytest.mark.parametrize(
    ("state", "asked"),
    [
        (None, False),
        (Substation(), False),
        (Substation(stress=True, running=RUNNING), False),
        (Substation(stress=True), True),
    ],
    ids=["no substation yet", "no stress", "a procedure runs", "stress and nothing runs"],
)
async def test_the_substation_is_asked_again_only_where_that_could_start_something(
    state: Substation | None, asked: bool
) -> None:
    told: list[tuple[str, str]] = []
    watch = watch_over(state, told)
    for watch.ticks in range(1, 2 * EVALUATE_EVERY + 1):
        watch._tell()
    assert told == [("@substation@North", "evaluate")] * (2 if asked else 0)


class Station:
    """Breakers as their entities have them, ahead of the disk; ``commit`` brings one to the disk. told: who was told."""

    def __init__(self, breakers: int) -> None:
        self.feeders = [f"F{n}" for n in range(breakers)]
        self.told: list[str] = []
        self.position = Position.CLOSED
        self.instances: dict[str, EntityInstance] = {}
        self.on_commit: list[Any] = []
        self.client = self.driver = self
        self.observer = Observer(self, self)  # type: ignore[arg-type]

    def breaker(self, feeder: str) -> BreakerReading:
        return BreakerReading(self.position, Quality.GOOD, False, 7, None, 0.0)

    def post_to_entity(self, entity: EntityId, operation: str, _: object) -> None:
        assert operation == "observe"
        self.told.append(entity.key)

    def becomes(self, feeder: str, state: Breaker) -> EntityInstance:
        me = EntityId("breaker", feeder)
        core = EntityCore(me, lambda _: None, Breaker, EntitySnapshot(Raw(msgspec.json.encode(state))))
        instance = self.instances.setdefault(str(me), EntityInstance(str(me), "breaker", 0, core))
        instance.core = core
        return instance

    def commit(self, instance: EntityInstance) -> None:
        instance.row = instance.to_row()
        for told in self.on_commit:
            told(instance)


def test_a_breaker_under_command_is_told_of_once_its_outcome_is_there() -> None:
    station = Station(1)
    under_command = Breaker(Phase.OPERATING, Position.OPEN, Quality.GOOD, local=False, op_count=7)
    one = station.becomes("F0", under_command)
    station.observer.mark(["F0"])
    assert station.observer.round() == 0
    station.commit(one)  # of its intent: still under command
    assert [station.observer.round() for _ in range(3)] == [0, 0, 0]
    one = station.becomes("F0", msgspec.structs.replace(under_command, phase=Phase.IDLE))
    assert station.observer.round() == 0, "what runs ahead of the disk comes to the disk, and then it is looked at"
    station.commit(one)
    assert (station.observer.round(), station.told) == (1, ["F0"])


def test_what_the_outcome_has_told_is_not_told_again() -> None:
    station = Station(1)
    station.becomes("F0", Breaker(Phase.OPERATING))
    station.observer.mark(["F0"])
    station.observer.round()
    station.commit(station.becomes("F0", Breaker(Phase.IDLE, Position.CLOSED, Quality.GOOD, local=False, op_count=7)))
    assert station.observer.round() == 0


def test_a_round_tells_so_many_and_the_rest_has_the_next_one() -> None:
    station = Station(OBSERVATIONS_A_ROUND + AT_ONCE)
    station.observer.mark(station.feeders)
    assert station.observer.round() == OBSERVATIONS_A_ROUND
    station.observer.mark(["F0"])
    assert station.observer.round() == AT_ONCE + 1
    assert station.told == [*station.feeders, "F0"]


async def test_a_long_round_lets_others_run() -> None:
    station = Station(5 * AT_ONCE)
    station.observer.mark(station.feeders)
    running, seen = asyncio.create_task(station.observer.run()), []
    for _ in range(5):
        await asyncio.sleep(0)
        seen.append(len(station.told))
    running.cancel()
    assert seen == [AT_ONCE * n for n in range(1, 6)]


def test_people_see_what_is_on_disk_also_while_an_entity_is_ahead_of_it() -> None:
    station = Station(1)
    committed = CommittedBreakers(station)  # type: ignore[arg-type]
    one = station.becomes("F0", Breaker(position=Position.CLOSED))
    assert committed.get("F0") is None
    station.commit(one)
    seen = committed.get("F0")
    assert seen is one.core.load_state()
    station.becomes("F0", Breaker(position=Position.OPEN))
    assert committed.get("F0") == Breaker(position=Position.CLOSED)
    one.row = one.row._replace()
    assert committed.get("F0") == Breaker(position=Position.CLOSED), "decoded anew: not what runs ahead"
    station.commit(one)
    assert committed.get("F0") == Breaker(position=Position.OPEN)
