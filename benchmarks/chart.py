"""Small charts beside one another as SVG: a line each over a logarithmic axis. Nothing but the standard library.

Each y axis begins at 0, so that what looks flat is flat, and each axis says what it counts and in which unit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

COLUMNS = 2
WIDTH, HEIGHT = 420, 280
"""Of one panel."""
LEFT, RIGHT, TOP, BOTTOM = 66, 22, 46, 56
HEADER = 34
COLOURS = ("#0b5fa5", "#c2410c", "#15803d", "#7e22ce")
POWERS = {3: "1 k", 4: "10 k", 5: "100 k", 6: "1 M", 7: "10 M", 8: "100 M"}


@dataclass(frozen=True, slots=True)
class Panel:
    """One line. across and up: what its axes count, with the unit. points: (x, y), x above 0. beside: a dashed line."""

    title: str
    across: str
    up: str
    points: Sequence[tuple[float, float]]
    beside: Sequence[tuple[float, float]] = ()


def ceiling(value: float) -> float:
    """The next round number: 1, 2, 4, 6 or 8 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 6, 8, 10) if step * power >= value)


def draw(title: str, panels: Sequence[Panel]) -> str:
    """The drawing. Raises ValueError for a panel without points, or for none."""
    if not panels or not all(panel.points for panel in panels):
        raise ValueError("nothing to draw")
    width, height = WIDTH * COLUMNS, HEADER + HEIGHT * math.ceil(len(panels) / COLUMNS)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12" fill="#111827">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="26" font-size="16" font-weight="bold">{escape(title)}</text>',
    ]
    for number, panel in enumerate(panels):
        row, column = divmod(number, COLUMNS)
        parts.append(f'<g transform="translate({column * WIDTH} {HEADER + row * HEIGHT})">')
        parts += _panel(panel, COLOURS[number % len(COLOURS)])
        parts.append("</g>")
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, colour: str) -> Iterator[str]:
    low = math.floor(math.log10(min(x for x, _ in panel.points)))
    high = max(low + 1, math.ceil(math.log10(max(x for x, _ in panel.points))))
    top = ceiling(max(y for _, y in [*panel.points, *panel.beside]) * 1.15)  # room for the numbers above the points

    def at(x: float, y: float) -> tuple[float, float]:
        share = (math.log10(x) - low) / (high - low)
        return LEFT + share * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM)

    yield f'<text x="{LEFT}" y="30" font-size="13" font-weight="bold">{escape(panel.title)}</text>'
    for power in range(low, high + 1):
        x, base = at(10.0**power, 0)
        yield f'<path d="M{x:.1f} {TOP}V{base:.1f}" stroke="#e5e7eb"/>'
        yield f'<text x="{x:.1f}" y="{base + 17:.1f}" text-anchor="middle">{POWERS.get(power, f"{10**power:,}")}</text>'
    for step in range(5):
        x, y = at(10.0**low, top * step / 4)
        yield f'<path d="M{x:.1f} {y:.1f}H{WIDTH - RIGHT}" stroke="{"#6b7280" if step == 0 else "#e5e7eb"}"/>'
        yield f'<text x="{x - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{top * step / 4:g}</text>'
    middle = (TOP + HEIGHT - BOTTOM) / 2
    yield f'<text transform="translate(16 {middle}) rotate(-90)" text-anchor="middle">{escape(panel.up)}</text>'
    across = (LEFT + WIDTH - RIGHT) / 2
    yield f'<text x="{across}" y="{HEIGHT - BOTTOM + 37}" text-anchor="middle">{escape(panel.across)}</text>'
    dashed = " ".join("{:.1f},{:.1f}".format(*at(x, y)) for x, y in panel.beside)
    yield f'<polyline points="{dashed}" fill="none" stroke="#6b7280" stroke-width="1.5" stroke-dasharray="5 4"/>'
    places = [(*at(x, y), y) for x, y in panel.points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in places)
    yield f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>'
    for number, (x, y, value) in enumerate(places):
        side = (
            "start" if number == 0 else "end" if number == len(places) - 1 else "middle"
        )  # clear of the axis's numbers
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>'
        yield f'<text x="{x:.1f}" y="{y - 9:.1f}" text-anchor="{side}" fill="{colour}">{value:.3g}</text>'
