"""The engine beside other durable engines at three steps: one at a time, and 200 at once. One JSON line.

The peers come with the extra ``bench``; one that isn't there, or breaks, says so in its column, and nothing else happens.
Fairness: the engine runs inside the process that asks, and so does DBOS; durabletask asks its backend through gRPC within
one process; duroxide's core is compiled. None of them is tuned, each runs as its makers' first example does.

usage: python benchmarks/beside_peers.py [--dir /var/tmp]
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import engine_cases as ours  # noqa: E402 - found only now
from benchmarks.peers.measuring import AT_ONCE, ONE_AT_A_TIME  # noqa: E402
from benchmarks.summary import Row, at_least, at_most  # noqa: E402

PEERS = {"dbos": "dbos_sqlite", "durabletask": "durabletask_memory", "duroxide": "duroxide_sqlite"}
NOT_DURABLE = ("durabletask", "duroxide")
"""Faster than they would be if they kept what they acknowledge over a loss of power."""
LIMIT_S = 120.0


def peer(name: str, folder: Path) -> dict[str, Any]:
    """What a peer says, or why it says nothing."""
    if importlib.util.find_spec(name) is None:
        return {"missing": "not installed: pip install -e '.[bench]'"}
    command = [sys.executable, "-m", f"benchmarks.peers.{PEERS[name]}", str(folder)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S)
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        found: dict[str, Any] = json.loads(lines[-1])
    except subprocess.TimeoutExpired:
        return {"missing": f"not done after {LIMIT_S:g} s"}
    except (IndexError, ValueError):
        return {"missing": f"broke: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1][:200]}"}
    return found


async def own(folder: Path) -> dict[str, Any]:
    """The engine at the same work."""
    await ours.run_three_steps(folder / "warm.db", 50, 10)
    one = await ours.run_three_steps(folder / "one.db", ONE_AT_A_TIME, 1)
    many = await ours.run_three_steps(folder / "many.db", AT_ONCE, AT_ONCE)
    return {
        "p50_ms": round(statistics.median(one.latencies_s) * 1e3, 2),
        "per_s": round(many.per_s, 1),
        "cpu_ms_each": round(many.cpu_s / AT_ONCE * 1e3, 3),
        "durability": "SQLite, WAL, synchronous=FULL, hash chain",
    }


def rows(engine: dict[str, Any], peers: dict[str, dict[str, Any]]) -> list[Row]:
    """The engine beside each, and beside the best of those that are durable."""
    there = {name: found for name, found in peers.items() if "missing" not in found}
    durable = [found for name, found in there.items() if name not in NOT_DURABLE]
    table = []
    for name, found in there.items():
        mark = " (not durable)" if name in NOT_DURABLE else ""
        table.append(at_least(f"3 steps at once, beside {name}{mark}", engine["per_s"], "/s", None, found["per_s"]))
    if durable:
        best_rate, best_ms = max(one["per_s"] for one in durable), min(one["p50_ms"] for one in durable)
        table.append(at_least("3 steps at once, best durable peer here", engine["per_s"], "/s", 14.0, best_rate))
        table.append(at_most("3 steps one at a time: p50, best durable peer", engine["p50_ms"], "ms", 0.25, best_ms))
    return table


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", default="/var/tmp", help="where the journals are put: the disk that is measured")
    arguments = parser.parse_args()
    peers = {}
    for name in PEERS:
        with tempfile.TemporaryDirectory(dir=arguments.dir) as folder:
            peers[name] = peer(name, Path(folder))
    with tempfile.TemporaryDirectory(dir=arguments.dir) as folder:
        engine = asyncio.run(own(Path(folder)))
    line = {"bench": "peers", "case": "three_steps", "engine": engine, **peers, "table": rows(engine, peers)}
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
