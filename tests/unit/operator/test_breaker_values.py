"""What is told of one breaker: what was read, what was asked for, and never one for the other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from gateway.operator.breaker_values import AGES_S, age_step, changes, committed, moved, of_site
from gateway.shedding.breaker_model import Block, Breaker, Command, Ended, Phase, Result
from protocols.base import Position, Quality
from protocols.opcua.surface import Grade, Sample
from tests.core_station import make_feeder

CLOSED = Breaker(
    position=Position.CLOSED,
    quality=Quality.GOOD,
    observed_us=1_000,
    local=False,
    op_count=7,
    commanded=Position.CLOSED,
)


def told(state: Breaker | None, image: Grade = Grade.GOOD) -> dict[str, Sample]:
    return {one.variable: one.sample for one in changes("Feeder/A1", None, committed(state, image))}


def values(state: Breaker | None) -> dict[str, Any]:
    return {name: sample.value for name, sample in told(state).items()}


@pytest.mark.parametrize(
    ("position", "dbpos"),
    [(Position.INTERMEDIATE, 0), (Position.OPEN, 1), (Position.CLOSED, 2), (Position.BAD, 3), (Position.UNKNOWN, None)],
)
def test_a_position_is_a_double_point_and_none_where_it_was_never_read(position: Position, dbpos: int | None) -> None:
    sample = told(Breaker(position=position, quality=Quality.GOOD, observed_us=5))["Pos"]
    assert sample.value == dbpos
    assert sample.grade is (Grade.BAD if dbpos is None else Grade.GOOD)


def test_a_breaker_without_a_state_is_told_as_unknown() -> None:
    found = told(None)
    assert found["Pos"] == Sample(None, Grade.BAD)
    assert found["Commanded"] == Sample(None, Grade.BAD)
    assert (found["Quality"].value, found["Outcome"].value, found["Intents"].value) == ("bad", "", 0)


def test_a_position_carries_the_time_at_which_it_was_observed() -> None:
    assert told(CLOSED)["Pos"] == Sample(2, Grade.GOOD, 1_000)


@pytest.mark.parametrize("quality", Quality)
@pytest.mark.parametrize("image", Grade)
def test_a_position_is_never_told_better_than_the_worse_of_what_is_known(quality: Quality, image: Grade) -> None:
    order = [Grade.GOOD, Grade.UNCERTAIN, Grade.BAD]
    worst = max(order.index(image), order.index(Grade(quality.value)))
    found = told(Breaker(position=Position.OPEN, quality=quality, local=True, op_count=3), image)
    assert {found[name].grade for name in ("Pos", "Loc", "OpCnt")} == {order[worst]}


def test_what_the_gateway_knows_itself_is_good_however_old_the_reading_is() -> None:
    found = told(structs.replace(CLOSED, quality=Quality.BAD))
    assert found["Pos"].grade is Grade.BAD
    assert {found[n].grade for n in ("Quality", "Commanded", "BlkOpn", "Outcome", "Intents")} == {Grade.GOOD}


def command(**what: Any) -> Command:
    return Command("r1", Position.OPEN, "m.meier", "line work", 0, 1, 0, **what)


def ended(result: Result, detail: str = "") -> Ended:
    return Ended("r1", Position.OPEN, result, detail, "m.meier", 9)


@pytest.mark.parametrize(
    ("state", "outcome", "reason"),
    [
        (Breaker(), "", ""),
        (Breaker(phase=Phase.OPERATING, command=command()), "operating", "open by m.meier: line work"),
        (Breaker(phase=Phase.UNRESOLVED, command=command()), "unknown", "open by m.meier: line work"),
        (
            Breaker(phase=Phase.OPERATING, command=Command("r", Position.CLOSED, "", "stage 1", 0, 1, 0, "shed-1")),
            "operating",
            "close by shed-1: stage 1",
        ),
        (Breaker(recent=(ended(Result.FAILED, "did not move"),)), "failed", "open by m.meier: did not move"),
        (Breaker(recent=(ended(Result.DONE),)), "done", "open by m.meier: done"),
        (
            Breaker(recent=(ended(Result.DONE),), blocked=Block("anna", "crew", 1)),
            "done",
            "open by m.meier: done; blocked by anna: crew",
        ),
    ],
)
def test_outcome_and_reason_tell_of_the_last_command(state: Breaker, outcome: str, reason: str) -> None:
    found = values(state)
    assert (found["Outcome"], found["Reason"]) == (outcome, reason)


def test_a_block_says_what_it_forbids() -> None:
    found = values(Breaker(blocked=Block("anna", "crew", 1, open=False)))
    assert (found["BlkOpn"], found["BlkCls"]) == (False, True)


def test_only_what_differs_is_told_again() -> None:
    before = committed(CLOSED, Grade.GOOD)
    after = committed(structs.replace(CLOSED, position=Position.OPEN, op_count=8, observed_us=2_000), Grade.GOOD)
    assert {one.variable: one.sample.value for one in changes("k", before, after)} == {"Pos": 1, "OpCnt": 8}
    assert list(changes("k", before, committed(CLOSED, Grade.GOOD))) == []


def test_a_position_that_was_observed_again_has_a_new_time() -> None:
    after = committed(structs.replace(CLOSED, observed_us=2_000), Grade.GOOD)
    found = list(changes("k", committed(CLOSED, Grade.GOOD), after))
    assert [(one.variable, one.sample) for one in found] == [("Pos", Sample(2, Grade.GOOD, 2_000))]


def test_a_reading_that_becomes_stale_takes_all_that_was_read_with_it() -> None:
    found = list(changes("k", committed(CLOSED, Grade.GOOD), committed(CLOSED, Grade.UNCERTAIN)))
    assert {(one.variable, one.sample.grade) for one in found} == {
        ("Pos", Grade.UNCERTAIN),
        ("Loc", Grade.UNCERTAIN),
        ("OpCnt", Grade.UNCERTAIN),
    }


def test_the_sites_files_say_what_may_be_shed() -> None:
    def shed(**what: Any) -> Any:
        found = {one.variable: one.sample.value for one in of_site("k", replace(make_feeder("A1", "Tier1"), **what))}
        return found["Tier"], found["Critical"], found["Sheddable"], found["Device"]

    assert shed() == ("Tier1", False, True, "rtu")
    assert shed(tier=None) == ("", False, False, "rtu")
    assert shed(critical=True) == ("Tier1", True, False, "rtu")
    assert shed(sheddable=False) == ("Tier1", False, False, "rtu")


@pytest.mark.parametrize(
    ("age_s", "grade", "step"),
    [
        (None, Grade.BAD, None),
        (0.3, Grade.GOOD, 0.0),
        (9.0, Grade.GOOD, 0.0),
        (3.0, Grade.UNCERTAIN, 0.0),
        (5.0, Grade.UNCERTAIN, 5.0),
        (59.9, Grade.BAD, 30.0),
        (60.0, Grade.BAD, 60.0),
        (1e9, Grade.BAD, 86_400.0),
    ],
)
def test_an_age_is_told_in_steps_and_never_made_older(age_s: float | None, grade: Grade, step: float | None) -> None:
    assert age_step(age_s, grade) == step
    assert list(AGES_S) == sorted(AGES_S)


@pytest.mark.parametrize(
    ("before", "now", "rated", "told_again"),
    [
        (None, None, 20.0, False),
        (None, 0.0, 20.0, True),
        (5.0, None, 20.0, True),
        (5.0, 5.19, 20.0, False),
        (5.0, 5.21, 20.0, True),
        (5.0, 4.79, 20.0, True),
        (1.0, 1.09, 0.0, False),
        (1.0, 1.11, 0.0, True),
    ],
)
def test_a_load_is_told_again_once_it_has_moved(
    before: float | None, now: float | None, rated: float, told_again: bool
) -> None:
    assert moved(before, now, rated) is told_again
