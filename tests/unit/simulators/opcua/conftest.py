"""Two RTUs on OPC UA with four breakers each, simulated in the test's own loop, and asyncua's client as the master."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from asyncua import Client, ua
from asyncua.crypto.security_policies import (
    SecurityPolicyAes128Sha256RsaOaep,
    SecurityPolicyAes256Sha256RsaPss,
    SecurityPolicyBasic256Sha256,
)

from simulators.generate import NAMESPACE, PASSWORD_FILE, RTU_USER, Plan, generate
from simulators.opcua import certificates
from simulators.simulation import Simulation
from simulators.site import OpcuaRow, SimulatedSite, read_site

POLICIES = (SecurityPolicyBasic256Sha256, SecurityPolicyAes128Sha256RsaOaep, SecurityPolicyAes256Sha256RsaPss)
OURS = "urn:test:client"
FIRST_HOST = "127.0.64.1"

Connect = Callable[..., AbstractAsyncContextManager["Master"]]


@dataclass
class Master:
    """A session to one RTU."""

    client: Client
    index: int
    notes: list[tuple[str, object]] = field(default_factory=list)

    def node(self, name: str) -> ua.NodeId:
        return self.client.get_node(f"ns={self.index};s={name}")

    async def pos(self, feeder: str) -> int:
        return int(await self.node(f"{feeder}/Pos").read_value())

    async def call(self, feeder: str, method: str, *arguments: bool) -> None:
        await self.node(feeder).call_method(self.node(f"{feeder}/{method}"), *arguments)

    async def reach(self, feeder: str, pos: int) -> None:
        """Wait until the position reads so."""
        async with asyncio.timeout(5.0):
            while await self.pos(feeder) != pos:  # noqa: ASYNC110 - what another process would do
                await asyncio.sleep(0.005)

    async def watch(self, *names: str, keep_alive: int = 100) -> None:
        """Subscribe; what comes is in notes."""
        parameters = ua.CreateSubscriptionParameters(
            RequestedPublishingInterval=20.0,
            RequestedLifetimeCount=10_000,
            RequestedMaxKeepAliveCount=keep_alive,
            PublishingEnabled=True,
        )
        subscription = await self.client.create_subscription(parameters, self)
        await subscription.subscribe_data_change([self.node(name) for name in names])

    def datachange_notification(self, node: ua.NodeId, value: object, _: object) -> None:
        self.notes.append((str(node.nodeid.Identifier), value))

    def status_change_notification(self, status: object) -> None:
        self.notes.append(("status", status))


@pytest.fixture
def site(tmp_path: Path) -> SimulatedSite:
    """RTU002 and RTU003 on OPC UA; every second breaker of the last is select-before-operate."""
    with socket.socket() as probe:
        probe.bind((FIRST_HOST, 0))
        port = int(probe.getsockname()[1])
    generate(tmp_path, Plan(rtus=3, breakers=4, opcua_rtus=2, port=port, first_host=FIRST_HOST, rate=60.0))
    return read_site(tmp_path)


@pytest.fixture(scope="session")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The master's own certificate and key."""
    folder = tmp_path_factory.mktemp("master")
    certificates.write(certificates.fresh("master", OURS, "127.0.0.1"), folder / "own.der", folder / "own.pem")
    return folder


@pytest.fixture
def connect(simulation: Simulation, identity: Path) -> Connect:
    """Opens sessions."""

    @contextlib.asynccontextmanager
    async def opened(
        device: str = "RTU002", *, policy: int = 0, password: str = "", timeout_s: float = 3.0
    ) -> AsyncIterator[Master]:
        row = next(row for row in simulation.site.devices if row.name == device)
        assert isinstance(row, OpcuaRow)
        client = Client(f"opc.tcp://{row.host}:{row.port}", timeout=timeout_s)
        client.application_uri = OURS
        client.set_user(RTU_USER)
        client.set_password(password or (simulation.site.path / PASSWORD_FILE).read_text())
        own = str(identity / "own.der"), str(identity / "own.pem")
        await client.set_security(POLICIES[policy], *own, server_certificate=str(row.certificate))
        async with client:
            yield Master(client, await client.get_namespace_index(NAMESPACE))

    return opened
