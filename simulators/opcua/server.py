"""One RTU on the network: its server's life, its certificate, and its faults.

SignAndEncrypt alone, with the three policies that are not deprecated. **Any client certificate is accepted**: this is a
stand-in on loopback, and whom a real device trusts is its owner's matter. A user name and password are asked for where
the site says so.

What must stay true: a broken network (``close``, ``open``) costs connections alone; a restart costs sessions and
subscriptions, too, but moves no breaker. What an RTU is told of its breakers reaches its clients in that order, the last
value of each node at least.
"""

from __future__ import annotations

import asyncio

from asyncua import ua
from asyncua.common.connection import TransportLimits
from asyncua.crypto.security_policies import (
    SecurityPolicy,
    SecurityPolicyAes128Sha256RsaOaep,
    SecurityPolicyAes256Sha256RsaPss,
    SecurityPolicyBasic256Sha256,
    SecurityPolicyFactory,
    SecurityPolicyNone,
)
from asyncua.server.binary_server_asyncio import OPCUAProtocol

from simulators.field import ANY_PROTOCOL, RESTART_S, DeviceFault, Forgery, Later
from simulators.opcua import certificates
from simulators.opcua.points import Node
from simulators.opcua.rtu import Rtu, Variable
from simulators.opcua.wire import Closing, Link, RtuCore
from simulators.site import OpcuaRow

POLICIES: tuple[type[SecurityPolicy], ...] = (
    SecurityPolicyBasic256Sha256,
    SecurityPolicyAes128Sha256RsaOaep,
    SecurityPolicyAes256Sha256RsaPss,
)
ENCRYPTED = ua.MessageSecurityMode.SignAndEncrypt
TRANSPORT = "http://opcfoundation.org/UA-Profile/Transport/uatcp-uasc-uabinary"
LIMITS = TransportLimits(max_recv_buffer=65535, max_send_buffer=65535, max_chunk_count=256, max_message_size=1 << 24)
MAX_CONNECTIONS = 16


