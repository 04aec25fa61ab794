"""The story of an instance as people read it: aligned, dated where the day changes, open things with their time so far."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.cli.fields import Fields
from gateway.cli.timeline import span, timeline_lines

START_US = 1_768_435_199_000_000  # 2026-01-14 23:59:59Z


def row(after_s: float, kind: str, name: str = "", **more: Any) -> dict[str, Any]:
    told = {
        "at_us": START_US + int(after_s * 1e6),
        "kind": kind,
        "name": name,
        "step": 0,
        "took_s": None,
        "attempts": 1,
    }
    return {**told, "outcome": "", "value": "", "result": "", "failure": None, "who": "", "why": "", **more}


ROWS = [
    row(0, "started", "Drill", value="reason heat"),
    row(0, "activity", "Open", step=1, took_s=9.5, outcome="done", attempts=2, value="T1", result="9 done, 1 failed"),
    row(0, "says", value="until 2026-01-15T00:05:00Z"),
    row(9.5, "timer", step=2, outcome="open", value={"due_us": START_US + 600_000_000, "after_s": 300.0}),
    row(20, "event", "Override", who="jane", value="decision skip"),
    row(21, "suspended", took_s=60.0, outcome="resumed", who="jane", why="ice", result="by bob"),
    row(90, "activity", "Close", step=3, took_s=0.012, outcome="failed", failure="OSError: down"),
]
ANSWER = {
    "instance": "drill-1",
    "name": "Drill",
    "status": "Running",
    "created": "2026-01-14T23:59:59+00:00",
    "updated": "2026-01-15T00:01:29+00:00",
    "replays": 2,
    "complete": True,
    "started_by": {"actor": "jane (root)", "reason": "a test"},
    "waits": "waits for its timer at 2026-01-15T00:10:00Z (it waits at drill.py:7)",
    "now_us": START_US + 100_000_000,
    "rows": ROWS,
}


def test_the_whole_table() -> None:
    assert timeline_lines(Fields(ANSWER)) == [
        "drill-1: Drill, Running, replayed 2 times; created 2026-01-14 23:59:59Z, last turn 2026-01-15 00:01:29Z",
        "Started by jane (root): a test",
        "",
        "                    TIME  STEP  WHAT                       TOOK  OUTCOME",
        "2026-01-14 23:59:59.000Z        started Drill                                         reason heat",
        "           23:59:59.000Z     1  activity Open             9.5 s  done, attempt 2      T1 → 9 done, 1 failed",
        "           23:59:59.000Z        says                                                  until 2026-01-15 00:05:00Z",
        "2026-01-15 00:00:08.500Z     2  timer of 5 min 00 s  1 min 30 s  fires in 8 min 20 s",
        "           00:00:19.000Z        event Override                                        by jane; decision skip",
        "           00:00:20.000Z        suspended            1 min 00 s  resumed              by jane: ice → by bob",
        "           00:01:29.000Z     3  activity Close            12 ms  failed               OSError: down",
        "",
        "Now it waits for its timer at 2026-01-15 00:10:00Z (it waits at drill.py:7).",
    ]


def test_a_beginning_that_was_not_read_is_said_to_be_missing() -> None:
    assert "Its beginning is not shown: it has more turns than are read at once." in timeline_lines(
        Fields({**ANSWER, "complete": False})
    )


def test_an_error_is_told_to_its_end_where_it_says_what_to_do() -> None:
    failure = f"NondeterminismError: {'history and code ' * 12}; put its code back"
    rows = [row(0, "failed", outcome="failed", failure=failure), row(0, "says", value="x" * 200)]
    *_, failed, says = timeline_lines(Fields({**ANSWER, "rows": rows, "waits": ""}))
    assert failed.endswith("; put its code back")
    assert says.endswith("x…")


def test_one_that_has_not_run_yet() -> None:
    assert timeline_lines(Fields({**ANSWER, "rows": [], "started_by": None}))[-1] == "It has not run yet."


def test_an_answer_of_another_daemon_is_shown_with_question_marks() -> None:
    lines = timeline_lines(Fields({"rows": [{}, {"at_us": 1e300, "value": {"due_us": "x"}, "outcome": "open"}]}))
    assert "?" in lines[-1]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "?"),
        (-1, "0 ms"),
        (0.0123, "12 ms"),
        (0.9999, "1.0 s"),
        (9.54, "9.5 s"),
        (59.96, "1 min 00 s"),
        (4000, "1 h 06 min"),
    ],
)
def test_a_length_of_time(seconds: float | None, words: str) -> None:
    assert span(seconds) == words
