"""The load-shedding procedure, as an operator would read it from a sheet.

1. Claim the substation; in mode monitor say what would be shed, and end.
2. **Shed.** While the load is too high (or the order is not met): of the first tier that has anything to give, open
what
   is needed, block by block; replace what failed by the next feeders of the same tier; wait the cooldown; measure.
3. **Watch** until the load was normal for long enough. If stress comes back, go to 2.
4. **Restore** in stages, smallest blocks first, each gated on measured headroom; if the load comes near the limit
after a
   stage, open that stage again and go to 3.

An order by a person (``target_kw`` or ``tiers``) is kept until they say cancel-and-restore, or until ``max_shed_s``.
After ``max_shed_s`` restoration begins without waiting for a stable load, still gated on headroom.

What must stay true: no step relies on a measurement that is not good; every wait says what it waits for; an operator's
word is heard in every step (``conduct.py``). What is shed is known to the breaker entities, not to this orchestration:
if it should be terminated, nothing is forgotten. A crash here: replay; the settings are part of the history, so a
changed configuration does not change a procedure that runs.
"""

from __future__ import annotations

from collections import Counter

import msgspec

from gateway.durable.codec import Json
from gateway.durable.context import DurableOrchestrationContext
from gateway.durable.errors import TaskFailedError
from gateway.durable.identity import EntityId
from gateway.shedding.conduct import Conductor, RestoreNow, Step, Stopped
from gateway.shedding.measuring import Load, RestorePlan, ShedPlan
from gateway.shedding.settings import ProcedureSettings
from gateway.shedding.status import Figures
from gateway.shedding.substation import RESTORED

MAX_REPLACEMENTS = 5
"""Rounds of replacing failed feeders within one step; what is missing then is a shortfall, until the next step."""
ROUNDS_PER_HISTORY = 200
"""Measurements after which the procedure starts over with an empty history."""
RESTORE_WORD = "cancel-and-restore"
MAX_CLOSE_TRIES = 3
"""Attempts at closing one feeder; then a person has to see to it. Two failed closes lock a breaker out anyway."""
MAX_ROUNDS_FOR_UNRESOLVED = 30
"""Checks for which restoration waits for breakers whose position can't be learnt."""


class Order(msgspec.Struct, frozen=True, omit_defaults=True):
    """Input of the procedure. target_kw, tiers: a person's order; neither: until the load is normal. carried: ours."""

    reason: str = ""
    actor: str = ""
    target_kw: float | None = None
    tiers: list[str] | None = None
    last_resort: bool = False
    carried: Carried | None = None

    @property
    def by_person(self) -> bool:
        """True when the amount was ordered, so that the measured load does not decide."""
        return self.target_kw is not None or self.tiers is not None


class Carried(msgspec.Struct, omit_defaults=True):
    """What goes on when the history starts over. Times in engine µs, power in kW."""

    started_us: int = 0
    calm_since_us: int = 0
    restoring: bool = False
    shed_kw: float = 0.0
    peak_shed_kw: float = 0.0
    opened: int = 0
    closed: int = 0
    tried: list[str] = []
    unclosed: list[str] = []
    excluded: list[str] = []
    overrides: list[dict[str, object]] = []
    unresolved_rounds: int = 0
    tiers_begun: int = 0
    left_off: list[str] = []


class StartOver(Exception):
    """The history is long enough; nothing is under way."""


def LoadSheddingProtocol(context: DurableOrchestrationContext) -> Step[Json]:
    """The orchestrator; see above."""
    order = msgspec.convert(context.get_input() or {}, Order)
    read = context.call_activity("ReadSettings")
    yield read
    settings = msgspec.convert(read.result, ProcedureSettings)
    station = EntityId("substation", settings.station)
    claim = context.call_entity(station, "claim", {"instance": context.instance_id})
    yield claim
    if not claim.result["granted"]:
        return {"status": "refused", "reason": claim.result["reason"]}
    procedure = Procedure(context, order, settings, station)
    try:
        if claim.result["mode"] == "monitor":
            result = yield from procedure.only_monitor()
        else:
            result = yield from procedure.carry_out()
    except StartOver:
        context.continue_as_new(msgspec.to_builtins(procedure.start_over()))
        return None
    except TaskFailedError as error:
        yield context.call_entity(station, "finished", procedure.finish("failed", str(error)))
        raise
    yield context.call_entity(station, "finished", {"instance": context.instance_id, "result": result})
    return result


