"""Values and arguments, between the gateway's words and OPC UA's: types, status codes, time-stamps, nulls.

What must stay true: a value goes out as the type that its variable declares or as a null, never as something near it; an
argument is taken as the type that its method declares and is never converted. Pure: no I/O, no clock.

A null: texts have a null of their own type. Numbers and truth values have none in OPC UA, and times only one that people
read as the year 1601, so these go out as the empty variant. Bad values carry no value at all (that is OPC UA's rule).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import cast

from asyncua import ua
from asyncua.ua.uaerrors import UaStatusCodeError

from protocols.opcua.surface import Argument, DataType, Grade, Sample, Status, Value, Variable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INT32 = (-(2**31), 2**31 - 1)
_US_MIN, _US_MAX = -11_644_473_600_000_000, 253_402_300_799_999_999
"""1601 and 9999: outside of these a DateTime is OPC UA's "not given"."""

DBPOS_NAMES = ("intermediate", "open", "closed", "bad")
"""Names of double points 0 to 3 as people read them (IEC 61850: intermediate-state, off, on, bad-state)."""


def standard(number: int) -> ua.NodeId:
    """The NodeId of something that OPC UA itself defines."""
    return ua.NodeId(ua.Int32(number))


def fault(code: int) -> UaStatusCodeError:
    """The error that ends a whole request with this status code."""
    return UaStatusCodeError(code)  # type: ignore[no-untyped-call]


def status(code: int) -> ua.StatusCode:
    """A status code of one result."""
    return ua.StatusCode(ua.UInt32(code))


@dataclass(frozen=True, slots=True)
class WireType:
    """How a DataType travels. data_type: the NodeId that is declared (Dbpos's own one is known to the server alone)."""

    variant: ua.VariantType
    data_type: ua.NodeId
    nullable: bool = False


WIRE: dict[DataType, WireType] = {
    DataType.BOOLEAN: WireType(ua.VariantType.Boolean, standard(ua.ObjectIds.Boolean)),
    DataType.INT32: WireType(ua.VariantType.Int32, standard(ua.ObjectIds.Int32)),
    DataType.UINT32: WireType(ua.VariantType.UInt32, standard(ua.ObjectIds.UInt32)),
    DataType.INT64: WireType(ua.VariantType.Int64, standard(ua.ObjectIds.Int64)),
    DataType.DOUBLE: WireType(ua.VariantType.Double, standard(ua.ObjectIds.Double)),
    DataType.STRING: WireType(ua.VariantType.String, standard(ua.ObjectIds.String), nullable=True),
    DataType.TIME: WireType(ua.VariantType.DateTime, standard(ua.ObjectIds.UtcTime)),
    DataType.DBPOS: WireType(ua.VariantType.Int32, standard(ua.ObjectIds.Enumeration)),
}

_PYTHON: dict[DataType, tuple[type, ...]] = {
    DataType.BOOLEAN: (bool,),
    DataType.INT32: (int,),
    DataType.UINT32: (int,),
    DataType.INT64: (int,),
    DataType.DOUBLE: (float, int),
    DataType.STRING: (str,),
    DataType.TIME: (int,),
    DataType.DBPOS: (int,),
}
_RANGE: dict[DataType, tuple[int, int]] = {
    DataType.INT32: _INT32,
    DataType.UINT32: (0, 2**32 - 1),
    DataType.INT64: (-(2**63), 2**63 - 1),
    DataType.TIME: (_US_MIN, _US_MAX),
    DataType.DBPOS: (0, 3),
}

GOOD = status(ua.StatusCodes.Good)
_UNCERTAIN = status(ua.StatusCodes.UncertainLastUsableValue)
_NEVER = status(ua.StatusCodes.BadWaitingForInitialData)
_LOST = status(ua.StatusCodes.BadNotConnected)
_NULL = ua.Variant(None, ua.VariantType.Null)

STATUS: dict[Status, ua.StatusCode] = {
    Status.OK: GOOD,
    Status.BAD_ARGUMENT: status(ua.StatusCodes.BadInvalidArgument),
    Status.OUT_OF_RANGE: status(ua.StatusCodes.BadOutOfRange),
    Status.NOT_FOUND: status(ua.StatusCodes.BadNotFound),
    Status.REFUSED: status(ua.StatusCodes.BadInvalidState),
    Status.DENIED: status(ua.StatusCodes.BadUserAccessDenied),
    Status.TOO_LARGE: status(ua.StatusCodes.BadEncodingLimitsExceeded),
    Status.TIMEOUT: status(ua.StatusCodes.BadTimeout),
    Status.UNAVAILABLE: status(ua.StatusCodes.BadOutOfService),
    Status.TOO_MANY: status(ua.StatusCodes.BadTooManyOperations),
    Status.INTERNAL: status(ua.StatusCodes.BadInternalError),
}


