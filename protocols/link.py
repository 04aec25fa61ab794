"""The link to one device: one owner task, one priority queue, and a connection that is made again whenever it breaks.

What must stay true:

* Only the owner task talks to the connection, one request at a time: who asks gets a future.
* Among waiting requests the most urgent goes first (operate, then readback, then poll), within a class in order.
* Whatever breaks the conversation (``FieldError.breaks_link``) ends the connection before anything else is sent, so no
  late answer meets a later request. Nothing is ever sent twice: a request whose answer is lost fails.
* A request that could not start before its deadline is never started.
* A device that is away costs others nothing: each link waits for itself, and gives up on waiting requests at once when
  two attempts in a row failed (one failure is a hiccup: what waits then goes out on the new connection).

Back-off: ``min × 2^(failures - 1)``, at most ``max``, times a random factor of 0.5 to 1, so that 120 devices behind one
switch don't all come back in the same millisecond. Failures count up until a valid answer comes: a device that
accepts connections and says nothing is backed off like one that refuses them.

On a crash nothing in here survives, and nothing needs to.
"""

from __future__ import annotations

import asyncio
import enum
import heapq
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from protocols.base import LinkState, LinkStatus, MonotonicClock
from protocols.errors import (
    ConnectionLost,
    DeviceRefused,
    Expired,
    FieldError,
    LinkDown,
    MalformedReply,
    NoReply,
    ReplyTimeout,
)

MAX_WAITING = 256
"""Requests that may wait on one link; one more is refused with LinkDown. Scans are coalesced, so a handful is usual."""


class Priority(enum.IntEnum):
    """Who goes first on a link."""

    OPERATE = 0
    READBACK = 1
    POLL = 2


class Connection(Protocol):
    """What a link needs of a connection."""

    def close(self) -> None:
        """End it at once; bytes not yet sent are thrown away."""


C = TypeVar("C", bound=Connection)
R = TypeVar("R")
Connect = Callable[[Callable[[str], None]], Awaitable[C]]
"""Makes a connection or raises FieldError; its argument is to be called, with the reason, when it is lost later."""


@dataclass(slots=True)
class Counters:
    """Totals of one device since the start, for diagnosis."""

    requests: int = 0
    timeouts: int = 0
    exceptions: int = 0
    malformed: int = 0
    foreign_replies: int = 0
    connects: int = 0
    reconnects: int = 0
    commands_sent: int = 0


@dataclass(frozen=True, slots=True)
class BackOff:
    """Delays between connection attempts, seconds."""

    min_s: float
    max_s: float

    def delay_s(self, failures: int, spread: float) -> float:
        """Delay after so many failures in a row (at least 1); spread from 0 to 1 is the jitter."""
        return min(self.max_s, self.min_s * 2.0 ** min(failures - 1, 30)) * (0.5 + 0.5 * spread)


def spawn(work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
    """A task whose unforeseen end is a defect and is reported to the loop's exception handler at once."""

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            task.get_loop().call_exception_handler({"message": f"{name} ended by a defect", "exception": error})

    task = asyncio.create_task(work, name=name)
    task.add_done_callback(ended)
    return task


async def end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended.

    Once is not enough: ``asyncio.wait_for`` of Python 3.11, which pymodbus uses, swallows a cancellation that meets the
    end of what it waits for.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=0.05)


class _Job(Generic[C]):
    __slots__ = ("action", "future", "timer")

    def __init__(self, action: Callable[[C], Awaitable[object]], future: asyncio.Future[object]) -> None:
        self.action = action
        self.future = future
        self.timer: asyncio.TimerHandle | None = None

    def expire(self) -> None:
        self.fail(Expired("the deadline passed before the request could leave"))

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()  # whoever asked may have gone away: not an error of its own

    def started(self) -> bool:
        """True if it may run now: nobody gave up on it. From here on its deadline is met."""
        if self.timer is not None:
            self.timer.cancel()
        return not self.future.done()


