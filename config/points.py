"""The CSV files: devices, feeders with the points of their breakers, measurements.

    devices.csv       name,host,port,unit      and, as wanted, any of timeout_s,poll_fast_s,poll_slow_s,backoff_min_s,
                      backoff_max_s,max_block_registers,max_block_bits,max_gap,stale_after_s (empty: default); of OPC UA
                      devices, whose unit is empty, protocol and the columns of ``opcua_rows.py``
    feeders.csv       name,device,tier,critical,rated_kw,pos_closed,pos_open,open_cmd,close_cmd      and, as wanted,
                      sheddable (yes),ufls_stage,group,customers (0),load_class,travel_s (5),local,op_count,power_kw
                      and on OPC UA devices select_open,select_close,cancel
    measurements.csv  name,device,address,unit,stale_after_s

The first line that is neither blank nor a comment names the columns, in any order. Blank lines, and lines that start
with ``#``, are skipped. Flags are yes or no (true, false, 1, 0). For the syntax of points see ``address.py``
(Modbus) and ``nodes.py`` (OPC UA).

What must stay true: every row is either taken whole or noted as a problem; none is skipped silently.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from config.cells import Point, guess
from config.device_models import BreakerPoints, Device, FieldProtocol, NodeBreakerPoints, NodePoint
from config.kinds import Choice, Flag, Kind, Name, Number, Text
from config.models import Feeder, Measurement
from config.opcua_rows import MODBUS_ONLY, OPCUA_COLUMNS, access_of
from config.problems import Problems, Wrong, unknown
from config.source import Files
from config.tables import DEVICE_SETTINGS

REQUIRED, OPTIONAL = True, False
M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class Column:
    """One column. default: the value of an empty cell, and of a column that is left out where it isn't required."""

    kind: Kind
    required: bool = REQUIRED
    default: object = None


@dataclass(slots=True)
class Rows:
    """What came out of one file: good models, and the names and lines of all rows, also of the bad ones.

    readable is False if rows may be missing that the file does hold: then nothing can be said of an unknown name.
    """

    readable: bool = False
    names: dict[str, int] = field(default_factory=dict)


def device_columns() -> dict[str, Column]:
    """Columns of devices.csv; settings have no default here: an empty cell leaves [device_defaults] in force."""
    columns = {
        "name": Column(Text()),
        "host": Column(Text(limit=253)),
        "port": Column(Number(1, 65535, whole=True)),
        "unit": Column(Number(0, 255, whole=True), default=""),
        "protocol": Column(Choice(FieldProtocol), OPTIONAL, FieldProtocol.MODBUS),
    }
    return columns | {name: Column(kind, OPTIONAL) for name, kind in {**DEVICE_SETTINGS, **OPCUA_COLUMNS}.items()}


def feeder_columns() -> dict[str, Column]:
    """Columns of feeders.csv."""
    bit, number, command, select = Point("bit"), Point("number"), Point("command"), Point("select")
    return {
        "name": Column(Name()),
        "device": Column(Text()),
        "tier": Column(Text(), default=""),
        "critical": Column(Flag()),
        "sheddable": Column(Flag(), OPTIONAL, True),
        "ufls_stage": Column(Number(1, 20, whole=True), OPTIONAL),
        "rated_kw": Column(Number(0, 1_000_000, "kW")),
        "group": Column(Text(empty=True), OPTIONAL, ""),
        "customers": Column(Number(0, 10_000_000, whole=True), OPTIONAL, 0),
        "load_class": Column(Text(empty=True), OPTIONAL, ""),
        "travel_s": Column(Number(0, 600, "seconds", above=True), OPTIONAL, 5.0),
        "pos_closed": Column(bit),
        "pos_open": Column(bit),
        "open_cmd": Column(command),
        "close_cmd": Column(command),
        "local": Column(bit, OPTIONAL),
        "op_count": Column(number, OPTIONAL),
        "power_kw": Column(number, OPTIONAL),
        "select_open": Column(select, OPTIONAL),
        "select_close": Column(select, OPTIONAL),
        "cancel": Column(select, OPTIONAL),
    }


def measurement_columns() -> dict[str, Column]:
    """Columns of measurements.csv."""
    return {
        "name": Column(Text()),
        "device": Column(Text()),
        "address": Column(Point("number")),
        "unit": Column(Text(limit=16, empty=True), REQUIRED, ""),
        "stale_after_s": Column(Number(0, 86400, "seconds", above=True)),
    }


def read_devices(
    file: str, text: str, defaults: Mapping[str, object], problems: Problems, files: Files, folder: Path
) -> tuple[Rows, list[Device]]:
    """The rows of devices.csv. files, folder: where the files are read that a row names."""
    rows = Rows()
    devices = []
    for line, cells in _rows(file, text, device_columns(), {}, rows, problems):
        given = {key: value for key, value in cells.items() if value is not None}
        device = _device(file, line, given, defaults, problems, files, folder)
        if device is not None:
            devices.append(device)
    return rows, devices


def _device(
    file: str,
    line: int,
    given: dict[str, object],
    defaults: Mapping[str, object],
    problems: Problems,
    files: Files,
    folder: Path,
) -> Device | None:
    """The device of one row's cells, or None after noting what doesn't fit its protocol."""
    before = len(problems.found)

    def note(what: str, write_instead: str) -> None:
        problems.add(file, line, f"device {given['name']!r}: {what}", write_instead)

    speaks, unit = given.pop("protocol"), given["unit"]
    opcua = {name: given.pop(name) for name in OPCUA_COLUMNS if name in given}
    if speaks == FieldProtocol.MODBUS:
        if unit == "":
            note("unit is empty", "the unit of this device, 1 to 255; or protocol opcua")
        for name in opcua:
            note(f"{name} is nothing of a Modbus device", "an empty cell, or protocol opcua")
        access = None
    else:
        if unit != "":
            note("an OPC UA device has no unit", "an empty cell")
        for name in MODBUS_ONLY:
            if name in given:
                note(f"{name} is nothing of an OPC UA device", "an empty cell")
        given["unit"] = 0
        access = access_of(opcua, files, folder, note)
    if len(problems.found) > before:
        return None
    return made(Device, {**defaults, **given, "line": line, "opcua": access})


