"""A daemon that takes all attacks, one after the other, and is looked over when they are done. Each attacker comes from an
address of its own, by which the journal is asked what became of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from attacked import (
    Caller,
    attacked_station,
    endpoint,
    look_over,
    megabytes,
)
from opcua_house import PASSWORD, Endpoint, Peer
from station import Station

from simulators.client import SimulatorClient


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(people: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Station]:
    folder: Path = tmp_path_factory.mktemp("attacked")
    async with attacked_station(folder, people.alice, people.mallory, people.expired) as made:
        yield made


@pytest.fixture(scope="module")
def tokens() -> list[bytes]:
    """Those of all sessions; to be found nowhere."""
    return []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plant(site: Station, tokens: list[bytes]) -> AsyncIterator[SimulatorClient]:
    """The breakers, as witnesses; and in the end a look at all that must be as it was."""
    before_mb = megabytes(site)
    async with site.simulator() as client:
        yield client
        assert tokens
        await look_over(site, client, before_mb, tokens)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gate(site: Station, plant: SimulatorClient) -> Endpoint:
    """Where all go."""
    return endpoint(site)


@pytest_asyncio.fixture(loop_scope="module")
async def comes(gate: Endpoint, people: Any, tokens: list[bytes]) -> AsyncIterator[Caller]:
    """Makes clients, by the name of their certificate; all hang up in the end."""
    mine: list[Peer] = []

    def make(who: str = "mallory", **how: Any) -> Peer:
        mine.append(Peer(gate, getattr(people, who) if who else None, **how))
        return mine[-1]

    yield make
    for peer in mine:
        tokens += [peer.token.Identifier] if isinstance(peer.token.Identifier, bytes) else []
        peer.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def sleeper(gate: Endpoint, people: Any) -> AsyncIterator[Peer]:
    """Somebody who logs in and says nothing any more."""
    peer = Peer(gate, people.alice)
    assert (await (await peer.open()).session(RequestedSessionTimeout=1.0)).RevisedSessionTimeout == 5_000
    await peer.activate(peer.identity("adam", PASSWORD))
    yield peer
    peer.close()


@pytest.fixture
def moves() -> None:
    """For tests that move breakers."""


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def nobody_else_moves(request: pytest.FixtureRequest, plant: SimulatorClient) -> AsyncIterator[None]:
    """No breaker got a command in a test that gave none."""
    before = await plant.counters()
    yield
    if "moves" not in request.fixturenames:
        assert await plant.counters() == before
