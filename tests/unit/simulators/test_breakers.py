"""One breaker's mechanics, as transcripts: what it is told, when, and what it shows and counts."""

from __future__ import annotations

import pytest

from simulators import breakers as module
from simulators.breakers import Breaker, BreakerFault, Switchgear, Verdict
from simulators.modbus import DROP_REPLY, GARBLE_REPLY

OPEN, CLOSE = False, True


@pytest.fixture
def gear() -> Switchgear:
    """Two breakers of 60 ms travel, both closed."""
    shown: list[str] = []
    gear = Switchgear(
        [Breaker(0, "F1", 0.060), Breaker(1, "F2", 0.060)],
        changed=lambda breaker: shown.append(breaker.name),
        stamp=lambda: (1_000.0, 5),
    )
    gear.shown = shown  # type: ignore[attr-defined]
    return gear


def verdicts(gear: Switchgear) -> list[Verdict]:
    return [record.verdict for record in gear.log]


def test_an_open_command_travels_and_arrives(gear: Switchgear) -> None:
    breaker = gear.breakers[0]
    assert breaker.contacts() == (True, False)
    assert gear.command(breaker, OPEN, now=10.0) == 0
    assert breaker.contacts() == (False, False)
    assert gear.energised[0] == 1
    gear.advance(10.059)
    assert breaker.position() == "intermediate"
    gear.advance(10.061)
    assert breaker.contacts() == (False, True)
    assert gear.energised[0] == 0
    assert breaker.counters() == {
        "open_commands": 1, "close_commands": 0, "refused": 0, "operations": 1, "op_count": 1,
    }  # fmt: skip
    assert gear.next_arrival() is None


def test_redundant_commands_are_counted_and_move_nothing(gear: Switchgear) -> None:
    breaker = gear.breakers[0]
    gear.command(breaker, CLOSE, 0.0)
    gear.command(breaker, OPEN, 0.0)
    gear.command(breaker, OPEN, 0.01)
    gear.advance(1.0)
    gear.command(breaker, OPEN, 1.0)
    assert (breaker.open_commands, breaker.close_commands, breaker.operations) == (3, 1, 1)
    assert verdicts(gear) == [Verdict.REDUNDANT, Verdict.MOVED, Verdict.REDUNDANT, Verdict.REDUNDANT]


def test_open_while_closing_opens_right_after(gear: Switchgear) -> None:
    breaker = gear.breakers[0]
    gear.command(breaker, OPEN, 0.0)
    gear.advance(1.0)
    gear.command(breaker, CLOSE, 1.0)
    gear.command(breaker, OPEN, 1.01)
    gear.advance(1.061)
    assert breaker.target is False
    gear.advance(1.2)
    assert breaker.position() == "open"
    assert breaker.operations == 3


def test_close_while_opening_is_lost(gear: Switchgear) -> None:
    breaker = gear.breakers[0]
    gear.command(breaker, OPEN, 0.0)
    gear.command(breaker, CLOSE, 0.01)
    gear.advance(1.0)
    assert breaker.position() == "open"
    assert breaker.close_commands == 1
    assert verdicts(gear)[-1] is Verdict.IGNORED


def test_stuck_takes_the_command_and_stays(gear: Switchgear) -> None:
    breaker = gear.breakers[0]
    gear.set_fault(breaker, BreakerFault.STUCK, None)
    assert gear.command(breaker, OPEN, 0.0) == 0
    gear.advance(9.0)
    assert breaker.contacts() == (True, False)
    assert (breaker.open_commands, breaker.operations) == (1, 0)
    gear.clear_fault(breaker, BreakerFault.STUCK)
    gear.command(breaker, OPEN, 9.0)
    gear.advance(10.0)
    assert breaker.position() == "open"


def test_slow_takes_its_seconds_and_delays_no_other(gear: Switchgear) -> None:
    slow, other = gear.breakers
    gear.set_fault(slow, BreakerFault.SLOW, 4.0)
    gear.command(slow, OPEN, 0.0)
    gear.command(other, OPEN, 0.0)
    assert gear.next_arrival() == pytest.approx(0.060)
    gear.advance(0.1)
    assert (slow.position(), other.position()) == ("intermediate", "open")
    gear.advance(4.0)
    assert slow.position() == "open"


@pytest.mark.parametrize(
    ("fault", "value", "code"),
    [
        (BreakerFault.REFUSE, None, 3),
        (BreakerFault.REFUSE, 6.0, 6),
        (BreakerFault.LOCAL, None, 4),
        (BreakerFault.LOCAL, 3.0, 3),
        (BreakerFault.LOCAL, 0.0, 0),
        (BreakerFault.STUCK, None, 0),
    ],
)
def test_refusals(gear: Switchgear, fault: BreakerFault, value: float | None, code: int) -> None:
    breaker = gear.breakers[0]
    gear.set_fault(breaker, fault, value)
    assert gear.refusal(breaker) == code
    gear.clear_fault(breaker, None)
    assert gear.refusal(breaker) == 0


