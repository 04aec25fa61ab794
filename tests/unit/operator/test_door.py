"""The operators' server in the life of the daemon: what fails in it is told and mended, and ends nothing else."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncua
import msgspec
import pytest

from config.models import Operators
from gateway.clock import to_us, wall_now
from gateway.operations import Desk, Health
from gateway.operator import door as module
from gateway.operator.alarms import register_alarms
from gateway.operator.door import Door
from gateway.operator.surface_model import build_surface
from gateway.operators import GUESTS, is_guest
from gateway.watch import CommittedBreakers
from protocols.opcua import surface
from protocols.opcua.surface import Caller, SessionInfo
from tests.core_station import Station, make_site
from tests.fake_server import FakeServer

SETTINGS = Operators("127.0.0.1", 4840, "urn:x", Path("/s/pki"), Path("/s/users.toml"))


class FakeKeys:
    """Files of certificates and users."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.days = 400.0
        self.closed = False

    def thumbprint(self) -> str:
        return "ab12"

    def expires_us(self) -> int:
        return to_us(wall_now() + timedelta(days=self.days))

    def warnings(self) -> list[str]:
        return self.told

    def close(self) -> None:
        self.closed = True


async def nothing(*_: object) -> Any:
    """Not asked for here."""


@pytest.fixture
async def station() -> AsyncIterator[Station]:
    one = Station(make_site())
    register_alarms(one.engine.registry)
    await one.start()
    yield one
    await one.engine.stop(0.1)


@pytest.fixture
def keys() -> FakeKeys:
    return FakeKeys()


@pytest.fixture
async def made(
    station: Station, keys: FakeKeys, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Door, FakeServer]]:
    """A door, still closed, and the server behind it."""
    monkeypatch.setattr(module, "WAITS_S", (0.01, 0.02))
    monkeypatch.setattr(module, "LOOK_S", 0.0)
    zone: Any = SimpleNamespace(state=SimpleNamespace(zone=SimpleNamespace(value="cleared")))
    breakers = CommittedBreakers(station.engine)
    watch: Any = SimpleNamespace(
        committed=breakers.get, load=zone, picture=SimpleNamespace(counts={}, shed_kw=0.0, open=0), alarmed={}
    )
    clock: Any = SimpleNamespace(rate=1.0, wall_step_s=float)
    health = Health(5, "/s/j", lambda: (7, 3, "ab"), lambda: True, nothing, nothing, str, str, list)
    log: Any = None
    desk = Desk(station.engine, station.field, watch, clock, health, log)
    server = FakeServer(build_surface(station.site))

    async def make_server(surface: Any, backend: Any) -> FakeServer:
        assert surface == build_surface(station.site)
        server.backend = backend
        return server

    door = Door(SETTINGS, desk, keys, make_server)
    monkeypatch.setattr(door._happenings, "run", asyncio.Event().wait)
    yield door, server
    await door.close()


async def records(station: Station, event: str) -> list[dict[str, Any]]:
    await station.engine.on_disk()
    found = [msgspec.json.decode(one.payload) for one in station.store.records if one.kind == "gateway"]
    return [one for one in found if one["event"] == event]


async def test_values_are_there_before_anybody_is_served(made: tuple[Door, FakeServer]) -> None:
    door, server = made
    told_at_start: list[bool] = []

    async def start() -> None:
        told_at_start.append("Mode" in server.told("Gateway") and "Pos" in server.told("Feeder/A1"))

    server.start = start  # type: ignore[method-assign]
    assert door.status()["open"] is False
    await door.open()
    assert told_at_start == [True]
    assert door.status()["open"] is True


async def test_what_was_called_is_shown_by_this_door_s_feed(made: tuple[Door, FakeServer], station: Station) -> None:
    door, server = made
    await door.open()
    door._tasks[0].cancel()
    station.driver.load = 950.0
    door._backend.tell_now("LoadShedding")
    assert server.told("GridStress")["LoadKw"] == 950.0


async def test_a_feed_that_fails_begins_anew_and_tells_everything_again(
    made: tuple[Door, FakeServer], station: Station
) -> None:
    door, server = made
    await door.open()
    server.broken = RuntimeError("a defect of the feed")
    station.driver.load = 950.0
    await station.until(lambda: server.broken is None, "the failure")
    for told in server.values.values():
        told.clear()
    await station.until(lambda: server.told("GridStress").get("LoadKw") == 950.0, "the new load")
    await station.until(lambda: server.told("Feeder/B1").get("Tier") == "Tier2", "everything else")
    assert door.status()["failing"] == {"feed": "RuntimeError: a defect of the feed"}
    assert "operators' feed failed within the last minutes: RuntimeError: a defect of the feed" in door.warnings()
    assert [one["error"] for one in await records(station, "operators_failed")] == [
        "RuntimeError: a defect of the feed"
    ]
    assert server.life == ["started"]  # the sessions stay


