"""One server for all attacks, since its standard address space takes a second and a half to build; certificates are made
once. Each test sees only what was told since it began, and comes from an address of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from opcua_house import House, Keys, Peer, long_ago, make_keys

from protocols.opcua import passwords
from protocols.opcua.hardening import Limits

LIMITS = Limits(
    log_in_s=3.0,
    stalled_s=0.5,
    session_timeout_min_s=0.3,
    recheck_s=0.5,
    subscriptions_per_session=4,
    items_per_session=200,
    items_per_call=100,
    nodes_per_read=100,
    continuation_points=3,
    calls_at_once=3,
    publish_requests=5,
    channel_lifetime_min_s=0.2,
    connections_burst=200,
    tells_per_address=100_000,
    tells=100_000,
)
"""Those of the server, but smaller where a test has to reach them; and nothing is told as a sum, which would come later, in
the midst of another test."""


@dataclass(frozen=True)
class People:
    """Who has which certificate."""

    gateway: Keys
    alice: Keys
    mallory: Keys
    stranger: Keys
    expired: Keys
    issued: Keys


@pytest.fixture(scope="session")
def people() -> People:
    """alice and mallory are trusted, and so is the expired one."""
    return People(
        make_keys("gateway"),
        make_keys("alice"),
        make_keys("mallory"),
        make_keys("stranger"),
        make_keys("expired", long_ago()),
        make_keys("issued"),
    )


@pytest.fixture(scope="session", autouse=True)
def _quick_passwords() -> Iterator[None]:
    """scrypt takes a tenth of a second for each log-in, and there are some hundred here; a thousandth will do.

    It lasts as long as the house does: what else this process tests meets the same function with less work in it.
    """
    slow = passwords._scrypt

    def quick(password: str, n: int, r: int, p: int, salt: bytes, length: int) -> bytes:
        return slow(password, 2**4, r, p, salt, length)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_scrypt", quick)
        yield


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def the_house(people: People, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """The server, running."""
    folder: Path = tmp_path_factory.mktemp("house")
    house = House(folder, [people.alice, people.mallory, people.expired], people.gateway, LIMITS)
    house.add_user("ola", "OPERATOR")
    house.add_user("vera", "VIEWER")
    house.add_user("sec", "SECADM")
    await house.server.start()
    yield house
    await house.server.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def house(the_house: House) -> AsyncIterator[House]:
    """The server, with nothing told and nobody there."""
    backend = the_house.backend
    backend.deeds.clear()
    backend.calls.clear()
    backend.hold = backend.fail = None
    backend.ended = 0
    yield the_house
    if backend.hold is not None:
        backend.hold.set()


class Callers(list[Peer]):
    """Clients of one test; all hang up at its end."""


@pytest_asyncio.fixture(loop_scope="session")
async def peers(house: House) -> AsyncIterator[Callers]:
    """Where a test puts its clients."""
    mine = Callers()
    yield mine
    for peer in mine:
        peer.close()
    await house.settled()


@pytest.fixture
def alice(house: House, people: People, peers: Callers) -> Peer:
    """An honest client's equipment, not yet connected."""
    peer = Peer(house, people.alice)
    peers.append(peer)
    return peer


@pytest.fixture
def mallory(house: House, people: People, peers: Callers) -> Peer:
    """Somebody whose certificate is trusted, too, and who is up to no good."""
    peer = Peer(house, people.mallory)
    peers.append(peer)
    return peer
