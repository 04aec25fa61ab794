"""Where things go in the picture of an event report: scales, ticks, phases, thinning, places of markers and labels.

Pure functions, numbers in and numbers out; ``report_chart`` draws what they say. What must stay true: a peak is never
lost by thinning; markers of one row and labels do not lie on top of one another; counts are bounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta, tzinfo
from itertools import pairwise

from gateway.clock import from_us
from gateway.shedding.report_data import EventKind, ReportEvent, Sample
from gateway.shedding.report_figures import SECOND_US, longest_step_us

WIDTH, LEFT, RIGHT = 1160, 62, 150
PLOT_WIDTH = WIDTH - LEFT - RIGHT
LOAD_HEIGHT, SHED_HEIGHT, BAND_HEIGHT = 290, 84, 22
PANEL_GAP = 24
MARKER_RADIUS, MARKER_ROW = 9, 22
MARKERS_AT_MOST = 60
MARKER_ROWS_AT_MOST = 5
POINTS_AT_MOST = 2400
STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200)
DAY_S = 86400
PHASES = {
    EventKind.ARMED: "armed",
    EventKind.TIER_SHED: "tier",
    EventKind.COOLDOWN: "cooldown",
    EventKind.CLEARED: "stability",
    EventKind.RESTORE_STAGE: "stage",
}


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear scale: the value low is drawn at start, high at end (pixels)."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Where a value is drawn."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of the band below the picture."""

    start_us: int
    end_us: int
    look: str
    label: str


def continuous(samples: Sequence[Sample], drawn: Callable[[Sample], bool]) -> list[list[Sample]]:
    """Cut samples (in order) where there is a gap, and where one is not to be drawn."""
    limit = longest_step_us(samples)
    segments: list[list[Sample]] = [[]]
    for sample in samples:
        if segments[-1] and (sample.time_us - segments[-1][-1].time_us > limit or not drawn(sample)):
            segments.append([])
        if drawn(sample):
            segments[-1].append(sample)
    return [segment for segment in segments if segment]


def thinned(samples: Sequence[Sample], at_most: int = POINTS_AT_MOST) -> list[Sample]:
    """At most about at_most samples; of each stretch the first, the extremes of load and of shed power are kept."""
    if len(samples) <= at_most:
        return list(samples)
    kept: set[int] = {len(samples) - 1}
    size = math.ceil(len(samples) * 5 / at_most)
    for start in range(0, len(samples), size):
        stretch = range(start, min(start + size, len(samples)))

        def load(index: int) -> float:
            return samples[index].load_kw or 0.0

        def shed(index: int) -> float:
            return samples[index].shed_kw

        kept |= {start, max(stretch, key=load), min(stretch, key=load), max(stretch, key=shed), min(stretch, key=shed)}
    return [samples[index] for index in sorted(kept)]


def phases(events: Sequence[ReportEvent], end_us: int) -> list[Phase]:
    """The band: each event that begins a phase holds until the next one, or until the procedure has finished."""
    turning = [event for event in events if event.kind in PHASES or event.kind is EventKind.FINISHED]
    found: list[Phase] = []
    counts: dict[EventKind, int] = {}
    for event, end in _until_next(turning, end_us):
        if event.kind is EventKind.FINISHED or end <= event.time_us:
            continue
        counts[event.kind] = counts.get(event.kind, 0) + 1
        label = event.label or PHASES[event.kind]
        if not event.label and event.kind in (EventKind.TIER_SHED, EventKind.RESTORE_STAGE):
            label = f"{label} {counts[event.kind]}"
        found.append(Phase(event.time_us, end, event.kind.value, label))
    return found


def _until_next(events: Sequence[ReportEvent], end_us: int) -> list[tuple[ReportEvent, int]]:
    """Each event with the time of the next one, the last one with the end."""
    ends = [event.time_us for event in events[1:]] + [end_us]
    return list(zip(events, ends, strict=False))


def tier_steps(events: Sequence[ReportEvent], end_us: int) -> list[Phase]:
    """The band of tiers: how many tiers are out, from the first one to the end of restoration."""
    kinds = (EventKind.TIER_SHED, EventKind.RESTORE_STAGE, EventKind.FINISHED)
    turning = [event for event in events if event.kind in kinds]
    found: list[Phase] = []
    tiers = 0
    for event, end in _until_next(turning, end_us):
        match event.kind:
            case EventKind.TIER_SHED:
                tiers += 1
                found.append(Phase(event.time_us, end, f"out{min(tiers, 4)}", f"{tiers} tier{'s' * (tiers > 1)}"))
            case EventKind.RESTORE_STAGE if found and found[-1].look == "restoring":
                found[-1] = replace(found[-1], end_us=end)
            case EventKind.RESTORE_STAGE:
                found.append(Phase(event.time_us, end, "restoring", "restoring"))
            case _:
                tiers = 0
    return [phase for phase in found if phase.end_us > phase.start_us]


def place_markers(wanted: Sequence[float]) -> list[tuple[float, int]]:
    """Where markers go, as (x, row): never nearer than a diameter to another one of the same row.

    A marker takes the lowest row that is free at its place; if all are taken, it moves right in the row where that is
    the shortest way. A row that would end outside of the picture is pushed back to the left.
    """
    distance = 2 * MARKER_RADIUS + 2
    ends = [-math.inf] * MARKER_ROWS_AT_MOST
    places = []
    for x in wanted:
        row = next((row for row, end in enumerate(ends) if x >= end), None)
        if row is None:
            row = min(range(MARKER_ROWS_AT_MOST), key=lambda r: ends[r])
            x = ends[row]
        ends[row] = x + distance
        places.append((x, row))
    room = [float(LEFT + PLOT_WIDTH)] * MARKER_ROWS_AT_MOST
    for index in range(len(places) - 1, -1, -1):
        x, row = places[index]
        places[index] = min(x, room[row]), row
        room[row] = places[index][0] - distance
    return places


def spread(wanted: Sequence[float], distance: float) -> list[float]:
    """Move positions apart so that none is nearer than distance to the next, keeping their order."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    placed = list(wanted)
    for before, index in pairwise(order):
        placed[index] = max(placed[index], placed[before] + distance)
    if order:
        shift = sum(placed[index] - wanted[index] for index in order) / len(order)
        placed = [place - shift for place in placed]
    return placed


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers from low to high, about so many of them."""
    rough = (high - low) / max(about, 1)
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(magnitude * factor for factor in (1, 2, 2.5, 5, 10) if magnitude * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def time_ticks(start_us: int, end_us: int, tz: tzinfo, about: int = 9) -> list[int]:
    """Round local times between two moments."""
    span_s = (end_us - start_us) / SECOND_US
    days = max(1, math.ceil(span_s / DAY_S / about))
    step_s = next((step for step in STEPS_S if span_s / step <= about), days * DAY_S)
    local_start = from_us(start_us).astimezone(tz)
    offset_us = round((local_start.utcoffset() or timedelta()).total_seconds() * SECOND_US)
    step_us = step_s * SECOND_US
    first = -((-(start_us + offset_us)) // step_us)
    return [index * step_us - offset_us for index in range(first, (end_us + offset_us) // step_us + 1)]


def time_axis(samples: Sequence[Sample], events: Sequence[ReportEvent]) -> Axis:
    times = [sample.time_us for sample in samples] + [event.time_us for event in events]
    low, high = min(times), max(times)
    if low == high:
        low, high = low - 30 * SECOND_US, high + 30 * SECOND_US
    return Axis(low, high, LEFT, LEFT + PLOT_WIDTH)
