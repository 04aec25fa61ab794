"""An operator at a real daemon: a user that ``gridlatch users add`` made, a certificate that ``gridlatch certs trust``
took, and asyncua's client."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from asyncua import Client, Node, ua
from asyncua.crypto import security_policies
from certificate_kit import make
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

NAMESPACE = "urn:gridlatch:surface"
CLIENT_URI = "urn:test:hmi"
PASSWORD = "correct-horse-battery"


def gridlatch(folder: Path, *arguments: str, given: str = "") -> str:
    """The command line, as a person types it on the box; what it wrote."""
    command = [sys.executable, "-m", "gateway.cli", *arguments, "--site", str(folder)]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def equip(folder: Path, **users: str) -> None:
    """Make users (name=role, all with ``PASSWORD``) and the HMI's certificate, and trust it. Before or after the start."""
    now = datetime.now(UTC)
    party = make("hmi", uris=(CLIENT_URI,), begins=now - timedelta(days=1), ends=now + timedelta(days=90))
    (folder / "hmi.der").write_bytes(party.der)
    key = party.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "hmi.pem").write_bytes(key)
    gridlatch(folder, "certs", "trust", str(folder / "hmi.der"))
    for name, role in users.items():
        gridlatch(folder, "users", "add", name, "--role", role, "--password-stdin", given=PASSWORD + "\n")


class Person:
    """Somebody with an open session. ns: index of our namespace."""

    def __init__(self, client: Client, ns: int) -> None:
        self.client = client
        self.ns = ns

    def node(self, key: str) -> Node:
        """The node of this key."""
        return self.client.get_node(ua.NodeId(key, self.ns))

    async def read(self, key: str) -> ua.DataValue:
        """Value, status and times of a variable."""
        return await self.node(key).read_data_value(raise_on_bad_status=False)

    async def value(self, key: str) -> Any:
        """The value alone."""
        return (await self.read(key)).Value.Value

    async def values(self, keys: Sequence[str]) -> list[Any]:
        """Values of many variables."""
        nodes = [self.node(key) for key in keys]
        found = await self.client.read_attributes(nodes, ua.AttributeIds.Value)
        return [one.Value.Value for one in found]

    async def call(self, key: str, type_name: str, method: str, *inputs: ua.Variant) -> ua.CallMethodResult:
        """Call a method of an object; never raises for a refusal."""
        request = ua.CallMethodRequest()
        request.ObjectId = ua.NodeId(key, self.ns)
        request.MethodId = ua.NodeId(f"Type/{type_name}/{method}", self.ns)
        request.InputArguments = list(inputs)
        return (await self.client.uaclient.call([request]))[0]

    async def children(self, key: str) -> list[str]:
        """Keys of what is below an object or folder."""
        start = self.node(key) if key else self.client.nodes.objects
        nodes = await start.get_children()
        return [str(node.nodeid.Identifier) for node in nodes if node.nodeid.NamespaceIndex == self.ns]


def text(value: str) -> ua.Variant:
    """A text as an argument."""
    return ua.Variant(value, ua.VariantType.String)


@contextlib.asynccontextmanager
async def person(folder: Path, url: str, user: str, password: str = PASSWORD) -> AsyncIterator[Person]:
    """A session of this user."""
    client = Client(url, timeout=20)
    client.application_uri = CLIENT_URI
    client.set_user(user)
    client.set_password(password)
    await client.set_security(
        security_policies.SecurityPolicyBasic256Sha256,
        certificate=str(folder / "hmi.der"),
        private_key=str(folder / "hmi.pem"),
        server_certificate=str(folder / "pki/own/cert.der"),
    )
    async with client:
        yield Person(client, await client.get_namespace_index(NAMESPACE))


async def listening(port: int, timeout_s: float = 30.0) -> None:
    """Wait until somebody listens at this port of 127.0.0.1."""
    async with asyncio.timeout(timeout_s):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return
