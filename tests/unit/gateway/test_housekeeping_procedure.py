"""Giving load back that gets no further is told, with the feeder that comes next; one that goes on is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

import gateway.housekeeping_procedure as module
from gateway.housekeeping_procedure import Restoration
from gateway.housekeeping_troubles import RESTORATION, TYPES
from gateway.operator.event_types import BY_NAME
from tests.core_station import Station, make_site

WAITS_FOR = "116 kW of headroom for F7, the smallest block, 110 kW now"


def Restores(context: Any) -> Any:
    """Says what it is told to say."""
    while True:
        context.set_custom_status((yield context.wait_for_external_event("Say")))


@pytest.fixture
async def station(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Station]:
    one = Station(make_site())
    one.programs += [Restores]
    one.build()
    await one.start()
    await one.engine.client.start_new("Restores", "p1")
    monkeypatch.setattr(module, "committed_station", lambda *_: SimpleNamespace(running=SimpleNamespace(instance="p1")))
    yield one
    await one.engine.stop(0.1)


async def say(station: Station, phase: str, feeders_shed: int) -> None:
    told = {"phase": phase, "feeders_shed": feeders_shed, "waits_for": WAITS_FOR}
    await station.engine.client.raise_event("p1", "Say", told)
    await station.engine.on_disk()


async def test_an_hour_without_a_breaker_closed_is_told_with_the_feeder_that_comes_next(station: Station) -> None:
    looks = Restoration(station.engine, station.field)
    assert list(looks.troubles()) == [], "it has said nothing yet"
    await say(station, "restoring", 2)
    assert list(looks.troubles()) == []
    station.clock.advance(3599.0)
    assert list(looks.troubles()) == []
    station.clock.advance(1.0)
    (told,) = looks.troubles()
    assert (told.type, told.occurrence) == (RESTORATION, "p1")
    assert f"p1 has closed no breaker for an hour or more: it waits for {WAITS_FOR}" in told.message
    await say(station, "restoring", 1)
    assert list(looks.troubles()) == [], "it goes on"


async def test_other_phases_may_take_as_long_as_they_must(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Restoration(station.engine, station.field)
    for phase, shed in (("ordered", 2), ("restoring", 0)):
        await say(station, phase, shed)
        assert list(looks.troubles()) == []
        station.clock.advance(7200.0)
        assert list(looks.troubles()) == []
    monkeypatch.setattr(module, "committed_station", lambda *_: SimpleNamespace(running=None))
    assert list(looks.troubles()) == []


def test_operators_have_such_an_alarm() -> None:
    assert all(BY_NAME[one].alarm for one in TYPES)
