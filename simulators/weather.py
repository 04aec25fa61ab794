"""The heatwave: Victoria's demand and Melbourne's temperature, 13-18 January 2014, at any moment between the half-hours.

The data's origin stands in the header of ``data/victoria_2014_january.csv``. Local time is UTC+11. Outside of the six days
the data repeats every six days, the time of day kept, so that a site in real time has weather too.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import numpy.typing as npt

LOCAL = timezone(timedelta(hours=11))
FIRST_HALF_HOUR = datetime(2014, 1, 13, tzinfo=LOCAL)
STEP_S = 1800.0
WALL_LAG_S = 5400.0
REFERENCE_PEAK = datetime(2014, 1, 16, 16, 0, tzinfo=LOCAL)
DATA_FILE = Path(__file__).parent / "data" / "victoria_2014_january.csv"

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Weather:
    """Half-hours from FIRST_HALF_HOUR on. demand_gw: gigawatts; ambient_c: degrees Celsius outside.

    felt_c: what rooms feel of it behind walls that lag by WALL_LAG_S (first-order low pass); it keeps a gust from
    switching all coolers in step.
    """

    demand_gw: Floats
    ambient_c: Floats
    felt_c: Floats

    def demand_at(self, time_s: float) -> float:
        """Demand (GW) at Unix seconds, linear between half-hours."""
        return self._at(self.demand_gw, time_s)

    def ambient_at(self, time_s: float) -> float:
        """Air temperature (°C) at Unix seconds, linear between half-hours."""
        return self._at(self.ambient_c, time_s)

    def felt_at(self, time_s: float) -> float:
        """Temperature (°C) that rooms feel at Unix seconds."""
        return self._at(self.felt_c, time_s)

    @staticmethod
    def _at(values: Floats, time_s: float) -> float:
        place = ((time_s - FIRST_HALF_HOUR.timestamp()) / STEP_S) % len(values)
        first = int(place)
        share = place - first
        return float(values[first] * (1.0 - share) + values[(first + 1) % len(values)] * share)


def read_weather(path: Path = DATA_FILE) -> Weather:
    """Read the data file."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    ambient_c = np.array([float(row["ambient_c"]) for row in rows])
    return Weather(np.array([float(row["demand_gw"]) for row in rows]), ambient_c, _lagged(ambient_c))


def _lagged(ambient_c: Floats) -> Floats:
    keep = math.exp(-STEP_S / WALL_LAG_S)
    lagged = np.empty_like(ambient_c)
    value = float(ambient_c[0])
    for index, outside in enumerate(ambient_c):
        value = outside + keep * (value - outside)
        lagged[index] = value
    return lagged


def local_second_of_day(time_s: float) -> float:
    """Seconds since local midnight at Unix seconds."""
    return (time_s + 11 * 3600.0) % 86400.0
