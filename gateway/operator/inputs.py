"""Arguments of calls, checked: each function gives the value, or refuses it in a sentence that names the argument.

What must stay true: whatever a client sends, the answer is a sentence; nothing here raises anything but ControlError.
Pure; a crash changes nothing here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from gateway.control import Code, ControlError
from gateway.durable.codec import Json
from gateway.operations.arguments import TEXT_AT_MOST
from protocols.opcua.surface import Value

DATA_AT_MOST_BYTES = 64 * 1024
LIST_AT_MOST = 1_000


def _wrong(sentence: str) -> ControlError:
    return ControlError(Code.BAD_REQUEST, sentence)


def text(value: Value, name: str, most: int = TEXT_AT_MOST) -> str:
    """A text that says something."""
    found = optional(value, name, most)
    if not found:
        raise _wrong(f"{name} is missing: write a text that is not empty")
    return found


def optional(value: Value, name: str, most: int = TEXT_AT_MOST) -> str:
    """A text that may be empty; blanks around it are no part of it."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _wrong(f"{name} must be a text")
    found = value.strip()
    if len(found) > most:
        raise _wrong(f"{name} has {len(found)} characters; {most} is the limit")
    if not found.isprintable():
        raise _wrong(f"{name} must be printable text, in one line")
    return found


def number(value: Value, name: str) -> float | None:
    """A number; None for one that was not given (NaN)."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(f"{name} must be a number")
    try:
        found = float(value)
    except OverflowError:
        raise _wrong(f"{name} is too large") from None
    if math.isinf(found):
        raise _wrong(f"{name} must be finite")
    return None if math.isnan(found) else found


def texts(value: Value, name: str) -> list[str]:
    """A list of texts, which may be empty."""
    if value is None:
        return []
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise _wrong(f"{name} must be a list of texts")
    if len(value) > LIST_AT_MOST:
        raise _wrong(f"{name} has {len(value)} entries; {LIST_AT_MOST} is the limit")
    return [text(one, f"each of {name}") for one in value]


def data(value: Value, name: str) -> Json:
    """What a JSON text says; None for an empty one."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise _wrong(f"{name} must be a text with JSON")
    try:
        raw = value.encode()
        if len(raw) > DATA_AT_MOST_BYTES:
            limit = f"{DATA_AT_MOST_BYTES // 1024} KiB"
            raise ControlError(Code.TOO_LARGE, f"{name} has {len(raw)} bytes; {limit} is the limit")
        return msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise _wrong(f"{name} is no JSON: {str(error)[:200]}") from None
