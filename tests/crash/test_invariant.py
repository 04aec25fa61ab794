"""The checker itself: a sound story has no violations, and each way of breaking the invariant is found and named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from crash import figures
from crash.invariant import Command, Count, Story, prefix_violations, violations

A1, A2, B1 = ("a", 1), ("a", 2), ("b", 1)
SOUND = Story(
    given=[A1, A2, B1],
    acknowledged=[A1, B1],
    taken=[A1, B1, A2],
    commands=[Command("F1", "open", ["unknown", "done"])],
    intents={"F1": Count(1, 1)},
    counted={"F1": Count(1, 0, 1, "open"), "F2": Count()},
    expected={"F1": Count(1, 0, 1, "open")},
)


def test_a_sound_story_has_none() -> None:
    assert violations(SOUND) == []
    assert violations(Story()) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"taken": [A1, A2]}, "1 acknowledged events were lost"),
        ({"taken": [A1, B1, A2, B1]}, "taken twice"),
        ({"taken": [A1, B1, ("c", 1)]}, "nobody gave"),
        ({"taken": [A2, B1, A1]}, "out of order: 1 after 2"),
        ({"commands": [Command("F1", "open", ["unknown"])]}, "no terminal outcome"),
        ({"commands": [Command("F1", "open", [])]}, "no terminal outcome"),
        ({"commands": [Command("F1", "open", ["done", "failed"])]}, "more than one terminal outcome"),
        ({"commands": [Command("F1", "open", ["perhaps"])]}, "no outcome"),
        ({"counted": {"F1": Count(2, 0, 1, "open")}}, "F1: 2 frames to open, 1 intents"),
        ({"counted": {"F1": Count(1, 0, 1, "open"), "F2": Count(0, 1)}}, "F2: 1 frames to close, 0 intents"),
        ({"counted": {"F1": Count(1, 0, 2, "open")}}, "moved other than was told"),
        ({"counted": {"F1": Count(1, 0, 1, "closed")}}, "moved other than was told"),
        ({"counted": {}}, "moved other than was told"),
    ],
)
def test_each_way_of_breaking_it_is_found(changed: dict[str, object], words: str) -> None:
    found = violations(replace(SOUND, **changed))  # type: ignore[arg-type]
    assert any(words in one for one in found), found


def test_of_a_journal_a_prefix_with_all_that_was_acknowledged_is_sound() -> None:
    given = ["x", "y", "z"]
    assert prefix_violations(given, 2, ["x", "y"]) == []
    assert prefix_violations(given, 2, given) == []
    assert "1 of 2 acknowledged were lost" in prefix_violations(given, 2, ["x"])[0]
    assert "from number 1 on" in prefix_violations(given, 0, ["x", "z"])[0]
    assert "from number 3 on" in prefix_violations(given, 0, [*given, "w"])[0]


def test_figures_are_kept_and_added_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "figures.jsonl"
    monkeypatch.setenv(figures.VARIABLE, str(file))
    figures.figure("kill -9", 100, 0, 7, 1.26)
    figures.figure("kill -9", 200, 0, 8, 2.0, "found in 3 of 3")
    figures.figure("flips", 10, 1, None, 0.1)
    head, kills, flips = figures.table(figures.read(file))
    assert head.split()[:3] == ["method", "tries", "violations"]
    assert kills.split() == [
        "kill",
        "-9",
        "300",
        "0",
        "<",
        "1",
        "in",
        "100",
        "3.3",
        "found",
        "in",
        "3",
        "of",
        "3",
        "7,",
        "8",
    ]
    assert flips.split() == ["flips", "10", "1", "10.00%", "seen", "0.1"]
