"""Suspend, resume, rewind, restart, purge, export, listings by time: what happens, and what is recorded."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import msgspec
import pytest

from gateway.control import Code
from gateway.durable.exported import RecordedHistory
from gateway.durable.instances import Orchestration
from gateway.durable.rehearsal import Verdict, rehearse
from gateway.shedding.entities import substation_id
from gateway.shedding.substation import PROTOCOL
from tests.core_station import Station

from .conftest import Ask
from .test_operations import audit, refused
from .test_stories import shed


async def status(ask: Ask, instance: str) -> str:
    told: str = (await ask("instances.show", instance=instance))["status"]
    return told


async def test_what_stands_still_goes_on_when_it_is_resumed(ask: Ask, station: Station) -> None:
    await ask("instances.start", name="Wait", instance="w")
    await ask("instances.suspend", instance="w", reason="crew on site", actor="ada")
    await ask("instances.raise", instance="w", event="go", data=7)
    assert await status(ask, "w") == "Suspended"
    assert (await ask("instances.list", status="Suspended"))["instances"][0]["instance"] == "w"
    await ask("instances.resume", instance="w", reason="crew is off", actor="bob")
    assert (await station.ended("w")).output == 7
    asked = {one["op"]: (one["actor"], one.get("reason")) for one in audit(station)}
    assert asked["instances.suspend"] == ("ada (scada)", "crew on site")
    assert asked["instances.resume"] == ("bob (scada)", "crew is off")


async def test_one_of_several_versions_is_started(ask: Ask, station: Station) -> None:
    def relief(context: Any) -> str:
        return str(context.version)

    for version in ("1.9", "1.10"):
        station.engine.registry.orchestrator(relief, version=version)
    await ask("instances.start", name="relief", instance="old", version="1.9")
    await ask("instances.start", name="relief", instance="new")
    assert [(await station.ended(one)).output for one in ("old", "new")] == ["1.9", "1.10"]
    code, words = await refused(ask("instances.start", name="relief", version="2"))
    assert (code, "1.9, 1.10" in words) == (Code.NOT_FOUND, True), words


async def test_a_suspended_procedure_is_no_secret_and_takes_no_override(ask: Ask, station: Station) -> None:
    instance = await shed(station)
    await ask("instances.suspend", instance=instance, reason="crew on site")
    assert any("is suspended" in warning for warning in (await ask("status"))["warnings"])
    code, words = await refused(ask("override", decision="cancel-and-restore", reason="calm"))
    assert (code, "is suspended (resume or terminate it)" in words) == (Code.REFUSED, True)
    await ask("instances.resume", instance=instance, reason="crew is off")
    assert not any("is suspended" in warning for warning in (await ask("status"))["warnings"])
    assert (await ask("override", decision="cancel-and-restore", reason="calm"))["accepted"] is True


async def test_a_procedure_whose_code_is_gone_is_no_secret_and_takes_no_override(ask: Ask, station: Station) -> None:
    instance = await shed(station)
    one = station.engine.instances[instance]
    assert isinstance(one, Orchestration)
    one.stuck = "there is no orchestrator of that name"
    assert any("can't run" in warning for warning in (await ask("status"))["warnings"])
    code, words = await refused(ask("override", decision="cancel-and-restore", reason="calm"))
    assert (code, "can't run" in words) == (Code.REFUSED, True)


async def test_a_failed_one_is_rewound_and_its_failed_step_runs_again(ask: Ask, station: Station) -> None:
    mended: list[str] = []

    def mend(text: str) -> None:
        if not mended:
            raise RuntimeError("broken")

    station.engine.registry.activity(mend, "Mend")
    await ask("instances.start", name="Fails", instance="f")
    assert (await station.ended("f")).runtime_status == "Failed"
    mended.append("now")
    await ask("instances.rewind", instance="f", reason="mended", actor="ada")
    assert (await station.ended("f")).output == "mended"
    assert audit(station)[-1]["op"] == "instances.rewind"
    kinds = [row["kind"] for row in (await ask("instances.timeline", instance="f"))["rows"]]
    assert kinds == ["started", "activity", "failed", "rewound", "activity", "completed"]
    code, words = await refused(ask("instances.rewind", instance="f", reason="again"))
    assert (code, "Completed" in words) == (Code.REFUSED, True)


async def failed_procedure(ask: Ask, station: Station) -> str:
    """A procedure that fails in its work and gives the station back."""
    station.engine.registry._activities.pop("PlanShed")
    station.driver.load = 990.0
    started = await ask("instances.start", name=PROTOCOL, instance="p", input={"reason": "test"})
    assert (await station.ended(started["instance"])).runtime_status == "Failed"
    return "p"


async def claimed_by(station: Station) -> Any:
    running = (await station.client.call_entity(substation_id(station.site), "get", None))["running"]
    return running and running["instance"]


async def test_a_procedure_is_rewound_only_while_it_can_have_the_station(ask: Ask, station: Station) -> None:
    instance = await failed_procedure(ask, station)
    assert await claimed_by(station) is None
    await station.client.call_entity(substation_id(station.site), "claim", {"instance": "another"})
    code, words = await refused(ask("instances.rewind", instance=instance, reason="x"))
    assert (code, "another runs already" in words) == (Code.REFUSED, True)
    assert await status(ask, instance) == "Failed"
    ended = {"instance": "another", "result": {"status": "done"}}
    await station.client.call_entity(substation_id(station.site), "finished", ended)

    async def plans_for_ever(_: object) -> None:
        await asyncio.Event().wait()

    station.engine.registry.activity(plans_for_ever, "PlanShed")
    await ask("instances.rewind", instance=instance, reason="x")
    assert await claimed_by(station) == instance
    assert await status(ask, instance) == "Running"


async def test_a_procedure_that_comes_back_with_its_parent_needs_the_station_too(ask: Ask, station: Station) -> None:
    def Night(context):
        yield context.call_sub_orchestrator(PROTOCOL, {"reason": "test"}, instance_id="p")

    async def plans_for_ever(_: object) -> None:
        await asyncio.Event().wait()

    station.engine.registry.orchestrator(Night)
    station.engine.registry._activities.pop("PlanShed")
    station.driver.load = 990.0
    await ask("instances.start", name="Night", instance="n")
    assert (await station.ended("n")).runtime_status == "Failed"
    station.engine.registry.activity(plans_for_ever, "PlanShed")
    await station.client.call_entity(substation_id(station.site), "claim", {"instance": "another"})
    code, words = await refused(ask("instances.rewind", instance="n", reason="x"))
    assert (code, "p can't have the station again: another runs already" in words) == (Code.REFUSED, True)
    assert [await status(ask, one) for one in ("n", "p")] == ["Failed", "Failed"]
    ended = {"instance": "another", "result": {"status": "done"}}
    await station.client.call_entity(substation_id(station.site), "finished", ended)
    await ask("instances.rewind", instance="n", reason="x")
    assert await claimed_by(station) == "p"
    assert [await status(ask, one) for one in ("n", "p")] == ["Running", "Running"]


async def test_a_rewind_that_is_refused_gives_the_station_back(
    ask: Ask, station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = await failed_procedure(ask, station)
    station.engine.registry._orchestrators.pop(PROTOCOL)
    assert (await refused(ask("instances.rewind", instance=instance, reason="x")))[0] is Code.NOT_FOUND
    assert await claimed_by(station) is None


async def test_a_restart_takes_the_same_input_under_a_new_or_the_same_id(ask: Ask, station: Station) -> None:
    station.engine.registry.activity(lambda text: None, "Mend")
    await ask("instances.start", name="Fails", instance="f", input="it")
    await station.ended("f")
    new = (await ask("instances.restart", instance="f", reason="once more"))["instance"]
    assert new != "f"
    assert (await station.ended(new)).output == "mended"
    assert (await ask("instances.show", instance=new))["input"] == "it"
    assert (await ask("instances.restart", instance="f", reason="x", same_id=True))["instance"] == "f"
    code, words = await refused(ask("instances.restart", instance=await failed_procedure(ask, station), reason="x"))
    assert (code, "what it knew of the station is old" in words) == (Code.REFUSED, True)


async def test_a_purge_takes_what_has_finished_and_leaves_the_records(ask: Ask, station: Station) -> None:
    for name in ("a", "b"):
        await ask("instances.start", name="Wait", instance=name)
    assert (await refused(ask("instances.purge", instance="a", reason="old")))[0] is Code.REFUSED
    await ask("instances.raise", instance="a", event="go")
    await station.ended("a")
    assert await ask("instances.purge", since="2000-01-01", status="Completed", reason="old") == {"purged": 1}
    assert (await refused(ask("instances.show", instance="a")))[0] is Code.NOT_FOUND
    assert any(record.instance == "a" and record.kind == "turn" for record in station.store.records)
    assert [one["instance"] for one in (await ask("instances.list"))["instances"]] == ["b"]
    assert (await refused(ask("instances.purge", reason="all")))[0] is Code.BAD_REQUEST


async def test_instances_are_listed_by_the_time_of_their_creation(ask: Ask, station: Station) -> None:
    await ask("instances.start", name="Wait", instance="early")
    station.clock.advance(3600)
    await ask("instances.start", name="Wait", instance="late")
    made = {
        one["instance"]: datetime.fromisoformat(one["created"]) for one in (await ask("instances.list"))["instances"]
    }
    since = await ask("instances.list", since=made["late"].isoformat())
    assert [one["instance"] for one in since["instances"]] == ["late"]
    until = await ask("instances.list", until=made["early"].strftime("%Y-%m-%dT%H:%M:%S.%f"))
    assert [one["instance"] for one in until["instances"]] == ["early"], "a time without a zone is UTC"
    code, words = await refused(ask("instances.list", since="noon"))
    assert (code, "2026-01-14T08:30:00Z" in words) == (Code.BAD_REQUEST, True)


async def test_what_is_exported_replays(ask: Ask, station: Station) -> None:
    await ask("instances.start", name="Sleep", instance="s")
    await station.until(lambda: station.store.pending_timers, "it sleeps")
    told = msgspec.json.decode(msgspec.json.encode(await ask("instances.export", instance="s")), type=RecordedHistory)
    assert (told.name, len(told.turns)) == ("Sleep", 1)
    assert rehearse(station.engine.registry, told).verdict is Verdict.SAME
    assert (await refused(ask("instances.export", instance="nobody")))[0] is Code.NOT_FOUND
    assert (await refused(ask("instances.export", instance="@breaker@A1")))[0] is Code.NOT_FOUND


async def test_those_replayed_most_are_named(ask: Ask, station: Station) -> None:
    for name in ("a", "b"):
        await ask("instances.start", name="Wait", instance=name)
    station.engine.instances["b"].replays = 3  # type: ignore[union-attr]
    found = (await ask("status"))["engine"]["replayed_most"]
    assert found == [{"instance": "b", "name": "Wait", "replays": 3}]
