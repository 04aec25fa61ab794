"""One RTU on OPC UA, without its wire: its nodes and what they show, what it was asked, and what is wrong with it.

What must stay true: what clients see of a node changes by ``show`` alone, each time with a time-stamp of the device's own
clock; while the RTU is STALE they see nothing new, and nothing is lost of it: in the end they see how things are.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from simulators.field import Forgery
from simulators.opcua.points import Constant, Node

GOOD = 0
BAD_UNEXPECTED_ERROR = 0x80010000
BAD_SENSOR_FAILURE = 0x808C0000
BAD_INVALID_STATE = 0x80AF0000
BAD_INVALID_ARGUMENT = 0x80AB0000
FIRST_BAD = 0x80000000

Shown = bool | int | float


class Kind(enum.Enum):
    """Types of variables and arguments."""

    BOOLEAN = "Boolean"
    INT32 = "Int32"
    UINT32 = "UInt32"
    DOUBLE = "Double"


ZEROS: dict[Kind, Shown] = {Kind.BOOLEAN: False, Kind.INT32: 0, Kind.UINT32: 0, Kind.DOUBLE: 0.0}


@dataclass(slots=True)
class Variable:
    """A variable as clients see it. source_us: Unix µs on the device's clock."""

    node: Node
    kind: Kind
    value: Shown
    status: int
    source_us: int
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Method:
    """A method of an object, with one argument of this kind or none."""

    object: Node
    node: Node
    argument: Kind | None


@dataclass(frozen=True, slots=True)
class Reply:
    """How a write or call ended: a status code; not answered at all where answered is False."""

    status: int
    answered: bool = True


@dataclass(slots=True)
class RtuFaults:
    """See ``DeviceFault``."""

    silent: bool = False
    malformed: bool = False
    delay_s: float = 0.0
    missed_publish: bool = False
    skew_s: float = 0.0
    stale: bool = False
    certificate: Forgery | None = None


class RtuHook(Protocol):
    """Decides what writes and calls mean. session: tells clients apart."""

    def write(self, rtu: Rtu, node: Node, value: Constant, session: str) -> Reply:
        """Carry out a write of a writable variable."""

    def call(self, rtu: Rtu, method: Method, argument: Constant | None, session: str) -> Reply:
        """Carry out a call whose argument is of the method's kind."""


@dataclass(slots=True)
class Rtu:
    """One device. changed: called for each variable that clients see otherwise now."""

    name: str
    namespace: str
    hook: RtuHook
    variables: dict[Node, Variable] = field(default_factory=dict)
    methods: dict[tuple[Node, Node], Method] = field(default_factory=dict)
    faults: RtuFaults = field(default_factory=RtuFaults)
    requests: int = 0
    writes: int = 0
    changed: Callable[[Variable], None] = lambda _: None
    _true: dict[Node, tuple[Shown, int]] = field(default_factory=dict)

    def add_variable(self, node: Node, kind: Kind, writable: bool = False) -> None:
        """Have this variable; asked for again it is the same one. Raises ValueError if the kinds differ."""
        found = self.variables.get(node)
        if found is None:
            self.variables[node] = Variable(node, kind, ZEROS[kind], GOOD, self.now_us(), writable)
            self._true[node] = (ZEROS[kind], GOOD)
        elif found.kind is not kind:
            raise ValueError(f"node {node} can't be {found.kind.value} and {kind.value}")
        else:
            found.writable = found.writable or writable

    def add_number(self, node: Node) -> None:
        """Have this variable, for a measured value."""
        self.add_variable(node, Kind.DOUBLE)

    def add_method(self, holder: Node, node: Node, argument: Kind | None) -> None:
        """Have this method of an object. Raises ValueError if it is there with another argument."""
        method = Method(holder, node, argument)
        if self.methods.setdefault((holder, node), method) != method:
            raise ValueError(f"method {node} can't have an argument of two kinds")

    def now_us(self) -> int:
        """Unix µs on the device's clock."""
        return time.time_ns() // 1000 + int(self.faults.skew_s * 1e6)

    def show(self, node: Node, value: Shown, status: int = GOOD) -> None:
        """Let clients see this from now on; what is as it was is not shown again."""
        if self._true[node] != (value, status):
            self._true[node] = (value, status)
            if not self.faults.stale:
                self._set(self.variables[node])

    def show_again(self) -> None:
        """Let clients see all as it is, with new time-stamps; while STALE, nothing."""
        if self.faults.stale:
            return
        for variable in self.variables.values():
            self._set(variable)

    def _set(self, variable: Variable) -> None:
        variable.value, variable.status = self._true[variable.node]
        variable.source_us = self.now_us()
        self.changed(variable)
