"""What operators do at a real daemon, and what becomes of it: answers, events, alarms, histories, and the journal."""

from __future__ import annotations

import asyncio
import math
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from asyncua import ua
from operators_client import Person, equip, listening, person, text
from station import Station, small_station, until

from protocols.opcua.pki import thumbprint

pytestmark = pytest.mark.asyncio(loop_scope="module")

PORT = 15351
URL = f"opc.tcp://127.0.0.1:{PORT}"
SHEDDING = "LoadSheddingType"
NAN = ua.Variant(math.nan, ua.VariantType.Double)
KEY = "breaker_failed/F001-002"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Station]:
    folder: Path = tmp_path_factory.mktemp("calls")
    operators = ("--operators", f"127.0.0.1:{PORT}")
    async with small_station(folder, 15350, "127.0.44.1", operators) as made:
        equip(folder, ola="OPERATOR", eng="ENGINEER", vic="VIEWER")
        made.start_daemon()
        await made.wait_serving()
        await made.wait_links_up()
        await listening(PORT)
        yield made
        assert made.stop_daemon() == 0
        assert "operator_call_failed" not in made.log_text()


@pytest_asyncio.fixture(loop_scope="module")
async def ola(site: Station) -> AsyncIterator[Person]:
    """An operator with an open session."""
    async with person(site.folder, URL, "ola") as session:
        yield session


