"""The procedure, told as transcripts. Each one is also replayed from scratch after every turn."""

from __future__ import annotations

from gateway.durable.testing import Playbook
from gateway.durable.testing.words import (
    activity,
    continues_as_new,
    done,
    entity_call,
    failed,
    fails,
    later,
    output,
    status,
    timer,
)
from gateway.shedding.procedure import ROUNDS_PER_HISTORY
from gateway.shedding.protocol import LoadSheddingProtocol

from .sheet import (
    SETTINGS,
    STATION,
    finish,
    in_cooldown,
    load,
    outcomes,
    override,
    plan,
    stage,
    started,
    watching,
)

# --- the whole way ----------------------------------------------------------------------------------------------------


def test_a_heatwave_from_stress_to_restored():
    book = (
        in_cooldown()
        >> later(600)
        << activity("ReadLoad")
        >> load(97.0)
        << activity("PlanShed", tier="Tier1", target_kw=20.0)
        >> plan(exhausted=True, shortfall=20.0)
        << activity("PlanShed", tier="Tier2", target_kw=20.0)
        >> plan(("C", 30.0))
        << activity("SendDisconnectCommand", feeders=["C"])
        >> outcomes(C="done")
        << status(phase="cooldown", tier="Tier2", shed_kw=75.0, feeders_shed=3, shortfall_kw=0.0)
        << timer(600)
        >> later(600)
        << activity("ReadLoad")
        >> load(94.0)
        << timer(60)
        >> later(60)
        << activity("ReadLoad")
        >> load(94.0)
        << timer(60)
        >> later(60)
        << activity("ReadLoad")
        >> load(80.0)
        << activity("PlanRestore")
        >> stage(("B", 20.0), left=2)
        << status(phase="restoring")
        << activity("SendReconnectCommand", feeders=["B"])
        >> outcomes(B="done")
        << status(phase="restoring", shed_kw=55.0, waits_for="the load to settle")
        << timer(60)
        >> later(60)
        << activity("ReadLoad")
        >> load(85.0)
        << activity("PlanRestore")
        >> stage(("A", 25.0), ("C", 30.0))
        << activity("SendReconnectCommand", feeders=["A", "C"])
        >> outcomes(A="done", C="done")
        << timer(60)
        >> later(60)
        << activity("ReadLoad")
        >> load(88.0)
        << activity("PlanRestore")
        >> stage()
    )
    finish(book, status="restored", opened=3, closed=3, peak_shed_kw=75.0, still_shed_kw=0.0, overrides=[])


def test_blocks_are_operated_one_after_the_other():
    (
        started()
        >> load(99.0)
        << activity("PlanShed")
        >> plan(("A", 15.0), ("B", 15.0), ("C", 15.0))
        << activity("SendDisconnectCommand", feeders=["A", "B"])
        >> outcomes(A="done", B="done")
        << status(sentence="opens 3 of 3 feeders of Tier1; waits for readback")
        << activity("SendDisconnectCommand", feeders=["C"])
        >> outcomes(C="done")
        << timer(600)
    )


def test_leftovers_of_a_begun_tier_do_not_hold_up_the_next_one():
    (
        in_cooldown()
        >> later(600)
        << activity("ReadLoad")
        >> load(99.0)
        << activity("PlanShed", tier="Tier1", target_kw=40.0)
        >> plan(("A2", 5.0), shortfall=35.0)
        << activity("SendDisconnectCommand", feeders=["A2"])
        >> outcomes(A2="done")
        << activity("PlanShed", tier="Tier2", target_kw=35.0)
        >> plan(("C", 36.0))
        << activity("SendDisconnectCommand", feeders=["C"])
        >> outcomes(C="done")
        << status(phase="cooldown", tier="Tier2", shed_kw=86.0)
        << timer(600)
    )


def test_a_failed_breaker_is_replaced_from_the_same_tier_and_not_tried_again():
    (
        started()
        >> load(99.0)
        << activity("PlanShed", tier="Tier1", target_kw=40.0)
        >> plan(("A", 25.0), ("B", 20.0))
        << activity("SendDisconnectCommand", feeders=["A", "B"])
        >> outcomes(A="failed", B="done")
        << activity("PlanShed", tier="Tier1", target_kw=25.0, exclude=["A"])
        >> plan(("C", 26.0))
        << activity("SendDisconnectCommand", feeders=["C"])
        >> outcomes(C="done")
        << status(phase="cooldown", shed_kw=46.0, shortfall_kw=0.0)
        << timer(600)
        >> later(600)
        << activity("ReadLoad")
        >> load(96.0)
        << activity("PlanShed", exclude=["A"])
    )


def test_an_offline_feeder_is_replaced_now_and_tried_again_next_time():
    (
        started()
        >> load(99.0)
        << activity("PlanShed")
        >> plan(("A", 40.0))
        << activity("SendDisconnectCommand")
        >> outcomes(A="refused")
        << activity("PlanShed", target_kw=40.0, exclude=["A"])
        >> plan(("B", 40.0))
        << activity("SendDisconnectCommand", feeders=["B"])
        >> outcomes(B="done")
        << timer(600)
        >> later(600)
        << activity("ReadLoad")
        >> load(96.0)
        << activity("PlanShed", exclude=[])
    )


