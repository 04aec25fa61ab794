"""Killed, cut short, or out of space: what was acknowledged is there, and nothing is there by half."""

# The loop has nothing else to do here: blocking on files and processes is harmless.
# ruff: noqa: ASYNC221

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from journal import Journal, JournalWriteError, verify_file

ROOT = Path(__file__).resolve().parents[3]

# A child that commits batch after batch, and says so on its standard output; with "early" it says so before it is true.
CHILD = """
import asyncio, os, sys
from pathlib import Path
from gateway.durable.store import Batch, InstanceRow, RecordRow
from journal import Journal

async def main():
    journal = await Journal.open(Path(sys.argv[1]))
    early = sys.argv[2] == "early"
    seq = (await journal.recover()).last_seq
    while True:
        batch = Batch()
        for _ in range(20):
            seq += 1
            batch.records.append(RecordRow(seq, "plan", "TimerFired", seq, b"x" * 100))
        batch.instances["plan"] = InstanceRow("plan", "o", "n", "Running", "", 1, 1, 1, b"%d" % seq)
        if early:
            os.write(1, b"%d\\n" % seq)
        await journal.commit(batch)
        if not early:
            os.write(1, b"%d\\n" % seq)

asyncio.run(main())
"""


def kill_once(path: Path, mode: str, after_s: float) -> int:
    """Let the child commit for a while, kill it; returns the last sequence number that it acknowledged."""
    with subprocess.Popen([sys.executable, "-c", CHILD, path, mode], stdout=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdout is not None
        first = child.stdout.readline()
        time.sleep(after_s)
        child.kill()
        rest = child.stdout.read()
    whole_lines = (first + rest).rpartition(b"\n")[0]
    return int(whole_lines.split()[-1])


async def rounds(path: Path, mode: str, seed: int, count: int) -> int:
    """Kill so many times; returns how often acknowledged records were missing, and checks what is there."""
    chance = random.Random(seed)
    losses = 0
    for _ in range(count):
        acknowledged = kill_once(path, mode, chance.uniform(0.0, 0.03))
        journal = await Journal.open(path)
        head = journal.head()
        losses += head.seq < acknowledged
        assert head.seq % 20 == 0, "a batch is there whole or not at all"
        row = await journal.instance("plan")
        assert row is not None
        assert row[8] == b"%d" % head.seq, "the projection is that of the last batch"
        assert (await journal.verify()).ok
        await journal.close()
    return losses


async def test_after_kill_nothing_acknowledged_is_missing(path: Path) -> None:
    assert await rounds(path, "honest", seed=7, count=8) == 0


async def test_the_harness_sees_a_journal_that_acknowledges_too_early(path: Path) -> None:
    """The control: without it, the test above could be blind."""
    for seed in range(10):
        if await rounds(path, "early", seed, count=4):
            return
    pytest.fail("40 kills of a journal that lies, and no loss was seen")


async def test_a_cut_wal_gives_a_prefix(path: Path, scribe) -> None:
    """Cut at random points and at every frame's edge: some number of whole batches, never a part of one."""
    journal = await Journal.open(path)
    for number in range(1, 13):
        batch = scribe.batch(*[("plan", "TimerFired")] * number, payload=b"x" * 300)
        batch.instances["plan"] = scribe.orchestration("plan", first_seq=number)
        await journal.commit(batch)
    wal = path.with_name("journal.db-wal").read_bytes()
    frame = 24 + 4096
    chance = random.Random(3)
    edges = range(32, len(wal) + 1, frame)
    cuts = {0, 31, len(wal), *edges, *(edge - 1 for edge in edges), *chance.choices(range(len(wal)), k=15)}
    seen = set()
    for number, cut in enumerate(sorted(cuts)):
        copy = path.parent / str(number) / "journal.db"
        copy.parent.mkdir()
        shutil.copy(path, copy)
        copy.with_name("journal.db-wal").write_bytes(wal[:cut])
        survivor = await Journal.open(copy)
        head = survivor.head()
        seen.add(head.batch)
        assert head.seq == head.batch * (head.batch + 1) // 2
        assert (await survivor.verify()).ok
        row = await survivor.instance("plan")
        assert (row[7] if row else 0) == head.batch
        await survivor.close()
    assert seen == set(range(13)), "every prefix was met"
    await journal.close()


async def test_a_flipped_bit_in_the_wal_drops_the_tail_and_a_kept_head_shows_it(path: Path, scribe) -> None:
    journal = await Journal.open(path)
    for _ in range(5):
        await journal.commit(scribe.batch(("plan", "TimerFired"), payload=b"x" * 500))
    head = journal.head()
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    wal = bytearray(path.with_name("journal.db-wal").read_bytes())
    wal[len(wal) // 2] ^= 4
    copy.with_name("copy.db-wal").write_bytes(wal)
    await journal.close()
    assert verify_file(copy).ok, "SQLite dropped the tail in silence"
    result = verify_file(copy, expect=head)
    assert not result.ok
    assert "was seen before" in str(result.reason)


async def test_a_full_disk_is_a_clear_error_and_shows_the_state_before(path: Path, scribe) -> None:
    journal = await Journal.open(path)
    await journal.commit(scribe.batch(("plan", "TimerFired")))
    head = journal.head()

    def leave_no_room(connection: sqlite3.Connection) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}").fetchone()

    await journal._write.run(leave_no_room)
    large = scribe.batch(*[("plan", "TaskCompleted")] * 50, payload=b"x" * 1_000)
    large.instances["plan"] = scribe.orchestration("plan")
    with pytest.raises(JournalWriteError, match="disk full"):
        await journal.commit(large)
    assert journal.head() == head
    assert await journal.instance("plan") is None
    with pytest.raises(JournalWriteError, match="stopped earlier"):
        await journal.commit(scribe.batch(("plan", "TimerFired")))
    await journal.close()

    journal = await Journal.open(path)
    assert journal.head() == head
    assert (await journal.verify()).ok
    scribe.seq = head.seq
    await journal.commit(scribe.batch(("plan", "TimerFired")))
    await journal.close()


LIMITED = """
import asyncio, os, resource, signal, sys
from pathlib import Path
from gateway.durable.store import Batch, RecordRow
from journal import Journal, JournalWriteError

async def main():
    journal = await Journal.open(Path(sys.argv[1]))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
    seq = 0
    while True:
        batch = Batch()
        batch.records = [RecordRow(seq + n, "plan", "TimerFired", 1, b"x" * 500) for n in range(1, 21)]
        try:
            await journal.commit(batch)
        except JournalWriteError as error:
            print(seq, error, flush=True)
            os._exit(3)
        seq += 20

asyncio.run(main())
"""


async def test_a_write_that_the_system_refuses_is_a_failed_write(path: Path) -> None:
    """The kernel itself refuses to let the WAL grow, in the middle of a batch."""
    child = subprocess.run([sys.executable, "-c", LIMITED, path], capture_output=True, text=True, cwd=ROOT, timeout=30)
    assert child.returncode == 3, child.stderr
    assert "could not be written" in child.stdout
    acknowledged = int(child.stdout.split()[0])
    assert acknowledged > 0
    journal = await Journal.open(path)
    assert journal.head().seq == acknowledged
    assert (await journal.verify()).ok
    await journal.close()
