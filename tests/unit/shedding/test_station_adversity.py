"""The station in bad company: other people's commands, a mode that changes, a procedure that ends without a word."""

from __future__ import annotations

from typing import Any

import pytest

from config.models import Mode
from gateway.shedding.entities import breaker_id
from gateway.shedding.states import breaker_state
from protocols.base import Position, Quality

from .conftest import Station, make_site
from .test_application import Call, run


@pytest.fixture
async def station():
    one = Station(make_site())
    one.programs = [Call]
    one.build()
    await one.start()
    yield one
    await one.engine.stop(0.1)


async def shed(station: Station, *feeders: str) -> None:
    """A procedure p has opened these feeders."""
    for name in feeders:
        message = {"request_id": f"open {name}", "procedure": "p", "kw": 20.0}
        assert (await station.client.call_entity(breaker_id(name), "open", message))["outcome"] == "done"


async def restore_plan(station: Station) -> dict[str, Any]:
    return await run(station, "PlanRestore", {"procedure": "p"})


async def test_a_feeder_whose_closing_by_a_person_has_no_outcome_is_not_back_yet(station):
    await shed(station, "A1")
    station.driver.breakers["A1"].answers = ["lose before"]
    station.driver.breakers["A1"].quality = Quality.BAD
    asked = {"request_id": "by hand", "actor": "m.meier", "deadline_us": station.clock.now_us() + 1}
    station.client.post_to_entity(breaker_id("A1"), "close", asked)
    await station.until(lambda: breaker_state(station.client, "A1").command is not None, "the close is under way")
    plan = await restore_plan(station)
    assert (plan["left"], plan["unresolved"], plan["troubled"]) == (1, 1, ["A1"])


async def test_in_mode_monitor_nothing_is_planned_to_close_and_nothing_is_given_up(station):
    await shed(station, "A1", "A2")
    station.field.mode = Mode.MONITOR
    plan = await restore_plan(station)
    assert (plan["feeders"], plan["left"], plan["stuck"]) == ([], 2, 0)
    assert "monitor" in plan["why"]
    station.field.mode = Mode.ARMED
    assert len((await restore_plan(station))["feeders"]) == 2


async def test_a_tier_is_not_called_closed_on_a_position_that_nobody_can_read(station):
    for name in ("A1", "A2", "A3"):
        seen = {"position": "closed", "quality": "bad" if name == "A1" else "good", "local": False}
        await station.client.call_entity(breaker_id(name), "observe", seen)
    assert breaker_state(station.client, "A1").position is Position.CLOSED
    assert await run(station, "SendReconnectCommand", "Tier1") == {"A1": "unknown", "A2": "done", "A3": "done"}
    assert station.driver.writes == 0
