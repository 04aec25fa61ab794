"""Who may connect: how many, and how many of one address before they have logged in.

When the house is full, somebody who never logged in makes room: the one who waits longest, of the address that has most
waiting. So a crowd from one address keeps nobody else out.
"""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from protocols.opcua.hardening.limits import Limits


class Visitor(Protocol):
    """A connection as the lobby sees it."""

    host: str
    waiting: bool

    def turn_away(self) -> None:
        """Close it at once."""


class Lobby:
    """All connections that are open, oldest first."""

    def __init__(self, limits: Limits, max_sessions: int) -> None:
        self._per_address = limits.waiting_per_address
        self._most = max_sessions + limits.spare_connections
        self._inside: dict[Visitor, None] = {}

    def enter(self, visitor: Visitor) -> bool:
        """Let a new connection in, if there is room or room can be made."""
        waiting = Counter(other.host for other in self._inside if other.waiting)
        if waiting[visitor.host] >= self._per_address:
            return False
        if len(self._inside) >= self._most:
            if not waiting:
                return False
            busiest = max(waiting, key=waiting.__getitem__)
            oldest = next(other for other in self._inside if other.waiting and other.host == busiest)
            oldest.turn_away()
            self.leave(oldest)
        self._inside[visitor] = None
        return True

    def leave(self, visitor: Visitor) -> None:
        """It is gone."""
        self._inside.pop(visitor, None)

    def everybody(self) -> list[Visitor]:
        """All of them."""
        return list(self._inside)
