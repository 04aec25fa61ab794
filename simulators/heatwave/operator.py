"""The operator of the story: a person at an OPC UA client, with a certificate, a name and a password of their own.

A client as others write them: asyncua's, against what the gateway offers, knowing nothing of its code. Every session is
signed and encrypted; the gateway's certificate is the one that was carried over from its box. While the gateway is dark
the client keeps trying, and shows what it sees when it is back.

What must stay true: the password is made at random for one performance and goes to the gateway's command line through
standard input; it is on no screen, in no file and in no argument list.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
from dataclasses import dataclass
from pathlib import Path

from asyncua import Client, Node, ua
from asyncua.crypto.security_policies import SecurityPolicyAes256Sha256RsaPss

from simulators.opcua import certificates

NAME, ROLE = "shift.supervisor", "OPERATOR"
APPLICATION_URI = "urn:gridlatch:simulator:console"
NAMESPACE = "urn:gridlatch:surface"
REQUEST_S = 5.0
AGAIN_S = 0.5
LOOK_S = 1.0


logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # a gateway that is dark is part of the story


class OperatorError(Exception):
    """The operator could not do what the story needs; the text says why."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the gateway answered to an override. consumed: a step has taken it already."""

    message: str
    consumed: bool
    step: str
    outcome: str


class Console:
    """The operator's client. folder: where its certificate lies; gateway_certificate: there once the gateway has run.

    sessions: how many it has had. sees: what it shows of the procedure, empty while it has no connection.
    """

    def __init__(self, folder: Path, host: str, port: int, gateway_certificate: Path) -> None:
        self.certificate = folder / "console.der"
        self.password = secrets.token_urlsafe(18)
        self.sessions = 0
        self.sees = ""
        self._key = folder / "console.pem"
        self._url = f"opc.tcp://{host}:{port}"
        self.port = port
        self._host = host
        self._gateway_certificate = gateway_certificate
        self._client: Client | None = None
        self._index = 0
        self._why = "not tried yet"
        self._task: asyncio.Task[None] | None = None

    def make_certificate(self) -> None:
        """The console's own certificate, which the gateway's owner has to trust."""
        made = certificates.fresh("console of the shift supervisor", APPLICATION_URI, self._host)
        certificates.write(made, self.certificate, self._key)

    def start(self) -> None:
        """Connect, and go on trying."""
        self._task = asyncio.get_running_loop().create_task(self._stay())

    async def end(self) -> None:
        """Log out."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    @property
    def connected(self) -> bool:
        """Whether there is a session now."""
        return self._client is not None

    @property
    def why(self) -> str:
        """Why there is none."""
        return self._why

    async def override(self, decision: str, reason: str) -> Told:
        """Call LoadShedding.Override for the procedure that runs. Raises OperatorError."""
        client = self._client
        if client is None:
            raise OperatorError(f"no session: {self._why}")
        call = ua.CallMethodRequest(
            ObjectId=self._node("LoadShedding"),
            MethodId=self._node("Type/LoadSheddingType/Override"),
            InputArguments=[
                ua.Variant("", ua.VariantType.String),
                ua.Variant(decision, ua.VariantType.String),
                ua.Variant("", ua.VariantType.String),
                ua.Variant(reason, ua.VariantType.String),
                ua.Variant(math.nan, ua.VariantType.Double),
            ],
        )
        try:
            (result,) = await client.uaclient.call([call])
        except (OSError, TimeoutError, ua.UaError) as error:
            raise OperatorError(f"override {decision}: {error or type(error).__name__}") from error
        outputs = [one.Value for one in result.OutputArguments or []]
        if not result.StatusCode.is_good() or len(outputs) != 4:
            raise OperatorError(f"override {decision}: {result.StatusCode.name} {outputs}")
        message, consumed, step, outcome = outputs
        return Told(str(message), bool(consumed), str(step), str(outcome))

    async def _stay(self) -> None:
        """One session after the other."""
        while True:
            try:
                await self._session()
            except (OSError, TimeoutError, ua.UaError, ValueError) as error:
                self._why = str(error) or type(error).__name__
            await asyncio.sleep(AGAIN_S)

    async def _session(self) -> None:
        client = Client(self._url, timeout=REQUEST_S)
        client.application_uri = APPLICATION_URI
        client.name = client.description = "Console of the shift supervisor"
        client.set_user(NAME)
        client.set_password(self.password)
        await client.set_security(
            SecurityPolicyAes256Sha256RsaPss,
            str(self.certificate),
            str(self._key),
            server_certificate=str(self._gateway_certificate),
        )
        await client.connect()
        try:
            self._index = await client.get_namespace_index(NAMESPACE)
            shown = client.get_node(self._node("LoadShedding/Sentence"))
            await self._look(shown)
            self._client, self._why = client, ""
            self.sessions += 1
            while True:
                await asyncio.sleep(LOOK_S)
                await self._look(shown)
        finally:
            self._client, self.sees = None, ""
            with contextlib.suppress(OSError, TimeoutError, ua.UaError):
                await asyncio.wait_for(client.disconnect(), REQUEST_S)

    async def _look(self, shown: Node) -> None:
        self.sees = str(await shown.read_value() or "no procedure")

    def _node(self, key: str) -> ua.NodeId:
        return ua.NodeId(ua.String(key), ua.Int16(self._index))
