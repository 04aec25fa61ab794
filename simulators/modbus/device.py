"""One Modbus unit: what it answers, and what it does wrong on purpose.

Another unit's number gets exception 0B, an unknown function 01. What a write *means* is decided by the ``WriteHook``.
"""

from __future__ import annotations

import enum
import random
import struct
from dataclasses import dataclass
from typing import Protocol

from simulators.modbus.functions import ILLEGAL_FUNCTION, NO_SUCH_UNIT, READS, WRITES, refuse
from simulators.modbus.memory import Memory, Space

DROP_REPLY = -1
GARBLE_REPLY = -2

MBAP = struct.Struct(">HHHB")
"""Transaction, protocol (0), length of what follows, unit."""
MBAP_SIZE = 7


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
        transaction, _, _, unit = MBAP.unpack_from(frame)
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
        return MBAP.pack(transaction, 0, len(pdu) + 1, unit) + pdu

    def carry_out(self, pdu: bytes) -> tuple[bytes, bool] | None:
        """Answer one PDU: the reply PDU and whether it shall be spoiled; None for no reply."""
        function = pdu[0]
        if function in READS:
            return READS[function](self.memory, pdu), False
        if function not in WRITES:
            return refuse(function, ILLEGAL_FUNCTION), False
        self.writes += 1
        code, reply = WRITES[function](self.memory, self._write, pdu)
        if code > 0:
            return refuse(function, code), False
        if code == DROP_REPLY:
            return None
        return reply, code == GARBLE_REPLY

    def _write(self, space: Space, address: int, values: list[int]) -> int:
        return self.hook.write(self, space, address, values)


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
    return MBAP.pack(transaction, 0, len(pdu) + 1, unit) + pdu
