"""The plant: a site's devices, its breakers, and the wiring between the two, whatever protocol a device speaks.

Point map in, behaviour out: what a breaker shows is written to its device's points when it changes; what a client writes
or calls becomes a command of the breaker (``modbus/front.py``, ``opcua/front.py``).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from simulators.breakers import Breaker, Switchgear
from simulators.modbus import Device, Point
from simulators.modbus.front import ModbusFront, reserve
from simulators.opcua.front import NodeFront
from simulators.opcua.points import NodePoints, NumberPoint
from simulators.opcua.rtu import Rtu
from simulators.site import DeviceRow, OpcuaRow, SimulatedSite, SiteError

FASTEST_TRAVEL_S = 0.040
SLOWEST_TRAVEL_S = 0.080


class Plant:
    """Devices (on Modbus), rtus (on OPC UA) and breakers of a site. sim_now_us: simulated time for the log.

    now: monotonic seconds. on_travel: called after commands, which may have moved something.
    """

    def __init__(
        self, site: SimulatedSite, sim_now_us: Callable[[], int], now: Callable[[], float] = time.monotonic
    ) -> None:
        self.site = site
        self.now = now
        self.on_travel: Callable[[], None] = lambda: None
        rng = random.Random(f"{site.seed}:travel")
        breakers = [
            Breaker(index, row.name, rng.uniform(FASTEST_TRAVEL_S, SLOWEST_TRAVEL_S))
            for index, row in enumerate(site.feeders)
        ]
        self.switchgear = Switchgear(breakers, self._show, lambda: (time.time(), sim_now_us()))
        self.modbus = ModbusFront(self.switchgear, now, self._moved)
        self.opcua = NodeFront(self.switchgear, now, self._moved)
        self.devices = {
            row.name: Device(row.name, row.unit, self.modbus, site.seed)
            for row in site.devices
            if isinstance(row, DeviceRow)
        }
        self.rtus = {
            row.name: Rtu(row.name, row.namespace, self.opcua) for row in site.devices if isinstance(row, OpcuaRow)
        }
        self._on_nodes = bytes(row.device in self.rtus for row in site.feeders)
        self._connect(breakers)
        for breaker in breakers:
            self._show(breaker)

    def _connect(self, breakers: list[Breaker]) -> None:
        for row, breaker in zip(self.site.feeders, breakers, strict=True):
            if isinstance(row.points, NodePoints):
                try:
                    self.opcua.connect(self.rtus[row.device], row.points, breaker)
                except ValueError as error:
                    raise SiteError(f"{self.site.path}: {row.name}: {error}") from error
            else:
                self.modbus.connect(self.devices[row.device], row.points, breaker)
        for measurement in self.site.measurements:
            if isinstance(measurement.point, Point):
                reserve(self.devices[measurement.device], measurement.point)
            else:
                self.rtus[measurement.device].add_number(measurement.point.node)

    def has_quality(self, feeder: str) -> bool:
        """Whether what this breaker shows comes with a status."""
        return bool(self._on_nodes[self.switchgear.by_name[feeder].index])

    def device(self, name: str) -> Device | Rtu:
        """The device of that name."""
        return self.devices[name] if name in self.devices else self.rtus[name]

    def power_points(self) -> list[tuple[Device | Rtu, Point | NumberPoint | None]]:
        """Where each feeder's power is shown, in their order."""
        return [(self.device(row.device), row.points.power_kw) for row in self.site.feeders]

    def trip(self, feeder: str) -> bool:
        """Open a breaker without a command; False if it was not closed at rest."""
        moved = self.switchgear.trip(self.switchgear.by_name[feeder], self.now())
        self.on_travel()
        return moved

    def _show(self, breaker: Breaker) -> None:
        if self._on_nodes[breaker.index]:
            self.opcua.show(breaker)
        else:
            self.modbus.show(breaker)

    def _moved(self) -> None:
        self.on_travel()
