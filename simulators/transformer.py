"""The transformer's temperatures: top oil and hot spot by the differential equations of IEC 60076-7:2018, annex C.

    θo'   = ({[(1 + K²R)/(1 + R)]^x·Δθor + θa − θo}) / (k11·τo)
    Δθh1' = (k21·Δθhr·K^y − Δθh1) / (k22·τw)
    Δθh2' = ((k21 − 1)·Δθhr·K^y − Δθh2)·k22/τo
    θh    = θo + Δθh1 − Δθh2

K load per unit, θa ambient, θo top oil, θh hot spot (°C), times in minutes. Each equation is linear for a load that is
constant over a step, so a step is solved exactly and its length does not matter. Ageing is that of the standard for
non-upgraded paper, V = 2^((θh − 98)/6), and the factor of IEEE C57.91, exp(15000/383 − 15000/(θh + 273)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cooling:
    """A kind of cooling. rises in K at rated load, time constants in minutes, the rest without a unit."""

    oil_rise_k: float
    hot_spot_rise_k: float
    oil_min: float
    winding_min: float
    loss_ratio: float
    oil_exponent: float
    winding_exponent: float
    k11: float
    k21: float
    k22: float


ONAF = Cooling(52.0, 26.0, 150.0, 7.0, 6.0, 0.8, 1.3, 0.5, 2.0, 2.0)
ONAN_DISTRIBUTION = Cooling(55.0, 23.0, 180.0, 4.0, 5.0, 0.8, 1.6, 1.0, 1.0, 2.0)


class Transformer:
    """One transformer's thermal state, at rest at the given load (per unit) and ambient (°C)."""

    def __init__(self, cooling: Cooling, load_pu: float, ambient_c: float) -> None:
        self.cooling = cooling
        self.life_used_h = 0.0
        self.oil_c = ambient_c + self._oil_rise(load_pu)
        self._winding_k = cooling.k21 * self._winding_rise(load_pu)
        self._oil_lag_k = (cooling.k21 - 1.0) * self._winding_rise(load_pu)

    @property
    def hot_spot_c(self) -> float:
        """Temperature of the hottest spot of the winding, °C."""
        return self.oil_c + self._winding_k - self._oil_lag_k

    def step(self, step_s: float, load_pu: float, ambient_c: float) -> None:
        """Go on by step_s seconds at this load and ambient. life_used_h grows by the hours of life that it took."""
        cooling = self.cooling
        minutes = step_s / 60.0
        winding = self._winding_rise(load_pu)
        before_c = self.hot_spot_c
        self.oil_c = _approach(self.oil_c, ambient_c + self._oil_rise(load_pu), minutes, cooling.k11 * cooling.oil_min)
        self._winding_k = _approach(self._winding_k, cooling.k21 * winding, minutes, cooling.k22 * cooling.winding_min)
        self._oil_lag_k = _approach(
            self._oil_lag_k, (cooling.k21 - 1.0) * winding, minutes, cooling.oil_min / cooling.k22
        )
        self.life_used_h += (ageing_rate(before_c) + ageing_rate(self.hot_spot_c)) / 2.0 * step_s / 3600.0

    def _oil_rise(self, load_pu: float) -> float:
        cooling = self.cooling
        share = (1.0 + load_pu**2 * cooling.loss_ratio) / (1.0 + cooling.loss_ratio)
        return float(share**cooling.oil_exponent * cooling.oil_rise_k)

    def _winding_rise(self, load_pu: float) -> float:
        return float(self.cooling.hot_spot_rise_k * load_pu**self.cooling.winding_exponent)


def _approach(value: float, target: float, minutes: float, time_constant_min: float) -> float:
    return target + (value - target) * math.exp(-minutes / time_constant_min)


def ageing_rate(hot_spot_c: float) -> float:
    """Relative ageing of non-upgraded paper, 1 at 98 °C (IEC 60076-7)."""
    return float(2.0 ** ((hot_spot_c - 98.0) / 6.0))


def ageing_factor(hot_spot_c: float) -> float:
    """Ageing acceleration of upgraded paper, 1 at 110 °C (IEEE C57.91)."""
    return math.exp(15000.0 / 383.0 - 15000.0 / (hot_spot_c + 273.0))
