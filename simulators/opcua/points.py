"""How a site's files write points of an OPC UA device.

    node      s=F00001/Pos   i=17   g=…   b=…   nsu=urn:vendor;s=F00001/Pos      without nsu=: in the device's namespace
    bit       NODE (a Boolean that is true), or NODE==VALUE (true, false, an integer)
    number    NODE, NODE*SCALE, NODE*SCALE+OFFSET
    command   NODE:=VALUE (a write), OBJECT->METHOD() or OBJECT->METHOD(VALUE) (a call)

An index (``ns=2;…``) is refused: a server may number its namespaces anew at each start.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

Constant = bool | int

_NODE = re.compile(r"(?:nsu=([^;]+);)?([sigb])=(.+)")
_INTEGER = re.compile(r"[+-]?\d+")
_NUMBER = r"[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?"
_SCALED = re.compile(rf"(.+?)(?:\*(-?{_NUMBER})([+-]{_NUMBER})?)?")
_CALL = re.compile(r"(.+?)->(.+)\(([^()]*)\)")


@dataclass(frozen=True, slots=True)
class Node:
    """A node: its namespace (empty: the device's own), the kind of its identifier (s, i, g, b) and the identifier."""

    namespace: str
    kind: str
    identifier: str

    def __str__(self) -> str:
        return f"{f'nsu={self.namespace};' if self.namespace else ''}{self.kind}={self.identifier}"


@dataclass(frozen=True, slots=True)
class BitPoint:
    """True while the node has this value."""

    node: Node
    value: Constant = True


@dataclass(frozen=True, slots=True)
class NumberPoint:
    """A measured value: value = raw × scale + offset."""

    node: Node
    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class Write:
    """The command that is a write of this value."""

    node: Node
    value: Constant


@dataclass(frozen=True, slots=True)
class Call:
    """The command that is a call of a method, with one argument or none."""

    object: Node
    method: Node
    argument: Constant | None = None


Command = Write | Call


@dataclass(frozen=True, slots=True)
class NodePoints:
    """The points of one breaker; those that its device does not have are None.

    Where select_open and select_close are given the breaker is select-before-operate.
    """

    pos_closed: BitPoint
    pos_open: BitPoint
    open_cmd: Command
    close_cmd: Command
    local: BitPoint | None = None
    op_count: NumberPoint | None = None
    power_kw: NumberPoint | None = None
    select_open: Command | None = None
    select_close: Command | None = None
    cancel: Command | None = None


@functools.lru_cache(maxsize=65536)
def parse_node(text: str) -> Node:
    """The node; ValueError if the text is none."""
    match = _NODE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no node like s=F00001/Pos, i=17 or nsu=urn:vendor;s=F00001/Pos")
    namespace, kind, identifier = match.groups()
    if kind == "i" and not identifier.isdecimal():
        raise ValueError(f"{text!r}: i= needs a number")
    return Node(namespace or "", kind, identifier)


def parse_bit(text: str) -> BitPoint:
    """The bit; ValueError if the text is none."""
    node, equals, value = text.strip().rpartition("==")
    return BitPoint(parse_node(node), _constant(value)) if equals else BitPoint(parse_node(value))


def parse_number(text: str) -> NumberPoint:
    """The number; ValueError if the text is none."""
    match = _SCALED.fullmatch(text.strip())
    if match is None:
        raise ValueError("an empty text is no node")
    node, scale, offset = match.groups()
    return NumberPoint(parse_node(node), float(scale or 1.0), float(offset or 0.0))


def parse_command(text: str) -> Command:
    """The command; ValueError if the text is none."""
    called = _CALL.fullmatch(text.strip())
    if called is not None:
        holder, method, argument = called.groups()
        return Call(parse_node(holder), parse_node(method), _constant(argument) if argument.strip() else None)
    node, becomes, value = text.strip().rpartition(":=")
    if not becomes:
        raise ValueError(f"{text!r} is no command like s=F00001/Oper:=true or s=F00001->s=F00001/Open()")
    return Write(parse_node(node), _constant(value))


def _constant(text: str) -> Constant:
    text = text.strip()
    if text in ("true", "false"):
        return text == "true"
    if _INTEGER.fullmatch(text) is None:
        raise ValueError(f"{text!r} is neither true, false nor an integer")
    return int(text)
