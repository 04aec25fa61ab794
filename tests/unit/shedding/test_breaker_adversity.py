"""The breaker entity in bad company: repeats that find the breaker moved, feeders that leave the site, new rules."""

from __future__ import annotations

import pytest

from gateway.durable.testing import EntityBook
from gateway.durable.testing.words import activity, answer, breaks, call, ends, error, later, nothing, signal, state
from gateway.shedding.breaker_model import Breaker, Rules
from gateway.shedding.entities import breaker_entity

ORDINARY = Rules(critical=False, sheddable=True, max_operations_per_hour=6, command_deadline_us=120_000_000)
HOSPITAL = Rules(critical=True, sheddable=False, max_operations_per_hour=6, command_deadline_us=120_000_000)
ASK = {"request_id": "r1", "actor": "proc-1", "procedure": "proc-1", "kw": 80.0}


def seen(position: str, op_count: int | None = None) -> dict[str, object]:
    return {"position": position, "quality": "good", "local": False, "op_count": op_count}


def outcome(word: str, position: str, sent: bool, **more: object) -> dict[str, object]:
    return {"outcome": word, "position": position, "detail": word, "sent": sent, **more}


class Site:
    """Rules that a test can change, as a reload or a restart with another configuration does."""

    def __init__(self) -> None:
        self.rules: Rules | None = ORDINARY

    def book(self) -> EntityBook:
        """A closed breaker that a procedure has asked to open; the frame may have left and nobody knows."""
        entity = EntityBook(breaker_entity(lambda _: self.rules), "breaker", "F1", Breaker)
        return (
            entity
            >> signal("observe", seen("closed"))
            >> call("open", ASK)
            << activity("OperateBreaker", target="open", intent=1)
        )


def sent_twice() -> EntityBook:
    """The first frame was lost, the readback proved that nothing moved, and it was sent again."""
    return (
        Site().book()
        >> ends(outcome("unknown", "unknown", True))
        << activity("ReadBreaker")
        >> ends(seen("closed") | {"settled": True})
        << activity("OperateBreaker", intent=2)
    )


def test_a_repeat_that_finds_the_breaker_open_already_was_obeyed_late_and_belongs_to_the_procedure():
    (
        sent_twice()
        >> ends(outcome("done", "open", False))
        << answer(outcome="done")
        << state(shed={"procedure": "proc-1", "kw": 80.0})
    )


def test_what_was_open_before_the_only_frame_could_leave_belongs_to_nobody():
    Site().book() >> ends(outcome("done", "open", False)) << answer(outcome="done") << state(shed=None)


@pytest.mark.parametrize(
    "second",
    [
        outcome("not_sent", "unknown", False),
        outcome("not_sent", "unknown", False, expired=True),
        outcome("refused", "closed", False),
    ],
    ids=["link down", "deadline", "local"],
)
def test_a_repeat_that_could_not_leave_does_not_unsay_the_first_frame(second):
    book = sent_twice() >> ends(second) << answer(outcome="failed")
    book >> later(5) >> signal("observe", seen("open")) << state(shed={"procedure": "proc-1", "kw": 80.0})


def test_a_feeder_that_left_the_site_in_mid_command_is_no_busy_breaker_for_ever_when_it_comes_back():
    site = Site()
    book = site.book()
    site.rules = None
    book >> breaks("ActivityInterrupted") << activity("ReadBreaker") >> breaks("LookupError", "no such feeder")
    book << answer(outcome="unknown") << state(phase="unresolved")
    book >> call("open", ASK | {"request_id": "r2"}) << error("no feeder 'F1'")
    site.rules = ORDINARY
    book >> signal("observe", seen("open")) << state(phase=None, position="open", shed={"procedure": "proc-1"})


def test_a_feeder_that_left_the_site_is_never_sent_anything_again():
    site = Site()
    book = site.book() >> ends(outcome("unknown", "unknown", True)) << activity("ReadBreaker")
    site.rules = None
    book >> ends(seen("closed") | {"settled": True}) << answer(outcome="failed") << nothing()


def test_a_feeder_that_became_critical_meanwhile_is_not_sent_the_opening_again():
    site = Site()
    book = site.book() >> ends(outcome("unknown", "unknown", True)) << activity("ReadBreaker")
    site.rules = HOSPITAL
    book >> ends(seen("closed") | {"settled": True}) << answer(outcome="failed") << nothing()


def test_a_device_that_refuses_and_moves_all_the_same_is_not_forgotten():
    book = Site().book() >> ends(outcome("refused", "closed", True)) << answer(outcome="refused")
    book >> later(5) >> signal("observe", seen("open")) << state(shed={"procedure": "proc-1", "kw": 80.0})


def test_a_refusal_by_an_interlock_makes_nobody_s_opening_ours():
    book = Site().book() >> ends(outcome("refused", "closed", False)) << answer(outcome="refused")
    book >> later(5) >> signal("observe", seen("open")) << state(shed=None)
