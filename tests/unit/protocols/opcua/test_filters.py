"""Event filters: three-valued, with subtypes, and without a way to keep the server busy."""

from __future__ import annotations

import time

import pytest
from asyncua import ua
from asyncua.ua.uaerrors import UaStatusCodeError

from protocols.opcua.filters import check_filter

BASE, SHED = ua.NodeId(ua.ObjectIds.BaseEventType), ua.NodeId("Type/ShedEventType", 2)
F = ua.FilterOperator


class Fact:
    """An event of type ShedEventType."""

    def __init__(self, **fields: object) -> None:
        self.fields = fields

    def value(self, path: str) -> object:
        return self.fields.get(path.replace("/", "_"))

    def types(self) -> frozenset[ua.NodeId]:
        return frozenset((BASE, SHED))


def field(path: str) -> ua.SimpleAttributeOperand:
    return ua.SimpleAttributeOperand(
        TypeDefinitionId=BASE,
        BrowsePath=[ua.QualifiedName(name) for name in path.split("/")],
        AttributeId=ua.AttributeIds.Value,
    )


def literal(value: object) -> ua.LiteralOperand:
    return ua.LiteralOperand(Value=ua.Variant(value))


def element(index: int) -> ua.ElementOperand:
    return ua.ElementOperand(Index=index)


def where(*elements: tuple[object, ...]) -> ua.EventFilter:
    made = [ua.ContentFilterElement(FilterOperator=kind, FilterOperands=list(rest)) for kind, *rest in elements]
    return ua.EventFilter(SelectClauses=[field("Message")], WhereClause=ua.ContentFilter(Elements=made))


def wanted(fact: Fact, *elements: tuple[object, ...]) -> bool:
    return check_filter(where(*elements)).eval(fact)


def test_without_a_condition_everything_is_wanted() -> None:
    assert wanted(Fact())


def test_comparisons_of_fields_with_values() -> None:
    urgent = Fact(Severity=800, SourceName="F1")
    assert wanted(urgent, (F.GreaterThan, field("Severity"), literal(700)))
    assert not wanted(urgent, (F.GreaterThan, field("Severity"), literal(800)))
    assert wanted(urgent, (F.GreaterThanOrEqual, field("Severity"), literal(800)))
    assert wanted(urgent, (F.LessThan, field("Severity"), literal(801)))
    assert wanted(urgent, (F.Between, field("Severity"), literal(700), literal(800)))
    assert wanted(urgent, (F.Equals, field("SourceName"), literal("F1")))
    assert wanted(urgent, (F.InList, field("SourceName"), literal("F2"), literal("F1")))
    assert not wanted(urgent, (F.InList, field("SourceName"), literal("F2")))


def test_a_field_that_is_not_there_is_null_and_null_is_not_true() -> None:
    fact = Fact(Severity=800)
    assert not wanted(fact, (F.GreaterThan, field("Tier"), literal(1)))
    assert wanted(fact, (F.IsNull, field("Tier")))
    assert not wanted(fact, (F.Not, element(1)), (F.Equals, field("Tier"), literal("1")))
    assert not wanted(fact, (F.GreaterThan, field("Severity"), literal("a text")))


def test_conditions_are_joined() -> None:
    fact = Fact(Severity=800, ActiveState_Id=True)
    severe, active = (
        (F.GreaterThan, field("Severity"), literal(700)),
        (F.Equals, field("ActiveState/Id"), literal(True)),
    )
    missing = (F.Equals, field("Tier"), literal(1))
    assert wanted(fact, (F.And, element(1), element(2)), severe, active)
    assert not wanted(fact, (F.And, element(1), element(2)), severe, missing)
    assert wanted(fact, (F.Or, element(1), element(2)), severe, missing)
    assert not wanted(fact, (F.Not, element(1)), severe)


def test_a_type_is_meant_with_all_below_it() -> None:
    assert wanted(Fact(), (F.OfType, literal(BASE)))
    assert wanted(Fact(), (F.OfType, literal(SHED)))
    assert not wanted(Fact(), (F.OfType, literal(ua.NodeId(ua.ObjectIds.ConditionType))))


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("F%", True),
        ("%7", True),
        ("F_07", True),
        ("F[0-2]07", True),
        ("F[^1]07", False),
        ("f%", False),
        ("F\\%", False),
    ],
)
def test_patterns(pattern: str, fits: bool) -> None:
    assert wanted(Fact(SourceName="F107"), (F.Like, field("SourceName"), literal(pattern))) is fits


def test_a_pattern_can_not_keep_the_server_busy() -> None:
    began = time.perf_counter()
    assert not wanted(Fact(SourceName="a" * 3000), (F.Like, field("SourceName"), literal("%a" * 90 + "%b")))
    assert time.perf_counter() - began < 2.0


def test_elements_that_refer_to_each_other_many_times_are_worked_out_once() -> None:
    doubled = [(F.And, element(n + 1), element(n + 1)) for n in range(45)]
    assert wanted(Fact(Severity=1), *doubled, (F.Equals, field("Severity"), literal(1)))


@pytest.mark.parametrize(
    "elements",
    [
        [(F.Not, element(0))],
        [(F.Not, element(7))],
        [(F.Cast, field("Severity"), literal(1))],
        [(F.BitwiseAnd, field("Severity"), literal(1))],
        [(F.Equals, field("Severity"))],
        [(F.Like, field("SourceName"), literal("x" * 201))],
        [(F.Like, field("SourceName"), field("Message"))],
        [(F.Equals, field("Severity"), literal(1))] * 51,
        [(F.Equals, ua.AttributeOperand(), literal(1))],
    ],
)
def test_what_can_not_be_worked_out_is_refused_when_it_is_given(elements: list[tuple[object, ...]]) -> None:
    with pytest.raises(UaStatusCodeError):
        check_filter(where(*elements))


def test_no_filter_at_all_or_one_that_selects_nothing_is_refused() -> None:
    for given in (
        None,
        ua.DataChangeFilter(),
        ua.EventFilter(),
        ua.EventFilter(SelectClauses=[field("Message")] * 101),
    ):
        with pytest.raises(UaStatusCodeError):
            check_filter(given)
