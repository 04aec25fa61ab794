"""What goes in comes out, in order, whole or not at all."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from gateway.durable.store import ActivityRow, Batch, InstanceRow, MessageRow, RecordRow, Store, TimerRow
from journal import BatchRefused, Journal, JournalError, JournalWriteError, verify_file


async def test_a_new_journal_is_empty(journal: Journal) -> None:
    recovered = await journal.recover()
    assert (recovered.last_seq, recovered.last_message_id, recovered.last_time_us) == (0, 0, 0)
    assert not recovered.instances
    assert not recovered.messages
    assert journal.head().batch == 0


async def test_it_is_what_the_engine_needs(journal: Journal) -> None:
    store: Store = journal
    assert (await store.recover()).last_seq == 0


async def test_all_that_was_committed_is_there_after_reopening(path: Path, scribe) -> None:
    journal = await Journal.open(path)
    batch = scribe.batch(("plan", "ExecutionStarted"), ("@breaker@7B", "Opened"), payload=b'{"a":1}')
    batch.instances["@breaker@7B"] = breaker = InstanceRow("@breaker@7B", "entity", "breaker", "x", "", 1, 2, 3, b"s")
    batch.instances["plan"] = plan = InstanceRow("plan", "orchestration", "shed", "Running", "up", 4, 5, 6, b"t")
    batch.add_message(MessageRow(12, "plan", b"m"))
    batch.add_timer(TimerRow("plan", 1, 99, b"t"))
    batch.add_activity(ActivityRow("plan", 2, b"a"))
    await journal.commit(batch)
    head = journal.head()
    await journal.close()

    journal = await Journal.open(path, create=False)
    recovered = await journal.recover()
    assert journal.head() == head
    assert (recovered.last_seq, recovered.last_message_id) == (2, 12)
    assert recovered.last_time_us == batch.time_us
    assert sorted(recovered.instances) == sorted([tuple(breaker), tuple(plan)])
    assert recovered.messages == [(12, "plan", b"m")]
    assert recovered.timers == [("plan", 1, 99, b"t")]
    assert recovered.activities == [("plan", 2, b"a")]
    assert await journal.history("plan", 1) == [tuple(batch.records[0])]
    await journal.close()


async def test_removals_come_before_additions(journal: Journal, scribe) -> None:
    first = scribe.batch()
    first.add_timer(TimerRow("plan", 1, 10, b"old"))
    first.add_message(MessageRow(1, "plan", b"old"))
    first.add_activity(ActivityRow("plan", 1, b"old"))
    first.instances["plan"] = scribe.orchestration("plan")
    await journal.commit(first)

    second = scribe.batch()
    second.timers_removed.add(("plan", 1))
    second.timers_added["plan", 1] = TimerRow("plan", 1, 20, b"new")
    second.messages_removed.add(1)
    second.messages_added[1] = MessageRow(1, "plan", b"new")
    second.activities_removed.add(("plan", 1))
    second.activities_added["plan", 1] = ActivityRow("plan", 1, b"new")
    second.instances_removed.add("plan")
    second.instances["plan"] = scribe.orchestration("plan", "Suspended")
    await journal.commit(second)

    recovered = await journal.recover()
    assert recovered.timers == [("plan", 1, 20, b"new")]
    assert recovered.messages == [(1, "plan", b"new")]
    assert recovered.activities == [("plan", 1, b"new")]
    assert [row[3] for row in recovered.instances] == ["Suspended"]


async def test_a_batch_without_records_moves_the_head_and_an_empty_one_does_not(journal: Journal) -> None:
    before = journal.head()
    await journal.commit(Batch())
    assert journal.head() == before

    batch = Batch()
    batch.add_message(MessageRow(1, "plan", b""))
    await journal.commit(batch)
    assert (journal.head().batch, journal.head().seq) == (1, 0)
    assert journal.head().hash_hex != before.hash_hex
    assert (await journal.verify()).ok


async def test_message_ids_and_time_never_go_back(path: Path) -> None:
    journal = await Journal.open(path)
    first = Batch()
    first.time_us = 500
    first.add_message(MessageRow(41, "plan", b""))
    await journal.commit(first)
    second = Batch()
    second.time_us = 300
    second.remove_message(41)
    await journal.commit(second)
    await journal.close()

    journal = await Journal.open(path)
    recovered = await journal.recover()
    assert not recovered.messages
    assert recovered.last_message_id == 41
    assert recovered.last_time_us == 500
    await journal.close()


@pytest.mark.parametrize("seqs", [(2,), (0,), (1, 3), (1, 1), (2, 1)])
async def test_a_gap_in_the_sequence_is_refused_and_changes_nothing(journal: Journal, scribe, seqs) -> None:
    wrong = Batch()
    wrong.records.extend(RecordRow(seq, "plan", "TimerFired", 1, b"{}") for seq in seqs)
    wrong.add_message(MessageRow(1, "plan", b""))
    with pytest.raises(BatchRefused):
        await journal.commit(wrong)
    assert journal.head().batch == 0
    assert not (await journal.recover()).messages

    await journal.commit(scribe.batch(("plan", "TimerFired")))
    assert journal.head().seq == 1


async def test_a_batch_beyond_the_limit_is_refused(journal: Journal, scribe, monkeypatch) -> None:
    monkeypatch.setattr("journal.writer.MAX_BATCH_RECORDS", 2)
    with pytest.raises(BatchRefused, match="2 is the limit"):
        await journal.commit(scribe.batch(*[("plan", "TimerFired")] * 3))
    assert journal.head().batch == 0


async def test_a_batch_that_fails_half_way_leaves_nothing_and_stops_the_journal(path: Path, scribe) -> None:
    journal = await Journal.open(path)
    await journal.commit(scribe.batch(("plan", "Started")))
    head = journal.head()
    bad = scribe.batch(("plan", "TimerFired"), ("plan", "TaskCompleted"))
    bad.instances["plan"] = scribe.orchestration("plan")
    bad.add_activity(ActivityRow("plan", 1, "text, not bytes"))  # type: ignore[arg-type]
    with pytest.raises(JournalWriteError, match="batch 2"):
        await journal.commit(bad)
    assert journal.head() == head
    assert not await journal._write.run(lambda connection: connection.in_transaction), "the transaction was rolled back"

    scribe.seq = 1
    with pytest.raises(JournalWriteError, match="stopped earlier"):
        await journal.commit(scribe.batch(("plan", "TimerFired")))
    with pytest.raises(JournalWriteError, match="stopped earlier"):
        await journal.probe()
    await journal.close()

    journal = await Journal.open(path)
    assert journal.head() == head
    assert len(await journal.records(0)) == 1
    assert await journal.instance("plan") is None
    await journal.close()


async def test_a_cancelled_commit_is_applied_whole(path: Path, scribe) -> None:
    """However early or late the cancellation comes: once the caller is free, the batch is there, all of it."""
    journal = await Journal.open(path)
    for turns in range(20):
        batch = scribe.batch(*[("plan", "TimerFired")] * 50)
        batch.instances["plan"] = scribe.orchestration("plan", first_seq=scribe.seq)
        task = asyncio.create_task(journal.commit(batch))
        for _ in range(turns + 1):
            await asyncio.sleep(0)
        finished_before = task.done()
        task.cancel()
        if finished_before:
            await task
        else:
            with pytest.raises(asyncio.CancelledError):
                await task
        assert journal.head().seq == scribe.seq
        row = await journal.instance("plan")
        assert row is not None
        assert row[7] == scribe.seq
    await journal.close()
    result = verify_file(path)
    assert (result.ok, result.records) == (True, 1_000)


async def test_commits_are_applied_in_the_order_of_the_calls(journal: Journal, scribe) -> None:
    await asyncio.gather(*(journal.commit(scribe.batch(("plan", str(number)))) for number in range(50)))
    assert [row[2] for row in await journal.records(0)] == [str(number) for number in range(50)]


async def test_large_batches_of_every_size_keep_their_order(journal: Journal, scribe) -> None:
    for size in (1, 2, 255, 256, 257, 511, 777, 1_300):
        batch = scribe.batch(*[(f"@breaker@{number}", "Opened") for number in range(size)])
        batch.instances.update({f"@breaker@{n}": scribe.entity(f"@breaker@{n}", b"%d" % size) for n in range(size)})
        for number in range(size):
            batch.add_timer(TimerRow(f"@breaker@{number}", size, number, b""))
        await journal.commit(batch)
        rows = await journal.records(scribe.seq - size, size)
        assert rows == [tuple(row) for row in batch.records]
    assert len((await journal.recover()).instances) == 1_300
    assert len(await journal.timers(10_000)) == 1 + 2 + 255 + 256 + 257 + 511 + 777 + 1_300
    assert (await journal.verify()).ok


async def test_a_commit_is_one_hop_to_the_thread(journal: Journal, scribe, monkeypatch) -> None:
    hops = 0
    submit = journal._write.submit

    def counted(function):
        nonlocal hops
        hops += 1
        return submit(function)

    monkeypatch.setattr(journal._write, "submit", counted)
    batch = scribe.batch(*[("plan", "TimerFired")] * 600)
    batch.instances["plan"] = scribe.orchestration("plan")
    await journal.commit(batch)
    assert hops == 1


async def test_stats_count_and_the_alarm_follows_the_wal(journal: Journal, scribe, monkeypatch) -> None:
    await journal.commit(scribe.batch(("plan", "TimerFired"), ("plan", "TaskCompleted")))
    stats = journal.stats
    assert (stats.batches, stats.records) == (1, 2)
    assert 0 < stats.commit_ms_last <= stats.commit_ms_max
    assert stats.wal_bytes > 0
    assert not stats.wal_alarm
    monkeypatch.setattr("journal.journal.WAL_LIMIT_BYTES", stats.wal_bytes - 1)
    assert journal.stats.wal_alarm


async def test_probe_waits_for_the_thread(journal: Journal) -> None:
    gate = threading.Event()
    blocked = asyncio.create_task(journal._write.run(lambda _: gate.wait(10)))
    probe = asyncio.create_task(journal.probe())
    done, _ = await asyncio.wait({probe}, timeout=0.05)
    assert not done
    gate.set()
    await probe
    await blocked


async def test_a_closed_journal_refuses_everything(path: Path, scribe) -> None:
    journal = await Journal.open(path)
    await journal.commit(scribe.batch(("plan", "TimerFired")))
    await asyncio.gather(journal.close(), journal.close())
    await journal.close()
    with pytest.raises(JournalError, match="closed"):
        await journal.commit(scribe.batch(("plan", "TimerFired")))
    with pytest.raises(JournalError, match="closed"):
        await journal.history("plan", 1)
    assert not path.with_name("journal.db-wal").exists(), "closing folds the WAL into the file"


async def test_closing_finishes_what_was_handed_over(path: Path, scribe) -> None:
    journal = await Journal.open(path)
    commits = [asyncio.create_task(journal.commit(scribe.batch(("plan", "TimerFired")))) for _ in range(10)]
    await asyncio.sleep(0)
    await journal.close()
    await asyncio.gather(*commits)
    assert verify_file(path).records == 10


async def test_a_disk_that_does_not_answer_is_given_up(path: Path, monkeypatch) -> None:
    monkeypatch.setattr("journal.journal.CLOSE_TIMEOUT_S", 0.05)
    journal = await Journal.open(path)
    gate = threading.Event()
    stuck = asyncio.create_task(journal._write.run(lambda _: gate.wait(10)))
    await asyncio.sleep(0)
    with pytest.raises(JournalError, match="did not answer"):
        await journal.close()
    gate.set()
    await stuck
    assert await journal._write.close(10), "its thread still owes the checkpoint to this loop, not to the next test's"


async def test_after_a_failure_closing_leaves_the_wal_alone(path: Path, scribe) -> None:
    journal = await Journal.open(path)
    await journal.commit(scribe.batch(("plan", "TimerFired")))
    bad = scribe.batch(("plan", "TimerFired"))
    bad.add_message(MessageRow(1, "plan", "text"))  # type: ignore[arg-type]
    with pytest.raises(JournalWriteError):
        await journal.commit(bad)
    size = path.with_name("journal.db-wal").stat().st_size
    assert size > 0
    await journal.close()
    assert path.with_name("journal.db-wal").stat().st_size == size


async def test_settings_are_those_of_the_promise(journal: Journal) -> None:
    def settings(connection: sqlite3.Connection) -> dict[str, object]:
        names = ("synchronous", "journal_mode", "secure_delete", "cell_size_check", "temp_store", "journal_size_limit")
        return {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names}

    assert await journal._write.run(settings) == {
        "synchronous": 2,
        "journal_mode": "wal",
        "secure_delete": 0,
        "cell_size_check": 1,
        "temp_store": 2,
        "journal_size_limit": 32 * 1024 * 1024,
    }


async def test_the_reader_cannot_write(journal: Journal) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await journal._read.run(lambda connection: connection.execute("DELETE FROM records"))
