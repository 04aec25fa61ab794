"""What is to be seen at one moment: the plant's own truth from the simulator, and what the gateway says of it.

A record for the screen and for the story's conditions. The gateway's half is empty while it is dark.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

Json = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Plant:
    """The simulator's own figures. load_pct: of the transformer's capacity. open: breakers at rest in open."""

    now: datetime
    load_kw: float
    capacity_kw: float
    load_pct: float
    ambient_c: float
    feeders: int
    open: int
    commands: int
    operations: int


@dataclass(frozen=True, slots=True)
class Gateway:
    """What the gateway says. measured_pct None: it has no good measurement. total: breakers that it knows.

    phase is empty while no procedure runs; until: end of what it waits for.
    """

    now: datetime
    measured_pct: float | None
    zone: str
    instance: str
    phase: str
    tier: str
    sentence: str
    until: datetime | None
    shed_kw: float
    total: int
    open: int
    failed: int
    unresolved: int
    links_up: int
    links_total: int
    troubled: tuple[str, ...]
    held: str
    overrides: tuple[Json, ...] = ()
    result: Json | None = field(default=None)


@dataclass(frozen=True, slots=True)
class View:
    """One moment. gateway None: dark."""

    plant: Plant
    gateway: Gateway | None

    @property
    def phase(self) -> str:
        """The procedure's phase; empty when there is none to be seen."""
        return self.gateway.phase if self.gateway else ""

    @property
    def left_s(self) -> float:
        """Grid seconds until the gateway's present wait ends; 0 without one."""
        if self.gateway is None or self.gateway.until is None:
            return 0.0
        return max(0.0, (self.gateway.until - self.gateway.now).total_seconds())


def plant_of(state: Json) -> Plant:
    """From the simulator's answer to ``state``."""
    return Plant(
        moment(state["sim_time"]),
        number(state["load_kw"]),
        number(state["capacity_kw"]),
        number(state["load_pct"]),
        number(state["ambient_c"]),
        int(number(state["feeders"])),
        int(number(state["open"])),
        int(number(state["commands"])),
        int(number(state["operations"])),
    )


def gateway_of(status: Json) -> Gateway:
    """From the gateway's answer to ``status``."""
    procedure = table(status["procedure"])
    transformer, breakers, links = table(status["transformer"]), table(status["breakers"]), table(status["links"])
    until = procedure.get("until")
    percent, result = transformer["percent"], status.get("last_result")
    return Gateway(
        now=moment(table(status["clock"])["now"]),
        measured_pct=None if percent is None else number(percent),
        zone=str(transformer["zone"]),
        instance=str(procedure.get("instance", "")),
        phase=str(procedure.get("phase", "starting")) if procedure else "",
        tier=str(procedure.get("tier", "")),
        sentence=str(procedure.get("sentence", "")),
        until=None if until is None else moment(until),
        shed_kw=number(status["shed_kw"]),
        total=int(number(breakers.get("total", 0))),
        open=int(number(breakers.get("open", 0))),
        failed=int(number(breakers.get("failed", 0))),
        unresolved=int(number(breakers.get("unresolved", 0))),
        links_up=int(number(links.get("up", 0))),
        links_total=int(number(links["total"])),
        troubled=tuple(str(one["device"]) for one in rows(links["troubled"])),
        held=str(table(status["held"])["why"]) if table(status["held"])["held"] else "",
        overrides=tuple(rows(status["overrides"])),
        result=table(result) or None,
    )


def table(value: object) -> Json:
    """A JSON object; null reads as an empty one."""
    if value is None:
        return {}
    assert isinstance(value, dict)
    return value


def rows(value: object) -> list[Json]:
    """A JSON list of objects."""
    assert isinstance(value, list)
    return value


def as_list(value: object) -> list[object]:
    """A JSON list."""
    assert isinstance(value, list)
    return value


def number(value: object) -> float:
    """A JSON number."""
    assert isinstance(value, int | float)
    return float(value)


def moment(value: object) -> datetime:
    """An ISO time."""
    return datetime.fromisoformat(str(value))
