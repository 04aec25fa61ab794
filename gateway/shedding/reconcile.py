"""After a restart: what the breakers are, against what they were known to be.

Pure. The daemon reads every breaker while outputs are held and hands the readings over together with the entities' last
states; what comes back decides whether procedures go on by themselves (``may_continue``) and what an operator is told.
What must stay true: nothing is counted as matching that was not read with good quality.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from config.models import AfterRestart
from gateway.shedding.breaker_model import Breaker, Phase
from protocols.base import BreakerReading, Position, Quality


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Feeders by finding, each in the order of names.

    matched: as last known. first_seen: never known before. moved: elsewhere than last known, with no command of ours
    that explains it. unreadable: no good reading. unresolved: a command of ours has no outcome yet; readback decides.
    """

    matched: int
    first_seen: int
    moved: tuple[str, ...]
    unreadable: tuple[str, ...]
    unresolved: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """True when no breaker is elsewhere than it should be; commands under way are being resolved anyway."""
        return not self.moved and not self.unreadable

    @property
    def sentence(self) -> str:
        """One line for people."""
        parts = [f"{self.matched} breakers as last known"]
        if self.first_seen:
            parts.append(f"{self.first_seen} seen for the first time")
        for words, names in (
            ("moved meanwhile", self.moved),
            ("not readable", self.unreadable),
            ("with an unresolved command", self.unresolved),
        ):
            if names:
                shown = ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
                parts.append(f"{len(names)} {words} ({shown})")
        return "; ".join(parts)


def reconcile(known: Mapping[str, Breaker], readings: Mapping[str, BreakerReading]) -> Reconciliation:
    """Compare. readings holds every feeder of the site; known those that have an entity."""
    matched = first_seen = 0
    moved: list[str] = []
    unreadable: list[str] = []
    unresolved: list[str] = []
    for feeder in sorted(readings):
        reading = readings[feeder]
        state = known.get(feeder)
        if state is not None and state.phase is not Phase.IDLE:
            unresolved.append(feeder)
        elif reading.quality is not Quality.GOOD or reading.position is Position.UNKNOWN:
            unreadable.append(feeder)
        elif state is None or state.position is Position.UNKNOWN:
            first_seen += 1
        elif state.position is reading.position:
            matched += 1
        else:
            moved.append(feeder)
    return Reconciliation(matched, first_seen, tuple(moved), tuple(unreadable), tuple(unresolved))


def may_continue(policy: AfterRestart, found: Reconciliation, in_procedure: bool) -> bool:
    """True if procedures may go on without an operator."""
    if not in_procedure or policy is AfterRestart.CONTINUE:
        return True
    return policy is AfterRestart.CONTINUE_IF_CLEAN and found.clean
