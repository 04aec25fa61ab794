"""What operators are told: committed state, once for each change, in slices that never hold up the gateway."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.operations import Desk, Health
from gateway.operator import feed as module
from gateway.operator.feed import Feed
from gateway.operator.listings import CHANGED_AT_MOST, SHOWN_AT_MOST
from gateway.operator.surface_model import build_surface
from gateway.shedding.entities import breaker_id, substation_id, transformer_id
from gateway.watch import CommittedBreakers
from protocols.base import Position, Quality
from protocols.opcua.surface import Caller, Doing, Grade, Sample, SessionInfo
from tests.core_station import Station, make_feeder, make_site
from tests.fake_server import FakeServer


def Wait(context):
    """Says what it does, and waits for a word."""
    context.set_custom_status({"sentence": "waits for Go"})
    return (yield context.wait_for_external_event("Go"))


def Sleep(context):
    """Sleeps for as many hours as it is told."""
    yield context.create_timer(timedelta(hours=context.get_input()))


async def nothing(*_: object) -> Any:
    """Not asked for here."""


def make_desk(station: Station) -> Desk:
    zone: Any = SimpleNamespace(state=SimpleNamespace(zone=SimpleNamespace(value="cleared")))
    breakers = CommittedBreakers(station.engine)
    picture = SimpleNamespace(counts={"total": 6, "open": 1, "closed": 5}, shed_kw=1234.56)
    watch: Any = SimpleNamespace(committed=breakers.get, load=zone, picture=picture)
    clock: Any = SimpleNamespace(rate=1.0, wall_step_s=float)
    health = Health(5, "/s/j", lambda: (7, 3, "ab"), lambda: True, nothing, nothing, str, str, list)
    log: Any = None
    return Desk(station.engine, station.field, watch, clock, health, log)


@pytest.fixture
async def station() -> AsyncIterator[Station]:
    one = Station(make_site())
    one.programs += [Wait, Sleep]
    one.build()
    await one.start()
    yield one
    await one.engine.stop(0.1)


@pytest.fixture
def server(station: Station) -> FakeServer:
    return FakeServer(build_surface(station.site))


@pytest.fixture
def counts() -> Counter[Doing]:
    return Counter()


@pytest.fixture
async def feed(station: Station, server: FakeServer, counts: Counter[Doing], monkeypatch: pytest.MonkeyPatch) -> Feed:
    monkeypatch.setattr(module, "FLUSH_S", 0.005)
    monkeypatch.setattr(module, "ROUND_S", 0.01)
    return Feed(make_desk(station), server, lambda: 1_900_000_000_000_000, counts)


@pytest.fixture
async def running(feed: Feed) -> AsyncIterator[None]:
    task = asyncio.create_task(feed.run())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    feed.close()


async def observe(station: Station, feeder: str, position: Position, quality: Quality = Quality.GOOD) -> None:
    told = {"position": position.value, "quality": quality.value, "local": False, "op_count": 3}
    await station.client.signal_entity(breaker_id(feeder), "observe", told)


async def test_everything_is_told_before_anybody_is_served(feed: Feed, server: FakeServer) -> None:
    await feed.fill()
    feed.close()
    lists = {"Orchestrations", "Timers"}
    for key, told in server.values.items():
        wanted = server.variables[server.types[key]]
        unknown = {"BreakersIntermediate", "BreakersBad", "BreakersUnknown", "BreakersFailed", "BreakersUnresolved"}
        wanted = wanted - unknown - {"BreakersBlocked", "BreakersLocal"}  # the picture of this test has three counts
        assert set(told) == (set() if key in lists else wanted), key
    assert server.told("Feeder/H1")["Critical"] is True
    assert server.values["Feeder/A1"]["Pos"] == Sample(None, Grade.BAD)


@pytest.mark.usefixtures("running")
async def test_a_position_is_told_once_it_is_on_disk_and_not_before(station: Station, server: FakeServer) -> None:
    await station.until(lambda: server.values["Feeder/A1"], "the first values")
    station.store.hold()
    observing = asyncio.create_task(observe(station, "A1", Position.CLOSED))
    await asyncio.sleep(0.05)
    assert server.told("Feeder/A1")["Pos"] is None
    station.store.let_go()
    await observing
    await station.until(lambda: server.told("Feeder/A1")["Pos"] == 2, "the position")
    sample = server.values["Feeder/A1"]["Pos"]
    assert sample == Sample(2, Grade.GOOD, station.clock.now_us())


async def test_what_was_called_is_told_at_once_as_far_as_it_is_on_disk(
    station: Station, server: FakeServer, feed: Feed
) -> None:
    await feed.fill()
    station.store.hold()
    observing = asyncio.create_task(observe(station, "A1", Position.OPEN))
    moving = asyncio.create_task(observe(station, "A2", Position.OPEN))
    setting = {"mode": "monitor", "actor": "a", "reason": "r"}
    changing = asyncio.create_task(station.client.signal_entity(substation_id(station.site), "set_mode", setting))
    await asyncio.sleep(0.05)
    feed.tell_now("Feeder/A1")
    assert server.told("Feeder/A1")["Pos"] is None
    station.store.let_go()
    await asyncio.gather(observing, moving, changing)
    feed.tell_now("Feeder/A1")
    assert server.told("Feeder/A1")["Pos"] == 1
    assert server.told("Feeder/A2")["Pos"] is None, "nobody called it, and the feed stands still"
    feed.tell_now("LoadShedding")
    assert server.told("Gateway")["Mode"] == "monitor"
    feed.tell_now("Feeder/unheard-of")
    feed.close()


async def test_what_could_not_be_told_at_once_is_told_in_its_turn(
    station: Station, server: FakeServer, feed: Feed
) -> None:
    await feed.fill()
    await observe(station, "A1", Position.OPEN)
    await station.engine.on_disk()
    feed._breakers.slice(0.0)
    server.values["Feeder/A1"].clear()
    await observe(station, "A1", Position.CLOSED)
    await station.engine.on_disk()
    feed._breakers._dirty.clear()
    server.broken = RuntimeError("a defect")
    with pytest.raises(RuntimeError, match="a defect"):
        feed.tell_now("Feeder/A1")
    feed._breakers.slice(0.0)
    feed.close()
    assert server.told("Feeder/A1")["Pos"] == 2


@pytest.mark.usefixtures("running")
async def test_what_does_not_change_is_not_told_again(
    station: Station, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("A1", "A2"):
        await observe(station, name, Position.CLOSED)
    monkeypatch.setattr(module, "SWEEP_S", 1e9)  # a load or an age may not come in between
    await station.until(lambda: server.told("Feeder/A2").get("Pos") == 2, "the position")
    for _ in range(100):
        server.forget_calls()
        await asyncio.sleep(0.05)
        if not server.changes:
            break
    assert server.changes == [], "what was told once is told again and again"
    await observe(station, "A1", Position.OPEN)
    await station.until(lambda: server.changes, "a change")
    await asyncio.sleep(0.05)
    assert server.changes == [("Feeder/A1", "Pos", 1)]


@pytest.mark.usefixtures("running")
async def test_a_reading_that_grows_old_is_not_shown_as_good(
    station: Station, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SWEEP_S", 0.02)
    await observe(station, "A1", Position.CLOSED)
    await station.until(lambda: server.told("Feeder/A1").get("Pos") == 2, "the position")
    station.driver.breakers["A1"].quality = Quality.UNCERTAIN  # nobody has told the entity yet
    await station.until(lambda: server.values["Feeder/A1"]["Pos"].grade is Grade.UNCERTAIN, "the quality")
    assert server.told("Feeder/A1")["Pos"] == 2


@pytest.mark.usefixtures("running")
async def test_a_load_is_told_when_it_has_moved(
    station: Station, server: FakeServer, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SWEEP_S", 0.02)
    await station.until(lambda: server.values["Feeder/B1"], "the first values")
    assert server.values["Feeder/B1"]["MW"] == Sample(None, Grade.BAD)
    for kw, told in ((12.0, 0.012), (12.15, 0.012), (12.3, 0.0123)):
        station.driver.breakers["B1"].power_kw = kw
        for _ in range(2):  # the first may have passed it already, the second begins when that has ended
            begun = feed._breakers._swept_at
            await station.until(lambda begun=begun: feed._breakers._swept_at > begun, "a sweep")
        assert server.told("Feeder/B1")["MW"] == told


async def test_however_often_a_breaker_changes_it_is_told_as_it_is_now(
    station: Station, server: FakeServer, feed: Feed
) -> None:
    await feed.fill()
    server.forget_calls()
    for position in (Position.CLOSED, Position.INTERMEDIATE, Position.OPEN):
        await observe(station, "A1", position)
        await station.engine.on_disk()
    feed._breakers.slice(1.0)
    feed.close()
    assert [value for key, name, value in server.changes if (key, name) == ("Feeder/A1", "Pos")] == [1]


async def test_a_slice_without_time_left_tells_one_portion_of_each_kind_and_all_are_told_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    big = Station(make_site([make_feeder(f"F{n:05}", "Tier1") for n in range(3_000)]))
    server = FakeServer(build_surface(big.site))
    feed = Feed(make_desk(big), server, lambda: 0, Counter())
    feed._begin()
    breakers, told, slices, most = feed._breakers, 0, 0, 0
    tell = breakers._tell

    def counted(portion: Any, differences: Any) -> None:
        nonlocal told
        told += len(portion)
        tell(portion, differences)

    monkeypatch.setattr(breakers, "_tell", counted)
    while breakers.behind:
        before = told
        breakers.slice(0.0)
        most, slices = max(most, told - before), slices + 1
        assert slices < 3_000
    feed.close()
    assert slices > 1
    assert most <= 3 * module.PORTION  # commits, files, sweep
    assert all("Pos" in server.values[f"Feeder/F{n:05}"] for n in range(3_000))


async def test_commits_files_and_sweep_take_turns_so_that_none_starves(
    station: Station, server: FakeServer, feed: Feed
) -> None:
    await feed.fill()
    server.forget_calls()
    await observe(station, "A1", Position.OPEN)
    await station.engine.on_disk()
    feed.site_changed()
    station.driver.breakers["N1"].power_kw = 5.0
    feed._breakers._swept_at = -1e9
    feed._breakers.slice(0.0)  # one turn
    feed.close()
    assert ("Feeder/A1", "Pos", 1) in server.changes
    assert ("Feeder/N1", "MW", 0.005) in server.changes
    assert ("Feeder/B1", "Tier", "Tier2") in server.changes


async def test_the_sweep_leaves_no_breaker_out(
    feed: Feed, server: FakeServer, station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PORTION", 2)
    await feed.fill()
    feed._breakers._swept_at = -1e9
    for breaker in station.driver.breakers.values():
        breaker.power_kw = 7.0
    for _ in range(10):
        feed._breakers.slice(0.0)
    feed.close()
    assert {server.told(f"Feeder/{name}")["MW"] for name in station.driver.breakers} == {0.007}


@pytest.mark.usefixtures("running")
async def test_a_breaker_that_left_the_site_is_told_of_no_more(station: Station, server: FakeServer) -> None:
    station.driver.breakers["gone"] = station.driver.breakers["A1"]
    station.field._rules["gone"] = station.field._rules["A1"]
    await observe(station, "gone", Position.OPEN)
    await observe(station, "A1", Position.OPEN)
    await station.until(lambda: server.told("Feeder/A1").get("Pos") == 1, "the other one")
    assert "Feeder/gone" not in server.values


@pytest.mark.usefixtures("running")
async def test_files_that_were_read_again_are_told(station: Station, server: FakeServer, feed: Feed) -> None:
    await station.until(lambda: server.told("Feeder/A1").get("Tier") == "Tier1", "the first values")
    feeders = tuple(replace(one, tier="Tier2", critical=True) for one in station.site.feeders)
    site = replace(station.site, feeders=feeders, sha256="new")
    station.field.use(site)
    feed.site_changed()
    await station.until(lambda: server.told("Feeder/A1")["Tier"] == "Tier2", "the tier")
    assert server.told("Feeder/A1")["Critical"] is True
    assert server.told("Feeder/A1")["Sheddable"] is False
    assert server.told("Gateway")["ConfigHash"] == "new"


@pytest.mark.usefixtures("running")
async def test_mode_stress_and_hold_are_told_as_they_are_committed(station: Station, server: FakeServer) -> None:
    await station.until(lambda: server.told("Gateway").get("Mode") == "armed", "the mode of the site")
    assert server.told("Gateway")["Health"] == "ok"
    for entity, operation, message in (
        (substation_id(station.site), "set_mode", {"mode": "monitor", "actor": "a", "reason": "r"}),
        (substation_id(station.site), "hold", {"reason": "one breaker moved"}),
        (transformer_id(station.site), "observe", {"armed": True, "load_pct": 99.0}),
    ):
        await station.client.signal_entity(entity, operation, message)
    await station.until(lambda: server.told("GridStress")["Armed"], "the stress")
    await station.until(lambda: server.told("Gateway")["Mode"] == "monitor", "the mode")
    await station.until(lambda: server.told("Gateway")["Held"], "the hold")
    told = server.told("Gateway")
    assert (told["Health"], told["HeldWhy"]) == ("held", "one breaker moved")


@pytest.mark.usefixtures("running")
async def test_the_load_is_told_with_its_quality(station: Station, server: FakeServer) -> None:
    await station.until(lambda: server.told("GridStress").get("LoadKw") == 900.0, "the load")
    assert server.told("GridStress")["Percent"] == 90.0
    assert server.values["GridStress"]["HotSpot"] == Sample(None, Grade.BAD)
    station.driver.load = None
    await station.until(lambda: server.told("GridStress")["LoadKw"] is None, "the loss of the load")
    assert server.values["GridStress"]["LoadKw"].grade is Grade.BAD
    assert server.told("GridStress")["Quality"] == "bad"


@pytest.mark.usefixtures("running")
async def test_a_procedure_is_told_while_it_runs_and_what_became_of_it(station: Station, server: FakeServer) -> None:
    started = {"tiers": ["Tier1"], "target_kw": 40.0, "reason": "dispatcher", "actor": "m.meier"}
    await station.client.signal_entity(substation_id(station.site), "start", started)
    await station.until(lambda: server.told("LoadShedding").get("Running"), "the procedure")
    await station.until(lambda: server.told("LoadShedding")["FeedersShed"] == 2, "feeders that are shed")
    told = server.told("LoadShedding")
    assert told["Instance"] == "shed-Northgate-000001"
    assert (told["Status"], told["Tier"], told["TargetMW"]) == ("Running", "Tier1", 0.04)
    assert (told["ShedKw"], told["ShedMW"]) == (1234.6, 1.2346)
    assert told["Tiers"] == ("Tier1", "Tier2")
    key = "Orchestration/shed-Northgate-000001"
    await station.until(lambda: key in server.values, "the orchestration's own object")
    await station.until(lambda: server.told(key).get("CustomStatus"), "what it says of itself")
    cancel = {"decision": "cancel", "actor": "m.meier", "reason": "rain"}
    await station.client.raise_event("shed-Northgate-000001", "OperatorOverride", cancel)
    await station.until(lambda: not server.told("LoadShedding")["Running"], "its end")
    told = server.told("LoadShedding")
    assert told["LastEnded"] == "shed-Northgate-000001"
    assert '"decision":"cancel"' in told["Overrides"][0]
    assert server.values["LoadShedding"]["Until"].grade is Grade.BAD
    await station.until(lambda: server.told(key)["Status"] == "Completed", "its status")


@pytest.mark.usefixtures("running")
async def test_orchestrations_and_timers_come_and_go(station: Station, server: FakeServer) -> None:
    await station.client.start_new("Wait", instance_id="w")
    await station.client.start_new("Sleep", instance_id="s", client_input=2)
    await station.until(lambda: "Timer/s/1" in server.values and "Orchestration/w" in server.values, "both")
    assert server.told("Orchestration/w")["Status"] == "Running"
    assert server.told("Orchestration/w")["CustomStatus"] == "waits for Go"
    timer = server.told("Timer/s/1")
    assert (timer["Instance"], timer["Due"], timer["Remaining"]) == (
        "s",
        station.clock.now_us() + 7_200_000_000,
        7_200.0,
    )
    assert server.told("Timers") == {"Pending": 1, "Shown": 1}
    station.clock.advance(7_100)
    await station.until(lambda: server.told("Timer/s/1")["Remaining"] == 100.0, "the time that is left")
    await station.client.raise_event("w", "Go", None)
    await station.client.terminate("s", "not needed")
    await station.until(lambda: "Timer/s/1" not in server.values, "the end of the timer")
    await station.until(lambda: server.told("Orchestration/w")["Status"] == "Completed", "the end")
    await station.until(lambda: server.told("Orchestrations") == {"Live": 0, "Shown": 2}, "the count")


async def test_of_very_many_the_newest_are_shown_and_each_round_is_bounded(
    station: Station, server: FakeServer, feed: Feed
) -> None:
    for n in range(SHOWN_AT_MOST + 60):
        station.clock.advance(1)
        await station.client.start_new("Sleep", instance_id=f"s{n:03}", client_input=1)
    await station.engine.on_disk()
    await station.until(lambda: len(station.engine.timers) == SHOWN_AT_MOST + 60, "all timers")
    await feed.fill()
    sizes = []
    for _ in range(20):
        feed._orchestrations.round(server)
        feed._timers.round(server, feed._timers.next())
        sizes.append(len(server.values))
    feed.close()
    steps = [after - before for before, after in pairwise(sizes)]
    assert max(steps) <= 2 * CHANGED_AT_MOST
    shown = sorted(key for key in server.values if key.startswith("Orchestration/"))
    assert shown == [f"Orchestration/s{n:03}" for n in range(60, SHOWN_AT_MOST + 60)]
    timers = sorted(key for key in server.values if key.startswith("Timer/"))
    assert timers == [f"Timer/s{n:03}/1" for n in range(SHOWN_AT_MOST)]


async def test_security_tells_who_is_there_and_who_was_turned_away(
    server: FakeServer, feed: Feed, counts: Counter[Doing]
) -> None:
    anna = Caller("s1", "anna", frozenset({"OPERATOR"}), "ab", "10.0.0.7:4711")
    server.there = [SessionInfo(anna, 1_700_000_000_000_000, 0, 1, 5)]
    counts.update({Doing.LOGIN_REFUSED: 2, Doing.CERTIFICATE_REFUSED: 1, Doing.CALL_REFUSED: 3, Doing.READ_REFUSED: 4})
    await feed.fill()
    feed.close()
    told = server.told("Security")
    assert (told["Sessions"], told["FailedLogins"], told["RefusedCertificates"], told["RefusedCalls"]) == (1, 2, 1, 7)
    assert told["Users"] == ("anna (OPERATOR) from 10.0.0.7:4711 since 2023-11-14T22:13:20.000Z",)
    assert told["CertificateExpires"] == 1_900_000_000_000_000


async def test_after_a_failure_everything_is_told_again(station: Station, server: FakeServer, feed: Feed) -> None:
    await station.client.start_new("Wait", instance_id="w")
    task = asyncio.create_task(feed.run())
    await station.until(lambda: "Orchestration/w" in server.values, "the first values")
    server.broken = RuntimeError("a defect")
    await observe(station, "A1", Position.CLOSED)
    with pytest.raises(ExceptionGroup):
        await task
    for told in server.values.values():
        told.clear()
    again = asyncio.create_task(feed.run())
    await station.until(lambda: server.values.get("Feeder/A1", {}).get("Pos") is not None, "the position")
    assert server.told("Feeder/A1")["Pos"] == 2
    await station.until(lambda: server.told("Feeder/N1").get("Tier") == "", "the files")
    await station.until(lambda: server.values.get("Orchestration/w", {}).get("Name"), "the orchestration")
    again.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await again
    feed.close()
    assert station.engine.on_commit == []
