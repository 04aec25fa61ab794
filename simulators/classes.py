"""Load classes: what hangs on a feeder, in shares of its rated power.

``coincidence`` is the load expected at the reference peak (afternoon of 16 January 2014) per rated kW, over many feeders
of the class. The three shares divide that load; what is left of 1 is base load, which follows the demand curve.

Sources: none measured. The shares are plausible ones for a suburb of detached houses with shops, chosen so that
controlled loads (EV, pool) are a few percent of the peak and cooling about 40 %.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoadClass:
    """Shares of the load at the peak: air conditioning, EV charging, pool pumps; the rest is base load."""

    cooling: float
    ev: float
    pool: float
    coincidence: float

    @property
    def base(self) -> float:
        """Share of the base load."""
        return max(0.0, 1.0 - self.cooling - self.ev - self.pool)


EV = LoadClass(cooling=0.0, ev=1.0, pool=0.0, coincidence=0.07)
POOL = LoadClass(cooling=0.0, ev=0.0, pool=1.0, coincidence=0.60)
RESIDENTIAL = LoadClass(cooling=0.35, ev=0.0, pool=0.0, coincidence=0.80)

LOAD_CLASSES = {
    "ev": EV,
    "pool": POOL,
    "cooling": LoadClass(cooling=0.65, ev=0.0, pool=0.0, coincidence=0.80),
    "residential": RESIDENTIAL,
    "hospital": LoadClass(cooling=0.25, ev=0.0, pool=0.0, coincidence=0.75),
    "pumping": LoadClass(cooling=0.0, ev=0.0, pool=0.0, coincidence=0.60),
    "industrial": LoadClass(cooling=0.05, ev=0.0, pool=0.0, coincidence=0.75),
}


def load_class(name: str) -> LoadClass:
    """The class of that name; a name that is not known is taken as residential."""
    return LOAD_CLASSES.get(name, RESIDENTIAL)
