"""Addresses of points, as they are written in the CSV files.

    di:17               discrete input 17
    coil:3              coil 3
    hr:120              holding register 120, unsigned 16 bits
    hr:120.3            bit 3 of holding register 120 (bit 0 is the least significant)
    ir:40:s16           input register 40, signed 16 bits
    ir:40:u32*0.1       input registers 40 and 41, unsigned 32 bits (high word first), times 0.1
    ir:40:s16*0.1+5     value = raw × 0.1 + 5; an offset may be negative: ir:40:s16*0.1-40

Tables are ``coil``, ``di``, ``ir`` and ``hr``; numbers are those of the wire (from 0, not 40001); types are ``u16``
``s16`` ``u32`` ``s32`` ``f32``. What must stay true: ``parse_address(format_address(a)) == a``.
"""

from __future__ import annotations

import math
import re

from config.device_models import Address, RegisterType, Table
from config.problems import Wrong, shorten, unknown

LAST_NUMBER = 65535
BIT_TABLES = frozenset({Table.COIL, Table.DISCRETE})
WIDE_TYPES = frozenset({RegisterType.U32, RegisterType.S32, RegisterType.F32})
EXAMPLES = "di:17, coil:3, hr:120.3 or ir:40:u32*0.1"

_NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?"
_SYNTAX = re.compile(
    r"(?P<table>[a-z]+):(?P<number>[0-9]{1,9})(?:\.(?P<bit>[0-9]{1,3}))?"
    rf"(?::(?P<type>[a-z0-9]+)(?:\*(?P<scale>-?{_NUMBER}))?(?P<offset>[+-]{_NUMBER})?)?"
)
_TABLES = {table.value: table for table in Table}
_TYPES = {kind.value: kind for kind in RegisterType}


def parse_address(text: str) -> Address:
    """The address that text stands for; raises ``Wrong`` (a ValueError) that says what to write instead."""
    match = _SYNTAX.fullmatch(text)
    if match is None:
        raise Wrong(f"{shorten(text)} is no address", f"table:number, such as {EXAMPLES}")
    table = _TABLES.get(match["table"])
    if table is None:
        raise Wrong(f"{shorten(text)} names no table", unknown(match["table"], _TABLES))
    number = int(match["number"])
    if number > LAST_NUMBER:
        raise Wrong(f"{shorten(text)} is outside of the table", f"a number from 0 to {LAST_NUMBER}")
    if table in BIT_TABLES:
        if match["bit"] is not None or match["type"] is not None:
            raise Wrong(
                f"{shorten(text)}: a {table.value} is one bit, it has neither bit nor type", f"{table}:{number}"
            )
        return Address(table, number)
    return _register(text, match, table, number)


def _register(text: str, match: re.Match[str], table: Table, number: int) -> Address:
    if match["bit"] is not None:
        if match["type"] is not None:
            raise Wrong(f"{shorten(text)} has both a bit and a type", f"{table}:{number}.{match['bit']}")
        if int(match["bit"]) > 15:
            raise Wrong(f"{shorten(text)}: a register has bits 0 to 15", f"{table}:{number}.0 to {table}:{number}.15")
        return Address(table, number, bit=int(match["bit"]))
    kind = RegisterType.U16
    if match["type"] is not None:
        if match["type"] not in _TYPES:
            raise Wrong(f"{shorten(text)} has an unknown type", unknown(match["type"], _TYPES))
        kind = _TYPES[match["type"]]
    if kind in WIDE_TYPES and number == LAST_NUMBER:
        raise Wrong(f"{shorten(text)}: a 32-bit type takes two registers", f"at most {table}:{LAST_NUMBER - 1}:{kind}")
    scale = float(match["scale"] or 1.0)
    offset = float(match["offset"] or 0.0)
    if scale == 0 or not math.isfinite(scale) or not math.isfinite(offset):
        raise Wrong(
            f"{shorten(text)}: scale must not be 0, nor scale or offset too large", f"{table}:{number}:{kind}*0.1"
        )
    return Address(table, number, type=kind, scale=scale, offset=offset)


def format_address(address: Address) -> str:
    """The shortest text that ``parse_address`` reads as this address."""
    text = f"{address.table}:{address.number}"
    if address.bit is not None:
        return f"{text}.{address.bit}"
    scale = "" if address.scale == 1.0 else f"*{address.scale!r}"
    offset = "" if address.offset == 0.0 else f"{address.offset:+}"
    if scale or offset or address.type is not RegisterType.U16:
        return f"{text}:{address.type}{scale}{offset}"
    return text


def is_bit(address: Address) -> bool:
    """Whether the address reads as one bit."""
    return address.table in BIT_TABLES or address.bit is not None
