"""The one codec of the engine: every payload is JSON, made once and from then on carried as bytes.

A value is encoded where it is handed over (so that the error names the place), and decoded again for each receiver: no
two parties ever share a mutable object, and what an orchestrator sees live is what it would see at replay. Objects of an
author's own classes: see ``objects``.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from gateway.durable.errors import LimitExceededError, NotSerializableError
from gateway.durable.objects import CLASS, known, rebuilt, with_dataclasses_written, written

# Any is confined to this module: a payload is whatever JSON can hold.
Json = Any
Raw = msgspec.Raw

MAX_PAYLOAD_BYTES = 1024 * 1024
MAX_CUSTOM_STATUS_BYTES = 16 * 1024

NULL = Raw(b"null")

_encoder = msgspec.json.Encoder(enc_hook=written)
_decoder = msgspec.json.Decoder()
encode = _encoder.encode
# A search of the bytes where they are: `in` would copy them first.
_names_a_class = re.compile(f'"{CLASS}"'.encode()).search


def pack(value: Json, what: str, limit_bytes: int = MAX_PAYLOAD_BYTES) -> Raw:
    """JSON of a value.

    Errors: NotSerializableError for what JSON can't hold, LimitExceededError over limit_bytes; both name ``what``.
    """
    if value is None:
        return NULL
    try:
        data = _encoder.encode(with_dataclasses_written(value) if known.dataclasses else value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # those of the encoder, and whatever an author's to_json raises (SystemExit, too)
        raise NotSerializableError(f"{what} can't be written as JSON: {error}") from error
    if len(data) > limit_bytes:
        raise LimitExceededError(f"{what} has {len(data)} bytes of JSON; the limit is {limit_bytes}")
    return Raw(data)


def unpack(raw: Raw, what: str = "a payload") -> Json:
    """The value of a payload, a fresh object each time, with objects of the author's classes rebuilt.

    Errors: NotSerializableError, when one can't be; it names ``what``.
    """
    if raw is NULL:
        return None
    value = _decoder.decode(raw)
    kind = type(value)
    return rebuilt(value, what) if (kind is dict or kind is list) and _names_a_class(raw) else value


def unpack_plain(raw: Raw) -> Json:
    """The JSON of a payload as it stands: an object of an author's class is the dict that it was written as."""
    return None if raw is NULL else _decoder.decode(raw)
