"""The load of every feeder, at any moment: base, air conditioning, EV charging, pool pumps.

Undisturbed, the sum follows the demand curve of the heatwave, scaled so that the peak of 16 January is ``peak_pct`` of the
transformer's capacity. To that end the base load is what the curve leaves after the other three, each as it is expected
without any outage. An outage then shows in what it really does: dead feeders take nothing, rooms warm up and cars keep
waiting for their energy, and the sum after restoration is above the curve until both have caught up.

What must stay true: a dead feeder's load is 0; energy owed to a car is neither lost nor charged twice; the model depends
on the site, the seed, the times of switching and nothing else.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from simulators.classes import load_class
from simulators.site import FeederRow, SimulatedSite, SiteError
from simulators.thermostat import Bools, Thermostats
from simulators.weather import REFERENCE_PEAK, Weather, local_second_of_day

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

CHARGER_KW = 7.2
UNITS_WANTED = 24_000
MOST_UNITS, LEAST_UNITS = 256, 4
LONGEST_STEP_S = 30.0
MOST_STEPS = 5_000
DAY_S = 86_400.0

SETPOINT_C, SETPOINT_SPREAD_C, HALF_BAND_C = 23.0, 1.0, 0.25
RESISTANCE, CAPACITY, COOLING_KW, SPREAD = 2.0, 10.0, 20.0, 0.25


class CarFleet:
    """EV chargers: each day at its hour a car is owed energy; it takes up to ``limit_kw`` until that is paid."""

    def __init__(self, feeder: Integers, limit_kw: Floats, rng: np.random.Generator) -> None:
        count = len(feeder)
        self.feeder = feeder
        self.limit_kw = limit_kw
        at_work = rng.random(count) < 0.4
        self.arrival_s = np.where(at_work, rng.normal(10.5, 2.5, count), rng.normal(18.0, 1.8, count)) * 3600.0 % DAY_S
        self.daily_kwh = rng.gamma(4.0, 9.0 / 4.0, count)
        self.owed_kwh = np.zeros(count)

    def expected_kw(self, second: float) -> float:
        """Load of the undisturbed fleet at this second of the day."""
        since_h = (second - self.arrival_s) % DAY_S / 3600.0
        return float(np.sum(self.limit_kw * (since_h * self.limit_kw < self.daily_kwh)))

    def settle(self, second: float) -> None:
        """Owe what an undisturbed fleet would owe now."""
        since_h = (second - self.arrival_s) % DAY_S / 3600.0
        self.owed_kwh = np.maximum(0.0, self.daily_kwh - since_h * self.limit_kw)

    def step(self, before_s: float, after_s: float, powered: Bools) -> Floats:
        """Go on from one local time to another (s); returns kW of each charger."""
        arrivals = np.floor((after_s - self.arrival_s) / DAY_S) - np.floor((before_s - self.arrival_s) / DAY_S)
        self.owed_kwh += arrivals * self.daily_kwh
        hours = (after_s - before_s) / 3600.0
        power_kw: Floats = np.minimum(self.limit_kw, self.owed_kwh / hours) * powered[self.feeder]
        self.owed_kwh = np.maximum(0.0, self.owed_kwh - power_kw * hours)
        return power_kw


class PoolPumps:
    """Pumps on clock timers: a fixed window a day; what an outage took is not made up for."""

    def __init__(self, feeder: Integers, power_kw: Floats, rng: np.random.Generator) -> None:
        self.feeder = feeder
        self.power_kw = power_kw
        self.start_s = rng.uniform(8.0, 13.0, len(feeder)) * 3600.0
        self.length_s = rng.uniform(4.0, 8.0, len(feeder)) * 3600.0

    def at(self, second: float) -> Floats:
        """kW of each pump at this second of the day, if it has power."""
        power: Floats = self.power_kw * ((second - self.start_s) % DAY_S < self.length_s)
        return power


class LoadModel:
    """The loads of a site's feeders. energised: one byte a feeder, shared with the switchgear. time_s: Unix seconds."""

    def __init__(self, site: SimulatedSite, weather: Weather, energised: bytearray, time_s: float) -> None:
        self.weather = weather
        self.time_s = time_s
        self._energised = np.frombuffer(energised, dtype=np.bool_)
        rng = np.random.default_rng(site.seed)
        self._peak_kw = site.capacity_kw * site.peak_pct / 100.0
        self._peak_gw = weather.demand_at(REFERENCE_PEAK.timestamp())
        rated = np.array([feeder.rated_kw for feeder in site.feeders], dtype=np.float64)
        classes = [load_class(feeder.load_class) for feeder in site.feeders]
        expected = rated * np.array([c.coincidence for c in classes])
        self.cars = _cars(site.feeders, rng)
        self.pumps = _pumps(site.feeders, rng)
        base = expected * np.array([c.base for c in classes])
        cooling = expected * np.array([c.cooling for c in classes])
        scale = self._scale(site, float(base.sum() + cooling.sum()))
        self._base_weight = base / max(1e-9, float(base.sum()))
        self._build_cooling(cooling * scale, rng)
        self._settle(rng)
        self.power_kw: Floats = np.zeros(len(rated))
        self._update(np.zeros(len(self.cars.feeder)))

    def _scale(self, site: SimulatedSite, scalable_kw: float) -> float:
        """By how much base and cooling must grow for the sum to meet the reference peak."""
        second = local_second_of_day(REFERENCE_PEAK.timestamp())
        fixed_kw = self.cars.expected_kw(second) + float(self.pumps.at(second).sum())
        if fixed_kw >= self._peak_kw or scalable_kw <= 0:
            raise SiteError(
                f"{site.path}: cars and pumps alone take {fixed_kw:.0f} kW at the peak of {self._peak_kw:.0f}"
            )
        return (self._peak_kw - fixed_kw) / scalable_kw

    def _build_cooling(self, cooling_kw: Floats, rng: np.random.Generator) -> None:
        self._cooled: Integers = np.flatnonzero(cooling_kw > 0).astype(np.int64)
        count = len(self._cooled)
        units = min(MOST_UNITS, max(LEAST_UNITS, -(-UNITS_WANTED // max(1, count))))
        shape = (count, units)

        def spread(mean: float) -> npt.NDArray[np.float32]:
            return (mean * rng.uniform(1 - SPREAD, 1 + SPREAD, shape)).astype(np.float32)

        setpoint = rng.uniform(SETPOINT_C - SETPOINT_SPREAD_C, SETPOINT_C + SETPOINT_SPREAD_C, shape).astype(np.float32)
        self.thermostats = Thermostats(spread(RESISTANCE), spread(CAPACITY), spread(COOLING_KW), setpoint, HALF_BAND_C)
        reference_c = self.weather.felt_at(REFERENCE_PEAK.timestamp())
        at_peak = self.thermostats.duty(reference_c).mean(axis=1)
        self._unit_kw = cooling_kw[self._cooled] / at_peak / units
        self._grid_c = np.arange(0.0, 50.5, 0.5)
        self._grid_kw = np.array(
            [float(self.thermostats.duty(c).sum(axis=1) @ self._unit_kw) if count else 0.0 for c in self._grid_c]
        )

    def _settle(self, rng: np.random.Generator) -> None:
        self.thermostats.settle(self.weather.felt_at(self.time_s), rng)
        self.cars.settle(local_second_of_day(self.time_s))

    def curve_kw(self, time_s: float) -> float:
        """The load without any outage, by the demand curve."""
        return self._peak_kw * self.weather.demand_at(time_s) / self._peak_gw

    def cooling_expected_kw(self, ambient_c: float) -> float:
        """Load of all air conditioners in the long run at this temperature."""
        return float(np.interp(ambient_c, self._grid_c, self._grid_kw))

    def cooling_kw(self) -> float:
        """Load of all air conditioners that run now."""
        return float(self.thermostats.running.sum(axis=1) @ self._unit_kw)

    def total_kw(self) -> float:
        """The transformer's load."""
        return float(self.power_kw.sum())

    def ambient_c(self) -> float:
        """Air temperature now."""
        return self.weather.ambient_at(self.time_s)

    def advance(self, time_s: float, step_s: float) -> int:
        """Go on to Unix seconds time_s, in steps of step_s (at most LONGEST_STEP_S); returns the number of steps.

        What is less than a step waits for the next call. After a pause of more than MOST_STEPS steps the rest of the
        pause is skipped: the state settles at the new time, as if nothing had been switched in between.
        """
        step_s = min(step_s, LONGEST_STEP_S)
        steps = int((time_s - self.time_s) / step_s)
        if steps > MOST_STEPS:
            self.time_s = time_s - step_s
            self.cars.settle(local_second_of_day(self.time_s))
            steps = 1
        charging = None
        for _ in range(steps):
            charging = self._step(step_s)
        if charging is not None:
            self._update(charging)
        return max(0, steps)

    def _step(self, step_s: float) -> Floats:
        local_s = self.time_s + 11 * 3600.0
        powered = self._energised
        self.thermostats.step(step_s, self.weather.felt_at(self.time_s), powered[self._cooled][:, None])
        charging = self.cars.step(local_s, local_s + step_s, powered)
        self.time_s += step_s
        return charging

    def _update(self, charging: Floats) -> None:
        second = local_second_of_day(self.time_s)
        pumping = self.pumps.at(second)
        left_kw = self.curve_kw(self.time_s) - self.cooling_expected_kw(self.weather.felt_at(self.time_s))
        left_kw -= self.cars.expected_kw(second) + float(pumping.sum())
        power = self._base_weight * max(0.0, left_kw)
        power[self._cooled] += self.thermostats.running.sum(axis=1) * self._unit_kw
        power[self.pumps.feeder] += pumping
        power += np.bincount(self.cars.feeder, weights=charging, minlength=len(power))
        self.power_kw = power * self._energised


def _cars(feeders: tuple[FeederRow, ...], rng: np.random.Generator) -> CarFleet:
    feeder: list[int] = []
    limit: list[float] = []
    for index, row in enumerate(feeders):
        if load_class(row.load_class).ev > 0 and row.rated_kw > 0:
            chargers = max(1, round(row.rated_kw / CHARGER_KW))
            feeder += [index] * chargers
            limit += [min(CHARGER_KW, row.rated_kw / chargers)] * chargers
    return CarFleet(np.array(feeder, dtype=np.int64), np.array(limit, dtype=np.float64), rng)


def _pumps(feeders: tuple[FeederRow, ...], rng: np.random.Generator) -> PoolPumps:
    chosen = [(index, row.rated_kw) for index, row in enumerate(feeders) if load_class(row.load_class).pool > 0]
    feeder = np.array([index for index, _ in chosen], dtype=np.int64)
    return PoolPumps(feeder, np.array([kw for _, kw in chosen], dtype=np.float64), rng)
