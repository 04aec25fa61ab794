"""Pages of the trend store: the same samples as a whole reading, found without reading all of it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import trend
from gateway.trend import TrendSample, TrendStore


def sample(time_us: int) -> TrendSample:
    return TrendSample(time_us, None if time_us % 7 == 0 else float(time_us % 1000), 1000.0, 1.5, time_us % 5)


@settings(max_examples=120, deadline=None)
@given(
    steps=st.lists(st.integers(1, 50), max_size=120),
    span=st.tuples(st.integers(-10, 3_000), st.integers(-10, 3_000)),
    limit=st.integers(1, 130),
    newest_first=st.booleans(),
    torn=st.integers(0, 130),
)
def test_a_page_is_the_beginning_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[int],
    span: tuple[int, int],
    limit: int,
    newest_first: bool,
    torn: int,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trend, "MAX_BYTES", 900)  # several files
        patch.setattr(trend, "BLOCK_BYTES", 64)
        store = TrendStore(tmp_path_factory.mktemp("trend"))
        time_us = 0
        for number, step in enumerate(steps):
            time_us += step
            if number == torn:  # a crash has left half a line, and a new process goes on
                with store.path.open("a") as file:
                    file.write(f"{time_us},12")
                store._whole = False
            store.append(sample(time_us))
        whole = store.read(*span)
        wanted = whole[::-1] if newest_first else whole
        assert store.page(*span, limit, newest_first) == wanted[:limit]


@pytest.mark.parametrize("newest_first", [False, True])
def test_a_line_that_was_cut_at_the_end_is_no_sample(tmp_path: Path, newest_first: bool) -> None:
    (tmp_path / "trend.csv").write_text("1,1.0,1.0,1.0,1\n2,2.0,1.0,1.0,12")
    assert [one.time_us for one in TrendStore(tmp_path).page(0, 9, 10, newest_first)] == [1]


def test_nothing_was_written_yet(tmp_path: Path) -> None:
    assert TrendStore(tmp_path).page(0, 1 << 60, 10) == []


def test_a_page_out_of_a_year_takes_no_longer_than_one_out_of_a_day(tmp_path: Path) -> None:
    for name, first in (("trend.1.csv", 0), ("trend.csv", 300_000)):
        lines = (f"{(first + n) * 1_000_000},900.0,1000.0,0.0,0\n" for n in range(300_000))
        (tmp_path / name).write_text("".join(lines))
    store = TrendStore(tmp_path)
    began = time.process_time()
    for newest_first in (False, True):
        found = store.page(450_000_000_000, 460_000_000_000, 100, newest_first)
        assert len(found) == 100
    took_s, began = time.process_time() - began, time.process_time()
    for name in ("trend.1.csv", "trend.csv"):
        assert sum(len(line.split(",")) for line in (tmp_path / name).read_text().splitlines()) == 5 * 300_000
    assert took_s < (time.process_time() - began) / 4, "as long as to look at all of it"
