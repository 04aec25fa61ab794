"""What is read of /proc."""

from __future__ import annotations

import os
import time

from benchmarks.processes import TICK_S, busy_seconds, cpu_seconds, usage


def test_a_command_with_blanks_and_brackets_shifts_nothing() -> None:
    line = "42 (my (odd) name) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 100 1000 10"
    assert cpu_seconds(line) == 300 * TICK_S


def test_idle_and_waiting_for_the_disk_are_not_busy() -> None:
    assert busy_seconds("cpu  100 10 50 9999 8888 5 5 30 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n") == 200 * TICK_S


def test_this_process_is_measured() -> None:
    before, deadline = usage(os.getpid()), time.process_time() + 0.1
    while time.process_time() < deadline:
        pass
    after = usage(os.getpid())
    assert 0.05 <= after.cpu_s - before.cpu_s <= 1.0
    assert 5 < after.rss_mb <= after.peak_mb
