"""A server for operators to be attacked, and clients that do what no honest client does.

``House`` is the real server (``OperatorServer``) on a loopback address, with a backend that says yes by role and keeps what
it is told. ``Peer`` is a client that speaks the protocol itself, on the codecs and the cryptography of asyncua: each step
(Hello, channel, session, log-in, request) can be left out, repeated, or done wrongly.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from asyncua import ua
from asyncua.client.ua_client import UASocketProtocol
from asyncua.crypto import security_policies as sp
from asyncua.crypto import uacrypto
from asyncua.ua.ua_binary import struct_from_binary
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.clock import wall_now
from protocols.opcua.hardening import Limits, ServerSettings
from protocols.opcua.pki import Pki, thumbprint
from protocols.opcua.server import OperatorServer
from protocols.opcua.surface import (
    Answer,
    Argument,
    Caller,
    DataType,
    Deed,
    Doing,
    EventPage,
    EventType,
    Folder,
    HistoryPage,
    Method,
    Object,
    ObjectType,
    Status,
    Surface,
    Variable,
)
from protocols.opcua.users import Doorman, UserFile

NAMESPACE = "urn:gridlatch:surface"
INDEX = 2
PASSWORD = "correct-horse-battery"
BASIC = sp.SecurityPolicyBasic256Sha256
AES128 = sp.SecurityPolicyAes128Sha256RsaOaep
AES256 = sp.SecurityPolicyAes256Sha256RsaPss
FEEDERS = 60
_addresses = itertools.count(2)


def fresh_address() -> str:
    """A loopback address that no other test uses, so that limits by address don't reach from one test into another."""
    number = next(_addresses)
    return f"127.0.{62 + number // 250}.{1 + number % 250}"


def node(text: str) -> ua.NodeId:
    """A node of our namespace."""
    return ua.NodeId(text, INDEX)


def std(number: int) -> ua.NodeId:
    """A node of OPC UA's own namespace."""
    return ua.NodeId(number)


@dataclass(frozen=True)
class Keys:
    """A client's certificate and key."""

    name: str
    uri: str
    der: bytes
    key: Any

    @property
    def certificate(self) -> x509.Certificate:
        """The certificate."""
        return x509.load_der_x509_certificate(self.der)

    def pem(self) -> bytes:
        """The key, as in a file."""
        form = serialization.PrivateFormat.PKCS8
        data: bytes = self.key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        return data

    @property
    def thumbprint(self) -> str:
        """SHA-256, hexadecimal."""
        return thumbprint(self.der)


def make_keys(name: str, begins: datetime | None = None, days: int = 365) -> Keys:
    """A self-signed application certificate."""
    key = rsa.generate_private_key(65537, 2048)
    uri = f"urn:test:{name}"
    begins = begins or datetime.now(UTC) - timedelta(hours=1)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = x509.KeyUsage(True, True, True, True, False, True, False, False, False)
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    for extension, critical in (
        (x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri), x509.DNSName("localhost")]), False),
        (usage, True),
        (x509.ExtendedKeyUsage(both), False),
        (x509.BasicConstraints(False, None), True),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
    ):
        builder = builder.add_extension(extension, critical)
    builder = builder.not_valid_before(begins).not_valid_after(begins + timedelta(days=days))
    return Keys(name, uri, builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER), key)


class Place(Protocol):
    """What a client has to know of a server."""

    @property
    def host(self) -> str:
        """Where it listens."""

    @property
    def port(self) -> int:
        """And at which port."""

    @property
    def own(self) -> Keys:
        """Its certificate, as it is now."""


@dataclass(frozen=True)
class Endpoint:
    """A server that runs elsewhere, of which no more than the certificate is known."""

    host: str
    port: int
    own: Keys


