"""The one codec of the engine: every payload is JSON, made once and from then on carried as bytes.

A value is encoded where it is handed over (so that the error names the place), and decoded again for each receiver: no
two parties ever share a mutable object, and what an orchestrator sees live is what it would see at replay.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.durable.errors import LimitExceededError, NotSerializableError

# Any is confined to this module: a payload is whatever JSON can hold.
Json = Any
Raw = msgspec.Raw

MAX_PAYLOAD_BYTES = 1024 * 1024
MAX_CUSTOM_STATUS_BYTES = 16 * 1024

NULL = Raw(b"null")

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()
encode = _encoder.encode


def pack(value: Json, what: str, limit_bytes: int = MAX_PAYLOAD_BYTES) -> Raw:
    """JSON of a value.

    Errors: NotSerializableError for what JSON can't hold, LimitExceededError over limit_bytes; both name ``what``.
    """
    if value is None:
        return NULL
    try:
        data = _encoder.encode(value)
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise NotSerializableError(f"{what} can't be written as JSON: {error}") from error
    if len(data) > limit_bytes:
        raise LimitExceededError(f"{what} has {len(data)} bytes of JSON; the limit is {limit_bytes}")
    return Raw(data)


def unpack(raw: Raw) -> Json:
    """The value of a payload, a fresh object each time."""
    return None if raw is NULL else _decoder.decode(raw)
