"""A changed value in a projection, which neither the chain nor SQLite's own checks see, is found by the row's checksum."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gateway.durable.store import ActivityRow, MessageRow, TimerRow
from journal import Journal, JournalCorrupt
from journal.rowcheck import row_sum, with_sums

LIVE_DAMAGE = {
    "UPDATE instances SET state = x'7b7e' WHERE instance = '@breaker@7B'": "@breaker@7B in instances",
    "UPDATE instances SET last_seq = 1 WHERE instance = '@breaker@7B'": "@breaker@7B in instances",
    "UPDATE timers SET due_us = due_us + 1": "plan in timers",
    "UPDATE activities SET payload = x'00'": "plan in activities",
    "UPDATE messages SET target = 'other'": "5 in messages",
}


@pytest.fixture
async def written(path: Path, scribe) -> Path:
    """A closed journal with a row in each projection."""
    journal = await Journal.open(path)
    batch = scribe.batch(("plan", "TimerFired"), ("@breaker@7B", "Opened"), ("gone", "Opened"))
    batch.instances["@breaker@7B"] = scribe.entity("@breaker@7B")
    batch.instances["done"] = scribe.orchestration("done", "Completed")
    batch.add_timer(TimerRow("plan", 1, 5_000, b"{}"))
    batch.add_activity(ActivityRow("plan", 2, b"{}"))
    batch.add_message(MessageRow(5, "plan", b"{}"))
    await journal.commit(batch)
    assert await journal.check() == []
    await journal.close()
    return path


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(statement).rowcount == 1


@pytest.mark.parametrize(("statement", "named"), LIVE_DAMAGE.items())
async def test_damage_of_what_is_live_refuses_the_journal(written: Path, statement: str, named: str) -> None:
    change(written, statement)
    with pytest.raises(JournalCorrupt, match=named):
        await Journal.open(written)


async def test_damage_of_what_has_ended_is_found_when_it_is_read_and_by_the_daily_check(written: Path) -> None:
    change(written, "UPDATE instances SET state = x'7b7e' WHERE instance = 'done'")
    change(written, "UPDATE tails SET last_seq = 2 WHERE instance = 'gone'")
    journal = await Journal.open(written)
    with pytest.raises(JournalCorrupt, match="done in instances"):
        await journal.instance("done")
    with pytest.raises(JournalCorrupt, match="done in instances"):
        await journal.instances()
    found = await journal.check()
    assert ["done in instances" in one or "gone in tails" in one for one in found] == [True, True]
    await journal.close()


@pytest.mark.parametrize("table", ["timers", "activities"])
async def test_damage_since_the_start_is_found_when_it_is_read(written: Path, table: str) -> None:
    journal = await Journal.open(written)
    change(written, f"UPDATE {table} SET payload = x'00'")
    with pytest.raises(JournalCorrupt, match=f"plan in {table}"):
        await (journal.timers() if table == "timers" else journal.activities())
    await journal.close()


async def test_rows_of_an_older_version_have_no_checksum_and_are_taken(written: Path) -> None:
    change(written, "UPDATE timers SET checksum = NULL")
    journal = await Journal.open(written)
    assert len(await journal.timers()) == 1
    assert await journal.check() == []
    await journal.close()


def test_the_sum_is_the_same_everywhere() -> None:
    """It is in files: another one would refuse them all."""
    assert row_sum(("@breaker@ö", 7, b"{}")) == 0xBA085FAA
    assert row_sum(("@breaker@ö", 7)) != row_sum(("@breaker@ö", 8))


@pytest.mark.parametrize(
    ("row", "blob"),
    [
        (("@breaker@ö", "entity", "breaker", "", "", 1, 2, 3, b'{"state":1}', 4), 8),
        (("plan", 7, 1_764_000_000_000_000, b""), 3),
        (("plan", 7, b"{}"), 2),
        (("pl%san\n", 7), None),
    ],
)
def test_the_sums_of_a_commit_are_those_that_are_checked(row: tuple[int | str | bytes, ...], blob: int | None) -> None:
    assert with_sums([row, row], blob) == [(*row, row_sum(row))] * 2
    assert with_sums([], blob) == []