def test_what_can_not_be_met_is_said_as_shortfall():
    (
        started()
        >> load(99.0)
        << activity("PlanShed", tier="Tier1")
        >> plan(shortfall=40.0, exhausted=True)
        << activity("PlanShed", tier="Tier2")
        >> plan(shortfall=40.0, exhausted=True)
        << status(phase="stressed", shortfall_kw=40.0)
        << timer(60)
        >> later(60)
        << activity("ReadLoad")
    )


def test_stress_that_comes_back_is_shed_again():
    (
        watching()
        >> load(94.0)
        << status(phase="stable")
        << timer(60)
        >> later(60)
        << activity("ReadLoad")
        >> load(98.5)
        << activity("PlanShed", tier="Tier1", target_kw=35.0)
    )


# --- refused, monitor, orders -----------------------------------------------------------------------------------------


def test_a_second_procedure_is_refused():
    (
        Playbook(LoadSheddingProtocol)
        << activity("ReadSettings")
        >> done(SETTINGS)
        << entity_call(STATION, "claim")
        >> done({"granted": False, "reason": "shed-1 runs already", "mode": "armed"})
        << output(status="refused", reason="shed-1 runs already")
    )


def test_monitor_mode_plans_and_writes_nothing():
    book = (
        started(mode="monitor")
        >> load(99.0)
        << activity("PlanShed", tier="Tier1", target_kw=40.0)
        >> plan(("A", 25.0), shortfall=15.0)
        << activity("PlanShed", tier="Tier2", target_kw=15.0)
        >> plan(("C", 30.0))
        << status(phase="monitor", sentence="mode monitor: this is what would be shed; nothing was written")
    )
    finish(book, status="monitored", opened=0, would_shed=lambda would: [w["feeders"] for w in would] == [1, 1])
    assert not [a for a in book.seen_actions if "Command" in getattr(a, "name", "")]


def test_a_dispatchers_megawatts_are_kept_until_they_say_restore():
    (
        started({"reason": "order 12", "actor": "dispatch", "target_kw": 50.0})
        >> load(70.0)
        << activity("PlanShed", tier="Tier1", target_kw=50.0)
        >> plan(("A", 30.0), shortfall=20.0)
        << activity("SendDisconnectCommand", actor="dispatch", reason="order 12")
        >> outcomes(A="done")
        << timer(600)
        >> later(600)
        << activity("ReadLoad")
        >> load(70.0)
        << activity("PlanShed", tier="Tier1", target_kw=20.0)
        >> plan(shortfall=20.0)
        << activity("PlanShed", tier="Tier2", target_kw=20.0)
        >> plan(("C", 21.0))
        << activity("SendDisconnectCommand", feeders=["C"])
        >> outcomes(C="done")
        << timer(600)
        >> later(600)
        << activity("ReadLoad")
        >> load(70.0)
        << status(phase="ordered", waits_for="cancel-and-restore", until="2026-01-14T12:00:00.000Z")
        << timer(60)
        >> override("cancel-and-restore")
        << activity("PlanRestore")
    )


def test_ordered_tiers_are_shed_whole():
    (
        started({"actor": "dispatch", "tiers": ["Tier2"]})
        >> load(70.0)
        << activity("PlanShed", tier="Tier2", target_kw=None)
    )


def test_after_the_longest_outage_restoration_begins_whatever_the_load():
    (
        watching(max_shed_s=630.0)
        >> load(94.9)
        << status(phase="stable")
        << timer(60)
        >> later(60)
        << activity("ReadLoad")
        >> load(97.0)
        << activity("PlanRestore")
    )


# --- long lives, failures ---------------------------------------------------------------------------------------------


def test_long_watching_starts_over_with_an_empty_history_and_keeps_what_it_knows():
    book = watching(stable_for_s=1e9, max_shed_s=1e9)
    book >> override("skip", feeders=["Z"]) >> load(94.0) << timer(60)
    book.replay_each_turn = False
    for _ in range(ROUNDS_PER_HISTORY - 3):
        book >> later(60) << activity("ReadLoad") >> load(96.0) << status(phase="watching") << timer(60)
    book.replay_each_turn = True
    book >> later(60) << activity("ReadLoad") >> load(94.0)
    (
        book
        << continues_as_new(reason="loading 99.0 %", carried=lambda c: c["opened"] == 2 and c["excluded"] == ["Z"])
        << activity("ReadSettings")
        >> done(SETTINGS)
        << entity_call(STATION, "claim")
        >> done({"granted": True, "reason": "", "mode": "armed"})
        << activity("ReadLoad")
        >> load(94.0)
        << status(phase="stable", shed_kw=45.0, feeders_shed=2, overrides=lambda told: len(told) == 1)
    )


def test_a_step_that_fails_frees_the_station_and_is_not_hidden():
    (
        started()
        >> load(99.0)
        << activity("PlanShed")
        >> fails("no such tier")
        << entity_call(STATION, "finished", result=lambda r: r["status"] == "failed" and "no such tier" in r["reason"])
        >> done()
        << failed("no such tier")
    )
