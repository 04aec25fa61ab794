"""Status codes as values and as errors: asyncua's own constructors, with types."""

from __future__ import annotations

from asyncua import ua
from asyncua.ua.uaerrors import UaStatusCodeError


def bad(code: int) -> ua.StatusCode:
    """A status code."""
    return ua.StatusCode(ua.UInt32(code))


def fault(code: int) -> UaStatusCodeError:
    """An error that becomes this status code in the answer."""
    return UaStatusCodeError(code)  # type: ignore[no-untyped-call]


__all__ = ["UaStatusCodeError", "bad", "fault"]
