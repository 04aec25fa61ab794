"""A night's worth of reconnects in minutes: clients and the server come and go while values stream.

What must hold however often: no value that a subscription promised is lost (each number of a counter comes, in order, and
the newest one first), nothing of a client that went stays in the server, the port is free at once, and neither side grows.
A few rounds run always; ``-m soak`` plays 200 of each.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from asyncua import Client, ua
from asyncua.common.subscription import Subscription
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from counting_server import COUNTERS, IDLE_S, URI, USER, CountingServer, counting_server
from opcua_house import INDEX, PASSWORD

from benchmarks.processes import usage
from protocols.opcua.pki import Pki

HOST = "127.0.68.1"
QUEUE = 100
INTERVAL_MS = 50
AT_ONCE = 4
HELD_BY_CLIENTS = (
    "sessions", "ways_to_sessions", "subscriptions", "items", "connections", "values_waiting", "watched", "calls",
    "tasks", "files",
)  # fmt: skip
BASE = 1_000_000
"""The first number of a start's counters is so many times the number of the start."""


class Numbers:
    """Hears the counters of one subscription, and that no number is missing."""

    def __init__(self) -> None:
        self.last: dict[str, int] = {}
        self.first: dict[str, int] = {}
        self.told = 0
        self.wrong: list[str] = []

    def datachange_notification(self, node: object, value: int, data: object) -> None:
        """See asyncua's subscription handler."""
        key = str(node)
        before = self.last.get(key)
        if before is None:
            self.first[key] = value
        elif value != before + 1:
            self.wrong.append(f"{key}: {value} after {before}")
        self.last[key] = value
        self.told += 1

    def have(self, number: int) -> bool:
        """Whether every counter has told this number, or a later one."""
        return len(self.last) == len(COUNTERS) and min(self.last.values()) >= number


class Operator:
    """A client with an open session."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.numbers = Numbers()
        self._nodes = [client.get_node(ua.NodeId(f"{key}/N", INDEX)) for key in COUNTERS]
        self._subscription: Subscription | None = None

    async def read(self) -> int:
        """A counter's number now; the smallest of all."""
        return min([int(await self._nodes[0].read_value()), int(await self._nodes[-1].read_value())])

    async def subscribe(self) -> None:
        """Subscribe to all counters, and get the newest number of each and then every one that follows."""
        before = await self.read()
        self._subscription = await self.client.create_subscription(INTERVAL_MS, self.numbers)
        await self._subscription.subscribe_data_change(self._nodes, queuesize=QUEUE)
        await self.hears(before + 1)
        assert min(self.numbers.first.values()) >= before, "the newest number comes first, none of old"

    async def hears(self, number: int, longest_s: float = 45.0) -> None:
        """Wait until this number came."""
        await until(lambda: self.numbers.have(number), longest_s)

    async def hears_all_until_now(self) -> None:
        """What is so now is heard soon, and nothing before it is missing."""
        await self.hears(await self.read())
        assert self.numbers.wrong == []

    def abort(self) -> None:
        """The connection breaks: no goodbye of session or channel."""
        transport = self.client.uaclient.protocol.transport
        assert transport is not None
        transport.abort()

    def freeze(self) -> None:
        """Neither take nor ask anything any more, with the connection open: a hung process, or a cable pulled."""
        transport = self.client.uaclient.protocol.transport
        assert transport is not None
        transport.pause_reading()
        transport.write = lambda data: None  # type: ignore[method-assign]

    def cut_off(self) -> bool:
        """Whether the connection is gone, as the client sees it."""
        protocol = self.client.uaclient.protocol
        return protocol is None or protocol.transport is None or protocol.transport.is_closing()

    async def leave(self) -> None:
        """Go; whatever state the connection is in."""
        with contextlib.suppress(ConnectionError, TimeoutError, asyncio.CancelledError, ua.UaError):
            await self.client.disconnect()


async def until(true: object, longest_s: float) -> None:
    """Wait until something is so."""
    assert callable(true)
    async with asyncio.timeout(longest_s):
        while not true():  # noqa: ASYNC110 - heard by a callback of the client
            await asyncio.sleep(0.02)


async def come(server: CountingServer) -> Operator:
    """A new client: connected and logged in."""
    folder = server.folder
    client = Client(server.url, timeout=10)
    client.application_uri = f"{URI}:client"
    client.set_user(USER)
    client.set_password(PASSWORD)
    await client.set_security(
        SecurityPolicyBasic256Sha256,
        str(folder / "client.der"),
        str(Pki(folder / "client").own().key_path),
        server_certificate=str(folder / "server.der"),
    )
    await client.connect()
    return Operator(client)


@contextlib.asynccontextmanager
async def visit(server: CountingServer) -> AsyncIterator[Operator]:
    """A client that has gone at the end."""
    operator = await come(server)
    try:
        yield operator
    finally:
        await operator.leave()


