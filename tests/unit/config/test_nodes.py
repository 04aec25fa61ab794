"""Points of OPC UA devices: what is read, what is refused with which advice, and that formatting is the inverse."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.device_models import NodeCommand, NodePoint, NodeRef, NodeValue
from config.nodes import (
    format_bit,
    format_command,
    format_number,
    parse_bit,
    parse_command,
    parse_node,
    parse_number,
)
from config.problems import Wrong

TRUE, FALSE, TWO = NodeValue(1, boolean=True), NodeValue(0, boolean=True), NodeValue(2, boolean=False)
POS = NodeRef("", "s=F1/Pos")


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("s=F1/Pos", NodePoint(POS, TRUE)),
        ("s=F1/Pos==2", NodePoint(POS, TWO)),
        ("s=F1/Pos==false", NodePoint(POS, FALSE)),
        ("s=F1/Pos==-3", NodePoint(POS, NodeValue(-3, boolean=False))),
        ("i=17", NodePoint(NodeRef("", "i=17"), TRUE)),
        ("b=AA==", NodePoint(NodeRef("", "b=AA=="), TRUE)),
        ("b=AA====2", NodePoint(NodeRef("", "b=AA=="), TWO)),
        ("s=a==b==true", NodePoint(NodeRef("", "s=a==b"), TRUE)),
        ("nsu=urn:maker:relay;s=F1/Pos==2", NodePoint(NodeRef("urn:maker:relay", "s=F1/Pos"), TWO)),
    ],
)
def test_bits(text: str, point: NodePoint) -> None:
    assert parse_bit(text) == point


def test_true_is_not_one() -> None:
    assert parse_bit("s=F1/Pos==true") != parse_bit("s=F1/Pos==1")


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("s=F1/Kw", NodePoint(NodeRef("", "s=F1/Kw"))),
        ("s=F1/Kw*0.1", NodePoint(NodeRef("", "s=F1/Kw"), scale=0.1)),
        ("s=F1/Kw*0.1-40", NodePoint(NodeRef("", "s=F1/Kw"), scale=0.1, offset=-40.0)),
        ("s=F1-2", NodePoint(NodeRef("", "s=F1-2"))),
        ("s=a*2*1", NodePoint(NodeRef("", "s=a*2"))),
    ],
)
def test_numbers(text: str, point: NodePoint) -> None:
    assert parse_number(text) == point


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("s=F1/Cmd:=true", NodeCommand(NodeRef("", "s=F1/Cmd"), TRUE)),
        ("s=F1/Cmd:=2", NodeCommand(NodeRef("", "s=F1/Cmd"), TWO)),
        ("s=F1->s=F1/Open()", NodeCommand(NodeRef("", "s=F1"), None, NodeRef("", "s=F1/Open"))),
        ("s=F1->s=F1/Do(false)", NodeCommand(NodeRef("", "s=F1"), FALSE, NodeRef("", "s=F1/Do"))),
        ("s=F1->nsu=urn:b;i=7(2)", NodeCommand(NodeRef("", "s=F1"), TWO, NodeRef("urn:b", "i=7"))),
        ("s=a:=b->s=c()", NodeCommand(NodeRef("", "s=a:=b"), None, NodeRef("", "s=c"))),
    ],
)
def test_commands(text: str, command: NodeCommand) -> None:
    assert parse_command(text) == command


@pytest.mark.parametrize(
    ("parse", "text", "what", "instead"),
    [
        (parse_node, "ns=2;s=F1/Pos", "by an index", "nsu=URI;s=F1/Pos"),
        (parse_command, "s=F1->ns=2;s=Open()", "by an index", "nsu=URI;s=Open"),
        (parse_node, "F1/Pos", "is no node", "s=F1/Pos"),
        (parse_node, "s=", "is no node", "s=F1/Pos"),
        (parse_node, "i=-1", "wants a number", "i=0"),
        (parse_node, "i=4294967296", "wants a number", "4294967295"),
        (parse_node, "g=17", "wants a GUID", "g="),
        (parse_node, "b=?", "wants Base64", "b="),
        (parse_node, "s=" + "x" * 600, "is no node", "512"),
        (parse_bit, "s=F1/Pos==closed", "neither true nor false", "s=F1/Pos==2"),
        (parse_bit, "s=F1/Pos==", "neither true nor false", "s=F1/Pos==2"),
        (parse_number, "s=F1/Kw*0", "scale must not be 0", "s=F1/Kw*0.1"),
        (parse_command, "s=F1/Open", "is no command", ":=true"),
        (parse_command, "s=F1/Cmd:=on", "neither true nor false", ":=true"),
        (parse_command, "s=F1/Open()", "an object and one of its methods", "->"),
        (parse_command, "s=a->s=b->s=c()", "an object and one of its methods", "->"),
        (parse_command, "s=a->s=b(1,2)", "neither true nor false", "(true)"),
    ],
)
def test_what_is_refused_says_what_to_write(parse, text: str, what: str, instead: str) -> None:
    with pytest.raises(Wrong) as raised:
        parse(text)
    assert what in raised.value.what
    assert instead in raised.value.write_instead


names = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FF, categories=("L", "N", "P", "S")), min_size=1
).filter(lambda text: "->" not in text)
identifiers = st.one_of(
    names.map(lambda text: f"s={text}"),
    st.integers(0, 2**32 - 1).map(lambda number: f"i={number}"),
    st.uuids().map(lambda uuid: f"g={uuid}"),
    st.binary(min_size=1, max_size=20).map(lambda raw: "b=" + base64.b64encode(raw).decode()),
)
refs = st.builds(NodeRef, st.sampled_from(["", "urn:a", "http://x/y?z=1"]), identifiers)
values = st.one_of(
    st.booleans().map(lambda flag: NodeValue(int(flag), boolean=True)),
    st.integers(-(10**17), 10**17).map(lambda number: NodeValue(number, boolean=False)),
)


@given(st.builds(NodePoint, refs, values))
def test_formatting_a_bit_is_the_inverse_of_reading_it(point: NodePoint) -> None:
    assert parse_bit(format_bit(point)) == point


@given(refs, st.floats(1e-6, 1e6), st.floats(-1e6, 1e6))
def test_formatting_a_number_is_the_inverse_of_reading_it(ref: NodeRef, scale: float, offset: float) -> None:
    point = NodePoint(ref, None, scale, offset)
    assert parse_number(format_number(point)) == point


@given(st.builds(NodeCommand, refs, values) | st.builds(NodeCommand, refs, st.none() | values, refs))
def test_formatting_a_command_is_the_inverse_of_reading_it(command: NodeCommand) -> None:
    assert parse_command(format_command(command)) == command
