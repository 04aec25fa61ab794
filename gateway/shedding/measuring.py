"""The activities that look and plan, and write nothing: ReadLoad, PlanShed, PlanRestore; and the watch on the load.

Each makes a fresh picture from the driver's process image and the breaker entities' committed states, and hands it to a
pure planner. What must stay true: a value that is not good is not used; what can't be known is said, not guessed.
A crash here: they are simply run again.
"""

from __future__ import annotations

import msgspec

from config.models import Feeder, Mode
from gateway.durable.activities import ActivityContext
from gateway.shedding.activities import breaker_states
from gateway.shedding.breaker_model import HOUR_US, Breaker, Phase
from gateway.shedding.field import Field
from gateway.shedding.planner import Candidate, plan
from gateway.shedding.restoration import Block, next_stage
from gateway.shedding.substation import Loading
from gateway.shedding.trigger import TriggerState, resumed, step
from protocols.base import LinkState, Position, Quality

TROUBLED_AT_MOST = 100
"""Names of feeders that a plan tells."""


class Load(msgspec.Struct, frozen=True):
    """Result of ReadLoad. good: False means that kw and percent are not to be used."""

    good: bool
    kw: float
    percent: float
    capacity_kw: float


class ShedOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Input of PlanShed. target_kw None: the whole tier. last_resort: also feeders armed in an under-frequency
    relay."""

    tier: str
    target_kw: float | None = None
    exclude: list[str] = []
    last_resort: bool = False


class ShedPlan(msgspec.Struct, frozen=True):
    """Result of PlanShed. feeders: name and load (kW), in the order in which to open them."""

    tier: str
    feeders: list[tuple[str, float]]
    kw: float
    shortfall_kw: float
    skipped: dict[str, int]
    exhausted: bool


class RestoreOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Input of PlanRestore: the procedure whose feeders come back; exclude: those that failed to close."""

    procedure: str
    exclude: list[str] = []


class RestorePlan(msgspec.Struct, frozen=True):
    """Result of PlanRestore. feeders: name and load before the shed (kW). left: feeders that remain shed after this
    stage; unresolved: of those, with a command whose outcome is not known, or not readable now; stuck: not counted in
    left: blocked, local, locked out or excluded; someone has to see to them. troubled: names of both, some of many.
    """

    feeders: list[tuple[str, float]]
    kw: float
    headroom_kw: float
    left: int
    unresolved: int
    stuck: int
    wait_us: int
    why: str
    load: Load
    troubled: list[str] = []


def read_load(field: Field) -> Load:
    """The load of the transformer, from the process image."""
    transformer = field.site.transformer
    reading = field.driver.measurement(transformer.load)
    good = reading.quality is Quality.GOOD and reading.value is not None
    kw = reading.value if good and reading.value is not None else 0.0
    return Load(good, kw, 100 * kw / transformer.capacity_kw, transformer.capacity_kw)


