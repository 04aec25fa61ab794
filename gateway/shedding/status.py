"""The custom status of the procedure: plain words for the people who watch it.

One shape for every step, so that a display needs no cases. ``until`` is RFC 3339 in UTC, or null where there is no end
by the clock. Pure; the size is bounded (lists are cut), far below the engine's limit for a custom status.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.clock import iso

OVERRIDES_SHOWN = 8

StatusDict = dict[str, object]


def feeders(number: int) -> str:
    """So many feeders, in words."""
    return "1 feeder" if number == 1 else f"{number} feeders"


@dataclass(slots=True)
class Figures:
    """Running figures of a procedure. shed_kw: load before opening of what is shed now; shortfall_kw: missing to
    target."""

    tier: str = ""
    target_kw: float = 0.0
    shed_kw: float = 0.0
    shortfall_kw: float = 0.0
    load_pct: float | None = None
    feeders_shed: int = 0
    overrides: list[dict[str, object]] = field(default_factory=list)


def describe(
    phase: str, figures: Figures, sentence: str, waits_for: str = "", until_us: int | None = None
) -> StatusDict:
    """The status. sentence: what goes on, without a full stop; what it waits for and until when is added to it."""
    until = iso(until_us) if until_us is not None else None
    words = sentence
    if waits_for:
        words += f"; waits for {waits_for}"
    if until is not None:
        words += f" until {until}"
    return {
        "phase": phase,
        "tier": figures.tier,
        "waits_for": waits_for,
        "until": until,
        "target_kw": round(figures.target_kw, 1),
        "shed_kw": round(figures.shed_kw, 1),
        "shortfall_kw": round(figures.shortfall_kw, 1),
        "load_pct": None if figures.load_pct is None else round(figures.load_pct, 2),
        "feeders_shed": figures.feeders_shed,
        "sentence": words,
        "overrides": figures.overrides[-OVERRIDES_SHOWN:],
    }
