"""The simulator's own reader of a site: which devices, breakers and measurements there are, and where their points lie.

It reads the same files as the gateway, with code of its own, so that a mistake in the gateway's reader shows up as a
difference. It takes what it needs and ignores the rest; what it needs and can't read is a ``SiteError`` that names file
and line. Nothing is written.

Optional beside the site's files: ``simulator.toml`` with ``seed`` and ``[load] peak_pct``.
"""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from simulators.modbus import BreakerPoints, Point, parse_point
from simulators.opcua.points import NodePoints, NumberPoint, parse_bit, parse_command, parse_number

# What TOML gives; each value is checked by the conversion it goes through.
Table = dict[str, Any]

DEFAULT_PEAK_PCT = 101.0
KEY_FOLDER = "simulator"

P = TypeVar("P")


class SiteError(Exception):
    """The site can't be simulated as it is written; the text says where and why. Correct the file."""


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """One device on Modbus TCP."""

    name: str
    host: str
    port: int
    unit: int


@dataclass(frozen=True, slots=True)
class OpcuaRow:
    """One device on OPC UA. Its certificate is the one that the gateway has pinned; its private key is the simulator's.

    user: who may log in, with the word in secret_file; empty: anybody. Files are absolute.
    """

    name: str
    host: str
    port: int
    path: str
    namespace: str
    certificate: Path
    key: Path
    user: str = ""
    secret_file: Path | None = None


@dataclass(frozen=True, slots=True)
class FeederRow:
    """One feeder and the points of its breaker, as its device's protocol has them."""

    name: str
    device: str
    tier: str
    rated_kw: float
    load_class: str
    points: BreakerPoints | NodePoints


@dataclass(frozen=True, slots=True)
class MeasurementRow:
    """One measured value of the substation."""

    name: str
    device: str
    point: Point | NumberPoint


@dataclass(frozen=True, slots=True)
class ClockLine:
    """Simulated time = origin + rate × (wall − wall_origin)."""

    rate: float
    origin: datetime
    wall_origin: datetime


@dataclass(frozen=True, slots=True)
class SimulatedSite:
    """All that the simulator knows of a site. load and ambient are names of measurements."""

    name: str
    path: Path
    capacity_kw: float
    load: str
    ambient: str | None
    clock: ClockLine | None
    seed: int
    peak_pct: float
    devices: tuple[DeviceRow | OpcuaRow, ...]
    feeders: tuple[FeederRow, ...]
    measurements: tuple[MeasurementRow, ...]


def read_site(folder: Path) -> SimulatedSite:
    """Read the site in a folder; raises SiteError."""
    folder = folder.resolve()
    data = _toml(folder / "site.toml")
    extra = _toml(folder / "simulator.toml") if (folder / "simulator.toml").exists() else {}
    try:
        files = data.get("files", {})
        transformer = data["transformer"]
        devices = tuple(_devices(folder / files.get("devices", "devices.csv"), folder))
        opcua = frozenset(row.name for row in devices if isinstance(row, OpcuaRow))
        feeders = tuple(_feeders(folder / files.get("feeders", "feeders.csv"), opcua))
        measurements = tuple(_measurements(folder / files.get("measurements", "measurements.csv"), opcua))
        site = SimulatedSite(
            name=str(data["site"]["name"]),
            path=folder,
            capacity_kw=float(transformer["capacity_kw"]),
            load=str(transformer["load"]),
            ambient=transformer.get("ambient"),
            clock=_clock(data.get("gateway", {}).get("simulated_clock")),
            seed=int(extra.get("seed", 1)),
            peak_pct=float(extra.get("load", {}).get("peak_pct", DEFAULT_PEAK_PCT)),
            devices=devices,
            feeders=feeders,
            measurements=measurements,
        )
    except KeyError as missing:
        raise SiteError(f"{folder / 'site.toml'}: {missing} is missing") from missing
    except (TypeError, ValueError) as wrong:
        raise SiteError(f"{folder / 'site.toml'}: {wrong}") from wrong
    _cross_check(site)
    return site


def _toml(path: Path) -> Table:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SiteError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SiteError(f"{path}: {error}") from error


def _clock(table: Table | None) -> ClockLine | None:
    if table is None:
        return None
    rate, origin, wall_origin = table["rate"], table["origin"], table["wall_origin"]
    if not isinstance(rate, int | float) or not rate > 0:
        raise ValueError(f"simulated_clock: rate must be above 0, not {rate}")
    if not isinstance(origin, datetime) or not isinstance(wall_origin, datetime):
        raise ValueError("simulated_clock: origin and wall_origin must be dates with time and offset")
    if origin.tzinfo is None or wall_origin.tzinfo is None:
        raise ValueError("simulated_clock: origin and wall_origin need an offset, such as +11:00 or Z")
    return ClockLine(float(rate), origin, wall_origin)


