"""A Modbus TCP server as a well-behaved device has one, and as an ill-behaved one on purpose.

Layers, from the wire inwards:

* ``Connection``: one TCP connection. Takes bytes in any cut (split, coalesced, pipelined), finds MBAP frames, answers in
  order, all answers of one segment in one write.
* ``Device``: one unit: data tables, function codes 01-06, 0F, 10, and exceptions 01 (function), 02 (address), 03 (value),
  04 (device failure); another unit's number gets 0B. What a write *means* is decided by the ``WriteHook``.
* ``Faults``: what the device does wrong on purpose.

What must stay true: nothing that a client sends ends the server. Bytes that are no MBAP frame end their own connection,
since there is no way to find the next frame. A peer that does not read its answers is not read any more. At most
``MAX_CONNECTIONS`` connections a device; another one is closed at once.

Bits are kept as one big integer and registers as big-endian bytes, so that a block read is one slice of memory.
"""

from __future__ import annotations

import asyncio
import enum
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

MAX_CONNECTIONS = 16
MAX_FRAME_LENGTH = 254
MBAP_SIZE = 7

ILLEGAL_FUNCTION = 1
ILLEGAL_ADDRESS = 2
ILLEGAL_VALUE = 3
DEVICE_FAILURE = 4
NO_SUCH_UNIT = 0x0B

DROP_REPLY = -1
GARBLE_REPLY = -2

_MBAP = struct.Struct(">HHHB")
_TWO_WORDS = struct.Struct(">HH")
_WRITE_MANY = struct.Struct(">HHB")


class Space(enum.StrEnum):
    """The four data tables."""

    COIL = "coil"
    DISCRETE = "di"
    INPUT = "ir"
    HOLDING = "hr"


class WriteHook(Protocol):
    """Decides what writes mean."""

    def write(self, device: Device, space: Space, address: int, values: list[int]) -> int:
        """Carry out one write request. values: 0/1 for coils, words for holding registers.

        Returns 0 (accepted), an exception code (nothing was done), DROP_REPLY or GARBLE_REPLY (done, see Faults).
        """


class Garble(enum.StrEnum):
    """Ways to spoil a reply."""

    WRONG_TRANSACTION = "wrong_transaction"
    WRONG_UNIT = "wrong_unit"
    WRONG_FUNCTION = "wrong_function"
    WRONG_ECHO = "wrong_echo"
    SHORT = "short"
    JUNK = "junk"


@dataclass(slots=True)
class Faults:
    """What a device does wrong: silent (answers nothing), garble (spoils each reply), delay_s (answers late)."""

    silent: bool = False
    garble: Garble | None = None
    delay_s: float = 0.0

    def any(self) -> bool:
        """Whether replies need the slow path."""
        return self.silent or self.garble is not None or self.delay_s > 0


class Memory:
    """The data tables of one device. Addresses from 0 to the size of a table exist; the rest is exception 02."""

    def __init__(self) -> None:
        self.coils = 0
        self.discretes = 0
        self.inputs = bytearray()
        self.holding = bytearray()
        self.sizes = dict.fromkeys(Space, 0)

    def grow(self, space: Space, size: int) -> None:
        """Make addresses 0 … size-1 of a table exist, as zeros."""
        if size > 65536:
            raise ValueError(f"address {size - 1} of table {space} is above 65535")
        if size <= self.sizes[space]:
            return
        self.sizes[space] = size
        words = self.inputs if space is Space.INPUT else self.holding
        if space in (Space.INPUT, Space.HOLDING):
            words.extend(bytes(2 * size - len(words)))

    def set_bit(self, space: Space, address: int, value: bool) -> None:
        """Set one coil or discrete input."""
        if space is Space.DISCRETE:
            self.discretes = self.discretes | (1 << address) if value else self.discretes & ~(1 << address)
        else:
            self.coils = self.coils | (1 << address) if value else self.coils & ~(1 << address)

    def words(self, space: Space) -> bytearray:
        """The big-endian bytes of a register table."""
        return self.inputs if space is Space.INPUT else self.holding

    def set_word(self, space: Space, address: int, value: int) -> None:
        """Set one register (0 … 65535)."""
        self.words(space)[2 * address : 2 * address + 2] = value.to_bytes(2, "big")

    def word(self, space: Space, address: int) -> int:
        """One register."""
        return int.from_bytes(self.words(space)[2 * address : 2 * address + 2], "big")


