"""The trend store: load and what is shed, a line each second, for reports.

Samples are telemetry, not evidence: they don't go through the journal, are not synced, and a crash may lose the last
second. What must stay true: the store is bounded (files of ``MAX_BYTES``, ``KEEP`` of them), and a disk that is full or
broken costs samples, never control: lost samples are counted. Where space gets short, the oldest file goes first.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

BLOCK_BYTES = 64 * 1024
"""Read at once when a file is read from its end."""
NEVER_US = 1 << 62
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


def is_trend(name: str) -> bool:
    """Whether a file of the folder is one of the store's."""
    return name == "trend.csv" or any(name == f"trend.{number}.csv" for number in range(1, KEEP))


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

    def drop_oldest(self) -> tuple[str, int] | None:
        """Remove the oldest file but the one that is being written; its name and bytes, None if there is none.

        Errors: OSError.
        """
        for number in range(KEEP - 1, 0, -1):
            oldest = self._folder / f"trend.{number}.csv"
            with contextlib.suppress(FileNotFoundError):
                size = oldest.stat().st_size
                oldest.unlink()
                return oldest.name, size
        return None

    def _rotate(self) -> None:
        for number in range(KEEP - 1, 0, -1):
            older = self._folder / f"trend.{number}.csv"
            if number == KEEP - 1:
                older.unlink(missing_ok=True)
            elif older.exists():
                older.rename(self._folder / f"trend.{number + 1}.csv")
        self.path.rename(self._folder / "trend.1.csv")

    def page(self, from_us: int, to_us: int, limit: int, newest_first: bool = False) -> list[TrendSample]:
        """At most so many samples of a span of engine time, the oldest first or the newest first.

        Reads little more than it gives: times rise from line to line and from file to file, so the place is searched for.
        """
        found: list[TrendSample] = []
        names = [f"trend.{number}.csv" for number in range(KEEP - 1, 0, -1)] + ["trend.csv"]
        for name in reversed(names) if newest_first else names:
            with contextlib.suppress(FileNotFoundError), (self._folder / name).open("rb") as file:
                samples = _backwards(file, to_us) if newest_first else _forwards(file, from_us)
                for sample in samples:
                    if not from_us <= sample.time_us <= to_us:
                        break
                    found.append(sample)
                    if len(found) == limit:
                        return found
        return found

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


class _Times:
    """Times of a file by offset: that of the first whole line behind it; for bisect."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.bytes = file.seek(0, 2)

    def __len__(self) -> int:
        return self.bytes

    def __getitem__(self, offset: int) -> int:
        self._file.seek(offset)
        if offset:
            self._file.readline()
        for line in self._file:
            sample = _parse(line.decode("ascii", "replace"))
            if sample is not None:
                return sample.time_us
        return NEVER_US


def _forwards(file: BinaryIO, from_us: int) -> Iterator[TrendSample]:
    """The samples from this time on, and perhaps some that came just before."""
    offset = max(0, bisect_left(_Times(file), from_us) - 1)
    file.seek(offset)
    if offset:
        file.readline()
    for line in file:
        sample = _parse(line.decode("ascii", "replace"))
        if sample is not None and sample.time_us >= from_us:
            yield sample


def _backwards(file: BinaryIO, to_us: int) -> Iterator[TrendSample]:
    """The samples up to this time, the newest first."""
    end = bisect_left(_Times(file), to_us + 1) + BLOCK_BYTES
    rest, last = b"", True
    while end > 0:
        start = max(0, end - BLOCK_BYTES)
        file.seek(start)
        lines = (file.read(end - start) + rest).split(b"\n")
        if last:
            del lines[-1]  # the block ends somewhere in it, or a crash has cut it short
            last = False
        rest = lines.pop(0) if start and lines else b""
        end = start
        for line in reversed(lines):
            sample = _parse(line.decode("ascii", "replace") + "\n")
            if sample is not None and sample.time_us <= to_us:
                yield sample


def _parse(line: str) -> TrendSample | None:
    parts = line.rstrip("\n").split(",")
    if len(parts) != 5 or not line.endswith("\n"):
        return None
    try:
        load = float(parts[1]) if parts[1] else None
        return TrendSample(int(parts[0]), load, float(parts[2]), float(parts[3]), int(parts[4]))
    except ValueError:
        return None