@dataclass
class FakeBackend:
    """Yes to OPERATOR, no to others; keeps everything."""

    deeds: list[Deed] = field(default_factory=list)
    calls: list[tuple[Caller, str, str, tuple[Any, ...]]] = field(default_factory=list)
    hold: asyncio.Event | None = None
    fail: Exception | None = None
    ended: int = 0

    def may_read(self, caller: Caller, type_name: str, variable: str) -> bool:
        """All but Secret, which is for SECADM."""
        return variable != "Secret" or "SECADM" in caller.roles

    def may_call(self, caller: Caller, type_name: str, method: str) -> bool:
        """Operators."""
        return "OPERATOR" in caller.roles

    def may_see_events(self, caller: Caller, event_type: str) -> bool:
        """Secrets are for SECADM."""
        return event_type != "SecretEvent" or "SECADM" in caller.roles

    async def call(self, caller: Caller, object_key: str, type_name: str, method: str, inputs: Any) -> Answer:
        """Kept, held up or failed as the test says."""
        self.calls.append((caller, object_key, method, inputs))
        if self.hold is not None:
            await self.hold.wait()
        if self.fail is not None:
            raise self.fail
        self.ended += 1
        return Answer(Status.OK, "done")

    async def acknowledge(self, caller: Caller, alarm_key: str, comment: str) -> Answer:
        """Done."""
        return Answer(Status.OK, "done")

    async def history(self, *_: Any) -> HistoryPage:
        """None."""
        return HistoryPage([])

    async def event_history(self, *_: Any) -> EventPage:
        """None."""
        return EventPage([])

    def tell(self, deed: Deed) -> None:
        """Kept."""
        self.deeds.append(deed)

    def told(self, doing: Doing) -> list[Deed]:
        """What was told of this kind."""
        return [deed for deed in self.deeds if deed.doing is doing]


def surface() -> Surface:
    """Sixty breakers, and a secret."""
    text, number = DataType.STRING, DataType.DOUBLE
    breaker = ObjectType(
        "BreakerType",
        "a breaker",
        (Variable("Kw", number, "power", history=True), Variable("Note", text, "words")),
        (
            Method("Open", "opens", (Argument("Reason", text, "why"),), ()),
            Method("Set", "sets", (Argument("Value", number, "what"), Argument("Words", text, "", array=True)), ()),
        ),
    )
    security = ObjectType(
        "SecurityType",
        "security",
        (Variable("Secret", text, "not for all", history=True),),
        (Method("Wipe", "", (), ()),),
    )
    feeders = tuple(
        Object(f"Feeder/F{number}", f"F{number}", "Folder/Feeders", "BreakerType") for number in range(FEEDERS)
    )
    return Surface(
        NAMESPACE,
        (breaker, security),
        (
            EventType("ShedStarted", "begins"),
            EventType("SecretEvent", "not for all"),
            EventType("Lost", "", alarm=True),
        ),
        (Folder("Folder/Feeders", "Feeders"),),
        (*feeders, Object("Security", "Security", "", "SecurityType")),
    )


class House:
    """The server and what it needs. users: name → roles; all have the same password."""

    def __init__(self, folder: Path, trusted: list[Keys], own: Keys, limits: Limits, **settings: Any) -> None:
        self.backend = FakeBackend()
        self.pki = Pki(folder / "pki")
        (folder / "pki/own").mkdir(parents=True)
        (folder / "pki/own/cert.der").write_bytes(own.der)
        (folder / "pki/own/key.pem").write_bytes(own.pem())
        (folder / "pki/own/key.pem").chmod(0o600)
        for keys in trusted:
            path = folder / f"{keys.name}.der"
            path.write_bytes(keys.der)
            self.trust(path, keys)
        self.users = UserFile(folder / "users.toml")
        self.doorman = Doorman(self.users, lock_out_after=4, lock_out_s=300)
        self.own = own
        settings = {"host": "127.0.61.7", "port": 0, "application_uri": own.uri, "max_sessions": 20} | settings
        self.settings = ServerSettings(**settings)
        self.server = OperatorServer(
            self.settings, self.pki, self.doorman, surface(), self.backend, limits, now=wall_now
        )

    @property
    def host(self) -> str:
        """Where the server listens."""
        return self.settings.host

    @property
    def port(self) -> int:
        """And at which port."""
        return int(self.server.port)

    def trust(self, path: Path, keys: Keys) -> None:
        """Trust a certificate, at a time when it was valid."""
        self.pki.trust(path, keys.certificate.not_valid_before_utc + timedelta(minutes=1))

    def add_user(self, name: str, *roles: str) -> None:
        """Another user, with the password of all."""
        self.users.add(name, PASSWORD, roles)

    async def settled(self) -> None:
        """Wait until nobody is there, not even somebody who hasn't logged in."""
        door = self.server._door
        await until(lambda: not door._core.sessions and not door._lobby.everybody())


