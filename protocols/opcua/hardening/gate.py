"""One piece of OPC UA work in each turn of the loop, whoever many clients there are, and a third of a busy loop's time.

A flood of requests must not delay a shed. Each connection has its own worker, and each worker waits here before it
touches a request; long requests wait again after every slice. First come, first served. Between two pieces the loop
serves everything else that is ready; and when others have much to do, the next piece waits until they had twice the time
that the last one took. A loop that has nothing else to do serves one piece after the other.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

IDLE_S = 0.000_3
"""A turn of the loop without our piece that takes less had nothing much to do."""
FACTOR = 2.0
MOST_OWED_S = 0.1


class Gate:
    """The queue in front of the loop. Its length is bounded by the connections and subscriptions that there are."""

    def __init__(self, cpu: Callable[[], float] = time.thread_time) -> None:
        """cpu: processor time of the loop's thread, in seconds: what other processes take from it counts for nobody."""
        self._waiting: deque[asyncio.Future[None] | Callable[[], None]] = deque()
        self._pumping = False
        self._cpu = cpu
        self._owed = 0.0
        self._looked = 0.0

    async def turn(self) -> None:
        """Wait until it is this task's turn."""
        mine = asyncio.get_running_loop().create_future()
        self._join(mine)
        await mine

    def soon(self, piece: Callable[[], None]) -> None:
        """Run a piece of work when its turn comes."""
        self._join(piece)

    def _join(self, entry: asyncio.Future[None] | Callable[[], None]) -> None:
        self._waiting.append(entry)
        if not self._pumping:
            self._pumping = True
            self._looked = self._cpu()
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        if not self._may_go():
            asyncio.get_running_loop().call_soon(self._pump)
            return
        while self._waiting:
            entry = self._waiting.popleft()
            if not isinstance(entry, asyncio.Future):
                self._begin()
                asyncio.get_running_loop().call_soon(entry)
                asyncio.get_running_loop().call_soon(self._ended)
                return
            if not entry.done():  # else its task was cancelled while it waited
                self._begin()
                entry.set_result(None)
                asyncio.get_running_loop().call_soon(self._ended)
                return
        self._pumping = False

    def _begin(self) -> None:
        # What is scheduled here, the piece, and ``_ended`` run one right after the other in the next turn.
        asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self._looked = self._cpu()

    def _ended(self) -> None:
        now = self._cpu()
        self._owed = min(self._owed + FACTOR * (now - self._looked), MOST_OWED_S)
        self._looked = now
        asyncio.get_running_loop().call_soon(self._pump)

    def _may_go(self) -> bool:
        now = self._cpu()
        others = now - self._looked
        self._looked = now
        self._owed = 0.0 if others < IDLE_S else max(0.0, self._owed - others)
        return not self._owed
