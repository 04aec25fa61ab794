"""The picture of an event report: an SVG drawing made by hand, without a plotting library.

From top to bottom, over one axis of time: numbered events; load against capacity with the limits at which the procedure
arms and clears, and above the load what was shed; power shed; the band of phases. It is a pure function of the data.

What must stay true: a peak is never lost by thinning out samples; no line is drawn over a stretch without samples;
labels do not lie on top of one another; the size of the drawing is bounded whatever the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta, tzinfo
from itertools import pairwise

from gateway.clock import from_us
from gateway.shedding.report_data import EventKind, ReportData, ReportEvent, Sample
from gateway.shedding.report_figures import SECOND_US, escaped, in_order, local, longest_step_us, measured, mw, zone

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


def draw(data: ReportData) -> str:
    """The picture as one ``<svg>`` element."""
    samples = in_order(data.samples)
    events = sorted(data.events, key=lambda event: event.time_us)
    if not samples and not events:
        return '<svg viewBox="0 0 1160 60" role="img"><text class="empty" x="580" y="34">No samples, no events</text></svg>'
    time = _time_axis(samples, events)
    places = place_markers([time.at(event.time_us) for event in events[:MARKERS_AT_MOST]])
    load_top = 16 + MARKER_ROW * (max((row for _, row in places), default=0) + 1)
    shed_top = load_top + LOAD_HEIGHT + PANEL_GAP
    band_top = shed_top + SHED_HEIGHT + 12
    axis_y = band_top + 2 * BAND_HEIGHT
    height = axis_y + 78
    loads = [thinned(segment) for segment in continuous(samples, measured)]
    sheds = [thinned(segment) for segment in continuous(samples, lambda sample: True)]
    parts = [
        _tag("title", _text=f"Load, capacity and events of {data.site}"),
        _definitions(),
        _time_grid(time, data.tz, load_top, axis_y),
        _power_loss(events, time, load_top, axis_y),
        _load_panel(loads, data, time, load_top),
        _shed_panel(sheds, time, shed_top),
        _band("tiers out", tier_steps(events, round(time.high)), time, band_top),
        _band("phase", phases(events, round(time.high)), time, band_top + BAND_HEIGHT),
        _markers(events, places, time, load_top, axis_y),
        _legend(data, axis_y + 62),
    ]
    label = escaped(f"{data.title}: load and capacity in MW over time, power shed, phases and {len(events)} events")
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">\n' + "\n".join(parts) + "\n</svg>"


# -- preparing the data ------------------------------------------------------------------------------------------------


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


def _time_axis(samples: Sequence[Sample], events: Sequence[ReportEvent]) -> Axis:
    times = [sample.time_us for sample in samples] + [event.time_us for event in events]
    low, high = min(times), max(times)
    if low == high:
        low, high = low - 30 * SECOND_US, high + 30 * SECOND_US
    return Axis(low, high, LEFT, LEFT + PLOT_WIDTH)


# -- drawing -----------------------------------------------------------------------------------------------------------


def _tag(name: str, _text: str | None = None, **attributes: float | str) -> str:
    """One element; attributes named with _ for -, and class_ for class. Everything is escaped."""
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_number(value) if isinstance(value, float | int) else escaped(value)}"'
        for key, value in attributes.items()
    )
    return f"<{name}{shown}/>" if _text is None else f"<{name}{shown}>{escaped(_text)}</{name}>"


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _points(pairs: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)


def _definitions() -> str:
    stripes = _tag("path", d="M0,8 L8,0", class_="hatch")
    return f'<defs><pattern id="down" width="8" height="8" patternUnits="userSpaceOnUse">{stripes}</pattern></defs>'


def _time_grid(time: Axis, tz: tzinfo, top: float, bottom: float) -> str:
    parts = []
    step_labels = time_ticks(round(time.low), round(time.high), tz)
    short = len(step_labels) > 1 and step_labels[1] - step_labels[0] < 60 * SECOND_US
    day = ""
    for tick in step_labels:
        x = time.at(tick)
        parts.append(_tag("line", class_="grid", x1=x, y1=top, x2=x, y2=bottom))
        parts.append(
            _tag("text", local(tick, tz, "%H:%M:%S" if short else "%H:%M"), class_="tick middle", x=x, y=bottom + 16)
        )
        today = local(tick, tz, "%d %b %Y")
        if today != day:
            parts.append(_tag("text", today, class_="tick middle day", x=x, y=bottom + 31))
            day = today
    name = f"local time, {zone(round(time.low), tz)}"
    parts.append(_tag("text", name, class_="tick end", x=WIDTH, y=bottom + 31))
    return "\n".join(parts)


def _value_grid(axis: Axis, about: int) -> list[str]:
    parts = []
    values = ticks(axis.low, axis.high, about)
    digits = max((len(f"{value / 1000:.6f}".rstrip("0").split(".")[1]) for value in values), default=0)
    for value in values:
        y = axis.at(value)
        parts.append(_tag("line", class_="grid", x1=LEFT, y1=y, x2=LEFT + PLOT_WIDTH, y2=y, data_kw=value))
        parts.append(_tag("text", f"{value / 1000:,.{digits}f}", class_="tick end", x=LEFT - 7, y=y + 4))
    return parts


def _frame(top: float, height: float, title: str) -> list[str]:
    return [
        _tag("rect", class_="frame", x=LEFT, y=top, width=PLOT_WIDTH, height=height),
        _tag("text", title, class_="axis", transform=f"translate(14 {top + height / 2:.0f}) rotate(-90)"),
    ]


def _load_panel(segments: Sequence[Sequence[Sample]], data: ReportData, time: Axis, top: float) -> str:
    drawn = [sample for segment in segments for sample in segment]
    if not drawn:
        return "\n".join(_frame(top, LOAD_HEIGHT, "load, MW"))
    low = min(min(s.load_kw or 0.0, s.capacity_kw * data.clear_pct / 100) for s in drawn)
    high = max(max((s.load_kw or 0.0) + s.shed_kw, s.capacity_kw) for s in drawn)
    room = (high - low or abs(high) or 1.0) * 0.06
    axis = Axis(low - room, high + room, top + LOAD_HEIGHT, top)
    parts = _value_grid(axis, 6)
    limits: list[tuple[str, str, Callable[[Sample], float]]] = [
        ("capacity", "capacity", lambda s: s.capacity_kw),
        ("arm", f"arm {data.arm_pct:g} %", lambda s: s.capacity_kw * data.arm_pct / 100),
        ("clear", f"clear {data.clear_pct:g} %", lambda s: s.capacity_kw * data.clear_pct / 100),
    ]
    for segment in segments:
        without = [(time.at(s.time_us), axis.at((s.load_kw or 0.0) + s.shed_kw)) for s in segment]
        load = [(time.at(s.time_us), axis.at(s.load_kw or 0.0)) for s in segment]
        parts.append(_tag("polygon", class_="avoided", points=_points([*without, *reversed(load)])))
        parts.append(_tag("polyline", class_="without", points=_points(without)))
    # Limits hold through gaps too: one line over all samples.
    for name, _, value in limits:
        points = [(time.at(s.time_us), axis.at(value(s))) for s in drawn]
        if len(drawn) == 1:
            points = [(float(LEFT), points[0][1]), (float(LEFT + PLOT_WIDTH), points[0][1])]
        parts.append(_tag("polyline", class_=name, points=_points(points)))
    for segment in segments:
        parts.append(_line_or_dot("load", [(time.at(s.time_us), axis.at(s.load_kw or 0.0)) for s in segment]))
    last = drawn[-1]
    ends = [axis.at(value(last)) for _, _, value in limits]
    for (name, label, value), end, y in zip(limits, ends, spread(ends, 14), strict=True):
        x = LEFT + PLOT_WIDTH
        parts.append(_tag("polyline", class_=f"{name} leader", points=_points([(x, end), (x + 8, y)])))
        text = f"{label} · {mw(value(last))} MW"
        parts.append(_tag("text", text, class_=f"label {name}-text", x=x + 11, y=y + 4))
    return "\n".join(parts + _frame(top, LOAD_HEIGHT, "load, MW"))


def _line_or_dot(name: str, points: Sequence[tuple[float, float]]) -> str:
    if len(points) == 1:
        return _tag("circle", class_=f"{name} dot", cx=points[0][0], cy=points[0][1], r=3)
    return _tag("polyline", class_=name, points=_points(points))


def _shed_panel(segments: Sequence[Sequence[Sample]], time: Axis, top: float) -> str:
    drawn = [sample for segment in segments for sample in segment]
    most = max((sample.shed_kw for sample in drawn), default=0.0)
    axis = Axis(0.0, most * 1.15 or 1000.0, top + SHED_HEIGHT, top)
    parts = _value_grid(axis, 3)
    for segment in segments:
        line = [(time.at(s.time_us), axis.at(s.shed_kw)) for s in segment]
        ground = [(line[-1][0], axis.start), (line[0][0], axis.start)]
        parts.append(_tag("polygon", class_="shed", points=_points([*line, *ground])))
    if most > 0:
        peak = max(drawn, key=lambda sample: sample.shed_kw)
        x, y = LEFT + PLOT_WIDTH, axis.at(most)
        parts.append(_tag("line", class_="shed-most", x1=time.at(peak.time_us), y1=y, x2=x + 8, y2=y))
        parts.append(_tag("text", f"at most {mw(most)} MW", class_="label shed-text", x=x + 11, y=y + 4))
    return "\n".join(parts + _frame(top, SHED_HEIGHT, "shed, MW"))


def _band(name: str, found: Sequence[Phase], time: Axis, top: float) -> str:
    parts = [_tag("text", name, class_="tick end", x=LEFT - 7, y=top + 15)]
    for phase in found:
        x, width = time.at(phase.start_us), time.at(phase.end_us) - time.at(phase.start_us)
        box = _tag("rect", class_=f"phase {phase.look}", x=x, y=top, width=width, height=BAND_HEIGHT)
        parts.append(f"<g>{_tag('title', phase.label)}{box}</g>")
        # Some 6.4 px a character at this size; a label that doesn't fit is left to the tooltip and to the table.
        for label in (phase.label, "".join(c for c in phase.label if c.isdigit())):
            if label and len(label) * 6.4 + 6 <= width:
                text = _tag("text", label, class_=f"phase-text {phase.look}-on", x=x + width / 2, y=top + 15)
                parts.append(text)
                break
    return "\n".join([*parts, _tag("rect", class_="frame", x=LEFT, y=top, width=PLOT_WIDTH, height=BAND_HEIGHT)])


def _power_loss(events: Sequence[ReportEvent], time: Axis, top: float, bottom: float) -> str:
    """Stretches in which the gateway had no power, from each loss to the next restart."""
    parts = []
    for index, event in enumerate(events):
        if event.kind is EventKind.POWER_LOSS:
            later = (e.time_us for e in events[index + 1 :] if e.kind is EventKind.RESTART)
            x, end = time.at(event.time_us), time.at(next(later, round(time.high)))
            parts.append(_tag("rect", class_="down", x=x, y=top, width=max(end - x, 1.0), height=bottom - top))
    return "\n".join(parts)


def _markers(
    events: Sequence[ReportEvent], places: Sequence[tuple[float, int]], time: Axis, top: float, bottom: float
) -> str:
    lines, marks = [], []
    for number, (event, (x, row)) in enumerate(zip(events, places, strict=False), 1):
        at = time.at(event.time_us)
        y = top - 13 - row * MARKER_ROW
        points = _points([(x, y), (at, top), (at, bottom)])
        lines.append(_tag("polyline", class_=f"event {event.kind}-line", points=points))
        circle = _tag("circle", class_=f"mark {event.kind}", cx=x, cy=y, r=MARKER_RADIUS)
        text = _tag("text", str(number), class_=f"mark-text {event.kind}-on", x=x, y=y + 4)
        marks.append(f"<g>{_tag('title', event.title)}{circle}{text}</g>")
    return "\n".join(lines + marks)


def _legend(data: ReportData, y: float) -> str:
    entries = [
        ("load", "load, measured"),
        ("avoided", "load without shedding (estimate)"),
        ("capacity", "capacity"),
        ("arm", f"arms at {data.arm_pct:g} %"),
        ("clear", f"clears at {data.clear_pct:g} %"),
        ("shed", "power shed"),
        ("down", "gateway without power"),
    ]
    parts = []
    x: float = LEFT
    for name, label in entries:
        if name in ("avoided", "shed", "down"):
            parts.append(_tag("rect", class_=name, x=x, y=y - 9, width=22, height=11))
        else:
            parts.append(_tag("polyline", class_=name, points=_points([(x, y - 4), (x + 22, y - 4)])))
        parts.append(_tag("text", label, class_="legend", x=x + 28, y=y))
        x += 28 + len(label) * 5.9 + 20
    return "\n".join(parts)
