"""The Modbus driver: all Modbus devices of a site behind ``protocols.base.Driver``.

What must stay true: a list of points that could do harm is refused at construction; the rest is ``protocols/driver.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

from protocols.base import MonotonicClock
from protocols.driver import FieldDriver, check_names
from protocols.modbus.client import Transport
from protocols.modbus.commands import ModbusCommander
from protocols.modbus.device import ModbusDevice
from protocols.modbus.points import check_command, check_readable
from protocols.modbus.site import DeviceLike, FeederLike, MeasurementLike

SWEEP_S = 0.25
"""How often values are looked at for having become old, seconds."""


class ModbusDriver(FieldDriver[FeederLike, Transport]):
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
        super().__init__(feeders, measurements, monotonic, SWEEP_S)
        _check(devices, feeders, measurements)
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
            self._commanders[name] = ModbusCommander(served, self._monotonic, self._allowed)


def _check(
    devices: Sequence[DeviceLike], feeders: Sequence[FeederLike], measurements: Sequence[MeasurementLike]
) -> None:
    """Raise ValueError for what must not be driven."""
    check_names(devices, feeders, measurements)
    for device in devices:
        if not 1 <= device.unit <= 255:
            raise ValueError(f"device {device.name}: unit {device.unit} is a broadcast or no unit, use 1 to 255")
    for feeder in feeders:
        points = feeder.points
        for address in (points.pos_closed, points.pos_open, points.local, points.op_count, points.power_kw):
            if address is not None:
                check_readable(address, f"feeder {feeder.name}")
        for command in (points.open_cmd, points.close_cmd):
            check_command(command, f"feeder {feeder.name}")
    for measurement in measurements:
        check_readable(measurement.address, f"measurement {measurement.name}")
