"""Each check must fail when what it claims is not so."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from simulators.client import Command, Counters
from simulators.heatwave.checks import Check, Evidence, Verdict, judge, moved_between, stages

CLOSED_AGAIN = Counters(1, 1, 0, 2, 2, "closed")
UNTOUCHED = Counters(0, 0, 0, 0, 0, "closed")


def command(feeder: str, word: str, at: str, verdict: str = "moved") -> Command:
    """One command of the afternoon."""
    return Command(0, 0.0, f"2014-01-16T{at}Z", feeder, word, verdict)


def good() -> Evidence:
    """A good run: A and B were shed and given back in two stages, H is a hospital, S stuck open, R refuses."""
    return Evidence(
        feeders=5,
        critical={"H"},
        counters={
            "A": CLOSED_AGAIN,
            "B": CLOSED_AGAIN,
            "H": UNTOUCHED,
            "S": Counters(1, 2, 0, 1, 1, "open"),
            "R": Counters(0, 0, 2, 0, 0, "closed"),
        },
        commands=[
            command("A", "open", "04:00:00"),
            command("R", "open", "04:00:00", "refused"),
            command("A", "close", "06:00:00"),
            command("B", "close", "06:05:00"),
            command("S", "close", "06:05:00", "stuck"),
        ],
        intents={"A": 2, "B": 2, "H": 0, "S": 3, "R": 2},
        faults={"S": "stuck open", "R": "refuses commands"},
        told={"S": "failed", "R": "refused"},
        timer_before="15:12:00.197",
        timer_after="15:12:00.197",
        reconciled="5 breakers as last known",
        tiers=("Tier1",),
        stages=2,
        highest_restoring_pct=94.0,
        hold="hold by somebody",
        hold_ok=True,
        session="by somebody",
        session_ok=True,
        sessions=2,
        result={"status": "incomplete", "opened": 3, "closed": 2, "not_closed": ["S"]},
        audit_ok=True,
        audit="whole",
    )


def failing(evidence: Evidence) -> list[str]:
    """Names of the checks that fail."""
    return [one.name for one in judge(evidence) if one.verdict is Verdict.FAILS]


def named(checks: list[Check], part: str) -> Check:
    """The check whose name has this part."""
    return next(one for one in checks if part in one.name)


def test_a_good_run_passes_every_check() -> None:
    """All hold, and what is broken is named."""
    assert failing(good()) == []
    assert "S (stuck open)" in named(judge(good()), "given back,").value


def set_counter(feeder: str, counters: Counters) -> Callable[[Evidence], None]:
    """A change of what one breaker counted."""

    def change(evidence: Evidence) -> None:
        evidence.counters = {**evidence.counters, feeder: counters}

    return change


def set_fields(**fields: object) -> Callable[[Evidence], None]:
    """A change of other evidence."""

    def change(evidence: Evidence) -> None:
        for name, value in fields.items():
            setattr(evidence, name, value)

    return change


def test_a_timer_that_came_due_in_the_dark_has_fired_late_and_not_early() -> None:
    evidence = good()
    evidence.timer_fired = "15:12:04.000"
    assert failing(evidence) == []
    (told,) = [one.value for one in judge(evidence) if "cooldown" in one.name]
    assert told.endswith("it came due in the dark and fired at 15:12:04.000")


def test_what_moved_before_the_field_was_known_is_not_what_was_commanded_after_it() -> None:
    def at(feeder: str, wall_s: float) -> Command:
        return Command(1, wall_s, "2014-01-16T04:00:00+00:00", feeder, "open", "accepted")

    commands = [at("later", 30.0), at("early", 15.0), at("both", 15.0), at("both", 30.0), at("before", 5.0)]
    changed = ["later", "early", "both", "before", "by itself"]
    assert moved_between(changed, commands, 10.0, 20.0) == ["early", "both", "before", "by itself"]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (set_fields(tiers=()), "shedding"),
        (set_fields(timer_after="15:12:01.000"), "cooldown"),
        (set_fields(timer_before="", timer_after=""), "cooldown"),
        (set_fields(timer_fired="15:11:59.999"), "cooldown"),
        (set_fields(moved_while_dark=["A"]), "dark"),
        (set_fields(reconciled="4 breakers as last known; 1 moved meanwhile (A)"), "restart"),
        (set_fields(hold_ok=False), "hold"),
        (set_fields(session_ok=False), "OPC UA"),
        (set_fields(sessions=1), "OPC UA"),
        (set_counter("A", Counters(2, 1, 0, 2, 2, "closed")), "journal intended"),
        (set_fields(intents={"A": 3, "B": 2, "S": 3, "R": 2}), "journal intended"),
        (set_fields(commands=[command("A", "open", "04:00:00", "redundant")]), "operated twice"),
        (set_counter("B", Counters(1, 1, 0, 1, 1, "open")), "given back, save"),
        (set_fields(told={"S": "failed", "R": "done"}), "told"),
        (set_fields(told={"R": "refused"}), "told"),
        (set_counter("H", Counters(1, 1, 0, 2, 2, "closed")), "critical"),
        (set_fields(highest_restoring_pct=98.2), "rebound"),
        (set_fields(stages=1), "rebound"),
        (set_fields(result={"status": "failed"}), "procedure ended"),
        (set_fields(faults={}, told={}), "procedure ended"),
        (set_fields(audit_ok=False), "hash chain"),
    ],
)
def test_what_is_not_so_fails(change: Callable[[Evidence], None], part: str) -> None:
    """One wrong thing at a time, found by its own check."""
    evidence = good()
    change(evidence)
    assert any(part in name for name in failing(evidence)), failing(evidence)


def test_an_intent_that_never_left_is_explained_and_not_one_more() -> None:
    """The journal says that one frame was not sent: one missing command is explained, two are not."""
    evidence = good()
    evidence.intents = {**evidence.intents, "A": 3}
    evidence.unsent = {"A": 1}
    assert failing(evidence) == []
    assert "1 never left" in named(judge(evidence), "journal intended").value
    evidence.intents = {**evidence.intents, "A": 4}
    assert failing(evidence)


def test_frames_to_a_silent_rtu_are_explained_but_never_extra_commands() -> None:
    """A silent RTU may swallow a command; it can't invent one."""
    evidence = good()
    evidence.silenced = {"A"}
    evidence.intents = {**evidence.intents, "A": 3}
    assert failing(evidence) == []
    evidence.intents = {**evidence.intents, "A": 1}
    assert failing(evidence) == ["Each breaker received what the journal intended"]


def test_a_fault_that_was_never_met_is_said_so() -> None:
    """A broken breaker that no command met can't be told, and that is not hidden."""
    evidence = good()
    evidence.faults = {**evidence.faults, "X": "stuck closed"}
    assert failing(evidence) == []
    assert "X stuck closed: no command met it" in named(judge(evidence), "told").value


def test_stages_are_told_apart_by_time() -> None:
    """Close commands close together are one stage; opens don't count."""
    told = [command("A", "close", t) for t in ("06:00:00", "06:00:20", "06:05:10", "06:05:00", "06:12:00")]
    assert stages([command("A", "open", "03:00:00"), *told], 150.0) == 3
    assert stages([], 150.0) == 0
