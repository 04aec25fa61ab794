"""Bytes to values, and which registers are read together."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.modbus.points import (
    Limits,
    Range,
    Span,
    check_command,
    check_readable,
    decoder,
    halves,
    plan,
    span_of,
)

LIMITS = Limits(registers=125, bits=2000, gap=16)


def span(table, start, count=1):
    return Span(table, start, count, ())


def extents(ranges):
    return [(each.table, each.start, each.count) for each in ranges]


@pytest.mark.parametrize(
    ("type_", "data", "value"),
    [
        ("u16", b"\xff\xfe", 65534.0),
        ("s16", b"\xff\xfe", -2.0),
        ("u32", b"\x00\x01\x00\x02", 65538.0),
        ("s32", b"\xff\xff\xff\xfe", -2.0),
        ("f32", struct.pack(">f", -1.5), -1.5),
    ],
)
def test_registers_are_big_endian_with_the_high_word_first(kit, type_, data, value):
    assert decoder(kit.Address("ir", 12, None, type_), 10)(b"\x55" * 4 + data) == value


def test_scale_and_offset(kit):
    assert decoder(kit.Address("hr", 0, None, "s16", 0.1, 5.0), 0)(b"\xff\x9c") == pytest.approx(-5.0)


def test_a_float_that_is_no_number_stays_one(kit):
    assert math.isnan(decoder(kit.Address("hr", 0, None, "f32"), 0)(b"\x7f\xc0\x00\x00"))


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.data())
def test_bits_of_a_bit_table_come_from_the_low_end(bits, data):
    from types import SimpleNamespace

    at = data.draw(st.integers(0, len(bits) - 1))
    packed = bytearray((len(bits) + 7) // 8)
    for i, bit in enumerate(bits):
        packed[i // 8] |= bit << (i % 8)
    address = SimpleNamespace(table="di", number=100 + at, bit=None, type="u16", scale=1.0, offset=0.0)
    assert decoder(address, 100)(bytes(packed)) == float(bits[at])


@pytest.mark.parametrize("bit", range(16))
def test_a_bit_of_a_register(kit, bit):
    decode = decoder(kit.Address("hr", 3, bit), 2)
    assert decode(struct.pack(">HH", 0xFFFF, 1 << bit)) == 1.0
    assert decode(struct.pack(">HH", 0xFFFF, 0xFFFF & ~(1 << bit))) == 0.0


@pytest.mark.parametrize(
    "address",
    [
        ("xx", 0),
        ("di", 0, 3),
        ("hr", 0, 16),
        ("hr", 0, None, "u64"),
        ("hr", -1),
        ("hr", 65536),
        ("hr", 65535, None, "u32"),
    ],
)
def test_points_that_cannot_be_read_are_refused(kit, address):
    with pytest.raises(ValueError, match="F1"):
        check_readable(kit.Address(*address), "F1")


@pytest.mark.parametrize("table", ["di", "ir"])
def test_a_command_needs_a_table_that_can_be_written(kit, table):
    with pytest.raises(ValueError, match="coil or a holding register"):
        check_command(kit.Address(table, 0), "F1")


def test_neighbours_and_small_gaps_share_a_block():
    assert extents(plan([span("di", 0), span("di", 17), span("di", 35), span("ir", 35)], LIMITS)) == [
        ("di", 0, 18),
        ("di", 35, 1),
        ("ir", 35, 1),
    ]


def test_blocks_stay_within_the_device_and_the_standard():
    many = [span("hr", i) for i in range(300)]
    assert extents(plan(many, LIMITS)) == [("hr", 0, 125), ("hr", 125, 125), ("hr", 250, 50)]
    assert extents(plan(many, Limits(registers=1000, bits=9999, gap=16)))[0] == ("hr", 0, 125)
    assert extents(plan(many, Limits(registers=100, bits=2000, gap=16)))[0] == ("hr", 0, 100)
    bits = [span("di", i) for i in range(2500)]
    assert extents(plan(bits, Limits(registers=125, bits=9999, gap=0))) == [("di", 0, 2000), ("di", 2000, 500)]


def test_the_contacts_of_a_breaker_stay_together(kit):
    both = span_of([kit.Address("di", 5), kit.Address("di", 105)], (), LIMITS)
    assert (both.start, both.count) == (5, 101)
    assert span_of([kit.Address("di", 5), kit.Address("coil", 6)], (), LIMITS) is None
    assert span_of([kit.Address("hr", 0, 1), kit.Address("hr", 125, 1)], (), LIMITS) is None


@given(
    st.lists(
        st.tuples(st.sampled_from(["di", "hr"]), st.integers(0, 3000), st.integers(1, 100)), min_size=1, max_size=60
    ),
    st.integers(100, 125),
    st.integers(0, 50),
)
def test_a_plan_covers_everything_within_its_limits(wanted, registers, gap):
    spans = [span(*each) for each in wanted]
    limits = Limits(registers, 2000, gap)
    ranges = plan(spans, limits)
    assert sum(len(each.spans) for each in ranges) == len(spans)
    for each in ranges:
        assert each.count <= limits.longest(each.table)
        for part in each.spans:
            assert part.table == each.table
            assert each.start <= part.start
            assert part.end <= each.start + each.count


def test_halves_shrink_to_their_spans_down_to_single_points():
    whole = Range("hr", 0, 21, (span("hr", 0), span("hr", 10), span("hr", 20)))
    left, right = halves(whole)
    assert extents([left, right]) == [("hr", 0, 1), ("hr", 10, 11)]
    assert right.within(whole)
    assert not whole.within(right)
    assert halves(left) == []
