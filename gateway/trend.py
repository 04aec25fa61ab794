"""The trend store: load and what is shed, a line each second, for reports.

Samples are telemetry, not evidence: they don't go through the journal, are not synced, and a crash may lose the last
second. What must stay true: the store is bounded (files of ``MAX_BYTES``, ``KEEP`` of them), and a disk that is full or
broken costs samples, never control: lost samples are counted.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

MAX_BYTES = 16 * 1024 * 1024
KEEP = 4


@dataclass(frozen=True, slots=True)
class TrendSample:
    """One moment: engine time (µs), load (kW, None when not measured), capacity (kW), shed load (kW), open breakers."""

    time_us: int
    load_kw: float | None
    capacity_kw: float
    shed_kw: float
    open_breakers: int


class TrendStore:
    """Appends samples to ``trend.csv`` in a folder; older files are ``trend.1.csv`` and so on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._whole = False  # nobody knows how the file ends that an earlier process left
        self.lost = 0

    @property
    def path(self) -> Path:
        """The file that is being written."""
        return self._folder / "trend.csv"

    def append(self, sample: TrendSample) -> None:
        """Write one line."""
        load = "" if sample.load_kw is None else f"{sample.load_kw:.1f}"
        line = f"{sample.time_us},{load},{sample.capacity_kw:.1f},{sample.shed_kw:.1f},{sample.open_breakers}\n"
        if not self._whole:
            line = "\n" + line  # what a crash or a full disk cut short must not swallow this one
        try:
            with self.path.open("a", encoding="ascii") as file:
                file.write(line)
                full = file.tell() > MAX_BYTES
            self._whole = True
            if full:
                self._rotate()
        except OSError:
            self._whole = False
            self.lost += 1

    def _rotate(self) -> None:
        for number in range(KEEP - 1, 0, -1):
            older = self._folder / f"trend.{number}.csv"
            if number == KEEP - 1:
                older.unlink(missing_ok=True)
            elif older.exists():
                older.rename(self._folder / f"trend.{number + 1}.csv")
        self.path.rename(self._folder / "trend.1.csv")

    def read(self, from_us: int, to_us: int) -> list[TrendSample]:
        """Samples of a span of engine time, oldest first; lines that a crash cut short are left out."""
        found: list[TrendSample] = []
        names = [f"trend.{number}.csv" for number in range(KEEP - 1, 0, -1)] + ["trend.csv"]
        for name in names:
            with (
                contextlib.suppress(FileNotFoundError),
                (self._folder / name).open(encoding="ascii", errors="replace") as file,
            ):
                for line in file:
                    sample = _parse(line)
                    if sample is not None and from_us <= sample.time_us <= to_us:
                        found.append(sample)
        return found


def _parse(line: str) -> TrendSample | None:
    parts = line.rstrip("\n").split(",")
    if len(parts) != 5 or not line.endswith("\n"):
        return None
    try:
        load = float(parts[1]) if parts[1] else None
        return TrendSample(int(parts[0]), load, float(parts[2]), float(parts[3]), int(parts[4]))
    except ValueError:
        return None