class RtuServer:
    """An RTU on the network (a ``FieldDevice``)."""

    possible = ANY_PROTOCOL | {
        DeviceFault.SKEWED_CLOCK,
        DeviceFault.STALE,
        DeviceFault.MISSED_PUBLISH,
        DeviceFault.CERTIFICATE,
        DeviceFault.DROP_SESSION,
        DeviceFault.DROP_SUBSCRIPTION,
        DeviceFault.RESTART,
    }

    def __init__(self, rtu: Rtu, row: OpcuaRow) -> None:
        """Raises OSError, ValueError for files that can't be read."""
        self.rtu = rtu
        self.host = row.host
        self.port = row.port
        self.identity = self._good = certificates.read(row.certificate, row.key)
        self._url = f"opc.tcp://{row.host}:{row.port}{row.path}"
        self._uri = self._good.uri
        self._user = row.user
        self._password = row.secret_file.read_text(encoding="utf-8").strip() if row.user and row.secret_file else ""
        self._strangers = 0
        self._core: RtuCore | None = None
        self._server: asyncio.Server | None = None
        self._links: list[OPCUAProtocol] = []
        self._closing = Closing()
        self._shown: dict[Node, Variable] = {}
        self._news = asyncio.Event()
        self._teller: asyncio.Task[None] | None = None
        rtu.changed = self._changed

    @property
    def name(self) -> str:
        return self.rtu.name

    @property
    def is_open(self) -> bool:
        return self._server is not None

    @property
    def connections(self) -> int:
        return len(self._links)

    @property
    def requests(self) -> int:
        return self.rtu.requests

    @property
    def writes(self) -> int:
        return self.rtu.writes

    async def open(self) -> None:
        """Listen, with what is left of the time before: subscriptions and sessions outlive a broken network."""
        if self._server is not None:
            return
        if self._core is None:
            self._core = self._boot()
            self._teller = asyncio.get_running_loop().create_task(self._tell(self._core))
        core = self._core
        policies = [_factory(one, ENCRYPTED, self.identity) for one in POLICIES]
        policies.append(_factory(SecurityPolicyNone, ua.MessageSecurityMode.None_, self.identity))
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Link(core, policies, self._links, self._closing, LIMITS),
            self.host,
            self.port,
            reuse_address=True,
        )

    def close(self) -> None:
        """Stop listening and reset every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for link in tuple(self._links):
            if link.transport is not None:
                link.transport.abort()

    async def end(self) -> None:
        """Power off: sessions and subscriptions are gone, too."""
        self.close()
        if self._teller is not None:
            self._teller.cancel()
            await asyncio.gather(self._teller, return_exceptions=True)
            self._teller = None
        if self._core is not None:
            core, self._core = self._core, None
            await core.drop_sessions()
            await core.drop_subscriptions()
            core.method_service.stop()

    async def restart(self, dark_s: float, strangers: int) -> None:
        """Off, and on again with another number of namespaces before the device's own. Raises OSError."""
        await self.end()
        self._strangers = strangers
        await asyncio.sleep(dark_s)
        await self.open()

    async def _show_certificate(self, how: Forgery | None) -> None:
        self.rtu.faults.certificate = how
        good = self._good
        self.identity = good if how is None else certificates.forged(how, good, self.name, self._uri, self.host)
        await self.restart(0.0, self._strangers)

    def _boot(self) -> RtuCore:
        self._shown.clear()
        core = RtuCore(self.rtu, self._uri, self._user, self._password, self._strangers)
        core.certificate, core.private_key = self.identity.certificate, self.identity.key
        core.max_connections = MAX_CONNECTIONS
        for level, policy in enumerate(POLICIES, 1):
            core.add_endpoint(self._endpoint(policy.URI, level))
        return core

    def _endpoint(self, policy: str, level: int) -> ua.EndpointDescription:
        token = ua.UserTokenPolicy(SecurityPolicyUri=policy)
        token.PolicyId = "user" if self._user else "anonymous"
        token.TokenType = ua.UserTokenType.UserName if self._user else ua.UserTokenType.Anonymous
        server = ua.ApplicationDescription(
            ApplicationUri=self._uri,
            ProductUri="urn:gridlatch:simulator",
            ApplicationName=ua.LocalizedText(self.name),
            ApplicationType=ua.ApplicationType.Server,
            DiscoveryUrls=[self._url],
        )
        return ua.EndpointDescription(
            EndpointUrl=self._url,
            Server=server,
            ServerCertificate=self.identity.der,
            SecurityMode=ENCRYPTED,
            SecurityPolicyUri=policy,
            UserIdentityTokens=[token],
            TransportProfileUri=TRANSPORT,
            SecurityLevel=level,
        )

    def _changed(self, variable: Variable) -> None:
        if self._core is not None:
            self._shown[variable.node] = variable
            self._news.set()

    async def _tell(self, core: RtuCore) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            shown, self._shown = self._shown, {}
            for variable in shown.values():
                await core.show(variable)

    def put(self, fault: DeviceFault, value: float | None, how: str | None) -> Later | None:
        """Have this fault (see ``FieldDevice``)."""
        faults = self.rtu.faults
        match fault:
            case DeviceFault.SILENT:
                faults.silent = True
            case DeviceFault.MALFORMED:
                faults.malformed = True
            case DeviceFault.DELAY:
                faults.delay_s = value or 0.0
            case DeviceFault.MISSED_PUBLISH:
                faults.missed_publish = True
            case DeviceFault.STALE:
                faults.stale = True
            case DeviceFault.SKEWED_CLOCK:
                faults.skew_s = value or 0.0
                self.rtu.show_again()
            case DeviceFault.UNREACHABLE:
                self.close()
            case _:
                return self._put_later(fault, value, how)
        return None

    def _put_later(self, fault: DeviceFault, value: float | None, how: str | None) -> Later | None:
        match fault:
            case DeviceFault.CERTIFICATE:
                return self._show_certificate(Forgery(how or Forgery.EXPIRED))
            case DeviceFault.RESTART:
                return self.restart(RESTART_S if value is None else value, self._strangers + 1)
            case DeviceFault.DROP_SESSION if self._core is not None:
                return self._core.drop_sessions()
            case DeviceFault.DROP_SUBSCRIPTION if self._core is not None:
                return self._core.drop_subscriptions()
            case _:
                return None

    def lift(self, fault: DeviceFault) -> Later | None:
        """Have this fault no more (see ``FieldDevice``)."""
        faults = self.rtu.faults
        match fault:
            case DeviceFault.SILENT:
                faults.silent = False
            case DeviceFault.MALFORMED:
                faults.malformed = False
            case DeviceFault.DELAY:
                faults.delay_s = 0.0
            case DeviceFault.MISSED_PUBLISH:
                faults.missed_publish = False
            case DeviceFault.STALE if faults.stale:
                faults.stale = False
                self.rtu.show_again()
            case DeviceFault.SKEWED_CLOCK if faults.skew_s:
                faults.skew_s = 0.0
                self.rtu.show_again()
            case DeviceFault.UNREACHABLE if not self.is_open:
                return self.open()
            case DeviceFault.CERTIFICATE if faults.certificate is not None:
                return self._show_certificate(None)
            case _:
                pass
        return None

    def present(self) -> dict[str, object]:
        """Its faults (see ``FieldDevice``)."""
        faults = self.rtu.faults
        return {
            "silent": faults.silent,
            "malformed": faults.malformed,
            "delay_s": faults.delay_s,
            "skew_s": faults.skew_s,
            "stale": faults.stale,
            "missed_publish": faults.missed_publish,
            "certificate": faults.certificate,
        }


def _factory(
    policy: type[SecurityPolicy], mode: ua.MessageSecurityMode, identity: certificates.Identity
) -> SecurityPolicyFactory:
    # asyncua's factory has no types.
    return SecurityPolicyFactory(  # type: ignore[no-untyped-call]
        policy, mode, identity.certificate, identity.key
    )
