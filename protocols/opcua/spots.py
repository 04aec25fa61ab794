"""The nodes of one device: what each feeds, and how good its last value is.

A value is as good as its status code says, as young as its last confirmation (a read, or the subscription's sign of
life while it says nothing new), and as believable as its time-stamp:

* Bad: BAD, and the position stays as it was last known. Uncertain: UNCERTAIN, and so is GoodLocalOverride: somebody typed
  that value in, nobody measured it. A value of another type than its point says is BAD: a local switch that reads as a
  number must not pass for "remote".
* A source time-stamp from the future, one older than the one before, or a *new* one that is older than the last look is
  not to be believed: UNCERTAIN until a better one comes. An old one that was there at the start is no wonder, for OPC UA
  stamps a value when it changes: a breaker that has stood still for a year shows last year's.
* A device whose own clock is off by more than ``CLOCK_SLACK_S`` has time-stamps that mean nothing: all is UNCERTAIN.

Nothing in here does I/O or asks for the time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from asyncua import ua

from protocols.base import Quality, Reading
from protocols.image import STATUS_FIELDS, BreakerCell, DeviceImage, Field, MeasurementCell, Source
from protocols.opcua.faults import name_of
from protocols.opcua.site import BreakerPointsLike, NodeLike, PointLike, ValueLike

CLOCK_SLACK_S = 10.0
"""So far may the clocks of gateway and device be apart."""
WENT_BACK = "its time-stamp went back"

_BAD, _UNCERTAIN = 0x80000000, 0x40000000
_CODE = 0xFFFF0000
"""The lower half of a status code tells of limits and overflows."""
_FIRST_TIME = datetime(1970, 1, 1, tzinfo=UTC)


class Pulse:
    """The subscription's signs of life. at: the last one, monotonic; session: the number of the session they belong to."""

    __slots__ = ("at", "session", "skew_s")

    def __init__(self) -> None:
        self.at = 0.0
        self.session = 0
        self.skew_s = 0.0

    def beat(self, now: float, published: datetime | None, wall: float) -> None:
        """One came; published: the device's clock in it."""
        self.at = now
        stamp = seconds_of(published)
        if stamp is not None:
            self.skew_s = stamp - wall

    @property
    def skewed(self) -> bool:
        """The device's clock is off."""
        return abs(self.skew_s) > CLOCK_SLACK_S


@dataclass(frozen=True, slots=True)
class Taker:
    """Whom a node feeds; field is None for a measurement."""

    cell: BreakerCell | MeasurementCell
    field: Field | None
    point: PointLike


class Spot(Source):
    """One node. late_s: a new value's time-stamp may be this old. session: in which session a subscription confirms it."""

    __slots__ = ("_confirmed_at", "late_s", "pulse", "ref", "session", "stamp", "status", "suspect", "takers")

    def __init__(self, ref: NodeLike, stale_after_s: float, late_s: float, pulse: Pulse) -> None:
        self._confirmed_at = 0.0
        super().__init__(stale_after_s)
        self.ref = ref
        self.late_s = late_s
        self.pulse = pulse
        self.takers: list[Taker] = []
        self.status = Quality.BAD
        self.stamp: float | None = None
        self.suspect = ""
        self.session = 0

    @property
    def read_at(self) -> float:
        """When the value was last confirmed, monotonic; 0.0 if never."""
        pulse = self.pulse
        if self.session == pulse.session and self.session and pulse.at > self._confirmed_at:
            return pulse.at
        return self._confirmed_at

    @read_at.setter
    def read_at(self, at: float) -> None:
        self._confirmed_at = at

    def quality(self, now: float) -> Quality:
        """By status, failures, age and time-stamps (not yet: by the state of the link)."""
        base = super().quality(now)
        if base is Quality.BAD or self.status is Quality.BAD:
            return Quality.BAD
        if base is Quality.UNCERTAIN or self.status is Quality.UNCERTAIN or self.suspect or self.pulse.skewed:
            return Quality.UNCERTAIN
        return Quality.GOOD

    def why(self) -> str:
        """Why it is not good, in words; empty if nothing speaks against it but age."""
        if self.fault or self.suspect:
            return self.fault or self.suspect
        return f"the device's clock is off by {self.pulse.skew_s:+.0f} s" if self.pulse.skewed else ""

    def take(self, data: ua.DataValue, now: float, wall: float, image: DeviceImage) -> None:
        """A value came, by whichever way."""
        unseen_s = max(0.0, now - self.read_at)
        self.read_at = now
        self.failures = 0
        code = data.StatusCode.value if data.StatusCode is not None else 0
        if code & _BAD:
            self.bad(name_of(code), image)
            return
        doubtful = bool(code & _UNCERTAIN) or code & _CODE == ua.StatusCodes.GoodLocalOverride
        self.status = Quality.UNCERTAIN if doubtful else Quality.GOOD
        self.fault = name_of(code) if doubtful else ""
        self._judge_stamp(seconds_of(data.SourceTimestamp), wall, unseen_s)
        raw = data.Value.Value if data.Value is not None else None
        for taker in self.takers:
            value = decoded(taker.point, raw)
            if taker.field is Field.OP_COUNT and (self.status is not Quality.GOOD or self.suspect):
                value = None  # a counter that is in doubt proves nothing
            elif value is None:
                self.status = Quality.BAD
                self.fault = f"the value {str(raw)[:40]!r} is not of the kind that the point says"
            _put(taker, value, image)

    def bad(self, why: str, image: DeviceImage) -> None:
        """It has no value to go by. What is no position or switch is shown no longer."""
        self.status = Quality.BAD
        self.fault = why
        for taker in self.takers:
            if taker.field not in STATUS_FIELDS:
                _put(taker, None, image)

    def _judge_stamp(self, stamp: float | None, wall: float, unseen_s: float) -> None:
        """unseen_s: so long nobody looked; what changed meanwhile comes with a time-stamp as old as that."""
        before, self.stamp = self.stamp, stamp
        if stamp is None:
            self.suspect = ""
        elif stamp > wall + CLOCK_SLACK_S:
            self.suspect = f"its time-stamp is {stamp - wall:.0f} s ahead"
        elif before is None:
            self.suspect = ""
        elif stamp != before and wall - stamp > self.late_s + unseen_s:
            self.suspect = f"its time-stamp was {wall - stamp:.0f} s old when it came"
        elif stamp < before:
            self.suspect = WENT_BACK
        elif stamp > before or self.suspect == WENT_BACK:
            self.suspect = (
                ""  # newer; or asked again it says the same: the clock was put right, nothing old has come late
            )


