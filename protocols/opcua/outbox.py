"""Changes and events on their way to those who subscribed: in order, in slices, and bounded.

A gateway that reads 12,000 breakers after a start gives all of their values at once; telling subscribers of all of them in
one go would hold the event loop for a second. So everything is put in here and told in slices of a few milliseconds,
between which the loop serves others. What nobody subscribed to never comes in here.

What must stay true: what happened first is told first; each change of a watched variable is told, and the newest always is.
The limits: when ``MOST_CHANGES`` wait, a change takes the place of the newest one that waits for the same variable (so no
more wait than that, and one for each watched variable); when ``MOST_EVENTS`` wait, the oldest event is dropped, which is
counted (``lost_events``) and logged. On a crash all of it is forgotten, like the subscriptions.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable

import structlog

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

MOST_CHANGES = 100_000
MOST_EVENTS = 20_000
SLICE_S = 0.003

Deliver = Callable[[], None]


class _Letter:
    """Something to tell. what: nothing once it was dropped. variable: what a change is a change of; None for events."""

    __slots__ = ("variable", "what")

    def __init__(self, what: Deliver, variable: Hashable) -> None:
        self.what: Deliver | None = what
        self.variable = variable


class Outbox:
    """The one queue towards subscribers. Use it on the event loop; ``open`` starts the telling."""

    def __init__(
        self, most_changes: int = MOST_CHANGES, most_events: int = MOST_EVENTS, slice_s: float = SLICE_S
    ) -> None:
        self._most_changes = most_changes
        self._most_events = most_events
        self._slice_s = slice_s
        self._queue: deque[_Letter] = deque()
        self._events: deque[_Letter] = deque()
        self._newest: dict[Hashable, _Letter] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._scheduled = False
        self._closed = False
        self.lost_events = 0

    def __len__(self) -> int:
        """How many wait."""
        return len(self._queue)

    def open(self) -> None:
        """Tell from now on; what waits already goes first."""
        self._loop = asyncio.get_running_loop()
        self._schedule()

    def close(self) -> None:
        """Tell nothing any more; what waits is forgotten."""
        self._closed = True
        self._queue.clear()
        self._events.clear()
        self._newest.clear()

    def change(self, variable: Hashable, what: Deliver) -> None:
        """A watched variable changed: tell it in its turn."""
        if self._closed:
            return
        if len(self._queue) >= self._most_changes:
            waiting = self._newest.get(variable)
            if waiting is not None:
                waiting.what = what
                return
        letter = self._newest[variable] = _Letter(what, variable)
        self._queue.append(letter)
        self._schedule()

    def event(self, what: Deliver) -> None:
        """Something happened: tell it in its turn."""
        if self._closed:
            return
        if len(self._events) >= self._most_events:
            self._events.popleft().what = None
            if self.lost_events == 0:
                log.warning("opcua_events_lost", waiting=len(self._events))
            self.lost_events += 1
        letter = _Letter(what, None)
        self._events.append(letter)
        self._queue.append(letter)
        self._schedule()

    def _schedule(self) -> None:
        if self._loop is not None and not self._scheduled and self._queue:
            self._scheduled = True
            self._loop.call_soon(self._tell)

    def _tell(self) -> None:
        self._scheduled = False
        until = time.perf_counter() + self._slice_s
        while self._queue:
            self._tell_one(self._queue.popleft())
            if time.perf_counter() >= until:
                break
        self._schedule()

    def _tell_one(self, letter: _Letter) -> None:
        if letter.what is None:
            return
        if letter.variable is None:
            self._events.popleft()
        elif self._newest.get(letter.variable) is letter:
            del self._newest[letter.variable]
        try:
            letter.what()
        except Exception:
            log.exception("opcua_not_told")
