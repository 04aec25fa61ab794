"""An engine on a store in memory, with a clock that runs much faster than real time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.clock import SystemClock
from gateway.durable import Engine, Registry
from gateway.durable.testing import MemoryStore

START_US = 1_768_377_600_000_000


class Site:
    """Starts engines on stores and stops them at the end of the test."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.store = MemoryStore()
        self.clock = SystemClock(rate=1000.0)
        self.engines: list[Engine] = []

    async def start(self, store: MemoryStore | None = None, **options: int) -> Engine:
        """A running engine; without a store on the one of before: a restart."""
        self.store = self.store if store is None else store
        engine = Engine(self.store, self.registry, self.clock, **options)
        await engine.recover()
        engine.start()
        self.engines.append(engine)
        return engine

    async def kill(self, engine: Engine) -> None:
        """The power fails: what is not committed is lost, nothing more is released or written."""
        batches = list(self.store.batches)
        engine._fail(RuntimeError("killed by the test"))
        self.store = MemoryStore.after(batches)
        for task in list(engine.activities._running.values()):
            task.cancel()
        await asyncio.sleep(0)

    async def close(self) -> None:
        """Stop all."""
        for engine in self.engines:
            if isinstance(engine.store, MemoryStore):
                engine.store.let_go()
            await engine.stop(0.1)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """See Site."""
    site = Site()
    yield site
    await site.close()


async def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Let the loop run until something is true."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)


@pytest.fixture
def wait_until() -> Callable[..., object]:
    """See until."""
    return until
