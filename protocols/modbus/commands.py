"""Commands of one Modbus device: how they leave, and what its exceptions say of them; the rest is ``commander.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from protocols.base import MonotonicClock, Position
from protocols.commander import Answer, Commander, Request, Stage
from protocols.errors import ACKNOWLEDGE, GATEWAY_TARGET_SILENT, DeviceRefused, FieldError
from protocols.link import Priority
from protocols.modbus.client import Transport
from protocols.modbus.device import ModbusDevice
from protocols.modbus.site import FeederLike


class ModbusCommander(Commander[FeederLike, Transport]):
    """The commands of one device. allowed: whether writes may leave at all, asked again right before each."""

    def __init__(self, device: ModbusDevice, monotonic: MonotonicClock, allowed: Callable[[], bool]) -> None:
        super().__init__(device.device.name, device, monotonic, allowed)
        self._blocks = device

    async def _scan(self, feeders: Iterable[str], priority: Priority) -> None:
        await self._blocks.scan_breakers(feeders, priority)

    async def _send(self, connection: Transport, request: Request[FeederLike]) -> None:
        points = request.feeder.points
        point = points.open_cmd if request.target is Position.OPEN else points.close_cmd
        request.stage = Stage.WRITTEN
        if point.table == "coil":
            await connection.write_coil(point.number)
        else:
            await connection.write_register(point.number, 1 if point.bit is None else 1 << point.bit)

    def _answer(self, error: FieldError) -> Answer:
        """An exception is a refusal, but for two: a gateway whose target fell silent, and "accepted, takes time"."""
        if not isinstance(error, DeviceRefused) or error.code == GATEWAY_TARGET_SILENT:
            return Answer.DOUBT
        return Answer.ACCEPTED if error.code == ACKNOWLEDGE else Answer.REFUSED