class Screen:
    """Keeps the events that it is shown."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def event_notification(self, event: Any) -> None:
        self.seen.append(event)

    def datachange_notification(self, node: object, value: object, data: object) -> None:
        raise AssertionError("nobody asked for it")


async def watching(who: Person, *types: str) -> Screen:
    """A screen that shows events of these types."""
    screen = Screen()
    subscription = await who.client.create_subscription(100, screen)
    nodes = [who.node(f"Type/{name}") for name in types]
    await subscription.subscribe_events(who.client.nodes.server, nodes, queuesize=1_000)
    return screen


async def shown(screen: Screen, words: str) -> Any:
    """The first event whose message holds these words."""
    for _ in range(200):
        for event in screen.seen:
            if words in event.Message.Text:
                return event
        await asyncio.sleep(0.05)
    raise AssertionError(f"no event says {words!r}: {[event.Message.Text for event in screen.seen]}")


def records(site: Station, op: str) -> list[dict[str, Any]]:
    """Audit records of one operation, as they are on disk."""
    (journal,) = site.folder.rglob("journal.db")
    with sqlite3.connect(f"file:{journal}?mode=ro", uri=True) as database:
        rows = database.execute("SELECT payload FROM records WHERE kind = 'audit' ORDER BY seq").fetchall()
    return [told for (payload,) in rows if (told := msgspec.json.decode(payload))["op"] == op]


async def start(who: Person) -> ua.CallMethodResult:
    tiers = ua.Variant(["Tier1"], ua.VariantType.String, is_array=True)
    return await who.call("LoadShedding", SHEDDING, "StartShedding", NAN, tiers, text("dispatch 17"))


async def override(who: Person, decision: str, reason: str) -> ua.CallMethodResult:
    inputs = (text(""), text(decision), text(""), text(reason), NAN)
    return await who.call("LoadShedding", SHEDDING, "Override", *inputs)


async def test_an_override_is_answered_with_the_step_that_took_it_and_told_to_those_who_watch(
    site: Station, ola: Person
) -> None:
    screen = await watching(
        ola, "ShedStarted", "ShedFinished", "TierShed", "PhaseChanged", "OverrideRaised", "OverrideConsumed"
    )
    started = await start(ola)
    assert started.StatusCode.is_good(), started
    sentence, instance = (one.Value for one in started.OutputArguments)
    assert sentence.startswith(f"{instance} is to shed all of Tier1: ")
    event = await shown(screen, "has started: dispatch 17")
    assert (event.InstanceId, event.SourceName, event.Severity) == (instance, "LoadShedding", 600)
    await shown(screen, "sheds tier Tier1")
    await until(lambda: phase(ola, "ordered"), "it waits")

    held = await override(ola, "hold", "crew on site")
    assert held.StatusCode.is_good(), held
    message, consumed, step, outcome = (one.Value for one in held.OutputArguments)
    assert (consumed, step, outcome) == (True, "ordered", "holds; timers are frozen")
    assert message == f"{instance} took it in step ordered: holds; timers are frozen"
    raised, taken = await shown(screen, "ola overrides"), await shown(screen, "hold by ola: holds")
    assert (raised.Decision, raised.Role, raised.Reason) == ("hold", "OPERATOR", "crew on site")
    assert (taken.Step, taken.Outcome) == ("ordered", "holds; timers are frozen")

    refused = await start(ola)
    assert refused.StatusCode.name == "BadInvalidState"
    assert (await override(ola, "cancel-and-restore", "over")).StatusCode.is_good()
    ended = await shown(screen, f"{instance} has ended: restored")
    assert ended.Opened == ended.Closed > 0


async def phase(who: Person, wanted: str) -> bool:
    return bool(await who.value("LoadShedding/Phase") == wanted)


async def test_each_call_is_in_the_journal_with_all_that_an_auditor_asks_for(site: Station, ola: Person) -> None:
    told = await ola.call("Feeder/F002-001", "BreakerType", "Open", text("relay test"))
    assert told.StatusCode.is_good(), told
    await ola.call("Feeder/F002-001", "BreakerType", "Close", text("relay test is over"))
    record = records(site, "opcua.BreakerType.Open")[-1]
    peer = record["peer"]
    assert (record["actor"], record["object"], record["reason"]) == ("ola", "Feeder/F002-001", "relay test")
    assert (record["status"], record["outputs"]) == ("ok", ["done", 1])
    assert (peer["roles"], peer["role"], peer["via"]) == (["OPERATOR"], "OPERATOR", "opcua")
    assert peer["certificate"] == thumbprint((site.folder / "hmi.der").read_bytes())
    assert peer["address"].startswith("127.0.0.1:")
    assert peer["session"]
    (asked,) = records(site, "breakers.open")
    assert (asked["actor"], asked["reason"]) == ("ola", "relay test")


async def test_what_roles_don_t_grant_is_refused_and_kept(site: Station) -> None:
    async with person(site.folder, URL, "eng") as eng, person(site.folder, URL, "vic") as vic:
        opened = await eng.call("Feeder/F002-001", "BreakerType", "Open", text("why not"))
        assert opened.StatusCode.name == "BadUserAccessDenied"
        seen = await vic.call("Gateway", "GatewayType", "Acknowledge", text(KEY), text(""))
        assert seen.StatusCode.name == "BadUserAccessDenied"
        mode = await eng.call("LoadShedding", SHEDDING, "SetMode", text("armed"), text("as it is"))
        assert mode.StatusCode.is_good(), mode
    await until(lambda: kept(site, "opcua.call_refused", 2), "both refusals are kept")
    assert [one["actor"] for one in records(site, "opcua.call_refused")] == ["eng", "vic"]
    with pytest.raises(ua.UaStatusCodeError):
        async with person(site.folder, URL, "ola", "wrong"):
            pass
    await until(lambda: kept(site, "opcua.login_refused", 1), "the refused log-in is kept")


async def kept(site: Station, op: str, number: int) -> bool:
    return len(records(site, op)) >= number


async def test_an_alarm_is_acknowledged_and_outlives_a_crash(site: Station) -> None:
    async with person(site.folder, URL, "ola") as ola, site.simulator() as plant:
        screen = await watching(ola, "BreakerFailedAlarm")
        await plant.fault("stuck", "F001-002")
        told = await ola.call("Feeder/F001-002", "BreakerType", "Open", text("relay test"))
        assert told.StatusCode.name == "BadInvalidState"
        alarm = await shown(screen, "breaker of F001-002: did not do as told")
        assert (alarm.SourceName, alarm.Severity, alarm.Feeder) == ("F001-002", 700, "F001-002")
        seen = await ola.call("Gateway", "GatewayType", "Acknowledge", text(KEY), text("crew is on its way"))
        assert seen.StatusCode.is_good(), seen
        await plant.clear("F001-002")
        site.kill_daemon()
    site.start_daemon()
    await site.wait_serving()
    await site.wait_links_up()
    await listening(PORT)
    async with person(site.folder, URL, "ola") as ola:
        await asyncio.sleep(2.5)  # some looks at all breakers
        again = await ola.call("Gateway", "GatewayType", "Acknowledge", text(KEY), text(""))
        assert again.StatusCode.name == "BadInvalidState"
        assert again.OutputArguments[0].Value == f"{KEY} was acknowledged by ola already"
        assert (await ola.call("Feeder/F001-002", "BreakerType", "Open", text("again"))).StatusCode.is_good()
        assert (await ola.call("Feeder/F001-002", "BreakerType", "Close", text("again"))).StatusCode.is_good()


async def test_what_was_can_be_read(site: Station, ola: Person) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    long_ago, soon = now - timedelta(days=400), now + timedelta(days=400)
    positions = await ola.node("Feeder/F001-002/Pos").read_raw_history(long_ago, soon)
    assert [one.Value.Value for one in positions][-3:] == [2, 1, 2]
    times = [one.SourceTimestamp for one in positions]
    assert times == sorted(times)
    newest = await ola.node("Feeder/F001-002/Pos").read_raw_history(soon, long_ago, numvalues=2)
    assert [one.Value.Value for one in newest] == [2, 1]
    loads = await ola.node("GridStress/LoadKw").read_raw_history(long_ago, soon, numvalues=5)
    assert len(loads) == 5
    assert all(one.Value.Value > 0 for one in loads if one.StatusCode.is_good())
    types = [ola.node("Type/OverrideConsumed"), ola.node("Type/ShedFinished")]
    events = await ola.client.nodes.server.read_event_history(long_ago, soon, evtypes=types)
    assert [event.Message.Text.split(":")[0] for event in events][:2] == ["hold by ola", "cancel-and-restore by ola"]


async def test_whatever_is_sent_the_answer_is_a_status(site: Station, ola: Person) -> None:
    for key, type_name, method, inputs in (
        ("LoadShedding", SHEDDING, "RaiseEvent", (text("x" * 5_000), text("Go"), text("{"))),
        ("LoadShedding", SHEDDING, "RaiseEvent", (text("x"), text("Go"), text('"' + "x" * 70_000 + '"'))),
        ("LoadShedding", SHEDDING, "Terminate", (text("@substation@x"), text("why"))),
        ("Feeder/F001-001", "BreakerType", "Open", (text(""),)),
        ("Feeder/F001-001", "BreakerType", "Open", (text("\x00\x01"),)),
        ("Feeder/F001-001", "BreakerType", "Open", (ua.Variant(7),)),
        ("Feeder/F001-001", "BreakerType", "Open", ()),
    ):
        told = await ola.call(key, type_name, method, *inputs)
        assert told.StatusCode.is_bad(), (method, inputs)
        assert told.StatusCode.name != "BadInternalError"
    assert await ola.value("Feeder/F001-001/Pos") == 2
