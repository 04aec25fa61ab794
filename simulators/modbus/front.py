"""Breakers on Modbus: what they show in their device's tables, and what writes to their command points mean.

Command points are pulses: they read 0. What must stay true: a write request that touches a breaker which refuses does
nothing at all (the request is atomic).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from simulators.breakers import Breaker, Switchgear
from simulators.modbus.device import Device
from simulators.modbus.memory import Space
from simulators.modbus.points import BreakerPoints, Point


@dataclass(frozen=True, slots=True)
class _Command:
    breaker: Breaker
    close: bool
    bit: int | None


class ModbusFront:
    """The breakers of all Modbus devices. now: monotonic seconds. moved: called after commands."""

    def __init__(self, switchgear: Switchgear, now: Callable[[], float], moved: Callable[[], None]) -> None:
        self._switchgear = switchgear
        self._now = now
        self._moved = moved
        self._places: dict[int, tuple[Device, BreakerPoints]] = {}
        self._commands: dict[tuple[str, Space, int], list[_Command]] = {}

    def connect(self, device: Device, points: BreakerPoints, breaker: Breaker) -> None:
        """Give a breaker its points in a device."""
        self._places[breaker.index] = (device, points)
        for point in (
            points.pos_closed, points.pos_open, points.open_cmd, points.close_cmd,
            points.local, points.op_count, points.power_kw,
        ):  # fmt: skip
            if point is not None:
                reserve(device, point)
        for point, close in ((points.open_cmd, False), (points.close_cmd, True)):
            key = (device.name, point.space, point.number)
            self._commands.setdefault(key, []).append(_Command(breaker, close, point.bit))

    def show(self, breaker: Breaker) -> None:
        """Write a breaker's contacts, local bit and counter into its device's tables."""
        device, points = self._places[breaker.index]
        closed, is_open = breaker.contacts()
        show_bit(device, points.pos_closed, closed)
        show_bit(device, points.pos_open, is_open)
        if points.local is not None:
            show_bit(device, points.local, breaker.local)
        if points.op_count is not None and points.op_count.space in (Space.INPUT, Space.HOLDING):
            device.memory.set_word(points.op_count.space, points.op_count.number, breaker.op_count)

    def write(self, device: Device, space: Space, address: int, values: list[int]) -> int:
        """Carry out a write request of a client (see ``WriteHook``)."""
        hits: list[_Command] = []
        for offset, value in enumerate(values):
            commands = self._commands.get((device.name, space, address + offset))
            if commands is None:
                if space is Space.HOLDING:
                    continue
                commands = []
            hits += [command for command in commands if _is_pulse(command, value)]
        for hit in hits:
            code = self._switchgear.refusal(hit.breaker)
            if code:
                self._switchgear.refuse(hit.breaker, hit.close)
                return code
        if space is Space.HOLDING:
            self._store(device, address, values)
        now = self._now()
        result = 0
        for hit in hits:
            result = self._switchgear.command(hit.breaker, hit.close, now) or result
        if hits:
            self._moved()
        return result

    def _store(self, device: Device, address: int, values: list[int]) -> None:
        for offset, value in enumerate(values):
            if (device.name, Space.HOLDING, address + offset) not in self._commands:
                device.memory.set_word(Space.HOLDING, address + offset, value)


def _is_pulse(command: _Command, value: int) -> bool:
    return value == 1 if command.bit is None else bool(value >> command.bit & 1)


def reserve(device: Device, point: Point) -> None:
    """Make a point's addresses exist."""
    device.memory.grow(point.space, point.number + point.width)


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
