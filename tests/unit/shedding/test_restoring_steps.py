"""Restoration, told as transcripts: stages, aborts, what can't be closed, and a load that is not measured."""

from __future__ import annotations

from gateway.durable.testing import Playbook
from gateway.durable.testing.words import activity, later, status, timer
from gateway.shedding.restoring_steps import MAX_ROUNDS_FOR_UNRESOLVED

from .sheet import (
    finish,
    in_cooldown,
    load,
    outcomes,
    restoring,
    stage,
    started,
)

# --- restoration ------------------------------------------------------------------------------------------------------


def test_a_stage_that_brings_the_load_near_the_limit_is_opened_again():
    (
        restoring()
        >> stage(("B", 20.0), left=1)
        << activity("SendReconnectCommand", feeders=["B"])
        >> outcomes(B="done")
        << timer(60)
        >> later(60)
        << activity("ReadLoad")
        >> load(98.2)
        << status(sentence="loading is 98.2 %: opens the last stage again; waits for readback")
        << activity("SendDisconnectCommand", feeders=["B"])
        >> outcomes(B="done")
        << activity("ReadLoad")
        >> load(95.0)
        << status(phase="stable", shed_kw=45.0)
        << timer(60)
    )


def test_restoration_waits_for_headroom():
    (
        restoring()
        >> stage(left=2, why="40 kW of headroom for the smallest block, 10 kW now")
        << status(phase="restoring", waits_for="40 kW of headroom for the smallest block, 10 kW now", feeders_shed=2)
        << timer(60)
        >> later(60)
        << activity("PlanRestore")
    )


def after_a_failed_close(book: Playbook, *excluded: str) -> Playbook:
    """B does not close; the next plan leaves out these."""
    return (
        book
        << activity("SendReconnectCommand")
        >> outcomes(B="failed")
        << timer(60)
        >> later(60)
        << activity("ReadLoad")
        >> load(80.0)
        << activity("PlanRestore", exclude=list(excluded))
    )


def test_a_breaker_that_fails_to_close_is_tried_again_but_not_for_ever_and_then_left_to_people():
    book = restoring() >> stage(("B", 20.0))
    book = after_a_failed_close(book) >> stage(("B", 20.0))
    book = after_a_failed_close(book) >> stage(("B", 20.0))
    book = after_a_failed_close(book, "B") >> stage(stuck=1, troubled=["B"])
    finish(book, status="incomplete", not_closed=["B"])


def test_a_breaker_that_closes_at_the_second_try_is_no_trouble_any_more():
    book = after_a_failed_close(restoring() >> stage(("B", 20.0))) >> stage(("B", 20.0))
    book = (
        book
        << activity("SendReconnectCommand")
        >> outcomes(B="done")
        << timer(60)
        >> later(60)
        << activity("ReadLoad")
        >> load(80.0)
        << activity("PlanRestore", exclude=[])
        >> stage()
    )
    finish(book, status="restored", not_closed=[])


def test_a_breaker_that_closes_late_by_itself_is_not_called_open_at_the_end():
    finish(after_a_failed_close(restoring() >> stage(("B", 20.0))) >> stage(), status="restored", not_closed=[])


def test_feeders_that_only_people_can_close_are_named_and_not_called_restored():
    finish(restoring() >> stage(stuck=1, troubled=["L"]), status="incomplete", not_closed=["L"])


def check_without(book: Playbook, checks: int, *, headroom: bool = True) -> Playbook:
    """So many checks that find nothing to close: two breakers can't be read, or the headroom is too small for them."""
    for _ in range(checks):
        book = book >> (
            stage(left=2, unresolved=2, troubled=["B", "C"]) if headroom else stage(left=2, why="no headroom")
        )
        book = book << timer(60) >> later(60) << activity("PlanRestore")
    return book


def test_breakers_that_can_t_be_read_are_waited_for_so_many_checks_in_a_row_and_then_left_to_people():
    book = check_without(restoring(), MAX_ROUNDS_FOR_UNRESOLVED) >> stage(left=2, unresolved=2, troubled=["B", "C"])
    finish(book, status="incomplete", not_closed=["B", "C"])


def test_checks_that_waited_for_something_else_don_t_count_for_those_that_can_t_be_read():
    book = check_without(restoring(), MAX_ROUNDS_FOR_UNRESOLVED)
    book = check_without(book, 1, headroom=False)
    book = check_without(book, MAX_ROUNDS_FOR_UNRESOLVED) >> stage(("B", 20.0)) << activity("SendReconnectCommand")


# --- bad measurement --------------------------------------------------------------------------------------------------


def test_without_a_measurement_what_is_shed_is_held():
    (
        in_cooldown()
        >> later(600)
        << activity("ReadLoad")
        >> load(None)
        << status(phase="no measurement", shed_kw=45.0, load_pct=None, waits_for="a good measurement")
        << timer(60)
        >> later(60)
        << activity("ReadLoad")
        >> load(94.0)
        << status(phase="stable")
        << timer(60)
    )


def test_without_a_measurement_the_procedure_stops_where_the_site_says_so():
    book = started(bad_measurement="stop") >> load(None)
    finish(book, status="stopped", reason="the load is not measured")


def test_nothing_is_closed_without_a_measurement():
    restoring() >> stage(left=2, percent=None) << activity("ReadLoad") >> load(None) << status(phase="no measurement")
