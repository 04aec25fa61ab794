"""The values of one breaker for operators: a row of its committed state, and what only the process image knows.

What must stay true: Pos is what was read and committed, and its quality is never better than that of the newest reading:
a stale position is not shown as good. What is not known is told as a null that is Bad, never as a made-up value. Pure:
there is nothing to lose in a crash.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from config.models import Feeder
from gateway.shedding.breaker_model import Breaker, Ended, Phase
from protocols.opcua.surface import Change, Grade, Sample, Scalar

_DBPOS = {"intermediate": 0, "open": 1, "closed": 2, "bad": 3}
_GRADES = {"good": Grade.GOOD, "uncertain": Grade.UNCERTAIN, "bad": Grade.BAD}
_BETTER = {Grade.GOOD: 2, Grade.UNCERTAIN: 1, Grade.BAD: 0}
_UNREAD = Breaker()

AGES_S = (5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 10_800.0, 21_600.0, 43_200.0, 86_400.0)
"""Ages that are told: 12,000 ages a second would be noise, and say no more."""
REASON_AT_MOST = 400


def dbpos(position: str) -> int | None:
    """IEC 61850's double point of a position; None for one that was never read."""
    return _DBPOS.get(position)


def grade_of(quality: str) -> Grade:
    """A quality as OPC UA says it."""
    return _GRADES[quality]


def worse(one: Grade, other: Grade) -> Grade:
    """The worse of two grades."""
    return one if _BETTER[one] <= _BETTER[other] else other


@lru_cache(maxsize=10_000, typed=True)
def sample(value: Scalar, grade: Grade = Grade.GOOD) -> Sample:
    """A sample without a time of its own; a null is Bad. 12,000 breakers have few different ones, so they share them."""
    return Sample(value, Grade.BAD if value is None else grade)


Row = tuple[Scalar, ...]
"""Values of a breaker's committed state, in the order of ``_COLUMNS``."""
_COLUMNS = (
    "Quality",
    "Commanded",
    "BlkOpn",
    "BlkCls",
    "Outcome",
    "Reason",
    "Intents",
    "LockedOut",
    "Pos",
    "Loc",
    "OpCnt",
)
_READ = _COLUMNS.index("Pos")
"""From here on values have the quality of the reading; what stands before them is this gateway's own, and good."""


@dataclass(frozen=True, slots=True)
class Told:
    """What operators were told of one breaker's committed state. time_us: when Pos was observed."""

    row: Row
    grade: Grade
    time_us: int


def committed(state: Breaker | None, image: Grade) -> Told:
    """What is to be told of a committed state (None: it has none yet); image: quality of the newest reading."""
    known = _UNREAD if state is None else state
    blocked = known.blocked
    row = (
        known.quality.value,
        None if known.commanded is None else dbpos(known.commanded.value),
        blocked is not None and blocked.open,
        blocked is not None and blocked.close,
        outcome(known),
        reason(known),
        known.intents,
        known.locked_out,
        dbpos(known.position.value),
        known.local,
        known.op_count,
    )
    return Told(row, worse(image, grade_of(known.quality.value)), known.observed_us)


def changes(key: str, told: Told | None, now: Told) -> Iterator[Change]:
    """What differs from what was told before; all of it where nothing was."""
    regraded = told is None or told.grade is not now.grade
    for n, name in enumerate(_COLUMNS):
        value = now.row[n]
        moved = told is None or told.row[n] != value or (name == "Pos" and told.time_us != now.time_us)
        if n < _READ:
            if moved:
                yield Change(key, name, sample(value))
        elif moved or regraded:
            at_us = now.time_us if name == "Pos" and value is not None else 0
            yield Change(key, name, Sample(value, now.grade, at_us) if at_us else sample(value, now.grade))


def outcome(state: Breaker) -> str:
    """How the last command ended, or where it is; empty if there was none."""
    match state.phase:
        case Phase.IDLE:
            return state.last.result.value if state.last is not None else ""
        case Phase.OPERATING:
            return "operating"
        case _:
            return "unknown"


def reason(state: Breaker) -> str:
    """Who gave the last command, why or what became of it; and who blocks it."""
    words = []
    command, last, blocked = state.command, state.last, state.blocked
    if command is not None:
        words.append(f"{_verb(command.target.value)} by {command.actor or command.procedure}: {command.reason}")
    elif last is not None:
        words.append(_of_ended(last))
    if blocked is not None:
        words.append(f"blocked by {blocked.actor}: {blocked.reason}")
    return "; ".join(words)[:REASON_AT_MOST]


def _of_ended(last: Ended) -> str:
    return f"{_verb(last.target.value)} by {last.actor or last.procedure}: {last.detail or last.result.value}"


def _verb(target: str) -> str:
    return "open" if target == "open" else "close"


def of_site(key: str, feeder: Feeder) -> Iterator[Change]:
    """What the site's files say of a breaker."""
    shed = feeder.sheddable and feeder.tier is not None and not feeder.critical
    values: dict[str, Scalar] = {
        "Tier": feeder.tier or "",
        "Critical": feeder.critical,
        "Sheddable": shed,
        "Device": feeder.device,
    }
    for name, value in values.items():
        yield Change(key, name, sample(value))


def age_step(age_s: float | None, grade: Grade) -> float | None:
    """The age that is told: 0 for one that is read in time, else the step that was reached; None: never read."""
    if age_s is None:
        return None
    passed = 0 if grade is Grade.GOOD else bisect_right(AGES_S, age_s)
    return AGES_S[passed - 1] if passed else 0.0


def moved(told_kw: float | None, now_kw: float | None, rated_kw: float) -> bool:
    """Whether a load differs enough from the one that was told to be told again."""
    if told_kw is None or now_kw is None:
        return told_kw is not now_kw
    return abs(now_kw - told_kw) >= max(0.1, 0.01 * rated_kw)
