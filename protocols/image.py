"""The process image: the last value of everything that is read, with its quality, and which of it changed.

What must stay true:

* A value is GOOD only while the block it came in was read within stale-after, the link is not known to be away, and the
  last two reads of that block did not both fail. An old value shown as good is a defect.
* A change is told once: position, quality, local or operation counter of a breaker differ from what was told last.
* Nothing in here does I/O or asks for the time; ``now`` is the monotonic time given by the caller.

Freshness belongs to a *source*, which is what is read in one go (a block of registers): 100 breakers share one
``read_at``, so a scan in which nothing moved costs one assignment and not one per breaker.

On a crash the image is gone; after the start everything is UNKNOWN with Quality.BAD until it was read.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable

from protocols.base import BreakerReading, Position, Quality, Reading

FAILED_READS_MAKE_BAD = 2
"""So many failed reads of a source in a row make its values BAD: one may be a hiccup of a busy device."""


class Source:
    """What is read in one go.

    read_at: when the last reply came, 0.0 if none; asked_at: when the request for it left. failures: failed reads
    since; fault: why the last one failed.
    """

    __slots__ = ("asked_at", "cells", "failures", "fault", "read_at", "shown", "stale_after_s")

    def __init__(self, stale_after_s: float) -> None:
        self.read_at = 0.0
        self.asked_at = -math.inf
        self.failures = 0
        self.fault = ""
        self.stale_after_s = stale_after_s
        self.shown = Quality.BAD
        self.cells: list[BreakerCell] = []

    def quality(self, now: float) -> Quality:
        """Quality by age and failures (not yet: by the state of the link)."""
        if self.read_at == 0.0 or self.failures >= FAILED_READS_MAKE_BAD:
            return Quality.BAD
        return Quality.UNCERTAIN if now - self.read_at > self.stale_after_s else Quality.GOOD


class Field(enum.StrEnum):
    """What is read of a breaker."""

    CLOSED = "closed"
    OPEN = "open"
    LOCAL = "local"
    OP_COUNT = "op_count"
    POWER = "power"

    # These are keys of a dictionary at every look at a breaker: the text's own hash spares a call of Python code each.
    __hash__ = str.__hash__


STATUS_FIELDS = frozenset({Field.CLOSED, Field.OPEN, Field.LOCAL})
"""What must be known, and fresh, before a breaker is operated."""


class BreakerCell:
    """The values of one breaker. power_stale_s: a measured load older than this is no longer shown."""

    __slots__ = ("_status_sources", "name", "power_stale_s", "sources", "told", "values")

    def __init__(self, name: str, power_stale_s: float) -> None:
        self.name = name
        self.power_stale_s = power_stale_s
        self.values: dict[Field, float | None] = {}
        self.sources: dict[Field, Source] = {}
        self._status_sources: tuple[Source, ...] = ()
        self.told: tuple[Position, Quality, bool | None, int | None] = (Position.UNKNOWN, Quality.BAD, None, None)

    def feed(self, field: Field, source: Source) -> None:
        """This field comes from this source from now on."""
        self.sources[field] = source
        status = [source for field, source in self.sources.items() if field in STATUS_FIELDS]
        self._status_sources = tuple(dict.fromkeys(status))

    def status_sources(self) -> tuple[Source, ...]:
        """The sources of position and local, each once. Kept ready: this is asked for at every look at a breaker."""
        return self._status_sources

    def position(self) -> Position:
        """Position as last read, whatever its quality."""
        closed, opened = self.values.get(Field.CLOSED), self.values.get(Field.OPEN)
        if closed is None or opened is None:
            return Position.UNKNOWN
        return Position.from_contacts(closed != 0, opened != 0)

    def quality(self, now: float, link_up: bool) -> Quality:
        """Quality of position and local."""
        if not link_up:
            return Quality.BAD
        sources = self._status_sources
        if len(sources) == 1:
            return sources[0].quality(now)
        return worst([source.quality(now) for source in sources])

    def local(self) -> bool | None:
        """The local/remote switch as last read, whatever its quality."""
        local = self.values.get(Field.LOCAL)
        return None if local is None else local != 0

    def op_count(self) -> int | None:
        """The operation counter as last read."""
        count = _finite(self.values.get(Field.OP_COUNT))
        return None if count is None else int(count)

    def asked_since(self, moment: float) -> bool:
        """Position and local were asked for at or after this moment, and came."""
        for source in self._status_sources:  # noqa: SIM110 - a generator costs twice that, at every step of a command
            if source.asked_at < moment:
                return False
        return True

    def reading(self, now: float, link_up: bool) -> BreakerReading:
        """What is known of the breaker now."""
        power, power_source = _finite(self.values.get(Field.POWER)), self.sources.get(Field.POWER)
        if power_source is None or not link_up or now - power_source.read_at > self.power_stale_s:
            power = None
        return BreakerReading(
            position=self.position(),
            quality=self.quality(now, link_up),
            local=self.local(),
            op_count=self.op_count(),
            power_kw=power,
            read_at=min([source.read_at for source in self._status_sources]),
        )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


class MeasurementCell:
    """A measured value that is not a breaker's."""

    __slots__ = ("name", "source", "stale_after_s", "value")

    def __init__(self, name: str, stale_after_s: float, source: Source) -> None:
        self.name = name
        self.stale_after_s = stale_after_s
        self.source = source
        self.value: float | None = None

    def reading(self, now: float, link_up: bool) -> Reading:
        """The value and its quality; what is no finite number is BAD and has no value."""
        quality = self.source.quality(now) if link_up else Quality.BAD
        if quality is not Quality.BAD:
            quality = Quality.UNCERTAIN if now - self.source.read_at > self.stale_after_s else Quality.GOOD
        value = _finite(self.value)
        return Reading(value, quality if value is not None else Quality.BAD, self.source.read_at)


