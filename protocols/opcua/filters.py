"""Event filters: which fields of an event a client wants, and of which events.

The library's own evaluator raises for fields that an event hasn't got, takes a type for itself alone (not for those below
it), and lets a filter refer to itself without end. This one is checked once, when it is given, and never raises later:
a comparison with something that isn't there is null, and null is not true (OPC UA part 4, 7.7: three-valued logic).
Supported: Equals, IsNull, GreaterThan, LessThan, GreaterThanOrEqual, LessThanOrEqual, Like, Not, Between, InList, And, Or,
OfType. Refused: Cast, InView, RelatedTo, bit operators.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from asyncua import ua

from protocols.opcua.values import fault

MOST_ELEMENTS = 50
MOST_OPERANDS = 500
MOST_SELECTED = 100
LONGEST_PATTERN = 200

Order = Callable[[Any, Any], bool]
_F = ua.FilterOperator
_OPERANDS: dict[ua.FilterOperator, tuple[int, int]] = {
    _F.Equals: (2, 2),
    _F.IsNull: (1, 1),
    _F.GreaterThan: (2, 2),
    _F.LessThan: (2, 2),
    _F.GreaterThanOrEqual: (2, 2),
    _F.LessThanOrEqual: (2, 2),
    _F.Like: (2, 2),
    _F.Not: (1, 1),
    _F.Between: (3, 3),
    _F.InList: (2, MOST_OPERANDS),
    _F.And: (2, 2),
    _F.Or: (2, 2),
    _F.OfType: (1, 1),
}
_ORDER: dict[ua.FilterOperator, Order] = {
    _F.GreaterThan: operator.gt,
    _F.LessThan: operator.lt,
    _F.GreaterThanOrEqual: operator.ge,
    _F.LessThanOrEqual: operator.le,
}


class Fields(Protocol):
    """An event, as a filter sees it."""

    def value(self, path: str) -> object:
        """The value of a field by its browse path (``ActiveState/Id``); None when it hasn't got it."""

    def types(self) -> frozenset[ua.NodeId]:
        """Its type and all above it."""


class Filter:
    """A where clause that was checked."""

    def __init__(self, elements: Sequence[ua.ContentFilterElement]) -> None:
        self._elements = elements

    def eval(self, event: Any) -> bool:
        """Whether the event (``Fields``) is wanted."""
        return not self._elements or _Evaluation(self._elements, event).element(0) is True


class _Evaluation:
    """One event against one filter; each element is worked out once, however many others refer to it."""

    def __init__(self, elements: Sequence[ua.ContentFilterElement], event: Fields) -> None:
        self._elements = elements
        self._event = event
        self._known: dict[int, object] = {}

    def element(self, index: int) -> object:
        """True, False or None (null)."""
        if index not in self._known:
            self._known[index] = self._work_out(self._elements[index])
        return self._known[index]

    def _work_out(self, element: ua.ContentFilterElement) -> object:
        operands = element.FilterOperands
        kind = element.FilterOperator
        first = self._operand(operands[0])
        match kind:
            case _F.IsNull:
                return first is None
            case _F.Not:
                return (not first) if isinstance(first, bool) else None
            case _F.OfType:
                return first in self._event.types()
            case _F.And | _F.Or:
                return _both(kind is _F.And, first, self._operand(operands[1]))
            case _F.InList:
                return any(first == self._operand(each) for each in operands[1:]) if first is not None else None
            case _F.Between:
                low, high = self._operand(operands[1]), self._operand(operands[2])
                return _both(True, _compare(operator.le, low, first), _compare(operator.le, first, high))
            case _F.Equals:
                return _compare(operator.eq, first, self._operand(operands[1]))
            case _F.Like:
                return _like(first, self._operand(operands[1]))
            case _:
                return _compare(_ORDER[kind], first, self._operand(operands[1]))

    def _operand(self, operand: object) -> object:
        match operand:
            case ua.ElementOperand():
                return self.element(operand.Index)
            case ua.LiteralOperand():
                return _plain(operand.Value.Value if operand.Value is not None else None)
            case ua.SimpleAttributeOperand():
                return _plain(self._event.value(path_of(operand)))
            case _:
                return None


def path_of(operand: ua.SimpleAttributeOperand) -> str:
    """The field that is meant: names joined by ``/``. Without a path it is the event's own attribute: NodeId is the
    condition's id."""
    if not operand.BrowsePath:
        return "NodeId" if operand.AttributeId == ua.AttributeIds.NodeId else ""
    return "/".join(str(name.Name) for name in operand.BrowsePath)


