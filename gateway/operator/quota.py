"""How much of one kind is told one by one within a while: the rest is counted, and the count is told. And how fast one
user may call.

Whoever floods the door must neither fill the journal nor hide what others do. What must stay true: each kind from each
place has its own allowance, all together have one, and what is over is never lost without a number. Nothing here is
kept over a restart: a new process begins with a new while.
"""

from __future__ import annotations

from collections.abc import Callable

PLACES_AT_MOST = 1_000
"""Places that are told apart within one while; all others share one allowance."""
OTHERS = "others"

Key = tuple[str, str]
"""Where from, and what."""


class Quota:
    """Allows ``each`` of one key and ``all_`` of all keys within ``seconds`` of ``monotonic`` time."""

    def __init__(self, each: int, all_: int, seconds: float, monotonic: Callable[[], float]) -> None:
        self._each = each
        self._all = all_
        self._seconds = seconds
        self._monotonic = monotonic
        self._until = monotonic() + seconds
        self._taken: dict[Key, int] = {}
        self._total = 0
        self._over: dict[Key, int] = {}

    def take(self, place: str, what: str) -> bool:
        """Whether one more is told; if not, it is counted. Call ``over`` first: it begins a new while when it is time."""
        key = place, what
        if key not in self._taken and len(self._taken) >= PLACES_AT_MOST:
            key = OTHERS, what
        taken = self._taken.get(key, 0)
        if taken >= self._each or self._total >= self._all:
            self._over[key] = self._over.get(key, 0) + 1
            if len(self._over) > PLACES_AT_MOST:
                others = OTHERS, what
                self._over[others] = self._over.get(others, 0) + self._over.pop(key)
            return False
        self._taken[key] = taken + 1
        self._total += 1
        return True

    def over(self) -> dict[Key, int]:
        """What was counted in the while that has ended, by key; empty while it lasts."""
        now = self._monotonic()
        if now < self._until:
            return {}
        self._until = now + self._seconds
        over, self._over = self._over, {}
        self._taken = {}
        self._total = 0
        return over


class Pace:
    """So many at once for each name, and ``a_second`` more as ``monotonic`` time goes on."""

    def __init__(self, at_once: int, a_second: float, monotonic: Callable[[], float]) -> None:
        self._at_once = at_once
        self._a_second = a_second
        self._monotonic = monotonic
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, name: str) -> bool:
        """Whether there is one more for this name now."""
        now = self._monotonic()
        left, since = self._left.pop(name, (float(self._at_once), now))
        left = min(self._at_once, left + (now - since) * self._a_second)
        self._left[name] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > PLACES_AT_MOST:
            del self._left[next(iter(self._left))]  # who has called longest ago
        return left >= 1
