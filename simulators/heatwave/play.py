"""The story, step by step. Each step waits for what it needs to see, has a time limit, and fails by saying what is missing.

What must stay true: no step relies on time having passed; all that is claimed at the end was seen or counted on the way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from simulators.generate import start_clock
from simulators.heatwave.checks import Check, Evidence, judge, moved_between, stages
from simulators.heatwave.faults import FaultPlay
from simulators.heatwave.narrator import WAITS, Narrator, audit_words, hold_words, local, session_words
from simulators.heatwave.operator import NAME, Console
from simulators.heatwave.scenario import Scenario
from simulators.heatwave.screen import GREEN, RED, YELLOW, Screen, clock
from simulators.heatwave.shift import Shift
from simulators.heatwave.station import GatewayAway, Station, StoryError
from simulators.heatwave.view import Gateway, View, gateway_of, number, plant_of, rows, table

LOOK_S = 0.25
KILL_AT = 0.8
"""Share of the cooldown that is left when the power goes; the restart takes some of it."""
START_LIMIT_S = 60.0
MASS_LIMIT_S = 90.0
AWAY_LIMIT_S = 30.0
LOOKS_AT_JOURNAL = 20
"""For a timer that came due while the gateway was dark: it fires at the start, and is on disk soon after."""


class Play:
    """One performance. station: its folder holds a generated site. evidence is complete once ``run`` has returned."""

    def __init__(
        self, scenario: Scenario, station: Station, screen: Screen, critical: frozenset[str], console: Console
    ) -> None:
        self.scenario = scenario
        self.station = station
        self.screen = screen
        self.console = console
        self.shift = Shift(console, station, screen)
        self.narrator = Narrator(screen, station)
        self.faults = FaultPlay(station.simulator)
        self.evidence = Evidence(scenario.feeders, critical, {}, [], {})
        self.view: View | None = None
        self._dark = True
        self._away_since: float | None = None

    async def run(self) -> list[Check]:
        """From the first start to the last check. Raises StoryError, ProcessEnded, ControlError, GatewayRefused."""
        await self.begin()
        await self.shed()
        await self.lose_power()
        await self.hold()
        await self.give_back()
        return await self.judge()

    # 1. Start

    async def begin(self) -> None:
        """The operator let in; then, with the day's clock, simulator and gateway, every breaker read."""
        count = f"{self.scenario.rtus} RTUs with {self.scenario.breakers} breakers each"
        await self.shift.employ()
        start_clock(self.station.folder)
        await self.station.start_simulator()
        await self.look()
        nodes = min(self.scenario.opcua_rtus, self.scenario.rtus)
        self.screen.event(f"simulator runs: {count}, {nodes} on OPC UA and the others on Modbus TCP")
        await self.station.start_gateway()
        self._dark = False
        view = await self.until("the gateway to read every breaker", self._is_up, START_LIMIT_S)
        gateway = self.gateway(view)
        self.screen.event(f"gateway is ready: {gateway.total:,} breakers read over {gateway.links_up} links")
        self.console.start()

    # 2. Heat

    async def shed(self) -> None:
        """The load crosses the limit; the first tier goes; the cooldown begins."""
        limit_s = 3 * self.grid_s(self.scenario.lead_s + 3600)
        await self.until("the load to cross the limit", lambda v: self.gateway(v).zone != "cleared", limit_s)
        told = await self.faults.before_the_shed(await self.station.breakers(tier="Tier1"))
        if told:
            self.screen.event(f"secretly broken: {'; '.join(told)}", YELLOW)
        await self.until("the procedure to start", lambda v: bool(v.phase), 30.0 + self.grid_s(1200))
        began = time.monotonic()
        await self.until("the first tier to be shed", lambda v: v.phase in WAITS, MASS_LIMIT_S)
        self.screen.event(
            f"first tier shed within {time.monotonic() - began:.1f} s, each breaker confirmed by readback"
        )

    # 3. Power lost

    async def lose_power(self) -> None:
        """SIGKILL in the middle of the cooldown, and back."""
        middle_s = self.scenario.cooldown_s * KILL_AT
        view = await self.until(
            "the middle of the cooldown",
            lambda v: v.phase == "cooldown" and v.left_s <= middle_s and self._calm(v) and self.console.connected,
            60.0,
        )
        due = await self._procedure_timer(view)
        if due is None:
            raise StoryError("the gateway shows no timer in its cooldown")
        instance = self.gateway(view).instance
        before = await self.station.simulator.counters()
        cut_at = time.time()
        pid = await self.station.cut_power()
        self._dark, dark_since = True, time.monotonic()
        self.screen.event(f"POWER LOST: the gateway (pid {pid}) got SIGKILL in the middle of a cooldown", RED)
        self.screen.event(f"its timer is due at {local(due)}, {clock(view.left_s)} from now; it is on disk", YELLOW)
        await self.until("the dark to pass", lambda _: time.monotonic() - dark_since >= self.scenario.dark_s, 30.0)
        await self.station.start_gateway()
        self.screen.event(
            f"power is back after {time.monotonic() - dark_since:.1f} s: the gateway starts again", YELLOW
        )
        self._dark, self._away_since = False, None
        view = await self.until("the gateway to answer", lambda v: bool(v.phase), START_LIMIT_S)
        again = await self._procedure_timer(view)
        fired = None if again == due else await self._fired(instance, due)
        view = await self.until("the gateway to read every breaker", self._is_up, START_LIMIT_S)
        dark_s = time.monotonic() - dark_since
        after = await self.station.simulator.counters()
        self.evidence.dark_s = dark_s
        self.evidence.timer_before = local(due)
        self.evidence.timer_after = local(again) if again else f"none (phase {view.phase})"
        if fired is not None:
            self.evidence.timer_after, self.evidence.timer_fired = local(due), local(fired)
        found = self.station.log_event("reconciled") or {}
        self.evidence.reconciled = str(found.get("sentence", ""))
        known_at = datetime.fromisoformat(str(found.get("timestamp", "9999-12-31T00:00:00Z"))).timestamp()
        moved = [name for name in before if before[name] != after[name]]
        commands = await self.station.simulator.commands() if moved else []
        self.evidence.moved_while_dark = moved_between(moved, commands, cut_at, known_at)
        self._tell_return(view, dark_s)

    def _tell_return(self, view: View, dark_s: float) -> None:
        evidence = self.evidence
        same = evidence.timer_before == evidence.timer_after
        self.screen.event(f"back after {dark_s:.1f} s; read the field and found: {self.evidence.reconciled}", GREEN)
        moved = len(self.evidence.moved_while_dark)
        self.screen.event(f"moved or commanded meanwhile, as the breakers count: {moved}", RED if moved else GREEN)
        words = f"timer due before {evidence.timer_before}, now {evidence.timer_after}: "
        fired = evidence.timer_fired
        left = f"came due in the dark, fired {fired}" if fired else f"{clock(view.left_s)} left"
        words += f"the same, {left}" if same else "NOT THE SAME"
        self.screen.event(words, GREEN if same else RED)

    # 4. A person's word

    async def hold(self) -> None:
        """In the next wait the operator holds the procedure from an OPC UA client, and resumes it."""
        first = self.evidence.timer_before

        def next_wait(view: View) -> bool:
            until = self.gateway(view).until
            next_one = view.phase in (*WAITS, "restoring") and until is not None and local(until) != first
            return next_one and self.console.connected

        limit_s = 2 * self.grid_s(self.scenario.cooldown_s) + MASS_LIMIT_S
        view = await self.until("the next wait after the cooldown", next_wait, limit_s)
        end = self.gateway(view).until
        await self.shift.override("hold", "ambulance station asks for time", self.look)
        view = await self.until("the hold to be taken", lambda v: v.phase == "held", 20.0)
        self.evidence.sessions = self.console.sessions
        self.evidence.session, self.evidence.session_ok = session_words(await self.station.ask("status"), NAME)
        held_at = view.plant.now
        pause = timedelta(seconds=self.scenario.hold_s * self.scenario.rate)
        await self.until("the operator to finish", lambda v: v.plant.now - held_at >= pause, 30.0)
        await self.shift.override("resume", "generator runs", self.look)
        view = await self.until("the procedure to go on", lambda v: v.phase not in ("held", ""), 20.0)
        self.evidence.hold, self.evidence.hold_ok = hold_words(self.gateway(view), end)
        self.screen.event(f"the override: {self.evidence.hold}", GREEN if self.evidence.hold_ok else RED)

    # 5. Evening

    async def give_back(self) -> None:
        """The load falls; restoration in stages, with faults of its own; the end."""
        limit_s = 2 * self.grid_s(3.5 * 3600)
        phases = (self.scenario.silent_while, "restoring")
        await self.until("a calm load", lambda v: v.phase in phases, limit_s)
        opened = await self.station.breakers(position="open")
        told = await self.faults.before_the_return(opened, self.scenario.silent_s, self.scenario.last_on_opcua)
        if told:
            self.screen.event(f"secretly broken: {'; '.join(told)}", YELLOW)
        view = await self.until("the procedure to end", lambda v: not v.phase, limit_s)
        self.evidence.result = self.gateway(view).result or {}
        self.screen.event(f"the procedure ended: {self.evidence.result.get('status')}", GREEN)
        await self.until("every link to be up", lambda v: not self.gateway(v).troubled, 40.0)

    # 6. Proof

    async def judge(self) -> list[Check]:
        """Gather what is still missing, and judge."""
        evidence, station = self.evidence, self.station
        self.screen.event("comparing the breakers' own counters with the gateway's journal")
        evidence.counters = await station.simulator.counters()
        evidence.commands = await station.simulator.commands()
        known = await station.breakers()
        evidence.intents = {name: int(number(row["intents"])) for name, row in known.items()}
        evidence.faults = dict(self.faults.done)
        evidence.told = {name: str(known[name]["outcome"]) for name in evidence.faults}
        evidence.tiers = tuple(self.narrator.tiers)
        evidence.highest_restoring_pct = self.narrator.highest_restoring_pct
        evidence.stages = stages(evidence.commands, self.scenario.stage_wait_s / 2)
        evidence.silenced = self.faults.silenced
        evidence.unsent = await self._unsent(evidence)
        code, said = await station.command_line("audit", "verify", "--json")
        evidence.audit_ok, evidence.audit = code == 0, audit_words(code, said)
        return judge(evidence)

    async def _unsent(self, evidence: Evidence) -> dict[str, int]:
        """Of breakers that received less than was intended: how many intents never left, as their journal state says."""
        found: dict[str, int] = {}
        for name, intents in evidence.intents.items():
            one = evidence.counters[name]
            if intents <= one.open_commands + one.close_commands + one.refused:
                continue
            state = (await self.station.ask("breakers.show", {"feeder": name}))["state"]
            assert isinstance(state, dict)
            recent = rows(state.get("recent", []))
            found[name] = sum(1 for ended in recent if ended["result"] in ("expired", "not_sent"))
        return found

    # What the steps are made of

    def grid_s(self, seconds: float) -> float:
        """Real seconds for so many seconds of the grid."""
        return seconds / self.scenario.rate

    @staticmethod
    def gateway(view: View) -> Gateway:
        """The gateway's half of a view that must have one."""
        if view.gateway is None:
            raise StoryError("the gateway is dark")
        return view.gateway

    def _is_up(self, view: View) -> bool:
        gateway = view.gateway
        return (
            gateway is not None and gateway.total == self.scenario.feeders and gateway.links_up == gateway.links_total
        )

    def _calm(self, view: View) -> bool:
        gateway = self.gateway(view)
        return not gateway.unresolved and gateway.links_up == gateway.links_total

    async def _procedure_timer(self, view: View) -> datetime | None:
        """When the procedure's next timer is due."""
        instance = self.gateway(view).instance
        timers = rows((await self.station.ask("timers", {"limit": 1000}))["timers"])
        due = [datetime.fromisoformat(str(one["due"])) for one in timers if one["instance"] == instance]
        return min(due, default=None)

    async def _fired(self, instance: str, due: datetime) -> datetime | None:
        """When a timer that was due then has fired, as the journal has it; None if it has not."""
        for _ in range(LOOKS_AT_JOURNAL):
            told = rows((await self.station.ask("instances.timeline", {"instance": instance}))["rows"])
            for row in told:
                due_us = table(row["value"]).get("due_us") if row["kind"] == "timer" else None
                if due_us is not None and row["outcome"] == "fired" and local(_at(due_us)) == local(due):
                    return _at(row["done_us"])
            await self.look()
            await asyncio.sleep(LOOK_S)
        return None

    async def until(self, what: str, condition: Callable[[View], bool], limit_s: float) -> View:
        """Look until the condition holds. Raises StoryError after limit_s real seconds."""
        end = time.monotonic() + limit_s
        while True:
            view = await self.look()
            if (view.gateway is not None or self._dark) and condition(view):
                return view
            if time.monotonic() >= end:
                state = view.gateway.sentence or view.gateway.zone if view.gateway else "dark"
                console = "" if self.console.connected else f"; the operator has no session: {self.console.why}"
                raise StoryError(f"waited {limit_s:.0f} s for {what}; the gateway: {state}{console}")
            await asyncio.sleep(LOOK_S)

    async def look(self) -> View:
        """Look at both halves, show them, and tell what is new. Raises StoryError, ProcessEnded, ControlError."""
        self.station.check()
        plant = plant_of(await self.station.simulator.state())
        gateway = None
        if not self._dark:
            try:
                gateway = gateway_of(await self.station.ask("status"))
                self._away_since = None
            except GatewayAway as error:
                now = time.monotonic()
                self._away_since = self._away_since or now
                if now - self._away_since > AWAY_LIMIT_S:
                    raise StoryError(f"the gateway has not answered for {AWAY_LIMIT_S:g} s: {error}") from error
        view = self.view = View(plant, gateway)
        self.screen.show(view)
        self.shift.tell()
        await self.narrator.tell(view)
        return view


def _at(us: object) -> datetime:
    """The moment so many µs after 1970."""
    return datetime.fromtimestamp(number(us) / 1e6, UTC)
