"""Operators at a real daemon, by OPC UA with a certificate and a user: what they see is what is, also across a crash."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from asyncua import ua
from operators_client import Person, equip, gridlatch, listening, person, text
from station import UNTIL_S, Station, small_station, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

PORT = 15341
URL = f"opc.tcp://127.0.0.1:{PORT}"
OPERATORS = ("--operators", f"127.0.0.1:{PORT}")
OPEN, CLOSED = 1, 2
BREAKERS = [f"F{rtu:03}-{breaker:03}" for rtu in (1, 2, 3) for breaker in range(1, 9)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Station]:
    folder: Path = tmp_path_factory.mktemp("site")
    async with small_station(folder, 15340, "127.0.41.1", OPERATORS) as made:
        equip(folder, ola="OPERATOR", eng="ENGINEER", sec="SECADM")
        made.start_daemon()
        await made.wait_serving()
        await made.wait_links_up()
        await listening(PORT)
        yield made
        assert made.stop_daemon() == 0


@pytest_asyncio.fixture(loop_scope="module")
async def ola(site: Station) -> AsyncIterator[Person]:
    """An operator with an open session."""
    async with person(site.folder, URL, "ola") as session:
        yield session


async def positions(who: Person) -> list[int]:
    return await who.values([f"Feeder/{name}/Pos" for name in BREAKERS])


async def test_the_whole_site_can_be_browsed(site: Station, ola: Person) -> None:
    assert await ola.children("") == [
        "Folder/Feeders",
        "Gateway",
        "GridStress",
        "LoadShedding",
        "Security",
        "Orchestrations",
        "Timers",
    ]
    devices = await ola.children("Folder/Feeders")
    assert devices == ["Folder/Device/RTU001", "Folder/Device/RTU002", "Folder/Device/RTU003"]
    found = [key for device in devices for key in await ola.children(device)]
    assert found == [f"Feeder/{name}" for name in BREAKERS]


async def test_positions_and_loads_are_those_of_the_plant(site: Station, ola: Person) -> None:
    assert await positions(ola) == [CLOSED] * len(BREAKERS)
    first = await ola.read("Feeder/F001-001/Pos")
    assert first.StatusCode.is_good()
    assert first.SourceTimestamp is not None
    assert await ola.value("LoadShedding/BreakersClosed") == len(BREAKERS)
    transformer = (await site.ask("status"))["transformer"]
    assert isinstance(transformer, dict)
    assert (await ola.value("GridStress/LoadKw")) == pytest.approx(transformer["load_kw"], rel=0.2)
    await until(lambda: larger(ola, "Feeder/F001-001/MW", 0), "the load of a feeder")


async def test_who_was_answered_reads_what_the_answer_said(ola: Person) -> None:
    for method, position in (("Open", OPEN), ("Close", CLOSED)):
        told = await ola.call("Feeder/F002-003", "BreakerType", method, text("relay test"))
        assert told.StatusCode.is_good(), told
        assert [one.Value for one in told.OutputArguments][1:] == ["done", position]
        assert await ola.value("Feeder/F002-003/Pos") == position
        assert await ola.value("Feeder/F002-003/Commanded") == position
    assert (await ola.value("Feeder/F002-003/Reason")).startswith("close by ola")


async def test_a_position_comes_to_those_who_subscribed(ola: Person) -> None:
    seen: asyncio.Queue[int] = asyncio.Queue()

    class Screen:
        def datachange_notification(self, node: object, value: int, data: object) -> None:
            seen.put_nowait(value)

    subscription = await ola.client.create_subscription(100, Screen())
    await subscription.subscribe_data_change(ola.node("Feeder/F003-001/Pos"))
    assert await asyncio.wait_for(seen.get(), UNTIL_S) == CLOSED
    await ola.call("Feeder/F003-001", "BreakerType", "Open", text("test"))
    assert await asyncio.wait_for(seen.get(), UNTIL_S) == OPEN
    await ola.call("Feeder/F003-001", "BreakerType", "Close", text("test"))
    assert await asyncio.wait_for(seen.get(), UNTIL_S) == CLOSED
    await subscription.delete()


async def test_only_who_looks_after_security_sees_who_is_there(site: Station, ola: Person) -> None:
    assert (await ola.read("Security/Users")).StatusCode.name == "BadUserAccessDenied"
    async with person(site.folder, URL, "sec") as sec:
        await until(lambda: has_users(sec, 2), "both sessions")
        users = await sec.value("Security/Users")
        assert any(one.startswith("ola (OPERATOR) from 127.0.0.1") for one in users)
        before = await sec.value("Security/FailedLogins")
        with pytest.raises(ua.UaStatusCodeError):
            async with person(site.folder, URL, "ola", "wrong"):
                pass
        await until(lambda: larger(sec, "Security/FailedLogins", before), "the failure")
        assert (await sec.read("Feeder/F001-001/Pos")).StatusCode.name == "BadUserAccessDenied"


async def has_users(who: Person, number: int) -> bool:
    return len(await who.value("Security/Users") or ()) == number


async def larger(who: Person, key: str, than: int) -> bool:
    value = await who.value(key)
    return value is not None and value > than


async def is_so(who: Person, key: str, value: object) -> bool:
    return (await who.value(key)) == value


async def test_the_status_tells_of_the_server_and_who_is_there(site: Station, ola: Person) -> None:
    told = (await site.ask("status"))["operators"]
    assert isinstance(told, dict)
    assert (told["endpoint"], told["open"], told["sessions"], told["users"]) == (URL, True, 1, ["ola (1)"])
    shown = (await site.cli("status")).out
    assert f"OPC UA       {URL}, 1 session: ola (1), certificate {told['certificate'][:16]} until 20" in shown


async def test_a_shed_can_be_followed_and_a_crash_costs_a_new_log_in_only(site: Station) -> None:
    async with person(site.folder, URL, "ola") as ola:
        tier = ua.Variant(["Tier1"], ua.VariantType.String, is_array=True)
        target = ua.Variant(float("nan"), ua.VariantType.Double)
        told = await ola.call("LoadShedding", "LoadSheddingType", "StartShedding", target, tier, text("dispatcher"))
        assert told.StatusCode.is_good(), told
        instance = told.OutputArguments[1].Value
        assert await ola.value("LoadShedding/Running") is True
        tier1 = [name for name in BREAKERS if await ola.value(f"Feeder/{name}/Tier") == "Tier1"]
        shed = [name for name in tier1 if await ola.value(f"Feeder/{name}/Sheddable")]
        assert shed
        await until(lambda: is_so(ola, "LoadShedding/FeedersShed", len(shed)), "the tier is shed")
        assert await ola.value("LoadShedding/Instance") == instance
        await until(lambda: is_so(ola, "LoadShedding/Phase", "ordered"), "the cooldown is over")
        until_at, waits_for = await ola.values(["LoadShedding/Until", "LoadShedding/WaitsFor"])
        assert until_at is not None
        assert waits_for
        assert {name for name, at in zip(BREAKERS, await positions(ola), strict=True) if at == OPEN} == set(shed)
        await until(lambda: shown(ola, f"Orchestration/{instance}", "Orchestrations"), "its own object")
        await until(lambda: shown(ola, f"Timer/{instance}", "Timers"), "the timer of its wait")

        site.kill_daemon()
    site.start_daemon()
    await site.wait_serving()
    await listening(PORT)
    async with person(site.folder, URL, "ola") as ola:
        assert await ola.value("LoadShedding/Instance") == instance
        await until(lambda: is_so(ola, "LoadShedding/FeedersShed", len(shed)), "what is shed")
        await until(lambda: known(ola), "all breakers are read")
        assert {name for name, at in zip(BREAKERS, await positions(ola), strict=True) if at == OPEN} == set(shed)
        given_back = await ola.call(
            "LoadShedding",
            "LoadSheddingType",
            "Override",
            text(instance),
            text("cancel-and-restore"),
            text(""),
            text("over"),
            ua.Variant(float("nan"), ua.VariantType.Double),
        )
        assert given_back.StatusCode.is_good(), given_back
        await until(lambda: is_so(ola, "LoadShedding/Running", False), "the end", 90)
        assert await positions(ola) == [CLOSED] * len(BREAKERS)
        assert await ola.value("LoadShedding/LastEnded") == instance
        assert '"cancel-and-restore"' in (await ola.value("LoadShedding/Overrides"))[-1]


async def shown(who: Person, key: str, below: str) -> bool:
    return any(one.startswith(key) for one in await who.children(below))


async def known(who: Person) -> bool:
    return None not in await positions(who)


async def test_a_reload_is_seen(site: Station) -> None:
    feeders = site.folder / "feeders.csv"
    rows = [line.split(",") for line in feeders.read_text().splitlines()]
    tier = rows[0].index("tier")
    row = next(row for row in rows if row[tier] == "Tier1")
    row[tier] = "Tier2"
    async with person(site.folder, URL, "ola") as ola:
        config = await ola.value("Gateway/ConfigHash")
        feeders.write_text("\n".join(",".join(row) for row in rows) + "\n")
        site.signal_daemon(signal.SIGHUP)
        await until(lambda: is_so(ola, f"Feeder/{row[0]}/Tier", "Tier2"), "the file is in use")
        await until(lambda: differs(ola, "Gateway/ConfigHash", config), "the new hash")


async def differs(who: Person, key: str, value: object) -> bool:
    return (await who.value(key)) != value


async def test_sessions_end_when_the_daemon_ends(site: Station) -> None:
    async with person(site.folder, URL, "ola") as ola:
        assert await ola.value("Gateway/Mode") == "armed"
        assert await asyncio.to_thread(site.stop_daemon) == 0
        with pytest.raises((ua.UaError, ConnectionError, TimeoutError, asyncio.CancelledError)):
            await asyncio.wait_for(ola.value("Gateway/Mode"), 10)
    assert "defect" not in site.said()
    assert "operators_close" not in site.said()
    site.start_daemon()
    await site.wait_serving()
    await listening(PORT)


async def test_a_port_that_is_taken_is_said_in_a_sentence_and_nothing_starts(tmp_path: Path) -> None:
    async with small_station(tmp_path / "other", 15345, "127.0.42.1", ("--operators", "127.0.0.1:15346")) as other:
        with socket.create_server(("127.0.0.1", 15346)):
            other.start_daemon()
            assert await other.wait_end(30) == 1
        said = other.said()
        assert "gridlatch: the OPC UA server can't listen at 127.0.0.1:15346 ([operators] host, port)" in said
        assert '"event": "link_changed"' not in said


async def test_the_first_start_makes_a_certificate_and_no_user(tmp_path: Path) -> None:
    async with small_station(tmp_path / "new", 15347, "127.0.43.1", ("--operators", "127.0.0.1:15348")) as new:
        new.start_daemon()
        await new.wait_serving()
        await listening(15348)
        said = new.said()
        assert '"event": "device_certificate_made"' in said
        warnings = (await new.ask("status"))["warnings"]
        assert any("nobody can log in by OPC UA: there is no user yet" in str(one) for one in warnings)
        assert "Traceback" not in said
        gridlatch(new.folder, "users", "add", "ola", "--role", "OPERATOR", "--password-stdin", given="long enough 1\n")
        await until(lambda: no_warning(new), "the warning goes")


async def no_warning(site: Station) -> bool:
    return not any("OPC UA" in str(one) for one in (await site.ask("status"))["warnings"])
