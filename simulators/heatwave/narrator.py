"""Says what is new: compares each view with what was told already, and remembers what only passing views show.

What must stay true: nothing is told twice in a row; what is remembered (highest load while restoring, tiers) comes from
views alone, so it is what somebody who watched would have seen.
"""

from __future__ import annotations

import contextlib
import json
from datetime import datetime

from simulators.heatwave.screen import BOLD, GREEN, PLAIN, RED, YELLOW, Screen, clock
from simulators.heatwave.station import GatewayAway, GatewayRefused, Station
from simulators.heatwave.view import Gateway, Json, View, as_list, rows, table
from simulators.weather import LOCAL

WAITS = ("cooldown", "watching", "stable", "stressed")
"""Phases of the procedure in which it only waits."""
NAMES_TOLD = 4


class Narrator:
    """Tells events. tiers: those that were shed, in order. highest_restoring_pct: by the plant or by the gateway."""

    def __init__(self, screen: Screen, station: Station) -> None:
        self.tiers: list[str] = []
        self.highest_restoring_pct = 0.0
        self._screen = screen
        self._station = station
        self._told: dict[str, object] = {"troubled": None}
        self._zones = {"cleared", "clearing"}

    async def tell(self, view: View) -> None:
        """Tell what is new in this view."""
        screen, gateway = self._screen, view.gateway
        if gateway is None:
            return
        if gateway.zone not in self._zones:
            self._zones.add(gateway.zone)
            screen.event(f"loading {gateway.measured_pct or 0:.1f} %: {gateway.zone}", RED)
        if gateway.phase == "restoring":
            seen = max(view.plant.load_pct, gateway.measured_pct or 0.0)
            self.highest_restoring_pct = max(self.highest_restoring_pct, seen)
        if gateway.phase in ("shedding", "restoring", "held", *WAITS):
            self._tell_step(gateway)
        if gateway.total and self._new("troubled", gateway.troubled or None):
            names = ", ".join(gateway.troubled[:NAMES_TOLD])
            screen.event(f"no answer from {names}" if names else "all links are up again", YELLOW if names else GREEN)
        if gateway.failed and self._new("failed", gateway.failed):
            await self._tell_failed()

    def _tell_step(self, gateway: Gateway) -> None:
        sentence = gateway.sentence.partition("; waits for")[0]
        if gateway.phase in ("shedding", "cooldown") and gateway.tier not in self.tiers:
            self.tiers.append(gateway.tier)
        if gateway.phase == "restoring" and sentence.startswith("closes"):
            if self._new("stage", sentence):
                self._screen.event(f"restoring: {sentence}")
        elif gateway.phase in ("shedding", "cooldown") and self._new("step", (gateway.phase, gateway.tier)):
            self._screen.event(f"{gateway.phase}: {sentence}", BOLD if gateway.phase == "shedding" else PLAIN)
        elif gateway.phase in ("watching", "stable"):
            if self._new(gateway.phase, gateway.tier):  # a load near the edge goes to and fro: told once
                self._screen.event(f"{gateway.phase}: {sentence}")
        elif self._new("phase", gateway.phase) and gateway.phase not in ("shedding", "cooldown"):
            self._screen.event(f"{gateway.phase}: {sentence}")

    async def _tell_failed(self) -> None:
        with contextlib.suppress(GatewayAway, GatewayRefused):  # what failed stays listed: the next look tells it
            failed = await self._station.breakers(outcome="failed")
            names = ", ".join(sorted(failed)[:NAMES_TOLD]) + (" …" if len(failed) > NAMES_TOLD else "")
            self._screen.event(f"the gateway tells of {len(failed)} failed: {names}", YELLOW)

    def _new(self, key: str, value: object) -> bool:
        changed = self._told.get(key) != value
        self._told[key] = value
        return changed


def hold_words(gateway: Gateway, end: datetime | None) -> tuple[str, bool]:
    """What became of hold and resume, and whether a cooldown that was held ended later by as much. end: before it."""
    taken = [one for one in gateway.overrides if one.get("decision") in ("hold", "resume")][-2:]
    if [one["decision"] for one in taken] != ["hold", "resume"]:
        return "not listed", False
    step, actor = taken[0]["step"], taken[0]["actor"]
    held = datetime.fromisoformat(str(taken[1]["at"])) - datetime.fromisoformat(str(taken[0]["at"]))
    words = f"hold by {actor} taken in step {step}, resume after {clock(held.total_seconds())}"
    if step != "cooldown":
        return words, True
    if end is None or gateway.until is None:
        return f"{words}; the cooldown has no end any more", False
    same = abs((gateway.until - end - held).total_seconds()) < 1.0
    later = f"due {local(end)} before, {local(gateway.until)} after"
    return f"{words}; the cooldown stood still meanwhile: {later}" if same else f"{words}; TIMER WRONG: {later}", same


def session_words(status: Json, name: str) -> tuple[str, bool]:
    """Whose word the last hold was by the gateway's status, and who was logged in at its OPC UA server meanwhile."""
    users = [str(one) for one in as_list(table(status["operators"])["users"])]
    holds = [one for one in rows(status["overrides"]) if one.get("decision") == "hold"]
    if not holds:
        return "not listed", False
    words = f"by {holds[-1]['actor']} as {holds[-1].get('role') or 'nothing'}"
    words += f"; logged in then: {', '.join(users) or 'nobody'}"
    return words, holds[-1]["actor"] == name and any(one.startswith(f"{name} (") for one in users)


def audit_words(code: int, said: str) -> str:
    """What ``audit verify --json`` said, in short."""
    if code != 0:
        return said.replace("\n", "; ")
    told = json.loads(said)
    return f"{told['records']:,} records in {told['batches']:,} batches, head {told['head'][:16]}…"


def local(moment: datetime) -> str:
    """Time of day at the site, to the millisecond."""
    return moment.astimezone(LOCAL).strftime("%H:%M:%S.%f")[:-3]
