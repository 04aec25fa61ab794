"""One session with an OPC UA device: signed and encrypted, with the one certificate that the device is known by.

What must stay true:

* Nothing but the pinned certificate is talked to, in its dates and with the application URI that was configured. There
  is no trust list here, no first-use trust, and no policy without encryption.
* Each request has a deadline, and ends with an answer or a FieldError. Nothing is repeated: asyncua's own watchdog,
  reconnection and publish loop aren't used.
* Namespaces are looked up by their URIs at the start of each session: indices of the last one mean nothing.
* A loss of the connection is told once, with its reason; ``close`` ends everything that runs here.

A session lives as long as its connection; the device forgets it after ``SESSION_S`` without us. On a crash of the gateway
the same happens.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TypeVar, cast
from uuid import UUID

from asyncua import Client, ua
from asyncua.crypto.security_policies import (
    SecurityPolicy,
    SecurityPolicyAes128Sha256RsaOaep,
    SecurityPolicyAes256Sha256RsaPss,
    SecurityPolicyBasic256Sha256,
    SecurityPolicyNone,
)
from asyncua.ua.ua_binary import struct_from_binary
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from protocols.errors import FieldError, InvalidRequest, LinkDown, MalformedReply
from protocols.link import spawn
from protocols.opcua import certificates as certs
from protocols.opcua.faults import field_error
from protocols.opcua.site import AccessLike, DeviceLike, NodeLike
from protocols.opcua.time_limit import time_limit
from protocols.wire import reset_on_close

CONNECT_S = 8.0
"""All of a new session, from the socket to the namespaces: signatures take a small device's processor a while."""
SESSION_S = 60.0
"""The device may forget a session that says nothing for so long."""
CHANNEL_S = 3600.0
MOST_NODES = 500
"""Nodes in one request, where the device doesn't say that it takes fewer."""
GOODBYE_S = 1.0
LARGEST_FILE_BYTES = 64 * 1024

POLICIES: dict[str, type[SecurityPolicy]] = {
    "Basic256Sha256": SecurityPolicyBasic256Sha256,
    "Aes128_Sha256_RsaOaep": SecurityPolicyAes128Sha256RsaOaep,
    "Aes256_Sha256_RsaPss": SecurityPolicyAes256Sha256RsaPss,
}


class Response(Protocol):
    """What every answer of a service begins with."""

    @property
    def ResponseHeader(self) -> ua.ResponseHeader: ...


R = TypeVar("R", bound=Response)


