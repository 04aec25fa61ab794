"""Timeline and why, over a real station: the journal answers who did what, in which step, on which measurement."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.control import Code
from gateway.durable.instances import Orchestration
from gateway.operations import stories
from gateway.shedding.entities import transformer_id
from tests.core_station import Station

from .conftest import Ask
from .test_operations import refused


async def shed(station: Station) -> str:
    """The load is too high: the procedure opens a tier and waits; its id."""
    station.driver.load = 990.0
    told = {"armed": True, "measured": True, "load_pct": 99.0}
    await station.client.signal_entity(transformer_id(station.site), "observe", told)
    await station.phase("shed-Northgate-000001", "cooldown")
    return "shed-Northgate-000001"


async def why(ask: Ask, feeder: str) -> dict[str, Any]:
    answer: dict[str, Any] = await ask("why", feeder=feeder)
    return answer


# --- timeline ---------------------------------------------------------------------------------------------------------


async def test_the_story_of_an_instance_with_who_started_and_raised(ask: Ask, station: Station) -> None:
    await ask("instances.start", name="Wait", instance="w", actor="ada")
    await ask("instances.raise", instance="w", event="go", data={"a": 1}, actor="bob")
    await station.ended("w")
    told = await ask("instances.timeline", instance="w", exact=True)
    assert (told["name"], told["status"], told["complete"], told["replays"]) == ("Wait", "Completed", True, 0)
    assert told["started_by"]["actor"] == "ada (scada)"
    assert [(row["kind"], row["name"], row["who"]) for row in told["rows"]] == [
        ("started", "Wait", ""),
        ("event", "go", "bob (scada)"),
        ("completed", "", ""),
    ]
    assert bytes(told["rows"][1]["value"]) == b'{"a":1}'
    words = await ask("instances.timeline", instance="w")
    assert (words["rows"][1]["value"], words["rows"][2]["result"]) == ("a 1", "a 1")


async def test_a_timer_keeps_its_numbers_and_one_that_runs_is_open(ask: Ask, station: Station) -> None:
    await ask("instances.start", name="Sleep", instance="s")
    await station.until(lambda: len(station.store.pending_timers) == 2, "it sleeps")
    rows = (await ask("instances.timeline", instance="s"))["rows"]
    assert [(row["kind"], row["outcome"]) for row in rows] == [("started", ""), ("timer", "open"), ("timer", "open")]


async def test_what_it_waits_for_is_told_live_and_after_a_restart(ask: Ask, station: Station) -> None:
    await ask("instances.start", name="Wait", instance="w")
    for _ in range(2):
        waits = (await ask("instances.timeline", instance="w"))["waits"]
        assert waits.startswith("waits for the event 'Go' (it waits at")
        assert "conftest.py:" in waits
        live = station.engine.instances["w"]
        assert isinstance(live, Orchestration)
        live.execution = None  # as after a restart: on disk until its next message
    await ask("instances.suspend", instance="w", reason="crew")
    while (waits := (await ask("instances.timeline", instance="w"))["waits"]) != "stands still until it is resumed":
        await station.engine.on_disk()
    await ask("instances.resume", instance="w", reason="crew left")
    await ask("instances.raise", instance="w", event="go")
    await station.ended("w")
    assert (await ask("instances.timeline", instance="w"))["waits"] == ""


async def test_a_story_that_is_too_long_says_that_its_beginning_is_missing(
    ask: Ask, station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ask("instances.start", name="Wait", instance="w")
    await ask("instances.raise", instance="w", event="go")
    await station.ended("w")
    monkeypatch.setattr(stories, "TURNS_AT_MOST", 1)
    told = await ask("instances.timeline", instance="w")
    assert (told["complete"], [row["kind"] for row in told["rows"]]) == (False, ["event", "completed"])


async def test_nobody_has_no_story(ask: Ask) -> None:
    assert (await refused(ask("instances.timeline", instance="nobody")))[0] is Code.NOT_FOUND


# --- why --------------------------------------------------------------------------------------------------------------


async def test_nothing_happened_and_nothing_is_made_up(ask: Ask) -> None:
    told = await why(ask, "B1")
    assert (told["moves"], told["complete"], told["closes"]) == ([], True, None)
    assert (await refused(ask("why", feeder="Z9")))[0] is Code.NOT_FOUND


async def test_a_procedure_opened_it_and_will_close_it(ask: Ask, station: Station) -> None:
    instance = await shed(station)
    opened = next(name for name, one in station.driver.breakers.items() if one.orders)
    told = await why(ask, opened)
    (move,) = told["moves"]
    assert (move["target"], move["outcome"], move["position"], move["procedure"]) == ("open", "done", "open", instance)
    decision = move["decision"]
    assert (decision["name"], decision["phase"], decision["tier"]) == ("LoadSheddingProtocol", "shedding", "Tier1")
    assert (decision["activity"], decision["reason"]) == ("SendDisconnectCommand", "loading 99.0 %")
    assert (decision["measured"]["kw"], decision["measured"]["percent"]) == (990.0, 99.0)
    assert decision["measured_us"] <= decision["at_us"] <= move["at_us"]
    assert (move["stress"]["on"], move["stress"]["load_pct"]) == (True, 99.0)
    assert (told["closes"]["by"], told["closes"]["procedure"]) == ("procedure", instance)


async def test_a_procedure_that_has_ended_closes_nothing_more(ask: Ask, station: Station) -> None:
    instance = await shed(station)
    opened = next(name for name, one in station.driver.breakers.items() if one.orders)
    await ask("instances.terminate", instance=instance, reason="test")
    await station.ended(instance)
    closes = (await why(ask, opened))["closes"]
    assert (closes["by"], "has ended" in closes["why"]) == ("person", True)
    assert closes["command"] == f"gridlatch breakers close {opened} --reason TEXT"


async def test_a_person_opened_it_and_a_person_has_to_close_it(ask: Ask, station: Station) -> None:
    await ask("breakers.open", feeder="B1", reason="smoke", actor="ada")
    told = await why(ask, "B1")
    (move,) = told["moves"]
    assert (move["actor"], move["reason"], move["decision"]) == ("ada (scada)", "smoke", None)
    assert (move["asked"]["op"], move["asked"]["peer"]["user"]) == ("breakers.open", "scada")
    assert (told["closes"]["by"], "by hand" in told["closes"]["why"]) == ("person", True)
    await ask("breakers.block", feeder="B1", reason="earthed", actor="bob")
    assert "blocked by bob (scada) (earthed)" in (await why(ask, "B1"))["closes"]["why"]
    await ask("breakers.unblock", feeder="B1", reason="clear")
    await ask("breakers.close", feeder="B1", reason="all is well", actor="eve")
    told = await why(ask, "B1")
    assert ([move["target"] for move in told["moves"]], told["closes"]) == (["closed", "open"], None)


async def test_a_force_through_a_procedure_names_the_operator(ask: Ask, station: Station) -> None:
    instance = await shed(station)
    await ask("override", decision="force-open", feeder="B1", reason="ice", actor="ada")
    await station.until(lambda: station.driver.breakers["B1"].orders, "it is opened")
    while (move := (await why(ask, "B1"))["moves"][0])["outcome"] != "done":
        await station.engine.on_disk()
    told = await why(ask, "B1")
    assert (move["force"], move["actor"], move["procedure"]) == (True, "ada (scada)", instance)
    assert (move["decision"]["override"]["reason"], move["decision"]["override"]["raised_by"]) == ("ice", "ada (scada)")
    assert told["closes"]["by"] == "person", "the procedure leaves what was forced open"


async def test_a_program_of_the_site_is_named_with_who_started_it(ask: Ask, station: Station) -> None:
    await ask("instances.start", name="OpenB1", instance="d", actor="ada")
    await station.ended("d")
    told = await why(ask, "B1")
    (move,) = told["moves"]
    assert (move["decision"]["name"], move["started_by"]["actor"]) == ("OpenB1", "ada (scada)")
    assert (move["decision"]["measured"], move["decision"]["phase"]) == (None, "")
    assert (told["closes"]["by"], "d, which opened it, has ended" in told["closes"]["why"]) == ("person", True)


async def test_a_decision_far_back_is_found_page_by_page_and_given_up_in_the_end(
    ask: Ask, station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = await shed(station)
    opened = next(name for name, one in station.driver.breakers.items() if one.orders)
    monkeypatch.setattr(stories, "TURNS_AT_MOST", 2)
    assert len(await ask_turns(ask, instance)) > 1
    monkeypatch.setattr(stories, "DECISION_PAGES", 1)
    (move,) = (await why(ask, opened))["moves"]
    assert move["decision"] is None or not move["decision"]["started_us"], "its beginning lies before what is read"
    monkeypatch.setattr(stories, "DECISION_PAGES", 50)
    (move,) = (await why(ask, opened))["moves"]
    assert move["decision"]["started_us"] > 0


async def ask_turns(ask: Ask, instance: str) -> list[Any]:
    rows: list[Any] = (await ask("instances.timeline", instance=instance))["rows"]
    return rows


async def test_a_restart_names_who_asked_for_it(ask: Ask, station: Station) -> None:
    await ask("instances.start", name="Wait", instance="w", actor="ada")
    new = (await ask("instances.restart", instance="w", reason="again", actor="bob"))["instance"]
    await station.until(lambda: any(r.instance == new for r in station.store.records), "it has begun")
    told = await ask("instances.timeline", instance=new)
    assert (told["started_by"]["actor"], told["started_by"]["reason"]) == ("bob (scada)", "again")
