"""Values go out as the types that were declared, or as nulls; arguments come in as they are, or not at all."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from asyncua import ua

from protocols.opcua.surface import Argument, DataType, Grade, Sample, Variable
from protocols.opcua.values import WrongArgument, from_variant, to_data_value, to_us, to_variant

T0 = 1_700_000_000_123_456
KW = Variable("Kw", DataType.DOUBLE, "")


@pytest.mark.parametrize(
    ("type", "value", "variant", "sent"),
    [
        (DataType.BOOLEAN, True, ua.VariantType.Boolean, True),
        (DataType.INT32, -5, ua.VariantType.Int32, -5),
        (DataType.UINT32, 2**32 - 1, ua.VariantType.UInt32, 2**32 - 1),
        (DataType.INT64, 2**40, ua.VariantType.Int64, 2**40),
        (DataType.DOUBLE, 1, ua.VariantType.Double, 1.0),
        (DataType.STRING, "ü", ua.VariantType.String, "ü"),
        (DataType.DBPOS, 2, ua.VariantType.Int32, 2),
        (DataType.TIME, T0, ua.VariantType.DateTime, datetime(2023, 11, 14, 22, 13, 20, 123456, UTC)),
    ],
)
def test_each_type_travels_as_its_own_variant(
    type: DataType, value: int, variant: ua.VariantType, sent: object
) -> None:
    made = to_variant(value, type, False)
    assert (made.VariantType, made.Value, made.is_array) == (variant, sent, False)
    made = to_variant([value, value], type, True)
    assert (made.VariantType, made.Value, made.is_array) == (variant, [sent, sent], True)


@pytest.mark.parametrize(
    ("type", "value"),
    [
        (DataType.INT32, 2**31),
        (DataType.UINT32, -1),
        (DataType.UINT32, True),
        (DataType.DBPOS, 4),
        (DataType.DOUBLE, "1"),
        (DataType.STRING, 1),
        (DataType.BOOLEAN, 1),
    ],
)
def test_a_value_of_another_type_is_a_mistake_and_not_sent_as_something_near_it(type: DataType, value: object) -> None:
    with pytest.raises(ValueError, match=r"expected|is no"):
        to_variant(value, type, False)  # type: ignore[arg-type]


def test_nulls_of_texts_have_a_type_and_nulls_of_numbers_are_empty() -> None:
    assert to_variant(None, DataType.STRING, False).VariantType is ua.VariantType.String
    assert to_variant(None, DataType.DOUBLE, False).VariantType is ua.VariantType.Null
    array = to_variant(None, DataType.DOUBLE, True)
    assert (array.VariantType, array.is_array, array.Value) == (ua.VariantType.Double, True, None)


def test_quality_is_a_status_code_and_bad_values_carry_no_value() -> None:
    codes = ua.StatusCodes
    good = to_data_value(Sample(1.5, Grade.GOOD, T0), KW)
    assert (good.StatusCode.value, good.Value.Value, to_us(good.SourceTimestamp)) == (codes.Good, 1.5, T0)
    old = to_data_value(Sample(1.5, Grade.UNCERTAIN, T0), KW)
    assert (old.StatusCode.value, old.Value.Value) == (codes.UncertainLastUsableValue, 1.5)
    lost = to_data_value(Sample(1.5, Grade.BAD, T0), KW)
    assert (lost.StatusCode.value, lost.Value.Value, to_us(lost.SourceTimestamp)) == (codes.BadNotConnected, None, T0)
    for never in (None, Sample(None, Grade.BAD)):
        value = to_data_value(never, KW)
        assert (value.StatusCode.value, value.SourceTimestamp) == (codes.BadWaitingForInitialData, None)


def test_an_argument_is_never_converted() -> None:
    megawatts = Argument("Megawatts", DataType.DOUBLE, "")
    assert from_variant(ua.Variant(2.5, ua.VariantType.Double), megawatts) == 2.5
    for wrong in (
        ua.Variant(2, ua.VariantType.Int64),
        ua.Variant(2.5, ua.VariantType.Float),
        ua.Variant("2.5", ua.VariantType.String),
        ua.Variant([2.5], ua.VariantType.Double, is_array=True),
        ua.Variant(None, ua.VariantType.Null),
        None,
    ):
        with pytest.raises(WrongArgument, match="Megawatts"):
            from_variant(wrong, megawatts)


def test_a_null_text_is_an_empty_one_and_a_null_array_has_nothing_in_it() -> None:
    assert from_variant(ua.Variant(None, ua.VariantType.String), Argument("Reason", DataType.STRING, "")) == ""
    tiers = Argument("Tiers", DataType.STRING, "", array=True)
    assert from_variant(ua.Variant(None, ua.VariantType.String, is_array=True), tiers) == []
    assert from_variant(ua.Variant(["1", None], ua.VariantType.String), tiers) == ["1", ""]
    with pytest.raises(WrongArgument):
        from_variant(ua.Variant([["1"], ["2"]], ua.VariantType.String), tiers)


def test_a_time_is_µs_and_a_position_is_one_of_four() -> None:
    at = Argument("At", DataType.TIME, "")
    assert from_variant(ua.Variant(datetime(2023, 11, 14, 22, 13, 20, 123456), ua.VariantType.DateTime), at) == T0
    where = Argument("Where", DataType.DBPOS, "")
    assert from_variant(ua.Variant(3, ua.VariantType.Int32), where) == 3
    with pytest.raises(WrongArgument, match="0 to 3"):
        from_variant(ua.Variant(4, ua.VariantType.Int32), where)
