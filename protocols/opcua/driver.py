"""The OPC UA driver: all OPC UA devices of a site behind ``protocols.base.Driver``.

What must stay true: no device is driven without the certificate that it is known by; the rest is
``protocols/driver.py``, and the outcome rules are those of every protocol (``protocols/commander.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from protocols.base import MonotonicClock
from protocols.driver import FieldDriver, check_names
from protocols.opcua.client import Identity, Session
from protocols.opcua.commands import OpcUaCommander
from protocols.opcua.device import OpcUaDevice
from protocols.opcua.site import DeviceLike, FeederLike, MeasurementLike

SWEEP_S = 1.0
"""How often values are looked at for having become old, seconds; each node is one to look at."""


class OpcUaDriver(FieldDriver[FeederLike, Session]):
    """Satisfies ``protocols.base.Driver``. Writes, calls and selections are off until ``set_writes_enabled(True)``.

    devices, feeders, measurements: of the site's configuration. identity: who the gateway is, asked at each session, so
    that a renewed certificate is used from the next one on. wall: Unix seconds, to judge time-stamps by. Raises ValueError
    for a pinned certificate that can't be read or is another application's, a device that is not there, a name twice.
    """

    def __init__(
        self,
        devices: Sequence[DeviceLike],
        feeders: Sequence[FeederLike],
        measurements: Sequence[MeasurementLike],
        identity: Callable[[], Identity],
        wall: Callable[[], float],
        monotonic: MonotonicClock | None = None,
    ) -> None:
        super().__init__(feeders, measurements, monotonic, SWEEP_S)
        check_names(devices, feeders, measurements)
        feeders_of: dict[str, list[FeederLike]] = {device.name: [] for device in devices}
        measurements_of: dict[str, list[MeasurementLike]] = {device.name: [] for device in devices}
        for feeder in feeders:
            feeders_of[feeder.device].append(feeder)
        for measurement in measurements:
            measurements_of[measurement.device].append(measurement)
        for place, device in enumerate(devices):
            name = device.name
            served = OpcUaDevice(
                device, feeders_of[name], measurements_of[name], place / len(devices), identity, self._monotonic, wall
            )
            self._devices[name] = served
            self._commanders[name] = OpcUaCommander(served, self._monotonic, self._allowed)
