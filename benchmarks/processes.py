"""What the kernel knows of a process and of the machine: CPU, memory, bytes to the disk. Linux only.

Reading costs the process nothing. CPU comes in ticks of 10 ms; ``write_bytes`` counts pages that were dirtied for the
disk, in whole pages, also where a later write of the same page replaces them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """One process at one moment. cpu_s: user and system. rss_mb, peak_mb: resident now, and at most so far, MiB."""

    cpu_s: float
    write_bytes: int
    rss_mb: float
    peak_mb: float


def usage(pid: int) -> Usage:
    """Usage of a process of ours. Raises OSError when it is gone."""
    folder = Path(f"/proc/{pid}")
    status = fields((folder / "status").read_text())
    io = fields((folder / "io").read_text())
    return Usage(
        cpu_seconds((folder / "stat").read_text()),
        int(io["write_bytes"]),
        int(status["VmRSS"].split()[0]) / 1024,
        int(status["VmHWM"].split()[0]) / 1024,
    )


def cpu_seconds(stat: str) -> float:
    """User and system time of a line of /proc/PID/stat; the command's name may hold blanks and brackets."""
    values = stat.rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) * TICK_S


def fields(text: str) -> dict[str, str]:
    """``key: value`` lines."""
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def busy_seconds(stat: str) -> float:
    """CPU seconds that all cores together have worked, of the text of /proc/stat: all but idle and waiting for a disk."""
    user, nice, system, _idle, _wait, irq, softirq, steal = (int(word) for word in stat.split("\n")[0].split()[1:9])
    return (user + nice + system + irq + softirq + steal) * TICK_S


def machine_busy_s() -> float:
    """CPU seconds that this machine has worked since its start."""
    return busy_seconds(Path("/proc/stat").read_text())
