"""What the daemon does all the time beside the engine: carry observations in, watch the load, keep the trend.

What must stay true: only what has changed becomes a message to an entity, and never more than one for each breaker in
each round, however fast a contact flaps; rounds and looks let others run every now and then, for while all breakers are
being operated each of them is about thousands. A crash here loses nothing: the next scan says again what is.
"""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Iterable, Iterator, Mapping

import msgspec
import structlog

from gateway.census import Census
from gateway.durable import Engine, EngineStoppedError, LimitExceededError
from gateway.durable.codec import NULL
from gateway.durable.entity import decode_snapshot
from gateway.durable.instances import EntityInstance, Instance
from gateway.durable.store import InstanceRow
from gateway.leavings import Leavings
from gateway.shedding.breaker_model import Breaker, Observation, Phase
from gateway.shedding.entities import BREAKER, breaker_id, substation_id, transformer_id
from gateway.shedding.field import Field
from gateway.shedding.measuring import LoadWatch, read_load
from gateway.shedding.substation import Loading, Substation
from gateway.trend import TrendSample, TrendStore
from protocols.base import BreakerReading, LinkState, LinkStatus

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

OBSERVE_S = 0.25
LOOK_S = 1.0
EVALUATE_EVERY = 30
OBSERVATIONS_A_ROUND = 2_000
AT_ONCE = 200
"""Breakers that are looked at without letting others run: a few milliseconds."""
ALARMS_A_LOOK = 20
"""Breakers that are named in the log in one look; the others are counted in one line."""


@functools.lru_cache(maxsize=100_000)
def _entity(feeder: str) -> str:
    """The id of a breaker's entity; every breaker's is asked for each second."""
    return str(breaker_id(feeder))


def breaker_now(engine: Engine, feeder: str) -> Breaker | None:
    """The newest state of a breaker entity in memory (not only the committed one), None when it has none."""
    instance = engine.instances.get(_entity(feeder))
    state = instance.core.load_state() if isinstance(instance, EntityInstance) else None
    return state if isinstance(state, Breaker) else None


class CommittedBreakers:
    """The breakers as the disk has them: what people see. A state is decoded once for each time that it changes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._decoded: dict[str, tuple[InstanceRow, Breaker | None]] = {}

    def get(self, feeder: str) -> Breaker | None:
        """The committed state of a breaker, None when it has none."""
        instance = self._engine.instances.get(_entity(feeder))
        if not isinstance(instance, EntityInstance) or instance.row is None:
            return None
        known = self._decoded.get(feeder)
        if known is not None and known[0] is instance.row:
            return known[1]
        raw = decode_snapshot(instance.row.state).state
        state = None if raw is NULL else _decoded(raw, instance)
        self._decoded[feeder] = (instance.row, state)
        return state


def _decoded(raw: msgspec.Raw, instance: EntityInstance) -> Breaker:
    """The committed state as an object: that of the entity itself where nothing newer runs ahead of the disk."""
    if raw == instance.core.state:
        state = instance.core.load_state()
        if isinstance(state, Breaker):
            return state
    return msgspec.json.decode(raw, type=Breaker)


class Observer:
    """Hears the field's changes and tells the breaker entities, at most once a round each.

    A breaker under command waits here until its entity has moved on: its command's own outcome comes first.
    """

    def __init__(self, engine: Engine, field: Field) -> None:
        self._engine = engine
        self._field = field
        self._changed: dict[str, None] = {}
        self._under_command: dict[str, None] = {}
        engine.on_commit.append(self._committed)

    def breakers_changed(self, changes: list[tuple[str, BreakerReading]]) -> None:
        """See FieldListener."""
        for feeder, _ in changes:
            self._changed[feeder] = None

    def link_changed(self, status: LinkStatus) -> None:
        """See FieldListener."""
        write = log.info if status.state in (LinkState.UP, LinkState.CONNECTING) else log.warning
        write("link_changed", device=status.device, state=status.state.value, detail=status.detail)

    def mark(self, feeders: Iterable[str]) -> None:
        """Tell these again in the next round."""
        self._changed.update(dict.fromkeys(feeders))

    async def run(self) -> None:
        """Carry changes in until cancelled."""
        while True:
            for _ in self._in_portions():
                await asyncio.sleep(0)
            await asyncio.sleep(OBSERVE_S)

    def round(self) -> int:
        """One round: tell what differs from what an entity holds; how many were told."""
        return sum(self._in_portions())

    def _in_portions(self) -> Iterator[int]:
        """One round, and how many were told in each of its portions. Who is marked again meanwhile has the next round."""
        left = OBSERVATIONS_A_ROUND
        changed = list(self._changed)
        for at in range(0, len(changed), AT_ONCE):
            told = 0
            for feeder in changed[at : at + AT_ONCE]:
                if told == left:
                    break  # the rest has the next round, ahead of what comes until then
                self._changed.pop(feeder, None)
                told += self._tell(feeder)
            left -= told
            yield told
            if not left:
                return

    def _tell(self, feeder: str) -> bool:
        """Tell its entity how this breaker is read, if it doesn't know; whether it was told."""
        state = breaker_now(self._engine, feeder)
        if state is not None and state.phase is Phase.OPERATING:
            self._under_command[feeder] = None
            return False
        reading = self._field.driver.breaker(feeder)
        if state is not None and _same(state, reading):
            return False
        observation = Observation(reading.position, reading.quality, reading.local, reading.op_count)
        try:
            self._engine.client.post_to_entity(breaker_id(feeder), "observe", observation)
        except (LimitExceededError, EngineStoppedError):
            self._changed[feeder] = None
        return True

    def _committed(self, instance: Instance) -> None:
        """See Engine.on_commit. A breaker under command is looked at again: its outcome may have come."""
        if self._under_command and isinstance(instance, EntityInstance) and instance.name == BREAKER:
            feeder = instance.core.id.key
            if feeder in self._under_command:
                del self._under_command[feeder]
                self._changed[feeder] = None


