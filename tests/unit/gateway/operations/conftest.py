"""A desk over a real engine, and one way to ask it as the control socket would."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.operations import Desk, Health, handlers
from gateway.watch import CommittedBreakers
from tests.core_station import Station, make_site

Ask = Callable[..., Awaitable[Any]]


def Wait(context):
    """Waits for a word."""
    return (yield context.wait_for_external_event("Go"))


def Sleep(context):
    """Wakes twice."""
    long = context.create_timer(timedelta(hours=2))
    yield context.create_timer(timedelta(hours=1))
    yield long


def OpenB1(context):
    """A program of the site."""
    yield context.call_activity("SendDisconnectCommand", "B1")


def Fails(context):
    """Fails until it is told to go on."""
    yield context.call_activity("Mend", context.get_input())
    return "mended"


async def verify() -> dict[str, Any]:
    """The chain is whole."""
    return {"ok": True}


async def report(proofs: list[Any]) -> str:
    """A page that counts its proofs."""
    return f"<html>{len(proofs)}</html>"


@pytest.fixture
async def station() -> AsyncIterator[Station]:
    """A station that runs, and a program of its site."""
    one = Station(make_site())
    one.programs += [Wait, Sleep, OpenB1, Fails]
    one.build()
    await one.start()
    yield one
    await one.engine.stop(0.1)


@pytest.fixture
def health() -> Health:
    """A gateway that could be released."""
    return Health(
        0, "/s/journal.db", lambda: (7, 3, "ab"), lambda: True, verify, report, str, "released by {}".format, list
    )


class MemoryLog:
    """The records of a store in memory, as the journal gives them."""

    def __init__(self, station: Station) -> None:
        self._station = station

    async def records(
        self, after_seq: int, limit: int = 1_000, *, up_to_seq: int | None = None, kinds: Sequence[str] | None = None
    ) -> list[Any]:
        """See Log."""
        found = [
            one
            for one in self._station.store.records
            if after_seq < one.seq <= (up_to_seq or one.seq) and (kinds is None or one.kind in kinds)
        ]
        return found[:limit]

    async def latest(self, instance: str, limit: int = 1_000, *, before_seq: int | None = None) -> list[Any]:
        """See Log."""
        found = [
            one
            for one in reversed(self._station.store.records)
            if one.instance == instance and (before_seq is None or one.seq < before_seq)
        ]
        return found[:limit]


@pytest.fixture
def desk(station: Station, health: Health) -> Desk:
    """The desk of this station."""
    zone = SimpleNamespace(state=SimpleNamespace(zone=SimpleNamespace(value="normal")))
    breakers = CommittedBreakers(station.engine)
    watch: Any = SimpleNamespace(
        committed=breakers.get, load=zone, picture=SimpleNamespace(counts={"closed": 6}, shed_kw=0.0)
    )
    clock: Any = SimpleNamespace(rate=1.0, wall_step_s=float)
    return Desk(station.engine, station.field, watch, clock, health, MemoryLog(station))


@pytest.fixture
def ask(desk: Desk) -> Ask:
    """Ask for an operation, as user scada."""
    offered = handlers(desk)

    async def asked(op: str, **args: Any) -> Any:
        return await offered[op]({**args, "_peer": {"user": "scada"}})

    return asked
