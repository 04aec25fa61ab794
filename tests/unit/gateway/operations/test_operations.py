"""The operations over a real engine: what they answer, what they record, and with which code they refuse."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from config.models import Mode
from gateway.control import Code, ControlError
from gateway.operations import Desk, Health
from protocols.base import Position
from tests.core_station import Station

from .conftest import Ask


def audit(station: Station, kind: str = "audit") -> list[dict[str, Any]]:
    """The records of this kind that are on disk."""
    return [msgspec.json.decode(r.payload) for r in station.store.records if r.kind == kind]


async def refused(asked: Any) -> tuple[Code, str]:
    """The code and the words of a refusal."""
    with pytest.raises(ControlError) as caught:
        await asked
    return caught.value.code, str(caught.value)


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "args", "code", "words"),
    [
        ("instances.show", {"instance": "nobody"}, Code.NOT_FOUND, "nobody"),
        ("instances.start", {"name": "NoSuchThing"}, Code.NOT_FOUND, "NoSuchThing"),
        ("instances.start", {"name": "Wait", "instance": "@breaker@A1"}, Code.BAD_REQUEST, "@"),
        ("instances.start", {}, Code.BAD_REQUEST, "name is missing"),
        ("instances.raise", {"instance": "nobody", "event": "Go"}, Code.NOT_FOUND, "nobody"),
        ("instances.list", {"status": "Sleeping"}, Code.BAD_REQUEST, "write one of Pending, Running"),
        ("instances.terminate", {"instance": "nobody"}, Code.BAD_REQUEST, "reason is missing"),
        ("breakers.show", {"feeder": "Z9"}, Code.NOT_FOUND, "no feeder 'Z9'"),
        ("breakers.list", {"after": "Z9"}, Code.NOT_FOUND, "no feeder 'Z9'"),
        ("breakers.list", {"tier": "Tier9"}, Code.NOT_FOUND, "no tier 'Tier9'; it has Tier1, Tier2"),
        ("breakers.open", {"feeder": "A1"}, Code.BAD_REQUEST, "reason is missing"),
        ("breakers.open", {"feeder": "A1", "reason": "x", "wait_s": 301}, Code.BAD_REQUEST, "from 0.1 to 300"),
        ("override", {"decision": "hold", "reason": "x"}, Code.REFUSED, "no procedure runs"),
        ("override", {"decision": "dance", "reason": "x", "instance": "i"}, Code.BAD_REQUEST, "dance"),
        ("mode", {"mode": "off", "reason": "x"}, Code.BAD_REQUEST, "write one of monitor, armed"),
        ("release", {}, Code.BAD_REQUEST, "reason is missing"),
    ],
)
async def test_what_can_not_be_is_refused_with_its_code(
    ask: Ask, station: Station, op: str, args: dict[str, Any], code: Code, words: str
) -> None:
    found, said = await refused(ask(op, **args))
    assert (found, words in said) == (code, True), said
    assert station.driver.writes == 0


async def test_what_exists_or_has_ended_is_told_apart(ask: Ask, station: Station) -> None:
    await ask("instances.start", name="Wait", instance="w")
    assert (await refused(ask("instances.start", name="Wait", instance="w")))[0] is Code.EXISTS
    await ask("instances.raise", instance="w", event="go", data={"a": 1})
    await station.ended("w")
    assert (await refused(ask("instances.raise", instance="w", event="go")))[0] is Code.GONE
    assert (await ask("instances.show", instance="w"))["output"] == {"a": 1}


async def test_without_an_engine_nothing_is_promised(ask: Ask, station: Station) -> None:
    await station.engine.stop(0.0)
    assert (await refused(ask("instances.start", name="Wait")))[0] is Code.UNAVAILABLE


# --- the record of an action ------------------------------------------------------------------------------------------


async def test_an_action_is_on_disk_with_its_actor_before_it_is_answered(ask: Ask, station: Station) -> None:
    station.store.hold()
    asked = asyncio.ensure_future(ask("instances.start", name="Wait", instance="w", actor="ada"))
    await station.until(lambda: station.store.commits_begun, "the record is on its way to the disk")
    assert (audit(station), asked.done()) == ([], False)
    station.store.let_go()
    await asked
    (record,) = audit(station)
    assert (record["op"], record["actor"], record["instance"]) == ("instances.start", "ada (scada)", "w")


async def test_a_refused_action_is_recorded_with_the_reason(ask: Ask, station: Station) -> None:
    await refused(ask("instances.raise", instance="nobody", event="Go"))
    assert audit(station)[-1]["op"] == "instances.raise"
    await station.until(lambda: audit(station, "audit_refused"), "the refusal is on disk")
    assert "nobody" in audit(station, "audit_refused")[-1]["refused"]


async def test_queries_leave_no_record(ask: Ask, station: Station) -> None:
    for op in ("status", "timers", "instances.list", "breakers.list", "audit.verify", "report"):
        await ask(op)
    assert audit(station) == []


# --- breakers ---------------------------------------------------------------------------------------------------------


async def test_a_breaker_is_switched_and_what_was_read_is_told(ask: Ask, station: Station) -> None:
    told = await ask("breakers.open", feeder="A1", reason="works at the line")
    assert (told["feeder"], told["outcome"], told["position"]) == ("A1", "done", "open")
    assert station.driver.breakers["A1"].orders == [Position.OPEN]
    shown = await ask("breakers.show", feeder="A1")
    assert (shown["position"], shown["outcome"], shown["critical"]) == ("open", "done", False)


async def test_who_does_not_hear_the_outcome_in_time_is_told_so(ask: Ask, station: Station) -> None:
    station.gate.hold("a test")
    told = await ask("breakers.open", feeder="A1", reason="x", wait_s=0.1)
    assert told["outcome"] == "unknown"
    assert "no outcome within 0.1 s" in told["detail"]


async def test_a_blocked_breaker_is_not_operated(ask: Ask, station: Station) -> None:
    assert (await ask("breakers.block", feeder="A1", reason="people at the line"))["blocked"] is True
    assert (await ask("breakers.open", feeder="A1", reason="x"))["outcome"] == "refused"
    assert station.driver.writes == 0
    assert (await ask("breakers.unblock", feeder="A1", reason="they left"))["blocked"] is False
    assert (await ask("breakers.open", feeder="A1", reason="x"))["outcome"] == "done"


async def test_breakers_come_in_pages_and_by_what_they_are(ask: Ask, station: Station) -> None:
    first = await ask("breakers.list", limit=4)
    second = await ask("breakers.list", limit=4, after=first["next"])
    assert [one["feeder"] for one in first["breakers"] + second["breakers"]] == list(station.field.feeders)
    assert second["next"] is None
    await ask("breakers.open", feeder="A2", reason="x")
    opened = await ask("breakers.list", position="open", tier="Tier1", prefix="A")
    assert [one["feeder"] for one in opened["breakers"]] == ["A2"]


# --- the station ------------------------------------------------------------------------------------------------------


async def test_after_monitor_is_answered_no_write_leaves(ask: Ask, station: Station) -> None:
    assert (await ask("mode", mode="monitor", reason="x"))["mode"] == "monitor"
    assert station.field.mode is Mode.MONITOR
    assert (await ask("status"))["mode"] == "monitor"


async def test_a_release_is_refused_while_the_gateway_can_not(ask: Ask, health: Health) -> None:
    assert await ask("release", reason="seen to it") == {"detail": "released by scada"}
    health.why_not_released = lambda: "the field has not been read yet"
    assert await refused(ask("release", reason="x")) == (Code.REFUSED, "the field has not been read yet")


async def test_an_override_reaches_the_instance_and_names_who_decided(ask: Ask, station: Station) -> None:
    await ask("instances.start", name="Wait", instance="w")
    told = await ask("override", instance="w", decision="hold", reason="visitors", expires_s=60, actor="ada")
    assert told["accepted"] is True
    record = audit(station)[-1]
    assert (record["decision"], record["actor"], "expires" in record) == ("hold", "ada (scada)", True)


async def test_timers_come_in_pages_with_the_next_one_first(ask: Ask) -> None:
    await ask("instances.start", name="Sleep", instance="s")
    told = await ask("timers")
    assert [timer["remaining_s"] for timer in told["timers"]] == [3600.0, 7200.0]
    first = await ask("timers", limit=1)
    assert (first["timers"], first["total"]) == (told["timers"][:1], 2)
    assert (await ask("status"))["next_timer"] == told["timers"][0]


async def test_the_status_tells_what_is_wrong_with_the_journal_and_how_it_stands(ask: Ask, desk: Desk) -> None:
    care: Any = SimpleNamespace(warnings=lambda: ["the disk is full"], told=lambda: {"file_bytes": 4096})
    desk.health.care = care
    told = await ask("status")
    assert told["warnings"] == ["the disk is full"]
    assert (told["journal"]["file_bytes"], told["journal"]["seq"]) == (4096, 7)


async def test_the_status_tells_the_journal_and_whether_outputs_are_held(ask: Ask, station: Station) -> None:
    status = await ask("status")
    assert status["journal"] == {"seq": 7, "batch": 3, "hash": "ab", "records": 7, "path": "/s/journal.db"}
    assert status["held"] == {"held": False, "why": ""}
    station.gate.hold("a test")
    assert (await ask("status"))["held"] == {"held": True, "why": "a test"}


async def test_evidence_is_what_the_gateway_gives(ask: Ask) -> None:
    assert await ask("audit.verify") == {"ok": True}
    assert await ask("report") == {"html": "<html>0</html>"}
