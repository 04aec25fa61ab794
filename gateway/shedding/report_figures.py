"""The numbers of an event report, and how numbers, times and texts are written in it. Pure functions.

What must stay true: a stretch without samples is never counted as time above the limit, since nobody saw it; power
that is shed stays shed through such a stretch, since breakers hold.
"""

from __future__ import annotations

import html
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo
from itertools import pairwise

from gateway.clock import from_us
from gateway.shedding.report_data import ReportData, Sample

SECOND_US = 1_000_000
HOUR_US = 3600 * SECOND_US
# A silence this many times longer than the usual distance of samples is a gap: no line is drawn over it.
GAP_FACTOR = 8


@dataclass(frozen=True, slots=True)
class KeyFigures:
    """None where nothing was measured. peak_pct: the largest load in percent of the capacity of its moment."""

    peak_load_kw: float | None
    peak_at_us: int | None
    peak_pct: float | None
    above_arm_s: float
    max_shed_kw: float
    max_open_breakers: int
    feeders_affected: int
    customers_affected: int
    not_served_mwh: float
    longest_outage_s: float
    longest_outage_feeder: str
    still_out: int


def measured(sample: Sample) -> bool:
    """Whether the sample has a load to draw and to count."""
    return sample.load_kw is not None and math.isfinite(sample.load_kw)


def in_order(samples: Sequence[Sample]) -> list[Sample]:
    """Samples by time."""
    return sorted(samples, key=lambda sample: sample.time_us)


def longest_step_us(samples: Sequence[Sample]) -> float:
    """The longest distance of two samples (in order) that still belong together; infinite if there are too few."""
    steps = [after.time_us - before.time_us for before, after in pairwise(samples)]
    return GAP_FACTOR * statistics.median(steps) if len(steps) >= 4 else math.inf


def end_us(data: ReportData) -> int:
    """The last moment that the report knows of."""
    return max(
        (
            *(sample.time_us for sample in data.samples),
            *(event.time_us for event in data.events),
            *(outage.closed_us or outage.opened_us for outage in data.outages),
        ),
        default=data.generated_us,
    )


def key_figures(data: ReportData) -> KeyFigures:
    """The figures under the picture.

    Energy not served is shed power integrated over time (trapezium), in MWh; it stands on the power that feeders had
    before they were opened, so it is an estimate.
    """
    samples = in_order(data.samples)
    loads = [(sample.load_kw or 0.0, sample) for sample in samples if measured(sample)]
    peak_kw, peak = max(loads, key=lambda pair: pair[0], default=(None, None))
    last = end_us(data)
    outages = [((outage.closed_us or last) - outage.opened_us, outage) for outage in data.outages]
    longest_us, longest = max(outages, key=lambda pair: pair[0], default=(0, None))
    customers = {outage.feeder: outage.customers for outage in data.outages}
    return KeyFigures(
        peak_load_kw=peak_kw,
        peak_at_us=peak.time_us if peak else None,
        peak_pct=max((100 * kw / s.capacity_kw for kw, s in loads if s.capacity_kw > 0), default=None),
        above_arm_s=_above_arm_us(samples, data.arm_pct) / SECOND_US,
        max_shed_kw=max((sample.shed_kw for sample in samples), default=0.0),
        max_open_breakers=max((sample.open_breakers for sample in samples), default=0),
        feeders_affected=len(customers),
        customers_affected=sum(customers.values()),
        not_served_mwh=_not_served_kwh(samples) / 1000,
        longest_outage_s=longest_us / SECOND_US,
        longest_outage_feeder=longest.feeder if longest else "",
        still_out=sum(outage.closed_us is None for outage in data.outages),
    )


def _above_arm_us(samples: Sequence[Sample], arm_pct: float) -> int:
    """Each sample holds until the next one, unless there is a gap after it."""
    limit = longest_step_us(samples)
    total = 0
    for before, after in pairwise(samples):
        step = after.time_us - before.time_us
        load = before.load_kw if measured(before) else None
        if load is not None and step <= limit and load >= arm_pct / 100 * before.capacity_kw:
            total += step
    return total


def _not_served_kwh(samples: Sequence[Sample]) -> float:
    return sum(
        (before.shed_kw + after.shed_kw) / 2 * (after.time_us - before.time_us) / HOUR_US
        for before, after in pairwise(samples)
    )


def mw(kw: float | None) -> str:
    """Kilowatts as megawatts: three figures or so, a dash for None."""
    if kw is None or not math.isfinite(kw):
        return "–"
    value = kw / 1000
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def duration(seconds: float) -> str:
    """Seconds as "1 h 05 min", "12 min 30 s" or "45 s"."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours:,} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def local(time_us: int, tz: tzinfo, form: str = "%H:%M:%S") -> str:
    """A time as people of the site read it."""
    return from_us(time_us).astimezone(tz).strftime(form)


def zone(time_us: int, tz: tzinfo) -> str:
    """The offset that is in force at a time: "UTC+11:00"."""
    offset = local(time_us, tz, "%z")
    return f"UTC{offset[:3]}:{offset[3:5]}"


def escaped(value: object) -> str:
    """Text for HTML and SVG: markup made harmless, control characters and broken surrogates replaced."""
    text = str(value).encode("utf-8", "replace").decode("utf-8")
    text = "".join(c if c in "\n\t" or (c >= " " and not "\x7f" <= c <= "\x9f") else "\ufffd" for c in text)
    return html.escape(text.replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd"), quote=True)
