"""The one codec of the engine: every payload is JSON, made once and from then on carried as bytes.

A value is encoded where it is handed over (so that the error names the place), and decoded again for each receiver: no
two parties ever share a mutable object, and what an orchestrator sees live is what it would see at replay. Objects of an
author's own classes: see ``objects``.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from gateway.durable.errors import LimitExceededError, NotSerializableError, words_of
from gateway.durable.objects import CLASS, known, rebuilt, with_dataclasses_written, written

# Any is confined to this module: a payload is whatever JSON can hold.
Json = Any
Raw = msgspec.Raw

MAX_PAYLOAD_BYTES = 1024 * 1024
MAX_CUSTOM_STATUS_BYTES = 16 * 1024
MAX_TURN_BYTES = 64 * 1024 * 1024
"""Of all that one turn hands over, and of the events that an execution leaves to the next: it is journaled in one piece."""

MAX_NESTING = 300
"""Levels of a value. Each takes one of those that Python allows on its stack, wherever the value is written or read."""

NULL = Raw(b"null")

_FLAT = frozenset((str, int, bool, type(None)))
"""What needs no second look."""

_encoder = msgspec.json.Encoder(enc_hook=written)
_decoder = msgspec.json.Decoder()
_strings = re.compile(rb'"(?:[^"\\]|\\.)*"')
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_skim = msgspec.json.Decoder(Raw).decode
encode = _encoder.encode
# A search of the bytes where they are: `in` would copy them first.
_names_a_class = re.compile(f'"{CLASS}"'.encode()).search


What = str | Callable[[], str]
"""What is written or read, for errors: words, or what makes them, where time is short."""


def _told(what: What) -> str:
    return what if isinstance(what, str) else what()


def pack(value: Json, what: What, limit_bytes: int = MAX_PAYLOAD_BYTES) -> Raw:
    """JSON of a value.

    Errors: NotSerializableError for what JSON can't hold, LimitExceededError over limit_bytes or nested too deep; both name
    ``what``.
    """
    if value is None:
        return NULL
    try:
        data = _encoder.encode(with_dataclasses_written(value) if known.dataclasses else value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # those of the encoder, and whatever an author's to_json raises (SystemExit, too)
        raise NotSerializableError(f"{_told(what)} can't be written as JSON: {words_of(error)}") from error
    if len(data) > limit_bytes:
        raise LimitExceededError(f"{_told(what)} has {len(data)} bytes of JSON; the limit is {limit_bytes}")
    if type(value) in _FLAT:
        return Raw(data)
    if data.find(b"null") >= 0 and (number := _number_without_words(value)) is not None:
        raise NotSerializableError(f"{_told(what)} can't be written as JSON, which has no {number}")
    if (
        len(data) > MAX_NESTING
        and data.count(b"[") + data.count(b"{") > MAX_NESTING
        and not _is_shallow(data)
        and (levels := _levels(data)) > MAX_NESTING
    ):
        raise LimitExceededError(f"{_told(what)} is nested {levels} levels deep; the limit is {MAX_NESTING}")
    return Raw(data)


def _number_without_words(value: Json) -> float | None:
    """A NaN or an infinity in plain data or structs: the encoder writes null for it, and the receiver would never know."""
    rest = [value]
    for here in rest:  # which grows meanwhile
        kind = type(here)
        if kind is dict:
            items = here.values()
        elif kind is list or kind is tuple:
            items = here
        elif kind is float:
            items = (here,)
        elif isinstance(here, msgspec.Struct):
            items = [getattr(here, field) for field in here.__struct_fields__]
        else:
            continue
        for item in items:
            kind = type(item)
            if kind is float:
                if not math.isfinite(item):
                    return item  # type: ignore[no-any-return]
            elif kind not in _FLAT:
                rest.append(item)
    return None


def _is_shallow(data: bytes) -> bool:
    """True only within MAX_NESTING, and soon known: every level takes one of those that Python allows on its stack."""
    rest = sys.getrecursionlimit() - MAX_NESTING
    try:
        _skim(rest * b"[" + data + rest * b"]")
    except RecursionError:
        return False
    return True


def _levels(data: bytes) -> int:
    """How deep this JSON is nested, counted one by one."""
    deepest = level = 0
    for bracket in _strings.sub(b"", data).translate(None, _ALL_BUT_BRACKETS):
        level += 1 if bracket in b"[{" else -1
        deepest = max(deepest, level)
    return deepest


def unpack(raw: Raw, what: What = "a payload") -> Json:
    """The value of a payload, a fresh object each time, with objects of the author's classes rebuilt.

    Errors: NotSerializableError, when one can't be; it names ``what``.
    """
    if raw is NULL:
        return None
    value = _decoder.decode(raw)
    kind = type(value)
    return rebuilt(value, _told(what)) if (kind is dict or kind is list) and _names_a_class(raw) else value


def unpack_plain(raw: Raw) -> Json:
    """The JSON of a payload as it stands: an object of an author's class is the dict that it was written as."""
    return None if raw is NULL else _decoder.decode(raw)
