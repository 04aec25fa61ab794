"""``python -m soak`` (by ``make soak``): the crash tests for hours, with progress, and one table of what came of it.

Without a limit every long form runs to its end, one after the other: most of a day. With ``--minutes N`` the short forms
run instead, file by file, again and again with new seeds, as often as they fit: tries add up. A file that was begun is
finished. What fails is shown with its seed, and the exit code is 1; the other files go on.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from crash import figures

ROOT = Path(__file__).parents[1]
PYTEST = (sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider")
TAIL_LINES = 60


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 0 if nothing failed and no figure tells of a violation."""
    parser = argparse.ArgumentParser(
        prog="make soak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, help="short forms, again and again, for so long")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="files at a time (one for each core)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figures.jsonl"
        path.touch()
        os.environ[figures.VARIABLE] = str(path)
        soak = Soak(options.minutes, path)
        soak.run(options.jobs if options.minutes else 1)
        found = figures.read(path)
    print("\n".join(["", *figures.table(found)]) if found else "\nNo figure was told.")
    print(f"\n{soak.runs} runs, {len(soak.failed)} failed, in {(time.monotonic() - soak.began) / 60:.1f} minutes")
    for name in soak.failed:
        print(f"FAILED {name}")
    return 1 if soak.failed or any(one["violations"] for one in found) else 0


class Soak:
    """What is left to run, and what came of it so far."""

    def __init__(self, minutes: float | None, figures_path: Path) -> None:
        self.began = time.monotonic()
        self.failed: list[str] = []
        self.runs = 0
        self._end = None if minutes is None else self.began + minutes * 60
        self._waiting = deque(_long_forms() if minutes is None else _short_forms())
        self._figures = figures_path
        self._lock = threading.Lock()

    def run(self, jobs: int) -> None:
        """Until the time is over, or nothing is left."""
        workers = [threading.Thread(target=self._work) for _ in range(jobs)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    def _work(self) -> None:
        while (name := self._next()) is not None:
            began = time.monotonic()
            long = self._end is None
            command = [*PYTEST, *(("-m", "soak", "--timeout=0") if long else ()), name]
            done = subprocess.run(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
            )
            with self._lock:
                self.runs += 1
                good = done.returncode == 0
                took = f"{time.monotonic() - began:.0f} s"
                at = f"{(time.monotonic() - self.began) / 60:6.1f} min"
                print(f"{at}  {'ok    ' if good else 'FAILED'}  {name}  {took}", flush=True)
                if not good:
                    self.failed.append(name)
                    print("\n".join(f"    {line}" for line in done.stdout.splitlines()[-TAIL_LINES:]), flush=True)
                if not long:
                    self._waiting.append(name)

    def _next(self) -> str | None:
        with self._lock:
            over = self._end is not None and time.monotonic() >= self._end
            return None if over or not self._waiting else self._waiting.popleft()


def _short_forms() -> list[str]:
    """Files whose tests tell figures."""
    files = sorted((ROOT / "tests" / "crash").rglob("test_*.py"))
    return [str(file.relative_to(ROOT)) for file in files if "figure(" in file.read_text(encoding="utf-8")]


def _long_forms() -> list[str]:
    """Every test behind the marker."""
    command = [*PYTEST, "--collect-only", "-m", "soak", "tests"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [line for line in told.splitlines() if "::" in line]


if __name__ == "__main__":
    sys.exit(main())