def _same(state: Breaker, reading: BreakerReading) -> bool:
    return (
        state.position is reading.position
        and state.quality is reading.quality
        and state.local == reading.local
        and state.op_count == reading.op_count
    )


def _failure(state: Breaker) -> str:
    return f"{state.last.request_id}: {state.last.detail}" if state.last is not None else ""


def _unreadable(breakers: Mapping[str, Breaker]) -> dict[str, str]:
    """Those whose command has an outcome that nobody can read, and which one that is."""
    return {
        feeder: f"{state.command.request_id}: can't be read since {state.command.target} was sent"
        for feeder, state in breakers.items()
        if state.phase is Phase.UNRESOLVED and state.command is not None
    }


class Picture:
    """What is shed and how the breakers stand on disk. One look over 12,000 breakers serves all who ask."""

    def __init__(self) -> None:
        self.shed_kw = 0.0
        self.open = 0
        self.counts: dict[str, int] = {}


class Watch:
    """Once a second: trigger, trend, picture; under stress the substation is asked to look again every half minute."""

    def __init__(
        self,
        engine: Engine,
        field: Field,
        trend: TrendStore,
        observer: Observer,
        breakers: CommittedBreakers,
        armed: bool,
    ) -> None:
        self._engine = engine
        self._field = field
        self.trend = trend
        self._observer = observer
        self._breakers = breakers
        self.load = LoadWatch(field, armed)
        self.picture = Picture()
        self.ticks = 0
        self.looked_at = asyncio.get_running_loop().time()
        self._untold: Loading | None = None
        self._alarmed: dict[str, dict[str, str]] = {}
        self._leavings = Leavings(engine, field)
        self._census = Census(breakers.get)
        engine.on_commit.append(self._census.committed)

    def committed(self, feeder: str) -> Breaker | None:
        """The committed state of one breaker, None when it has none."""
        return self._breakers.get(feeder)

    def troubled(self, event: str) -> dict[str, str]:
        """Breakers in trouble at the last look, and what it is; event: breaker_failed or breaker_unresolved."""
        return self._alarmed.get(event, {})

    def committed_breakers(self) -> dict[str, Breaker]:
        """The committed states of all breakers that have one."""
        states = ((name, self._breakers.get(name)) for name in self._field.feeders)
        return {name: state for name, state in states if state is not None}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            for _ in self._in_portions():
                await asyncio.sleep(0)
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """One look."""
        for _ in self._in_portions():
            pass

    def _in_portions(self) -> Iterator[None]:
        self.ticks += 1
        self.looked_at = asyncio.get_running_loop().time()
        changed = self.load.look()
        if changed is not None:
            log.info("transformer", armed=changed.armed, measured=changed.measured, load_pct=changed.load_pct)
            self._untold = changed
        self._tell()
        yield from self._look_at_breakers()
        load = read_load(self._field)
        self.trend.append(
            TrendSample(
                self._engine.now_us(),
                load.kw if load.good else None,
                load.capacity_kw,
                self.picture.shed_kw,
                self.picture.open,
            )
        )

    def _tell(self) -> None:
        """Tell the entities; when their mailboxes are full, the next look tells them."""
        client, site = self._engine.client, self._field.site
        try:
            if self._untold is not None:
                client.post_to_entity(transformer_id(site), "observe", self._untold)
                self._untold = None
            if self.ticks % EVALUATE_EVERY == 0 and self._waits_under_stress():
                client.post_to_entity(substation_id(site), "evaluate", None)
        except (LimitExceededError, EngineStoppedError) as error:
            log.error("not_told", why=str(error))

    def _waits_under_stress(self) -> bool:
        """Whether looking again could start anything; if not, nobody is asked, and an idle journal stays idle."""
        instance = self._engine.instances.get(str(substation_id(self._field.site)))
        state = instance.core.load_state() if isinstance(instance, EntityInstance) else None
        return isinstance(state, Substation) and state.stress and state.running is None

    def _look_at_breakers(self) -> Iterator[None]:
        while not self._census.catch_up(self._field.feeders, AT_ONCE):
            yield
        census = self._census
        counts = census.count(self._field.feeders)
        self._leavings.begin()
        for procedure, breakers in list(census.procedures.items()):
            if not self._leavings.lives(procedure):
                for number, (feeder, state) in enumerate(list(breakers.items()), start=1):
                    self._leavings.breaker(feeder, state)
                    if number % AT_ONCE == 0:
                        yield
        self._leavings.end()
        # Those may be readable again although the scans never saw a change: whatever they see now, tell it.
        self._observer.mark(census.unresolved)
        self._alarm("breaker_failed", {feeder: _failure(state) for feeder, state in census.failed.items()})
        self._alarm("breaker_unresolved", _unreadable(census.unresolved))
        self.picture.counts = counts
        self.picture.shed_kw = math.fsum(census.shed_kw.values())
        self.picture.open = counts["open"]

    def _alarm(self, event: str, troubled: dict[str, str]) -> None:
        """Say each trouble once; after a restart those that still stand are said again."""
        known = self._alarmed.get(event, {})
        new = [feeder for feeder, what in troubled.items() if known.get(feeder) != what]
        self._alarmed[event] = troubled
        for feeder in new[:ALARMS_A_LOOK]:
            log.error(event, feeder=feeder, what=troubled[feeder])
        if len(new) > ALARMS_A_LOOK:
            log.error(event, more=len(new) - ALARMS_A_LOOK)
