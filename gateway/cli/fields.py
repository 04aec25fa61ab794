"""Reading a result of the daemon without trusting its shape, and writing numbers and times for people.

What must stay true: a result that lacks something, or has it in another type (a daemon of another version), is shown
with a ``?`` in that place; it never ends in a traceback. ``--json`` shows results as they came.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from gateway.control_client import JsonValue

MISSING = "?"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


class Fields:
    """A JSON object, read by key with the type that is expected there."""

    __slots__ = ("_values",)

    def __init__(self, value: JsonValue) -> None:
        self._values: Mapping[str, JsonValue] = value if isinstance(value, Mapping) else {}

    def __bool__(self) -> bool:
        return bool(self._values)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def raw(self, key: str) -> JsonValue:
        """What is there, or None."""
        return self._values.get(key)

    def text(self, key: str) -> str:
        """The text or number there, ``?`` when it is missing, ``-`` when it is null or empty."""
        if key not in self._values:
            return MISSING
        return plain(self._values[key])

    def number(self, key: str) -> float | None:
        """The number there, or None."""
        value = self._values.get(key)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    def flag(self, key: str) -> bool:
        """True if it says true."""
        return self._values.get(key) is True

    def part(self, key: str) -> Fields:
        """The object there; an empty one when there is none."""
        return Fields(self._values.get(key))

    def parts(self, key: str) -> list[Fields]:
        """The list of objects there; empty when there is none."""
        value = self._values.get(key)
        if not isinstance(value, Sequence) or isinstance(value, str):
            return []
        return [Fields(entry) for entry in value]

    def texts(self, key: str) -> list[str]:
        """The list of texts there; empty when there is none."""
        value = self._values.get(key)
        if not isinstance(value, Sequence) or isinstance(value, str):
            return []
        return [plain(entry) for entry in value]


def plain(value: JsonValue) -> str:
    """One JSON value as a person reads it, without control characters (they could redraw the terminal)."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def count(value: float | None, unit: str = "") -> str:
    """A whole number in groups of three with its unit: ``12 000 kW``."""
    if value is None:
        return MISSING
    return f"{round(value):,}".replace(",", " ") + (f" {unit}" if unit else "")


def duration(seconds: float | None) -> str:
    """``6 min 12 s``, ``2 h 05 min``, ``3 d 4 h``; ``now`` for what is due."""
    if seconds is None:
        return MISSING
    whole = round(seconds)
    if whole <= 0:
        return "now"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def moment(text: str, day: str = "") -> str:
    """``14:32:10Z`` of an RFC 3339 time in UTC; with its date in front unless that is ``day`` (such as 2026-11-22)."""
    if len(text) < 19 or text[10] not in "Tt ":
        return text
    zone = text[19:].lstrip(".0123456789")
    shown = text[11:19] + ("Z" if zone in ("z", "+00:00") else zone)
    return shown if text[:10] == day else f"{text[:10]} {shown}"


def moment_us(value: JsonValue) -> str:
    """As ``moment``, of microseconds since 1970."""
    if not isinstance(value, int | float):
        return MISSING
    import datetime

    try:
        return moment(datetime.datetime.fromtimestamp(value / 1e6, datetime.UTC).isoformat())
    except (OverflowError, ValueError, OSError):
        return MISSING


def with_short_times(sentence: str, day: str = "") -> str:
    """A sentence with each RFC 3339 time in it shown as ``moment`` does."""
    return _TIME.sub(lambda found: moment(found[0], day), sentence)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()) -> list[str]:
    """Lines of an aligned table; ``right`` names the columns that are aligned to the right (numbers)."""
    body = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    to_right = [name in right for name in head]
    lines = []
    for row in [list(head), *body]:
        cells = [
            cell.rjust(width) if numeric else cell.ljust(width)
            for cell, width, numeric in zip(row, widths, to_right, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