async def until(true: Any, longest_s: float = 30.0) -> None:
    """Wait until something is so; fails after longest_s."""
    async with asyncio.timeout(longest_s):
        while not true():  # noqa: ASYNC110 - what is waited for happens in many places
            await asyncio.sleep(0.01)


class Peer:
    """A client under the test's own hand."""

    def __init__(self, house: Place, keys: Keys | None, policy: Any = BASIC, address: str = "") -> None:
        self.house = house
        self.keys = keys
        self.address = address or fresh_address()
        if keys is None:
            self.policy = sp.SecurityPolicyNone()
        else:
            mode = ua.MessageSecurityMode.SignAndEncrypt
            self.policy = policy(house.own.certificate, keys.certificate, keys.key, mode)
        self.wire = UASocketProtocol(5, self.policy)
        self.nonce = b""
        self.token = ua.NodeId()

    async def connect(self) -> Peer:
        """The TCP connection."""
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self.wire, self.house.host, self.house.port, local_addr=(self.address, 0))
        return self

    async def open(self, **wrong: Any) -> Peer:
        """Hello and OpenSecureChannel; wrong replaces its parameters."""
        await self.connect()
        await self.wire.send_hello("opc.tcp://x")
        await self.channel(**wrong)
        return self

    async def channel(self, **wrong: Any) -> Any:
        """OpenSecureChannel."""
        parameters = ua.OpenSecureChannelParameters()
        parameters.RequestType = ua.SecurityTokenRequestType.Issue
        parameters.SecurityMode = self.policy.Mode
        parameters.RequestedLifetime = 60_000
        parameters.ClientNonce = os.urandom(self.policy.secure_channel_nonce_length)
        for name, value in wrong.items():
            setattr(parameters, name, value)
        return await self.wire.open_secure_channel(parameters)

    async def session(self, **wrong: Any) -> Any:
        """CreateSession; wrong replaces its parameters."""
        assert self.keys is not None
        request = ua.CreateSessionRequest()
        parameters = request.Parameters
        parameters.ClientDescription.ApplicationUri = self.keys.uri
        parameters.ClientDescription.ApplicationType = ua.ApplicationType.Client
        parameters.ClientNonce = os.urandom(32)
        parameters.ClientCertificate = self.keys.der
        parameters.EndpointUrl = "opc.tcp://127.0.61.7:4840"
        parameters.RequestedSessionTimeout = 60_000
        for name, value in wrong.items():
            holder = parameters.ClientDescription if name == "ApplicationUri" else parameters
            setattr(holder, name, value)
        response = await self.ask(request, ua.CreateSessionResponse)
        self.nonce = response.Parameters.ServerNonce
        self.token = self.wire.authentication_token = response.Parameters.AuthenticationToken
        return response.Parameters

    def identity(self, user: str, password: str) -> ua.UserNameIdentityToken:
        """A password as it should be sent."""
        token = ua.UserNameIdentityToken()
        token.PolicyId = "username"
        token.UserName = user
        secret = password.encode() + self.nonce
        plain = len(secret).to_bytes(4, "little") + secret
        token.Password = self.policy.encrypt_asymmetric(self.house.own.certificate.public_key(), plain)
        token.EncryptionAlgorithm = self.policy.AsymmetricEncryptionURI
        return token

    async def activate(self, identity: Any, signature: bytes | None = None, user_signature: Any = None) -> Any:
        """ActivateSession."""
        request = ua.ActivateSessionRequest()
        signed = self.policy.asymmetric_cryptography.signature(self.house.own.der + self.nonce)
        request.Parameters.ClientSignature.Signature = signed if signature is None else signature
        request.Parameters.ClientSignature.Algorithm = self.policy.AsymmetricSignatureURI
        request.Parameters.UserIdentityToken = identity
        if user_signature is not None:
            request.Parameters.UserTokenSignature = user_signature
        response = await self.ask(request, ua.ActivateSessionResponse)
        self.nonce = response.Parameters.ServerNonce
        return response

    async def log_in(self, user: str = "ola", password: str = PASSWORD, **wrong: Any) -> Peer:
        """All of it."""
        await self.open()
        await self.session(**wrong)
        await self.activate(self.identity(user, password))
        return self

    async def ask(self, request: Any, response: Any, token: ua.NodeId | None = None) -> Any:
        """Send a request, with the session's token or another one; the response, or UaStatusCodeError."""
        own = self.wire.authentication_token
        if token is not None:
            self.wire.authentication_token = token
        try:
            data = await self.wire.send_request(request, 5)
        finally:
            self.wire.authentication_token = own
        found = struct_from_binary(response, data)
        found.ResponseHeader.ServiceResult.check()
        return found

    async def read(
        self, *nodes: ua.NodeId, token: ua.NodeId | None = None, attribute: Any = None
    ) -> list[ua.DataValue]:
        """The values of some nodes."""
        request = ua.ReadRequest()
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        for each in nodes or (node("Feeder/F1/Kw"),):
            request.Parameters.NodesToRead.append(
                ua.ReadValueId(NodeId=each, AttributeId=attribute or ua.AttributeIds.Value)
            )
        return (await self.ask(request, ua.ReadResponse, token)).Results

    async def call(self, target: str, method: str, *inputs: ua.Variant, token: ua.NodeId | None = None) -> Any:
        """One call: the result."""
        request = ua.CallRequest()
        request.Parameters.MethodsToCall = [ua.CallMethodRequest(node(target), node(method), list(inputs))]
        return (await self.ask(request, ua.CallResponse, token)).Results[0]

    async def open_breaker(self, why: str = "because", feeder: str = "F1", **more: Any) -> Any:
        """The call that everybody is after."""
        return await self.call(
            f"Feeder/{feeder}", "Type/BreakerType/Open", ua.Variant(why, ua.VariantType.String), **more
        )

    async def subscribe(self, *nodes: ua.NodeId, **parameters: Any) -> int:
        """A subscription to values: its id."""
        request = ua.CreateSubscriptionRequest()
        request.Parameters.RequestedPublishingInterval = 50
        request.Parameters.RequestedLifetimeCount = 1000
        request.Parameters.RequestedMaxKeepAliveCount = 100
        request.Parameters.PublishingEnabled = True
        for name, value in parameters.items():
            setattr(request.Parameters, name, value)
        number = (await self.ask(request, ua.CreateSubscriptionResponse)).Parameters.SubscriptionId
        if nodes:
            await self.watch(number, *nodes)
        return int(number)

    async def watch(self, subscription: int, *nodes: ua.NodeId, queue: int = 1) -> list[Any]:
        """Monitored items for values."""
        request = ua.CreateMonitoredItemsRequest()
        request.Parameters.SubscriptionId = subscription
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        for number, each in enumerate(nodes):
            wanted = ua.MonitoredItemCreateRequest()
            wanted.ItemToMonitor = ua.ReadValueId(NodeId=each, AttributeId=ua.AttributeIds.Value)
            wanted.MonitoringMode = ua.MonitoringMode.Reporting
            wanted.RequestedParameters.ClientHandle = number
            wanted.RequestedParameters.QueueSize = queue
            wanted.RequestedParameters.DiscardOldest = True
            request.Parameters.ItemsToCreate.append(wanted)
        return list((await self.ask(request, ua.CreateMonitoredItemsResponse)).Results)

    async def publish(self, *acknowledge: tuple[int, int]) -> Any:
        """One Publish: its result."""
        request = ua.PublishRequest()
        request.Parameters.SubscriptionAcknowledgements = [
            ua.SubscriptionAcknowledgement(SubscriptionId=number, SequenceNumber=sequence)
            for number, sequence in acknowledge
        ]
        return (await self.ask(request, ua.PublishResponse)).Parameters

    @property
    def closed(self) -> bool:
        """Whether the connection is gone."""
        return self.wire.transport is None

    async def gone(self, longest_s: float = 30.0) -> None:
        """Wait until the server has hung up."""
        await until(lambda: self.closed, longest_s)

    def close(self) -> None:
        """Hang up."""
        if self.wire.transport is not None:
            self.wire.transport.abort()


def sign_as_user(peer: Peer, keys: Keys) -> ua.SignatureData:
    """The signature that proves the key of a user's certificate."""
    data = peer.house.own.der + peer.nonce
    pss = peer.policy.AsymmetricSignatureURI.endswith("pss-sha2-256")
    sign = uacrypto.sign_pss_sha256 if pss else uacrypto.sign_sha256
    return ua.SignatureData(peer.policy.AsymmetricSignatureURI, sign(keys.key, data))


def long_ago() -> datetime:
    """When an expired certificate was made."""
    return datetime.now(UTC) - timedelta(days=800)
