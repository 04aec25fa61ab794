"""What a procedure does, as events: made of two committed states of the substation, or of two custom statuses.

Pure: (before, after) → what to tell. What must stay true: each change is told once, and nothing that was there before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.durable.codec import Json
from gateway.shedding.conduct import EXPIRED, HOLD_OVER
from gateway.shedding.status import feeders
from gateway.shedding.substation import Substation
from protocols.opcua.surface import Value


@dataclass(frozen=True, slots=True)
class Telling:
    """An event to tell: its type, its sentence, its fields; severity 0: that of the type."""

    type: str
    message: str
    fields: Mapping[str, Value] = field(default_factory=dict)
    severity: int = 0


def of_station(before: Substation, after: Substation, site_mode: str) -> Iterator[Telling]:
    """What became of the substation; site_mode holds until somebody has set one."""
    was, now = before.running, after.running
    if was is not None and (now is None or now.instance != was.instance):
        yield _finished(was.instance, after)
    for record in fresh(before.consumed, after.consumed):
        yield consumed(record)
    if now is not None and (was is None or now.instance != was.instance):
        fields: dict[str, Value] = {"InstanceId": now.instance, "Reason": now.reason}
        yield Telling("ShedStarted", f"{now.instance} has started: {now.reason}", fields)
    modes = [site_mode if state.mode is None else state.mode.value for state in (before, after)]
    if modes[0] != modes[1]:
        words = {"Mode": modes[1], "Reason": after.last_note}
        yield Telling("ModeChanged", f"mode is {modes[1]}: {after.last_note}", words)


def _finished(instance: str, after: Substation) -> Telling:
    result = (after.last_result or {}) if after.last_ended == instance else {}
    status, reason = str(result.get("status", "ended")), str(result.get("reason", ""))
    opened, closed = _count(result.get("opened")), _count(result.get("closed"))
    fields: dict[str, Value] = {
        "InstanceId": instance,
        "Status": status,
        "Reason": reason,
        "Opened": opened,
        "Closed": closed,
        "PeakShedKw": _number(result.get("peak_shed_kw")),
        "StillShedKw": _number(result.get("still_shed_kw")),
    }
    words = f"{instance} has ended: {status}; {feeders(opened)} opened, {closed} closed again"
    return Telling("ShedFinished", words, fields)


def fresh(before: Sequence[Json], after: Sequence[Json]) -> Sequence[Json]:
    """What has come to a list that grows at its end and is cut at its beginning."""
    for gone in range(len(before) + 1):
        stays = before[gone:]
        if tuple(after[: len(stays)]) == tuple(stays):
            return after[len(stays) :]
    return after


def consumed(record: Mapping[str, Json]) -> Telling:
    """An override that was taken, or whose time was over."""
    outcome, step = str(record.get("outcome", "")), str(record.get("step", ""))
    expired = outcome in (EXPIRED, HOLD_OVER)
    fields: dict[str, Value] = {
        **override_fields(record, str(record.get("procedure", ""))),
        "Step": step,
        "Outcome": outcome,
    }
    words = f"{record.get('decision')} by {record.get('actor')}: {outcome} (step {step})"
    return Telling("OverrideExpired" if expired else "OverrideConsumed", words, fields)


def override_fields(record: Mapping[str, Json], instance: str) -> dict[str, Value]:
    """The fields that all events about an override have."""
    return {
        "InstanceId": instance,
        "Decision": str(record.get("decision", "")),
        "Actor": str(record.get("actor", "")),
        "Role": str(record.get("role", "")),
        "Reason": str(record.get("reason", "")),
    }


_ALIKE = {"stable": "watching"}
"""Around the limit these take turns at every look: that is one phase for people."""


@dataclass(slots=True)
class Phases:
    """Follows the custom statuses of one procedure. tiers: those that have been begun."""

    instance: str
    phase: str = ""
    tier: str = ""

    def look(self, status: Json) -> Iterator[Telling]:
        """A committed status; the same one may come again."""
        if not isinstance(status, dict):
            return
        phase, tier = str(status.get("phase", "")), str(status.get("tier") or "")
        phase = _ALIKE.get(phase, phase)
        sentence = str(status.get("sentence", ""))
        if phase == "shedding" and tier and (tier != self.tier or self.phase in ("watching", "restoring")):
            shed: dict[str, Value] = {
                "InstanceId": self.instance,
                "Tier": tier,
                "ShedKw": _number(status.get("shed_kw")),
            }
            yield Telling("TierShed", f"{self.instance} sheds tier {tier}: {sentence}", shed)
        if phase != self.phase:
            told: dict[str, Value] = {
                "InstanceId": self.instance,
                "Phase": phase,
                "Tier": tier,
                "Until": str(status.get("until") or ""),
            }
            yield Telling("PhaseChanged", f"{self.instance}: {sentence or phase}", told)
        if phase != "held":  # what comes after a hold is what was before it
            self.tier = tier if phase == "shedding" else self.tier
        self.phase = phase


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
