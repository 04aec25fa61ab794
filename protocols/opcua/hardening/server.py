"""The hardened server: asyncua's ``Server`` for building the address space, with a door of our own in front.

asyncua's listener, connections, sessions and subscriptions are never started. What its ``Server`` gives is the standard
address space, and the comfort of its node API for whoever builds nodes (through its internal session, which no client can
reach).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import count
from typing import Any, Protocol, cast

import structlog
from asyncua import Server, ua
from asyncua.server.internal_server import InternalServer
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from protocols.opcua.hardening import codec, entry
from protocols.opcua.hardening.capabilities import show_capabilities
from protocols.opcua.hardening.channel import Identity
from protocols.opcua.hardening.connection import Connection
from protocols.opcua.hardening.core import Core
from protocols.opcua.hardening.errors import bad, stamped_value, standard
from protocols.opcua.hardening.limits import Limits, ServerSettings
from protocols.opcua.hardening.lobby import Lobby
from protocols.opcua.hardening.space import Space
from protocols.opcua.hardening.telling import Telling
from protocols.opcua.hardening.version import check_version
from protocols.opcua.pki import Pki, PkiError
from protocols.opcua.services import Services
from protocols.opcua.surface import Backend, Caller, Doing, SessionInfo
from protocols.opcua.users import Doorman

_log = structlog.get_logger(__name__)
_WATCH_S = 0.2
_QUIET = ("asyncua.server", "asyncua.uaprotocol", "asyncua.ua")
"""Loggers of asyncua that write a line for whatever a stranger sends."""


class Happening(Protocol):
    """An event as the door sees it."""

    def to_event_fields(self, select_clauses: Sequence[ua.SimpleAttributeOperand]) -> list[ua.Variant]:
        """The values of these fields; Null for those it hasn't got."""


class _Inside(InternalServer):
    """asyncua's internal server on our address space; its services see ours as well."""

    def __init__(self) -> None:
        super().__init__()
        space = Space()
        self.aspace = space
        for part in (self.attribute_service, self.view_service, self.method_service, self.node_mgt_service):
            part._aspace = space
        self.subscription_service.aspace = space
        self.isession.aspace = space
        self.disabled_clock = True
        self.match_discovery_endpoint_url = False