class Link(Generic[C]):
    """Supervises the connection to one device.

    connect: makes a connection. on_state: hears of each change of state. on_connect: hears of each new connection; it
    should cause a request, since only a valid answer makes the state UP. jitter: random numbers from 0 to 1.
    """

    def __init__(
        self,
        name: str,
        connect: Connect[C],
        backoff: BackOff,
        on_state: Callable[[LinkStatus], None],
        on_connect: Callable[[], None],
        monotonic: MonotonicClock,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.counters = Counters()
        self.epoch = 0
        """Number of the connection: what was read under another epoch was read on another connection."""
        self._connect = connect
        self._backoff = backoff
        self._on_state = on_state
        self._on_connect = on_connect
        self._monotonic = monotonic
        self._jitter = jitter
        self._heap: list[tuple[int, int, _Job[C]]] = []
        self._sequence = 0
        self._wake = asyncio.Event()
        self._lost: str | None = None
        self._failures = 0
        self._connected = False
        self._task: asyncio.Task[None] | None = None
        self.status = LinkStatus(name, LinkState.CONNECTING, "not started", monotonic())

    def start(self) -> None:
        """Start the owner task."""
        self._set_state(LinkState.CONNECTING, "first connection")
        self._task = spawn(self._run(), f"link {self.name}")

    async def stop(self) -> None:
        """End the connection and fail what waits."""
        if self._task is not None:
            await end([self._task])
            self._task = None
        self._fail_waiting("the driver was stopped")
        self._set_state(LinkState.DOWN, "stopped")

    def submit(
        self, priority: Priority, action: Callable[[C], Awaitable[R]], deadline: float | None = None
    ) -> asyncio.Future[R]:
        """Queue one request; the future carries its result or a FieldError.

        deadline: time of the monotonic clock by which it must have started; None: as long as the link lives.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        job: _Job[C] = _Job(action, future)  # type: ignore[arg-type]
        if self._task is None or (not self._connected and self._failures >= 2):
            job.fail(LinkDown(self.status.detail))
        elif len(self._heap) >= MAX_WAITING:
            job.fail(LinkDown(f"{MAX_WAITING} requests wait already"))
        else:
            if deadline is not None:
                job.timer = loop.call_later(deadline - self._monotonic(), job.expire)
            self._sequence += 1
            heapq.heappush(self._heap, (priority, self._sequence, job))
            self._wake.set()
        return future

    async def _run(self) -> None:
        while True:
            try:
                reason, connected = await self._one_connection()
            except asyncio.CancelledError as error:
                if (task := asyncio.current_task()) is None or task.cancelling():
                    raise
                # Nobody asked for it: a cancellation of a library's own leaked. A device is not given up for that.
                reason, connected = f"internal error: {error!r}", True
            self._failures += 1
            if connected and self._failures == 1:
                self._set_state(LinkState.CONNECTING, reason)
            else:
                self._set_state(LinkState.SILENT if connected else LinkState.DOWN, reason)
                self._fail_waiting(reason)
            await asyncio.sleep(self._backoff.delay_s(self._failures, self._jitter()))

    async def _one_connection(self) -> tuple[str, bool]:
        """Connect and serve until it breaks; why it ended, and whether there was a connection."""
        self._lost = None
        try:
            connection = await self._connect(self._connection_lost)
        except FieldError as error:
            # A refused first connection is no hiccup: nothing was ever reached.
            self._failures = max(self._failures, 1)
            return str(error), False
        self.epoch += 1
        self.counters.connects += 1
        self.counters.reconnects = self.epoch - 1
        self._connected = True
        self._on_connect()
        try:
            return await self._serve(connection), True
        finally:
            self._connected = False
            connection.close()

    async def _serve(self, connection: C) -> str:
        while True:
            if self._lost is not None:
                return self._lost
            if not self._heap:
                self._wake.clear()
                await self._wake.wait()
                continue
            job = heapq.heappop(self._heap)[2]
            if not job.started():
                continue
            error = await self._perform(job, connection)
            if error is not None:
                return error

    async def _perform(self, job: _Job[C], connection: C) -> str | None:
        """Run one request; the reason to give up the connection, or None."""
        self.counters.requests += 1
        try:
            result = await job.action(connection)
        except FieldError as error:
            self._count(error)
            job.fail(error)
            if error.breaks_link or isinstance(error, LinkDown):
                return str(error)
            if isinstance(error, DeviceRefused):
                self._alive()
        except asyncio.CancelledError:
            job.fail(ConnectionLost("the driver was stopped while the answer was awaited"))
            raise
        except Exception as error:  # noqa: BLE001 - a defect in an action goes to who asked; the link starts anew and lives on
            job.fail(NoReply(f"internal error: {error!r}"))
            return f"internal error: {error!r}"
        else:
            self._alive()
            if not job.future.done():
                job.future.set_result(result)
        return None

    def _alive(self) -> None:
        """A valid answer came."""
        self._failures = 0
        if self.status.state is not LinkState.UP:
            self._set_state(LinkState.UP, "answering")

    def _count(self, error: FieldError) -> None:
        match error:
            case ReplyTimeout():
                self.counters.timeouts += 1
            case DeviceRefused():
                self.counters.exceptions += 1
            case MalformedReply():
                self.counters.malformed += 1

    def _connection_lost(self, reason: str) -> None:
        self._lost = reason
        self._wake.set()

    def _fail_waiting(self, reason: str) -> None:
        waiting, self._heap = self._heap, []
        for _, _, job in waiting:
            if job.started():
                job.fail(LinkDown(reason))

    def _set_state(self, state: LinkState, detail: str) -> None:
        if (state, detail) != (self.status.state, self.status.detail):
            since = self._monotonic() if state is not self.status.state else self.status.since
            self.status = LinkStatus(self.name, state, detail, since)
            self._on_state(self.status)
