"""The arguments of an operation: taken out of the JSON object of a request, checked, or refused in a plain sentence.

Each function raises ControlError (``bad_request``) that names the argument and what to write instead.
"""

from __future__ import annotations

from datetime import UTC, datetime

from gateway.control import Code, ControlError
from gateway.durable.codec import Json

PAGE_AT_MOST = 20_000
PAGE = 100
"""Rows of a list, at most and when nothing is said."""
TEXT_AT_MOST = 400
"""Characters of a reason, an actor, a name."""

Arguments = dict[str, Json]


def text(args: Arguments, key: str) -> str:
    """A text that must be there and says something."""
    value = args.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ControlError(Code.BAD_REQUEST, f"{key} is missing: give a text that is not empty")
    if len(value) > TEXT_AT_MOST:
        raise ControlError(Code.BAD_REQUEST, f"{key} has {len(value)} characters; {TEXT_AT_MOST} is the limit")
    return value


def optional(args: Arguments, key: str) -> str | None:
    """A text that may be left out; where it is given, it says something."""
    return None if args.get(key) is None else text(args, key)


def seconds(args: Arguments, key: str, default: float, least: float, most: float) -> float:
    """A number of seconds within these bounds, which both belong to it."""
    value = args.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ControlError(Code.BAD_REQUEST, f"{key} must be a number of seconds from {least:g} to {most:g}")
    return float(value)


def limit(args: Arguments) -> int:
    """How many rows a list may have."""
    value = args.get("limit", PAGE)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= PAGE_AT_MOST:
        raise ControlError(Code.BAD_REQUEST, f"limit must be a whole number from 1 to {PAGE_AT_MOST}")
    return value


def moment(args: Arguments, key: str) -> datetime | None:
    """A time that may be left out, as RFC 3339 or a date; UTC unless it says otherwise."""
    value = optional(args, key)
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        wanted = "write it as in 2026-01-14, or 2026-01-14T08:30:00Z"
        raise ControlError(Code.BAD_REQUEST, f"{key}: {value[:60]!r} is no time; {wanted}") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def who(args: Arguments) -> str:
    """Who acts: the name that was given, and the user of the connection where that is another one."""
    peer = args.get("_peer")
    user = peer.get("user", "") if isinstance(peer, dict) else ""
    actor = optional(args, "actor")
    if actor is None:
        return str(user) or "unknown"
    if not actor.isprintable():
        raise ControlError(Code.BAD_REQUEST, "actor holds characters that can't be printed: give a plain name")
    return actor if not user or actor == user else f"{actor} ({user})"


def role_of(args: Arguments) -> str:
    """The role in which somebody acts, as who let them in knows it; empty where there are no roles."""
    peer = args.get("_peer")
    return str(peer.get("role", "")) if isinstance(peer, dict) else ""
