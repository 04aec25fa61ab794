"""Simulated time: the straight line ``origin + rate × (wall − wall_origin)``.

The same line stands in the site's file for the gateway, so both agree without talking. Like there, the wall clock is
looked at once and the time since boot from then on: a step of the wall clock does not disturb a run.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from simulators.site import ClockLine

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970 UTC of an aware datetime."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def iso(time_us: int) -> str:
    """ISO text in UTC."""
    return (_EPOCH + timedelta(microseconds=time_us)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class SimulatedTime:
    """The clock of one run; line None: simulated time is wall time."""

    def __init__(self, line: ClockLine | None) -> None:
        self.rate = 1.0 if line is None else line.rate
        wall_us = time.time_ns() // 1000
        self._boot_anchor_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        if line is None:
            self._anchor_us = wall_us
        else:
            self._anchor_us = microseconds(line.origin) + int(self.rate * (wall_us - microseconds(line.wall_origin)))

    def now_us(self) -> int:
        """Simulated microseconds since 1970."""
        elapsed_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - self._boot_anchor_ns
        return self._anchor_us + int(elapsed_ns * self.rate) // 1000
