"""Notices a wall clock that somebody stepped while the daemon ran: an alarm, a record, a warning; no timer is moved."""

from __future__ import annotations

import asyncio

import structlog

from gateway.clock import SystemClock
from gateway.durable import Engine
from gateway.supervision import record

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

CHECK_S = 5.0
STEP_ALARM_S = 1.0


class ClockCheck:
    """Looks at the clock now and then. warning: what the status says once it was stepped."""

    def __init__(self, engine: Engine, clock: SystemClock) -> None:
        self.warning = ""
        self._engine = engine
        self._clock = clock

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(CHECK_S)
            self.look()

    def look(self) -> None:
        """Raise the alarm at the first step that is seen."""
        step_s = self._clock.wall_step_s()
        if abs(step_s) >= STEP_ALARM_S and not self.warning:
            self.warning = f"the wall clock was stepped by {step_s:.1f} s; running timers are not moved"
            log.error("clock_stepped", step_s=round(step_s, 3))
            record(self._engine, "clock_stepped", step_s=round(step_s, 3))
