"""The function codes 01-06, 0F and 10: what a request PDU means, and the PDU that answers it.

Exceptions: 02 (no such address), 03 (a value or a length that can't be). What must stay true: a request whose form is
wrong never reaches the one who decides what a write means.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from simulators.modbus.memory import Memory, Space

ILLEGAL_FUNCTION = 1
ILLEGAL_ADDRESS = 2
ILLEGAL_VALUE = 3
DEVICE_FAILURE = 4
NO_SUCH_UNIT = 0x0B

Write = Callable[[Space, int, list[int]], int]
"""Carries out one write request: table, first address, values; see ``WriteHook.write`` for what it gives back."""

_TWO_WORDS = struct.Struct(">HH")
_WRITE_MANY = struct.Struct(">HHB")


def refuse(function: int, code: int) -> bytes:
    """The PDU of an exception."""
    return bytes((function | 0x80, code))


def _read_coils(memory: Memory, pdu: bytes) -> bytes:
    return _bits(pdu, memory.coils, memory.sizes[Space.COIL])


def _read_discretes(memory: Memory, pdu: bytes) -> bytes:
    return _bits(pdu, memory.discretes, memory.sizes[Space.DISCRETE])


def _bits(pdu: bytes, bits: int, size: int) -> bytes:
    if len(pdu) != 5:
        return refuse(pdu[0], ILLEGAL_VALUE)
    start, count = _TWO_WORDS.unpack_from(pdu, 1)
    if not 1 <= count <= 2000:
        return refuse(pdu[0], ILLEGAL_VALUE)
    if start + count > size:
        return refuse(pdu[0], ILLEGAL_ADDRESS)
    length = (count + 7) >> 3
    chosen: int = (bits >> start) & ((1 << count) - 1)
    return bytes((pdu[0], length)) + chosen.to_bytes(length, "little")


def _read_holding(memory: Memory, pdu: bytes) -> bytes:
    return _registers(pdu, memory.holding)


def _read_inputs(memory: Memory, pdu: bytes) -> bytes:
    return _registers(pdu, memory.inputs)


def _registers(pdu: bytes, words: bytearray) -> bytes:
    if len(pdu) != 5:
        return refuse(pdu[0], ILLEGAL_VALUE)
    start, count = _TWO_WORDS.unpack_from(pdu, 1)
    if not 1 <= count <= 125:
        return refuse(pdu[0], ILLEGAL_VALUE)
    if 2 * (start + count) > len(words):
        return refuse(pdu[0], ILLEGAL_ADDRESS)
    return bytes((pdu[0], 2 * count)) + bytes(words[2 * start : 2 * (start + count)])


def _write_coil(memory: Memory, write: Write, pdu: bytes) -> tuple[int, bytes]:
    if len(pdu) != 5:
        return ILLEGAL_VALUE, b""
    address, value = _TWO_WORDS.unpack_from(pdu, 1)
    if value not in (0x0000, 0xFF00):
        return ILLEGAL_VALUE, b""
    if address >= memory.sizes[Space.COIL]:
        return ILLEGAL_ADDRESS, b""
    return write(Space.COIL, address, [1 if value else 0]), pdu


def _write_register(memory: Memory, write: Write, pdu: bytes) -> tuple[int, bytes]:
    if len(pdu) != 5:
        return ILLEGAL_VALUE, b""
    address, value = _TWO_WORDS.unpack_from(pdu, 1)
    if address >= memory.sizes[Space.HOLDING]:
        return ILLEGAL_ADDRESS, b""
    return write(Space.HOLDING, address, [value]), pdu


def _write_coils(memory: Memory, write: Write, pdu: bytes) -> tuple[int, bytes]:
    if len(pdu) < 6:
        return ILLEGAL_VALUE, b""
    start, count, length = _WRITE_MANY.unpack_from(pdu, 1)
    if not 1 <= count <= 1968 or length != (count + 7) >> 3 or len(pdu) != 6 + length:
        return ILLEGAL_VALUE, b""
    if start + count > memory.sizes[Space.COIL]:
        return ILLEGAL_ADDRESS, b""
    bits = int.from_bytes(pdu[6:], "little")
    return write(Space.COIL, start, [bits >> i & 1 for i in range(count)]), pdu[:5]


def _write_registers(memory: Memory, write: Write, pdu: bytes) -> tuple[int, bytes]:
    if len(pdu) < 6:
        return ILLEGAL_VALUE, b""
    start, count, length = _WRITE_MANY.unpack_from(pdu, 1)
    if not 1 <= count <= 123 or length != 2 * count or len(pdu) != 6 + length:
        return ILLEGAL_VALUE, b""
    if start + count > memory.sizes[Space.HOLDING]:
        return ILLEGAL_ADDRESS, b""
    return write(Space.HOLDING, start, list(struct.unpack(f">{count}H", pdu[6:]))), pdu[:5]


READS: dict[int, Callable[[Memory, bytes], bytes]] = {
    1: _read_coils,
    2: _read_discretes,
    3: _read_holding,
    4: _read_inputs,
}
WRITES: dict[int, Callable[[Memory, Write, bytes], tuple[int, bytes]]] = {
    5: _write_coil,
    6: _write_register,
    15: _write_coils,
    16: _write_registers,
}