async def come_and_go(server: CountingServer, round_: int, frozen: contextlib.AsyncExitStack) -> int:
    """One life of a client; how many values it was told. It says goodbye, breaks its connection, or freezes: then it goes
    when the stack ends."""
    freezes = round_ % 30 == 2
    async with contextlib.AsyncExitStack() as visits:
        operator = await (frozen if freezes else visits).enter_async_context(visit(server))
        await operator.subscribe()
        await operator.hears_all_until_now()
        if freezes:
            operator.freeze()
            frozen.callback(operator.abort)
        elif round_ % 3 == 1:
            operator.abort()
        return operator.numbers.told


async def nothing_left(server: CountingServer, empty: dict[str, float]) -> None:
    """Within the idle time all that clients held is given back."""
    deadline = time.monotonic() + IDLE_S + 8
    while True:
        held = await server.held()
        left = {what: (held[what], empty[what]) for what in HELD_BY_CLIENTS if held[what] > empty[what]}
        if not left:
            return
        assert time.monotonic() < deadline, f"left behind (now, when nobody had come yet): {left}"
        await asyncio.sleep(0.1)


async def clients_come_and_go(server: CountingServer, rounds: int, growth_mb: float) -> None:
    """So many lives of clients, some at once, beside one that stays and misses nothing."""
    began = time.monotonic()
    await server.say(f"start {BASE}")
    empty = dict(await server.held())
    assert empty["sessions"] == empty["subscriptions"] == empty["items"] == empty["connections"] == 0
    told, warm_mb = 0, 0.0
    async with contextlib.AsyncExitStack() as frozen:
        async with visit(server) as steady:
            await steady.subscribe()
            for first in range(0, rounds, AT_ONCE):
                numbers = range(first, min(first + AT_ONCE, rounds))
                told += sum(await asyncio.gather(*(come_and_go(server, number, frozen) for number in numbers)))
                if warm_mb == 0.0 and first >= rounds // 5:
                    warm_mb = (await server.held())["rss_mb"]
            await steady.hears_all_until_now()
            steadily = steady.numbers.told
        await nothing_left(server, empty)
    end_mb = (await server.held())["rss_mb"]
    print(
        f"\n{rounds} clients came and went in {time.monotonic() - began:.0f} s and were told {told} values, the one that "
        f"stayed {steadily}; server: {empty['rss_mb']:.1f} MB empty, {warm_mb:.1f} MB after a fifth, {end_mb:.1f} MB at "
        "the end"
    )
    assert end_mb - warm_mb < growth_mb, "the server grows with the clients that have gone"
    await server.say("stop")


async def server_comes_and_goes(server: CountingServer, rounds: int, growth_mb: float) -> None:
    """So many starts of the server under one client, which comes back each time."""
    began, told, warm_mb, slowest_s = time.monotonic(), 0, 0.0, 0.0
    for number in range(1, rounds + 1):
        started = time.monotonic()
        await server.say(f"start {number * BASE}")
        slowest_s = max(slowest_s, time.monotonic() - started)
        async with visit(server) as operator:
            await operator.subscribe()
            await operator.hears_all_until_now()
            assert {each // BASE for each in operator.numbers.first.values()} == {number}, "numbers of this very start"
            await server.say("kill" if number % 2 else "stop")
            await until(operator.cut_off, 30.0)
            told += operator.numbers.told
            assert operator.numbers.wrong == []
        if number >= rounds / 5 and not warm_mb:
            warm_mb = own_mb()
    end_mb = own_mb()
    print(
        f"\n{rounds} starts of the server in {time.monotonic() - began:.0f} s (slowest {slowest_s:.1f} s), {told} values; "
        f"client: {warm_mb:.1f} MB after a fifth, {end_mb:.1f} MB at the end"
    )
    assert end_mb - warm_mb < growth_mb, "the client grows with each start of the server"


def own_mb() -> float:
    """Resident memory of this process, without what waits for the collector."""
    gc.collect()
    return usage(os.getpid()).rss_mb


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """asyncua logs each broken connection with its traceback, and pytest keeps all that is logged: that would be measured
    as the client's."""
    logger = logging.getLogger("asyncua")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(before)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[CountingServer]:
    """A server on a port of its own, not started yet."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = int(free.getsockname()[1])
    with counting_server(tmp_path, HOST, port) as made:
        yield made


async def test_what_clients_held_is_given_back_and_who_stays_misses_nothing(server: CountingServer) -> None:
    await clients_come_and_go(server, 8, growth_mb=20.0)


async def test_a_server_that_comes_back_is_served_from_at_once(server: CountingServer) -> None:
    await server_comes_and_goes(server, 3, growth_mb=20.0)


@pytest.mark.soak
async def test_200_clients_come_and_go(server: CountingServer) -> None:
    await clients_come_and_go(server, 200, growth_mb=5.0)


@pytest.mark.soak
async def test_200_starts_of_the_server(server: CountingServer) -> None:
    await server_comes_and_goes(server, 200, growth_mb=5.0)
