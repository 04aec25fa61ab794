"""Lines over a logarithmic axis as SVG, with nothing but the standard library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 44, 92
COLOURS = ("#0b5fa5", "#c2410c", "#15803d", "#7e22ce")


@dataclass(frozen=True, slots=True)
class Series:
    """One line. points: (x, y), x above 0."""

    name: str
    points: Sequence[tuple[float, float]]


def ceiling(value: float) -> float:
    """The next round number: 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value)


def draw(title: str, along: str, unit: str, series: Sequence[Series]) -> str:
    """The drawing. Its y axis begins at 0, so that what looks flat is flat. Raises ValueError without points."""
    points = [point for one in series for point in one.points]
    if not points:
        raise ValueError("nothing to draw")
    low = math.floor(math.log10(min(x for x, _ in points)))
    high = max(low + 1, math.ceil(math.log10(max(x for x, _ in points))))
    top = ceiling(max(y for _, y in points))

    def at(x: float, y: float) -> tuple[float, float]:
        share = (math.log10(x) - low) / (high - low)
        return LEFT + share * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="26" font-size="16" font-weight="bold">{escape(title)}, {escape(unit)}</text>',
    ]
    for power in range(low, high + 1):
        x, base = at(10.0**power, 0)
        parts.append(f'<path d="M{x:.1f} {TOP}V{base:.1f}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="{x:.1f}" y="{base + 18:.1f}" text-anchor="middle">{10**power:,}</text>')
    for step in range(5):
        x, y = at(10.0**low, top * step / 4)
        parts.append(f'<path d="M{x:.1f} {y:.1f}H{WIDTH - RIGHT}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="{x - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{top * step / 4:g}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - BOTTOM + 36}" text-anchor="end">{escape(along)}</text>')
    for number, one in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        places = [at(x, y) for x, y in one.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in places]
        y = HEIGHT - BOTTOM + 36 + 18 * number
        parts.append(f'<path d="M{LEFT} {y - 4}h22" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{LEFT + 30}" y="{y}">{escape(one.name)}</text>')
    return "\n".join([*parts, "</svg>", ""])
