"""One run of the procedure: what it knows, and the small steps of which shedding and restoring are made.

What must stay true: no step relies on a measurement that is not good; each mass command carries a deadline that counts
from the moment it was decided. A crash here: replay makes the same object again; what must outlive a history that starts
over is in ``Carried``.
"""

from __future__ import annotations

import msgspec

from gateway.durable.context import DurableOrchestrationContext
from gateway.durable.identity import EntityId
from gateway.shedding.conduct import Conductor, Step, Stopped
from gateway.shedding.measuring import Load
from gateway.shedding.settings import ProcedureSettings
from gateway.shedding.status import Figures

ROUNDS_PER_HISTORY = 200
"""Measurements after which the procedure starts over with an empty history."""


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
    """What goes on when the history starts over. Times in engine µs, power in kW.

    given_back: an operator said cancel-and-restore. kept_open: feeders that an operator has forced open.
    """

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
    given_back: bool = False
    kept_open: list[str] = []


class StartOver(Exception):
    """The history is long enough; nothing is under way."""


class Outdated(Exception):
    """Somebody held the procedure after it had measured and planned: what it was about to do must be planned again."""


class Procedure:
    """State, settings and figures of one run, and the conductor that waits and works for it."""

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
        self.conductor.kept_open.update(self.state.kept_open)
        self.state.started_us = self.state.started_us or self.conductor.now_us
        self.tiers = order.tiers if order.tiers is not None else settings.tiers
        self.rounds = 0
        self.outdated = False

    @property
    def not_closed(self) -> list[str]:
        """Feeders that this procedure has opened and could not close, as far as it knows."""
        return sorted({*self.state.unclosed, *self.state.left_off})

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

    def measure(self) -> Step[Load]:
        """A good measurement; without one, stop or hold what is shed, as the site says."""
        while True:
            self.rounds += 1
            told = yield from self.conductor.run("ReadLoad")
            load = msgspec.convert(told, Load)
            if (yield from self.conductor.settle()):
                continue
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
            "given_back": state.given_back,
        }

    def finish(self, status: str, reason: str) -> dict[str, object]:
        """What the substation is told when the procedure can't go on."""
        return {"instance": self.context.instance_id, "result": self.summary(status, reason[:400])}

    def start_over(self) -> Order:
        """The input with which the history starts over."""
        self.state.excluded = sorted(self.conductor.excluded)
        self.state.kept_open = sorted(self.conductor.kept_open)
        self.state.overrides = self.figures.overrides
        return msgspec.structs.replace(self.order, carried=self.state)
