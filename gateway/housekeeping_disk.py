"""How full the disk is, and what follows from it: pure judgement, and the one measuring that it rests on.

Two limits count, and the one that is nearer decides: the budget that a site gives its journal, archives and trends, and
the file system that they lie on. At 80 % people are told. At 90 % trends go, the oldest file first: they are telemetry.
At 95 % records that nothing needs any more are archived early, where archives lie on another file system. Nothing that
counts as evidence is ever dropped: a disk that is full all the same fails the journal's next write, and the daemon stops.

What must stay true: space inside the journal's file that it will use again counts as free; a level is left only once the
use has fallen a little below it, so that an alarm does not come and go. Nothing is kept here that a crash could lose.
"""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass
from pathlib import Path

from gateway.trend import is_trend

MB = 1024 * 1024
LEAVES_BELOW_PCT = 2.0
"""A level is left so many percent points below where it was entered."""
MOST_FILES = 100_000
"""Files that are looked at; in more than that nobody could find anything, and the file system's own figure counts."""


class Pressure(enum.IntEnum):
    """How near the limit is: the percentage at which each level begins."""

    NONE = 0
    WATCH = 80
    SHORT = 90
    FULL = 95


@dataclass(frozen=True, slots=True)
class Usage:
    """What lies on the disk, in bytes.

    journal: the file, its write-ahead log and mark, without ``reusable``: pages that it will use again. archives: those
    on the journal's file system. budget: 0 for none. disk: size of the file system as it is available to the daemon.
    free: what is free there. elsewhere: archives go to another file system.
    """

    journal: int
    archives: int
    trends: int
    other: int
    reusable: int
    budget: int
    disk: int
    free: int
    elsewhere: bool

    @property
    def own(self) -> int:
        """All that the daemon has there."""
        return self.journal + self.archives + self.trends + self.other

    @property
    def budget_pct(self) -> float:
        """How much of the budget is used, percent; 0 without one."""
        return 100.0 * self.own / self.budget if self.budget else 0.0

    @property
    def disk_pct(self) -> float:
        """How much of the file system is used, percent, whoever uses it."""
        return 100.0 * max(0, self.disk - self.free - self.reusable) / self.disk if self.disk else 0.0

    @property
    def by_budget(self) -> bool:
        """Whether the budget is the nearer limit."""
        return self.budget > 0 and self.budget_pct >= self.disk_pct

    @property
    def pct(self) -> float:
        """The nearer limit."""
        return max(self.budget_pct, self.disk_pct)

    def told(self) -> dict[str, str | int | float]:
        """For those who ask: bytes, and the use in percent."""
        return {
            "sentence": self.sentence(),
            "used_pct": round(self.pct, 1),
            "journal": self.journal,
            "archives": self.archives,
            "trends": self.trends,
            "other": self.other,
            "budget": self.budget,
            "disk": self.disk,
            "free": self.free,
        }

    def sentence(self) -> str:
        """Which limit is near, how near, and what takes the space."""
        own = f"journal {_mb(self.journal)}, archives {_mb(self.archives)}, trends {_mb(self.trends)}"
        own += f", other files such as backups {_mb(self.other)}" if self.other >= MB else ""
        if self.by_budget:
            return f"{self.budget_pct:.0f} % of the disk budget of {_mb(self.budget)} is used ({own})"
        return f"the journal's file system is {self.disk_pct:.0f} % full, {_mb(self.free)} are free (own: {own})"


def pressure(pct: float, before: Pressure = Pressure.NONE) -> Pressure:
    """The level at this use; before: that of the look before."""
    for level in (Pressure.FULL, Pressure.SHORT, Pressure.WATCH):
        if pct >= level - (LEAVES_BELOW_PCT if before >= level else 0.0):
            return level
    return Pressure.NONE


def advice(level: Pressure, usage: Usage) -> str:
    """What the daemon does about it, and what a person can do."""
    match level:
        case Pressure.NONE:
            return ""
        case Pressure.WATCH:
            return "make room, move old archives elsewhere, or keep fewer days; from 90 % on trends are dropped"
        case Pressure.SHORT:
            return "trends are dropped, the oldest first; make room now"
        case Pressure.FULL:
            room = "make room now"
            room += (
                ", or raise disk_budget_mb" if usage.by_budget else ": a full disk stops the gateway, with outputs held"
            )
            if usage.elsewhere:
                return f"{room}; what nothing needs any more is archived early"
            return f"{room}; archives on another disk (archive_dir) would help"


def measure(state_dir: Path, archive_dir: Path, budget: int, reusable: int) -> Usage:
    """Look at the files. reusable: bytes inside the journal's file that it will use again. Blocks. Raises OSError."""
    found = os.statvfs(state_dir)
    free = found.f_bavail * found.f_frsize
    disk = (found.f_blocks - found.f_bfree) * found.f_frsize + free
    elsewhere = _device(archive_dir) != os.stat(state_dir).st_dev
    sizes = {"journal": 0, "archives": 0, "trends": 0, "other": 0}
    left = MOST_FILES
    folders = [state_dir] if elsewhere or archive_dir.is_relative_to(state_dir) else [state_dir, archive_dir]
    while folders and left > 0:
        folder = folders.pop()
        archives = folder.is_relative_to(archive_dir)
        if archives and elsewhere:
            continue
        try:
            entries = list(os.scandir(folder))
        except (FileNotFoundError, PermissionError):
            continue  # what is closed to the daemon (lost+found, what root put aside) still counts by the file system
        for entry in entries[:left]:
            left -= 1
            if entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                sizes[_kind(entry.name, archives)] += _bytes(entry)
    sizes["journal"] = max(0, sizes["journal"] - reusable)
    return Usage(**sizes, reusable=reusable, budget=budget, disk=disk, free=free, elsewhere=elsewhere)


def _kind(name: str, archives: bool) -> str:
    if archives:
        return "archives"
    if name.startswith("journal.db"):
        return "journal"
    return "trends" if is_trend(name) else "other"


def _bytes(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_blocks * 512
    except FileNotFoundError:
        return 0  # gone since the folder was read


def _device(folder: Path) -> int:
    """The file system on which a folder lies, or will lie once it is made."""
    while True:
        try:
            return os.stat(folder).st_dev
        except FileNotFoundError:
            if folder == folder.parent:
                raise
            folder = folder.parent


def _mb(size: int) -> str:
    return f"{size / MB:,.0f} MB".replace(",", " ") if size >= 10 * MB else f"{size / MB:.1f} MB"
