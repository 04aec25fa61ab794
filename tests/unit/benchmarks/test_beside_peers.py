"""Peers: one that isn't there or breaks says so, and the best durable one is what the engine is judged by."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import beside_peers
from benchmarks.beside_peers import Found, Peer

OWN = {
    "in_sequence": {"per_s": 900.0, "p50_ms": 1.0, "p99_ms": 2.0, "cpu_ms_each": 1.0, "flushes_each": 3.0},
    "thousand": {"per_s": 2_000.0, "cpu_ms_each": 0.3},
    "entities": {"per_s": 20_000.0, "cpu_ms_each": 0.04},
}


def peer(rate: float, p50_ms: float, **more: float) -> Found:
    """One that did two cases."""
    sequence = {"per_s": 1.0, "p50_ms": p50_ms, "p99_ms": p50_ms, "cpu_ms_each": 8.0, "flushes_each": 9.0}
    cases = {"in_sequence": sequence, "thousand": {"per_s": rate, "cpu_ms_each": 4.0}}
    return Found({"version": "1"}, {**cases, **{name: {"per_s": value} for name, value in more.items()}})


def test_the_best_durable_peer_is_what_counts() -> None:
    peers = {
        "dbos": peer(40.0, 3.0),
        "restate (Python)": peer(100.0, 5.0, entities=400.0),
        "duroxide": peer(900.0, 0.5),  # keeps no promise over a loss of power
    }
    rate, latency, entities = beside_peers.targets(OWN, peers)
    assert (rate["what"], rate["ratio"], rate["met"]) == (
        "3 steps, 1,000 at once: best durable (restate (Python))",
        20.0,
        True,
    )
    assert (latency["beside"], latency["met"]) == (3.0, False)
    assert (entities["ratio"], entities["met"]) == (50.0, True)


def test_each_peer_stands_beside_the_engine_with_its_cpu_and_flushes() -> None:
    rows = {str(row["what"]): row for row in beside_peers.rows(OWN, {"duroxide": peer(900.0, 0.5)})}
    one = rows["3 steps, one at a time: p50, beside duroxide (not durable)"]
    assert (one["ratio"], one["cpu_ms_each"], one["flushes_each"]) == (2.0, "1 / 8", "3 / 9")
    assert "flushes_each" not in rows["3 steps, 1,000 at once, beside duroxide (not durable)"]


def test_no_peer_no_rows() -> None:
    nobody = {"dbos": Found(missing="not installed")}
    assert beside_peers.rows(OWN, nobody) == beside_peers.targets(OWN, nobody) == []


def test_a_peer_that_is_not_there_says_so(tmp_path: Path) -> None:
    assert "no_such_engine" in beside_peers.ask(Peer("no_such_engine"), ["events"], tmp_path).missing


SLOW = """
import json, sys, time
print(json.dumps({"version": "1", "durability": "none"}))
print(json.dumps({"case": sys.argv[2], "per_s": 5.0}), flush=True)
time.sleep(300)
"""


def test_a_peer_whose_time_is_up_keeps_what_it_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside_peers, "LIMIT_S", 4.0)
    (tmp_path / "slow_engine.py").write_text(SLOW)
    found = beside_peers.ask(Peer("slow_engine", {"PYTHONPATH": str(tmp_path)}), ["fan_out", "timers"], tmp_path)
    assert "not done" in found.missing
    assert (found.about["version"], found.cases) == ("1", {"fan_out": {"per_s": 5.0}})
