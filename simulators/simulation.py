"""One run: plant, network, load, faults and clock put together on an asyncio loop.

Mechanics and network run in real seconds at any rate of the clock; heat and load run in simulated time. There are two
timers: one for the next end of a travel, one for the load every LOAD_PERIOD_S real seconds.
"""

from __future__ import annotations

import asyncio
import time

import numpy as np

from simulators.clock import SimulatedTime
from simulators.faults import FaultDesk
from simulators.field import FieldDevice, ModbusField
from simulators.loads import LoadModel
from simulators.modbus import Listener
from simulators.plant import Plant
from simulators.site import ClockLine, DeviceRow, OpcuaRow, SimulatedSite, SiteError
from simulators.telemetry import Telemetry
from simulators.transformer import ONAF, Transformer
from simulators.weather import read_weather

TRAVEL_GRID_S = 0.002
LOAD_PERIOD_S = 0.5
# Measurements of these names, where a site has them, show the transformer's temperatures (°C).
OIL, HOT_SPOT = "oil_c", "hotspot_c"


class StartError(Exception):
    """The simulator can't listen where the site says; the text says where and why."""


class Simulation:
    """A site, simulated. Use ``async with`` or start and stop."""

    def __init__(self, site: SimulatedSite, clock: ClockLine | None = None) -> None:
        """clock: in place of the site's own line. Raises SiteError."""
        self.site = site
        self.time = SimulatedTime(clock or site.clock)
        self.plant = Plant(site, self.time.now_us)
        self.plant.on_travel = self._schedule_travel
        self.field = {row.name: self._on_network(row) for row in site.devices}
        self.faults = FaultDesk(self.plant, self.field)
        self.loads = LoadModel(site, read_weather(), self.plant.switchgear.energised, self.time.now_us() / 1e6)
        self.transformer = Transformer(ONAF, self._load_pu(), self.loads.ambient_c())
        try:
            self._feeder_power = Telemetry(self.plant.power_points())
            self._measured = Telemetry((self.plant.device(row.device), row.point) for row in site.measurements)
        except ValueError as error:
            raise SiteError(f"{site.path}: {error}") from error
        self._travel_timer: asyncio.TimerHandle | None = None
        self._travel_due = 0.0
        self._load_timer: asyncio.TimerHandle | None = None
        self._show_load()

    def _on_network(self, row: DeviceRow | OpcuaRow) -> FieldDevice:
        if isinstance(row, DeviceRow):
            return ModbusField(Listener(self.plant.devices[row.name], row.host, row.port))
        from simulators.opcua.server import RtuServer  # asyncua takes half a second to load: only where it is needed

        try:
            return RtuServer(self.plant.rtus[row.name], row)
        except (OSError, ValueError) as error:
            raise SiteError(f"{self.site.path}: {row.name}: {error}") from error

    async def __aenter__(self) -> Simulation:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen on every device's address. Raises StartError; then nothing listens."""
        for device in self.field.values():
            try:
                await device.open()
            except OSError as error:
                await self.stop()
                where = f"{device.host}:{device.port}"
                raise StartError(f"{device.name} can't listen on {where}: {error.strerror}") from error
        self._load_tick()

    async def stop(self) -> None:
        """Close everything."""
        for timer in (self._travel_timer, self._load_timer):
            if timer is not None:
                timer.cancel()
        self._travel_timer = self._load_timer = None
        await self.faults.stop()
        for device in self.field.values():
            await device.end()
        await asyncio.sleep(0)

    def reset(self) -> None:
        """Everything closed, without faults, counters at 0; the clock goes on."""
        self.faults.clear()
        self.plant.switchgear.reset()

    def step_load(self) -> None:
        """Bring the load up to now and show it in the registers."""
        before_s = self.loads.time_s
        if self.loads.advance(self.time.now_us() / 1e6, self.time.rate * LOAD_PERIOD_S / 2):
            self.transformer.step(self.loads.time_s - before_s, self._load_pu(), self.loads.ambient_c())
            self._show_load()

    def _load_pu(self) -> float:
        return self.loads.total_kw() / self.site.capacity_kw

    def _show_load(self) -> None:
        self._feeder_power.write(self.loads.power_kw)
        values = {
            self.site.load: self.loads.total_kw(),
            self.site.ambient: self.loads.ambient_c(),
            OIL: self.transformer.oil_c,
            HOT_SPOT: self.transformer.hot_spot_c,
        }
        self._measured.write(np.array([values.get(row.name, 0.0) for row in self.site.measurements]))

    def _load_tick(self) -> None:
        self.step_load()
        self._load_timer = asyncio.get_running_loop().call_later(LOAD_PERIOD_S, self._load_tick)

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
