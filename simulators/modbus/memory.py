"""The data tables of one device. Bits are one big integer and registers big-endian bytes: a block read is one slice."""

from __future__ import annotations

import enum


class Space(enum.StrEnum):
    """The four data tables."""

    COIL = "coil"
    DISCRETE = "di"
    INPUT = "ir"
    HOLDING = "hr"


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
