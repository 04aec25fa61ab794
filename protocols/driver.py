"""What the drivers of all protocols have in common: devices with their commands, and their process images.

What must stay true: a device is served by tasks of its own and shares nothing with the others but the event loop; no
write leaves before ``set_writes_enabled(True)``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

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
from protocols.commander import BreakerLike, Commander
from protocols.image import DeviceImage
from protocols.link import Connection, Counters, Link, Priority, end, spawn


class OnDevice(Protocol):
    """A feeder or measurement: its name, and its device's."""

    @property
    def name(self) -> str: ...
    @property
    def device(self) -> str: ...


class FeederLike(BreakerLike, OnDevice, Protocol):
    """What is read of a feeder here."""


class Named(Protocol):
    """Something with a name."""

    @property
    def name(self) -> str: ...


F = TypeVar("F", bound=FeederLike)
C = TypeVar("C", bound=Connection)


class Device(Protocol[C]):
    """One device, whatever it speaks."""

    link: Link[C]
    image: DeviceImage
    first_scan: asyncio.Event

    def start(self, listener: FieldListener) -> None: ...
    async def stop(self) -> None: ...
    def publish(self) -> None: ...
    def fresh_since(self, feeder: str, moment: float) -> bool: ...
    def counter_since(self, feeder: str, moment: float) -> bool: ...
    async def scan_breakers(self, feeders: Iterable[str], priority: Priority, *, counters: bool = False) -> None: ...
    async def scan_counters(self, feeders: Iterable[str], priority: Priority) -> None: ...


class FieldDriver(Generic[F, C]):
    """Satisfies ``protocols.base.Driver``; who derives from it fills in ``_devices`` and ``_commanders`` by name.

    sweep_s: how often values are looked at for having become old.
    """

    def __init__(
        self, feeders: Sequence[F], measurements: Sequence[OnDevice], monotonic: MonotonicClock | None, sweep_s: float
    ) -> None:
        self._monotonic = monotonic or time.monotonic
        self._writes_enabled = False
        self._sweep_s = sweep_s
        self._feeders = {feeder.name: feeder for feeder in feeders}
        self._device_names = {measurement.name: measurement.device for measurement in measurements}
        self._devices: dict[str, Device[C]] = {}
        self._commanders: dict[str, Commander[F, C]] = {}
        self._sweeper: asyncio.Task[None] | None = None

    def _allowed(self) -> bool:
        return self._writes_enabled

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
                await device.scan_breakers([feeder], Priority.READBACK, counters=True)
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
        return self._devices[self._device_names[name]].image.measurement(name, self._monotonic())

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

    def _device_of(self, feeder: str) -> Device[C]:
        return self._devices[self._feeders[feeder].device]

    async def _sweep(self) -> None:
        """Age alone changes qualities, also of devices whose polls hang."""
        while True:
            await asyncio.sleep(self._sweep_s)
            for device in self._devices.values():
                device.publish()


def check_names(devices: Sequence[Named], feeders: Sequence[OnDevice], measurements: Sequence[OnDevice]) -> None:
    """Raise ValueError for a name given twice and for a device that is not there."""
    names = [device.name for device in devices]
    for kind, given in (
        ("device", names),
        ("feeder", [feeder.name for feeder in feeders]),
        ("measurement", [measurement.name for measurement in measurements]),
    ):
        if len(set(given)) != len(given):
            raise ValueError(f"a {kind} is named twice")
    known = set(names)
    for kind, ones in (("feeder", feeders), ("measurement", measurements)):
        for one in ones:
            if one.device not in known:
                raise ValueError(f"{kind} {one.name}: there is no device {one.device}")
