"""Kinds of values: one check for each, used alike for TOML values and for the text of CSV cells.

``of_value`` takes what TOML gave, ``of_text`` takes a cell; both return a value that the models accept or raise
``Wrong``. What must stay true: no number leaves here that is not finite and inside of its stated range.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, time
from typing import Protocol

from config.problems import Wrong, shorten, unknown

_YES = frozenset({"yes", "true", "1"})
_NO = frozenset({"no", "false", "0"})
_PLAIN_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?")
NAME_PATTERN = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Kind(Protocol):
    """How a value is checked."""

    def of_value(self, value: object) -> object:
        """Check a value of TOML."""

    def of_text(self, text: str) -> object:
        """Check the text of a cell; it is never empty."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number from low to high; above: low itself is too little. whole: no fraction."""

    low: float
    high: float
    unit: str = ""
    above: bool = False
    whole: bool = False

    def of_value(self, value: object) -> float | int:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Wrong(f"{shorten(value)} is no number", self.range())
        if self.whole and not isinstance(value, int):
            raise Wrong(f"{shorten(value)} is not a whole number", self.range())
        # NaN fails each comparison, so it can't slip through; int against float compares exactly.
        if not (self.low < value if self.above else self.low <= value) or not value <= self.high:
            raise Wrong(f"{shorten(value)} is out of range", self.range())
        return value if self.whole else float(value)

    def of_text(self, text: str) -> float | int:
        if _PLAIN_NUMBER.fullmatch(text) is None:
            raise Wrong(f"{shorten(text)} is no number", self.range())
        number = float(text)
        if self.whole:
            if not math.isfinite(number) or number != int(number) or "." in text or "e" in text.lower():
                raise Wrong(f"{shorten(text)} is not a whole number", self.range())
            return self.of_value(int(text))
        return self.of_value(number)

    def range(self) -> str:
        """The range in words, with the unit."""
        kind = "a whole number" if self.whole else "a number"
        low = f"above {self.low:g}" if self.above else f"from {self.low:g}"
        return f"{kind} {low} to {self.high:g}" + (f" ({self.unit})" if self.unit else "")


