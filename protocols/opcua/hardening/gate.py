"""One piece of OPC UA work in each turn of the loop, whoever many clients there are.

A flood of requests must not delay a shed. Each connection has its own worker, and each worker waits here before it
touches a request; long requests wait again after every slice. Between two pieces the loop serves everything else that is
ready, so the work of this server delays others by one piece at most. First come, first served.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class Gate:
    """The queue in front of the loop. Its length is bounded by the connections and subscriptions that there are."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None] | Callable[[], None]] = deque()
        self._pumping = False

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
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        while self._waiting:
            entry = self._waiting.popleft()
            if isinstance(entry, asyncio.Future):
                if entry.done():  # its task was cancelled while it waited
                    continue
                entry.set_result(None)
            else:
                asyncio.get_running_loop().call_soon(entry)
            break
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._pump)
        else:
            self._pumping = False