class HardenedServer(Server):
    """``init`` makes the standard nodes, then the caller builds its own into ``space``, then ``start`` listens."""

    def __init__(
        self,
        settings: ServerSettings,
        pki: Pki,
        doorman: Doorman,
        backend: Backend,
        services: Services,
        limits: Limits | None = None,
        *,
        now: Callable[[], datetime],
    ) -> None:
        """pki must have its own certificate (``ensure_own``). now: the wall clock, for certificates. Errors:
        UnknownAsyncua."""
        check_version()
        codec.install()
        for name in _QUIET:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        super().__init__(_Inside())
        self.name = settings.server_name
        self.product_uri = settings.product_uri
        self._application_uri = settings.application_uri
        self.settings = settings
        self._limits = limits or Limits()
        self._core = Core(
            settings=settings,
            limits=self._limits,
            pki=pki,
            doorman=doorman,
            backend=backend,
            services=services,
            space=self.space,
            telling=Telling(backend, self._limits),
            now=now,
        )
        self._lobby = Lobby(self._limits, settings.max_sessions)
        self._channels = count(1)
        self._identity: Identity | None = None
        self._listener: asyncio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._port = settings.port

    @property
    def space(self) -> Space:
        """The address space."""
        return cast(Space, self.iserver.aspace)

    async def init(self, shelf_file: Any = None) -> None:
        """The standard address space, namespaces 0 and 1 (the application URI)."""
        await super().init(shelf_file)
        settings = self.settings
        now = self._core.now()
        await self.set_build_info(settings.product_uri, "gridlatch", settings.server_name, settings.version, "", now)
        show_capabilities(self.space, self._limits, settings, now)

    async def start(self) -> None:
        """Listen. Errors: OSError when the port is taken, PkiError without a certificate of our own."""
        self._identity = self._read_identity()
        await self._say_running()
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._connection, self.settings.host, self.settings.port)
        self._port = self._listener.sockets[0].getsockname()[1]
        self._tasks = [
            loop.create_task(entry.watch(self._core, _WATCH_S, self._limits.recheck_s)),
            loop.create_task(self._tell_time()),
        ]

    async def stop(self) -> None:
        """Close every session and connection."""
        if self._listener is not None:
            self._listener.close()
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks = []
        inside = [each for each in self._lobby.everybody() if isinstance(each, Connection)]
        for connection in inside:
            connection.hang_up("the server stops")
        for connection in inside:
            await connection.finished()
        if self._listener is not None:
            await self._listener.wait_closed()
            self._listener = None
        await self.iserver.stop()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._port

    def put(self, node: ua.NodeId, value: ua.DataValue) -> None:
        """The Value of this node is so from now on (synchronous; never change the DataValue later). KeyError: unknown."""
        self.space.put(node, value)

    def emit(self, event: Happening, nodes: Sequence[ua.NodeId], type_name: str) -> None:
        """Send an event to everybody who subscribed at one of these nodes (each item gets it once), whose filter lets it
        pass and who may see it (``may_see_events(caller, type_name)``). Name the Server object to reach everybody."""
        places = frozenset(nodes)
        for session in list(self._core.sessions.values()):
            listening = [item for each in session.subscriptions.values() for item in each.event_items.values()]
            mine = [item for item in listening if item.node in places]
            if not mine or not self._core.backend.may_see_events(session.caller, type_name):
                continue
            for item in mine:
                item.happen(event)

    async def refresh(
        self, session: ua.NodeId, subscription: int, item: int | None, events: Iterable[tuple[Happening, str]]
    ) -> ua.StatusCode:
        """ConditionRefresh: send these (event, type name) to one subscription of this session, or to one item of it; an
        empty type name is for everybody. BadSubscriptionIdInvalid for one that isn't its own, BadRefreshInProgress when
        asked too often. Where a queue is full, it waits for the client to take what is in it, up to a time."""
        core = self._core
        owner = core.sessions.get(session)
        if owner is None or not owner.active:
            return bad(ua.StatusCodes.BadSessionIdInvalid)
        found = owner.subscriptions.get(subscription)
        if found is None:
            core.foreign(owner, subscription, "ConditionRefresh")
            return bad(ua.StatusCodes.BadSubscriptionIdInvalid)
        if item is not None and item not in found.event_items:
            return bad(ua.StatusCodes.BadMonitoredItemIdInvalid)
        if core.monotonic() < owner.last_refresh + self._limits.refresh_every_s:
            return bad(ua.StatusCodes.BadRefreshInProgress)
        owner.last_refresh = math.inf
        until = core.monotonic() + self._limits.refresh_waits_s
        items = [found.event_items[item]] if item is not None else list(found.event_items.values())
        for index, (event, type_name) in enumerate(events):
            if type_name and not core.backend.may_see_events(owner.caller, type_name):
                continue
            for each in items:
                while len(each.queue) >= each.size and core.monotonic() < until and not found.closed:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
                each.happen(event)
            await core.slice(index)
        owner.last_refresh = core.monotonic()
        return ua.StatusCode()

    def caller(self, session: ua.NodeId) -> Caller | None:
        """Who is behind a session; None when it isn't (or no longer) activated."""
        found = self._core.sessions.get(session)
        return found.caller if found is not None and found.active else None

    def sessions(self) -> list[SessionInfo]:
        """Who is there now."""
        return [
            SessionInfo(each.caller, each.since_us, each.last_request_us, len(each.subscriptions), each.items)
            for each in self._core.sessions.values()
            if each.active
        ]

    def tell(self, doing: Doing, caller: Caller, detail: str) -> None:
        """Tell the gateway of something that was refused, as the door's own refusals are: floods are told as sums."""
        self._core.telling.tell(doing, caller, detail)

    # -- inside

    def _connection(self) -> Connection:
        assert self._identity is not None
        return Connection(self._core, self._lobby, self._identity, lambda: next(self._channels), self._port)

    def _read_identity(self) -> Identity:
        own = self._core.pki.own()
        key = serialization.load_pem_private_key(own.key_path.read_bytes(), None)
        return Identity(own.der, x509.load_der_x509_certificate(own.der), key)

    def renew_identity(self) -> bool:
        """Take the certificate that is in the folder now, for the connections that follow. False, and nothing is changed,
        when it and its key can't be read or don't fit (yet): try again."""
        try:
            self._identity = self._read_identity()
        except (PkiError, OSError, ValueError):
            self._core.complain("opcua_certificate_not_renewed")
            return False
        _log.info("opcua_certificate_renewed")
        return True

    @property
    def expires(self) -> datetime:
        """When the certificate that clients are shown expires (UTC). Errors: PkiError, before the start only."""
        # Reading the folder takes 50 ms, for the key is checked: not where values are told.
        if self._identity is None:
            return self._core.pki.own().expires
        return self._identity.certificate.not_valid_after_utc

    async def _say_running(self) -> None:
        status = ua.ServerStatusDataType()
        old = await self.iserver.server_status_node.read_value()
        if old is not None:
            status.BuildInfo = old.BuildInfo
        status.State = ua.ServerState.Running
        status.StartTime = status.CurrentTime = self._core.now()
        self._status = status
        self._put_standard(ua.ObjectIds.Server_ServerStatus_State, int(status.State), ua.VariantType.Int32)
        self._put_standard(ua.ObjectIds.Server_ServerStatus_StartTime, status.StartTime, ua.VariantType.DateTime)
        self._put_time()

    def _put_standard(self, node: int, value: Any, kind: ua.VariantType) -> None:
        self.space.put(standard(node), stamped_value(value, kind, self._core.now()))

    def _put_time(self) -> None:
        moment = self._core.now()
        status = ua.ServerStatusDataType()
        status.BuildInfo = self._status.BuildInfo
        status.State, status.StartTime, status.CurrentTime = self._status.State, self._status.StartTime, moment
        self._put_standard(ua.ObjectIds.Server_ServerStatus, status, ua.VariantType.ExtensionObject)
        self._put_standard(ua.ObjectIds.Server_ServerStatus_CurrentTime, moment, ua.VariantType.DateTime)

    async def _tell_time(self) -> None:
        path = self._core.pki.own().path
        mark = path.stat().st_mtime_ns
        while True:
            self._put_time()
            await asyncio.sleep(1)
            with contextlib.suppress(OSError):
                now = path.stat().st_mtime_ns
                if now != mark and self.renew_identity():
                    mark = now


__all__ = ["Doing", "Happening", "HardenedServer"]