class Procedure:
    """One run of the sheet."""

    def __init__(
        self, context: DurableOrchestrationContext, order: Order, settings: ProcedureSettings, station: EntityId
    ) -> None:
        self.context = context
        self.order = order
        self.settings = settings
        self.state = order.carried or Carried()
        self.figures = Figures(shed_kw=self.state.shed_kw, feeders_shed=self.state.opened - self.state.closed)
        self.figures.overrides.extend(self.state.overrides)
        self.conductor = Conductor(context, station, self.figures)
        self.conductor.excluded.update(self.state.excluded)
        self.state.started_us = self.state.started_us or self.conductor.now_us
        self.tiers = order.tiers if order.tiers is not None else settings.tiers
        self.rounds = 0

    # 1. Monitor only

    def only_monitor(self) -> Step[Json]:
        """Say what would be done; nothing is written to the field."""
        load = yield from self.measure()
        needed_kw = self.needed_kw(load)
        would: list[dict[str, object]] = []
        for tier in self.tiers:
            plan = yield from self.plan(tier, needed_kw, set())
            would.append({"tier": tier, "feeders": len(plan.feeders), "kw": round(plan.kw, 1), "skipped": plan.skipped})
            if needed_kw is not None:
                needed_kw = plan.shortfall_kw
                if needed_kw <= 0:
                    break
        self.figures.shortfall_kw = needed_kw or 0.0
        self.conductor.say("monitor", "mode monitor: this is what would be shed; nothing was written")
        return {**self.summary("monitored", "mode monitor"), "would_shed": would}

    # 2. – 4. The procedure

    def carry_out(self) -> Step[Json]:
        """Shed, watch, restore; the result."""
        try:
            while True:
                try:
                    if not self.state.restoring:
                        load = yield from self.measure()
                        load = yield from self.shed(load)
                        yield from self.watch(load)
                except RestoreNow:
                    self.state.calm_since_us = 0
                self.state.restoring = True
                self.state.tiers_begun = 0
                try:
                    if (yield from self.restore()):
                        break
                except RestoreNow:
                    continue
                self.state.restoring = False
        except Stopped as stop:
            return self.summary(stop.status, stop.reason)
        return self.summary("incomplete" if self.not_closed else RESTORED, self.order.reason)

    @property
    def not_closed(self) -> list[str]:
        """Feeders that this procedure has opened and could not close, as far as it knows."""
        return sorted({*self.state.unclosed, *self.state.left_off})

    def shed(self, load: Load) -> Step[Load]:
        """One tier's worth after the other, a cooldown after each, while there is stress; the load at the end."""
        while True:
            self.turn_page()
            needed_kw = self.needed_kw(load)
            if needed_kw is not None and needed_kw <= 0:
                self.figures.shortfall_kw = 0.0
                return load
            opened_kw = yield from self.shed_step(needed_kw)
            if opened_kw <= 0:
                self.figures.shortfall_kw = needed_kw or 0.0
                return load
            tier = self.figures.tier
            yield from self.conductor.wait(
                self.settings.cooldown_s, "cooldown", f"{opened_kw:.0f} kW of {tier} shed", "the load to settle"
            )
            load = yield from self.measure()

    def shed_step(self, needed_kw: float | None) -> Step[float]:
        """What is left of the tiers that were begun, and at most one more tier; the load that was opened.

        Without the leftovers a tier whose loads come and go (chargers, pumps) would be begun again and again, a cooldown
        each time, while the next tier is needed.
        """
        opened_kw = 0.0
        gave = self.figures.tier
        for number, tier in enumerate(self.tiers, start=1):
            missing_kw = None if needed_kw is None else needed_kw - opened_kw
            if missing_kw is not None and missing_kw <= 0:
                break
            got_kw = yield from self.shed_tier(tier, missing_kw)
            opened_kw += got_kw
            gave = tier if got_kw > 0 else gave
            if got_kw > 0 and number > self.state.tiers_begun:
                self.state.tiers_begun = number
                break
        self.figures.tier = gave
        return opened_kw

    def shed_tier(self, tier: str, needed_kw: float | None) -> Step[float]:
        """Open what is needed of one tier, and replace what failed from the same tier; the load that was opened."""
        self.figures.tier = tier
        self.figures.target_kw = self.figures.shed_kw + (needed_kw or 0.0)
        opened_kw = 0.0
        missing_kw = needed_kw
        left_out: set[str] = set()
        for _ in range(1 + MAX_REPLACEMENTS):
            plan = yield from self.plan(tier, missing_kw, left_out)
            failed_kw = 0.0
            for begin in range(0, len(plan.feeders), self.settings.block_size):
                block = dict(plan.feeders[begin : begin + self.settings.block_size])
                self.conductor.say(
                    "shedding", f"opens {begin + len(block)} of {len(plan.feeders)} feeders of {tier}", "readback"
                )
                opened = yield from self.open_block(block, left_out)
                opened_kw += opened
                failed_kw += sum(block.values()) - opened
            self.figures.shortfall_kw = plan.shortfall_kw + failed_kw
            if failed_kw <= 0 or needed_kw is None:
                break
            missing_kw = failed_kw
        return opened_kw

    def open_block(self, block: dict[str, float], left_out: set[str]) -> Step[float]:
        """Open these feeders (kW each); what did not open is left out of this step, and what failed of all others.

        A feeder to which nothing could be sent has not failed: the next step may take it.
        """
        outcomes = yield from self.command("SendDisconnectCommand", list(block))
        opened = [name for name, outcome in outcomes.items() if outcome == "done"]
        left_out.update(name for name in outcomes if name not in opened)
        self.state.tried.extend(name for name, outcome in outcomes.items() if outcome in ("failed", "unknown"))
        kw = sum(block[name] for name in opened)
        self.book(len(opened), 0, kw)
        yield from self.conductor.settle()
        return kw

    def watch(self, load: Load) -> Step[None]:
        """Wait until the load was normal for long enough, or for the end of an order; shed again on new stress."""
        while not self.overdue:
            self.turn_page()
            if self.stable(load) or (yield from self.wait_and_watch(load)):
                return
            load = yield from self.measure()
            if not self.order.by_person and load.percent >= self.settings.arm_pct:
                self.state.calm_since_us = 0
                load = yield from self.shed(load)

    def stable(self, load: Load) -> bool:
        """Keep the time since when the load is normal; True once that was long enough. An order is never just over."""
        if load.percent > self.settings.clear_pct:
            self.state.calm_since_us = 0
        elif not self.state.calm_since_us:
            self.state.calm_since_us = self.conductor.now_us
        calm_since_us = self.state.calm_since_us
        return not self.order.by_person and calm_since_us > 0 and self.conductor.now_us >= self.calm_until_us

    def wait_and_watch(self, load: Load) -> Step[bool]:
        """Wait for the next look and say what for; True when an operator ended the watch by a skip."""
        loading = f"loading is {load.percent:.1f} %"
        if self.order.by_person:
            return (yield from self.wait_check("ordered", "the ordered load is off", RESTORE_WORD, self.latest_us))
        if load.percent >= self.settings.arm_pct:
            return (yield from self.wait_check("stressed", f"{loading}; all that may be shed is shed", "it to fall"))
        if self.state.calm_since_us:
            return (yield from self.wait_check("stable", loading, "it to stay normal", self.calm_until_us))
        return (yield from self.wait_check("watching", loading, f"it to fall to {self.settings.clear_pct:g} %"))

    def restore(self) -> Step[bool]:
        """Close stage by stage; False when the load came near the limit and the last stage was opened again."""
        conductor = self.conductor
        while True:
            self.turn_page()
            self.rounds += 1
            tries = Counter(self.state.unclosed)
            given_up = sorted(name for name, failed in tries.items() if failed >= MAX_CLOSE_TRIES)
            order = {"procedure": self.context.instance_id, "exclude": given_up}
            told = yield from conductor.run("PlanRestore", order)
            plan = msgspec.convert(told, RestorePlan)
            yield from conductor.settle()
            if not plan.load.good:
                yield from self.measure()
                continue
            self.figures.load_pct = plan.load.percent
            self.state.left_off = plan.troubled
            if not plan.feeders and not plan.left:
                return True
            if not plan.feeders and plan.left == plan.unresolved:
                self.state.unresolved_rounds += 1
                if self.state.unresolved_rounds > MAX_ROUNDS_FOR_UNRESOLVED:
                    return True
            if plan.load.percent >= self.settings.abort_pct and not self.overdue:
                self.state.calm_since_us = 0
                return False
            if plan.feeders:
                if not (yield from self.close_stage(plan)):
                    return False
            else:
                why = plan.why or f"{plan.unresolved} breakers are not readable"
                yield from self.wait_check("restoring", f"{plan.left} feeders are still off", why)

    def close_stage(self, plan: RestorePlan) -> Step[bool]:
        """Close one stage and look at the load while it settles; False when it had to be opened again."""
        conductor, settings = self.conductor, self.settings
        stage = dict(plan.feeders)
        conductor.say(
            "restoring", f"closes {len(stage)} feeders, about {plan.kw:.0f} kW of {plan.headroom_kw:.0f} kW headroom"
        )
        outcomes = yield from self.command("SendReconnectCommand", list(stage))
        closed = [name for name, outcome in outcomes.items() if outcome == "done"]
        back = set(closed)
        self.state.unclosed = [name for name in self.state.unclosed if name not in back]
        # What could not be sent, or not in time, was no attempt.
        self.state.unclosed += [name for name, word in outcomes.items() if word in ("failed", "refused", "unknown")]
        self.book(0, len(closed), -sum(stage[name] for name in closed))
        yield from conductor.settle()
        end_us = conductor.now_us + int(settings.stage_wait_s * 1e6)
        while conductor.now_us < end_us:
            pause_s = min(settings.check_s, (end_us - conductor.now_us) / 1e6)
            sentence = f"{len(closed)} feeders closed, {plan.left} still off"
            if (yield from conductor.wait(pause_s, "restoring", sentence, "the load to settle", end_us)):
                return True
            load = yield from self.measure()
            if load.percent >= settings.abort_pct and closed:
                conductor.say("restoring", f"loading is {load.percent:.1f} %: opens the last stage again", "readback")
                outcomes = yield from self.command("SendDisconnectCommand", closed)
                again = [name for name, outcome in outcomes.items() if outcome == "done"]
                self.book(len(again), 0, sum(stage[name] for name in again))
                self.state.calm_since_us = 0
                yield from conductor.settle()
                return False
        return True

    # What the steps are made of

    @property
    def calm_until_us(self) -> int:
        """When the load will have been normal for long enough."""
        return self.state.calm_since_us + int(self.settings.stable_for_s * 1e6)

    @property
    def latest_us(self) -> int:
        """When restoration begins at the latest."""
        return self.state.started_us + int(self.settings.max_shed_s * 1e6)

    @property
    def overdue(self) -> bool:
        """True once the longest permitted outage has passed."""
        return self.conductor.now_us >= self.latest_us

    def needed_kw(self, load: Load) -> float | None:
        """What is to be shed now; None means: whole tiers, whatever the load."""
        if self.order.target_kw is not None:
            return self.order.target_kw - self.figures.shed_kw
        if self.order.tiers is not None:
            return None
        if load.percent <= self.settings.clear_pct:
            return 0.0
        return load.kw - load.capacity_kw * self.settings.target_pct / 100

    def measure(self) -> Step[Load]:
        """A good measurement; without one, stop or hold what is shed, as the site says."""
        while True:
            self.rounds += 1
            told = yield from self.conductor.run("ReadLoad")
            load = msgspec.convert(told, Load)
            yield from self.conductor.settle()
            if load.good:
                self.figures.load_pct = load.percent
                return load
            self.figures.load_pct = None
            if self.settings.bad_measurement == "stop":
                raise Stopped("stopped", "the load is not measured")
            yield from self.wait_check(
                "no measurement", "the load is not measured; what is shed stays shed", "a good measurement"
            )

    def turn_page(self) -> None:
        """Start over with an empty history if this one is long: nothing is under way here.

        Errors: StartOver.
        """
        if self.rounds >= ROUNDS_PER_HISTORY and self.conductor.quiet:
            raise StartOver

    def wait_check(self, phase: str, sentence: str, waits_for: str = "", until_us: int = 0) -> Step[bool]:
        """Wait for the next look; True when an operator skipped it."""
        return (yield from self.conductor.wait(self.settings.check_s, phase, sentence, waits_for, until_us))

    def plan(self, tier: str, needed_kw: float | None, left_out: set[str]) -> Step[ShedPlan]:
        """What to open of this tier."""
        order = {
            "tier": tier,
            "target_kw": needed_kw,
            "exclude": sorted({*self.state.tried, *self.conductor.excluded, *left_out}),
            "last_resort": self.order.last_resort,
        }
        told = yield from self.conductor.run("PlanShed", order)
        yield from self.conductor.settle()
        return msgspec.convert(told, ShedPlan)

    def command(self, activity: str, feeders: list[str]) -> Step[dict[str, str]]:
        """A mass command; its deadline counts from now, also if it should run only after a restart."""
        order = {
            "feeders": feeders,
            "reason": self.order.reason,
            "deadline_us": self.conductor.now_us + int(self.settings.command_deadline_s * 1e6),
            "procedure": self.context.instance_id,
            "actor": self.order.actor or self.context.instance_id,
        }
        outcomes = yield from self.conductor.run(activity, order)
        return msgspec.convert(outcomes, dict[str, str])

    def book(self, opened: int, closed: int, kw: float) -> None:
        """Keep the figures."""
        self.state.opened += opened
        self.state.closed += closed
        self.state.shed_kw = max(0.0, self.state.shed_kw + kw)
        self.state.peak_shed_kw = max(self.state.peak_shed_kw, self.state.shed_kw)
        self.figures.shed_kw = self.state.shed_kw
        self.figures.feeders_shed = self.state.opened - self.state.closed

    def summary(self, status: str, reason: str) -> dict[str, object]:
        """The output of the orchestration."""
        state = self.state
        return {
            "status": status,
            "reason": reason,
            "opened": state.opened,
            "closed": state.closed,
            "peak_shed_kw": round(state.peak_shed_kw, 1),
            "still_shed_kw": round(state.shed_kw, 1),
            "shortfall_kw": round(self.figures.shortfall_kw, 1),
            "failed": sorted(set(state.tried)),
            "not_closed": self.not_closed,
            "overrides": self.figures.overrides,
        }

    def finish(self, status: str, reason: str) -> dict[str, object]:
        """What the substation is told when the procedure can't go on."""
        return {"instance": self.context.instance_id, "result": self.summary(status, reason[:400])}

    def start_over(self) -> Order:
        """The input with which the history starts over."""
        self.state.excluded = sorted(self.conductor.excluded)
        self.state.overrides = self.figures.overrides
        return msgspec.structs.replace(self.order, carried=self.state)
