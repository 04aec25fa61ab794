"""The operator's client against a server that has what it looks at: it logs in, comes back by itself, and says why not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from simulators.heatwave.operator import NAME, NAMESPACE, Console, OperatorError
from simulators.opcua import certificates
from simulators.opcua.points import Constant, Node
from simulators.opcua.rtu import GOOD, Kind, Method, Reply, Rtu
from simulators.opcua.server import RtuServer
from simulators.site import OpcuaRow

HOST = "127.0.64.30"


class Deaf:
    """Nothing can be done here."""

    def write(self, rtu: Rtu, node: Node, value: Constant, session: str) -> Reply:
        return Reply(GOOD)

    def call(self, rtu: Rtu, method: Method, argument: Constant | None, session: str) -> Reply:
        return Reply(GOOD)


@pytest.fixture
async def console(tmp_path: Path) -> AsyncIterator[Console]:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = int(probe.getsockname()[1])
    made = Console(tmp_path / "console", HOST, port, tmp_path / "gateway.der")
    made.make_certificate()
    yield made
    await made.end()


@pytest.fixture
async def server(console: Console, tmp_path: Path) -> AsyncIterator[RtuServer]:
    """Stands for the gateway: it shows a number in place of the procedure's sentence."""
    certificate, key, secret = tmp_path / "gateway.der", tmp_path / "gateway.key", tmp_path / "secret"
    certificates.write(certificates.fresh("gateway", "urn:gateway", HOST), certificate, key)
    secret.write_text(console.password)
    rtu = Rtu("Gateway", NAMESPACE, Deaf())
    rtu.add_variable(Node("", "s", "LoadShedding/Sentence"), Kind.INT32)
    rtu.show(Node("", "s", "LoadShedding/Sentence"), 7)
    running = RtuServer(rtu, OpcuaRow("Gateway", HOST, console.port, "", NAMESPACE, certificate, key, NAME, secret))
    await running.open()
    yield running
    await running.end()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30.0):
        while not condition():  # noqa: ASYNC110 - what the story does
            await asyncio.sleep(0.01)


async def test_the_console_logs_in_and_comes_back_by_itself(console: Console, server: RtuServer) -> None:
    console.start()
    await until(lambda: console.connected)
    assert (console.sees, console.sessions) == ("7", 1)
    await server.end()
    await until(lambda: not console.connected)
    assert console.sees == ""
    await server.open()
    await until(lambda: console.connected)
    assert console.sessions == 2


async def test_what_the_gateway_refuses_is_told(console: Console, server: RtuServer) -> None:
    console.start()
    await until(lambda: console.connected)
    with pytest.raises(OperatorError, match="override hold: BadMethodInvalid"):
        await console.override("hold", "test")


async def test_a_wrong_password_is_told_and_not_shown(console: Console, server: RtuServer) -> None:
    password, console.password = console.password, "guessed"
    console.start()
    await until(lambda: "denied" in console.why.lower())
    assert not console.connected
    assert password not in console.why
    with pytest.raises(OperatorError, match="no session"):
        await console.override("hold", "test")


async def test_each_performance_has_a_password_of_its_own(tmp_path: Path) -> None:
    first, second = (Console(tmp_path, HOST, 1, tmp_path / "gateway.der") for _ in range(2))
    assert len(first.password) >= 16
    assert first.password != second.password
