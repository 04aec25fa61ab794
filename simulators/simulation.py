"""One run: plant, network, load and clock put together on an asyncio loop.

Mechanics and network run in real seconds at any rate of the clock; heat and load run in simulated time. The only timers
are one for the next end of a travel and one for the load.
"""

from __future__ import annotations

import asyncio
import time

from simulators.clock import SimulatedTime
from simulators.modbus import Listener
from simulators.plant import Plant
from simulators.site import ClockLine, SimulatedSite

TRAVEL_GRID_S = 0.002


class StartError(Exception):
    """The simulator can't listen where the site says; the text says where and why."""


class Simulation:
    """A site, simulated. Use ``async with`` or start and stop."""

    def __init__(self, site: SimulatedSite, clock: ClockLine | None = None) -> None:
        """clock: in place of the site's own line."""
        self.site = site
        self.time = SimulatedTime(clock or site.clock)
        self.plant = Plant(site, self.time.now_us)
        self.plant.on_travel = self._schedule_travel
        self.listeners = {row.name: Listener(self.plant.devices[row.name], row.host, row.port) for row in site.devices}
        self._travel_timer: asyncio.TimerHandle | None = None
        self._travel_due = 0.0

    async def __aenter__(self) -> Simulation:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen on every device's address. Raises StartError; then nothing listens."""
        for name, listener in self.listeners.items():
            try:
                await listener.open()
            except OSError as error:
                await self.stop()
                raise StartError(f"{name} can't listen on {listener.host}:{listener.port}: {error.strerror}") from error

    async def stop(self) -> None:
        """Close everything."""
        if self._travel_timer is not None:
            self._travel_timer.cancel()
            self._travel_timer = None
        for listener in self.listeners.values():
            listener.close()
        await asyncio.sleep(0)

    def _schedule_travel(self) -> None:
        due = self.plant.switchgear.next_arrival()
        if due is None or (self._travel_timer is not None and due > self._travel_due - TRAVEL_GRID_S):
            return
        if self._travel_timer is not None:
            self._travel_timer.cancel()
        now = time.monotonic()
        self._travel_due = max(due, now + TRAVEL_GRID_S)
        self._travel_timer = asyncio.get_running_loop().call_later(self._travel_due - now, self._end_travels)

    def _end_travels(self) -> None:
        self._travel_timer = None
        self.plant.switchgear.advance(time.monotonic())
        self._schedule_travel()