def test_local_that_does_not_refuse_ignores(gear: Switchgear) -> None:
    breaker = gear.breakers[0]
    gear.set_fault(breaker, BreakerFault.LOCAL, 0.0)
    assert breaker.local
    gear.command(breaker, OPEN, 0.0)
    gear.advance(1.0)
    assert breaker.position() == "closed"
    assert verdicts(gear) == [Verdict.IGNORED]


def test_a_refused_command_counts_only_as_refused(gear: Switchgear) -> None:
    breaker = gear.breakers[0]
    gear.refuse(breaker, OPEN)
    assert (breaker.refused, breaker.open_commands, breaker.operations) == (1, 0, 0)
    assert verdicts(gear) == [Verdict.REFUSED]


def test_lost_and_garbled_replies_act_all_the_same(gear: Switchgear) -> None:
    lost, garbled = gear.breakers
    gear.set_fault(lost, BreakerFault.LOST_REPLY, None)
    gear.set_fault(garbled, BreakerFault.GARBLED_REPLY, None)
    assert gear.command(lost, OPEN, 0.0) == DROP_REPLY
    assert gear.command(garbled, OPEN, 0.0) == GARBLE_REPLY
    gear.advance(1.0)
    assert (lost.position(), garbled.position()) == ("open", "open")


def test_bad_feedback_hides_the_true_position(gear: Switchgear) -> None:
    breaker = gear.breakers[0]
    gear.set_fault(breaker, BreakerFault.BAD_FEEDBACK_11, None)
    assert breaker.contacts() == (True, True)
    gear.clear_fault(breaker, BreakerFault.BAD_FEEDBACK_11)
    gear.set_fault(breaker, BreakerFault.BAD_FEEDBACK_00, None)
    assert breaker.contacts() == (False, False)
    assert breaker.position() == "closed"


def test_a_welded_pole_reads_open_and_carries_load(gear: Switchgear) -> None:
    breaker = gear.breakers[0]
    gear.set_fault(breaker, BreakerFault.WELDED, None)
    gear.command(breaker, OPEN, 0.0)
    gear.advance(1.0)
    assert breaker.contacts() == (False, True)
    assert gear.energised[0] == 1
    gear.clear_fault(breaker, BreakerFault.WELDED)
    assert gear.energised[0] == 0


def test_a_trip_is_an_operation_without_a_command(gear: Switchgear) -> None:
    breaker = gear.breakers[0]
    assert gear.trip(breaker, 0.0)
    assert not gear.trip(breaker, 0.01)
    gear.advance(1.0)
    assert (breaker.position(), breaker.operations, breaker.open_commands) == ("open", 1, 0)
    assert list(gear.log) == []


def test_the_operation_counter_wraps_at_16_bits(gear: Switchgear) -> None:
    breaker = gear.breakers[0]
    breaker.op_count = 65535
    gear.command(breaker, OPEN, 0.0)
    assert breaker.op_count == 0


def test_the_log_is_numbered_and_bounded(gear: Switchgear, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOG_LIMIT", 5)
    small = Switchgear([Breaker(0, "F1", 0.06)], changed=lambda _: None, stamp=lambda: (1.0, 2))
    for _ in range(8):
        small.command(small.breakers[0], CLOSE, 0.0)
    assert [record.number for record in small.records_since(0, 100)] == [3, 4, 5, 6, 7]
    assert [record.number for record in small.records_since(6, 100)] == [6, 7]
    assert [record.number for record in small.records_since(4, 2)] == [4, 5]
    assert small.records_since(8, 100) == []


def test_reset_forgets_travels_faults_and_counts(gear: Switchgear) -> None:
    first, second = gear.breakers
    gear.command(first, OPEN, 0.0)
    gear.set_fault(second, BreakerFault.LOCAL, None)
    gear.reset()
    gear.advance(1.0)
    assert first.position() == "closed"
    assert not any(first.counters()[name] for name in ("open_commands", "close_commands", "refused", "operations"))
    assert not second.local
    assert list(gear.log) == []
    gear.command(first, OPEN, 2.0)
    gear.advance(3.0)
    assert first.position() == "open"


def test_every_change_is_shown(gear: Switchgear) -> None:
    gear.command(gear.breakers[1], OPEN, 0.0)
    gear.advance(1.0)
    assert gear.shown == ["F2", "F2"]  # type: ignore[attr-defined]
