"""What an event report is made of: plain records that the caller fills from the journal and from trends.

Times are engine time in microseconds since 1970 (see ``gateway.clock``), power is in kilowatts. Nothing in here
computes.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import tzinfo


class EventKind(enum.StrEnum):
    """What kind of thing happened; it decides the colour of the marker and what the band of phases shows after it."""

    ARMED = "armed"
    TIER_SHED = "tier_shed"
    COOLDOWN = "cooldown"
    OVERRIDE = "override"
    POWER_LOSS = "power_loss"
    RESTART = "restart"
    CLEARED = "cleared"
    RESTORE_STAGE = "restore_stage"
    FINISHED = "finished"
    ALARM = "alarm"
    OTHER = "other"


class FeederState(enum.StrEnum):
    """How the commands to one feeder's breaker ended."""

    OPERATED = "operated"
    FAILED = "failed"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class Verdict(enum.StrEnum):
    """What a row of the proof says: it holds, it does not, or it is told without a judgement."""

    HOLDS = "holds"
    FAILS = "fails"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Sample:
    """One moment. load_kw is None where the load could not be measured. shed_kw: power of the feeders that are shed."""

    time_us: int
    load_kw: float | None
    capacity_kw: float
    shed_kw: float
    open_breakers: int


@dataclass(frozen=True, slots=True)
class ReportEvent:
    """One numbered event. label is the short word in the band of phases (empty: one is made, such as "tier 1")."""

    time_us: int
    kind: EventKind
    title: str
    actor: str = ""
    reason: str = ""
    detail: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class FeederOutcome:
    """How one feeder ended. kw: its power before it was opened."""

    feeder: str
    tier: str
    state: FeederState
    kw: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Outage:
    """One interruption of one feeder. closed_us is None while it lasts."""

    feeder: str
    opened_us: int
    closed_us: int | None
    customers: int


@dataclass(frozen=True, slots=True)
class Proof:
    """One row of evidence, such as commands in the journal against operations that the devices counted."""

    name: str
    value: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class ReportData:
    """All of one report. tz: the zone in which people read times. versions: (name, version) pairs."""

    site: str
    title: str
    summary: str
    tz: tzinfo
    arm_pct: float
    clear_pct: float
    generated_us: int
    samples: tuple[Sample, ...]
    events: tuple[ReportEvent, ...]
    outcomes: tuple[FeederOutcome, ...]
    outages: tuple[Outage, ...]
    proofs: tuple[Proof, ...]
    journal_head: str
    config_sha256: str
    versions: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()