def to_datetime(time_us: int) -> datetime | None:
    """µs since 1970 as a DateTime; None for 0 (not known)."""
    return _EPOCH + timedelta(microseconds=time_us) if time_us else None


def to_us(moment: datetime) -> int:
    """µs since 1970 of a DateTime; OPC UA's DateTimes are UTC, with a zone or without."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)


def to_moment(time_us: int) -> ua.Variant:
    """µs since 1970 as a DateTime value; the empty variant for 0 (not known)."""
    return ua.Variant(to_datetime(time_us), ua.VariantType.DateTime) if time_us else _NULL


def to_variant(value: Value, type: DataType, array: bool) -> ua.Variant:
    """A value as the variant that its declaration promises. Errors: ValueError when it is something else."""
    wire = WIRE[type]
    if value is None:
        if array:
            return ua.Variant(None, wire.variant, is_array=True)
        return ua.Variant(None, wire.variant) if wire.nullable else _NULL
    if array:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise ValueError(f"an array of {type.value} was expected, not {value!r}")
        return ua.Variant([_scalar(item, type) for item in value], wire.variant, is_array=True)
    return ua.Variant(_scalar(value, type), wire.variant)


def _scalar(value: object, type: DataType) -> bool | int | float | str | datetime | None:
    if value is None and WIRE[type].nullable:
        return None
    if not isinstance(value, _PYTHON[type]) or (isinstance(value, bool) and type is not DataType.BOOLEAN):
        raise ValueError(f"{type.value} was expected, not {value!r}")
    if type in _RANGE:
        least, most = _RANGE[type]
        assert isinstance(value, int)
        if not least <= value <= most:
            raise ValueError(f"{value} is no {type.value}")
        if type is DataType.TIME:
            return _EPOCH + timedelta(microseconds=value)
    if type is DataType.DOUBLE:
        return float(value)  # type: ignore[arg-type]
    return value  # type: ignore[return-value]


def to_data_value(sample: Sample | None, variable: Variable, now: datetime | None = None) -> ua.DataValue:
    """A sample as it is read and published. now: the server's time-stamp. Errors: ValueError, as ``to_variant``."""
    if sample is None:
        return stamped(_NULL, _NEVER, None, now)
    source = to_datetime(sample.time_us)
    if sample.grade is Grade.BAD:
        return stamped(_NULL, _LOST if sample.time_us else _NEVER, source, now)
    code = GOOD if sample.grade is Grade.GOOD else _UNCERTAIN
    return stamped(to_variant(sample.value, variable.type, variable.array), code, source, now)


def stamped(
    value: ua.Variant, code: ua.StatusCode, source: datetime | None = None, server: datetime | None = None
) -> ua.DataValue:
    """A DataValue. Its declared DateTime is a subclass that nobody needs: every datetime is taken."""
    return ua.DataValue(value, code, cast(ua.DateTime | None, source), cast(ua.DateTime | None, server))


class WrongArgument(Exception):
    """An argument is not what the method declares; the text says what was expected. Nothing was converted."""


def from_variant(given: object, argument: Argument) -> Value:
    """An argument as the method declares it. Errors: WrongArgument."""
    wire = WIRE[argument.type]
    if not isinstance(given, ua.Variant):
        raise WrongArgument(f"{argument.name}: nothing was given")
    expected = f"{argument.name}: {'an array of ' if argument.array else ''}{argument.type.value} was expected"
    if given.VariantType is not wire.variant:
        raise WrongArgument(f"{expected}, not {getattr(given.VariantType, 'name', 'something unknown')}")
    if bool(given.is_array) is not argument.array or (given.Dimensions and len(given.Dimensions) > 1):
        raise WrongArgument(f"{expected}, not {'an array' if given.is_array else 'a single value'}")
    if argument.array:
        return [_from_scalar(item, argument, expected) for item in given.Value or ()]
    return _from_scalar(given.Value, argument, expected)


def _from_scalar(value: object, argument: Argument, expected: str) -> bool | int | float | str | None:
    if value is None and argument.type is DataType.STRING:
        return ""
    if isinstance(value, datetime) and argument.type is DataType.TIME:
        return to_us(value)
    if isinstance(value, bool | int | float | str) and isinstance(value, _PYTHON[argument.type]):
        if argument.type is DataType.DBPOS and not 0 <= int(value) <= 3:
            raise WrongArgument(f"{expected} (0 to 3), not {value}")
        return value
    raise WrongArgument(f"{expected}, not {value!r:.60}")
