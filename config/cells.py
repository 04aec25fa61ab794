"""The kind of a CSV cell that holds a point: which grammar it is read with depends on what its device speaks.

What must stay true: a point that leaves here fits its role (a bit, a number, a command) and its device's protocol, so no
breaker has points of two families. Points seen before are remembered: the cells of 12,000 feeders repeat themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from config.address import is_bit, parse_address
from config.device_models import Address, FieldProtocol, NodeCommand, NodePoint, RegisterType, Table
from config.nodes import (
    BIT_EXAMPLES,
    COMMAND_EXAMPLES,
    NUMBER_EXAMPLES,
    looks_like_a_node,
    parse_bit,
    parse_command,
    parse_number,
)
from config.problems import Wrong

AnyPoint = Address | NodePoint | NodeCommand
_NODES: dict[str, tuple[Callable[[str], AnyPoint], str]] = {
    "bit": (parse_bit, BIT_EXAMPLES),
    "number": (parse_number, NUMBER_EXAMPLES),
    "command": (parse_command, COMMAND_EXAMPLES),
    "select": (parse_command, COMMAND_EXAMPLES),
}
_ADDRESSES = {"bit": "di:17 or hr:120.3", "number": "ir:40 or ir:40:u32*0.1", "command": "coil:3 or hr:200"}


@dataclass(slots=True)
class Point:
    """The kind of a cell that holds a point; role says what it is good for: bit, number, command or select."""

    role: str
    seen: dict[tuple[FieldProtocol, str], AnyPoint] = field(default_factory=dict)

    def of_value(self, value: object) -> AnyPoint:
        if not isinstance(value, str):
            raise Wrong(f"{value!r} is no address", "an address in quotes")
        return self.of_text(value)

    def of_text(self, text: str) -> AnyPoint:
        return self.read(text, guess(text))

    def read(self, text: str, protocol: FieldProtocol) -> AnyPoint:
        """The point in the grammar of this protocol."""
        point = self.seen.get((protocol, text))
        if point is None:
            point = self._address(text) if protocol is FieldProtocol.MODBUS else self._node(text)
            self.seen[protocol, text] = point
        return point

    def _node(self, text: str) -> AnyPoint:
        parse, examples = _NODES[self.role]
        if not looks_like_a_node(text):
            raise Wrong(f"{text[:60]!r} is no node, and the device speaks OPC UA", examples)
        return parse(text)

    def _address(self, text: str) -> Address:
        if self.role == "select":
            raise Wrong(f"{text[:60]!r}: on a Modbus device nothing is selected before it is operated", "an empty cell")
        if looks_like_a_node(text):
            raise Wrong(f"{text[:60]!r} is a node, and the device speaks Modbus", _ADDRESSES[self.role])
        address = parse_address(text)
        self._fits(text, address)
        return address

    def _fits(self, text: str, address: Address) -> None:
        here = f"{address.table}:{address.number}"
        if self.role == "bit" and not is_bit(address):
            raise Wrong(f"{text!r} is a whole register, not a bit", f"di:17, coil:3 or a bit of the register: {here}.0")
        if self.role == "number" and is_bit(address):
            raise Wrong(f"{text!r} is one bit, not a number", "a register such as ir:40 or ir:40:u32*0.1")
        if self.role == "command":
            if address.table not in (Table.COIL, Table.HOLDING):
                raise Wrong(f"{text!r} can't be written", f"coil:{address.number} or hr:{address.number}")
            if address.type is not RegisterType.U16 or address.scale != 1.0 or address.offset != 0.0:
                raise Wrong(f"{text!r}: a command has neither type nor scale", here)


def guess(text: str) -> FieldProtocol:
    """The protocol that a point can only be meant for; for one of a device that isn't known."""
    return FieldProtocol.OPCUA if looks_like_a_node(text) else FieldProtocol.MODBUS
