"""Trigger, planner, restoration: the decisions that need nothing but numbers."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.models import AfterRestart, Trigger
from gateway.shedding.breaker_model import Breaker, Command, Phase
from gateway.shedding.override import Decision, OverrideError, check, parse
from gateway.shedding.planner import Candidate, Skip, plan, why_not
from gateway.shedding.reconcile import may_continue, reconcile
from gateway.shedding.restoration import Block, cold_load_factor, next_stage
from gateway.shedding.status import Figures, describe
from gateway.shedding.trigger import TriggerState, Zone, resumed, step
from protocols.base import BreakerReading, Position, Quality

SETTINGS = Trigger(arm_pct=98.0, arm_for_s=60.0, clear_pct=95.0, clear_for_s=300.0)
S = 1_000_000


def zones(*samples: tuple[int, float | None], state: TriggerState | None = None) -> list[str]:
    """Zones after each sample of (second, percent)."""
    state = state or TriggerState()
    seen = []
    for second, percent in samples:
        state = step(state, percent, second * S, SETTINGS)
        seen.append(state.zone.value)
    return seen


# --- trigger ----------------------------------------------------------------------------------------------------------


def test_arming_takes_its_time_and_no_break():
    assert zones((0, 97.9), (1, 98.0), (60, 98.5), (61, 98.0)) == ["cleared", "arming", "arming", "armed"]
    assert zones((1, 98.0), (30, 97.9), (31, 98.0), (61, 98.0)) == ["arming", "cleared", "arming", "arming"]


def test_between_the_thresholds_nothing_changes():
    armed = TriggerState(Zone.ARMED, 0)
    assert zones((1, 96.0), (10_000, 95.1), state=armed) == ["armed", "armed"]
    assert zones((1, 97.0), (10_000, 96.0)) == ["cleared", "cleared"]


def test_clearing_takes_its_time_and_no_break():
    armed = TriggerState(Zone.ARMED, 0)
    assert zones((1, 95.0), (300, 94.0), (301, 94.0), state=armed) == ["clearing", "clearing", "cleared"]
    assert zones((1, 94.0), (200, 95.1), (201, 94.0), (400, 94.0), state=armed)[-1] == "clearing"
    assert TriggerState(Zone.CLEARING, 0).armed


def test_bad_time_counts_for_nothing():
    assert zones((0, 99.0), (9, 99.0), (10, None), (510, 99.0), (560, 99.0), (561, 99.0)) == [
        *["arming"] * 5,
        "armed",
    ]


def test_zero_seconds_means_at_once():
    at_once = Trigger(98.0, 0.0, 95.0, 0.0)
    state = step(TriggerState(), 98.0, 1, at_once)
    assert state.zone is Zone.ARMED
    assert step(state, 95.0, 2, at_once).zone is Zone.CLEARED


def test_a_restart_goes_on_from_armed_or_cleared():
    assert resumed(True, 5).armed
    assert not resumed(False, 5).armed


@given(st.lists(st.tuples(st.integers(1, 400), st.one_of(st.none(), st.floats(80, 110))), max_size=40))
def test_it_arms_only_on_what_was_measured(samples):
    state, now_us, good_above_s = TriggerState(), 0, 0.0
    previous: float | None = None
    for seconds, percent in samples:
        now_us += seconds * S
        if previous is not None and percent is not None and previous >= 98.0 and percent >= 98.0:
            good_above_s += seconds
        elif percent is not None and percent < 98.0:
            good_above_s = 0.0
        was_armed = state.armed
        state = step(state, percent, now_us, SETTINGS)
        if state.armed and not was_armed:
            assert percent is not None
            assert percent >= 98.0
            assert good_above_s >= 60.0
        previous = percent


# --- planner ----------------------------------------------------------------------------------------------------------


def feeder(name: str, kw: float = 10.0, **more: object) -> Candidate:
    """A closed feeder of tier 1 that may be shed."""
    return Candidate(feeder=name, tier="Tier1", kw=kw, position=Position.CLOSED, **more)  # type: ignore[arg-type]


def test_no_more_than_needed_and_the_shortfall_is_said():
    three = [feeder("A"), feeder("B"), feeder("C")]
    enough = plan(three, "Tier1", 15.0)
    assert enough.feeders == ("A", "B")
    assert (enough.kw, enough.shortfall_kw, enough.exhausted) == (20.0, 0.0, False)
    short = plan(three, "Tier1", 100.0)
    assert (short.kw, short.shortfall_kw, short.exhausted) == (30.0, 70.0, True)


def test_the_burden_goes_round():
    order = plan(
        [
            feeder("often", outage_s=3600.0),
            feeder("lately", outage_s=60.0, last_shed_us=900),
            feeder("longer ago", outage_s=60.0, last_shed_us=100),
            feeder("never"),
        ],
        "Tier1",
        None,
    )
    assert order.feeders == ("never", "longer ago", "lately", "often")


def test_other_tiers_are_not_touched():
    assert plan([feeder("A")], "Tier2", None).feeders == ()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"critical": True}, Skip.CRITICAL),
        ({"sheddable": False}, Skip.NOT_SHEDDABLE),
        ({"ufls": True}, Skip.UFLS),
        ({"position": Position.OPEN}, Skip.OPEN),
        ({"blocked": True}, Skip.BLOCKED),
        ({"local": True}, Skip.LOCAL),
        ({"busy": True}, Skip.BUSY),
        ({"online": False}, Skip.OFFLINE),
        ({"position": Position.INTERMEDIATE}, Skip.OFFLINE),
        ({"position": Position.UNKNOWN}, Skip.OFFLINE),
        ({"capped": True}, Skip.CAPPED),
        ({"kw": 0.0}, Skip.NO_LOAD),
    ],
)
def test_who_is_left_out_and_why(change, reason):
    settings = {"feeder": "X", "tier": "Tier1", "kw": 10.0, "position": Position.CLOSED} | change
    chosen = plan([Candidate(**settings), feeder("B")], "Tier1", 10.0)
    assert chosen.feeders == ("B",)
    assert chosen.skipped == {reason.value: 1}


def test_the_last_resort_takes_relay_feeders_but_never_critical_ones():
    assert why_not(feeder("A", ufls=True), (), last_resort=True) is None
    assert why_not(feeder("A", ufls=True, critical=True), (), last_resort=True) is Skip.CRITICAL


@given(st.lists(st.tuples(st.floats(0, 50), st.booleans()), max_size=30), st.floats(0, 400))
def test_a_plan_is_never_critical_and_never_one_too_many(loads, target_kw):
    candidates = [feeder(f"F{i:02}", kw, critical=critical) for i, (kw, critical) in enumerate(loads)]
    chosen = plan(candidates, "Tier1", target_kw)
    by_name = {c.feeder: c for c in candidates}
    assert not any(by_name[name].critical for name in chosen.feeders)
    if chosen.feeders:
        assert chosen.kw - by_name[chosen.feeders[-1]].kw < target_kw
    assert chosen.shortfall_kw == pytest.approx(max(0.0, target_kw - chosen.kw))


# --- restoration ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("minutes", "factor"),
    [(0, 1.0), (1, 1.06), (5, 1.25), (7.5, 1.36), (30, 2.23), (45, 2.28), (60, 2.33), (600, 2.33)],
)
def test_cold_load(minutes, factor):
    assert cold_load_factor(minutes * 60) == pytest.approx(factor)


def stage(blocks: list[Block], measured_kw: float = 800.0, **more: float):
    """The next stage of a 1,000 kW transformer, one hour on."""
    settings = {"capacity_kw": 1000.0, "limit_pct": 95.0, "stage_pct": 10.0, "min_off_s": 900.0} | more
    return next_stage(blocks, measured_kw=measured_kw, now_us=3600 * S, **settings)


def test_smallest_first_and_within_the_stage():
    chosen = stage([Block("big", 60.0, 0), Block("small", 10.0, 0), Block("middle", 20.0, 0)])
    assert chosen.feeders == ("small", "middle")
    assert chosen.predicted_kw == pytest.approx(30 * 2.33)
    assert (chosen.left, chosen.headroom_kw) == (1, 150.0)


def test_cold_load_must_fit_under_the_limit():
    assert stage([Block("A", 50.0, 0)], measured_kw=840.0).feeders == ()  # 50 × 2.33 = 116.5
    assert (
        "116 kW of headroom for A, the smallest block, 110 kW now"
        in stage([Block("A", 50.0, 0)], measured_kw=840.0).why
    )
    assert stage([Block("A", 50.0, 0)], measured_kw=830.0).feeders == ("A",)


def test_a_block_larger_than_a_stage_goes_alone_if_there_is_room():
    chosen = stage([Block("A", 60.0, 0), Block("B", 61.0, 0)], measured_kw=500.0)
    assert chosen.feeders == ("A",)


def test_the_minimum_off_time_is_kept():
    chosen = stage([Block("A", 10.0, 3000 * S)])
    assert chosen.feeders == ()
    assert chosen.wait_us == 3900 * S
    assert "minimum off time" in chosen.why


def test_nothing_left_waits_for_nothing():
    assert stage([]).why == ""


@given(st.lists(st.tuples(st.floats(0.1, 80), st.integers(0, 3600)), max_size=30), st.floats(0, 1100))
def test_a_stage_never_exceeds_the_limit(rows, measured_kw):
    blocks = [Block(f"F{i}", kw, since * S) for i, (kw, since) in enumerate(rows)]
    chosen = stage(blocks, measured_kw)
    need = sum(b.kw * cold_load_factor(3600 - b.since_us / S) for b in blocks if b.feeder in chosen.feeders)
    if chosen.feeders:
        assert measured_kw + need <= 950.0 + 1e-6


# --- overrides --------------------------------------------------------------------------------------------------------

GOOD = {"decision": "hold", "actor": "m.meier", "role": "OPERATOR", "reason": "crew"}


def test_an_override_is_read_whole():
    override = parse(GOOD | {"expires": "2026-01-14T16:00:00+01:00"})
    assert (override.decision, override.actor, override.role, override.reason) == (
        Decision.HOLD,
        "m.meier",
        "OPERATOR",
        "crew",
    )
    assert not override.expired(override.expires_us - 1)
    assert override.expired(override.expires_us)
    assert not parse(GOOD).expired(2**62)


def test_spelling_is_forgiven_where_the_meaning_is_plain():
    assert parse(GOOD | {"decision": "Cancel_and_Restore"}).decision is Decision.CANCEL_AND_RESTORE


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "an override is an object"),
        ([], "an override is an object"),
        (GOOD | {"decision": "explode"}, "write one of cancel, cancel-and-restore, hold"),
        ({"actor": "x"}, "unknown decision"),
        (GOOD | {"actor": ""}, "say who decides"),
        (GOOD | {"actor": 7}, "actor must be printable text"),
        (GOOD | {"reason": "a\x00b"}, "reason must be printable text"),
        (GOOD | {"reason": "x" * 401}, "at most 400"),
        (GOOD | {"expires": "tomorrow"}, "is not a time like"),
        (GOOD | {"expires": "2026-01-14T15:00:00"}, "needs a time zone"),
        (GOOD | {"expires": 5}, "must be a time like"),
        (GOOD | {"feeders": ["A"]}, "takes no feeders"),
        (GOOD | {"decision": "force-open"}, "needs feeders"),
        (GOOD | {"decision": "force-open", "feeders": "A"}, "list of names"),
        (GOOD | {"decision": "skip", "feeders": ["A"] * 1001}, "at most 1000"),
        (GOOD | {"force": True}, "unknown key force"),
    ],
)
def test_what_is_wrong_is_said(data, words):
    with pytest.raises(OverrideError, match=words):
        parse(data)


def test_at_the_edge_an_expired_override_is_an_error_too():
    with pytest.raises(OverrideError, match="expired already"):
        check(GOOD | {"expires": "2026-01-14T15:00:00Z"}, 2**62)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda c: (
            st.lists(c)
            | st.dictionaries(st.sampled_from(["decision", "actor", "role", "reason", "expires", "feeders", "x"]), c)
        ),
        max_leaves=8,
    )
)
def test_nothing_but_an_override_error_comes_out(data):
    with contextlib.suppress(OverrideError):
        assert parse(data).actor


# --- reconciliation and status ----------------------------------------------------------------------------------------


def read(position: Position, quality: Quality = Quality.GOOD) -> BreakerReading:
    """One reading."""
    return BreakerReading(position, quality, False, 1, 5.0, 0.0)


def test_after_a_restart_every_breaker_has_its_place():
    busy = Command("r", Position.OPEN, "a", "", 0, 1, 0)
    found = reconcile(
        {
            "same": Breaker(position=Position.OPEN),
            "moved": Breaker(position=Position.OPEN),
            "dark": Breaker(position=Position.OPEN),
            "busy": Breaker(position=Position.CLOSED, phase=Phase.RESOLVING, command=busy),
            "blank": Breaker(),
        },
        {
            "same": read(Position.OPEN),
            "moved": read(Position.CLOSED),
            "dark": read(Position.OPEN, Quality.BAD),
            "busy": read(Position.OPEN),
            "new": read(Position.CLOSED),
            "blank": read(Position.CLOSED),
        },
    )
    assert (found.matched, found.first_seen) == (1, 2)
    assert (found.moved, found.unreadable, found.unresolved) == (("moved",), ("dark",), ("busy",))
    assert not found.clean
    assert "1 moved meanwhile (moved)" in found.sentence


@pytest.mark.parametrize(
    ("policy", "clean", "in_procedure", "goes_on"),
    [
        (AfterRestart.CONTINUE, False, True, True),
        (AfterRestart.CONTINUE_IF_CLEAN, True, True, True),
        (AfterRestart.CONTINUE_IF_CLEAN, False, True, False),
        (AfterRestart.WAIT_FOR_OPERATOR, True, True, False),
        (AfterRestart.WAIT_FOR_OPERATOR, False, False, True),
    ],
)
def test_who_may_go_on_after_a_restart(policy, clean, in_procedure, goes_on):
    readings = {"F": read(Position.CLOSED)}
    found = reconcile({"F": Breaker(position=Position.CLOSED if clean else Position.OPEN)}, readings)
    assert found.clean is clean
    assert may_continue(policy, found, in_procedure) is goes_on


def test_the_status_says_what_it_waits_for_and_until_when():
    said = describe("cooldown", Figures(tier="Tier1", shed_kw=12.34), "12 kW shed", "the load", 0)
    assert said["sentence"] == "12 kW shed; waits for the load until 1970-01-01T00:00:00.000Z"
    assert (said["phase"], said["tier"], said["shed_kw"]) == ("cooldown", "Tier1", 12.3)
    assert len(describe("x", Figures(overrides=[{"n": n} for n in range(50)]), "x")["overrides"]) == 8  # type: ignore[arg-type]


def test_the_factor_table_is_monotonic():
    factors = [cold_load_factor(s) for s in range(0, 4000, 7)]
    assert all(a <= b for a, b in itertools.pairwise(factors))
