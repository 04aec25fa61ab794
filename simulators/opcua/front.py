"""Breakers on OPC UA: what they show on their device's nodes, and what writes and calls mean to them.

A breaker whose two position bits are values of one node shows a double point there: closed, open, and for neither and for
both the two smallest numbers that are left (so that 1 open and 2 closed give IEC 61850's 0 intermediate and 3 bad).

Select before operate, where a breaker has points for it: a select holds for SELECT_S and for the session that made it; an
operate without it is refused; each select is good for one operate.

What must stay true: as in ``breakers``, every operate is counted once, taken or refused; a select that is refused counts
as a refused command, since nothing will follow it; one that is taken is not counted, since its operate will be.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from simulators.breakers import Breaker, BreakerFault, Switchgear
from simulators.modbus import DROP_REPLY, GARBLE_REPLY
from simulators.opcua.points import BitPoint, Command, Constant, Node, NodePoints, NumberPoint, Write
from simulators.opcua.rtu import (
    BAD_INVALID_ARGUMENT,
    BAD_INVALID_STATE,
    BAD_SENSOR_FAILURE,
    BAD_UNEXPECTED_ERROR,
    FIRST_BAD,
    GOOD,
    Kind,
    Method,
    Reply,
    Rtu,
    Shown,
)

SELECT_S = 10.0

Key = tuple[str, Node | None, Node, Constant | None]
"""Device, object, variable or method, value."""


class _Deed(enum.Enum):
    OPERATE = enum.auto()
    SELECT = enum.auto()
    CANCEL = enum.auto()


@dataclass(frozen=True, slots=True)
class _Order:
    breaker: Breaker
    deed: _Deed
    close: bool
    needs_select: bool


@dataclass(frozen=True, slots=True)
class _Selection:
    session: str
    close: bool
    until: float


class NodeFront:
    """The breakers of all OPC UA devices. now: monotonic seconds. moved: called after commands."""

    def __init__(self, switchgear: Switchgear, now: Callable[[], float], moved: Callable[[], None]) -> None:
        self._switchgear = switchgear
        self._now = now
        self._moved = moved
        self._places: dict[int, tuple[Rtu, NodePoints]] = {}
        self._orders: dict[Key, list[_Order]] = {}
        self._selected: dict[int, _Selection] = {}

    def connect(self, rtu: Rtu, points: NodePoints, breaker: Breaker) -> None:
        """Give a breaker its nodes on a device. Raises ValueError for nodes that can't be."""
        self._places[breaker.index] = (rtu, points)
        for bit in (points.pos_closed, points.pos_open, points.local):
            if bit is not None:
                rtu.add_variable(bit.node, _kind(bit.value))
        if points.op_count is not None:
            rtu.add_variable(points.op_count.node, Kind.UINT32)
        if points.power_kw is not None:
            rtu.add_number(points.power_kw.node)
        by_select = points.select_open is not None or points.select_close is not None
        for command, deed, close in (
            (points.open_cmd, _Deed.OPERATE, False),
            (points.close_cmd, _Deed.OPERATE, True),
            (points.select_open, _Deed.SELECT, False),
            (points.select_close, _Deed.SELECT, True),
            (points.cancel, _Deed.CANCEL, False),
        ):
            if command is not None:
                self._take(rtu, command, _Order(breaker, deed, close, by_select))

    def _take(self, rtu: Rtu, command: Command, order: _Order) -> None:
        if isinstance(command, Write):
            rtu.add_variable(command.node, _kind(command.value), writable=True)
            key: Key = (rtu.name, None, command.node, command.value)
        else:
            argument = None if command.argument is None else _kind(command.argument)
            rtu.add_method(command.object, command.method, argument)
            key = (rtu.name, command.object, command.method, command.argument)
        orders = self._orders.setdefault(key, [])
        if any(other.breaker is not order.breaker for other in orders):
            raise ValueError(f"{command} is a command of {orders[0].breaker.name}, too")
        orders.append(order)

    def show(self, breaker: Breaker) -> None:
        """Show a breaker's contacts, local switch and counter."""
        rtu, points = self._places[breaker.index]
        closed, is_open = breaker.contacts()
        bad = BreakerFault.BAD_STATUS in breaker.faults
        status = _code(breaker.faults.get(BreakerFault.BAD_STATUS), BAD_SENSOR_FAILURE) if bad else GOOD
        if points.pos_closed.node == points.pos_open.node:
            shown = double_point(points.pos_closed.value, points.pos_open.value, closed, is_open)
            if shown is not None:
                rtu.show(points.pos_closed.node, shown, status)
        else:
            rtu.show(points.pos_closed.node, _shown(points.pos_closed, closed), status)
            rtu.show(points.pos_open.node, _shown(points.pos_open, is_open), status)
        if points.local is not None:
            rtu.show(points.local.node, _shown(points.local, breaker.local))
        if points.op_count is not None:
            rtu.show(points.op_count.node, int(raw(points.op_count, breaker.op_count)))

    def write(self, rtu: Rtu, node: Node, value: Constant, session: str) -> Reply:
        """A write (see ``RtuHook``): command variables are pulses; a value that commands nothing does nothing."""
        orders = self._orders.get((rtu.name, None, node, value))
        return self._carry_out(orders, session) if orders else Reply(GOOD)

    def call(self, rtu: Rtu, method: Method, argument: Constant | None, session: str) -> Reply:
        """A call (see ``RtuHook``)."""
        orders = self._orders.get((rtu.name, method.object, method.node, argument))
        return self._carry_out(orders, session) if orders else Reply(BAD_INVALID_ARGUMENT)

    def _carry_out(self, orders: list[_Order], session: str) -> Reply:
        breaker, now = orders[0].breaker, self._now()
        held = self._selected.get(breaker.index)
        if held is not None and held.until <= now:
            held = None
        # One command for both directions: what was selected tells which is meant.
        order = next((one for one in orders if held is not None and one.close == held.close), orders[0])
        if order.deed is _Deed.CANCEL:
            if held is not None and held.session == session:
                del self._selected[breaker.index]
            return Reply(GOOD)
        if self._switchgear.refusal(breaker):
            return self._refused(order, _refusal_code(breaker))
        if order.deed is _Deed.SELECT:
            if held is not None and held.session != session:
                return self._refused(order, BAD_INVALID_STATE)
            self._selected[breaker.index] = _Selection(session, order.close, now + SELECT_S)
            return Reply(GOOD)
        if order.needs_select:
            if held is None or (held.session, held.close) != (session, order.close):
                return self._refused(order, BAD_INVALID_STATE)
            del self._selected[breaker.index]
        result = self._switchgear.command(breaker, order.close, now)
        self._moved()
        if result == GARBLE_REPLY:
            return Reply(_code(breaker.faults.get(BreakerFault.GARBLED_REPLY), BAD_UNEXPECTED_ERROR))
        return Reply(GOOD, answered=result != DROP_REPLY)

    def _refused(self, order: _Order, code: int) -> Reply:
        self._switchgear.refuse(order.breaker, order.close)
        return Reply(code)


def double_point(closed_value: Constant, open_value: Constant, closed: bool, is_open: bool) -> Constant | None:
    """What one node shows for both contacts; None where a Boolean can't show it."""
    if closed != is_open:
        return closed_value if closed else open_value
    if isinstance(closed_value, bool) or isinstance(open_value, bool):
        return None
    free = [number for number in range(4) if number not in (closed_value, open_value)]
    return free[1] if closed else free[0]


def raw(point: NumberPoint, value: float) -> float:
    """What a node has to show, so that its scale and offset make this value of it."""
    return (value - point.offset) / point.scale


def _shown(point: BitPoint, value: bool) -> Shown:
    if isinstance(point.value, bool):
        return point.value if value else not point.value
    return point.value if value else int(point.value == 0)


def _kind(value: Constant) -> Kind:
    return Kind.BOOLEAN if isinstance(value, bool) else Kind.INT32


def _code(value: float | None, default: int) -> int:
    return default if value is None else int(value)


def _refusal_code(breaker: Breaker) -> int:
    for fault in (BreakerFault.REFUSE, BreakerFault.LOCAL):
        value = breaker.faults.get(fault)
        if value is not None and value >= FIRST_BAD:
            return int(value)
    return BAD_INVALID_STATE
