"""What an operator may say to a running procedure, and how it is checked.

An override is an external event ``OperatorOverride`` with a JSON object::

    {"decision": "hold", "actor": "m.meier", "role": "OPERATOR", "reason": "crew",
     "expires": "2026-01-14T15:00:00Z", "id": "5f2c"}

What must stay true: an override that is not understood changes nothing and is answered with a sentence; one that
outlived its expiry is not acted on and said to be expired; who and why are always there. ``id`` is chosen by the sender,
who finds by it which step took the override. ``check`` runs at the edge
(command line, OPC UA method), where the sender gets the error; ``parse`` runs again in the procedure.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from gateway.clock import to_us

MAX_TEXT = 400
MAX_FEEDERS = 1000


class Decision(enum.StrEnum):
    """What is to happen.

    CANCEL: stop, leave as is. CANCEL_AND_RESTORE: stop shedding, restore in stages. HOLD: freeze all timers. RESUME: go
    on after a hold, timers with the time that was left. SKIP: end the present wait; with feeders: leave these out.
    FORCE_OPEN, FORCE_CLOSE: these feeders, now; interlocks outrank it.
    """

    CANCEL = "cancel"
    CANCEL_AND_RESTORE = "cancel-and-restore"
    HOLD = "hold"
    RESUME = "resume"
    SKIP = "skip"
    FORCE_OPEN = "force-open"
    FORCE_CLOSE = "force-close"


class OverrideError(ValueError):
    """The override can't be understood; the text says what is wrong and what to write."""


@dataclass(frozen=True, slots=True)
class Override:
    """A checked override. expires_us: engine time, 0 for never. id: the sender's own, empty without one."""

    decision: Decision
    actor: str
    role: str
    reason: str
    expires_us: int
    feeders: tuple[str, ...]
    id: str = ""

    def expired(self, now_us: int) -> bool:
        """True once it must not be acted on any more."""
        return 0 < self.expires_us <= now_us


def parse(data: object) -> Override:
    """Read an override.

    Errors: OverrideError with a sentence for people.
    """
    if not isinstance(data, Mapping):
        raise OverrideError(f"an override is an object with decision, actor and reason, not {type(data).__name__}")
    unknown = sorted(str(key) for key in data if key not in _KEYS)
    if unknown:
        raise OverrideError(f"unknown key {', '.join(unknown[:5])}; known are {', '.join(sorted(_KEYS))}")
    feeders = _feeders(data.get("feeders"))
    decision = _decision(data.get("decision"))
    if decision in (Decision.FORCE_OPEN, Decision.FORCE_CLOSE) and not feeders:
        raise OverrideError(f"{decision} needs feeders, a list of names")
    if feeders and decision not in (Decision.FORCE_OPEN, Decision.FORCE_CLOSE, Decision.SKIP):
        raise OverrideError(f"{decision} concerns the whole procedure and takes no feeders")
    actor = _text(data.get("actor"), "actor", required=True)
    role = _text(data.get("role"), "role", required=False)
    reason = _text(data.get("reason"), "reason", required=False)
    number = _text(data.get("id"), "id", required=False)
    return Override(decision, actor, role, reason, _expiry(data.get("expires")), feeders, number)


def check(data: object, now_us: int) -> Override:
    """As parse, at the edge: an override that has expired already is an error too."""
    override = parse(data)
    if override.expired(now_us):
        raise OverrideError("this override has expired already")
    return override


_KEYS = frozenset({"decision", "actor", "role", "reason", "expires", "feeders", "id"})


def _decision(value: object) -> Decision:
    try:
        return Decision(str(value).strip().lower().replace("_", "-"))
    except ValueError:
        raise OverrideError(f"unknown decision {str(value)[:60]!r}; write one of {', '.join(Decision)}") from None


def _text(value: object, name: str, required: bool) -> str:
    if value is None or value == "":
        if required:
            raise OverrideError(f"{name} is missing: say who decides")
        return ""
    if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
        raise OverrideError(f"{name} must be printable text of at most {MAX_TEXT} characters")
    return value


def _expiry(value: object) -> int:
    if value is None:
        return 0
    if not isinstance(value, str):
        raise OverrideError("expires must be a time like 2026-01-14T15:00:00Z")
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise OverrideError(f"expires {value[:40]!r} is not a time like 2026-01-14T15:00:00Z") from None
    if moment.tzinfo is None:
        raise OverrideError("expires needs a time zone: write 2026-01-14T15:00:00Z")
    return to_us(moment)


def _feeders(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(name, str) and 0 < len(name) <= 200 for name in value):
        raise OverrideError("feeders must be a list of names")
    if len(value) > MAX_FEEDERS:
        raise OverrideError(f"an override takes at most {MAX_FEEDERS} feeders")
    return tuple(dict.fromkeys(value))