def read_feeders(
    file: str, text: str, speaks: Mapping[str, FieldProtocol], problems: Problems
) -> tuple[Rows, list[Feeder]]:
    """The rows of feeders.csv. speaks: the protocol of each device that is known."""
    rows = Rows()
    feeders = []
    columns = feeder_columns()
    point_names = [name for name, column in columns.items() if isinstance(column.kind, Point)]
    for line, cells in _rows(file, text, columns, speaks, rows, problems):
        given = {name: cells.pop(name) for name in point_names}
        nodes = isinstance(given["pos_closed"], NodePoint)
        points: object
        if nodes:
            points = made(NodeBreakerPoints, given)
        else:
            points = made(BreakerPoints, {name: given[name] for name in BreakerPoints.__slots__})
        values = {**cells, "tier": cells["tier"] or None, "points": points, "line": line}
        feeders.append(made(Feeder, values))
    return rows, feeders


def read_measurements(
    file: str, text: str, speaks: Mapping[str, FieldProtocol], problems: Problems
) -> tuple[Rows, list[Measurement]]:
    """The rows of measurements.csv. speaks: the protocol of each device that is known."""
    rows = Rows()
    found = [made(Measurement, cells) for _, cells in _rows(file, text, measurement_columns(), speaks, rows, problems)]
    return rows, found


def made(model: Callable[..., M], checked: Mapping[str, object]) -> M:
    """The model of checked cells: the kinds of the columns are those of the model's fields."""
    return model(**checked)


def _rows(
    file: str,
    text: str,
    columns: Mapping[str, Column],
    speaks: Mapping[str, FieldProtocol],
    rows: Rows,
    problems: Problems,
) -> Iterator[tuple[int, dict[str, object]]]:
    """Line and checked cells of each good row; a bad row is noted. Fills in rows as it goes."""
    # A comment becomes a blank line, so that lines keep their numbers.
    reader = csv.reader(("\n" if s.startswith("#") else s + "\n" for s in text.split("\n")), strict=True)
    header: list[str] | None = None
    try:
        for raw in reader:
            if not raw or not any(cell.strip() for cell in raw):
                continue
            if header is None:
                header = [cell.strip() for cell in raw]
                if not _header_is_good(file, reader.line_num, header, columns, problems):
                    return
                continue
            cells = _cells(file, reader.line_num, header, raw, columns, speaks, rows, problems)
            if cells is not None:
                yield reader.line_num, cells
    except csv.Error as error:
        problems.add(file, reader.line_num, f"this is not CSV: {error}", "cells with commas between, quotes in pairs")
        return
    if not rows.names:
        problems.add(file, reader.line_num or 1, "the file has no rows", "a line with column names, then rows below it")
        return
    rows.readable = True


def _header_is_good(file: str, line: int, header: list[str], columns: Mapping[str, Column], problems: Problems) -> bool:
    good = True
    for index, name in enumerate(header):
        if name not in columns:
            problems.add(file, line, f"unknown column {name[:60]!r}", unknown(name, set(columns) - set(header)))
        elif name in header[:index]:
            problems.add(file, line, f"column {name!r} stands twice", "each column once")
        else:
            continue
        good = False
    missing = [name for name, column in columns.items() if column.required and name not in header]
    if missing:
        listed = ",".join(missing)
        problems.add(file, line, f"columns are missing: {listed}", f"{','.join(header)},{listed}"[:400])
    return good and not missing


def _cells(
    file: str,
    line: int,
    header: list[str],
    raw: list[str],
    columns: Mapping[str, Column],
    speaks: Mapping[str, FieldProtocol],
    rows: Rows,
    problems: Problems,
) -> dict[str, object] | None:
    """The checked cells of one row by column, or None after noting what is wrong."""
    good = True
    if len(raw) != len(header):
        what = f"the row has {len(raw)} cells and the header {len(header)} columns"
        problems.add(file, line, what, f"{len(header)} cells with commas between; leave one empty, don't leave it out")
        good = False
    texts = dict(zip(header, (cell.strip() for cell in raw), strict=False))
    name = texts.get("name", "")
    if name in rows.names and name:
        what = f"the name {name[:64]!r} stands already in line {rows.names[name]}"
        problems.add(file, line, what, "a name that is used once")
        good = False
    rows.names.setdefault(name, line)
    if not good:
        return None
    # Points of a device that isn't known are all read as the first of them looks.
    protocol = speaks.get(texts.get("device", "")) or guess(texts.get("pos_closed") or texts.get("address") or "")
    cells: dict[str, object] = {}
    for key, column in columns.items():
        text = texts.get(key, "")
        if not text:
            if column.required and column.default is None:
                problems.add(file, line, f"{key} of {name[:64]!r} is empty", f"a value for {key}")
                good = False
            cells[key] = column.default
            continue
        try:
            kind = column.kind
            cells[key] = kind.read(text, protocol) if isinstance(kind, Point) else kind.of_text(text)
        except Wrong as wrong:
            problems.add(file, line, f"{key} of {name[:64]!r}: {wrong.what}", wrong.write_instead)
            good = False
    return cells if good else None