class Identity(Protocol):
    """Who the gateway is: its certificate in DER, the file of its key in PEM, its application URI."""

    @property
    def der(self) -> bytes: ...
    @property
    def key_path(self) -> Path: ...
    @property
    def application_uri(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Pinned:
    """The certificate that a device is known by."""

    certificate: x509.Certificate
    facts: certs.Facts

    @classmethod
    def read(cls, access: AccessLike) -> Pinned:
        """The certificate in the file. Raises ValueError with a sentence."""
        try:
            der = certs.der_of(access.server_cert.read_bytes()[:LARGEST_FILE_BYTES], "CERTIFICATE")
            certificate = certs.parse(der)
        except (OSError, certs.CertificateRefused) as error:
            raise ValueError(f"server_cert {access.server_cert}: {error}") from None
        facts = certs.facts(der, certificate)
        if access.application_uri and facts.application_uri != access.application_uri:
            raise ValueError(
                f"server_cert {access.server_cert} is that of {facts.application_uri!r}, "
                f"and application_uri is {access.application_uri!r}"
            )
        return cls(certificate, facts)

    def check_dates(self, now: datetime) -> None:
        """Raise LinkDown outside of its dates."""
        if now > self.facts.expires:
            raise LinkDown(f"the certificate of the device expired on {self.facts.expires:%Y-%m-%d %H:%M} UTC")
        if now < self.facts.not_before:
            raise LinkDown(
                f"the certificate of the device is not valid before {self.facts.not_before:%Y-%m-%d %H:%M} UTC"
            )


class Session:
    """One session. Made by ``connect``; used by one task at a time, but for ``publish``, which waits beside it."""

    def __init__(self, client: Client, device: DeviceLike, on_lost: Callable[[str], None]) -> None:
        self._client = client
        self._device = device
        self._on_lost = on_lost
        self._lost = False
        self._indices: dict[str, int] = {}
        self._nodes: dict[tuple[str, str], ua.NodeId] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.most_read = MOST_NODES
        self.most_items = MOST_NODES

    @classmethod
    async def connect(
        cls,
        device: DeviceLike,
        pinned: Pinned,
        identity: Callable[[], Identity],
        wall: Callable[[], float],
        on_lost: Callable[[str], None],
    ) -> Session:
        """A new session. wall: Unix seconds. Raises FieldError."""
        access = device.opcua
        assert access is not None, "a device of this driver"
        now = datetime.fromtimestamp(wall(), UTC)
        pinned.check_dates(now)
        host = f"[{device.host}]" if ":" in device.host else device.host
        client = Client(f"opc.tcp://{host}:{device.port}{access.path}", timeout=CONNECT_S)
        session = cls(client, device, on_lost)
        try:
            async with time_limit(CONNECT_S):
                user, password = await asyncio.to_thread(_prepare, client, access, pinned, identity)
                await session._open(user, password)
        except Exception as error:
            session.close()
            raise await _why(error, session, pinned, now) from error
        except BaseException:
            session.close()
            raise
        session._begin()
        return session

    async def _open(self, user: str | None, password: str | None) -> None:
        client = self._client
        try:
            await client.connect_socket()
        except (OSError, TimeoutError):
            raise LinkDown(f"no connection to {self._device.host}:{self._device.port}") from None
        if client.uaclient.protocol is not None:
            reset_on_close(client.uaclient.protocol.transport)
        await client.send_hello()
        await client.open_secure_channel()
        await client.create_session()
        await client.activate_session(username=user, password=password)
        await self.read_namespaces()

    async def read_namespaces(self) -> None:
        """Learn which index each namespace has in this session, and how much the device takes at once."""
        read = await self.read_nodes([_NAMESPACES, _MOST_READ, _MOST_ITEMS])
        uris = read[0].Value.Value if read[0].Value is not None else None
        if not isinstance(uris, list):
            raise MalformedReply("the device doesn't tell its namespaces")
        indices = {uri: index for index, uri in reversed(list(enumerate(uris)))}
        if indices != self._indices:
            self._indices = indices
            self._nodes.clear()
        self.most_read, self.most_items = (_limit(value) for value in read[1:])

    def _begin(self) -> None:
        """From now on the device's own time-out holds, and a loss is told."""
        protocol = self._client.uaclient.protocol
        if protocol is None or protocol.transport is None:
            raise LinkDown("the device closed the connection at once")
        protocol.timeout = self._device.timeout_s
        theirs = protocol.on_connection_lost

        def lost(error: Exception | None) -> None:
            if theirs is not None:
                theirs(error)
            self.give_up(f"the device closed the connection{f' ({error})' if error else ''}")

        protocol.on_connection_lost = lost
        self._tasks.append(spawn(self._renew(), f"channel of {self._device.name}"))

    async def _renew(self) -> None:
        """Keep the secure channel's keys young."""
        while True:
            await asyncio.sleep(self._client.secure_channel_timeout / 1000 * 0.75)
            try:
                await self._client.open_secure_channel(renew=True)
            except Exception as error:  # noqa: BLE001 - mapped: the session ends, the link says why and begins anew
                self.give_up(f"the secure channel could not be renewed: {field_error(error)}")
                return

    def give_up(self, reason: str) -> None:
        """This session can't be trusted any more: told once."""
        if not self._lost:
            self._lost = True
            self._on_lost(reason)

    def close(self) -> None:
        """End it at once; bytes that have not arrived are thrown away, those in the kernel's buffers, too."""
        self._lost = True
        for task in self._tasks:
            task.cancel()
        protocol = self._client.uaclient.protocol
        if protocol is not None and protocol.transport is not None:
            protocol.transport.abort()
        self._client.disconnect_socket()

    async def goodbye(self) -> None:
        """Tell the device that the session ends, so that it keeps none for us. Raises FieldError."""
        self._lost = True  # the loss that follows is no news
        request = ua.CloseSessionRequest()
        request.DeleteSubscriptions = True
        await self.ask(request, ua.CloseSessionResponse, GOODBYE_S, ending=True)

    def spawn(self, task: asyncio.Task[None]) -> None:
        """This task ends with the session."""
        self._tasks.append(task)

    def node(self, ref: NodeLike) -> ua.NodeId:
        """The node as this session knows it. Raises InvalidRequest for a namespace that the device doesn't have."""
        access = self._device.opcua
        uri = ref.namespace or (access.namespace if access is not None else "")
        found = self._nodes.get((uri, ref.identifier))
        if found is None:
            index = self._indices.get(uri)
            if index is None:
                raise InvalidRequest(f"the device has no namespace {uri!r}")
            found = self._nodes[uri, ref.identifier] = _node_id(ref.identifier, index)
        return found

    async def read_nodes(
        self, nodes: Sequence[ua.NodeId], attribute: ua.AttributeIds = ua.AttributeIds.Value
    ) -> list[ua.DataValue]:
        """Read one attribute of nodes, no older than now. Raises FieldError."""
        request = ua.ReadRequest()
        request.Parameters.MaxAge = 0
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        request.Parameters.NodesToRead = [ua.ReadValueId(NodeId=node, AttributeId=attribute) for node in nodes]
        response = await self.ask(request, ua.ReadResponse)
        if len(response.Results) != len(nodes):
            raise MalformedReply(f"{len(response.Results)} values came for {len(nodes)} nodes")
        return list(response.Results)

    async def ask(self, request: object, answer: type[R], timeout_s: float | None = None, *, ending: bool = False) -> R:
        """Send one request and wait for its answer. Raises FieldError; LinkDown if nothing left."""
        protocol = self._client.uaclient.protocol
        if (self._lost and not ending) or protocol is None or protocol.transport is None:
            raise LinkDown("the session has ended")
        try:
            # A dropped answer must not hold the link: a bound of our own around asyncua's.
            async with time_limit((timeout_s or protocol.timeout) + 0.5):
                data = await protocol.send_request(request, timeout_s)
            response = struct_from_binary(answer, data)
            response.ResponseHeader.ServiceResult.check()
        except Exception as error:
            raise field_error(error) from error
        return response


def _prepare(
    client: Client, access: AccessLike, pinned: Pinned, identity: Callable[[], Identity]
) -> tuple[str | None, str | None]:
    """Certificates and keys, which take files and arithmetic: in a thread. User and password, None for neither."""
    try:
        own = identity()
        key = serialization.load_pem_private_key(own.key_path.read_bytes(), None)
        certificate = x509.load_der_x509_certificate(own.der)
        secret = access.secret_file.read_text(encoding="utf-8").rstrip("\r\n") if access.secret_file else None
    except (OSError, ValueError) as error:
        raise LinkDown(f"the gateway's own certificate, key or password can't be read: {error}") from None
    policy = POLICIES[access.policy](
        pinned.certificate, certificate, key, ua.MessageSecurityMode.SignAndEncrypt, host_cert_chain=[]
    )
    client.name = client.description = "gridlatch"
    client.application_uri = own.application_uri
    client.session_timeout = int(SESSION_S * 1000)
    client.secure_channel_timeout = int(CHANNEL_S * 1000)
    client.security_policy = cast(SecurityPolicyNone, policy)
    client.uaclient.set_security(policy)
    return access.user or None, secret


async def _why(error: Exception, session: Session, pinned: Pinned, now: datetime) -> FieldError:
    """Why there is no session. A device that breaks off may have shown another certificate: that is what to say."""
    if isinstance(error, LinkDown):
        return error
    shown = await _shown(session)
    if shown is not None and certs.thumbprint(shown) != pinned.facts.thumbprint:
        other = f"{certs.thumbprint(shown)[:16]}{_expiry(shown, now)}"
        known = pinned.facts.thumbprint[:16]
        return LinkDown(f"the device shows another certificate ({other}) than the one it is known by ({known})")
    return LinkDown(f"no session: {field_error(error)}")


async def _shown(session: Session) -> bytes | None:
    """The certificate of the device's endpoints, asked without security: for words alone, nothing else rests on it."""
    url = session._client.server_url
    client = Client(url.geturl(), timeout=2.0)
    with contextlib.suppress(Exception):
        async with time_limit(3.0):
            endpoints = await client.connect_and_get_server_endpoints()
        for endpoint in endpoints:
            if endpoint.ServerCertificate:
                return bytes(endpoint.ServerCertificate)
    return None


def _expiry(der: bytes, now: datetime) -> str:
    try:
        expires = certs.parse(der).not_valid_after_utc
    except certs.CertificateRefused:
        return ", unreadable"
    return f", expired on {expires:%Y-%m-%d}" if expires < now else ""


def _limit(value: ua.DataValue) -> int:
    """A limit of the device; none, nothing or 0 is no limit of its own."""
    raw = value.Value.Value if value.Value is not None else None
    return min(raw, MOST_NODES) if isinstance(raw, int) and raw > 0 else MOST_NODES


def _node_id(identifier: str, index: int) -> ua.NodeId:
    kind, _, text = identifier.partition("=")
    make = cast(Callable[[object, int, ua.NodeIdType | None], ua.NodeId], ua.NodeId)
    match kind:
        case "i":
            return make(int(text), index, None)  # the shortest of three encodings, which asyncua tells apart
        case "g":
            return make(UUID(text), index, ua.NodeIdType.Guid)
        case "b":
            return make(base64.b64decode(text), index, ua.NodeIdType.ByteString)
        case _:
            return make(text, index, ua.NodeIdType.String)


def standard_node(number: int) -> ua.NodeId:
    """A node of the standard's own namespace."""
    return _node_id(f"i={number}", 0)


_NAMESPACES = standard_node(ua.ObjectIds.Server_NamespaceArray)
_MOST_READ = standard_node(ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead)
_MOST_ITEMS = standard_node(ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall)
