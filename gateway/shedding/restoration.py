"""Giving load back without a rebound: small stages, each one gated on measured headroom.

After an outage a feeder draws more than before (its thermostats have lost their diversity): the cold-load factor. A
stage may close only if the measured load, plus the load before the shed × the factor for its outage, stays under the
limit. What must stay true: smallest blocks first; a stage is at most ``stage_pct`` of capacity (a single feeder that is
larger goes alone, if there is room for it); a feeder stays off for at least ``min_off_s``.

Source of the factors: thermostatic load model (12,000 units, R 2 °C/kW, C 10 kWh/°C, 32 °C outside), peak after the
outage over load before it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

COLD_LOAD = ((0.0, 1.0), (1.0, 1.06), (5.0, 1.25), (10.0, 1.47), (20.0, 1.92), (30.0, 2.23), (60.0, 2.33))
"""(minutes off, peak load over load before); linear in between, level beyond the end."""


@dataclass(frozen=True, slots=True)
class Block:
    """A feeder that is shed: load before (kW), since when it is off."""

    feeder: str
    kw: float
    since_us: int


@dataclass(frozen=True, slots=True)
class Stage:
    """The next feeders to close, the load that they are expected to draw, and the room there is for them (kW).

    left: blocks that remain after this stage. wait_us: engine time at which the first of the remaining blocks may close
    at all (0: any time). When feeders is empty, ``why`` says what it waits for.
    """

    feeders: tuple[str, ...]
    predicted_kw: float
    headroom_kw: float
    left: int
    wait_us: int
    why: str


def cold_load_factor(outage_s: float) -> float:
    """Peak load after an outage of so many seconds, as a multiple of the load before it."""
    minutes = outage_s / 60
    for (x0, y0), (x1, y1) in itertools.pairwise(COLD_LOAD):
        if minutes < x1:
            return y0 + (y1 - y0) * (max(minutes, x0) - x0) / (x1 - x0)
    return COLD_LOAD[-1][1]


def next_stage(
    blocks: Iterable[Block],
    *,
    measured_kw: float,
    capacity_kw: float,
    limit_pct: float,
    stage_pct: float,
    min_off_s: float,
    now_us: int,
) -> Stage:
    """The next stage, as large as headroom and stage_pct allow; empty when nothing may close now."""
    headroom_kw = capacity_kw * limit_pct / 100 - measured_kw
    largest_kw = min(headroom_kw, capacity_kw * stage_pct / 100)
    everything = list(blocks)
    ripe = [b for b in everything if now_us - b.since_us >= min_off_s * 1e6]
    need = [(b.kw * cold_load_factor((now_us - b.since_us) / 1e6), b.feeder) for b in ripe]
    need.sort()
    chosen: list[str] = []
    predicted_kw = 0.0
    for kw, feeder in need:
        alone = not chosen and kw <= headroom_kw
        if not alone and predicted_kw + kw > largest_kw:
            break
        chosen.append(feeder)
        predicted_kw += kw
    wait_us = min((b.since_us + int(min_off_s * 1e6) for b in everything), default=0) if not ripe else 0
    why = ""
    if not chosen and everything:
        why = "the minimum off time to pass"
        if need:
            kw, feeder = need[0]
            why = f"{kw:.0f} kW of headroom for {feeder}, the smallest block, {max(0.0, headroom_kw):.0f} kW now"
    return Stage(tuple(chosen), predicted_kw, headroom_kw, len(everything) - len(chosen), wait_us, why)