class Device:
    """One Modbus unit: tables, function codes, faults, and counts of what it was asked."""

    def __init__(self, name: str, unit: int, hook: WriteHook, seed: int = 0) -> None:
        self.name = name
        self.unit = unit
        self.hook = hook
        self.memory = Memory()
        self.faults = Faults()
        self.requests = 0
        self.writes = 0
        self.random = random.Random(f"{seed}:{name}")

    def answer(self, frame: bytes) -> bytes | None:
        """The reply frame to one whole MBAP frame, None for no reply."""
        self.requests += 1
        transaction, _, _, unit = _MBAP.unpack_from(frame)
        if self.faults.silent:
            return None
        garble = self.faults.garble
        if unit != self.unit:
            pdu = bytes((frame[MBAP_SIZE] | 0x80, NO_SUCH_UNIT))
        else:
            result = self.carry_out(frame[MBAP_SIZE:])
            if result is None:
                return None
            pdu, spoiled = result
            if spoiled and garble is None:
                garble = Garble.WRONG_ECHO
        if garble is not None:
            return spoil(garble, transaction, unit, pdu, self.random)
        return _MBAP.pack(transaction, 0, len(pdu) + 1, unit) + pdu

    def carry_out(self, pdu: bytes) -> tuple[bytes, bool] | None:
        """Answer one PDU: the reply PDU and whether it shall be spoiled; None for no reply."""
        function = pdu[0]
        if function in _READS:
            return _READS[function](self, pdu), False
        if function not in _WRITES:
            return _refuse(function, ILLEGAL_FUNCTION), False
        self.writes += 1
        code, reply = _WRITES[function](self, pdu)
        if code > 0:
            return _refuse(function, code), False
        if code == DROP_REPLY:
            return None
        return reply, code == GARBLE_REPLY


def _refuse(function: int, code: int) -> bytes:
    return bytes((function | 0x80, code))


def _read_coils(device: Device, pdu: bytes) -> bytes:
    return _bits(pdu, device.memory.coils, device.memory.sizes[Space.COIL])


def _read_discretes(device: Device, pdu: bytes) -> bytes:
    return _bits(pdu, device.memory.discretes, device.memory.sizes[Space.DISCRETE])


def _bits(pdu: bytes, bits: int, size: int) -> bytes:
    if len(pdu) != 5:
        return _refuse(pdu[0], ILLEGAL_VALUE)
    start, count = _TWO_WORDS.unpack_from(pdu, 1)
    if not 1 <= count <= 2000:
        return _refuse(pdu[0], ILLEGAL_VALUE)
    if start + count > size:
        return _refuse(pdu[0], ILLEGAL_ADDRESS)
    length = (count + 7) >> 3
    chosen: int = (bits >> start) & ((1 << count) - 1)
    return bytes((pdu[0], length)) + chosen.to_bytes(length, "little")


def _read_holding(device: Device, pdu: bytes) -> bytes:
    return _registers(pdu, device.memory.holding)


def _read_inputs(device: Device, pdu: bytes) -> bytes:
    return _registers(pdu, device.memory.inputs)


def _registers(pdu: bytes, words: bytearray) -> bytes:
    if len(pdu) != 5:
        return _refuse(pdu[0], ILLEGAL_VALUE)
    start, count = _TWO_WORDS.unpack_from(pdu, 1)
    if not 1 <= count <= 125:
        return _refuse(pdu[0], ILLEGAL_VALUE)
    if 2 * (start + count) > len(words):
        return _refuse(pdu[0], ILLEGAL_ADDRESS)
    return bytes((pdu[0], 2 * count)) + bytes(words[2 * start : 2 * (start + count)])


def _write_coil(device: Device, pdu: bytes) -> tuple[int, bytes]:
    if len(pdu) != 5:
        return ILLEGAL_VALUE, b""
    address, value = _TWO_WORDS.unpack_from(pdu, 1)
    if value not in (0x0000, 0xFF00):
        return ILLEGAL_VALUE, b""
    if address >= device.memory.sizes[Space.COIL]:
        return ILLEGAL_ADDRESS, b""
    return device.hook.write(device, Space.COIL, address, [1 if value else 0]), pdu


def _write_register(device: Device, pdu: bytes) -> tuple[int, bytes]:
    if len(pdu) != 5:
        return ILLEGAL_VALUE, b""
    address, value = _TWO_WORDS.unpack_from(pdu, 1)
    if address >= device.memory.sizes[Space.HOLDING]:
        return ILLEGAL_ADDRESS, b""
    return device.hook.write(device, Space.HOLDING, address, [value]), pdu


def _write_coils(device: Device, pdu: bytes) -> tuple[int, bytes]:
    if len(pdu) < 6:
        return ILLEGAL_VALUE, b""
    start, count, length = _WRITE_MANY.unpack_from(pdu, 1)
    if not 1 <= count <= 1968 or length != (count + 7) >> 3 or len(pdu) != 6 + length:
        return ILLEGAL_VALUE, b""
    if start + count > device.memory.sizes[Space.COIL]:
        return ILLEGAL_ADDRESS, b""
    bits = int.from_bytes(pdu[6:], "little")
    return device.hook.write(device, Space.COIL, start, [bits >> i & 1 for i in range(count)]), pdu[:5]


