"""The part of the story that the breakers tell: outcomes, outages, evidence."""

from __future__ import annotations

import msgspec

from gateway.durable.codec import Json
from gateway.shedding.breaker_model import Breaker, Phase, Result
from gateway.shedding.field import Field
from gateway.shedding.report import FeederOutcome, FeederState, Outage, Proof, Verdict
from protocols.base import Position


def touched(state: Breaker, from_us: int) -> bool:
    return state.phase is not Phase.IDLE or any(ended.at_us >= from_us for ended in state.recent)


_STATES = {
    Result.DONE: FeederState.OPERATED,
    Result.FAILED: FeederState.FAILED,
    Result.REFUSED: FeederState.REFUSED,
    Result.EXPIRED: FeederState.REFUSED,
    Result.NOT_SENT: FeederState.REFUSED,
    Result.UNKNOWN: FeederState.UNKNOWN,
}


def outcome(site: Field, name: str, state: Breaker) -> FeederOutcome:
    feeder = site.feeders[name]
    tier = feeder.tier or "no tier"
    kw = state.shed.kw if state.shed is not None else feeder.rated_kw
    if state.phase is not Phase.IDLE:
        return FeederOutcome(name, tier, FeederState.UNKNOWN, kw, "its last command has no outcome yet")
    worst = next((e for e in reversed(state.recent) if e.result is not Result.DONE), None)
    last = worst or state.recent[-1]
    detail = f"{last.target.value}: {last.detail}" if worst is not None else last.detail
    return FeederOutcome(name, tier, _STATES[last.result], kw, detail)


def outages(site: Field, name: str, state: Breaker, from_us: int) -> list[Outage]:
    found: list[Outage] = []
    opened_us: int | None = None
    customers = site.feeders[name].customers
    for ended in state.recent:
        if ended.result is not Result.DONE or ended.at_us < from_us:
            continue
        if ended.target is Position.OPEN and opened_us is None:
            opened_us = ended.at_us
        elif ended.target is Position.CLOSED and opened_us is not None:
            found.append(Outage(name, opened_us, ended.at_us, customers))
            opened_us = None
    if opened_us is not None:
        closed_us = None if state.position is Position.OPEN else state.observed_us
        found.append(Outage(name, opened_us, closed_us, customers))
    return found


def proofs(states: dict[str, Breaker]) -> tuple[Proof, ...]:
    intents = sum(state.intents for state in states.values())
    unresolved = [name for name, state in states.items() if state.phase is not Phase.IDLE]
    still = [name for name, state in states.items() if state.shed is not None and state.position is Position.OPEN]
    return (
        Proof("Commands in the journal (intents to operate)", str(intents), Verdict.NOTE),
        Proof(
            "Commands without an outcome",
            str(len(unresolved)) + (f": {', '.join(unresolved[:5])}" if unresolved else ""),
            Verdict.FAILS if unresolved else Verdict.HOLDS,
        ),
        Proof("Feeders still shed", str(len(still)), Verdict.NOTE),
    )


def parse_proofs(given: Json) -> list[Proof]:
    """Rows of evidence from a request: ``[{"name", "value", "verdict": "holds" | "fails" | "note"}]``.

    Errors: ValueError.
    """
    if given is None:
        return []
    try:
        rows = msgspec.convert(given, list[dict[str, str]])
        if len(rows) > 100:
            raise ValueError("at most 100 proofs")
        return [Proof(row["name"][:200], row["value"][:400], Verdict(row["verdict"])) for row in rows]
    except (msgspec.ValidationError, KeyError) as error:
        raise ValueError(f"proofs is a list of objects with name, value and verdict: {error}") from error