@dataclass(frozen=True, slots=True)
class _Row:
    cells: dict[str, str]
    where: str

    def text(self, column: str) -> str:
        value = self.cells.get(column)
        if not value:
            raise SiteError(f"{self.where}: {column} is missing")
        return value

    def integer(self, column: str) -> int:
        try:
            return int(self.text(column))
        except ValueError:
            raise SiteError(f"{self.where}: {column} must be a whole number, not {self.cells[column]!r}") from None

    def number(self, column: str) -> float:
        try:
            return float(self.text(column))
        except ValueError:
            raise SiteError(f"{self.where}: {column} must be a number, not {self.cells[column]!r}") from None

    def point(self, column: str, parse: Callable[[str], P]) -> P:
        try:
            return parse(self.text(column))
        except ValueError as error:
            raise SiteError(f"{self.where}: {column}: {error}") from None

    def optional_point(self, column: str, parse: Callable[[str], P]) -> P | None:
        return self.point(column, parse) if self.cells.get(column) else None


def _rows(path: Path) -> Iterator[_Row]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            numbered = [
                (number, line)
                for number, line in enumerate(file, 1)
                if line.strip() and not line.lstrip().startswith("#")
            ]
    except OSError as error:
        raise SiteError(f"{path}: {error.strerror}") from error
    if not numbered:
        raise SiteError(f"{path}: no header line")
    reader = csv.reader(line for _, line in numbered)
    header = [name.strip() for name in next(reader)]
    for (number, _), cells in zip(numbered[1:], reader, strict=False):
        yield _Row(dict(zip(header, (cell.strip() for cell in cells), strict=False)), f"{path}:{number}")


def _devices(path: Path, folder: Path) -> Iterator[DeviceRow | OpcuaRow]:
    for row in _rows(path):
        name, host, port = row.text("name"), row.text("host"), row.integer("port")
        match row.cells.get("protocol") or "modbus":
            case "modbus":
                yield DeviceRow(name, host, port, row.integer("unit"))
            case "opcua":
                secret = row.cells.get("secret_file")
                yield OpcuaRow(
                    name=name,
                    host=host,
                    port=port,
                    path=row.cells.get("path", ""),
                    namespace=row.text("namespace"),
                    certificate=folder / row.text("server_cert"),
                    key=folder / KEY_FOLDER / f"{name}.key",
                    user=row.cells.get("user", ""),
                    secret_file=folder / secret if secret else None,
                )
            case other:
                raise SiteError(f"{row.where}: protocol must be modbus or opcua, not {other!r}")


def _feeders(path: Path, opcua: frozenset[str]) -> Iterator[FeederRow]:
    for row in _rows(path):
        device = row.text("device")
        yield FeederRow(
            name=row.text("name"),
            device=device,
            tier=row.cells.get("tier", ""),
            rated_kw=row.number("rated_kw"),
            load_class=row.cells.get("load_class", ""),
            points=_node_points(row) if device in opcua else _register_points(row),
        )


def _register_points(row: _Row) -> BreakerPoints:
    return BreakerPoints(
        pos_closed=row.point("pos_closed", parse_point),
        pos_open=row.point("pos_open", parse_point),
        open_cmd=row.point("open_cmd", parse_point),
        close_cmd=row.point("close_cmd", parse_point),
        local=row.optional_point("local", parse_point),
        op_count=row.optional_point("op_count", parse_point),
        power_kw=row.optional_point("power_kw", parse_point),
    )


def _node_points(row: _Row) -> NodePoints:
    return NodePoints(
        pos_closed=row.point("pos_closed", parse_bit),
        pos_open=row.point("pos_open", parse_bit),
        open_cmd=row.point("open_cmd", parse_command),
        close_cmd=row.point("close_cmd", parse_command),
        local=row.optional_point("local", parse_bit),
        op_count=row.optional_point("op_count", parse_number),
        power_kw=row.optional_point("power_kw", parse_number),
        select_open=row.optional_point("select_open", parse_command),
        select_close=row.optional_point("select_close", parse_command),
        cancel=row.optional_point("cancel", parse_command),
    )


def _measurements(path: Path, opcua: frozenset[str]) -> Iterator[MeasurementRow]:
    for row in _rows(path):
        device = row.text("device")
        is_node = device in opcua
        point = row.point("address", parse_number) if is_node else row.point("address", parse_point)
        yield MeasurementRow(row.text("name"), device, point)


def _cross_check(site: SimulatedSite) -> None:
    names = {device.name for device in site.devices}
    placed = [(row.name, row.device) for row in site.feeders] + [(row.name, row.device) for row in site.measurements]
    for name, device in placed:
        if device not in names:
            raise SiteError(f"{site.path}: {name} is on device {device!r}, which devices.csv does not have")
    for count, what in ((len(site.devices) - len(names), "device"), (_repeats(site), "feeder")):
        if count:
            raise SiteError(f"{site.path}: {count} {what} names are used more than once")


def _repeats(site: SimulatedSite) -> int:
    return len(site.feeders) - len({feeder.name for feeder in site.feeders})
