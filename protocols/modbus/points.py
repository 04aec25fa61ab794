"""Points and blocks: which registers are read together, and how their bytes become values. Pure.

What must stay true:

* A block is at most as long as the device allows (and the standard: 125 registers, 2,000 bits), and bridges a gap of at
  most ``max_gap`` that nobody asked for.
* The two contacts of one breaker are read in one frame wherever that can be done, for else a breaker that moves between
  two frames could be seen with both contacts made, or none.
* A device that refuses a block (exception 02: some address in it does not exist) is asked for halves, down to single
  points; what was learned is kept. The number of splits is limited: past it the points stay BAD.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from protocols.image import BreakerCell, Field, MeasurementCell
from protocols.modbus.site import AddressLike

BIT_TABLES = frozenset({"coil", "di"})
MAX_REGISTERS = 125
MAX_BITS = 2000
MAX_SPLITS = 64
"""Splits of one device's blocks for the life of the driver."""

WORDS = {"u16": 1, "s16": 1, "u32": 2, "s32": 2, "f32": 2}
FORMATS = {"u16": ">H", "s16": ">h", "u32": ">I", "s32": ">i", "f32": ">f"}


def words_of(address: AddressLike) -> int:
    """How many bits (of a bit table) or registers the point takes."""
    return 1 if address.table in BIT_TABLES or address.bit is not None else WORDS[address.type]


def check_readable(address: AddressLike, what: str) -> None:
    """Raise ValueError for a point that can't be read."""
    if address.table not in ("coil", "di", "ir", "hr"):
        raise ValueError(f"{what}: table {address.table!r} is none of coil, di, ir, hr")
    if address.bit is not None and (address.table in BIT_TABLES or not 0 <= address.bit <= 15):
        raise ValueError(f"{what}: bit {address.bit} needs a register, and lies in 0 to 15")
    if address.type not in WORDS:
        raise ValueError(f"{what}: type {address.type!r} is none of {', '.join(WORDS)}")
    if not 0 <= address.number <= 65536 - words_of(address):
        raise ValueError(f"{what}: address {address.number} is outside 0 to 65535")


def check_command(address: AddressLike, what: str) -> None:
    """Raise ValueError for a point that can't be commanded."""
    check_readable(address, what)
    if address.table not in ("coil", "hr"):
        raise ValueError(f"{what}: a command goes to a coil or a holding register, not to {address.table!r}")


def decoder(address: AddressLike, start: int) -> Callable[[bytes], float]:
    """A function that takes the point's value out of a block's bytes; start: first address of the block.

    Bits give 0.0 or 1.0. Registers are big-endian, a 32-bit value has its high word first.
    """
    at = address.number - start
    if address.table in BIT_TABLES:
        return _bit_of_bytes(at >> 3, at & 7)
    if address.bit is not None:
        # Bit 0 is the lowest of the second byte.
        return _bit_of_bytes(2 * at + (0 if address.bit >= 8 else 1), address.bit & 7)
    unpack = struct.Struct(FORMATS[address.type]).unpack_from
    scale, offset = address.scale, address.offset

    def number(data: bytes) -> float:
        return float(unpack(data, 2 * at)[0]) * scale + offset

    return number


def _bit_of_bytes(byte: int, bit: int) -> Callable[[bytes], float]:
    mask = 1 << bit

    def value(data: bytes) -> float:
        return 1.0 if data[byte] & mask else 0.0

    return value


@dataclass(frozen=True, slots=True)
class Tag:
    """One value to be taken out of a block, and where it goes; field is None for a measurement."""

    cell: BreakerCell | MeasurementCell
    field: Field | None
    address: AddressLike


@dataclass(frozen=True, slots=True)
class Span:
    """Addresses that are read in one frame, and whose they are."""

    table: str
    start: int
    count: int
    owner: tuple[Tag, ...] = field(compare=False)

    @property
    def end(self) -> int:
        """First address behind it."""
        return self.start + self.count


@dataclass(frozen=True, slots=True)
class Range:
    """What one read asks for, and the spans it serves."""

    table: str
    start: int
    count: int
    spans: tuple[Span, ...]

    def within(self, other: Range) -> bool:
        """True if the other covers all of this one."""
        return (
            self.table == other.table
            and other.start <= self.start
            and self.start + self.count <= other.start + other.count
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """Largest blocks and gap of one device."""

    registers: int
    bits: int
    gap: int

    def longest(self, table: str) -> int:
        """Longest block of a table."""
        return min(self.bits, MAX_BITS) if table in BIT_TABLES else min(self.registers, MAX_REGISTERS)


def span_of(addresses: Sequence[AddressLike], owner: tuple[Tag, ...], limits: Limits) -> Span | None:
    """One span over several points, or None if no single frame can hold them."""
    table = addresses[0].table
    start = min(address.number for address in addresses)
    end = max(address.number + words_of(address) for address in addresses)
    if any(address.table != table for address in addresses) or end - start > limits.longest(table):
        return None
    return Span(table, start, end - start, owner)


def plan(spans: Iterable[Span], limits: Limits) -> list[Range]:
    """Cover all spans with as few reads as the limits allow, taking them in order of address."""
    ranges: list[Range] = []
    run: list[Span] = []
    start = end = 0
    for span in sorted(spans, key=lambda each: (each.table, each.start, each.end)):
        joined = max(end, span.end) - start
        if (
            run
            and run[0].table == span.table
            and span.start - end <= limits.gap
            and joined <= limits.longest(span.table)
        ):
            run.append(span)
            end = max(end, span.end)
            continue
        if run:
            ranges.append(Range(run[0].table, start, end - start, tuple(run)))
        run, start, end = [span], span.start, span.end
    if run:
        ranges.append(Range(run[0].table, start, end - start, tuple(run)))
    return ranges


def halves(whole: Range) -> list[Range]:
    """The two halves of a refused read, each no longer than its own spans need; [] if there is nothing to split."""
    if len(whole.spans) < 2:
        return []
    spans = tuple(sorted(whole.spans, key=lambda span: span.start))
    parts = []
    for part in (spans[: len(spans) // 2], spans[len(spans) // 2 :]):
        start, end = part[0].start, max(span.end for span in part)
        parts.append(Range(whole.table, start, end - start, part))
    return parts
