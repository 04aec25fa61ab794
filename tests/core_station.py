"""The daemon's core for tests: the real engine on a store in memory, a driver that obeys the test, a clock that stands."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from config.device_models import Address, BreakerPoints, Device, Table
from config.models import (
    AfterRestart,
    BadMeasurement,
    Feeder,
    Gateway,
    JournalCare,
    Measurement,
    Mode,
    Restoration,
    Shedding,
    Site,
    Tier,
    Transformer,
    Trigger,
)
from gateway.clock import ManualClock
from gateway.durable import Engine, NotFoundError, Registry
from gateway.durable.testing import MemoryStore
from gateway.shedding.application import register
from gateway.shedding.field import Field
from gateway.shedding.gate import OutputGate
from protocols.base import BreakerReading, CommandOutcome, LinkState, LinkStatus, Outcome, Position, Quality, Reading


@dataclass
class FakeBreaker:
    """One breaker in the field. orders: what reached it. answers: what it does with the next commands."""

    position: Position = Position.CLOSED
    quality: Quality = Quality.GOOD
    local: bool = False
    op_count: int = 0
    power_kw: float | None = None
    orders: list[Position] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)


class FakeDriver:
    """A driver that does what the test says: obey, fail, refuse, lose (before or after it moved), or hang."""

    def __init__(self, names: Iterable[str]) -> None:
        self.breakers = {name: FakeBreaker() for name in names}
        self.load: float | None = 900.0
        self.link = LinkState.UP
        self.writes = 0
        self.writes_enabled = False
        self.under_way = 0
        self.most_under_way = 0

    async def operate(self, feeder: str, target: Position, timeout_s: float) -> CommandOutcome:
        """See Driver."""
        breaker = self.breakers[feeder]
        answer = breaker.answers.pop(0) if breaker.answers else "obey"
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(0)
            if answer == "offline":
                return CommandOutcome(Outcome.NOT_SENT, Position.UNKNOWN, "link down", False)
            self.writes += 1
            breaker.orders.append(target)
            if answer == "refuse":
                return CommandOutcome(Outcome.REFUSED, breaker.position, "exception 04", True)
            if answer == "fail":
                return CommandOutcome(Outcome.FAILED, breaker.position, "did not move", True)
            if answer != "lose before":
                breaker.op_count += breaker.position is not target
                breaker.position = target
            if answer == "hang":
                await asyncio.Event().wait()
            if answer.startswith("lose"):
                return CommandOutcome(Outcome.UNKNOWN, Position.UNKNOWN, "no answer", True)
            return CommandOutcome(Outcome.DONE, target, "read back", True)
        finally:
            self.under_way -= 1

    async def read_breaker(self, feeder: str, timeout_s: float) -> BreakerReading:
        """See Driver."""
        return self.breaker(feeder)

    def breaker(self, feeder: str) -> BreakerReading:
        """See Driver."""
        b = self.breakers[feeder]
        return BreakerReading(b.position, b.quality, b.local, b.op_count, b.power_kw, 0.0)

    def measurement(self, name: str) -> Reading:
        """See Driver."""
        return Reading(self.load, Quality.BAD if self.load is None else Quality.GOOD, 0.0)

    def feeders(self) -> Iterable[str]:
        """See Driver."""
        return self.breakers

    def link_of(self, feeder: str) -> LinkStatus:
        """See Driver."""
        return LinkStatus("rtu", self.link, "", 0.0)

    def links(self) -> list[LinkStatus]:
        """See Driver."""
        return []

    def set_writes_enabled(self, enabled: bool) -> None:
        """See Driver."""
        self.writes_enabled = enabled

    async def start(self, listener: object) -> None:
        """See Driver."""

    async def stop(self) -> None:
        """See Driver."""

    async def wait_first_scan(self, timeout_s: float) -> None:
        """See Driver."""


def make_feeder(name: str, tier: str | None, rated_kw: float = 20.0, critical: bool = False) -> Feeder:
    """A feeder on the one device."""
    points = BreakerPoints(*(Address(Table.COIL, n) for n in range(4)))
    return Feeder(
        name=name,
        device="rtu",
        points=points,
        tier=tier,
        critical=critical,
        sheddable=tier is not None and not critical,
        ufls_stage=None,
        rated_kw=rated_kw,
        group="",
        customers=1,
        load_class="home",
        travel_s=0.01,
        line=1,
    )


def make_site(feeders: Iterable[Feeder] = (), **shedding: Any) -> Site:
    """Northgate: 1,000 kW, two tiers, a hospital."""
    chosen = tuple(feeders) or (
        make_feeder("A1", "Tier1"),
        make_feeder("A2", "Tier1"),
        make_feeder("A3", "Tier1"),
        make_feeder("B1", "Tier2"),
        make_feeder("H1", "Tier1", critical=True),
        make_feeder("N1", None),
    )
    return Site(
        name="Northgate",
        path=Path("/etc/gridlatch"),
        sha256="00",
        gateway=Gateway(Path("/s"), Path("/s/s"), 0o600, False, "info", "json", 1000, None, ()),
        transformer=Transformer("T1", 1000.0, "load", None, BadMeasurement.HOLD),
        trigger=Trigger(),
        tiers=(Tier("Tier2", 2, ""), Tier("Tier1", 1, "")),
        shedding=replace(
            Shedding(Mode.ARMED, after_restart=AfterRestart.CONTINUE, min_off_s=0.0, block_size=100), **shedding
        ),
        restoration=Restoration(stable_for_s=60.0, stage_pct=100.0, stage_wait_s=60.0),
        devices=(Device("rtu", "127.0.0.1", 502, 1, timeout_s=0.01),),
        measurements=(Measurement("load", "rtu", Address(Table.INPUT, 1), "kW", 5.0),),
        feeders=chosen,
        warnings=(),
        journal=JournalCare(Path("/s/archive")),
    )


class Station:
    """The daemon's core for a test: engine, field, gate; it can lose its power."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.clock = ManualClock(int(datetime(2026, 1, 14, 8, tzinfo=UTC).timestamp()) * 1_000_000)
        self.driver = FakeDriver(f.name for f in site.feeders)
        self.store = MemoryStore()
        self.programs: list[Callable[..., Any]] = []
        self.build()

    def build(self) -> None:
        """A new process on the same store."""
        self.gate = OutputGate()
        self.field = Field(self.driver, self.site, self.clock, self.gate, Mode.ARMED)
        registry = Registry()
        register(registry, self.field)
        for program in self.programs:
            registry.orchestrator(program)
        self.engine = Engine(self.store, registry, self.clock)
        self.client = self.engine.client

    async def start(self, release: bool = True) -> None:
        """Recover and run."""
        await self.engine.recover()
        self.engine.start()
        if release:
            self.gate.release()

    async def power_cut(self) -> None:
        """Everything in memory is gone; the store keeps what was committed."""
        self.store.hold()
        await self.engine.activities.drain(0.0)
        self.engine.timers.stop()
        self.store = MemoryStore.after(self.store.batches)
        self.build()

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Let things go on until the condition holds; the clock stands."""
        for _ in range(10_000):
            if condition():
                return
            await asyncio.sleep(0.001)
        raise AssertionError(f"not reached: {what}")

    async def play(self, condition: Callable[[], object], what: str) -> None:
        """As until, but whenever everything waits for a timer, the clock goes on to the next one."""
        quiet = 0
        for _ in range(20_000):
            if condition():
                return
            await asyncio.sleep(0.0005)
            following = self.engine.timers.next_due()
            quiet = quiet + 1 if following is not None and self.engine.activities.running == 0 else 0
            if quiet > 5 and following is not None:
                self.clock.advance(max(0, following[0] - self.clock.now_us()) / 1e6)
                quiet = 0
        raise AssertionError(f"not reached: {what}")

    async def ended(self, instance: str) -> Any:
        """The status of an orchestration once it has ended, however long that takes by the clock."""
        waiting = asyncio.ensure_future(self.client.wait_for_completion(instance))
        await self.play(waiting.done, f"the end of {instance}")
        return await waiting

    async def phase(self, instance: str, phase: str) -> dict[str, Any]:
        """The custom status of a procedure once it is in this phase; the clock stands."""
        found: dict[str, Any] = {}
        for _ in range(10_000):
            with contextlib.suppress(NotFoundError):  # its first turn is not on disk yet
                found = (await self.client.get_status(instance)).custom_status or {}
            if found.get("phase") == phase:
                return found
            await asyncio.sleep(0.001)
        raise AssertionError(f"never in phase {phase}: {found}")
