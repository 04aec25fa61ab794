"""What all services share: the parts of the server, who is there, and the questions of who may see what."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog
from asyncua import ua

from protocols.opcua.hardening.errors import fault
from protocols.opcua.hardening.gate import Gate
from protocols.opcua.hardening.limits import Limits, ServerSettings
from protocols.opcua.hardening.session import Session
from protocols.opcua.hardening.space import Space
from protocols.opcua.hardening.subscription import Backlog
from protocols.opcua.hardening.telling import Telling
from protocols.opcua.pki import Pki
from protocols.opcua.services import Services
from protocols.opcua.surface import Backend, Doing
from protocols.opcua.users import Doorman

_log = structlog.get_logger(__name__)
MOST_COMPLAINTS = 20
SLICE = 50
"""Nodes or items that are worked on before a long request waits for its next turn."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request that is being served. gives_up: loop time, 0 for never. diagnostics: what the client wants to be told
    beside status codes, as the bits of its request header."""

    session: Session
    handle: int
    request_id: int
    gives_up: float
    diagnostics: int = 0


Handler = Callable[["Core", Request, Any], Awaitable[Any]]
"""Serves a request: gives the response, or None when the answer comes later (Publish)."""


@dataclass(slots=True)
class Core:
    """The parts. ``now`` is the wall clock, for certificates and records alone."""

    settings: ServerSettings
    limits: Limits
    pki: Pki
    doorman: Doorman
    backend: Backend
    services: Services
    space: Space
    telling: Telling
    now: Callable[[], datetime]
    gate: Gate = field(default_factory=Gate)
    sessions: dict[ua.NodeId, Session] = field(default_factory=dict)
    sending: dict[ua.NodeId, Callable[[Any, int, int], None]] = field(default_factory=dict)
    """How to send a response (response, handle, request id) to a session that waits for one."""
    endings: dict[ua.NodeId, Callable[[str], None]] = field(default_factory=dict)
    """How to end a session's connection."""
    decoding: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    """Long messages are decoded in a thread, one at a time."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    """Calls and history reads that run; they hold themselves."""
    backlog: Backlog = field(init=False)
    items: int = 0
    subscription_counter: int = 0
    subscriptions: dict[int, Session] = field(default_factory=dict)
    """Whose a subscription is."""

    def __post_init__(self) -> None:
        self.backlog = Backlog(self.limits.backlog)

    complaints: tuple[float, int] = (0.0, 0)
    """When the present minute of complaints began, and how many there were in it."""

    def complain(self, event: str, **fields: Any) -> None:
        """Log an error of our own with its traceback; only so many a minute, since a client may bring them about."""
        began, count = self.complaints
        now = self.monotonic()
        if now - began > 60:
            began, count = now, 0
        self.complaints = (began, count + 1)
        if count < MOST_COMPLAINTS:
            _log.exception(event, **fields)

    @staticmethod
    def monotonic() -> float:
        """Seconds that never jump."""
        return time.monotonic()

    def now_us(self) -> int:
        """The wall clock in µs since 1970."""
        return int(self.now().timestamp() * 1_000_000)

    def may_read(self, session: Session, node: ua.NodeId) -> bool:
        """Whether the value of this node may be seen; nodes that aren't ours (the standard's own) are open to all who
        came in. A refusal is told."""
        place = self.services.place(node)
        if place is None or not place.variable:
            return True
        if self.backend.may_read(session.caller, place.type, place.variable):
            return True
        detail = f"reading {node.to_string()} ({place.type}.{place.variable}) was refused"
        self.telling.tell(Doing.READ_REFUSED, session.caller, detail)
        return False

    def foreign(self, session: Session, subscription: int, what: str) -> None:
        """Tell it when a request names a subscription that is another session's: no honest client does that."""
        owner = self.subscriptions.get(subscription)
        if owner is not None and owner is not session:
            detail = f"{what} of subscription {subscription}, which is another session's"
            self.telling.tell(Doing.ATTACK, session.caller, detail)

    async def slice(self, index: int) -> None:
        """To be awaited for each node of a long request: gives way after every SLICE of them."""
        if index % SLICE == SLICE - 1:
            await self.gate.turn()


def count(entries: list[Any] | None, most: int) -> list[Any]:
    """The entries of a request. Errors: BadNothingToDo for none, BadTooManyOperations for too many."""
    if not entries:
        raise fault(ua.StatusCodes.BadNothingToDo)
    if len(entries) > most:
        raise fault(ua.StatusCodes.BadTooManyOperations)
    return entries
