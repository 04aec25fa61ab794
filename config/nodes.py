"""Points of OPC UA devices, as they are written in the CSV files.

    node       s=F1/Pos                     a node of the device's namespace: s= text, i= number, g= GUID, b= Base64
               nsu=urn:maker:relay;s=Pos    a node of another namespace, by its URI
    bit        s=F1/Loc                     1 where the node holds true
               s=F1/Pos==2                  1 where it holds the integer 2 (or ==true, ==false)
    number     s=F1/Kw                      the value
               s=F1/Kw*0.1                  value = raw × 0.1; with an offset: s=F1/Kw*0.1+5, s=F1/Kw*0.1-40
    command    s=F1/Cmd:=true               write true, false or an integer
               s=F1->s=F1/Open()            call a method of an object, with nothing or with one value: s=F1->s=F1/Do(2)

Namespaces are named by their URI: an index (``ns=2``) means another namespace after the next restart of a server, and
is refused. Of ``==``, ``*`` and ``:=`` the last one in the text counts, so a name that holds one itself can be written
by giving the value: ``s=a==b==true``. What must stay true: ``parse_bit(format_bit(p)) == p``, for each of the kinds.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from uuid import UUID

from config.device_models import TRUE, NodeCommand, NodePoint, NodeRef, NodeValue
from config.problems import Wrong, shorten

LONGEST_IDENTIFIER = 512
LAST_NUMERIC = 4294967295
NODE_EXAMPLES = "s=F1/Pos, i=17 or nsu=urn:maker:relay;s=F1/Pos"
BIT_EXAMPLES = "s=F1/Loc (true counts) or s=F1/Pos==2"
NUMBER_EXAMPLES = "s=F1/Kw or s=F1/Kw*0.1+5"
COMMAND_EXAMPLES = "s=F1/Cmd:=true or s=F1->s=F1/Open()"

_NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?"
_LOOKS_LIKE_A_NODE = re.compile(r"nsu?=|[A-Za-z]=")
_NODE = re.compile(r"(?:nsu=(?P<uri>[^;]+);)?(?P<kind>[isgb])=(?P<identifier>.+)")
_INDEX = re.compile(r"ns=[^;]*;(?P<rest>.*)")
_BASE64 = re.compile(r"(?:nsu=[^;]+;)?b=")
_SCALED = re.compile(rf"(?P<node>.+)\*(?P<scale>-?{_NUMBER})(?P<offset>[+-]{_NUMBER})?")
_CALL = re.compile(r"(?P<target>.+)\((?P<value>[^()]*)\)")
_VALUE = re.compile(r"true|false|[+-]?[0-9]{1,18}")


def looks_like_a_node(text: str) -> bool:
    """True for what can only be meant as a node of an OPC UA server."""
    return _LOOKS_LIKE_A_NODE.match(text) is not None


def parse_node(text: str) -> NodeRef:
    """The node that text stands for; raises ``Wrong``, as all of these do, which says what to write instead."""
    by_index = _INDEX.fullmatch(text)
    if by_index is not None:
        what = f"{shorten(text)} names its namespace by an index, which a restart of the device may change"
        raise Wrong(what, f"nsu=URI;{by_index['rest'][:60]}, or {by_index['rest'][:60]} in the namespace of the device")
    found = _NODE.fullmatch(text)
    if found is None:
        raise Wrong(f"{shorten(text)} is no node", NODE_EXAMPLES)
    identifier = found["identifier"]
    if len(text) > LONGEST_IDENTIFIER or not text.isprintable():
        raise Wrong(f"{shorten(text)} is no node", f"at most {LONGEST_IDENTIFIER} printable characters")
    match found["kind"]:
        case "i":
            if not identifier.isascii() or not identifier.isdigit() or int(identifier[:20]) > LAST_NUMERIC:
                raise Wrong(f"{shorten(text)}: i= wants a number", f"i=0 to i={LAST_NUMERIC}")
            identifier = str(int(identifier))
        case "g":
            try:
                identifier = str(UUID(identifier))
            except ValueError:
                example = "g=09087e75-8e5e-499b-954f-f2a9603db28a"
                raise Wrong(f"{shorten(text)}: g= wants a GUID", example) from None
        case "b":
            try:
                identifier = base64.b64encode(base64.b64decode(identifier, validate=True)).decode()
            except (binascii.Error, ValueError):
                raise Wrong(f"{shorten(text)}: b= wants Base64", "b=M/RbKBsRVkePCePcx24oRA==") from None
    return NodeRef(found["uri"] or "", f"{found['kind']}={identifier}")


def parse_bit(text: str) -> NodePoint:
    """A point that reads as one bit."""
    node, sign, value = text.rpartition("==")
    if not sign or (not value and _BASE64.match(text)):  # the padding of Base64 is no comparison
        return NodePoint(parse_node(text), TRUE)
    return NodePoint(parse_node(node), _value(text, value, f"{node[:60]}==2"))


def parse_number(text: str) -> NodePoint:
    """A point that reads as a number."""
    scaled = _SCALED.fullmatch(text)
    if scaled is None:
        return NodePoint(parse_node(text))
    scale, offset = float(scaled["scale"]), float(scaled["offset"] or 0.0)
    if scale == 0 or not math.isfinite(scale) or not math.isfinite(offset):
        raise Wrong(
            f"{shorten(text)}: scale must not be 0, nor scale or offset too large", f"{scaled['node'][:60]}*0.1"
        )
    return NodePoint(parse_node(scaled["node"]), None, scale, offset)


def parse_command(text: str) -> NodeCommand:
    """A command: a value to be written, or a method to be called."""
    call = _CALL.fullmatch(text)
    if call is None:
        node, sign, value = text.rpartition(":=")
        if not sign:
            raise Wrong(f"{shorten(text)} is no command", COMMAND_EXAMPLES)
        return NodeCommand(parse_node(node), _value(text, value, f"{node[:60]}:=true"))
    parts = call["target"].split("->")
    if len(parts) != 2:
        raise Wrong(f"{shorten(text)}: a call names an object and one of its methods", "s=F1->s=F1/Open()")
    argument = _value(text, call["value"], "s=F1->s=F1/Open(true)") if call["value"] else None
    return NodeCommand(parse_node(parts[0]), argument, parse_node(parts[1]))


def format_node(node: NodeRef) -> str:
    """The text that ``parse_node`` reads as this node."""
    return f"nsu={node.namespace};{node.identifier}" if node.namespace else node.identifier


def format_bit(point: NodePoint) -> str:
    """The shortest text that ``parse_bit`` reads as this point."""
    node = format_node(point.node)
    equals = point.equals or TRUE
    return node if equals == TRUE and "==" not in node else f"{node}=={format_value(equals)}"


def format_number(point: NodePoint) -> str:
    """The shortest text that ``parse_number`` reads as this point."""
    node = format_node(point.node)
    if point.scale == 1.0 and point.offset == 0.0 and _SCALED.fullmatch(node) is None:
        return node
    return f"{node}*{point.scale!r}" + (f"{point.offset:+}" if point.offset else "")


def format_command(command: NodeCommand) -> str:
    """The text that ``parse_command`` reads as this command."""
    node = format_node(command.node)
    value = "" if command.value is None else format_value(command.value)
    return f"{node}:={value}" if command.method is None else f"{node}->{format_node(command.method)}({value})"


def format_value(value: NodeValue) -> str:
    """``true``, ``false`` or the integer."""
    if value.boolean:
        return "true" if value.number else "false"
    return str(value.number)


def _value(whole: str, text: str, instead: str) -> NodeValue:
    if _VALUE.fullmatch(text) is None:
        raise Wrong(f"{shorten(whole)}: {shorten(text)} is neither true nor false nor an integer", instead)
    if text in ("true", "false"):
        return NodeValue(int(text == "true"), boolean=True)
    return NodeValue(int(text), boolean=False)
