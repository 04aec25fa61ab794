"""How nodes and commands are written in a site's files."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from simulators.opcua.points import (
    BitPoint,
    Call,
    Node,
    NumberPoint,
    Write,
    parse_bit,
    parse_command,
    parse_node,
    parse_number,
)

POS, LOC = Node("", "s", "F1/Pos"), Node("", "s", "F1/Loc")


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("s=F1/Pos", POS),
        ("i=17", Node("", "i", "17")),
        ("nsu=urn:maker:relay;s=F1;2", Node("urn:maker:relay", "s", "F1;2")),
    ],
)
def test_nodes(text: str, node: Node) -> None:
    assert parse_node(text) == node
    assert str(node) == text


@pytest.mark.parametrize(
    ("parse", "text", "point"),
    [
        (parse_bit, "s=F1/Loc", BitPoint(LOC, True)),
        (parse_bit, "s=F1/Loc==false", BitPoint(LOC, False)),
        (parse_bit, "s=F1/Pos==2", BitPoint(POS, 2)),
        (parse_number, "s=F1/Pos", NumberPoint(POS)),
        (parse_number, "s=F1/Pos*0.1", NumberPoint(POS, 0.1)),
        (parse_number, "s=F1/Pos*-1e-1-40.5", NumberPoint(POS, -0.1, -40.5)),
        (parse_number, "s=F1-5", NumberPoint(Node("", "s", "F1-5"))),
        (parse_command, "s=F1/Loc:=true", Write(LOC, True)),
        (parse_command, "s=F1/Pos:=-3", Write(POS, -3)),
        (parse_command, "s=F1->s=F1/Open()", Call(Node("", "s", "F1"), Node("", "s", "F1/Open"))),
        (parse_command, "i=1->i=2(false)", Call(Node("", "i", "1"), Node("", "i", "2"), False)),
    ],
)
def test_points(parse: Callable[[str], object], text: str, point: object) -> None:
    assert parse(text) == point


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parse_node, "ns=2;s=F1", "is no node"),
        (parse_node, "x=3", "is no node"),
        (parse_node, "i=one", "needs a number"),
        (parse_bit, "s=F1==open", "neither true, false nor an integer"),
        (parse_number, "", "is no node"),
        (parse_command, "s=F1/Open", "is no command"),
        (parse_command, "s=F1->s=F1/Open(1.5)", "neither true"),
    ],
)
def test_what_is_none(parse: Callable[[str], object], text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)
