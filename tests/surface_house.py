"""A whole operators' server for tests, with keys, users and a trusted client: ``async with house(...) as site``."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from asyncua import Client, ua
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256

from gateway.clock import wall_now
from protocols.opcua.pki import Pki
from protocols.opcua.server import Limits, OperatorServer, ServerSettings
from protocols.opcua.surface import Backend, Surface
from protocols.opcua.user_file import UserFile
from protocols.opcua.users import Doorman

PASSWORD = "correct horse battery staple"
CLIENT_URI = "urn:test:client"


@dataclass
class House:
    """A server that listens, and what a client needs to come in."""

    server: OperatorServer
    client_pki: Pki
    host: str
    namespace: int = 2

    @property
    def url(self) -> str:
        return f"opc.tcp://{self.host}:{self.server.port}"

    @contextlib.asynccontextmanager
    async def client(self, user: str = "anna", patience_s: float = 20.0) -> AsyncIterator[Client]:
        """A client that has logged in."""
        client = Client(self.url, timeout=patience_s)
        client.application_uri = CLIENT_URI
        own = self.client_pki.own()
        await client.set_security(SecurityPolicyBasic256Sha256, own.der, own.key_path)
        client.set_user(user)
        client.set_password(PASSWORD)
        async with client:
            yield client

    def node_id(self, key: str) -> ua.NodeId:
        return ua.NodeId(key, self.namespace)


@contextlib.asynccontextmanager
async def house(
    folder: Path, surface: Surface, backend: Backend, host: str = "127.0.62.1", limits: Limits | None = None
) -> AsyncIterator[House]:
    """A server with the users anna (operator) and vera (viewer), and one trusted client."""
    now = datetime.now(UTC)
    pki, client_pki = Pki(folder / "pki"), Pki(folder / "client")
    pki.ensure_own("urn:test:gateway", [host], now)
    client_pki.ensure_own(CLIENT_URI, [host], now)
    certificate = folder / "client.der"
    certificate.write_bytes(client_pki.own().der)
    pki.trust(certificate, now)
    users = UserFile(folder / "users.toml")
    users.add("anna", PASSWORD, ["OPERATOR"])
    users.add("vera", PASSWORD, ["VIEWER"])
    settings = ServerSettings(host, 0, "urn:test:gateway")
    server = OperatorServer(settings, pki, Doorman(users, 5, 300.0), surface, backend, limits, now=wall_now)
    await server.start()
    try:
        yield House(server, client_pki, host)
    finally:
        await server.stop()
