"""Sessions: who is there, and what belongs to whom.

A session lives on the one connection that made it and dies with it; there is no way to take it to another one. Its token
is 32 random bytes, compared in constant time. Everything that a session owns (subscriptions, continuation points,
publish requests) hangs on it alone, so what is another's simply isn't found.
"""

from __future__ import annotations

import asyncio
import enum
import hmac
import os
import secrets
import uuid
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from asyncua import ua

from protocols.opcua.surface import Caller

if TYPE_CHECKING:
    from protocols.opcua.hardening.subscription import Subscription
    from protocols.opcua.users import User


class State(enum.Enum):
    """CREATED has a token and may only log in; ACTIVE is served; CLOSED is never served again."""

    CREATED = "created"
    ACTIVE = "active"
    CLOSED = "closed"


@dataclass(slots=True)
class PublishRequest:
    """A Publish that waits for something to say. gives_up: loop time, 0 for never."""

    handle: int
    request_id: int
    results: list[ua.StatusCode]
    gives_up: float


@dataclass(slots=True)
class BrowseRest:
    """What a Browse left for BrowseNext."""

    references: list[ua.ReferenceDescription]
    mask: int
    at_once: int


def _node(identifier: Any, namespace: Any, kind: ua.NodeIdType) -> ua.NodeId:
    return ua.NodeId(identifier, namespace, kind)


class Session:
    """One session. caller is who it is; its user and roles are empty until it is active."""

    def __init__(self, caller: Caller, timeout_s: float, now: float, now_us: int) -> None:
        identity = uuid.uuid4()
        self.id = _node(identity, 1, ua.NodeIdType.Guid)
        self.token = secrets.token_bytes(32)
        self.nonce = os.urandom(32)
        self.state = State.CREATED
        self.certificate = b""
        """The client's, and the application URI that it was checked for."""
        self.uri = ""
        self.caller = Caller(
            session=str(identity),
            user=caller.user,
            roles=caller.roles,
            certificate=caller.certificate,
            address=caller.address,
            application=caller.application,
        )
        self.user: User | None = None
        """Who logged in, as the doorman knows them; None before that, and for an anonymous reader."""
        self.reads: set[asyncio.Task[None]] = set()
        """History reads under way: nobody waits for them once the session has ended."""
        self.timeout_s = timeout_s
        self.since_us = now_us
        self.last_request = now
        self.last_request_us = now_us
        self.subscriptions: dict[int, Subscription] = {}
        self.publishing: deque[PublishRequest] = deque()
        self.late: dict[int, None] = {}
        """Ids of subscriptions that had something to say and no publish request, oldest first."""
        self.endings: deque[ua.PublishResult] = deque(maxlen=20)
        self.browse_rests: dict[bytes, BrowseRest] = {}
        self.calls = 0
        self.items = 0
        self.last_refresh = -1e9

    @property
    def active(self) -> bool:
        """True while requests are served."""
        return self.state is State.ACTIVE

    def owns(self, token: Any) -> bool:
        """Whether this is its authentication token."""
        given = token.Identifier if isinstance(token, ua.NodeId) else None
        return isinstance(given, bytes) and hmac.compare_digest(given, self.token)

    def token_node(self) -> ua.NodeId:
        """The token as it travels."""
        return _node(self.token, 0, ua.NodeIdType.ByteString)

    def touch(self, now: float, now_us: int) -> None:
        """It asked for something."""
        self.last_request = now
        self.last_request_us = now_us