class MeasuringActivities:
    """The activities bound to one field."""

    def __init__(self, field: Field) -> None:
        self._field = field

    async def read_load(self, _: object) -> Load:
        """The load now."""
        await self._field.released()
        return read_load(self._field)

    async def plan_shed(self, input_: object, context: ActivityContext) -> ShedPlan:
        """Which feeders of a tier to open."""
        await self._field.released()
        order = msgspec.convert(input_, ShedOrder)
        field = self._field
        if order.tier not in field.tiers:
            raise ValueError(f"unknown tier {order.tier!r}; this site has {', '.join(sorted(field.tiers))}")
        names = [f.name for f in field.site.feeders if f.tier == order.tier]
        states = await breaker_states(context.client, names)
        candidates = {name: self._candidate(field.feeders[name], states[name]) for name in names}
        chosen = plan(candidates.values(), order.tier, order.target_kw, frozenset(order.exclude), order.last_resort)
        feeders = [(name, round(candidates[name].kw, 2)) for name in chosen.feeders]
        return ShedPlan(order.tier, feeders, chosen.kw, chosen.shortfall_kw, chosen.skipped, chosen.exhausted)

    def _candidate(self, feeder: Feeder, state: Breaker) -> Candidate:
        field = self._field
        reading = field.driver.breaker(feeder.name)
        now_us = field.clock.now_us()
        good = reading.quality is Quality.GOOD
        recent = sum(1 for at_us in state.operations if at_us > now_us - HOUR_US)
        return Candidate(
            feeder=feeder.name,
            tier=feeder.tier,
            kw=field.load_kw(feeder.name),
            position=reading.position if good else Position.UNKNOWN,
            critical=feeder.critical,
            sheddable=feeder.sheddable,
            ufls=feeder.ufls_stage is not None,
            online=good and field.driver.link_of(feeder.name).state is LinkState.UP,
            blocked=state.blocked is not None and state.blocked.open,
            local=bool(reading.local),
            busy=state.phase is not Phase.IDLE,
            # A shed is at least two operations: do not open what could not be closed again within the hour.
            capped=recent + 2 > field.site.shedding.max_operations_per_hour,
            outage_s=state.outage_s,
            last_shed_us=state.last_shed_us,
        )

    async def plan_restore(self, input_: object, context: ActivityContext) -> RestorePlan:
        """Which feeders of a procedure to close next."""
        await self._field.released()
        order = msgspec.convert(input_, RestoreOrder)
        field = self._field
        site = field.site
        load = read_load(field)
        states = await breaker_states(context.client, field.feeders)
        excluded = frozenset(order.exclude)
        blocks: list[Block] = []
        unresolved: list[str] = []
        stuck: list[str] = []
        for name, state in states.items():
            command = state.command
            ours = state.shed is not None and state.shed.procedure == order.procedure
            # Also somebody else's command on a feeder that is shed by us: it is not back before that has ended well.
            if command is not None and (ours or command.procedure == order.procedure):
                unresolved.append(name)
            if state.shed is None or not ours or state.phase is not Phase.IDLE:
                continue
            closing_blocked = state.blocked is not None and state.blocked.close
            if name in excluded or closing_blocked or state.local or state.locked_out:
                stuck.append(name)
            elif not self._reachable(name):
                unresolved.append(name)
            else:
                blocks.append(Block(name, state.shed.kw, state.shed.since_us))
        monitor = field.mode is not Mode.ARMED
        if monitor or not load.good:
            # In mode monitor every attempt at closing would be refused, and count as one.
            why = "mode armed: in mode monitor nothing is closed" if monitor else "the load is not measured"
            left = len(blocks) + len(unresolved)
            return RestorePlan([], 0.0, 0.0, left, len(unresolved), len(stuck), 0, why, load)
        stage = next_stage(
            blocks,
            measured_kw=load.kw,
            capacity_kw=load.capacity_kw,
            limit_pct=site.restoration.limit_pct,
            stage_pct=site.restoration.stage_pct,
            min_off_s=site.shedding.min_off_s,
            now_us=field.clock.now_us(),
        )
        before_kw = {block.feeder: block.kw for block in blocks}
        return RestorePlan(
            [(name, before_kw[name]) for name in stage.feeders],
            stage.predicted_kw,
            stage.headroom_kw,
            stage.left + len(unresolved),
            len(unresolved),
            len(stuck),
            stage.wait_us,
            stage.why,
            load,
            (unresolved + stuck)[:TROUBLED_AT_MOST],
        )

    def _reachable(self, feeder: str) -> bool:
        """True if a command could be sent now: one that can't must not count as an attempt."""
        driver = self._field.driver
        return driver.breaker(feeder).quality is Quality.GOOD and driver.link_of(feeder).state is LinkState.UP


class LoadWatch:
    """Steps the trigger on the measured load; what it returns goes to the transformer entity as ``observe``.

    The daemon calls ``look`` about once a second of real time. armed: as the transformer entity last knew it.
    """

    def __init__(self, field: Field, armed: bool) -> None:
        self._field = field
        self.state: TriggerState = resumed(armed, field.clock.now_us())
        self._told: tuple[bool, bool] = (armed, True)

    def look(self) -> Loading | None:
        """One measurement; a message when armed or measured changed, else None."""
        load = read_load(self._field)
        now_us = self._field.clock.now_us()
        self.state = step(self.state, load.percent if load.good else None, now_us, self._field.site.trigger)
        tell = (self.state.armed, load.good)
        if tell == self._told:
            return None
        self._told = tell
        return Loading(self.state.armed, load.good, round(load.percent, 3))
