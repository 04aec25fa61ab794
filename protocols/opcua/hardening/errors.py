"""Status codes as values and as errors: asyncua's own constructors, with types."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from asyncua import ua
from asyncua.ua.uaerrors import UaStatusCodeError


def bad(code: int) -> ua.StatusCode:
    """A status code."""
    return ua.StatusCode(ua.UInt32(code))


def fault(code: int) -> UaStatusCodeError:
    """An error that becomes this status code in the answer."""
    return UaStatusCodeError(code)  # type: ignore[no-untyped-call]


def standard(number: int) -> ua.NodeId:
    """A node of OPC UA's own namespace."""
    return ua.NodeId(ua.Int32(number))


def stamped_value(value: Any, kind: ua.VariantType, moment: datetime) -> ua.DataValue:
    """A good value of this moment."""
    time: Any = moment
    return ua.DataValue(ua.Variant(value, kind), SourceTimestamp=time, ServerTimestamp=time)


__all__ = ["UaStatusCodeError", "bad", "fault", "stamped_value", "standard"]
