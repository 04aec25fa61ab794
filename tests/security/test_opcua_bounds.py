"""The parts of the door that bound something, one by one: who may knock, what is told, whose turn it is, what is logged."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest
from asyncua import ua
from opcua_house import FakeBackend, House, Peer, make_keys, until

from protocols.opcua.hardening import Limits, UnknownAsyncua, check_version
from protocols.opcua.hardening.gate import Gate
from protocols.opcua.hardening.lobby import Lobby
from protocols.opcua.hardening.telling import Telling, printable
from protocols.opcua.surface import Caller, Deed, Doing

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_an_asyncua_that_this_was_not_written_against_is_refused() -> None:
    check_version("2.1.7")
    for other in ("2.2.0", "2.0.9", "1.1.5", "3.0"):
        with pytest.raises(UnknownAsyncua, match=r"hardened for 2\.1\.x"):
            check_version(other)


class Knock:
    """A connection."""

    def __init__(self, host: str, waiting: bool = True) -> None:
        self.host = host
        self.waiting = waiting
        self.away = False

    def turn_away(self) -> None:
        """Closed."""
        self.away = True


async def test_the_oldest_of_the_busiest_address_makes_room() -> None:
    lobby = Lobby(Limits(spare_connections=2, waiting_per_address=5), max_sessions=4)
    inside = [Knock("a", waiting=False), Knock("b"), Knock("c"), Knock("b"), Knock("c"), Knock("b")]
    assert all(map(lobby.enter, inside))
    assert lobby.enter(Knock("d"))
    assert [each.away for each in inside] == [False, True, False, False, False, False]


async def test_who_is_logged_in_makes_room_for_nobody() -> None:
    lobby = Lobby(Limits(spare_connections=1), max_sessions=1)
    assert lobby.enter(Knock("a", waiting=False))
    assert lobby.enter(Knock("b", waiting=False))
    assert not lobby.enter(Knock("c"))


async def test_one_address_connects_so_often_and_no_more() -> None:
    now = [100.0]
    lobby = Lobby(Limits(connections_burst=5, connections_per_s=2), 50, monotonic=lambda: now[0])

    def knock(host: str) -> bool:
        visitor = Knock(host)
        taken = lobby.enter(visitor)
        lobby.leave(visitor)
        return taken

    assert [knock("a") for _ in range(7)] == [True] * 5 + [False] * 2
    assert knock("b")
    now[0] += 1.0
    assert [knock("a") for _ in range(3)] == [True, True, False]


def somebody(host: str) -> Caller:
    """A caller from an address."""
    return Caller("", "", frozenset(), "", f"{host}:4711")


async def test_a_flood_of_refusals_is_told_as_a_sum() -> None:
    now = [0.0]
    backend = FakeBackend()
    telling = Telling(backend, Limits(tells_per_address=3, tells=5, tell_window_s=60), monotonic=lambda: now[0])
    for number in range(1000):
        telling.tell(Doing.LOGIN_REFUSED, somebody("10.0.0.1"), f"attempt {number}")
    for host in ("10.0.0.2", "10.0.0.3", "10.0.0.4"):
        telling.tell(Doing.ATTACK, somebody(host), "other")
    telling.tell(Doing.LOGIN, somebody("10.0.0.1"), "ola logged in")
    told = [deed.detail for deed in backend.deeds]
    assert told == ["attempt 0", "attempt 1", "attempt 2", "other", "other", "ola logged in"]
    now[0] = 61.0
    telling.roll()
    assert backend.deeds[-1].detail.startswith("998 more refusals within 60 s")
    assert backend.deeds[-1].doing is Doing.ATTACK


async def test_strangers_words_are_tamed_before_they_are_recorded() -> None:
    assert printable("\x1b[2Jola\nroot") == "\ufffd[2Jola\ufffdroot"
    assert printable("x" * 500, 10) == "x" * 10 + "…"
    assert printable(None) == ""


async def test_a_record_that_fails_stops_nothing() -> None:
    backend = FakeBackend()

    def broken(deed: Deed) -> None:
        raise OSError("disk full")

    backend.tell = broken  # type: ignore[method-assign]
    Telling(backend, Limits()).tell(Doing.ATTACK, somebody("10.0.0.1"), "x")


def spin(seconds: float) -> None:
    """Use the processor."""
    until_then = time.thread_time() + seconds
    while time.thread_time() < until_then:
        pass


async def share_of_others(gate: Gate) -> float:
    """How much of its time a loop has for others that always have something to do, while clients always have, too."""
    spent = {"gate": 0.0, "others": 0.0}
    stop = time.thread_time() + 0.4

    async def client() -> None:
        while time.thread_time() < stop:
            await gate.turn()
            spin(0.002)
            spent["gate"] += 0.002

    async def other() -> None:
        while time.thread_time() < stop:
            spin(0.0005)
            spent["others"] += 0.0005
            await asyncio.sleep(0)

    await asyncio.gather(*(client() for _ in range(10)), other())
    return spent["others"] / (spent["others"] + spent["gate"])


async def test_a_busy_loop_keeps_most_of_its_time() -> None:
    assert await share_of_others(Gate()) > 0.55


async def test_an_idle_loop_serves_one_piece_after_the_other() -> None:
    gate = Gate()
    began = time.perf_counter()
    for _ in range(500):
        await gate.turn()
    assert time.perf_counter() - began < 0.5


async def test_whoever_gives_up_waiting_is_passed_over() -> None:
    gate = Gate()
    first, second = asyncio.ensure_future(gate.turn()), asyncio.ensure_future(gate.turn())
    await asyncio.sleep(0)
    first.cancel()
    done: list[str] = []
    gate.soon(lambda: done.append("piece"))
    await asyncio.wait_for(second, 1)
    await until(lambda: done == ["piece"])


async def test_strangers_write_nothing_into_the_log(house: House, people: Any, caplog: Any, peers: Any) -> None:
    with caplog.at_level(logging.DEBUG):
        for _ in range(5):
            peer = Peer(house, people.stranger)
            peers.append(peer)
            with pytest.raises((ConnectionError, ua.UaStatusCodeError)):
                await peer.open()
        await until(lambda: len(house.backend.told(Doing.CERTIFICATE_REFUSED)) == 5)
    lines = [each for each in caplog.records if not each.name.startswith(("asyncua.client", "asyncio"))]
    assert lines == []


async def test_a_renewed_certificate_holds_for_the_next_connection(house: House, people: Any, peers: Any) -> None:
    """``gridlatch certs renew`` needs no restart; who is there stays."""
    old = await Peer(house, people.alice).log_in()
    peers.append(old)
    renewed = make_keys("gateway")
    before = house.own
    path = house.pki.own().path
    put_own(house, renewed)
    try:
        await until(lambda: house.server._door._identity.der == renewed.der)  # type: ignore[union-attr]
        house.own = renewed
        peers.append(await Peer(house, people.alice).log_in())
        assert len(await old.read()) == 1
    finally:
        put_own(house, before)
        house.own = before
    await until(lambda: house.server._door._identity.der == before.der)  # type: ignore[union-attr]
    assert path.read_bytes() == before.der


def put_own(house: House, keys: Any) -> None:
    """Put a certificate and its key where the server's own are: the key first, as the command does."""
    own = house.pki.own()
    own.key_path.write_bytes(keys.pem())
    own.path.write_bytes(keys.der)
