"""A clock that stands still until it is told to go on.

What must stay true: nothing but ``go_to`` moves it, and it moves forward only. Those who sleep by it are woken in the order
of their times. A crash here: whoever holds the clock says what time it is then.
"""

from __future__ import annotations

import asyncio
import heapq
from datetime import UTC, datetime, timedelta

from gateway.clock import from_us, to_us

DEFAULT_START = datetime(2026, 1, 14, 8, tzinfo=UTC)
FAR_S = 86_400.0
"""Real seconds until what is not due yet: whoever moves the clock tells those who wait."""


class VirtualClock:
    """Engine time of a test. start: where it stands at first (a naive datetime is UTC)."""

    def __init__(self, start: datetime = DEFAULT_START) -> None:
        self._now_us = to_us(start)
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = 0

    @property
    def now(self) -> datetime:
        """The time that it shows (aware, UTC)."""
        return from_us(self._now_us)

    def now_us(self) -> int:
        """See Clock."""
        return self._now_us

    def real_seconds_until(self, due_us: int) -> float:
        """See Clock. 0 once due, else a day: no real time brings it nearer."""
        return 0.0 if due_us <= self._now_us else FAR_S

    def go_to(self, time_us: int) -> None:
        """Show this time, and wake those who slept until then. An earlier time than the present one changes nothing."""
        self._now_us = max(self._now_us, time_us)
        while self._sleepers and self._sleepers[0][0] <= self._now_us:
            _, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                future.set_result(None)

    def go_on(self, span: timedelta) -> None:
        """Show a time that is later by this span."""
        self.go_to(to_us(self.now + span))

    def next_wake_us(self) -> int | None:
        """When the first of those who sleep wants to be woken."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    async def sleep(self, span: timedelta) -> None:
        """Return once the clock has gone on by this span; real time does not matter."""
        self._count += 1
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (to_us(self.now + span), self._count, future))
        await future