async def test_a_task_that_fails_for_ever_is_tried_for_ever_and_recorded_once(
    made: tuple[Door, FakeServer], station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    door, _ = made
    tries = []

    async def fails() -> None:
        tries.append(1)
        raise ValueError("again")

    monkeypatch.setattr(door._happenings, "run", fails)
    await door.open()
    await station.until(lambda: len(tries) >= 5, "five tries")
    assert len(await records(station, "operators_failed")) == 1
    assert "happenings" in door.status()["failing"]
    assert station.engine.failure is None


async def test_a_server_that_cannot_be_built_costs_the_view_and_not_the_control(
    made: tuple[Door, FakeServer], station: Station
) -> None:
    door, server = made
    server.broken = TypeError("a defect of the library")
    await door.open()
    assert door.status()["open"] is False
    assert any("could not be opened" in one for one in door.warnings())
    assert len(await records(station, "operators_failed")) == 1


async def test_a_port_that_is_taken_ends_the_start(made: tuple[Door, FakeServer]) -> None:
    door, server = made

    async def start() -> None:
        raise OSError(98, "address already in use")

    server.start = start  # type: ignore[method-assign]
    with pytest.raises(OSError, match="address already in use"):
        await door.open()
    assert door.status()["open"] is False


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (400, None),
        (29.5, "expires in 29 days; renew it with 'gridlatch certs renew'"),
        (-1, "has expired; make a new one"),
    ],
)
async def test_a_certificate_that_ends_is_told_in_time(
    made: tuple[Door, FakeServer], keys: FakeKeys, days: float, words: str | None
) -> None:
    keys.days = days
    warnings = [one for one in made[0].warnings() if "certificate" in one]
    assert len(warnings) == (words is not None)
    assert words is None or words in warnings[0]


async def test_what_is_amiss_with_files_is_told(made: tuple[Door, FakeServer], keys: FakeKeys) -> None:
    keys.told = ["nobody can log in"]
    assert made[0].warnings() == ["nobody can log in"]


async def test_the_status_tells_who_is_there(made: tuple[Door, FakeServer]) -> None:
    door, server = made
    await door.open()
    ola = Caller("s", "ola", frozenset({"OPERATOR"}), "", "10.0.0.1:1")
    server.there = [SessionInfo(ola, 0, 0, 0, 0)] * 2 + [SessionInfo(Caller("s", "", frozenset(), "", ""), 0, 0, 0, 0)]
    status = door.status()
    assert (status["sessions"], status["users"]) == (3, ["ola (2)", "anonymous (1)"])
    assert (status["endpoint"], status["certificate"]) == ("opc.tcp://127.0.0.1:4840", "ab12")


async def test_a_close_ends_everything_also_where_the_library_fails(
    made: tuple[Door, FakeServer], keys: FakeKeys, station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    door, server = made
    before = len(station.engine.on_commit)
    await door.open()
    monkeypatch.setattr(module, "CLOSE_S", 0.01)
    server.stop = asyncio.Event().wait  # type: ignore[assignment, method-assign]
    await door.close()
    assert keys.closed
    assert len(station.engine.on_commit) == before

    async def stop() -> None:
        raise RuntimeError("a defect while stopping")

    server.stop = stop  # type: ignore[method-assign]
    await door.close()


async def test_defects_of_the_library_are_counted_recorded_once_and_told(
    made: tuple[Door, FakeServer], station: Station
) -> None:
    door, _ = made
    for _ in range(3):
        door.defect(KeyError("in a connection"))
    assert door.status()["defects"] == 3
    assert any(one.startswith("3 errors inside the OPC UA server") for one in door.warnings())
    assert len(await records(station, "operators_defect")) == 1


def raised_in(file: str) -> BaseException:
    """An exception that was raised in code of this file."""
    try:
        exec(compile("def fail():\n    raise KeyError('x')\nfail()", file, "exec"), {})
    except KeyError as error:
        return error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)  # without this test's frame
    raise AssertionError


def test_only_what_fails_below_the_library_is_a_guest() -> None:
    library = str(Path(asyncua.__file__).parent / "server" / "uaprocessor.py")
    assert is_guest(raised_in(library))
    assert is_guest(raised_in(str(Path(surface.__file__).parent / "hardening" / "server.py")))
    assert not is_guest(raised_in(str(Path(module.__file__).parents[1] / "watch.py")))
    assert not is_guest(KeyError("raised nowhere"))
    assert traceback.extract_tb(raised_in(library).__traceback__)[0].filename == library


async def test_a_callback_of_the_library_is_told_by_its_own_code_not_by_the_loops() -> None:
    loop, found = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: found.append(context["exception"]))
    space: dict[str, Any] = {}
    exec(compile("def fail():\n    raise KeyError('x')", f"{GUESTS[0]}/server/binary_server.py", "exec"), space)
    loop.call_soon(space["fail"])
    loop.call_soon(lambda: 1 // 0)
    await asyncio.sleep(0.01)
    loop.set_exception_handler(None)
    assert [is_guest(error) for error in found] == [True, False]
