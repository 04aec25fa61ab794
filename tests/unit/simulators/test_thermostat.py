"""Thermostats against closed-form figures, and the loss of diversity that makes cold-load pick-up."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simulators.thermostat import Thermostats


def units(count: int, spread: float = 0.0, seed: int = 1) -> Thermostats:
    """The reference unit: R 2 °C/kW, C 10 kWh/°C, P 14 kW, 20 ± 0.25 °C."""
    rng = np.random.default_rng(seed)

    def of(mean: float) -> np.ndarray:
        return (mean * rng.uniform(1 - spread, 1 + spread, count)).astype(np.float32)

    return Thermostats(of(2.0), of(10.0), of(14.0), np.full(count, 20.0, dtype=np.float32), 0.25)


def test_the_reference_cycle_is_37_and_a_half_minutes_on_and_50_off() -> None:
    # Closed form: RC·ln((T_from − T_end)/(T_to − T_end)) with end temperatures 4 °C (on) and 32 °C (off).
    assert 20 * math.log(16.25 / 15.75) * 60 == pytest.approx(37.50, abs=0.01)
    assert 20 * math.log(12.25 / 11.75) * 60 == pytest.approx(50.01, abs=0.01)
    unit = units(1)
    on = np.array([True])
    running = [bool(unit.step(1.0, 32.0, on)[0]) for _ in range(8 * 3600)]
    edges = [i for i in range(1, len(running)) if running[i] != running[i - 1]]
    lengths = np.diff(edges)
    ons = lengths[0::2] if running[edges[0]] else lengths[1::2]
    offs = lengths[1::2] if running[edges[0]] else lengths[0::2]
    assert ons / 60 == pytest.approx(37.50, abs=0.1)
    assert offs / 60 == pytest.approx(50.01, abs=0.1)


def test_duty_is_three_sevenths_at_32_degrees() -> None:
    unit = units(1)
    assert float(unit.duty(32.0)[0]) == pytest.approx(0.4286, abs=1e-4)
    assert float(unit.duty(19.0)[0]) == 0.0
    assert float(unit.duty(60.0)[0]) == 1.0


def test_settled_units_stay_near_their_duty() -> None:
    many = units(20_000, spread=0.1)
    many.settle(32.0, np.random.default_rng(2))
    on = np.array([True])
    expected = float(many.duty(32.0).mean())
    shares = [float(many.step(60.0, 32.0, on).mean()) for _ in range(120)]
    assert np.mean(shares) == pytest.approx(expected, abs=0.01)
    assert min(shares) > expected - 0.05
    assert max(shares) < expected + 0.05


def test_the_rebound_grows_with_the_outage_and_ends_at_one_over_duty() -> None:
    ratios = [rebound(minutes) for minutes in (1, 5, 10, 20, 30, 60)]
    assert ratios == sorted(ratios)
    # Reference curve of this model, off minutes → peak / before: 1.06, 1.25, 1.47, 1.92, 2.23, 2.33.
    assert ratios == pytest.approx([1.06, 1.25, 1.47, 1.92, 2.23, 2.33], abs=0.06)


def rebound(off_minutes: int) -> float:
    many = units(12_000, spread=0.1)
    many.settle(32.0, np.random.default_rng(3))
    on, off = np.array([True]), np.array([False])
    before = float(many.duty(32.0).mean())
    for _ in range(off_minutes * 6):
        assert not many.step(10.0, 32.0, off).any()
    return max(float(many.step(10.0, 32.0, on).mean()) for _ in range(240)) / before
