"""Pending durable timers by due time: a heap, and one wake-up of the event loop."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterator

from gateway.clock import Clock

# Look again at least this often: the real time that belongs to an engine time may change (a suspended box).
MAX_NAP_S = 30.0
LOOKED_AT = 10
"""Entries that are looked at for each timer that ``first`` is asked for."""


class Timers:
    """Calls ``fire`` with (instance, task id) of each timer that has come due; equal due times in order of creation."""

    def __init__(self, clock: Clock, fire: Callable[[list[tuple[str, int]]], None]) -> None:
        self._clock = clock
        self._fire = fire
        self._due: dict[tuple[str, int], tuple[int, int]] = {}
        self._heap: list[tuple[int, int, tuple[str, int]]] = []
        self._count = 0
        self._handle: asyncio.TimerHandle | None = None
        self._wake_us = 0
        self._running = False

    def start(self) -> None:
        """Begin to fire."""
        self._running = True
        self._arm()

    def stop(self) -> None:
        """Fire no more."""
        self._running = False
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def look(self) -> None:
        """The clock was moved by hand: see what is due now."""
        self._arm()

    def set(self, instance: str, task_id: int, due_us: int) -> None:
        """Run a timer."""
        self._count += 1
        key = (instance, task_id)
        self._due[key] = (due_us, self._count)
        heapq.heappush(self._heap, (due_us, self._count, key))
        if self._running and (self._handle is None or due_us < self._wake_us):
            self._arm()

    def cancel(self, instance: str, task_id: int) -> bool:
        """Forget a timer; False when there is none (it fired already)."""
        found = self._due.pop((instance, task_id), None) is not None
        if found and len(self._heap) > 64 and len(self._heap) > 2 * len(self._due):
            self._heap = [(due, count, key) for key, (due, count) in self._due.items()]
            heapq.heapify(self._heap)
        return found

    def next_due(self) -> tuple[int, str, int] | None:
        """Due time, instance and task id of the timer that fires next."""
        while self._heap:
            due_us, count, key = self._heap[0]
            if self._due.get(key) == (due_us, count):
                return due_us, key[0], key[1]
            heapq.heappop(self._heap)
        return None

    def first(self, number: int) -> list[tuple[int, str, int]]:
        """Due time, instance and task id of so many timers that fire next, the next first.

        The cost goes with ``number``, not with how many run: a heap's smallest are found from its top downwards. Where
        very many cancelled ones lie on top, there are fewer than were asked for.
        """
        heap = self._heap
        found: list[tuple[int, str, int]] = []
        open_places = [(heap[0], 0)] if heap else []
        for _ in range(LOOKED_AT * number):
            if not open_places or len(found) == number:
                break
            (due_us, count, key), place = heapq.heappop(open_places)
            if self._due.get(key) == (due_us, count):
                found.append((due_us, *key))
            for below in (2 * place + 1, 2 * place + 2):
                if below < len(heap):
                    heapq.heappush(open_places, (heap[below], below))
        return found

    def pending(self) -> Iterator[tuple[str, int, int]]:
        """Instance, task id and due time of all, in no order."""
        for (instance, task_id), (due_us, _) in self._due.items():
            yield instance, task_id, due_us

    def __len__(self) -> int:
        return len(self._due)

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        following = self.next_due()
        if following is not None and self._running:
            self._wake_us = following[0]
            nap_s = min(self._clock.real_seconds_until(following[0]), MAX_NAP_S)
            self._handle = asyncio.get_running_loop().call_later(nap_s, self._on_time)

    def _on_time(self) -> None:
        self._handle = None
        now_us = self._clock.now_us()
        fired: list[tuple[str, int]] = []
        while (following := self.next_due()) is not None and following[0] <= now_us:
            heapq.heappop(self._heap)
            key = (following[1], following[2])
            del self._due[key]
            fired.append(key)
        if fired:
            self._fire(fired)
        self._arm()
