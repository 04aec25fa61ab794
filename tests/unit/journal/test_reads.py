"""Recovery and queries: what is live, what was, and at what cost."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gateway.durable.store import ActivityRow, TimerRow
from journal import Journal, JournalCorrupt, reader, recovery, verify_file
from journal.links import LastRecords


async def test_recovery_returns_entities_and_what_is_not_terminal(journal: Journal, scribe) -> None:
    batch = scribe.batch()
    for status in ("Running", "Pending", "Suspended", "ContinuedAsNew", "Completed", "Failed", "Terminated"):
        batch.instances[status] = scribe.orchestration(status, status)
    batch.instances["@breaker@1"] = scribe.entity("@breaker@1")
    batch.instances["@breaker@2"] = scribe.entity("@breaker@2")._replace(status="Completed")
    await journal.commit(batch)
    live = {row[0] for row in (await journal.recover()).instances}
    assert live == {"Running", "Pending", "Suspended", "ContinuedAsNew", "@breaker@1", "@breaker@2"}


async def test_recovery_never_scans_the_log_nor_what_is_finished(path: Path, scribe, monkeypatch) -> None:
    """SQLite's own count of its steps does not grow when a finished past is added."""
    monkeypatch.setattr(recovery, "TAIL_BATCHES", 4)

    async def steps() -> int:
        journal = await Journal.open(path)
        await journal.close()
        count = 0

        def tick() -> None:
            nonlocal count
            count += 1

        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.set_progress_handler(tick, 10)
            recovery.recover(connection, recovery._chain_end(connection, path))
        return count

    async def past(first: int, batches: int) -> None:
        journal = await Journal.open(path)
        for number in range(first, first + batches):
            batch = scribe.batch(*[(f"plan-{number}", "TimerFired")] * 50)
            for item in range(10):
                batch.instances[f"plan-{number}-{item}"] = scribe.orchestration(f"plan-{number}-{item}", "Completed")
            await journal.commit(batch)
        await journal.close()

    await past(0, 10)
    before = await steps()
    await past(10, 90)
    after = await steps()
    assert before > 10
    assert after <= before * 1.1


@pytest.mark.parametrize(
    ("tail", "first"),
    [
        ([], 1),
        ([(1, 30_000)], 1),
        ([(2, 10), (1, 5)], 1),
        ([(2, 30_000), (1, 15_000)], 2),
        ([(9, 100_000), (8, 97_000), (7, 95_500), (6, 90_000)], 8),
        ([(9, 100_000), (8, 50_000), (7, 40_000)], 9),
        ([(9, 9), (8, 8), (7, 7)], 8),
    ],
)
def test_the_tail_that_a_start_checks_is_bounded(tail: list[tuple[int, int]], first: int) -> None:
    assert recovery._first_of_tail(tail) == first


async def test_the_live_instances_are_found_by_their_index(path: Path, journal: Journal) -> None:
    with closing(sqlite3.connect(path)) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {recovery.LIVE_INSTANCES}").fetchall()
    assert [row[3] for row in plan] == ["SCAN instances USING INDEX instances_live"]


async def test_a_history_is_one_instances_records_from_a_point_on(journal: Journal, scribe) -> None:
    for _ in range(3):
        await journal.commit(scribe.batch(("a", "1"), ("b", "2"), ("a", "3")))
    assert [row[0] for row in await journal.history("a", 1)] == [1, 3, 4, 6, 7, 9]
    assert [row[0] for row in await journal.history("a", 4)] == [4, 6, 7, 9]
    assert [row[0] for row in await journal.history("b", 6)] == [8]
    assert await journal.history("a", 10) == []
    assert await journal.history("nobody", 1) == []


async def test_histories_stay_linked_over_every_turn_of_an_instances_life(path: Path, scribe) -> None:
    """With its row and without, removed and started anew, over restarts."""
    journal = await Journal.open(path)
    with_row = scribe.batch(("a", "1"))
    with_row.instances["a"] = scribe.orchestration("a")
    await journal.commit(with_row)
    await journal.commit(scribe.batch(("a", "2")))
    await journal.close()

    journal = await Journal.open(path)
    row_alone = scribe.batch()
    row_alone.instances["a"] = scribe.orchestration("a", "Completed")
    await journal.commit(row_alone)
    await journal.commit(scribe.batch(("a", "3"), ("a", "4")))
    purged = scribe.batch()
    purged.instances_removed.add("a")
    await journal.commit(purged)
    await journal.close()

    journal = await Journal.open(path)
    assert [row[2] for row in await journal.history("a", 1)] == ["1", "2", "3", "4"]
    anew = scribe.batch(("a", "5"))
    anew.instances["a"] = scribe.orchestration("a", first_seq=5)
    await journal.commit(anew)
    removed = scribe.batch(("a", "6"))
    removed.instances_removed.add("a")
    await journal.commit(removed)
    await journal.close()

    journal = await Journal.open(path)
    await journal.commit(scribe.batch(("a", "7")))
    assert [row[2] for row in await journal.history("a", 1)] == [str(number) for number in range(1, 8)]
    await journal.close()
    assert verify_file(path).ok