@dataclass(frozen=True, slots=True)
class Flag:
    """true or false; in cells also yes, no, 1, 0."""

    def of_value(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise Wrong(f"{shorten(value)} is neither true nor false", "true or false")
        return value

    def of_text(self, text: str) -> bool:
        word = text.lower()
        if word in _YES or word in _NO:
            return word in _YES
        raise Wrong(f"{shorten(text)} is neither yes nor no", "yes or no")


@dataclass(frozen=True, slots=True)
class Text:
    """Printable text of a bounded length, without spaces at its ends. empty: it may be empty."""

    limit: int = 64
    empty: bool = False

    def of_value(self, value: object) -> str:
        if not isinstance(value, str):
            raise Wrong(f"{shorten(value)} is no text", f'text in quotes, such as "{str(value)[:20]}"')
        return self.of_text(value)

    def of_text(self, text: str) -> str:
        if not text and not self.empty:
            raise Wrong("the text is empty", f"1 to {self.limit} characters")
        if len(text) > self.limit:
            raise Wrong(f"{shorten(text)} has {len(text)} characters", f"at most {self.limit} characters")
        if not text.isprintable() or text != text.strip():
            raise Wrong(f"{shorten(text)} has control characters, or spaces at its ends", repr(" ".join(text.split())))
        return text


@dataclass(frozen=True, slots=True)
class Uri:
    """A URI: a scheme and something behind it, without spaces."""

    def of_value(self, value: object) -> str:
        if not isinstance(value, str):
            raise Wrong(f"{shorten(value)} is no URI", '"urn:your-utility:gridlatch:riverside"')
        return self.of_text(value)

    def of_text(self, text: str) -> str:
        if len(text) > 255 or re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+", text) is None:
            raise Wrong(f"{shorten(text)} is no URI", '"urn:your-utility:gridlatch:riverside"')
        return text


@dataclass(frozen=True, slots=True)
class Name:
    """A name that is typed on command lines and stands in journal keys: letters, digits and ``_ . -``."""

    def of_value(self, value: object) -> str:
        if not isinstance(value, str):
            raise Wrong(f"{shorten(value)} is no name", "a name in quotes")
        return self.of_text(value)

    def of_text(self, text: str) -> str:
        if NAME_PATTERN.fullmatch(text) is None:
            suggestion = re.sub(r"[^A-Za-z0-9_.-]+", "_", text)[:64].strip("_") or "feeder_1"
            raise Wrong(f"{shorten(text)} can't be a name", f"{suggestion} (1 to 64 characters of A-Z a-z 0-9 _ . -)")
        return text


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words, or the member of an enum that has this word as its value."""

    words: Iterable[str]

    def of_value(self, value: object) -> str:
        if not isinstance(value, str):
            raise Wrong(
                f"{shorten(value)} is none of the words allowed here", " or ".join(f'"{w}"' for w in self.words)
            )
        return self.of_text(value)

    def of_text(self, text: str) -> str:
        for word in self.words:
            if text == word:
                return word
        raise Wrong(f"{shorten(text)} is none of the words allowed here", unknown(text, self.words))


@dataclass(frozen=True, slots=True)
class FileMode:
    """Permissions of a file as octal text, "0660". Others than owner and group can't be let in."""

    def of_value(self, value: object) -> int:
        if not isinstance(value, str):
            raise Wrong(f"{shorten(value)} is no file mode", 'octal digits in quotes, such as "0660"')
        return self.of_text(value)

    def of_text(self, text: str) -> int:
        if re.fullmatch(r"0?[0-7]{3}", text) is None:
            raise Wrong(f"{shorten(text)} is no file mode", 'octal digits in quotes, such as "0660"')
        mode = int(text, 8)
        if mode & 0o007 or mode & 0o600 != 0o600:
            raise Wrong(f"{shorten(text)} lets everybody in, or keeps the owner out", '"0600" or "0660"')
        return mode


@dataclass(frozen=True, slots=True)
class Moment:
    """A date and time with its offset from UTC."""

    def of_value(self, value: object) -> datetime:
        if not isinstance(value, datetime) or value.tzinfo is None:
            raise Wrong(
                f"{shorten(str(value))} is no moment in time", "date, time and offset: 2014-01-16T12:00:00+11:00"
            )
        return value

    def of_text(self, text: str) -> datetime:
        try:
            return self.of_value(datetime.fromisoformat(text))
        except ValueError:
            raise Wrong(f"{shorten(text)} is no moment in time", "2014-01-16T12:00:00+11:00") from None


@dataclass(frozen=True, slots=True)
class TimeOfDay:
    """A time of day as ``"HH:MM"``, or as TOML writes it; UTC."""

    def of_value(self, value: object) -> time:
        if isinstance(value, time):
            return value
        if not isinstance(value, str):
            raise Wrong(f"{shorten(value)} is no time of day", '"03:30" (UTC)')
        return self.of_text(value)

    def of_text(self, text: str) -> time:
        if re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", text, re.ASCII) is None:
            raise Wrong(
                f"{shorten(text)} is no time of day", '"03:30" (hours and minutes from "00:00" to "23:59", UTC)'
            )
        return time.fromisoformat(text)


@dataclass(frozen=True, slots=True)
class Words:
    """A list of texts, at most limit of them."""

    limit: int = 32

    def of_value(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise Wrong(f"{shorten(value)} is no list of texts", '["one", "two"]')
        if len(value) > self.limit:
            raise Wrong(f"the list has {len(value)} entries", f"at most {self.limit}")
        return tuple(Text(limit=255).of_text(item) for item in value)

    def of_text(self, text: str) -> tuple[str, ...]:
        return self.of_value(text.split())
