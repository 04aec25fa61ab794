"""The operator's word in a running procedure: heard at once, acted on at the next safe point."""

from __future__ import annotations

from gateway.durable.testing.words import activity, cancelled_timer, entity_signal, event, fails, later, status, timer
from gateway.shedding import procedure

from .sheet import (
    STATION,
    finish,
    in_cooldown,
    load,
    outcomes,
    override,
    plan,
    stage,
    started,
)


def test_cancel_in_the_cooldown_stops_and_leaves_everything_as_it_is():
    book = (
        in_cooldown()
        >> later(100)
        >> override("cancel", reason="relief crew is here")
        << entity_signal(STATION, "consumed", record=lambda r: r["step"] == "cooldown" and r["procedure"] == "proc-1")
        << cancelled_timer()
    )
    finish(
        book,
        status="cancelled",
        reason="m.meier: relief crew is here",
        opened=2,
        closed=0,
        still_shed_kw=45.0,
        overrides=lambda told: (
            told[0] | {"at": ""}
            == {
                "decision": "cancel",
                "actor": "m.meier",
                "role": "OPERATOR",
                "reason": "relief crew is here",
                "step": "cooldown",
                "at": "",
                "outcome": "stops; breakers stay as they are",
            }
        ),
    )


def test_cancel_during_a_block_is_seen_at_once_and_hears_the_block_to_its_end():
    book = (
        started()
        >> load(99.0)
        << activity("PlanShed")
        >> plan(("A", 15.0), ("B", 15.0), ("C", 15.0))
        << activity("SendDisconnectCommand", feeders=["A", "B"])
        >> override("cancel")
        << entity_signal(STATION, "consumed", record=lambda r: r["step"] == "shedding")
        << status(overrides=lambda told: told[0]["decision"] == "cancel")
        >> outcomes(A="done", B="done")
    )
    finish(book, status="cancelled", opened=2, still_shed_kw=30.0)


def test_a_hold_after_cancel_holds_nothing_and_says_so():
    book = (
        started()
        >> load(99.0)
        << activity("PlanShed")
        >> plan(("A", 15.0), ("B", 15.0), ("C", 15.0))
        << activity("SendDisconnectCommand", feeders=["A", "B"])
        >> override("cancel")
        >> override("hold")
        << entity_signal(STATION, "consumed", record=lambda r: r["outcome"] == "too late to hold: it stops")
        >> outcomes(A="done", B="done")
    )
    finish(book, status="cancelled", opened=2, still_shed_kw=30.0)


def test_cancel_and_restore_restores_in_stages_without_waiting_for_stability():
    (
        in_cooldown()
        >> override("cancel-and-restore")
        << activity("PlanRestore")
        >> stage(("A", 25.0), left=1)
        << activity("SendReconnectCommand", feeders=["A"])
    )


def test_a_hold_freezes_the_timer_and_resume_runs_what_is_left():
    (
        in_cooldown()
        >> later(250)
        >> override("hold", reason="crew on site")
        << cancelled_timer()
        << status(phase="held", sentence="held by m.meier: crew on site; waits for resume", until=None)
        >> later(10_000)
        >> override("resume")
        << timer(350)
        << status(phase="cooldown", overrides=lambda told: [t["outcome"] for t in told][-1] == "goes on")
        >> later(349)
        >> later(1)
        << activity("ReadLoad")
    )


def test_a_hold_during_a_block_stops_before_the_next_block():
    (
        started()
        >> load(99.0)
        << activity("PlanShed")
        >> plan(("A", 15.0), ("B", 15.0), ("C", 15.0))
        << activity("SendDisconnectCommand", feeders=["A", "B"])
        >> override("hold")
        >> outcomes(A="done", B="done")
        << status(phase="held")
        >> later(3600)
        >> override("resume")
        << activity("ReadLoad")
        >> load(96.0)
        << activity("PlanShed", tier="Tier1", target_kw=10.0)
        >> plan(("C", 15.0))
        << activity("SendDisconnectCommand", feeders=["C"])
    )