async def test_the_cache_of_links_may_overflow(journal: Journal, scribe, monkeypatch) -> None:
    monkeypatch.setattr("journal.links.CACHED_INSTANCES", 2)
    for _ in range(3):
        await journal.commit(scribe.batch(*[(name, "x") for name in "abcd"]))
    assert [row[0] for row in await journal.history("c", 1)] == [3, 7, 11]
    assert not journal._writer._last_records._cache


def test_the_cache_forgets_nothing_within_its_limit() -> None:
    with closing(sqlite3.connect(":memory:")) as nothing:
        last = LastRecords()
        last.committed([("a", 5)])
        assert last.of(nothing, "a") == 5


async def test_a_broken_link_is_never_a_short_history(path: Path, journal: Journal, scribe) -> None:
    await journal.commit(scribe.batch(("a", "1"), ("b", "1"), ("a", "2"), ("a", "3")))
    for tamper in (
        "DELETE FROM records WHERE seq = 3",
        "UPDATE records SET prev = 2 WHERE seq = 4",
        "DELETE FROM records WHERE seq = 4",
    ):
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(tamper)
        with pytest.raises(JournalCorrupt, match="not linked"):
            await journal.history("a", 1)


async def test_the_log_can_be_searched(journal: Journal, scribe, monkeypatch) -> None:
    monkeypatch.setattr(reader, "SCAN_ROWS", 3)
    for _ in range(4):
        await journal.commit(scribe.batch(("a", "x"), ("b", "y"), ("a", "z")))
    assert [row[0] for row in await journal.records(0)] == list(range(1, 13))
    assert [row[0] for row in await journal.records(2, 4)] == [3, 4, 5, 6]
    assert [row[0] for row in await journal.records(0, 10, kinds=["y"])] == [2, 5, 8, 11]
    assert [row[0] for row in await journal.records(0, 3, kinds=["y", "z"])] == [2, 3, 5]
    assert [row[0] for row in await journal.records(3, 2, instance="a")] == [4, 6]
    assert [row[0] for row in await journal.records(0, up_to_seq=2)] == [1, 2]
    assert [row[0] for row in await journal.records(3, 9, up_to_seq=5, instance="a")] == [4]
    assert [row[0] for row in await journal.records(0, 9, instance="a", kinds=["z"])] == [3, 6, 9, 12]
    assert await journal.records(12) == []


async def test_a_listing_has_a_limit(journal: Journal, scribe, monkeypatch) -> None:
    monkeypatch.setattr(reader, "MAX_ROWS", 2)
    batch = scribe.batch(*[("a", "x")] * 3)
    batch.instances.update({name: scribe.orchestration(name) for name in "abc"})
    for number in range(3):
        batch.add_timer(TimerRow("a", number, 1, b""))
        batch.add_activity(ActivityRow("a", number, b""))
    await journal.commit(batch)
    for found in (
        await journal.records(0, 99),
        await journal.instances(limit=99),
        await journal.timers(99),
        await journal.activities(99),
    ):
        assert len(found) == 2


async def test_instances_are_found_by_each_condition(journal: Journal, scribe) -> None:
    batch = scribe.batch()
    names = ["@breaker@7A", "@breaker@7B", "@lock@7", "plan-1", "plan-2", "plan-2\U0010ffff", "plan-3", "plaz"]
    for number, name in enumerate(names):
        row = scribe.entity(name) if name.startswith("@") else scribe.orchestration(name, created_us=number)
        batch.instances[name] = row
    batch.instances["plan-3"] = scribe.orchestration("plan-3", "Completed", created_us=6)
    batch.instances["@lock@7"] = scribe.entity("@lock@7")._replace(name="lock")
    await journal.commit(batch)

    async def found(**conditions) -> list[str]:
        return [row[0] for row in await journal.instances(**conditions)]

    assert await found() == sorted(names)
    assert await found(kind="entity") == names[:3]
    assert await found(name="lock") == ["@lock@7"]
    assert await found(statuses=["Completed"]) == ["plan-3"]
    assert await found(statuses=[]) == []
    assert await found(prefix="plan-2") == ["plan-2", "plan-2\U0010ffff"]
    assert await found(prefix="plan-2\U0010ffff") == ["plan-2\U0010ffff"]
    assert await found(prefix="") == sorted(names)
    assert await found(kind="orchestration", created_from_us=4, created_to_us=6) == names[4:7]
    assert await found(limit=2, after="@breaker@7A") == ["@breaker@7B", "@lock@7"]
    assert await found(prefix="plan", after="plan-1", limit=1) == ["plan-2"]
    row = await journal.instance("plan-3")
    assert row is not None
    assert row[3] == "Completed"
    assert await journal.instance("unknown") is None


@pytest.mark.parametrize(
    ("prefix", "bound"),
    [("a", "b"), ("a\ud7ff", "a\ue000"), ("a\U0010ffff", "b"), ("\U0010ffff", None), ("", None)],
)
def test_the_bound_of_a_prefix(prefix: str, bound: str | None) -> None:
    assert reader._after_prefix(prefix) == bound


async def test_reads_go_on_beside_an_open_transaction(journal: Journal, scribe) -> None:
    await journal.commit(scribe.batch(("a", "x")))
    await journal._write.run(lambda connection: connection.execute("BEGIN IMMEDIATE").fetchall())
    assert len(await journal.history("a", 1)) == 1
    await journal._write.run(lambda connection: connection.execute("ROLLBACK").fetchall())
