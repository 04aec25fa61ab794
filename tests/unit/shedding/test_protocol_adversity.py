"""The procedure in bad company: holds at the wrong moment, a mode that changes, an operator who means what they say."""

from __future__ import annotations

from gateway.durable.testing import Playbook
from gateway.durable.testing.words import activity, done, entity_call, later, status, timer
from gateway.shedding.protocol import LoadSheddingProtocol

from .sheet import (
    SETTINGS,
    STATION,
    in_cooldown,
    load,
    outcomes,
    override,
    plan,
    restoring,
    stage,
    started,
)


def test_a_long_procedure_that_starts_over_in_mode_monitor_goes_on_and_forgets_nothing():
    carried = {"started_us": 1, "opened": 2, "shed_kw": 45.0, "restoring": True}
    (
        Playbook(LoadSheddingProtocol, {"reason": "heat", "carried": carried})
        << activity("ReadSettings")
        >> done(SETTINGS)
        << entity_call(STATION, "claim")
        >> done({"granted": True, "reason": "", "mode": "monitor"})
        << activity("PlanRestore")
    )


# --- a hold makes what was measured and planned before it old ---


def held_for_hours(book: Playbook) -> Playbook:
    return book << status(phase="held") >> later(10_000) >> override("resume")


def test_after_a_hold_nothing_is_closed_on_the_headroom_of_before():
    book = restoring() >> override("hold") >> stage(("B", 20.0), left=1)
    held_for_hours(book) << activity("PlanRestore") >> stage(("A", 10.0)) << activity("SendReconnectCommand")


def test_after_a_hold_nothing_is_shed_on_the_load_of_before():
    book = started() >> override("hold") >> load(99.0)
    held_for_hours(book) << activity("ReadLoad") >> load(94.0) << status(phase="stable")


def test_after_a_hold_nothing_is_opened_by_the_plan_of_before():
    book = started() >> load(99.0) << activity("PlanShed") >> override("hold") >> plan(("A", 45.0))
    held_for_hours(book) << activity("ReadLoad") >> load(94.0) << status(phase="stable")


def test_after_a_hold_between_blocks_the_load_is_measured_before_more_is_opened():
    book = started() >> load(99.0) << activity("PlanShed") >> plan(("A", 15.0), ("B", 15.0), ("C", 15.0))
    book << activity("SendDisconnectCommand", feeders=["A", "B"]) >> override("hold") >> outcomes(A="done", B="done")
    held_for_hours(book) << activity("ReadLoad") >> load(96.0) << activity("PlanShed", tier="Tier1", target_kw=10.0)


def test_a_skip_that_ends_a_hold_does_not_also_skip_the_look_at_the_load_after_the_next_stage():
    book = restoring() >> override("hold") >> stage(("B", 20.0), left=1) << status(phase="held") >> override("skip")
    book << activity("PlanRestore") >> stage(("B", 20.0), left=1) << activity("SendReconnectCommand")
    book >> outcomes(B="done") << timer(60) >> later(60) << activity("ReadLoad")


# --- who cancels and restores does not want any more shed ---


def test_cancel_and_restore_under_stress_waits_for_the_load_to_fall_and_sheds_no_more():
    book = in_cooldown() >> override("cancel-and-restore") << activity("PlanRestore")
    book >> stage(("A", 25.0), left=1, percent=99.0)
    book << status(phase="restoring") << timer(60) >> later(60) << activity("PlanRestore") >> stage(("A", 25.0), left=1)
    book << activity("SendReconnectCommand", feeders=["A"])


def test_an_order_that_was_cancelled_is_not_shed_again_when_a_stage_had_to_be_opened_again():
    book = started({"actor": "dispatch", "target_kw": 50.0}) >> load(70.0) << activity("PlanShed") >> plan(("A", 50.0))
    book << activity("SendDisconnectCommand") >> outcomes(A="done") << timer(600) >> override("cancel-and-restore")
    book << activity("PlanRestore") >> stage(("A", 50.0)) << activity("SendReconnectCommand") >> outcomes(A="failed")
    book << timer(60) >> later(60) << activity("ReadLoad") >> load(99.0)
    book << activity("PlanRestore") >> stage(("A", 50.0), percent=99.0) << status(phase="restoring") << timer(60)


# --- who forces a feeder does not want it moved back ---


def test_a_feeder_that_was_forced_closed_is_not_shed_again_by_this_procedure():
    book = in_cooldown() >> override("force-close", feeders=["A"]) << activity("SendReconnectCommand")
    book >> outcomes(A="done") >> later(600) << activity("ReadLoad") >> load(97.0)
    book << activity("PlanShed", exclude=["A"])


def test_a_feeder_that_was_forced_open_is_not_closed_by_this_procedure():
    book = restoring()
    book >> override("force-open", feeders=["X"], reason="fire") << activity("SendDisconnectCommand")
    book >> done({"X": "done"}, of="SendDisconnectCommand") >> stage(("B", 20.0), left=1)
    book << activity("SendReconnectCommand", feeders=["B"]) >> outcomes(B="done") << timer(60) >> later(60)
    book << activity("ReadLoad") >> load(80.0) << activity("PlanRestore", exclude=["X"])
