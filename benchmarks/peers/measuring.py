"""How a peer is measured: some orchestrations one at a time, then many started at once, and one JSON line at the end."""

from __future__ import annotations

import json
import os
import resource
import statistics
import time
from collections.abc import Callable

CITIES = ("Tokyo", "Seattle", "London")
GREETINGS = ["hello Tokyo", "hello Seattle", "hello London"]
ONE_AT_A_TIME = 30
AT_ONCE = 200


def measure(start: Callable[[], Callable[[], object]], durability: str) -> None:
    """start: begins an orchestration and returns what waits for its output. durability: the peer's setting, in words."""
    for _ in range(3):
        wait = start()
        assert wait() == GREETINGS, "the peer did not do the work"
    latencies = []
    for _ in range(ONE_AT_A_TIME):
        began = time.perf_counter()
        start()()
        latencies.append((time.perf_counter() - began) * 1e3)
    cpu, began = cpu_s(), time.perf_counter()
    for wait in [start() for _ in range(AT_ONCE)]:
        assert wait() == GREETINGS
    took = time.perf_counter() - began
    line = {
        "p50_ms": round(statistics.median(latencies), 2),
        "per_s": round(AT_ONCE / took, 1),
        "cpu_ms_each": round((cpu_s() - cpu) / AT_ONCE * 1e3, 3),
        "durability": durability,
    }
    print(json.dumps(line), flush=True)
    os._exit(0)  # whatever threads it left


def cpu_s() -> float:
    """User and system time of this process, all its threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
