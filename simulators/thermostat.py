"""Air conditioners with thermostats: a room as one heat capacity, a cooler that is on or off.

    T' = a·T + (1 − a)·(Ta − s·R·P),   a = exp(−Δt / (R·C))

T room, Ta outside (°C), R thermal resistance (°C/kW), C heat capacity (kWh/°C), P cooling power (kW thermal), s 1 while
it runs. It starts above the upper edge of the band and stops below the lower one. While a feeder is dead its rooms warm up;
when it comes back most of its coolers want to run at once: cold-load pick-up is nothing but this lost diversity.

Source: the usual equivalent-thermal-parameter model (Ihara & Schweppe 1981; Callaway 2009). Reference unit: R 2, C 10,
P 14, 20 ± 0.25 °C at 32 °C outside runs 37.50 min, rests 50.01 min.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


class Thermostats:
    """Many units. All arrays have one shape; the last step's running units are in ``running``."""

    def __init__(
        self,
        resistance: Floats,
        capacity: Floats,
        cooling_kw: Floats,
        setpoint_c: Floats,
        half_band_c: float,
    ) -> None:
        self.resistance = resistance
        self.time_constant_h = resistance * capacity
        self.drop_c = resistance * cooling_kw
        self.setpoint_c = setpoint_c
        self.half_band_c = half_band_c
        self.low_c = setpoint_c - np.float32(half_band_c)
        self.high_c = setpoint_c + np.float32(half_band_c)
        self.room_c = setpoint_c.copy()
        self.wants: Bools = np.zeros(setpoint_c.shape, dtype=np.bool_)
        self.running: Bools = self.wants.copy()
        self._step_h = -1.0
        self._decay: Floats = np.ones_like(setpoint_c)

    def settle(self, ambient_c: float, rng: np.random.Generator) -> None:
        """Put the units where they would be after a long time at this temperature: spread over the band."""
        duty = self.duty(ambient_c)
        shape = self.setpoint_c.shape
        spread = rng.random(shape, dtype=np.float32) * np.float32(2 * self.half_band_c)
        self.room_c = np.where(duty > 0, self.low_c + spread, np.minimum(self.low_c, np.float32(ambient_c)))
        self.room_c = np.where(duty < 1, self.room_c, ambient_c - self.drop_c).astype(np.float32)
        self.wants = rng.random(shape, dtype=np.float32) < duty
        self.running = self.wants.copy()

    def duty(self, ambient_c: float) -> Floats:
        """Share of the time that each unit runs in the long run at this temperature."""
        share: Floats = np.clip((np.float32(ambient_c) - self.setpoint_c) / self.drop_c, 0.0, 1.0).astype(np.float32)
        return share

    def step(self, step_s: float, ambient_c: float, powered: Bools) -> Bools:
        """Go on by step_s seconds. powered is broadcast to the units. Returns which units run from now on."""
        step_h = step_s / 3600.0
        if step_h != self._step_h:
            self._step_h = step_h
            self._decay = np.exp(np.float32(-step_h) / self.time_constant_h)
        target = np.float32(ambient_c) - self.running * self.drop_c
        self.room_c = target + self._decay * (self.room_c - target)
        self.wants = (self.room_c > self.high_c) | (self.wants & (self.room_c >= self.low_c))
        self.running = self.wants & powered
        return self.running