def _write_registers(device: Device, pdu: bytes) -> tuple[int, bytes]:
    if len(pdu) < 6:
        return ILLEGAL_VALUE, b""
    start, count, length = _WRITE_MANY.unpack_from(pdu, 1)
    if not 1 <= count <= 123 or length != 2 * count or len(pdu) != 6 + length:
        return ILLEGAL_VALUE, b""
    if start + count > device.memory.sizes[Space.HOLDING]:
        return ILLEGAL_ADDRESS, b""
    return device.hook.write(device, Space.HOLDING, start, list(struct.unpack(f">{count}H", pdu[6:]))), pdu[:5]


_READS: dict[int, Callable[[Device, bytes], bytes]] = {
    1: _read_coils,
    2: _read_discretes,
    3: _read_holding,
    4: _read_inputs,
}
_WRITES: dict[int, Callable[[Device, bytes], tuple[int, bytes]]] = {
    5: _write_coil,
    6: _write_register,
    15: _write_coils,
    16: _write_registers,
}


def spoil(garble: Garble, transaction: int, unit: int, pdu: bytes, rng: random.Random) -> bytes:
    """A reply frame that is wrong in the given way."""
    match garble:
        case Garble.WRONG_TRANSACTION:
            transaction = (transaction + 1) & 0xFFFF
        case Garble.WRONG_UNIT:
            unit = (unit + 1) & 0xFF
        case Garble.WRONG_FUNCTION:
            pdu = bytes((pdu[0] ^ 0x07,)) + pdu[1:]
        case Garble.WRONG_ECHO:
            pdu = pdu[:-1] + bytes((pdu[-1] ^ 0x55,))
        case Garble.SHORT:
            pdu = pdu[:-1]
        case Garble.JUNK:
            return rng.randbytes(12)
    return _MBAP.pack(transaction, 0, len(pdu) + 1, unit) + pdu


class Connection(asyncio.Protocol):
    """One TCP connection to a device."""

    def __init__(self, device: Device, connections: set[Connection]) -> None:
        self._device = device
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or close it when there are too many."""
        assert isinstance(transport, asyncio.Transport)
        if len(self._connections) >= MAX_CONNECTIONS:
            transport.abort()
            return
        self._transport = transport
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; a request in flight is gone with it."""
        self._transport = None
        self._connections.discard(self)

    def pause_writing(self) -> None:
        """The peer does not read its replies: take no more requests."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The peer reads again."""
        if self._transport is not None:
            self._transport.resume_reading()

    def abort(self) -> None:
        """Cut the connection with a reset."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Answer every whole frame; keep what is left of a frame that has not arrived in full."""
        if self._transport is None:
            return
        if self._pending:
            data = self._pending + data
            self._pending = b""
        device = self._device
        replies: list[bytes] = []
        position, end = 0, len(data)
        while end - position >= MBAP_SIZE:
            length = data[position + 4] << 8 | data[position + 5]
            if data[position + 2] or data[position + 3] or not 2 <= length <= MAX_FRAME_LENGTH:
                self._send(replies)
                self._transport.close()
                return
            stop = position + 6 + length
            if stop > end:
                break
            reply = device.answer(data[position:stop])
            if reply is not None:
                replies.append(reply)
            position = stop
        self._pending = data[position:]
        self._send(replies)

    def _send(self, replies: list[bytes]) -> None:
        if not replies or self._transport is None:
            return
        if self._device.faults.delay_s > 0:
            asyncio.get_running_loop().call_later(self._device.faults.delay_s, self._send_late, b"".join(replies))
        else:
            self._transport.write(replies[0] if len(replies) == 1 else b"".join(replies))

    def _send_late(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


class Listener:
    """The TCP listener of one device: open, or closed with every connection reset."""

    def __init__(self, device: Device, host: str, port: int) -> None:
        self.device = device
        self.host = host
        self.port = port
        self.connections: set[Connection] = set()
        self._server: asyncio.Server | None = None

    @property
    def is_open(self) -> bool:
        """Whether connections are taken."""
        return self._server is not None

    async def open(self) -> None:
        """Listen. Raises OSError if the address can't be had."""
        if self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(
                lambda: Connection(self.device, self.connections), self.host, self.port, reuse_address=True
            )

    def close(self) -> None:
        """Stop listening and reset every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in tuple(self.connections):
            connection.abort()
