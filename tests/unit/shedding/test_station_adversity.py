"""The station in bad company: other people's commands, a mode that changes, a procedure that ends without a word."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from config.models import Mode
from gateway.durable import OrchestrationRuntimeStatus
from gateway.shedding import substation as core
from gateway.shedding.breaker_model import Phase
from gateway.shedding.entities import breaker_id, substation_id, transformer_id
from gateway.shedding.states import breaker_state
from gateway.watch import CommittedBreakers, Observer, Watch
from protocols.base import Position, Quality

from .conftest import Station, make_site
from .test_application import Call, run

SITE = make_site()


def Fails(context):
    """A procedure whose code is wrong: it takes the station and dies."""
    claim = context.call_entity(substation_id(SITE), "claim", {"instance": context.instance_id})
    yield claim
    raise ZeroDivisionError("a mistake in the code")


def Waits(context):
    """A procedure that goes on until it is told to end."""
    yield context.wait_for_external_event("never")


@pytest.fixture
async def station():
    one = Station(make_site())
    one.programs = [Call, Fails, Waits]
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


# --- procedures that end without a word, and what they leave under way ---


def watch_of(station: Station) -> Watch:
    trend: Any = SimpleNamespace(append=lambda sample: None)
    observer = Observer(station.engine, station.field)
    return Watch(station.engine, station.field, trend, observer, CommittedBreakers(station.engine), armed=False)


async def test_a_procedure_that_died_without_a_word_frees_the_station(station):
    died = await station.client.start_new("Fails")
    assert (await station.ended(died)).runtime_status is OrchestrationRuntimeStatus.Failed
    get = partial(station.client.call_entity, substation_id(SITE), "get")
    assert (await get())["running"]["instance"] == died
    watch = watch_of(station)
    for _ in range(3):
        watch.look()
    after = await get()
    assert after["running"] is None
    assert "ended" in after["quiet"]


async def test_a_procedure_that_lives_keeps_the_station(station):
    alive = await station.client.start_new("Waits")
    await station.until(lambda: alive in station.engine.instances, "it runs")
    await station.client.call_entity(substation_id(SITE), "claim", {"instance": alive})
    watch = watch_of(station)
    for _ in range(3):
        watch.look()
    assert (await station.client.call_entity(substation_id(SITE), "get"))["running"]["instance"] == alive


@pytest.mark.parametrize("ended", [True, False])
async def test_a_command_whose_procedure_ended_is_not_repeated(station, ended):
    procedure = await station.client.start_new("Waits")
    breaker = station.driver.breakers["A1"]
    seen = {"position": "closed", "quality": "good", "local": False, "op_count": 0}
    await station.client.call_entity(breaker_id("A1"), "observe", seen)
    breaker.answers, breaker.quality = ["lose before"], Quality.BAD
    opened = {"request_id": "r1", "procedure": procedure, "kw": 20.0}
    station.client.post_to_entity(breaker_id("A1"), "open", opened)
    await station.until(lambda: breaker_state(station.client, "A1").phase is Phase.RESOLVING, "nobody knows")
    if ended:
        await station.client.terminate(procedure, "enough")
        await station.ended(procedure)
    watch_of(station).look()
    breaker.quality = Quality.GOOD
    await station.until(lambda: breaker_state(station.client, "A1").phase is Phase.IDLE, "the readback decided")
    assert breaker.orders == [Position.OPEN] * (1 if ended else 2)


@pytest.mark.parametrize("ended", [True, False])
async def test_a_command_that_waits_at_the_gate_does_not_leave_once_its_procedure_has_ended(station, ended):
    station.gate.hold("after a restart")
    station.clock.real_seconds_until = lambda due_us: 60.0  # type: ignore[method-assign]
    procedure = await station.client.start_new("Waits")
    opened = {"request_id": "r1", "procedure": procedure, "kw": 20.0}
    station.client.post_to_entity(breaker_id("A1"), "open", opened)
    await station.until(lambda: breaker_state(station.client, "A1").phase is Phase.OPERATING, "intent")
    if ended:
        await station.client.terminate(procedure, "enough")
        await station.client.wait_for_completion(procedure)
    watch_of(station).look()
    await station.engine.on_disk()
    await asyncio.sleep(0.01)
    station.gate.release()
    await station.until(lambda: breaker_state(station.client, "A1").phase is Phase.IDLE, "it ended")
    assert station.driver.writes == (0 if ended else 1)


async def test_what_needs_a_person_is_said_once(station):
    breaker = station.driver.breakers["A1"]
    breaker.answers, breaker.quality = ["lose before"], Quality.BAD
    opened = {"request_id": "r1", "procedure": "p", "deadline_us": station.clock.now_us() + 1, "kw": 20.0}
    station.client.post_to_entity(breaker_id("A1"), "open", opened)
    await station.until(lambda: station.driver.writes, "on its way")
    station.clock.advance(1)
    await station.until(lambda: breaker_state(station.client, "A1").phase is Phase.UNRESOLVED, "nobody knows")
    await shed(station, "A2")
    watch = watch_of(station)
    with structlog.testing.capture_logs() as lines:
        watch.look()
        watch.look()
    said = [(line["event"], line.get("feeder") or line.get("feeders")) for line in lines]
    assert said.count(("breaker_unresolved", "A1")) == 1
    assert said.count(("shed_without_procedure", ["A2"])) == 1


async def test_a_suspended_procedure_that_keeps_the_station_is_said_each_time(station):
    station.driver.load = 990.0
    told = {"armed": True, "measured": True, "load_pct": 99.0}
    await station.client.signal_entity(transformer_id(station.site), "observe", told)
    await station.phase("shed-Northgate-000001", "cooldown")
    watch = watch_of(station)
    with structlog.testing.capture_logs() as lines:
        for _ in range(2):
            await station.client.suspend("shed-Northgate-000001", "crew on site")
            watch.look()
            watch.look()
            await station.client.resume("shed-Northgate-000001", "crew is off")
            watch.look()
    said = [line["instance"] for line in lines if line["event"] == "procedure_suspended"]
    assert said == ["shed-Northgate-000001"] * 2


# --- a site that changes while feeders are shed ---


async def test_a_tier_is_closed_whole_also_where_a_feeder_must_not_be_shed_any_more(station):
    assert await run(station, "SendDisconnectCommand", "Tier1") == dict.fromkeys(["A1", "A2", "A3"], "done")
    became_critical = replace(station.site.feeders[0], critical=True, sheddable=False)
    station.field.use(replace(station.site, feeders=(became_critical, *station.site.feeders[1:])))
    closed = await run(station, "SendReconnectCommand", "Tier1")
    assert {name: closed[name] for name in ("A1", "A2", "A3")} == dict.fromkeys(["A1", "A2", "A3"], "done")
    assert station.driver.breakers["A1"].position is Position.CLOSED


async def test_shed_feeders_that_have_left_the_site_are_named_at_the_start(station):
    await shed(station, "A1", "A2")
    station.field.use(replace(station.site, feeders=station.site.feeders[1:]))
    watch = watch_of(station)
    with structlog.testing.capture_logs() as lines:
        watch.look()
        watch.look()
    assert [line["feeders"] for line in lines if line["event"] == "feeders_gone"] == [["A1"]]


@pytest.mark.parametrize("given_back", [False, True])
def test_what_an_operator_gave_back_is_not_shed_again_by_the_same_stress(given_back):
    busy = core.Substation(stress=True, running=core.Running("p", 1, "heat"))
    over = core.finished(busy, "p", {"status": "restored", "given_back": given_back})
    _, start = core.evaluate(over, Mode.ARMED, "Northgate", 6, 2)
    assert (start is None) is given_back
    calm = core.stress(core.stress(over, False, 80.0), True, 99.0)
    assert core.evaluate(calm, Mode.ARMED, "Northgate", 6, 3)[1] is not None
