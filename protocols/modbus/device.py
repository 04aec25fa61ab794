"""One device: its blocks, its polls, its part of the process image. Commands are in ``commands.py``.

What must stay true:

* A read asked for twice before it was sent is sent once: who asks for a readback gets one that starts after the call.
* Blocks of the fast class (positions, local, measurements) are read each ``poll_fast_s``, others each ``poll_slow_s``,
  at a phase of the device's own; a period that was missed is left out, never made up for.
* At the end of every scan, and on every change of the link, the listener hears of what changed, in one call.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from protocols.base import FieldListener, LinkState, LinkStatus, MonotonicClock
from protocols.errors import ILLEGAL_ADDRESS, DeviceRefused, FieldError
from protocols.image import BreakerCell, DeviceImage, Field, MeasurementCell, Source
from protocols.link import BackOff, Link, Priority, end, spawn
from protocols.modbus.client import PymodbusTransport, Transport
from protocols.modbus.points import MAX_SPLITS, Limits, Range, Span, Tag, decoder, halves, plan, span_of, words_of
from protocols.modbus.site import DeviceLike, FeederLike, MeasurementLike

REFUSED_RETRY_S = 60.0
"""A single point that the device refuses is asked for again this much later: it may have been configured meanwhile."""

READ_PATIENCE_S = 30.0
"""A read that nobody waits for any more is not started after this long."""


class Block:
    """One read of a device: a range, what it feeds, and what came last."""

    __slots__ = ("data", "next_try", "queued", "range", "source", "takers")

    def __init__(self, wanted: Range, stale_after_s: float) -> None:
        self.range = wanted
        self.source = Source(stale_after_s)
        self.data = b""
        self.next_try = 0.0
        self.queued: dict[Priority, asyncio.Future[None]] = {}
        self.takers: list[tuple[Tag, Callable[[bytes], float]]] = []

    def bind(self, tags: Iterable[Tag]) -> None:
        """These tags are fed by this block from now on."""
        for tag in tags:
            self.takers.append((tag, decoder(tag.address, self.range.start)))
            if isinstance(tag.cell, MeasurementCell):
                tag.cell.source = self.source
            elif tag.field is not None:
                tag.cell.feed(tag.field, self.source)
                if tag.cell not in self.source.cells[-1:]:
                    self.source.cells.append(tag.cell)

    def take(self, data: bytes, image: DeviceImage) -> None:
        """Put what was read into the image; the same bytes as last time change nothing."""
        if data == self.data:
            return
        self.data = data
        for tag, decode in self.takers:
            value = decode(data)
            cell = tag.cell
            if isinstance(cell, MeasurementCell):
                cell.value = value
            elif tag.field is not None and cell.values.get(tag.field) != value:
                cell.values[tag.field] = value
                image.touch(cell)


@dataclass(slots=True)
class Plan:
    """The blocks of one device by poll class."""

    fast: list[Block] = field(default_factory=list)
    slow: list[Block] = field(default_factory=list)
    splits: int = 0

    def replace(self, old: Block, new: Sequence[Block]) -> None:
        """Take the parts in place of the whole."""
        for blocks in (self.fast, self.slow):
            if old in blocks:
                at = blocks.index(old)
                blocks[at : at + 1] = new


class ModbusDevice:
    """One device. phase: its place among the others within a poll period, 0 to 1."""

    def __init__(
        self,
        device: DeviceLike,
        feeders: Sequence[FeederLike],
        measurements: Sequence[MeasurementLike],
        phase: float,
        monotonic: MonotonicClock,
    ) -> None:
        self.device = device
        self.image = DeviceImage()
        self.first_scan = asyncio.Event()
        """Set once the device was read, or is known not to answer."""
        self._phase = phase
        self._monotonic = monotonic
        self._listener: FieldListener | None = None
        self._poll_now = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._limits = Limits(device.max_block_registers, device.max_block_bits, device.max_gap)
        self._plan = self._make_plan(feeders, measurements)
        self.link: Link[Transport] = Link(
            device.name,
            self._connect,
            BackOff(device.backoff_min_s, device.backoff_max_s),
            self._link_changed,
            self._poll_now.set,
            monotonic,
            random.random,
        )

    def start(self, listener: FieldListener) -> None:
        """Start the link and the polls."""
        self._listener = listener
        self.link.start()
        self._tasks = [spawn(self._poll(), f"poll {self.device.name}")]

    async def stop(self) -> None:
        """End polls and link."""
        await end(self._tasks)
        await self.link.stop()

    def fresh_since(self, feeder: str, moment: float) -> bool:
        """Position and local of this feeder were both asked for at or after this moment, and came."""
        return self.image.breakers[feeder].asked_since(moment)

    def fault(self, feeder: str) -> str:
        """Why position and local could not be read, in words."""
        faults = [source.fault for source in self.image.breakers[feeder].status_sources() if source.fault]
        return faults[0] if faults else self.link.status.detail

    def counter_since(self, feeder: str, moment: float) -> bool:
        """The operation counter of this feeder was asked for at or after this moment, and came."""
        source = self.image.breakers[feeder].sources.get(Field.OP_COUNT)
        return source is not None and source.asked_at >= moment

    def blocks_of(self, feeders: Iterable[str], *, counters: bool = False) -> list[Block]:
        """The blocks that carry position and local of these feeders; with counters, their operation counters, too."""
        cells = [self.image.breakers[name] for name in feeders]
        sources = {id(source) for cell in cells for source in cell.status_sources()}
        if counters:
            sources |= {id(cell.sources[Field.OP_COUNT]) for cell in cells if Field.OP_COUNT in cell.sources}
        return [block for block in (*self._plan.fast, *self._plan.slow) if id(block.source) in sources]

    async def scan_breakers(self, feeders: Iterable[str], priority: Priority, *, counters: bool = False) -> None:
        """Read position and local of these feeders; with counters, their operation counters, too."""
        await self.scan(self.blocks_of(feeders, counters=counters), priority)

    async def scan_counters(self, feeders: Iterable[str], priority: Priority) -> None:
        """Read the operation counters of these feeders."""
        counted = (self.image.breakers[name].sources.get(Field.OP_COUNT) for name in feeders)
        sources = {id(source) for source in counted if source is not None}
        planned = (*self._plan.fast, *self._plan.slow)
        await self.scan([block for block in planned if id(block.source) in sources], priority)

    async def scan(self, blocks: Sequence[Block], priority: Priority) -> None:
        """Read blocks, put them into the image and tell what changed. What fails shows in ``read_at`` of the sources.

        Every read starts after this call, or was queued before it and not yet sent.
        """
        waiting = list(blocks)
        while waiting:
            reads = [(block, self._queue(block, priority)) for block in waiting]
            waiting = []
            for block, read in reads:
                try:
                    await asyncio.shield(read)
                except DeviceRefused as error:
                    waiting += self._refused(block, error)
                except FieldError:
                    pass  # the source has counted it; the link tells why
        self.publish()

    def publish(self) -> None:
        """Tell the listener what changed since the last time, in one call."""
        changes = self.image.changes(self._monotonic())
        if changes and self._listener is not None:
            self._listener.breakers_changed(changes)

    def _queue(self, block: Block, priority: Priority) -> asyncio.Future[None]:
        """The read of this block that is queued already, or a new one."""
        queued = block.queued.get(priority)
        if queued is not None and not queued.done():
            return queued

        async def read(transport: Transport) -> None:
            block.queued.pop(priority, None)
            wanted = block.range
            asked_at = self._monotonic()
            try:
                data = await transport.read(wanted.table, wanted.start, wanted.count)
            except FieldError as error:
                block.source.failures += 1
                block.source.fault = str(error)
                raise
            block.source.asked_at = asked_at
            block.source.read_at = self._monotonic()
            block.source.failures = 0
            block.source.fault = ""
            block.take(data, self.image)

        future = self.link.submit(priority, read, self._monotonic() + READ_PATIENCE_S)
        if not future.done():
            block.queued[priority] = future
        return future

    def _refused(self, block: Block, error: DeviceRefused) -> list[Block]:
        """Split a block that the device refuses; the parts to be read instead, [] if there are none."""
        if error.code != ILLEGAL_ADDRESS:
            return []
        planned = (*self._plan.fast, *self._plan.slow)
        if block not in planned:  # another scan has split it meanwhile
            return [each for each in planned if each.range.within(block.range)]
        parts = halves(block.range)
        if not parts or self._plan.splits >= MAX_SPLITS:
            block.next_try = self._monotonic() + REFUSED_RETRY_S
            return []
        self._plan.splits += 1
        new = [self._block(part) for part in parts]
        self._plan.replace(block, new)
        self.image.sources.remove(block.source)
        return new

    async def _poll(self) -> None:
        """Read the fast class each period and the slow class each of its own, at this device's phase."""
        fast_s, slow_s = self.device.poll_fast_s, self.device.poll_slow_s
        start = slow_at = self._monotonic()
        while True:
            now = self._monotonic()
            slow = now >= slow_at
            blocks = self._plan.fast + self._plan.slow if slow else self._plan.fast
            # Never nothing at all: a read is also what finds a half-open connection. What a command's scans have just
            # read is left out, so that a busy device is not asked twice for the same.
            due = [block for block in blocks if block.next_try <= now] or blocks[:1]
            await self.scan([block for block in due if now - block.source.asked_at >= fast_s / 2], Priority.POLL)
            now = self._monotonic()
            if self.link.status.state is LinkState.UP:
                self._poll_now.clear()
                self.first_scan.set()
                if slow:
                    slow_at = _next_slot(start, slow_s, self._phase, now)
            with contextlib.suppress(TimeoutError):  # the usual end of the pause; a new connection is polled at once
                async with asyncio.timeout(_next_slot(start, fast_s, self._phase, now) - now):
                    await self._poll_now.wait()
            self._poll_now.clear()

    async def _connect(self, on_lost: Callable[[str], None]) -> Transport:
        device = self.device
        return await PymodbusTransport.connect(
            device.host, device.port, device.unit, device.timeout_s, on_lost, self.link.counters
        )

    def _link_changed(self, status: LinkStatus) -> None:
        away = status.state in (LinkState.DOWN, LinkState.SILENT)
        self.image.set_link_up(not away)
        if self._listener is not None:
            self._listener.link_changed(status)
        if away:  # when it comes back, the scan that brought it back tells
            self.first_scan.set()
            self.publish()

    def _make_plan(self, feeders: Sequence[FeederLike], measurements: Sequence[MeasurementLike]) -> Plan:
        fast, slow = self._fast_spans(feeders, measurements), self._slow_spans(feeders)
        ranges = plan(fast or [Span("hr", 0, 1, ())], self._limits)
        apart = []
        for span in slow:
            for at, wanted in enumerate(ranges):
                if (
                    wanted.table == span.table
                    and wanted.start <= span.start
                    and span.end <= wanted.start + wanted.count
                ):
                    ranges[at] = Range(wanted.table, wanted.start, wanted.count, (*wanted.spans, span))
                    break
            else:
                apart.append(span)
        self.image.sources.clear()
        return Plan([self._block(each) for each in ranges], [self._block(each) for each in plan(apart, self._limits)])

    def _fast_spans(self, feeders: Sequence[FeederLike], measurements: Sequence[MeasurementLike]) -> list[Span]:
        spans = []
        for feeder in feeders:
            points = feeder.points
            power_stale_s = max(self.device.stale_after_s, 3 * self.device.poll_slow_s)
            cell = self.image.breakers[feeder.name] = BreakerCell(feeder.name, power_stale_s)
            closed, opened = Tag(cell, Field.CLOSED, points.pos_closed), Tag(cell, Field.OPEN, points.pos_open)
            both = span_of([points.pos_closed, points.pos_open], (closed, opened), self._limits)
            spans += [both] if both is not None else [_span(closed), _span(opened)]
            if points.local is not None:
                spans.append(_span(Tag(cell, Field.LOCAL, points.local)))
        for measurement in measurements:
            value = MeasurementCell(measurement.name, measurement.stale_after_s, Source(measurement.stale_after_s))
            self.image.measurements[measurement.name] = value
            spans.append(_span(Tag(value, None, measurement.address)))
        return spans

    def _slow_spans(self, feeders: Sequence[FeederLike]) -> list[Span]:
        spans = []
        for feeder in feeders:
            cell, points = self.image.breakers[feeder.name], feeder.points
            for what, address in ((Field.OP_COUNT, points.op_count), (Field.POWER, points.power_kw)):
                if address is not None:
                    spans.append(_span(Tag(cell, what, address)))
        return spans

    def _block(self, wanted: Range) -> Block:
        block = Block(wanted, self.device.stale_after_s)
        for span in wanted.spans:
            block.bind(span.owner)
        self.image.sources.append(block.source)
        return block


def _span(tag: Tag) -> Span:
    address = tag.address
    return Span(address.table, address.number, words_of(address), (tag,))


def _next_slot(start: float, period_s: float, phase: float, now: float) -> float:
    """The next time after now that lies on this device's grid."""
    first = start + phase * period_s
    return first + (max(0, int((now - first) // period_s) + 1) if now >= first else 0) * period_s
