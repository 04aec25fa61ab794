"""The simulator's own reader of a site: which devices, breakers and measurements there are, and where their points lie.

It reads the same files as the gateway, with code of its own, so that a mistake in the gateway's reader shows up as a
difference. It takes what it needs and ignores the rest; what it needs and can't read is a ``SiteError`` that names file
and line. Nothing is written.

Optional beside the site's files: ``simulator.toml`` with ``seed`` and ``[load] peak_pct``.
"""

from __future__ import annotations

import csv
import functools
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from simulators.modbus import Space

# What TOML gives; each value is checked by the conversion it goes through.
Table = dict[str, Any]

DEFAULT_PEAK_PCT = 101.0

_ADDRESS = re.compile(
    r"(coil|di|ir|hr):(\d+)(?:\.(\d+))?(?::(u16|s16|u32|s32|f32)(?:\*(-?[0-9.]+(?:[eE][+-]?[0-9]+)?))?([+-][0-9.]+)?)?"
)


class SiteError(Exception):
    """The site can't be simulated as it is written; the text says where and why. Correct the file."""


@dataclass(frozen=True, slots=True)
class Point:
    """Where a value lies: value = raw × scale + offset."""

    space: Space
    number: int
    bit: int | None = None
    kind: str = "u16"
    scale: float = 1.0
    offset: float = 0.0

    @property
    def width(self) -> int:
        """Addresses taken."""
        return 2 if self.kind in ("u32", "s32", "f32") else 1


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """One device."""

    name: str
    host: str
    port: int
    unit: int


@dataclass(frozen=True, slots=True)
class FeederRow:
    """One feeder and the points of its breaker; points that its device does not have are None."""

    name: str
    device: str
    tier: str
    rated_kw: float
    load_class: str
    pos_closed: Point
    pos_open: Point
    open_cmd: Point
    close_cmd: Point
    local: Point | None
    op_count: Point | None
    power_kw: Point | None


@dataclass(frozen=True, slots=True)
class MeasurementRow:
    """One measured value of the substation."""

    name: str
    device: str
    point: Point


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
    devices: tuple[DeviceRow, ...]
    feeders: tuple[FeederRow, ...]
    measurements: tuple[MeasurementRow, ...]


@functools.lru_cache(maxsize=65536)
def parse_point(text: str) -> Point:
    """A point from ``table:number[.bit][:type[*scale][+offset]]``; ValueError if it is none."""
    match = _ADDRESS.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no address like di:17, hr:120.3 or ir:40:u32*0.1")
    space, number, bit, kind, scale, offset = match.groups()
    return Point(
        Space(space),
        int(number),
        None if bit is None else int(bit),
        kind or "u16",
        float(scale) if scale else 1.0,
        float(offset) if offset else 0.0,
    )


def read_site(folder: Path) -> SimulatedSite:
    """Read the site in a folder; raises SiteError."""
    folder = folder.resolve()
    data = _toml(folder / "site.toml")
    extra = _toml(folder / "simulator.toml") if (folder / "simulator.toml").exists() else {}
    try:
        files = data.get("files", {})
        transformer = data["transformer"]
        devices = tuple(_devices(folder / files.get("devices", "devices.csv")))
        feeders = tuple(_feeders(folder / files.get("feeders", "feeders.csv")))
        measurements = tuple(_measurements(folder / files.get("measurements", "measurements.csv")))
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

    def point(self, column: str) -> Point:
        try:
            return parse_point(self.text(column))
        except ValueError as error:
            raise SiteError(f"{self.where}: {column}: {error}") from None

    def optional_point(self, column: str) -> Point | None:
        return self.point(column) if self.cells.get(column) else None


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


def _devices(path: Path) -> Iterator[DeviceRow]:
    for row in _rows(path):
        yield DeviceRow(row.text("name"), row.text("host"), row.integer("port"), row.integer("unit"))


def _feeders(path: Path) -> Iterator[FeederRow]:
    for row in _rows(path):
        yield FeederRow(
            name=row.text("name"),
            device=row.text("device"),
            tier=row.cells.get("tier", ""),
            rated_kw=row.number("rated_kw"),
            load_class=row.cells.get("load_class", ""),
            pos_closed=row.point("pos_closed"),
            pos_open=row.point("pos_open"),
            open_cmd=row.point("open_cmd"),
            close_cmd=row.point("close_cmd"),
            local=row.optional_point("local"),
            op_count=row.optional_point("op_count"),
            power_kw=row.optional_point("power_kw"),
        )


def _measurements(path: Path) -> Iterator[MeasurementRow]:
    for row in _rows(path):
        yield MeasurementRow(row.text("name"), row.text("device"), row.point("address"))


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
