"""Rows of the summary table: made by the cases, put beside one another by ``python -m benchmarks``.

A row is a plain dict, so that it can stand in a case's JSON line under ``table``: what, figure, unit, beside (the same
work done by the peer of the same run, None when there is none), ratio (figure to beside), limit (of the ratio where
there is a peer, else of the figure; None: no target), met. Where many operations share them, ``cpu_ms_each`` and
``flushes_each`` are CPU and flushes of one operation, as text: its own, and behind a stroke those of the peer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

Row = dict[str, object]


def at_most(what: str, figure: float, unit: str, limit: float | None, beside: float | None = None) -> Row:
    """A row whose figure (or ratio, where there is a peer) should be small."""
    ratio = None if beside is None else figure / beside
    judged = figure if ratio is None else ratio
    return _row(what, figure, unit, beside, ratio, "≤", limit, None if limit is None else judged <= limit)


def at_least(what: str, figure: float, unit: str, limit: float | None, beside: float | None = None) -> Row:
    """A row whose figure (or ratio) should be great."""
    ratio = None if beside is None else figure / beside
    judged = figure if ratio is None else ratio
    return _row(what, figure, unit, beside, ratio, "≥", limit, None if limit is None else judged >= limit)


def _row(
    what: str,
    figure: float,
    unit: str,
    beside: float | None,
    ratio: float | None,
    sign: str,
    limit: float | None,
    met: bool | None,
) -> Row:
    target = "" if limit is None else f"{sign} {limit:g}" + (" x" if ratio is not None else "")
    return {
        "what": what,
        "figure": round_to(figure),
        "unit": unit,
        "beside": None if beside is None else round_to(beside),
        "ratio": None if ratio is None else round_to(ratio),
        "target": target,
        "met": met,
    }


def round_to(value: float, digits: int = 3) -> float:
    """Rounded to so many significant digits: more would be noise."""
    if value == 0 or not math.isfinite(value):
        return value
    return round(value, digits - 1 - math.floor(math.log10(abs(value))))


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent of all don't exceed (nearest rank). Raises ValueError for no values."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def rows_of(line: Mapping[str, object]) -> list[Row]:
    """The rows of one JSON line: its own table, or what is known of the cases that have none."""
    table = line.get("table")
    if isinstance(table, list):
        rows = [dict(row) for row in table if isinstance(row, dict)]
        if rows and line.get("bench") == "engine":
            rows[0].update(costs(line, line.get("limit")))
        return rows
    name = line.get("bench") or line.get("benchmark")
    if name == "journal_commit":
        return list(_journal_rows(line))
    if name == "field_modbus":
        return list(_field_rows(line))
    return []


def costs(own: Mapping[str, object], other: object) -> dict[str, str]:
    """CPU and flushes of one operation, beside those of the peer, for the columns of a row."""
    beside = other if isinstance(other, Mapping) else {}
    told = {}
    for key in ("cpu_ms_each", "flushes_each"):
        values = [value for value in (own.get(key), beside.get(key)) if isinstance(value, int | float)]
        if key in own and values:
            told[key] = " / ".join(f"{round_to(value, 2):g}" for value in values)
    return told


def notes_of(line: Mapping[str, object]) -> list[str]:
    """What one JSON line has to say below the table."""
    notes = line.get("notes")
    return [str(note) for note in notes] if isinstance(notes, list) else []


def _journal_rows(line: Mapping[str, object]) -> Iterable[Row]:
    for key, case in line.items():
        if key.startswith("batch_") and isinstance(case, dict):
            what = f"journal, batches of {key.removeprefix('batch_')}"
            yield at_least(what, case["records_per_s"], "records/s", None, case["bare_records_per_s"])


def _field_rows(line: Mapping[str, object]) -> Iterable[Row]:
    match line.get("case"):
        case "steady_polling":
            yield at_most("bare driver polling, CPU", float(str(line["cpu_pct_of_a_core"])), "% of a core", None)
        case "mass_operate":
            yield at_most(f"bare driver, all {line['target']}", float(str(line["wall_s"])), "s", None)


COLUMNS = ("", "figure", "unit", "beside", "ratio", "target", "met", "CPU, ms each", "flushes each")
ALIGNED_LEFT = (0, 2, 5)


def render(rows: Iterable[Row]) -> str:
    """The table as text."""
    cells = [COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(COLUMNS))]
    lines = []
    for row in cells:
        name, *rest = (
            cell.ljust(width) if at in ALIGNED_LEFT else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([name, *rest]).rstrip())
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    met = {True: "yes", False: "NO", None: ""}[row["met"] if isinstance(row["met"], bool) else None]
    numbers = [_number(row[key]) for key in ("figure", "beside", "ratio")]
    each = [str(row.get(key, "")) for key in ("cpu_ms_each", "flushes_each")]
    return str(row["what"]), numbers[0], str(row["unit"]), numbers[1], numbers[2], str(row["target"]), met, *each


def _number(value: object) -> str:
    if not isinstance(value, int | float):
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"
