"""A desk over a real engine, and one way to ask it as the control socket would."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
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
    one.programs += [Wait, Sleep]
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


@pytest.fixture
def ask(station: Station, health: Health) -> Ask:
    """Ask for an operation, as user scada."""
    zone = SimpleNamespace(state=SimpleNamespace(zone=SimpleNamespace(value="normal")))
    breakers = CommittedBreakers(station.engine)
    watch: Any = SimpleNamespace(
        committed=breakers.get, load=zone, picture=SimpleNamespace(counts={"closed": 6}, shed_kw=0.0)
    )
    clock: Any = SimpleNamespace(rate=1.0, wall_step_s=float)
    offered = handlers(Desk(station.engine, station.field, watch, clock, health))

    async def asked(op: str, **args: Any) -> Any:
        return await offered[op]({**args, "_peer": {"user": "scada"}})

    return asked