def check_filter(given: object) -> Filter:
    """A filter of a monitored item for events. Errors: UaStatusCodeError, saying what is wrong with it."""
    if not isinstance(given, ua.EventFilter):
        raise fault(ua.StatusCodes.BadEventFilterInvalid)
    if not given.SelectClauses or len(given.SelectClauses) > MOST_SELECTED:
        raise fault(ua.StatusCodes.BadEventFilterInvalid)
    elements = (given.WhereClause.Elements if given.WhereClause is not None else None) or []
    if len(elements) > MOST_ELEMENTS:
        raise fault(ua.StatusCodes.BadContentFilterInvalid)
    for index, element in enumerate(elements):
        _check_element(index, element, len(elements))
    return Filter(elements)


def _check_element(index: int, element: ua.ContentFilterElement, count: int) -> None:
    allowed = _OPERANDS.get(element.FilterOperator)
    if allowed is None:
        raise fault(ua.StatusCodes.BadFilterOperatorUnsupported)
    if not allowed[0] <= len(element.FilterOperands or ()) <= allowed[1]:
        raise fault(ua.StatusCodes.BadFilterOperandCountMismatch)
    for operand in element.FilterOperands:
        match operand:
            case ua.ElementOperand():
                # Only forwards: a filter that refers to itself would never end.
                if not index < operand.Index < count:
                    raise fault(ua.StatusCodes.BadFilterElementInvalid)
            case ua.LiteralOperand() | ua.SimpleAttributeOperand():
                pass
            case _:
                raise fault(ua.StatusCodes.BadFilterOperandInvalid)
    if element.FilterOperator is _F.Like:
        pattern = element.FilterOperands[1]
        if not isinstance(pattern, ua.LiteralOperand) or pattern.Value is None or not _is_pattern(pattern.Value.Value):
            raise fault(ua.StatusCodes.BadFilterLiteralInvalid)


def _is_pattern(value: object) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_PATTERN


def _plain(value: object) -> object:
    """Texts compare by their text, numbers as numbers."""
    return value.Text if isinstance(value, ua.LocalizedText) else value


def _compare(how: Order, left: object, right: object) -> bool | None:
    if left is None or right is None:
        return None
    try:
        return how(left, right)
    except TypeError:
        return None


def _both(conjunction: bool, first: object, second: object) -> bool | None:
    decided = not conjunction
    if first is decided or second is decided:
        return decided
    return conjunction if first is conjunction and second is conjunction else None


_ANY_TEXT = None
_Token = Callable[[str], bool] | None


def _like(value: object, pattern: object) -> bool | None:
    """OPC UA's Like: % any text, _ one character, [abc] [a-z] [^a] one of these, a backslash takes the next one literally.
    Takes no more than len(value) times len(pattern) steps: going back is only ever to the last %."""
    if not isinstance(value, str) or not isinstance(pattern, str):
        return None
    tokens = _tokens(pattern)
    at = token = 0
    resume_at, resume_token = 0, -1
    while at < len(value):
        if token < len(tokens) and (test := tokens[token]) is _ANY_TEXT:
            resume_at, resume_token = at, token
            token += 1
        elif token < len(tokens) and test is not None and test(value[at]):
            at, token = at + 1, token + 1
        elif resume_token >= 0:
            resume_at += 1
            at, token = resume_at, resume_token + 1
        else:
            return False
    return all(each is _ANY_TEXT for each in tokens[token:])


def _tokens(pattern: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while at < len(pattern):
        head = pattern[at]
        end = pattern.find("]", at + 2) if head == "[" else -1
        if head == "%":
            tokens.append(_ANY_TEXT)
        elif head == "_":
            tokens.append(lambda _character: True)
        elif end >= 0:
            tokens.append(_one_of(pattern[at + 1 : end]))
            at = end
        else:
            if head == "\\" and at + 1 < len(pattern):
                at += 1
            tokens.append(_one_of(pattern[at], literal=True))
        at += 1
    return tokens


def _one_of(inside: str, literal: bool = False) -> Callable[[str], bool]:
    if literal:
        return lambda character: character == inside
    negated = inside.startswith("^")
    listed = inside[1:] if negated else inside
    ranges: list[tuple[str, str]] = []
    at = 0
    while at < len(listed):
        wide = at + 2 < len(listed) and listed[at + 1] == "-"
        ranges.append((listed[at], listed[at + 2] if wide else listed[at]))
        at += 3 if wide else 1
    return lambda character: any(low <= character <= high for low, high in ranges) is not negated
