"""The whole demonstration, played small: two real processes, Modbus TCP and OPC UA between them, a power cut, and an
operator at an OPC UA client."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 300.0


def start(folder: Path) -> subprocess.Popen[str]:
    """Play it, its output in a pipe."""
    command = [sys.executable, "-m", "simulators.heatwave", "--fast", "--dir", str(folder)]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def pids(said: str) -> list[int]:
    """Process ids that were told."""
    return [int(pid) for pid in re.findall(r"pid (\d+)", said)]


def alive(pid: int) -> bool:
    """Whether the process is still there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_story_goes_from_heat_to_the_report(tmp_path: Path) -> None:
    """Shed, power lost in a cooldown, back, held, given back, proven; nothing is left running."""
    folder = tmp_path / "heatwave"
    began = time.monotonic()
    with start(folder) as playing:
        said, _ = playing.communicate(timeout=LIMIT_S)
    assert playing.returncode == 0, said
    for beat in ("armed", "POWER LOST", "the same", "Override(hold", "restoring", "the procedure ended"):
        assert beat in said, f"nothing of {beat!r} in:\n{said}"
    assert "FAIL" not in said
    assert said.count("  PASS  ") >= 14
    assert "hold by shift.supervisor taken in step" in said
    assert re.search(r"shift\.supervisor is back by itself \(session 2\)", said)
    assert re.search(r"40 breakers as last known", said)
    assert "RTU004 restarts, and numbers its OPC UA namespaces anew" in said
    assert (folder / "report.html").exists()
    assert not [pid for pid in pids(said) if alive(pid)], f"left running after {time.monotonic() - began:.0f} s"


def test_an_end_by_signal_ends_what_was_started(tmp_path: Path) -> None:
    """SIGTERM in the middle: both processes are ended by their pid, and it is said."""
    folder = tmp_path / "heatwave"
    with start(folder) as playing:
        wait_for(folder / "gateway-1.log", "ready")
        playing.send_signal(signal.SIGTERM)
        said, _ = playing.communicate(timeout=60.0)
    assert playing.returncode == 130, said
    assert "SIGTERM" in said
    ended = pids(said)
    assert len(ended) == 2, said
    assert not [pid for pid in ended if alive(pid)]


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """A folder that no earlier run has made is not removed."""
    (tmp_path / "thesis.txt").write_text("years of work")
    with start(tmp_path) as playing:
        said, _ = playing.communicate(timeout=30.0)
    assert playing.returncode == 2
    assert "choose another" in said
    assert (tmp_path / "thesis.txt").exists()


def wait_for(path: Path, word: str, limit_s: float = 60.0) -> None:
    """Wait until a log has this word."""
    end = time.monotonic() + limit_s
    while not (path.exists() and word in path.read_text(encoding="utf-8")):
        assert time.monotonic() < end, f"{path} does not say {word}"
        time.sleep(0.05)
