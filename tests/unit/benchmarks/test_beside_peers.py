"""Peers: one that isn't there or breaks says so, and the best durable one is what the engine is judged by."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import beside_peers

ENGINE = {"per_s": 2000.0, "p50_ms": 1.0}


def test_the_best_durable_peer_is_what_counts() -> None:
    peers = {
        "dbos": {"per_s": 100.0, "p50_ms": 5.0},
        "duroxide": {"per_s": 900.0, "p50_ms": 0.5},  # keeps no promise over a loss of power
        "durabletask": {"missing": "not installed"},
    }
    rows = {str(row["what"]): row for row in beside_peers.rows(ENGINE, peers)}
    rate = rows["3 steps at once, best durable peer here"]
    assert (rate["ratio"], rate["met"]) == (20.0, True)
    assert rows["3 steps one at a time: p50, best durable peer"]["met"] is True
    assert "3 steps at once, beside duroxide (not durable)" in rows
    assert not any("durabletask" in what for what in rows)


def test_no_peer_no_rows() -> None:
    assert beside_peers.rows(ENGINE, {"dbos": {"missing": "not installed"}}) == []


def test_a_peer_that_is_not_there_or_breaks_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(beside_peers.PEERS, "no_such_engine", "no_such_engine")
    assert "not installed" in beside_peers.peer("no_such_engine", tmp_path)["missing"]
    monkeypatch.setitem(beside_peers.PEERS, "json", "no_such_module")
    assert "broke" in beside_peers.peer("json", tmp_path)["missing"]
