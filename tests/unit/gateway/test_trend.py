"""The trend store: bounded, and never in the way of control."""

from __future__ import annotations

import pytest

import gateway.trend
from gateway.trend import KEEP, TrendSample, TrendStore, is_trend


def sample(number: int, load: float | None = 100.0) -> TrendSample:
    """A sample of the number-th second."""
    return TrendSample(number * 1_000_000, load, 200.0, 5.5, 3)


def test_samples_come_back_in_order_within_the_span(tmp_path):
    store = TrendStore(tmp_path)
    for number in range(10):
        store.append(sample(number, None if number == 4 else 100.0))
    found = store.read(3_000_000, 5_000_000)
    assert found == [sample(3), sample(4, None), sample(5)]


def test_a_line_that_a_crash_cut_short_is_left_out(tmp_path):
    store = TrendStore(tmp_path)
    store.append(sample(1))
    with store.path.open("a") as file:
        file.write("2000000,100.0,2")
    assert store.read(0, 10_000_000) == [sample(1)]


def test_it_keeps_a_bounded_number_of_files_and_the_newest_samples(tmp_path, monkeypatch):
    monkeypatch.setattr(gateway.trend, "MAX_BYTES", 300)
    store = TrendStore(tmp_path)
    for number in range(200):
        store.append(sample(number))
    files = sorted(path.name for path in tmp_path.iterdir())
    assert len(files) <= KEEP
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < KEEP * 400
    found = store.read(0, 10**12)
    assert found[-1] == sample(199)
    assert [s.time_us for s in found] == sorted(s.time_us for s in found)


def test_a_broken_disk_costs_samples_and_is_counted(tmp_path):
    store = TrendStore(tmp_path / "missing")
    store.append(sample(1))
    assert store.lost == 1


@pytest.mark.parametrize("line", ["a,b\n", "1,x,2,3,4\n", "1,2,3,4,5,6\n", "\n"])
def test_lines_that_are_none_are_left_out(tmp_path, line):
    store = TrendStore(tmp_path)
    store.path.write_text(line)
    assert store.read(0, 10**12) == []


@pytest.mark.parametrize("cut", [b"2000000,1", b"2", b"\0\0\0", b"\xff\xfe"])
def test_a_line_that_a_crash_cut_short_swallows_no_other(tmp_path, cut):
    TrendStore(tmp_path).append(sample(1))
    with (tmp_path / "trend.csv").open("ab") as file:
        file.write(cut)
    after = TrendStore(tmp_path)
    after.append(sample(3))
    assert after.read(0, 10_000_000) == [sample(1), sample(3)]


def test_where_space_gets_short_the_oldest_file_goes_first_and_never_the_one_that_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(gateway.trend, "MAX_BYTES", 300)
    store = TrendStore(tmp_path)
    for number in range(200):
        store.append(sample(number))
    newest = store.read(0, 10**12)[-1]
    dropped = []
    while (one := store.drop_oldest()) is not None:
        dropped.append(one[0])
        assert one[1] > 0
    assert dropped == ["trend.3.csv", "trend.2.csv", "trend.1.csv"]
    store.append(sample(200))
    assert store.read(0, 10**12)[-2:] == [newest, sample(200)]


def test_its_files_are_told_from_others():
    assert [
        name for name in ("trend.csv", "trend.3.csv", "trend.4.csv", "trend.x", "journal.db") if is_trend(name)
    ] == [
        "trend.csv",
        "trend.3.csv",
    ]
