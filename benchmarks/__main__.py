"""``python -m benchmarks``: all cases one after the other, one JSON line each, then a table of what they say.

usage: python -m benchmarks [--only NAME ...] [--whole] [--list]

Each figure stands beside that of a peer which did the same work in the same run, where there is one: absolute times
differ by a factor of two between runs on a shared machine, their ratio much less. ``others`` tells how many cores
somebody else used meanwhile. A target that is missed doesn't make this fail, nor does an engine that isn't there; a case
that breaks does.

Seventeen minutes in all. With ``--whole`` half an hour: the peers do every case, a journal of 10^7 records (2.6 GB) is
measured, and the day takes twice as long.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import machine_busy_s
from benchmarks.summary import Row, notes_of, render, rows_of

HERE = Path(__file__).resolve().parent
CASES = {
    "journal_commit": "the journal beside bare SQLite",
    "engine": "the durable engine beside the ceiling of one Python process",
    "beside_peers": "the durable engine beside other engines, those that are installed",
    "scaling": "the cost of an event by length of the journal and number of entities",
    "day": "a day of 12,000 breakers in some minutes: memory, files, latency",
    "field_modbus": "the bare Modbus driver with 12,000 breakers",
    "opcua_server": "the operators' OPC UA server beside a bare asyncua server",
    "opcua_override": "an operator's word by OPC UA until it is acted on, idle and while 12,000 breakers move",
    "mass_shed": "the whole gateway with 12,000 breakers beside the bare driver",
}
WHOLE = {
    "beside_peers": ("--all",),
    "scaling": ("--records", *(str(10**power) for power in range(3, 8))),
    "day": ("--minutes", "8"),
}
"""What ``--whole`` adds."""
LIMIT_S = 1_800.0
"""A case that takes longer is ended."""
NOISY_CORES = 0.2
"""Above so many cores used by others a case's figures are called noisy."""


@dataclass(slots=True)
class Said:
    """What one case said. well: it ended as it should."""

    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    well: bool = False


def run(name: str, more: Sequence[str]) -> Said:
    """Run one case, passing its lines on."""
    print(f"== {name}: {CASES[name]}", file=sys.stderr, flush=True)
    began, busy_s, own_s = time.monotonic(), machine_busy_s(), _children_cpu_s()
    command = [sys.executable, str(HERE / f"{name}.py"), *more]
    said = Said()
    with subprocess.Popen(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True) as process:
        limit = threading.Timer(LIMIT_S, process.terminate)
        limit.start()
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            if line.startswith("{"):
                told = json.loads(line)
                said.rows += rows_of(told)
                said.notes += notes_of(told)
        process.wait()
        limit.cancel()
    wall_s = time.monotonic() - began
    others = max(0.0, (machine_busy_s() - busy_s) - (_children_cpu_s() - own_s)) / wall_s
    noisy = ": noisy" if others > NOISY_CORES else ""
    print(f"== {name}: {wall_s:.0f} s; others used {others:.2f} cores{noisy}", file=sys.stderr, flush=True)
    for row in said.rows:
        row["what"] = f"{row['what']}{' *' if noisy else ''}"
    said.well = process.returncode == 0
    return said


def _children_cpu_s() -> float:
    """CPU of this process and of all its descendants that were waited for, also by those in between."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> int:
    """Run what was asked for; 1 when a case broke."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES), metavar="NAME")
    parser.add_argument("--whole", action="store_true", help="the long forms of the cases")
    parser.add_argument("--list", action="store_true", help="say what there is")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(f"{name:16} {text}" for name, text in CASES.items()))
        return 0
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    began = time.monotonic()
    said = {name: run(name, WHOLE.get(name, ()) if arguments.whole else ()) for name in arguments.only}
    print(f"\n{os.cpu_count()} cores, Python {platform.python_version()}, load before the start {load}")
    print(
        "beside: the peer of the same run (behind a stroke: its CPU, its flushes). *: others used the machine meanwhile\n"
    )
    print(render([row for one in said.values() for row in one.rows]))
    for note in (note for one in said.values() for note in one.notes):
        print(f"- {note}")
    print(f"== {time.monotonic() - began:.0f} s in all", file=sys.stderr)
    broken = [name for name, one in said.items() if not one.well]
    for name in broken:
        print(f"BROKEN: {name} did not end well", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
