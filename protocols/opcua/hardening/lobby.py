"""Who may connect: how many, and how many of one address before they have logged in.

When the house is full, somebody who never logged in makes room: the one who waits longest, of the address that has most
waiting. So a crowd from one address keeps nobody else out.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from protocols.opcua.hardening.limits import Limits

_MOST_ADDRESSES = 10_000


class Visitor(Protocol):
    """A connection as the lobby sees it."""

    host: str
    waiting: bool

    def turn_away(self) -> None:
        """Close it at once."""


class Lobby:
    """All connections that are open, oldest first."""

    def __init__(self, limits: Limits, max_sessions: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._per_address = limits.waiting_per_address
        self._most = max_sessions + limits.spare_connections
        self._inside: dict[Visitor, None] = {}
        self._burst = limits.connections_burst
        self._per_s = limits.connections_per_s
        self._monotonic = monotonic
        self._knocks: dict[str, tuple[float, float]] = {}
        """Of each address: how many connections it may still make, and when that was so."""

    def enter(self, visitor: Visitor) -> bool:
        """Let a new connection in, if there is room or room can be made."""
        if self._knocks_too_often(visitor.host):
            return False
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

    def _knocks_too_often(self, host: str) -> bool:
        now = self._monotonic()
        left, since = self._knocks.get(host, (float(self._burst), now))
        left = min(left + (now - since) * self._per_s, float(self._burst))
        if len(self._knocks) > _MOST_ADDRESSES:
            self._knocks = {each: entry for each, entry in self._knocks.items() if not self._rested(entry, now)}
        self._knocks.pop(host, None)
        if len(self._knocks) <= _MOST_ADDRESSES:
            self._knocks[host] = (max(left - 1, 0.0), now)
        return left < 1

    def _rested(self, entry: tuple[float, float], now: float) -> bool:
        return entry[0] + (now - entry[1]) * self._per_s >= self._burst

    def leave(self, visitor: Visitor) -> None:
        """It is gone."""
        self._inside.pop(visitor, None)

    def everybody(self) -> list[Visitor]:
        """All of them."""
        return list(self._inside)