def worst(qualities: Iterable[Quality]) -> Quality:
    """The worst of some qualities."""
    found = Quality.GOOD
    for quality in qualities:
        if quality is Quality.BAD:
            return quality
        if quality is not Quality.GOOD:
            found = quality
    return found


class DeviceImage:
    """The part of the process image that one device fills."""

    def __init__(self) -> None:
        self.link_up = False
        """False once the link is known to be away; a hiccup leaves it True, and age decides."""
        self.breakers: dict[str, BreakerCell] = {}
        self.measurements: dict[str, MeasurementCell] = {}
        self.sources: list[Source] = []
        self._dirty: dict[str, BreakerCell] = {}

    def touch(self, cell: BreakerCell) -> None:
        """A value of this breaker was read that differs from the one before."""
        self._dirty[cell.name] = cell

    def set_link_up(self, link_up: bool) -> None:
        """The link came or went."""
        if link_up != self.link_up:
            self.link_up = link_up
            self._dirty.update(self.breakers)

    def changes(self, now: float) -> list[tuple[str, BreakerReading]]:
        """The breakers to be told of, each once; also those whose quality changed by age alone."""
        for source in self.sources:
            quality = source.quality(now)
            if quality is not source.shown:
                source.shown = quality
                self._dirty.update((cell.name, cell) for cell in source.cells)
        if not self._dirty:
            return []
        changed = []
        for cell in self._dirty.values():
            told = (cell.position(), cell.quality(now, self.link_up), cell.local(), cell.op_count())
            if told != cell.told:
                cell.told = told
                changed.append((cell.name, cell.reading(now, self.link_up)))
        self._dirty.clear()
        return changed

    def breaker(self, name: str, now: float) -> BreakerReading:
        """One breaker's reading now."""
        return self.breakers[name].reading(now, self.link_up)

    def measurement(self, name: str, now: float) -> Reading:
        """One measurement's reading now."""
        return self.measurements[name].reading(now, self.link_up)
