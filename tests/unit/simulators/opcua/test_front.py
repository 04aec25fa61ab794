"""Breakers on nodes, without a wire: what they show, what commands mean, and select before operate."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulators.breakers import Breaker, BreakerFault, Switchgear
from simulators.opcua.front import SELECT_S, NodeFront, double_point, raw
from simulators.opcua.points import NodePoints, parse_bit, parse_command, parse_number
from simulators.opcua.rtu import (
    BAD_INVALID_ARGUMENT,
    BAD_INVALID_STATE,
    BAD_SENSOR_FAILURE,
    BAD_UNEXPECTED_ERROR,
    GOOD,
    Reply,
    Rtu,
)

DIRECT = NodePoints(
    pos_closed=parse_bit("s=P==2"),
    pos_open=parse_bit("s=P==1"),
    open_cmd=parse_command("s=F->s=Open()"),
    close_cmd=parse_command("s=F->s=Close()"),
    local=parse_bit("s=L"),
    op_count=parse_number("s=N"),
    power_kw=parse_number("s=K*0.1"),
)
BY_SELECT = replace(
    DIRECT,
    open_cmd=parse_command("s=F->s=Oper(false)"),
    close_cmd=parse_command("s=F->s=Oper(true)"),
    select_open=parse_command("s=F->s=Select(false)"),
    select_close=parse_command("s=F->s=Select(true)"),
    cancel=parse_command("s=F->s=Cancel()"),
)


class Bench:
    """One breaker on one RTU, at a time that only the test moves."""

    def __init__(self, points: NodePoints) -> None:
        self.now = 10.0
        self.breaker = Breaker(0, "F", 0.060)
        self.gear = Switchgear([self.breaker], lambda breaker: self.front.show(breaker), lambda: (0.0, 0))
        self.front = NodeFront(self.gear, lambda: self.now, lambda: None)
        self.rtu = Rtu("RTU", "urn:rtu", self.front)
        self.front.connect(self.rtu, points, self.breaker)
        self.front.show(self.breaker)

    def command(self, text: str, session: str = "one") -> Reply:
        command = parse_command(text)
        if hasattr(command, "object"):
            method = self.rtu.methods[command.object, command.method]
            return self.front.call(self.rtu, method, command.argument, session)
        return self.front.write(self.rtu, command.node, command.value, session)

    def shown(self, node: str) -> object:
        variable = self.rtu.variables[parse_bit(node).node]
        return variable.value if variable.status == GOOD else hex(variable.status)

    def settle(self) -> None:
        self.now += 1.0
        self.gear.advance(self.now)


def test_a_double_point_shows_both_contacts() -> None:
    shown = [double_point(2, 1, closed, is_open) for closed, is_open in ((1, 0), (0, 1), (0, 0), (1, 1))]
    assert shown == [2, 1, 0, 3]
    assert [double_point(0, 1, closed, is_open) for closed, is_open in ((1, 0), (0, 0), (1, 1))] == [0, 2, 3]
    assert double_point(True, False, False, False) is None


def test_a_call_opens_and_what_is_shown_follows() -> None:
    bench = Bench(DIRECT)
    assert (bench.shown("s=P"), bench.shown("s=L"), bench.shown("s=N")) == (2, False, 0)
    assert bench.command("s=F->s=Open()") == Reply(GOOD)
    assert (bench.shown("s=P"), bench.shown("s=N")) == (0, 1)
    bench.settle()
    assert bench.shown("s=P") == 1
    assert bench.breaker.counters()["open_commands"] == 1


def test_positions_on_two_nodes_and_commands_that_are_written() -> None:
    points = replace(
        DIRECT,
        pos_closed=parse_bit("s=A"),
        pos_open=parse_bit("s=B==5"),
        open_cmd=parse_command("s=C:=1"),
        close_cmd=parse_command("s=C:=2"),
    )
    bench = Bench(points)
    assert (bench.shown("s=A"), bench.shown("s=B")) == (True, 0)
    assert bench.command("s=C:=7") == Reply(GOOD)
    assert bench.breaker.operations == 0
    bench.command("s=C:=1")
    bench.settle()
    assert (bench.shown("s=A"), bench.shown("s=B"), bench.shown("s=C")) == (False, 5, 0)
    bench.command("s=C:=2")
    assert bench.breaker.close_commands == 1


@pytest.mark.parametrize(
    ("fault", "value", "reply", "operations"),
    [
        (BreakerFault.REFUSE, None, Reply(BAD_INVALID_STATE), 0),
        (BreakerFault.REFUSE, 0x801F0000, Reply(0x801F0000), 0),
        (BreakerFault.LOCAL, None, Reply(BAD_INVALID_STATE), 0),
        (BreakerFault.LOCAL, 0, Reply(GOOD), 0),
        (BreakerFault.STUCK, None, Reply(GOOD), 0),
        (BreakerFault.LOST_REPLY, None, Reply(GOOD, answered=False), 1),
        (BreakerFault.GARBLED_REPLY, None, Reply(BAD_UNEXPECTED_ERROR), 1),
        (BreakerFault.GARBLED_REPLY, 0x80AF0000, Reply(BAD_INVALID_STATE), 1),
    ],
)
def test_what_a_breaker_with_a_fault_answers_and_does(
    fault: BreakerFault, value: float | None, reply: Reply, operations: int
) -> None:
    bench = Bench(DIRECT)
    bench.gear.set_fault(bench.breaker, fault, value)
    assert bench.command("s=F->s=Open()") == reply
    counters = bench.breaker.counters()
    assert counters["operations"] == operations
    assert counters["open_commands"] + counters["refused"] == 1


def test_bad_contacts_and_a_bad_status_are_shown() -> None:
    bench = Bench(DIRECT)
    for fault, shown in ((BreakerFault.BAD_FEEDBACK_11, 3), (BreakerFault.BAD_FEEDBACK_00, 0)):
        bench.gear.set_fault(bench.breaker, fault, None)
        assert bench.shown("s=P") == shown
        bench.gear.clear_fault(bench.breaker, fault)
    bench.gear.set_fault(bench.breaker, BreakerFault.BAD_STATUS, None)
    assert bench.shown("s=P") == hex(BAD_SENSOR_FAILURE)
    bench.gear.set_fault(bench.breaker, BreakerFault.BAD_STATUS, 0x40900000)
    assert bench.shown("s=P") == hex(0x40900000)
    bench.gear.clear_fault(bench.breaker, None)
    assert bench.shown("s=P") == 2


def test_select_before_operate() -> None:
    bench = Bench(BY_SELECT)
    assert bench.command("s=F->s=Select(false)") == Reply(GOOD)
    assert bench.command("s=F->s=Oper(false)") == Reply(GOOD)
    assert bench.breaker.counters() | {"op_count": 0} == {
        "open_commands": 1, "close_commands": 0, "refused": 0, "operations": 1, "op_count": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    "before",
    [
        [],
        [("s=F->s=Select(true)", "one")],
        [("s=F->s=Select(false)", "other")],
        [("s=F->s=Select(false)", "one"), ("s=F->s=Cancel()", "one")],
        [("s=F->s=Select(false)", "one"), ("later", "")],
    ],
    ids=["not selected", "other direction", "by somebody else", "cancelled", "too long ago"],
)
def test_an_operate_without_its_select_is_refused_and_counted(before: list[tuple[str, str]]) -> None:
    bench = Bench(BY_SELECT)
    for text, session in before:
        if text == "later":
            bench.now += SELECT_S
        else:
            assert bench.command(text, session) == Reply(GOOD)
    assert bench.command("s=F->s=Oper(false)") == Reply(BAD_INVALID_STATE)
    assert (bench.breaker.refused, bench.breaker.open_commands, bench.breaker.operations) == (1, 0, 0)


def test_each_select_is_good_for_one_operate() -> None:
    bench = Bench(BY_SELECT)
    bench.command("s=F->s=Select(false)")
    bench.command("s=F->s=Oper(false)")
    assert bench.command("s=F->s=Oper(false)") == Reply(BAD_INVALID_STATE)
    assert bench.breaker.open_commands == 1


def test_a_select_is_refused_to_others_and_by_a_breaker_at_local() -> None:
    bench = Bench(BY_SELECT)
    bench.command("s=F->s=Select(false)", "other")
    assert bench.command("s=F->s=Select(false)") == Reply(BAD_INVALID_STATE)
    assert bench.command("s=F->s=Cancel()") == Reply(GOOD)
    assert bench.command("s=F->s=Select(false)") == Reply(BAD_INVALID_STATE)
    bench.command("s=F->s=Cancel()", "other")
    bench.gear.set_fault(bench.breaker, BreakerFault.LOCAL, None)
    assert bench.command("s=F->s=Select(false)") == Reply(BAD_INVALID_STATE)
    assert bench.breaker.refused == 3


def test_one_operate_for_both_directions_goes_by_what_was_selected() -> None:
    oper = parse_command("s=F->s=Oper()")
    bench = Bench(replace(BY_SELECT, open_cmd=oper, close_cmd=oper))
    bench.command("s=F->s=Select(false)")
    bench.command("s=F->s=Oper()")
    bench.settle()
    bench.command("s=F->s=Select(true)")
    bench.command("s=F->s=Oper()")
    assert (bench.breaker.open_commands, bench.breaker.close_commands) == (1, 1)


def test_an_argument_that_commands_nothing_is_refused() -> None:
    bench = Bench(replace(DIRECT, open_cmd=parse_command("s=F->s=Do(1)"), close_cmd=parse_command("s=F->s=Do(2)")))
    method = bench.rtu.methods[parse_bit("s=F").node, parse_bit("s=Do").node]
    assert bench.front.call(bench.rtu, method, 3, "one") == Reply(BAD_INVALID_ARGUMENT)
    assert bench.breaker.refused == 0


def test_nodes_that_cannot_be_are_refused() -> None:
    bench = Bench(DIRECT)
    other = Breaker(1, "G", 0.06)
    with pytest.raises(ValueError, match="is a command of F, too"):
        bench.front.connect(bench.rtu, DIRECT, other)
    with pytest.raises(ValueError, match="can't be Int32 and Boolean"):
        bench.front.connect(bench.rtu, replace(DIRECT, pos_closed=parse_bit("s=P")), other)


def test_a_scale_is_undone() -> None:
    assert raw(parse_number("s=K*0.5-10"), 20.0) == 60.0


def test_a_stale_rtu_shows_nothing_new_and_in_the_end_everything() -> None:
    bench = Bench(DIRECT)
    before = bench.rtu.variables[parse_bit("s=P").node].source_us
    bench.rtu.faults.stale = True
    bench.command("s=F->s=Open()")
    bench.settle()
    bench.rtu.show_again()
    assert (bench.shown("s=P"), bench.rtu.variables[parse_bit("s=P").node].source_us) == (2, before)
    bench.rtu.faults.stale = False
    bench.rtu.show_again()
    assert bench.shown("s=P") == 1
