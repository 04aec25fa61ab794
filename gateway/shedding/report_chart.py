"""The picture of an event report: an SVG drawing made by hand, without a plotting library.

From top to bottom, over one axis of time: numbered events; load against capacity with the limits at which the procedure
arms and clears, and above the load what was shed; power shed; the band of phases. It is a pure function of the data.

What must stay true: a peak is never lost by thinning out samples; no line is drawn over a stretch without samples;
labels do not lie on top of one another; the size of the drawing is bounded whatever the data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import tzinfo

from gateway.shedding.report_data import EventKind, ReportData, ReportEvent, Sample
from gateway.shedding.report_figures import SECOND_US, escaped, in_order, local, measured, mw, zone
from gateway.shedding.report_layout import (
    BAND_HEIGHT,
    LEFT,
    LOAD_HEIGHT,
    MARKER_RADIUS,
    MARKER_ROW,
    MARKERS_AT_MOST,
    PANEL_GAP,
    PLOT_WIDTH,
    SHED_HEIGHT,
    WIDTH,
    Axis,
    Phase,
    continuous,
    phases,
    place_markers,
    spread,
    thinned,
    ticks,
    tier_steps,
    time_axis,
    time_ticks,
)


def draw(data: ReportData) -> str:
    """The picture as one ``<svg>`` element."""
    samples = in_order(data.samples)
    events = sorted(data.events, key=lambda event: event.time_us)
    if not samples and not events:
        return '<svg viewBox="0 0 1160 60" role="img"><text class="empty" x="580" y="34">No samples, no events</text></svg>'
    time = time_axis(samples, events)
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
