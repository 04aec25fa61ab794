"""A time limit that holds around calls of asyncua.

asyncua waits by the package wait_for2 on Python 3.11, which raises a *kind of* CancelledError when a cancellation meets an
answer. ``asyncio.timeout`` takes only CancelledError itself for its own: the other one passes it by, and would end the task
that called, as if somebody had cancelled that. So it is made a plain one before it gets there.

What must stay true: whoever exceeds the limit gets a TimeoutError; whoever is cancelled gets a CancelledError.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def time_limit(seconds: float) -> AsyncIterator[None]:
    """As ``asyncio.timeout``; raises TimeoutError after so many seconds."""
    async with asyncio.timeout(seconds):
        try:
            yield
        except asyncio.CancelledError as error:
            raise asyncio.CancelledError from error
