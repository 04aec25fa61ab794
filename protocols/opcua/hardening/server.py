"""The hardened server: asyncua's ``Server`` for building the address space, with a door of our own in front."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Protocol

from asyncua import Server, ua
from asyncua.server.internal_server import InternalServer

from protocols.opcua.hardening.limits import Limits, ServerSettings
from protocols.opcua.hardening.space import Space
from protocols.opcua.hardening.version import check_version
from protocols.opcua.pki import Pki
from protocols.opcua.services import Services
from protocols.opcua.surface import Backend, Caller, SessionInfo
from protocols.opcua.users import Doorman


class Happening(Protocol):
    """An event as the door sees it."""

    def to_event_fields(self, select_clauses: Sequence[ua.SimpleAttributeOperand]) -> list[ua.Variant]:
        """The values of these fields; Null for those it hasn't got."""


class HardenedServer(Server):  # type: ignore[misc]
    """``init`` makes the standard nodes, then the caller builds its own into ``space``, then ``start`` listens."""

    def __init__(
        self,
        settings: ServerSettings,
        pki: Pki,
        doorman: Doorman,
        backend: Backend,
        services: Services,
        limits: Limits | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """pki must have its own certificate (``ensure_own``). now: the wall clock, for certificates."""

    @property
    def space(self) -> Space:
        """The address space."""

    async def init(self, shelf_file: object = None) -> None:
        """The standard address space, namespaces 0 and 1 (the application URI)."""

    async def start(self) -> None:
        """Listen. Errors: OSError when the port is taken."""

    async def stop(self) -> None:
        """Close every session and connection."""

    @property
    def port(self) -> int:
        """The port that is listened on."""

    def put(self, node: ua.NodeId, value: ua.DataValue) -> None:
        """The Value of this node is so from now on (synchronous; never change the DataValue later). KeyError: unknown."""

    def emit(self, event: Happening, nodes: Sequence[ua.NodeId], type_name: str) -> None:
        """Send an event to everybody who subscribed at one of these nodes (each item gets it once), whose filter lets it
        pass and who may see it (``may_see_events(caller, type_name)``). Name the Server object to reach everybody."""

    def refresh(
        self, session: ua.NodeId, subscription: int, item: int | None, events: Iterable[tuple[Happening, str]]
    ) -> ua.StatusCode:
        """ConditionRefresh: send these (event, type name) to one subscription of this session, or to one item of it.
        BadSubscriptionIdInvalid for one that isn't its own, BadRefreshInProgress when asked too often."""

    def caller(self, session: ua.NodeId) -> Caller | None:
        """Who is behind a session; None when it isn't (or no longer) activated."""

    def sessions(self) -> list[SessionInfo]:
        """Who is there now."""
