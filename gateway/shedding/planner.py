"""Which feeders to shed: strict tiers, fair inside a tier, enough megawatts and no more than needed.

A pure function of what is known of each feeder. What must stay true: a critical feeder is never chosen, whatever its
tier says; the order inside a tier is by cumulative outage, then by the time of the last shed, then by name, so that the
burden goes round and the choice is repeatable; what can't be met is said as a shortfall, never rounded away.

A feeder that can't be reached now is skipped now; as every plan is made from fresh readings, it is tried again with the
next one.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from protocols.base import Position


class Skip(enum.StrEnum):
    """Why a feeder is not chosen."""

    CRITICAL = "critical"
    NOT_SHEDDABLE = "not sheddable"
    UFLS = "armed in an under-frequency relay"
    EXCLUDED = "excluded by an operator or tried already"
    OPEN = "open already"
    BLOCKED = "blocked"
    LOCAL = "switched to local"
    BUSY = "a command is under way or unresolved"
    OFFLINE = "not readable now"
    CAPPED = "operated too often within the hour"
    NO_LOAD = "carries no load"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One feeder as the planner sees it. kw: measured load, or the rated one where none is measured."""

    feeder: str
    tier: str | None
    kw: float
    position: Position
    critical: bool = False
    sheddable: bool = True
    ufls: bool = False
    online: bool = True
    blocked: bool = False
    local: bool = False
    busy: bool = False
    capped: bool = False
    outage_s: float = 0.0
    last_shed_us: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """Feeders in the order in which to open them, their load, and what is missing to the target (kW, at least 0).

    skipped: how many feeders of the tier were left out, by reason. exhausted: nothing eligible is left in this tier.
    """

    feeders: tuple[str, ...]
    kw: float
    shortfall_kw: float
    skipped: dict[str, int]
    exhausted: bool


def why_not(candidate: Candidate, excluded: Collection[str], last_resort: bool = False) -> Skip | None:
    """Why a feeder may not be shed now; None when it may. last_resort: feeders armed in a relay may be taken too."""
    checks = (
        (candidate.critical, Skip.CRITICAL),
        (not candidate.sheddable, Skip.NOT_SHEDDABLE),
        (candidate.ufls and not last_resort, Skip.UFLS),
        (candidate.feeder in excluded, Skip.EXCLUDED),
        (candidate.position is Position.OPEN, Skip.OPEN),
        (candidate.blocked, Skip.BLOCKED),
        (candidate.local, Skip.LOCAL),
        (candidate.busy, Skip.BUSY),
        (not candidate.online or candidate.position is not Position.CLOSED, Skip.OFFLINE),
        (candidate.capped, Skip.CAPPED),
    )
    return next((reason for true, reason in checks if true), None)


def plan(
    candidates: Iterable[Candidate],
    tier: str,
    target_kw: float | None,
    excluded: Collection[str] = (),
    last_resort: bool = False,
) -> Plan:
    """Choose feeders of one tier, fairest first, until their load reaches target_kw; None takes the whole tier."""
    eligible: list[Candidate] = []
    skipped: dict[str, int] = {}
    for candidate in candidates:
        if candidate.tier != tier:
            continue
        reason = why_not(candidate, excluded, last_resort)
        if reason is None and target_kw is not None and candidate.kw <= 0.0:
            reason = Skip.NO_LOAD
        if reason is None:
            eligible.append(candidate)
        else:
            skipped[reason.value] = skipped.get(reason.value, 0) + 1
    eligible.sort(key=lambda c: (c.outage_s, c.last_shed_us, c.feeder))
    if target_kw is None:
        return Plan(tuple(c.feeder for c in eligible), sum(c.kw for c in eligible), 0.0, skipped, True)
    chosen: list[str] = []
    kw = 0.0
    for candidate in eligible:
        if kw >= target_kw:
            break
        chosen.append(candidate.feeder)
        kw += candidate.kw
    return Plan(tuple(chosen), kw, max(0.0, target_kw - kw), skipped, len(chosen) == len(eligible))
