"""Several drivers as one, and which driver serves which device of a site.

What must stay true: each device has one driver, that of its protocol; what a site has no device for is not imported (the
OPC UA stack takes a second and 40 MB), and a site with one protocol has no fleet between the gateway and its driver.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TypeGuard, TypeVar

from protocols.base import BreakerReading, CommandOutcome, Driver, FieldListener, LinkStatus, Position, Reading
from protocols.modbus import site as modbus
from protocols.modbus.driver import ModbusDriver
from protocols.opcua import site as opcua

OPCUA = "opcua"


class Fleet:
    """Several drivers behind ``protocols.base.Driver``; no feeder and no measurement may be served by two of them.

    drivers: each with the names of its measurements.
    """

    def __init__(self, drivers: Sequence[tuple[Driver, Iterable[str]]]) -> None:
        self._drivers = [driver for driver, _ in drivers]
        self._of: dict[str, Driver] = {}
        self._measuring: dict[str, Driver] = {}
        for driver, measurements in drivers:
            for names, owner in ((driver.feeders(), self._of), (measurements, self._measuring)):
                for name in names:
                    if name in owner:
                        raise ValueError(f"{name} is served by two drivers")
                    owner[name] = driver

    async def start(self, listener: FieldListener) -> None:
        """See Driver."""
        for driver in self._drivers:
            await driver.start(listener)

    async def stop(self) -> None:
        """See Driver. One that fails to end keeps none of the others."""
        ends = await asyncio.gather(*(driver.stop() for driver in self._drivers), return_exceptions=True)
        for end in ends:
            if end is not None:
                raise end

    def set_writes_enabled(self, enabled: bool) -> None:
        """See Driver."""
        for driver in self._drivers:
            driver.set_writes_enabled(enabled)

    async def operate(self, feeder: str, target: Position, timeout_s: float) -> CommandOutcome:
        """See Driver."""
        return await self._of[feeder].operate(feeder, target, timeout_s)

    async def read_breaker(self, feeder: str, timeout_s: float) -> BreakerReading:
        """See Driver."""
        return await self._of[feeder].read_breaker(feeder, timeout_s)

    def breaker(self, feeder: str) -> BreakerReading:
        """See Driver."""
        return self._of[feeder].breaker(feeder)

    def measurement(self, name: str) -> Reading:
        """See Driver. Raises KeyError for an unknown name."""
        return self._measuring[name].measurement(name)

    def feeders(self) -> Iterable[str]:
        """See Driver."""
        return self._of.keys()

    def link_of(self, feeder: str) -> LinkStatus:
        """See Driver."""
        return self._of[feeder].link_of(feeder)

    def links(self) -> list[LinkStatus]:
        """See Driver."""
        return [status for driver in self._drivers for status in driver.links()]

    async def wait_first_scan(self, timeout_s: float) -> None:
        """See Driver."""
        await asyncio.gather(*(driver.wait_first_scan(timeout_s) for driver in self._drivers))


class DeviceLike(modbus.DeviceLike, opcua.DeviceLike, Protocol):
    """A device of a site; those of OPC UA say so in ``protocol``."""

    @property
    def protocol(self) -> str: ...


class FeederLike(Protocol):
    """A feeder of a site, whatever its points are."""

    @property
    def name(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def travel_s(self) -> float: ...
    @property
    def points(self) -> modbus.BreakerPointsLike | opcua.BreakerPointsLike: ...


class MeasurementLike(Protocol):
    """A measurement of a site, whatever its point is."""

    @property
    def name(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def stale_after_s(self) -> float: ...
    @property
    def address(self) -> modbus.AddressLike | opcua.PointLike: ...


class ClientLike(Protocol):
    """Who the gateway is towards OPC UA devices."""

    @property
    def pki_dir(self) -> Path: ...
    @property
    def application_uri(self) -> str: ...


A = TypeVar("A", bound=FeederLike | MeasurementLike)


def make_driver(
    devices: Sequence[DeviceLike],
    feeders: Sequence[FeederLike],
    measurements: Sequence[MeasurementLike],
    client: ClientLike | None,
    wall: Callable[[], float],
    listens_at: str = "",
) -> Driver:
    """The driver of a site. Makes the gateway's certificate for OPC UA devices where there is none yet.

    wall: Unix seconds of the real time. listens_at: the host of the gateway's own OPC UA server, for which a certificate
    made now may stand, too. Raises ValueError for what must not or can't be driven, with a sentence.
    """
    protocol_of = {device.name: device.protocol for device in devices}
    by_nodes = [device for device in devices if device.protocol == OPCUA]
    if not by_nodes:
        return ModbusDriver(devices, _on_registers(feeders), _registers(measurements))
    if client is None:
        raise ValueError("there are OPC UA devices, and nothing says who the gateway is towards them")
    node_feeders, register_feeders = _split(feeders, protocol_of)
    node_measurements, register_measurements = _split(measurements, protocol_of)
    opcua_driver = _opcua_driver(by_nodes, node_feeders, node_measurements, client, wall, listens_at)
    if len(by_nodes) == len(devices):
        return opcua_driver
    rest = [device for device in devices if device.protocol != OPCUA]
    modbus_driver = ModbusDriver(rest, _on_registers(register_feeders), _registers(register_measurements))
    return Fleet(
        [
            (modbus_driver, [measurement.name for measurement in register_measurements]),
            (opcua_driver, [measurement.name for measurement in node_measurements]),
        ]
    )


def _opcua_driver(
    devices: Sequence[DeviceLike],
    feeders: Sequence[FeederLike],
    measurements: Sequence[MeasurementLike],
    client: ClientLike,
    wall: Callable[[], float],
    listens_at: str,
) -> Driver:
    # Here and not above: a site of Modbus devices alone does without the OPC UA stack.
    from protocols.opcua.driver import OpcUaDriver
    from protocols.opcua.pki import Pki, PkiError, host_names_of

    pki = Pki(client.pki_dir)
    try:
        pki.ensure_own(client.application_uri, host_names_of(listens_at), datetime.fromtimestamp(wall(), UTC))
        pki.own()
    except PkiError as error:
        raise ValueError(str(error)) from None
    nodes = [feeder for feeder in feeders if _has_nodes(feeder)]
    points = [measurement for measurement in measurements if _is_node(measurement)]
    if len(nodes) != len(feeders) or len(points) != len(measurements):
        raise ValueError("points of an OPC UA device are not all nodes")
    return OpcUaDriver(devices, nodes, points, pki.own, wall)


def _split(ones: Sequence[A], protocol_of: Mapping[str, str]) -> tuple[list[A], list[A]]:
    """Those on OPC UA devices, and the others."""
    nodes = [one for one in ones if protocol_of.get(one.device) == OPCUA]
    return nodes, [one for one in ones if protocol_of.get(one.device) != OPCUA]


def _on_registers(feeders: Sequence[FeederLike]) -> list[modbus.FeederLike]:
    found = [feeder for feeder in feeders if _has_registers(feeder)]
    if len(found) != len(feeders):
        raise ValueError("points of a Modbus device are not all addresses")
    return found


def _registers(measurements: Sequence[MeasurementLike]) -> list[modbus.MeasurementLike]:
    found = [measurement for measurement in measurements if _is_register(measurement)]
    if len(found) != len(measurements):
        raise ValueError("points of a Modbus device are not all addresses")
    return found


def _has_registers(feeder: FeederLike) -> TypeGuard[modbus.FeederLike]:
    return hasattr(feeder.points.pos_closed, "table")


def _is_register(measurement: MeasurementLike) -> TypeGuard[modbus.MeasurementLike]:
    return hasattr(measurement.address, "table")


def _has_nodes(feeder: FeederLike) -> TypeGuard[opcua.FeederLike]:
    return hasattr(feeder.points.pos_closed, "node")


def _is_node(measurement: MeasurementLike) -> TypeGuard[opcua.MeasurementLike]:
    return hasattr(measurement.address, "node")
