"""The way of the open batch to the disk, and what waits for it.

One batch is written at a time; while it is, the next one gathers: under load batches grow, when idle the latency is that
of one flush. What must stay true: effects are let go in order, once their batch is on disk, and never after a failure;
whoever waits for the disk gets an answer or an error. On a crash here: the batch is on disk whole or not at all, and its
effects may not have been let go; recovery starts them again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from gateway.durable.errors import EngineStoppedError
from gateway.durable.futures import set_done, set_error
from gateway.durable.instances import Instance
from gateway.durable.ledger import Ledger
from gateway.durable.outbox import Outbox
from gateway.durable.store import InstanceRow, Store

MAX_PENDING_BYTES = 64 * 1024 * 1024


class Writer:
    """Writes batches in order. committed: told of each instance whose row reached the disk; after: told of each batch."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        max_pending: int,
        committed: Callable[[Instance, InstanceRow], None],
        after: Callable[[int], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._max_pending = max_pending
        self._committed = committed
        self._after = after
        self._failed = failed
        self._dirty = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._closed: EngineStoppedError | None = None
        self._task: asyncio.Task[None] | None = None
        self._writing = False

    @property
    def idle(self) -> bool:
        """True when all that was decided is on disk, and its effects are let go."""
        return not self._writing and self._ledger.outbox.empty

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="journal-writer")

    def check_room(self) -> bool:
        """False while the disk lags behind by more than the limit: nothing more should be decided until it catches up."""
        outbox = self._ledger.outbox
        if len(outbox.batch.records) < self._max_pending and outbox.bytes < MAX_PENDING_BYTES:
            return True
        self._room.clear()
        return False

    @property
    def has_room(self) -> bool:
        """False while those who ask have to wait, see ``wait_room``."""
        return self._room.is_set()

    async def wait_room(self) -> None:
        """Wait until there is room, or the writer is closed."""
        while not self._room.is_set():
            await self._room.wait()

    def wake(self) -> None:
        """Write what there is."""
        if not self._ledger.outbox.empty:
            self._dirty.set()

    def on_disk(self) -> asyncio.Future[None]:
        """A future that completes once everything decided up to now is on disk; fails when that won't be."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._closed is not None:
            set_error(future, self._closed)
        else:
            self._ledger.outbox.effects.append(partial(set_done, future))
            self._ledger.outbox.lost.append(partial(set_error, future))
            self._ledger.wake()
        return future

    def close(self, error: EngineStoppedError) -> None:
        """Write nothing more; who waits for the disk gets the error."""
        if self._closed is None:
            self._closed = error
        self._ledger.outbox.fail(error)
        self._room.set()
        self._dirty.set()

    async def stop(self, error: EngineStoppedError) -> None:
        """Close, and return once no write is under way."""
        self.close(error)
        if self._task is not None and self._task is not asyncio.current_task():
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            while True:
                await self._dirty.wait()
                self._dirty.clear()
                if self._closed is not None:
                    return
                sealed = self._ledger.next_outbox()
                self._room.set()
                self._ledger.wake()
                self._writing = True
                await self._write(sealed)
                self._writing = False
        except BaseException as error:  # whatever it is, nothing is written any more: fail stop
            if self._closed is None:
                self._failed(error)
            if isinstance(error, asyncio.CancelledError):
                raise

    async def _write(self, sealed: Outbox) -> None:
        if sealed.empty:
            return
        instances = list(sealed.dirty.values())
        batch = sealed.seal()
        try:
            if not batch.empty:
                await self._store.commit(batch)
                self._ledger.counters.batches += 1
            if self._closed is not None:  # failed meanwhile: outputs hold
                sealed.fail(self._closed)
                return
            committed, rows = self._committed, batch.instances
            for instance in instances:
                committed(instance, rows[instance.id])
            for effect in sealed.effects:
                effect()
        except BaseException as error:
            sealed.fail(EngineStoppedError(f"the gateway's journal failed: {error}"))
            raise
        self._after(sealed.number)
