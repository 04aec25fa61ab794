"""A JSON value in a few words, for tables that people read. Pure; the exact value is always to be had elsewhere."""

from __future__ import annotations

import json
from collections import Counter

from gateway.clock import iso
from gateway.durable.codec import NULL, Json, Raw, unpack_plain

FEW = 4
"""Entries of an object or list that are told one by one; of more, the rest is counted."""


_FIRST_MOMENT_US = 10**14
"""A whole number of µs from here on is a moment (of 1973 or later), not a length of time."""
_NOTHING: tuple[Json, ...] = (None, "", [], {})


def preview(value: Json, width: int = 60) -> str:
    """At most width characters; nothing for null, an empty text, object or list.

    Many answers of few kinds (the outcomes of a mass command) are counted: ``9 done, 1 failed``.
    """
    text = _words(value, nested=False)
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def preview_raw(raw: Raw, width: int = 60) -> str:
    """As ``preview``, of a payload."""
    return "" if raw is NULL else preview(unpack_plain(raw), width)


def _words(value: Json, nested: bool) -> str:
    if value in _NOTHING:
        return ""
    match value:
        case dict():
            return _object(value, nested)
        case list():
            return _list(value, nested)
        case float():
            return f"{value:.2f}".rstrip("0").rstrip(".")
        case str():
            return " ".join(value.split())
        case _:
            return json.dumps(value)


def _object(value: dict[str, Json], nested: bool) -> str:
    told = {key: one for key, one in value.items() if one not in _NOTHING}
    kinds = Counter(one for one in told.values() if isinstance(one, str))
    if len(told) > FEW and sum(kinds.values()) == len(told) and len(kinds) <= FEW:
        return ", ".join(f"{number} {word}" for word, number in kinds.most_common())
    if nested and len(told) > 2:
        return f"({len(told)} values)"
    text = ", ".join(_pair(key, one) for key, one in told.items())
    return f"({text})" if nested and text else text


def _pair(key: str, value: Json) -> str:
    if key.endswith("_us") and isinstance(value, int) and value >= _FIRST_MOMENT_US:
        return f"{key.removesuffix('_us')} {iso(value)}"
    return f"{key} {_words(value, nested=True)}"


def _list(value: list[Json], nested: bool) -> str:
    first = [_words(one, nested=True) for one in value[:FEW]]
    more = len(value) - len(first)
    text = ", ".join(first) + (f" and {more} more" if more > 0 else "")
    return f"[{text}]" if nested else text
