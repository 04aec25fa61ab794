"""The procedure, told as transcripts. Each one is also replayed from scratch after every turn."""

from __future__ import annotations

from typing import Any

from gateway.shedding.procedure import ROUNDS_PER_HISTORY
from gateway.shedding.protocol import LoadSheddingProtocol
from tests.playbook import (
    START_US,
    Playbook,
    activity,
    cancelled_timer,
    continues_as_new,
    done,
    entity_call,
    entity_signal,
    event,
    failed,
    fails,
    later,
    output,
    status,
    timer,
)

STATION = "@substation@Northgate"
SETTINGS = {
    "station": "Northgate",
    "tiers": ["Tier1", "Tier2"],
    "cooldown_s": 600.0,
    "target_pct": 95.0,
    "arm_pct": 98.0,
    "clear_pct": 95.0,
    "check_s": 60.0,
    "block_size": 2,
    "command_deadline_s": 120.0,
    "max_shed_s": 14400.0,
    "stable_for_s": 120.0,
    "stage_wait_s": 60.0,
    "abort_pct": 98.0,
    "bad_measurement": "hold",
    "config_sha256": "00",
}
NOTHING_LEFT = {"feeders": [], "kw": 0.0, "left": 0}


def load(percent: float | None) -> done:
    """What ReadLoad says: percent of 1,000 kW."""
    value = percent or 0.0
    return done({"good": percent is not None, "kw": value * 10, "percent": value, "capacity_kw": 1000.0})


def plan(*feeders: tuple[str, float], shortfall: float = 0.0, exhausted: bool = False) -> done:
    """What PlanShed says."""
    kw = sum(kw for _, kw in feeders)
    told = {"tier": "", "feeders": feeders, "kw": kw, "shortfall_kw": shortfall, "skipped": {}, "exhausted": exhausted}
    return done(told)


def stage(*feeders: tuple[str, float], left: int = 0, percent: float | None = 80.0, **more: Any) -> done:
    """What PlanRestore says."""
    value = percent or 0.0
    measured = {"good": percent is not None, "kw": value * 10, "percent": value, "capacity_kw": 1000.0}
    told = {
        "feeders": feeders,
        "kw": 2 * sum(kw for _, kw in feeders),
        "headroom_kw": 150.0,
        "left": left,
        "unresolved": 0,
        "stuck": 0,
        "wait_us": 0,
        "why": "",
        "load": measured,
    }
    return done(told | more)


def outcomes(**words: str) -> done:
    """What a mass command says."""
    return done(words)


def override(decision: str, **more: Any) -> event:
    """An operator's word."""
    return event("OperatorOverride", {"decision": decision, "actor": "m.meier", "role": "OPERATOR", **more})


def started(input_: dict[str, Any] | None = None, mode: str = "armed", **settings: Any) -> Playbook:
    """A procedure that has the station."""
    return (
        Playbook(LoadSheddingProtocol, input_ or {"reason": "loading 99.0 %"})
        << activity("ReadSettings")
        >> done(SETTINGS | settings)
        << entity_call(STATION, "claim", instance="proc-1")
        >> done({"granted": True, "reason": "", "mode": mode})
        << activity("ReadLoad")
    )


def in_cooldown(**settings: Any) -> Playbook:
    """Tier 1 is shed, the cooldown runs."""
    return (
        started(**settings)
        >> load(99.0)
        << activity("PlanShed", tier="Tier1", target_kw=40.0, exclude=[])
        >> plan(("A", 25.0), ("B", 20.0))
        << status(phase="shedding", tier="Tier1", waits_for="readback")
        << activity("SendDisconnectCommand", feeders=["A", "B"], procedure="proc-1", deadline_us=START_US + 120_000_000)
        >> outcomes(A="done", B="done")
        << status(
            phase="cooldown",
            shed_kw=45.0,
            until="2026-01-14T08:10:00.000Z",
            sentence="45 kW of Tier1 shed; waits for the load to settle until 2026-01-14T08:10:00.000Z",
        )
        << timer(600)
    )


def watching(**settings: Any) -> Playbook:
    """Tier 1 was enough; the procedure watches the load."""
    return in_cooldown(**settings) >> later(600) << activity("ReadLoad")


def restoring() -> Playbook:
    """The load was stable; the first stage is to be planned."""
    return (
        watching()
        >> load(94.0)
        << status(phase="stable", waits_for="it to stay normal", until="2026-01-14T08:12:00.000Z")
        << timer(60)
        >> later(60)
        << activity("ReadLoad")
        >> load(94.0)
        << timer(60)
        >> later(60)
        << activity("ReadLoad")
        >> load(90.0)
        << activity("PlanRestore", procedure="proc-1", exclude=[])
    )


def finish(book: Playbook, **result: Any) -> Playbook:
    """The station is told, and the output is the same."""
    return book << entity_call(STATION, "finished", instance="proc-1", result=result) >> done() << output(**result)


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


# --- the operator's word ----------------------------------------------------------------------------------------------


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
        >> stage(left=2, why="headroom is 10 kW, waiting for 40 kW for the smallest block")
        << status(
            phase="restoring", waits_for="headroom is 10 kW, waiting for 40 kW for the smallest block", feeders_shed=2
        )
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


def test_feeders_that_only_people_can_close_are_named_and_not_called_restored():
    finish(restoring() >> stage(stuck=1, troubled=["L"]), status="incomplete", not_closed=["L"])


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
