"""Why an orchestration gave a command: the step, the measurement and the words of people by then, and nothing later."""

from __future__ import annotations

from typing import Any

from gateway.decision import Decision, decision_of
from gateway.durable import history as h
from gateway.durable.codec import NULL, pack

LOAD = {"good": True, "kw": 189.0, "percent": 98.6, "capacity_kw": 191.7}


def turn(seq: int, *events: h.Event, says: Any = None) -> tuple[int, int, h.TurnRecord]:
    status = NULL if says is None else pack(says, "it")
    return seq, seq * 1_000, h.TurnRecord(list(events), status)  # type: ignore[arg-type]


def word(feeders: list[str], by: str) -> h.EventRaised:
    data = {"decision": "force-open", "actor": by, "reason": "ice", "feeders": feeders}
    return h.EventRaised("operatoroverride", pack(data, "it"), by)


TURNS = [
    turn(
        1,
        h.ExecutionStarted("LoadSheddingProtocol", pack({"reason": "loading 98.6 %"}, "it"), "2"),
        h.TaskScheduled(1, "ReadLoad"),
    ),
    turn(2, h.TaskCompleted(1, pack(LOAD, "it")), h.TaskScheduled(2, "PlanShed")),
    turn(
        3,
        h.TaskCompleted(2, pack({"kw": 7}, "it")),
        h.TaskScheduled(3, "SendDisconnectCommand", operation_id="shed-1:3"),
        says={
            "phase": "shedding",
            "tier": "T1",
            "sentence": "opens 3",
            "target_kw": 7,
            "shed_kw": 0.5,
            "load_pct": 98.6,
        },
    ),
    turn(4, h.TaskCompleted(3), h.TimerCreated(4, 9), says={"phase": "cooldown", "sentence": "waits", "tier": "T1"}),
    turn(5, word(["F9"], "bob"), h.TaskScheduled(5, "ReadLoad")),
    turn(6, word(["F1"], "jane"), h.TaskScheduled(6, "SendDisconnectCommand", operation_id="shed-1:6")),
    turn(7, h.TaskCompleted(5, pack({**LOAD, "percent": 70.0}, "it")), says={"phase": "stable"}),
]


def told(operation_id: str, feeder: str = "F1") -> Decision:
    found = decision_of("shed-1", feeder, operation_id, TURNS)
    assert found is not None
    return found


def test_the_step_its_figures_and_the_measurement_before_it() -> None:
    found = told("shed-1:3")
    assert (found.seq, found.at_us, found.step, found.activity) == (3, 3_000, 3, "SendDisconnectCommand")
    assert (found.name, found.version, found.reason, found.started_us) == (
        "LoadSheddingProtocol",
        "2",
        "loading 98.6 %",
        1_000,
    )
    assert (found.phase, found.tier, found.sentence) == ("shedding", "T1", "opens 3")
    assert (found.target_kw, found.shed_kw, found.load_pct) == (7.0, 0.5, 98.6)
    assert (found.measured, found.measured_us) == (LOAD, 2_000)
    assert found.cooldown == ""
    assert found.override is None


def test_a_forced_one_names_the_operator_and_the_cooldown_it_fell_into() -> None:
    found = told("shed-1:6")
    assert found.cooldown == "waits"
    assert found.override is not None
    assert (found.override["raised_by"], found.override["at_us"]) == ("jane", 6_000)
    assert found.measured == LOAD, "what was read later had no part in it"
    assert told("shed-1:6", "F7").override is None, "that word was about another feeder"


def test_a_decision_that_is_not_in_the_turns_is_not_made_up() -> None:
    assert decision_of("shed-1", "F1", "shed-1:99", TURNS) is None


def test_a_program_that_says_and_measures_nothing() -> None:
    turns = [turn(1, h.ExecutionStarted("Drill", pack("T1", "it")), h.TaskScheduled(1, "Open", operation_id="d:1"))]
    found = decision_of("d", "F1", "d:1", turns)
    assert found is not None
    assert (found.name, found.reason, found.measured, found.phase) == ("Drill", "", None, "")
