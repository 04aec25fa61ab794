"""The summary table: ratios, targets, rounding; and what is taken from the lines of cases that bring no table."""

from __future__ import annotations

import pytest

from benchmarks.summary import at_least, at_most, costs, notes_of, percentile, render, round_to, rows_of


def test_with_a_peer_the_ratio_is_judged() -> None:
    slow = at_most("shed", 14.0, "s", 2.0, beside=5.0)
    assert (slow["ratio"], slow["target"], slow["met"]) == (2.8, "≤ 2 x", False)
    assert at_most("shed", 10.0, "s", 2.0, beside=5.0)["met"] is True


def test_without_a_peer_the_figure_is_judged() -> None:
    assert at_most("memory", 226.0, "MB", 500.0)["met"] is True
    assert at_most("memory", 501.0, "MB", 500.0)["met"] is False
    assert at_least("rate", 10.0, "/s", 11.0)["met"] is False
    assert at_most("restart", 3.0, "s", None)["met"] is None


@pytest.mark.parametrize(("value", "shown"), [(0.0, 0.0), (0.012345, 0.0123), (14.567, 14.6), (123456.0, 123000.0)])
def test_three_digits_are_told(value: float, shown: float) -> None:
    assert round_to(value) == shown


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert [percentile(values, p) for p in (50, 99, 100)] == [50.0, 99.0, 100.0]
    assert percentile([7.0], 99) == 7.0
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_rows_of_a_line_with_a_table_are_its_own() -> None:
    row = at_most("memory", 226.0, "MB", 500.0)
    assert rows_of({"bench": "mass_shed", "case": "memory", "table": [row]}) == [row]


def test_the_journal_stands_beside_sqlite() -> None:
    line = {"benchmark": "journal_commit", "batch_100": {"records_per_s": 50_000, "bare_records_per_s": 100_000}}
    (row,) = rows_of(line)
    assert (row["what"], row["beside"], row["ratio"], row["met"]) == ("journal, batches of 100", 100_000, 0.5, None)


def test_an_unknown_line_has_no_rows() -> None:
    assert rows_of({"bench": "something else", "case": "new"}) == []


def test_the_table_lines_up_and_says_what_is_missed() -> None:
    text = render([at_most("shed", 14.0, "s", 2.0, beside=5.0), at_most("a long name", 1234567.0, "B", None)])
    head, shed, other = text.splitlines()
    assert shed.endswith("NO")
    assert "1,230,000" in other
    assert head.index("unit") == shed.index("s ", 4) == other.index("B")


def test_cpu_and_flushes_stand_beside_those_of_the_peer() -> None:
    own, limit = {"cpu_ms_each": 0.3143, "flushes_each": 0.008, "per_s": 3_000.0}, {"cpu_ms_each": 0.09}
    assert costs(own, limit) == {"cpu_ms_each": "0.31 / 0.09", "flushes_each": "0.008"}
    row = at_least("3 steps", 3_000.0, "/s", 0.5, 11_000.0)
    (told,) = rows_of({"bench": "engine", "case": "three_steps", **own, "limit": limit, "table": [row]})
    assert told["cpu_ms_each"] == "0.31 / 0.09"
    assert "0.31 / 0.09" in render([told])


def test_notes_are_for_below_the_table() -> None:
    assert notes_of({"bench": "peers", "notes": ["dbos 3: FULL"]}) == ["dbos 3: FULL"]
    assert notes_of({"bench": "engine"}) == []
