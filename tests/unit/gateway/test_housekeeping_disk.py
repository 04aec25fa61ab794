"""How full is the disk, which limit is nearer, and what follows: people are told, trends go, evidence stays."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

import gateway.housekeeping_disk as module
from gateway.housekeeping_disk import MB, Pressure, Usage, advice, measure, pressure

ROOMY = Usage(
    journal=10 * MB,
    archives=5 * MB,
    trends=4 * MB,
    other=MB,
    reusable=0,
    budget=0,
    disk=1000 * MB,
    free=900 * MB,
    elsewhere=False,
)


@pytest.mark.parametrize(
    ("pct", "level"),
    [
        (0.0, Pressure.NONE),
        (79.9, Pressure.NONE),
        (80.0, Pressure.WATCH),
        (89.9, Pressure.WATCH),
        (90.0, Pressure.SHORT),
        (94.9, Pressure.SHORT),
        (95.0, Pressure.FULL),
        (130.0, Pressure.FULL),
    ],
)
def test_each_level_begins_where_it_says(pct: float, level: Pressure) -> None:
    assert pressure(pct) is level


def test_a_level_is_left_only_a_little_below_so_that_an_alarm_does_not_come_and_go() -> None:
    assert pressure(89.5, Pressure.SHORT) is Pressure.SHORT
    assert pressure(87.9, Pressure.SHORT) is Pressure.WATCH
    assert pressure(94.0, Pressure.FULL) is Pressure.FULL
    assert pressure(92.9, Pressure.FULL) is Pressure.SHORT
    assert pressure(79.0, Pressure.FULL) is Pressure.WATCH
    assert pressure(77.9, Pressure.FULL) is Pressure.NONE
    assert pressure(79.0, Pressure.NONE) is Pressure.NONE


def test_the_nearer_limit_decides_and_is_the_one_that_is_told() -> None:
    assert ROOMY.pct == pytest.approx(10.0)
    assert "file system is 10 % full, 900 MB are free" in ROOMY.sentence()
    narrow = replace(ROOMY, budget=25 * MB)
    assert narrow.pct == pytest.approx(80.0)
    assert "80 % of the disk budget of 25 MB is used (journal 10 MB, archives 5.0 MB" in narrow.sentence()
    assert replace(narrow, free=50 * MB).pct == pytest.approx(95.0)


def test_what_the_journal_will_use_again_is_free() -> None:
    assert replace(ROOMY, free=50 * MB).pct == pytest.approx(95.0)
    assert replace(ROOMY, free=50 * MB, reusable=200 * MB).pct == pytest.approx(75.0)


def test_each_level_says_what_is_done_and_only_archives_elsewhere_help_at_the_last() -> None:
    assert advice(Pressure.NONE, ROOMY) == ""
    assert "from 90 % on" in advice(Pressure.WATCH, ROOMY)
    assert "oldest first" in advice(Pressure.SHORT, ROOMY)
    assert "would help" in advice(Pressure.FULL, ROOMY)
    assert "archived early" in advice(Pressure.FULL, replace(ROOMY, elsewhere=True))
    assert "a full disk stops the gateway" in advice(Pressure.FULL, ROOMY)
    assert "raise disk_budget_mb" in advice(Pressure.FULL, replace(ROOMY, budget=MB)), "a spent budget stops nothing"


def test_what_else_lies_there_is_named_where_it_counts() -> None:
    assert "other files such as backups 246 MB" in replace(ROOMY, other=246 * MB).sentence()
    assert "other" not in replace(ROOMY, other=0).sentence()


def fill(path: Path, kilobytes: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(kilobytes * 1024))


def near(kilobytes: int) -> object:
    """File systems give whole blocks."""
    return pytest.approx(kilobytes * 1024, abs=64 * 1024)


def test_files_are_told_apart_by_what_they_are(tmp_path: Path) -> None:
    state, archive = tmp_path / "state", tmp_path / "state" / "archive"
    fill(state / "journal.db", 1000)
    fill(state / "journal.db-wal", 500)
    fill(state / "trend.csv", 300)
    fill(state / "trend.2.csv", 300)
    fill(state / "pki" / "own" / "key.pem", 200)
    fill(archive / "1-100.gz", 700)
    found = measure(state, archive, budget=2 * MB, reusable=400 * 1024)
    assert (found.journal, found.archives, found.trends, found.other) == (near(1100), near(700), near(600), near(200))
    assert (found.own, found.budget, found.elsewhere) == (near(2600), 2 * MB, False)
    assert 0 < found.free < found.disk


def test_archives_count_wherever_they_lie_on_the_same_file_system_and_not_on_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, archive = tmp_path / "state", tmp_path / "elsewhere" / "archive"
    fill(state / "journal.db", 100)
    assert measure(state, archive, 0, 0).archives == 0, "the folder is made by the first archive"
    fill(archive / "1-100.gz", 700)
    assert measure(state, archive, 0, 0).archives == near(700)
    monkeypatch.setattr(module, "_device", lambda _: -1)
    moved = measure(state, archive, 0, 0)
    assert (moved.archives, moved.elsewhere) == (0, True)


def test_a_folder_with_ever_so_many_files_takes_no_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FILES", 3)
    for number in range(6):
        fill(tmp_path / f"file{number}", 100)
    assert measure(tmp_path, tmp_path / "archive", 0, 0).other == near(300)


def test_a_folder_that_is_closed_to_the_daemon_ends_no_watch_over_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``lost+found`` of a disk that is the state folder's own, say."""
    fill(tmp_path / "journal.db", 100)
    fill(tmp_path / "lost+found" / "x", 100)
    real = os.scandir

    def scan(folder: Path) -> object:
        if folder.name == "lost+found":
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr(module.os, "scandir", scan)
    found = measure(tmp_path, tmp_path / "archive", 0, 0)
    assert (found.journal, found.other) == (near(100), 0)


def test_a_budget_larger_than_what_is_left_of_the_disk_hides_nothing() -> None:
    narrow = replace(ROOMY, budget=900_000 * MB, free=40 * MB)
    assert narrow.pct == pytest.approx(96.0)
    assert "file system is 96 % full, 40 MB are free" in narrow.sentence()


def test_a_budget_of_less_than_the_journal_alone_is_past_its_end_and_says_so() -> None:
    tiny = replace(ROOMY, budget=MB)
    assert pressure(tiny.pct) is Pressure.FULL
    assert "2000 % of the disk budget of 1.0 MB is used" in tiny.sentence()


def test_a_file_system_that_says_nothing_of_its_size_raises_no_alarm_by_itself() -> None:
    assert replace(ROOMY, disk=0, free=0).pct == 0.0
