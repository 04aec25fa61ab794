"""The Modbus driver: all devices of a site behind ``protocols.base.Driver``.

What must stay true: a device is served by tasks of its own and shares nothing with the others but the event loop; no
write leaves before ``set_writes_enabled(True)``; a list of points that could do harm is refused at construction.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

from protocols.base import (
    BreakerReading,
    CommandOutcome,
    FieldListener,
    LinkStatus,
    MonotonicClock,
    Position,
    Quality,
    Reading,
)
from protocols.link import Counters, Priority, end, spawn
from protocols.modbus.commands import ModbusCommander
from protocols.modbus.device import ModbusDevice
from protocols.modbus.points import check_command, check_readable
from protocols.modbus.site import DeviceLike, FeederLike, MeasurementLike

SWEEP_S = 0.25
"""How often values are looked at for having become old, seconds."""


class ModbusDriver:
    """Satisfies ``protocols.base.Driver``. Writes are off until ``set_writes_enabled(True)``.

    devices, feeders, measurements: of the site's configuration. monotonic: seconds of the event loop's clock.
    Raises ValueError for a unit that is a broadcast or no unit, a point that can't be read or commanded, a device that
    is not there, and a name given twice.
    """

    def __init__(
        self,
        devices: Sequence[DeviceLike],
        feeders: Sequence[FeederLike],
        measurements: Sequence[MeasurementLike],
        monotonic: MonotonicClock | None = None,
    ) -> None:
        self._monotonic = monotonic or time.monotonic
        _check(devices, feeders, measurements)
        self._writes_enabled = False
        self._feeders = {feeder.name: feeder for feeder in feeders}
        self._devices: dict[str, ModbusDevice] = {}
        self._commanders: dict[str, ModbusCommander] = {}
        feeders_of: dict[str, list[FeederLike]] = {device.name: [] for device in devices}
        measurements_of: dict[str, list[MeasurementLike]] = {device.name: [] for device in devices}
        for feeder in feeders:
            feeders_of[feeder.device].append(feeder)
        for measurement in measurements:
            measurements_of[measurement.device].append(measurement)
        for place, device in enumerate(devices):
            name = device.name
            served = ModbusDevice(
                device, feeders_of[name], measurements_of[name], place / len(devices), self._monotonic
            )
            self._devices[name] = served
            self._commanders[name] = ModbusCommander(served, self._monotonic, lambda: self._writes_enabled)
        self._measured_by = {measurement.name: self._devices[measurement.device] for measurement in measurements}
        self._sweeper: asyncio.Task[None] | None = None

    def set_writes_enabled(self, enabled: bool) -> None:
        """Allow or forbid write frames (monitor mode); takes effect on commands that wait, too."""
        self._writes_enabled = enabled

    async def start(self, listener: FieldListener) -> None:
        """See Driver."""
        for name, device in self._devices.items():
            device.start(listener)
            self._commanders[name].start()
        self._sweeper = spawn(self._sweep(), "sweep of the process image")

    async def stop(self) -> None:
        """See Driver."""
        if self._sweeper is not None:
            await end([self._sweeper])
            self._sweeper = None
        await asyncio.gather(*(commander.stop() for commander in self._commanders.values()))
        await asyncio.gather(*(device.stop() for device in self._devices.values()))

    async def operate(self, feeder: str, target: Position, timeout_s: float) -> CommandOutcome:
        """See Driver. Raises ValueError for a target that is neither OPEN nor CLOSED."""
        if target not in (Position.OPEN, Position.CLOSED):
            raise ValueError(f"a breaker can be driven to open or closed, not to {target}")
        found = self._feeders[feeder]
        return await self._commanders[found.device].operate(found, target, timeout_s)

    async def read_breaker(self, feeder: str, timeout_s: float) -> BreakerReading:
        """See Driver. Readbacks of one device that are asked for together cost one scan.

        The operation counter is read with the position, for it is to prove that nothing moved; None if it did not come.
        """
        device = self._device_of(feeder)
        started = self._monotonic()
        try:
            async with asyncio.timeout(timeout_s):
                await device.scan(device.blocks_of([feeder], counters=True), Priority.READBACK)
        except TimeoutError:
            pass  # the image says how old its value is, and below it is called BAD
        reading = device.image.breaker(feeder, self._monotonic())
        if device.fresh_since(feeder, started):
            return reading if device.counter_since(feeder, started) else replace(reading, op_count=None)
        return BreakerReading(
            reading.position, Quality.BAD, reading.local, reading.op_count, reading.power_kw, reading.read_at
        )

    def breaker(self, feeder: str) -> BreakerReading:
        """See Driver."""
        return self._device_of(feeder).image.breaker(feeder, self._monotonic())

    def measurement(self, name: str) -> Reading:
        """See Driver. Raises KeyError for an unknown name."""
        return self._measured_by[name].image.measurement(name, self._monotonic())

    def feeders(self) -> Iterable[str]:
        """See Driver."""
        return self._feeders.keys()

    def link_of(self, feeder: str) -> LinkStatus:
        """See Driver."""
        return self._device_of(feeder).link.status

    def links(self) -> list[LinkStatus]:
        """See Driver."""
        return [device.link.status for device in self._devices.values()]

    def counters(self) -> dict[str, Counters]:
        """Totals of each device since the start, for diagnosis."""
        return {name: device.link.counters for name, device in self._devices.items()}

    async def wait_first_scan(self, timeout_s: float) -> None:
        """See Driver."""
        waits = [asyncio.ensure_future(device.first_scan.wait()) for device in self._devices.values()]
        if waits:
            _, late = await asyncio.wait(waits, timeout=timeout_s)
            for wait in late:
                wait.cancel()

    def _device_of(self, feeder: str) -> ModbusDevice:
        return self._devices[self._feeders[feeder].device]

    async def _sweep(self) -> None:
        """Age alone changes qualities, also of devices whose polls hang."""
        while True:
            await asyncio.sleep(SWEEP_S)
            for device in self._devices.values():
                device.publish()


def _check(
    devices: Sequence[DeviceLike], feeders: Sequence[FeederLike], measurements: Sequence[MeasurementLike]
) -> None:
    """Raise ValueError for what must not be driven."""
    names = [device.name for device in devices]
    for kind, given in (
        ("device", names),
        ("feeder", [feeder.name for feeder in feeders]),
        ("measurement", [measurement.name for measurement in measurements]),
    ):
        if len(set(given)) != len(given):
            raise ValueError(f"a {kind} is named twice")
    for device in devices:
        if not 1 <= device.unit <= 255:
            raise ValueError(f"device {device.name}: unit {device.unit} is a broadcast or no unit, use 1 to 255")
    known = set(names)
    for feeder in feeders:
        if feeder.device not in known:
            raise ValueError(f"feeder {feeder.name}: there is no device {feeder.device}")
        points = feeder.points
        for address in (points.pos_closed, points.pos_open, points.local, points.op_count, points.power_kw):
            if address is not None:
                check_readable(address, f"feeder {feeder.name}")
        for command in (points.open_cmd, points.close_cmd):
            check_command(command, f"feeder {feeder.name}")
    for measurement in measurements:
        if measurement.device not in known:
            raise ValueError(f"measurement {measurement.name}: there is no device {measurement.device}")
        check_readable(measurement.address, f"measurement {measurement.name}")
