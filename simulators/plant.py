"""The plant: a site's devices with their tables, its breakers, and the wiring between the two.

Point map in, behaviour out: contacts, local bit and counter of each breaker are written into its device's tables when
they change; a write to a command point becomes a command of the breaker. Command points are pulses: they read 0.

What must stay true: a write request that touches a breaker which refuses does nothing at all (the request is atomic).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from simulators.breakers import Breaker, Switchgear
from simulators.modbus import Device, Space
from simulators.site import FeederRow, Point, SimulatedSite

FASTEST_TRAVEL_S = 0.040
SLOWEST_TRAVEL_S = 0.080


@dataclass(frozen=True, slots=True)
class _Command:
    breaker: Breaker
    close: bool
    bit: int | None


class Plant:
    """Devices and breakers of a site. now: monotonic seconds; sim_now_us: simulated time for the log."""

    def __init__(
        self, site: SimulatedSite, sim_now_us: Callable[[], int], now: Callable[[], float] = time.monotonic
    ) -> None:
        self.site = site
        self.now = now
        self.on_travel: Callable[[], None] = lambda: None
        self.devices = {row.name: Device(row.name, row.unit, self, site.seed) for row in site.devices}
        self._commands: dict[tuple[str, Space, int], list[_Command]] = {}
        rng = random.Random(f"{site.seed}:travel")
        breakers = [
            Breaker(index, row.name, rng.uniform(FASTEST_TRAVEL_S, SLOWEST_TRAVEL_S))
            for index, row in enumerate(site.feeders)
        ]
        self.switchgear = Switchgear(breakers, self._show, lambda: (time.time(), sim_now_us()))
        for row, breaker in zip(site.feeders, breakers, strict=True):
            self._connect(row, breaker)
        for measurement in site.measurements:
            self._reserve(self.devices[measurement.device], measurement.point)
        for breaker in breakers:
            self._show(breaker)

    def _connect(self, row: FeederRow, breaker: Breaker) -> None:
        device = self.devices[row.device]
        points = (row.pos_closed, row.pos_open, row.open_cmd, row.close_cmd, row.local, row.op_count, row.power_kw)
        for point in points:
            if point is not None:
                self._reserve(device, point)
        for point, close in ((row.open_cmd, False), (row.close_cmd, True)):
            key = (device.name, point.space, point.number)
            self._commands.setdefault(key, []).append(_Command(breaker, close, point.bit))

    @staticmethod
    def _reserve(device: Device, point: Point) -> None:
        device.memory.grow(point.space, point.number + point.width)

    def _show(self, breaker: Breaker) -> None:
        row = self.site.feeders[breaker.index]
        device = self.devices[row.device]
        closed, is_open = breaker.contacts()
        show_bit(device, row.pos_closed, closed)
        show_bit(device, row.pos_open, is_open)
        if row.local is not None:
            show_bit(device, row.local, breaker.local)
        if row.op_count is not None and row.op_count.space in (Space.INPUT, Space.HOLDING):
            device.memory.set_word(row.op_count.space, row.op_count.number, breaker.op_count)

    def write(self, device: Device, space: Space, address: int, values: list[int]) -> int:
        """Carry out a write request of a client (see ``modbus.WriteHook``)."""
        hits: list[_Command] = []
        for offset, value in enumerate(values):
            commands = self._commands.get((device.name, space, address + offset))
            if commands is None:
                if space is Space.HOLDING:
                    continue
                commands = []
            hits += [command for command in commands if _is_pulse(command, value)]
        for hit in hits:
            code = self.switchgear.refusal(hit.breaker)
            if code:
                self.switchgear.refuse(hit.breaker, hit.close)
                return code
        if space is Space.HOLDING:
            self._store(device, address, values)
        now = self.now()
        result = 0
        for hit in hits:
            result = self.switchgear.command(hit.breaker, hit.close, now) or result
        if hits:
            self.on_travel()
        return result

    def trip(self, feeder: str) -> bool:
        """Open a breaker without a command; False if it was not closed at rest."""
        moved = self.switchgear.trip(self.switchgear.by_name[feeder], self.now())
        self.on_travel()
        return moved

    def _store(self, device: Device, address: int, values: list[int]) -> None:
        for offset, value in enumerate(values):
            if (device.name, Space.HOLDING, address + offset) not in self._commands:
                device.memory.set_word(Space.HOLDING, address + offset, value)


def _is_pulse(command: _Command, value: int) -> bool:
    return value == 1 if command.bit is None else bool(value >> command.bit & 1)


def show_bit(device: Device, point: Point, value: bool) -> None:
    """Write a yes/no into a bit table, a bit of a register, or a register as 0/1."""
    memory = device.memory
    if point.space in (Space.COIL, Space.DISCRETE):
        memory.set_bit(point.space, point.number, value)
        return
    word = memory.word(point.space, point.number)
    mask = 0xFFFF if point.bit is None else 1 << point.bit
    shown = (1 if point.bit is None else mask) if value else 0
    memory.set_word(point.space, point.number, word & ~mask & 0xFFFF | shown)