class NodeMeasurementCell(MeasurementCell):
    """A measured value that also is no better than its node."""

    __slots__ = ()

    def reading(self, now: float, link_up: bool) -> Reading:
        """The value and its quality."""
        reading = super().reading(now, link_up)
        quality = self.source.quality(now)
        if quality is Quality.GOOD or reading.quality is Quality.BAD:
            return reading
        return Reading(reading.value, quality, reading.read_at)


class Spots:
    """All nodes of one device, each once, in the order of first use."""

    def __init__(self, stale_after_s: float, slow_s: float) -> None:
        self.pulse = Pulse()
        self.all: list[Spot] = []
        self._by_node: dict[tuple[str, str], Spot] = {}
        self._stale_after_s = stale_after_s
        self._late_s = stale_after_s + slow_s
        self._power_stale_s = max(stale_after_s, 3 * slow_s)

    def add_breaker(self, name: str, points: BreakerPointsLike, image: DeviceImage) -> None:
        """The nodes of one breaker."""
        cell = image.breakers[name] = BreakerCell(name, self._power_stale_s)
        for field, point in (
            (Field.CLOSED, points.pos_closed),
            (Field.OPEN, points.pos_open),
            (Field.LOCAL, points.local),
            (Field.OP_COUNT, points.op_count),
            (Field.POWER, points.power_kw),
        ):
            if point is None:
                continue
            spot = self._spot(point.node, self._stale_after_s)
            spot.takers.append(Taker(cell, field, point))
            cell.feed(field, spot)
            if field in STATUS_FIELDS:
                if not spot.cells:
                    image.sources.append(spot)
                spot.cells.append(cell)

    def add_measurement(self, name: str, point: PointLike, stale_after_s: float, image: DeviceImage) -> None:
        """The node of one measurement."""
        spot = self._spot(point.node, stale_after_s)
        spot.stale_after_s = max(spot.stale_after_s, stale_after_s) if not spot.cells else spot.stale_after_s
        cell = image.measurements[name] = NodeMeasurementCell(name, stale_after_s, spot)
        spot.takers.append(Taker(cell, None, point))

    def of(self, feeders: Iterable[str], image: DeviceImage, *, counters: bool = False) -> list[Spot]:
        """The nodes of position and local of these feeders; with counters, of their operation counters, too."""
        found: dict[int, Spot] = {}
        for name in feeders:
            for field, source in image.breakers[name].sources.items():
                if (field in STATUS_FIELDS or (counters and field is Field.OP_COUNT)) and isinstance(source, Spot):
                    found[id(source)] = source
        return list(found.values())

    def _spot(self, ref: NodeLike, stale_after_s: float) -> Spot:
        key = (ref.namespace, ref.identifier)
        spot = self._by_node.get(key)
        if spot is None:
            spot = self._by_node[key] = Spot(ref, stale_after_s, self._late_s, self.pulse)
            self.all.append(spot)
        return spot


def decoded(point: PointLike, raw: object) -> float | None:
    """The value of a point out of what its node holds; None for a value of another kind."""
    if point.equals is not None:
        if isinstance(raw, bool) is not point.equals.boolean or not isinstance(raw, int):
            return None
        return 1.0 if raw == point.equals.number else 0.0
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        return None
    value = raw * point.scale + point.offset
    return value if math.isfinite(value) else None


def plain(value: ValueLike) -> bool | int:
    """The value as it is written."""
    return bool(value.number) if value.boolean else value.number


def seconds_of(moment: datetime | None) -> float | None:
    """Unix seconds of a time-stamp (asyncua's are naive or aware, in UTC); None for none."""
    if moment is None:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp() if moment > _FIRST_TIME else None


def _put(taker: Taker, value: float | None, image: DeviceImage) -> None:
    cell = taker.cell
    if isinstance(cell, MeasurementCell):
        cell.value = value
        return
    field = taker.field
    if field is None or (value is None and field in STATUS_FIELDS) or cell.values.get(field) == value:
        return
    cell.values[field] = value
    image.touch(cell)
