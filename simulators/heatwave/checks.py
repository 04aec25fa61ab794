"""What has to be true in the end, judged from the breakers' own counters and from what the gateway wrote down.

Pure: evidence in, verdicts out. The simulator counted for itself all the time, also while the gateway was dark, so it is
the witness; the gateway's figures are those of its journaled state.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from simulators.client import Command, Counters

LIMIT_PCT = 98.0
SHOWN = 5
MOVED_ONCE = frozenset({"moved", "stuck", "refused"})
"""Verdicts of a command that was the first of its kind; any other means that it was sent again or against a travel."""


class Verdict(enum.StrEnum):
    """As the event report has it."""

    HOLDS = "holds"
    FAILS = "fails"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Check:
    """One statement, its figures, and whether it holds."""

    name: str
    value: str
    verdict: Verdict


@dataclass(slots=True)
class Evidence:
    """All that was gathered. Times are ISO texts; counters and intents by feeder.

    faults: feeder → what was done to it. silenced: feeders of RTUs that were silent for a while. untold: feeder → how
    many intents the gateway says never left it. told: feeder → outcome of its last command, as the gateway lists it.
    timer_fired: when the timer fired, where it came due in the dark. sessions: that the operator's OPC UA client had
    when the gateway was back. session: who was logged in at the hold.
    """

    feeders: int
    critical: Collection[str]
    counters: Mapping[str, Counters]
    commands: list[Command]
    intents: Mapping[str, int]
    unsent: Mapping[str, int] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)
    told: Mapping[str, str] = field(default_factory=dict)
    silenced: Collection[str] = ()
    timer_before: str = ""
    timer_after: str = ""
    timer_fired: str = ""
    moved_while_dark: Collection[str] = ()
    dark_s: float = 0.0
    reconciled: str = ""
    tiers: tuple[str, ...] = ()
    stages: int = 0
    highest_restoring_pct: float = 0.0
    hold: str = ""
    hold_ok: bool = False
    session: str = ""
    session_ok: bool = False
    sessions: int = 0
    result: Mapping[str, object] = field(default_factory=dict)
    audit_ok: bool = False
    audit: str = ""


def stages(commands: list[Command], apart_s: float) -> int:
    """How many groups of close commands there were, at least apart_s of grid time from one to the next."""
    times = sorted(datetime.fromisoformat(one.sim_time) for one in commands if one.command == "close")
    return sum(1 for i, at in enumerate(times) if i == 0 or (at - times[i - 1]).total_seconds() >= apart_s)


def moved_between(changed: Collection[str], commands: Sequence[Command], cut_at: float, known_at: float) -> list[str]:
    """Of feeders whose counters changed since the power went, those that were commanded before the field was known again,
    or moved without a command. Times: Unix seconds."""
    early = {one.feeder for one in commands if cut_at <= one.wall_s <= known_at}
    late = {one.feeder for one in commands if one.wall_s > known_at}
    return [feeder for feeder in changed if feeder in early or feeder not in late]


def judge(evidence: Evidence) -> list[Check]:
    """All checks, in the order of the story."""
    return [
        _shed(evidence),
        _timer(evidence),
        _still(evidence),
        _reconciled(evidence),
        _override(evidence),
        _session(evidence),
        _commands(evidence),
        _no_double(evidence),
        _closed_again(evidence),
        _faults_told(evidence),
        _critical(evidence),
        _rebound(evidence),
        _ended(evidence),
        Check("The journal's hash chain is whole", evidence.audit, _verdict(evidence.audit_ok)),
    ]


def _verdict(holds: bool) -> Verdict:
    return Verdict.HOLDS if holds else Verdict.FAILS


def names(feeders: Collection[str]) -> str:
    """Some names, and how many more."""
    shown = sorted(feeders)[:SHOWN]
    rest = len(feeders) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def _shed(evidence: Evidence) -> Check:
    opened = sum(1 for one in evidence.counters.values() if one.operations)
    value = f"{opened:,} of {evidence.feeders:,} breakers opened, {' then '.join(evidence.tiers) or 'no tier'}"
    return Check("Stress was answered by shedding", value, _verdict(opened > 0 and bool(evidence.tiers)))


def _timer(evidence: Evidence) -> Check:
    before, fired = evidence.timer_before, evidence.timer_fired
    same = bool(before) and before == evidence.timer_after and (not fired or fired >= before)
    value = f"due {before or 'unknown'} before and {evidence.timer_after or 'unknown'} after"
    value += f"; it came due in the dark and fired at {fired}" if fired else ""
    return Check("The cooldown went on where it was", value, _verdict(same))


def _still(evidence: Evidence) -> Check:
    moved = evidence.moved_while_dark
    value = f"{len(moved)} breakers commanded or moved in {evidence.dark_s:.1f} s without power and the restart"
    value += f": {names(moved)}" if moved else ""
    return Check("Nothing moved while the gateway was dark", value, _verdict(not moved))


def _reconciled(evidence: Evidence) -> Check:
    whole = evidence.reconciled == f"{evidence.feeders} breakers as last known"
    return Check("After the restart all was as known", evidence.reconciled or "not told", _verdict(whole))


def _override(evidence: Evidence) -> Check:
    return Check("The operator's hold was taken once", evidence.hold or "not told", _verdict(evidence.hold_ok))


def _session(evidence: Evidence) -> Check:
    holds = evidence.session_ok and evidence.sessions > 1
    value = f"{evidence.session or 'not told'}; {evidence.sessions} sessions, the last one opened after the power loss"
    return Check("It came by OPC UA, from a user's own session", value, _verdict(holds))


def differences(evidence: Evidence) -> dict[str, int]:
    """Feeder → commands that the journal intended less those that its breaker received, where they differ."""
    found: dict[str, int] = {}
    for feeder in evidence.counters.keys() | evidence.intents.keys():
        one = evidence.counters.get(feeder)
        received = one.open_commands + one.close_commands + one.refused if one else 0
        if evidence.intents.get(feeder, 0) != received:
            found[feeder] = evidence.intents.get(feeder, 0) - received
    return found


def _commands(evidence: Evidence) -> Check:
    odd = differences(evidence)
    unsent = {feeder for feeder, more in odd.items() if 0 < more <= evidence.unsent.get(feeder, 0)}
    swallowed = {feeder for feeder, more in odd.items() if more > 0 and feeder in evidence.silenced} - unsent
    wrong = odd.keys() - unsent - swallowed
    intended = sum(evidence.intents.values())
    received = sum(one.open_commands + one.close_commands + one.refused for one in evidence.counters.values())
    value = f"{intended:,} intended, {received:,} received"
    if unsent:
        value += f"; {sum(odd[f] for f in unsent)} never left the gateway, as its journal says"
    if swallowed:
        value += f"; {sum(odd[f] for f in swallowed)} went to an RTU that was silent"
    if wrong:
        value += f"; not explained: {', '.join(f'{f} {odd[f]:+d}' for f in sorted(wrong)[:SHOWN])} ({len(wrong)})"
    return Check("Each breaker received what the journal intended", value, _verdict(not wrong))


def _no_double(evidence: Evidence) -> Check:
    again = [one for one in evidence.commands if one.verdict not in MOVED_ONCE]
    operations = sum(one.operations for one in evidence.counters.values())
    most = max((one.operations for one in evidence.counters.values()), default=0)
    value = f"{operations:,} operations, at most {most} of one breaker, {len(again)} commands sent in vain or twice"
    value += f": {names({one.feeder for one in again})}" if again else ""
    return Check("No breaker was operated twice", value, _verdict(not again))


def _closed_again(evidence: Evidence) -> Check:
    still_open = {feeder for feeder, one in evidence.counters.items() if one.position != "closed"}
    unexplained = still_open - evidence.faults.keys()
    operated = sum(1 for one in evidence.counters.values() if one.operations)
    value = f"{operated - len(still_open):,} closed again"
    value += f"; still open: {', '.join(_fault(evidence, f) for f in sorted(still_open)[:SHOWN])}" if still_open else ""
    value += f" and {len(still_open) - SHOWN} more" if len(still_open) > SHOWN else ""
    return Check("Everything was given back, save what is broken", value, _verdict(not unexplained))


def _fault(evidence: Evidence, feeder: str) -> str:
    return f"{feeder} ({evidence.faults.get(feeder, 'no fault is known')})"


def _faults_told(evidence: Evidence) -> Check:
    parts, hidden = [], []
    slow = {feeder for feeder, what in evidence.faults.items() if what == "slow"}
    met = {one.feeder for one in evidence.commands if one.verdict in ("stuck", "refused") or one.feeder in slow}
    for feeder, what in sorted(evidence.faults.items()):
        if feeder not in met:
            parts.append(f"{feeder} {what}: no command met it")
            continue
        told = evidence.told.get(feeder, "nothing")
        parts.append(f"{feeder} {what}: {told}")
        if (told == "done") != (what == "slow") or told == "nothing":
            hidden.append(feeder)
    return Check("Broken breakers are told", "; ".join(parts) or "no fault was played", _verdict(not hidden))


def _critical(evidence: Evidence) -> Check:
    touched = [
        feeder
        for feeder in evidence.critical
        if (one := evidence.counters.get(feeder)) and (one.operations or one.open_commands or one.close_commands)
    ]
    value = f"{len(touched)} of {len(evidence.critical):,} commanded or moved" + (
        f": {names(touched)}" if touched else ""
    )
    return Check("No critical feeder was touched", value, _verdict(not touched))


def _rebound(evidence: Evidence) -> Check:
    holds = evidence.stages > 1 and 0 < evidence.highest_restoring_pct < LIMIT_PCT
    highest = f"{evidence.highest_restoring_pct:.2f} %"
    value = f"{evidence.stages} stages; load at most {highest} meanwhile, limit {LIMIT_PCT:g} %"
    return Check("Given back in stages, without a rebound", value, _verdict(holds))


def _ended(evidence: Evidence) -> Check:
    result = evidence.result
    status = str(result.get("status", "did not end"))
    broken = bool(evidence.faults)
    value = f"{status}: {result.get('opened', '?')} opened, {result.get('closed', '?')} closed"
    if result.get("not_closed"):
        value += f", not closed: {', '.join(map(str, _list(result['not_closed'])[:SHOWN]))}"
    return Check("The procedure ended", value, _verdict(status == "restored" or (status == "incomplete" and broken)))


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
