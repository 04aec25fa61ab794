"""One OPC UA device: its link, its subscription with a slow read beside it, its part of the process image.

What must stay true:

* A read asked for twice before it was sent is sent once: who asks for a readback gets one that starts after the call.
* With each new session everything is read once and subscribed anew, in slices; nothing of the last session counts.
* Every ``poll_slow_s`` all is read, whatever the subscription says: that proves life, and heals what was lost. A device
  that can't be subscribed to is read each ``poll_fast_s``.
* At the end of every scan and notification, and on every change of the link, the listener hears of what changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import TypeVar

from asyncua import ua

from protocols.base import FieldListener, LinkState, LinkStatus, MonotonicClock
from protocols.errors import DeviceRefused, FieldError, InvalidRequest
from protocols.image import DeviceImage, Field
from protocols.link import BackOff, Link, Priority, end, spawn
from protocols.opcua.client import GOODBYE_S, Identity, Pinned, Session
from protocols.opcua.faults import name_of
from protocols.opcua.site import DeviceLike, FeederLike, MeasurementLike
from protocols.opcua.spots import Spot, Spots
from protocols.opcua.subscription import ITEMS_AT_ONCE, Subscription

READ_PATIENCE_S = 30.0
"""A read that nobody waits for any more is not started after this long."""

T = TypeVar("T")


class Batch:
    """Nodes to be read in one go, gathered until the link is free for it."""

    __slots__ = ("future", "spots")

    def __init__(self) -> None:
        self.spots: dict[int, Spot] = {}
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class OpcUaDevice:
    """One device. phase: its place among the others within a poll period, 0 to 1. wall: Unix seconds."""

    def __init__(
        self,
        device: DeviceLike,
        feeders: Sequence[FeederLike],
        measurements: Sequence[MeasurementLike],
        phase: float,
        identity: Callable[[], Identity],
        monotonic: MonotonicClock,
        wall: Callable[[], float],
    ) -> None:
        if device.opcua is None:
            raise ValueError(f"device {device.name} speaks no OPC UA")
        try:
            self._pinned = Pinned.read(device.opcua)
        except ValueError as error:
            raise ValueError(f"device {device.name}: {error}") from None
        self.device = device
        self.image = DeviceImage()
        self.first_scan = asyncio.Event()
        """Set once the device was read, or is known not to answer."""
        self._phase = phase
        self._identity = identity
        self._monotonic = monotonic
        self._wall = wall
        self._listener: FieldListener | None = None
        self._wake = asyncio.Event()
        self._batches: dict[Priority, Batch] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._subscribed = 0
        """The epoch of the link whose session has a subscription."""
        self._spots = Spots(device.stale_after_s, device.poll_slow_s)
        for feeder in feeders:
            self._spots.add_breaker(feeder.name, feeder.points, self.image)
        for measurement in measurements:
            self._spots.add_measurement(measurement.name, measurement.address, measurement.stale_after_s, self.image)
        self.link: Link[Session] = Link(
            device.name,
            self._connect,
            BackOff(device.backoff_min_s, device.backoff_max_s),
            self._link_changed,
            self._wake.set,
            monotonic,
            random.random,
        )

    def start(self, listener: FieldListener) -> None:
        """Start the link and the polls."""
        self._listener = listener
        self.link.start()
        self._tasks = [spawn(self._poll(), f"poll {self.device.name}")]

    async def stop(self) -> None:
        """End polls and link; a session that is there is taken leave of, so that the device keeps none for us."""
        await end(self._tasks)
        if self.link.status.state is LinkState.UP:
            with contextlib.suppress(FieldError, TimeoutError):
                async with asyncio.timeout(GOODBYE_S):
                    await self.link.submit(Priority.OPERATE, lambda session: session.goodbye())
        await self.link.stop()

    def fresh_since(self, feeder: str, moment: float) -> bool:
        """Position and local of this feeder were both asked for at or after this moment, and came."""
        return self.image.breakers[feeder].asked_since(moment)

    def counter_since(self, feeder: str, moment: float) -> bool:
        """The operation counter of this feeder was asked for at or after this moment, and came."""
        source = self.image.breakers[feeder].sources.get(Field.OP_COUNT)
        return source is not None and source.asked_at >= moment

    def fault(self, feeder: str) -> str:
        """What is wrong with position and local, in words."""
        for source in self.image.breakers[feeder].status_sources():
            if isinstance(source, Spot) and (why := source.why()):
                return why
        return self.link.status.detail

    def publish(self) -> None:
        """Tell the listener what changed since the last time, in one call."""
        changes = self.image.changes(self._monotonic())
        if changes and self._listener is not None:
            self._listener.breakers_changed(changes)

    async def scan_breakers(self, feeders: Iterable[str], priority: Priority, *, counters: bool = False) -> None:
        """Read position and local of these feeders; with counters, their operation counters, too."""
        await self._scan(self._spots.of(feeders, self.image, counters=counters), priority)

    async def scan_counters(self, feeders: Iterable[str], priority: Priority) -> None:
        """Read the operation counters of these feeders."""
        counted = (self.image.breakers[name].sources.get(Field.OP_COUNT) for name in feeders)
        await self._scan([source for source in counted if isinstance(source, Spot)], priority)

    async def _scan(self, spots: Sequence[Spot], priority: Priority) -> None:
        """Read nodes, put them into the image and tell what changed. What fails shows in ``asked_at`` of the spots."""
        batch = self._batches.get(priority)
        if batch is None or batch.future.done():
            batch = self._batches[priority] = Batch()
            batch.future = self._submit(priority, partial(self._read_batch, batch=batch, priority=priority))
        batch.spots.update((id(spot), spot) for spot in spots)
        with contextlib.suppress(FieldError):  # the link tells why
            await asyncio.shield(batch.future)
        self.publish()

    def _submit(self, priority: Priority, action: Callable[[Session], Awaitable[T]]) -> asyncio.Future[T]:
        return self.link.submit(priority, action, self._monotonic() + READ_PATIENCE_S)

    async def _read_batch(self, session: Session, batch: Batch, priority: Priority) -> None:
        if self._batches.get(priority) is batch:  # who comes from now on wants a later read
            del self._batches[priority]
        spots = list(batch.spots.values())
        for at in range(0, len(spots), session.most_read):
            await self._read(session, spots[at : at + session.most_read])

    async def _read(self, session: Session, spots: Sequence[Spot]) -> None:
        """Read these nodes in one request. Raises FieldError."""
        known = []
        for spot in spots:
            try:
                known.append((spot, session.node(spot.ref)))
            except InvalidRequest as error:
                spot.bad(str(error), self.image)
        if not known:
            return
        asked_at = self._monotonic()
        try:
            values = await session.read_nodes([node for _, node in known])
        except FieldError as error:
            for spot, _ in known:
                spot.failures += 1
                spot.fault = str(error)
            raise
        now, wall = self._monotonic(), self._wall()
        for (spot, _), value in zip(known, values, strict=True):
            spot.asked_at = asked_at
            spot.take(value, now, wall, self.image)

    async def _poll(self) -> None:
        """With a new session: read all, subscribe. Then read all each slow period, at this device's phase."""
        slow_s, served = self.device.poll_slow_s, 0
        while True:
            period_s = slow_s
            if self.link.epoch != served:
                epoch = self.link.epoch
                if await self._read_all() and epoch == self.link.epoch:
                    served = epoch
                    self.first_scan.set()
                    await self._subscribe()
                    period_s = slow_s * self._phase  # devices that came back together are read apart
            elif served:
                await self._read_all()
            if self._subscribed != self.link.epoch:
                period_s = self.device.poll_fast_s
            with contextlib.suppress(TimeoutError):  # the usual end of the pause
                async with asyncio.timeout(period_s):
                    await self._wake.wait()
            self._wake.clear()

    async def _read_all(self) -> bool:
        """Read everything, slice by slice, so that a command waits for one slice at most; True if all came."""
        spots, at = self._spots.all, 0
        while True:
            part: list[Spot] = []

            async def read(session: Session, at: int = at, part: list[Spot] = part) -> None:
                part += spots[at : at + session.most_read]
                # Never nothing at all: a read is also what finds a half-open connection.
                await (self._read(session, part) if part else session.read_namespaces())

            try:
                await asyncio.shield(self._submit(Priority.POLL, read))
            except DeviceRefused:
                if not part:
                    return False
            except FieldError:
                return False
            finally:
                self.publish()
            at += len(part)
            if at >= len(spots):
                return True

    async def _subscribe(self) -> None:
        """Have the device tell of changes; if it can't, reads go on in the fast period."""
        spots, epoch = self._spots.all, self.link.epoch

        def values(told: list[tuple[int, ua.DataValue]]) -> None:
            now, wall = self._monotonic(), self._wall()
            for handle, value in told:
                if epoch == self.link.epoch and 0 <= handle < len(spots):
                    spots[handle].session = epoch
                    spots[handle].take(value, now, wall, self.image)
            self.publish()

        def beat(published: datetime | None) -> None:
            if epoch == self.link.epoch:
                self._spots.pulse.session = epoch
                self._spots.pulse.beat(self._monotonic(), published, self._wall())

        async def create(session: Session) -> tuple[Subscription, int]:
            made = Subscription(session, values, beat, self._wake.set)
            alive_s = self.device.stale_after_s / 2.5
            await made.create(min(self.device.poll_fast_s, alive_s), alive_s, self.device.timeout_s)
            made.listen()
            return made, min(ITEMS_AT_ONCE, session.most_items)

        try:
            subscription, most = await asyncio.shield(self._submit(Priority.POLL, create))
            for at in range(0, len(spots), most):

                async def watch(session: Session, at: int = at) -> None:
                    await self._watch(session, subscription, at, most)

                await asyncio.shield(self._submit(Priority.POLL, watch))
        except FieldError:
            return  # refused: polled instead; lost: the next session tries again
        self._subscribed = epoch

    async def _watch(self, session: Session, subscription: Subscription, at: int, most: int) -> None:
        """Have one slice of nodes watched."""
        items = []
        for handle in range(at, min(at + most, len(self._spots.all))):
            with contextlib.suppress(InvalidRequest):  # the read has told of it
                items.append((handle, session.node(self._spots.all[handle].ref)))
        for handle, code in await subscription.add(items) if items else []:
            spot = self._spots.all[handle]
            spot.fault = spot.fault or f"it can't be subscribed: {name_of(code)}"

    async def _connect(self, on_lost: Callable[[str], None]) -> Session:
        return await Session.connect(self.device, self._pinned, self._identity, self._wall, on_lost)

    def _link_changed(self, status: LinkStatus) -> None:
        away = status.state in (LinkState.DOWN, LinkState.SILENT)
        self.image.set_link_up(not away)
        if self._listener is not None:
            self._listener.link_changed(status)
        if away:  # when it comes back, the read that brought it back tells
            self.first_scan.set()
            self.publish()
