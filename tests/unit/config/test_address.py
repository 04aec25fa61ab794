"""Addresses: what is read, what is refused, and that formatting is the inverse of parsing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import format_address, parse_address
from config.device_models import Address, RegisterType, Table
from config.problems import Wrong


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("di:17", Address(Table.DISCRETE, 17)),
        ("coil:0", Address(Table.COIL, 0)),
        ("hr:120.3", Address(Table.HOLDING, 120, bit=3)),
        ("ir:65535", Address(Table.INPUT, 65535)),
        ("ir:40:u32*0.1", Address(Table.INPUT, 40, type=RegisterType.U32, scale=0.1)),
        ("ir:40:s16*0.1+5", Address(Table.INPUT, 40, type=RegisterType.S16, scale=0.1, offset=5.0)),
        ("ir:40:s16*-0.1-40.5", Address(Table.INPUT, 40, type=RegisterType.S16, scale=-0.1, offset=-40.5)),
        ("hr:65534:f32", Address(Table.HOLDING, 65534, type=RegisterType.F32)),
        ("hr:7:u16+1e3", Address(Table.HOLDING, 7, offset=1000.0)),
    ],
)
def test_reads(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    ("text", "write_instead"),
    [
        ("", "di:17"),
        ("40001", "table:number"),
        ("di:-1", "table:number"),
        ("di:1７", "table:number"),
        ("reg:5", "coil"),
        ("coill:5", "did you mean 'coil'"),
        ("di:65536", "from 0 to 65535"),
        ("di:17.2", "di:17"),
        ("coil:3:u16", "coil:3"),
        ("hr:120.16", "hr:120.15"),
        ("hr:120.3:u16", "hr:120.3"),
        ("ir:40:u64", "did you mean 'u16'"),
        ("ir:65535:u32", "ir:65534:u32"),
        ("ir:40:u16*0", "ir:40:u16*0.1"),
        ("ir:40:u16*1e999", "ir:40:u16*0.1"),
        ("ir:40*0.1", "table:number"),
    ],
)
def test_refuses_and_says_what_to_write(text: str, write_instead: str) -> None:
    with pytest.raises(Wrong) as raised:
        parse_address(text)
    assert write_instead in raised.value.write_instead


numbers = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12)
registers = st.builds(
    Address,
    st.sampled_from([Table.INPUT, Table.HOLDING]),
    st.integers(0, 65534),
    type=st.sampled_from(list(RegisterType)),
    scale=numbers.filter(lambda scale: scale != 0),
    offset=numbers.map(lambda offset: offset + 0.0),
)
bits = st.one_of(
    st.builds(Address, st.sampled_from([Table.COIL, Table.DISCRETE]), st.integers(0, 65535)),
    st.builds(Address, st.sampled_from([Table.INPUT, Table.HOLDING]), st.integers(0, 65535), st.integers(0, 15)),
)


@given(st.one_of(registers, bits))
def test_format_is_the_inverse_of_parse(address: Address) -> None:
    assert parse_address(format_address(address)) == address