def test_a_hold_with_an_expiry_ends_by_itself():
    (
        in_cooldown()
        >> later(100)
        >> override("hold", expires="2026-01-14T08:30:00Z")
        << timer(1700)
        << status(phase="held", until="2026-01-14T08:30:00.000Z")
        >> later(1700)
        << timer(500)
        << status(phase="cooldown", overrides=lambda told: told[-1]["outcome"] == "its time is over: goes on")
    )


def test_a_hold_that_takes_the_place_of_another_has_its_own_expiry_and_is_not_ended_by_that_of_the_first():
    (
        in_cooldown()
        >> later(100)
        >> override("hold", expires="2026-01-14T08:30:00Z")
        << timer(1700)
        >> later(1000)
        >> override("hold", reason="crew on site")
        << cancelled_timer()
        << status(phase="held", sentence="held by m.meier: crew on site; waits for resume", until=None)
        >> later(10_000)
        >> override("resume")
        << timer(500)
        << status(phase="cooldown")
    )


def test_a_hold_after_cancel_and_restore_holds_the_restoration():
    (
        in_cooldown()
        >> later(600)
        << activity("ReadLoad")
        >> override("cancel-and-restore")
        >> override("hold", reason="crew on site")
        >> load(97.0)
        << activity("PlanRestore")
        >> stage(("A", 25.0), left=1)
        << status(phase="held", sentence="held by m.meier: crew on site; waits for resume", until=None)
    )


def test_a_hold_after_cancel_and_restore_is_not_lost_with_a_history_that_got_long(monkeypatch):
    monkeypatch.setattr(procedure, "ROUNDS_PER_HISTORY", 2)
    (
        in_cooldown()
        >> later(600)
        << activity("ReadLoad")
        >> override("cancel-and-restore")
        >> override("hold", reason="crew on site")
        >> load(97.0)
        << activity("PlanRestore")
        >> stage(("A", 25.0), left=1)
        << status(phase="held", sentence="held by m.meier: crew on site; waits for resume", until=None)
    )


def test_cancel_ends_a_hold():
    finish(in_cooldown() >> override("hold") >> override("cancel"), status="cancelled")


def test_skip_ends_the_present_wait():
    book = in_cooldown() >> later(5) >> override("skip") << cancelled_timer() << activity("ReadLoad")
    book << status(overrides=lambda told: told[-1]["outcome"] == "ends the wait of step cooldown")


def test_skip_of_feeders_leaves_them_out_from_then_on():
    (
        in_cooldown()
        >> override("skip", feeders=["Z"])
        >> later(600)
        << activity("ReadLoad")
        >> load(97.0)
        << activity("PlanShed", exclude=["Z"])
    )


def test_force_is_carried_out_while_the_wait_runs_on():
    (
        in_cooldown()
        >> later(60)
        >> override("force-open", feeders=["X", "Y"], reason="fire")
        << activity("SendDisconnectCommand", feeders=["X", "Y"], actor="m.meier", reason="fire", force=True)
        >> outcomes(X="done", Y="refused")
        << entity_signal(STATION, "consumed", record=lambda r: r["outcome"] == "1 done, 1 refused")
        >> later(540)
        << activity("ReadLoad")
    )


def test_a_force_that_fails_is_said_and_hurts_nothing():
    book = in_cooldown() >> override("force-close", feeders=["nowhere"]) << activity("SendReconnectCommand")
    book >> fails("unknown feeder nowhere", "ValueError")
    book << status(overrides=lambda told: told[-1]["outcome"] == "failed: unknown feeder nowhere")


def test_an_expired_override_is_not_acted_on_and_said_to_be_expired():
    book = in_cooldown() >> later(60) >> override("cancel", expires="2026-01-14T08:00:30Z")
    book << status(phase="cooldown", overrides=lambda told: told[-1]["outcome"] == "expired: not acted on")
    book >> later(540) << activity("ReadLoad")


def test_an_override_that_is_not_understood_is_said_and_changes_nothing():
    book = (
        in_cooldown() >> event("OperatorOverride", {"decision": "explode", "actor": "x"}) >> event("OperatorOverride")
    )
    book << status(
        phase="cooldown",
        overrides=lambda told: [t["outcome"][:14] for t in told] == ["not understood", "not understood"],
    )
    book >> later(600) << activity("ReadLoad")
