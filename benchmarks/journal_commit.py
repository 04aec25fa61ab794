"""What a commit costs beside bare SQLite: one JSON line.

For batches of 1, 10, 100 and 1,000 records it writes the same rows twice in one run: each time a 200-byte record and
the state (300 bytes) of its entity, one of 12,000, far apart. Once through the journal, once through the standard
library's sqlite3 on tables of the same columns, with ``synchronous=FULL``, WAL and many rows a statement. Bare SQLite
has no hash chain, no links between records and no thread of its own: the ratio is the price of these. CPU is that of
the whole process.

usage: python benchmarks/journal_commit.py [--records 100000] [--dir /var/tmp]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gateway.durable.store import Batch, InstanceRow, RecordRow
from journal import Journal

SIZES = (1, 10, 100, 1000)
ENTITIES = 12_000
MAX_COMMITS = 2_000
PAYLOAD = json.dumps(
    {"operation": "observe", "value": {"position": "closed", "quality": "good"}, "pad": "x" * 110}
).encode()
STATE = json.dumps({"position": "closed", "since": 1_764_000_000_000_000, "pad": "x" * 230}).encode()


def make_batches(size: int, records: int) -> list[Batch]:
    """At most MAX_COMMITS batches of this size; as many as make up the number of records."""
    batches = []
    seq = 0
    for number in range(min(MAX_COMMITS, max(1, records // size))):
        batch = Batch()
        batch.time_us = 1_764_000_000_000_000 + number
        for _ in range(size):
            seq += 1
            name = f"@breaker@{seq * 7919 % ENTITIES:05d}"
            batch.records.append(RecordRow(seq, name, "EntityOperation", batch.time_us, PAYLOAD))
            row = InstanceRow(name, "entity", "breaker", "Running", "", 1, batch.time_us, 1, STATE)
            batch.instances[name] = row
        batches.append(batch)
    return batches


def bare(path: Path, batches: list[Batch]) -> tuple[float, float]:
    """Seconds and CPU seconds of sqlite3 for the same rows."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA journal_mode = wal")
    connection.execute("PRAGMA wal_autocheckpoint = 4096")
    connection.execute("CREATE TABLE r (seq INTEGER PRIMARY KEY, a TEXT, b TEXT, c INTEGER, d BLOB) STRICT")
    connection.execute(
        "CREATE TABLE i (a TEXT PRIMARY KEY, b TEXT, c TEXT, d TEXT, e TEXT, f INTEGER, g INTEGER, h INTEGER, s BLOB)"
    )

    def insert(sql: str, columns: int, rows: list[tuple[object, ...]], suffix: str = "") -> None:
        for start in range(0, len(rows), 250):
            piece = rows[start : start + 250]
            values = ",".join(["(" + ",".join("?" * columns) + ")"] * len(piece))
            connection.execute(f"{sql} VALUES {values}{suffix}", tuple(itertools.chain.from_iterable(piece)))

    update = "ON CONFLICT (a) DO UPDATE SET " + ", ".join(f"{column} = excluded.{column}" for column in "bcdefghs")
    started, cpu = time.perf_counter(), time.process_time()
    for batch in batches:
        connection.execute("BEGIN IMMEDIATE")
        insert("INSERT INTO r", 5, list(batch.records))
        insert("INSERT INTO i", 9, list(batch.instances.values()), update)
        connection.execute("COMMIT")
    result = time.perf_counter() - started, time.process_time() - cpu
    connection.close()
    return result


async def ours(path: Path, batches: list[Batch]) -> tuple[float, float]:
    """Seconds and CPU seconds of the journal."""
    journal = await Journal.open(path)
    await journal.recover()
    started, cpu = time.perf_counter(), time.process_time()
    for batch in batches:
        await journal.commit(batch)
    result = time.perf_counter() - started, time.process_time() - cpu
    await journal.close()
    return result


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--dir", type=Path, default=None, help="a folder on the disk to measure")
    options = parser.parse_args()
    report: dict[str, object] = {"benchmark": "journal_commit", "sqlite": sqlite3.sqlite_version}
    for size in SIZES:
        batches = make_batches(size, options.records)
        records = len(batches) * size
        with tempfile.TemporaryDirectory(dir=options.dir) as folder:
            bare_s, bare_cpu_s = bare(Path(folder) / "bare.db", batches)
            our_s, our_cpu_s = asyncio.run(ours(Path(folder) / "journal.db", batches))
        report[f"batch_{size}"] = {
            "commits": len(batches),
            "records_per_s": round(records / our_s),
            "cpu_us_per_record": round(our_cpu_s / records * 1e6, 2),
            "bare_records_per_s": round(records / bare_s),
            "bare_cpu_us_per_record": round(bare_cpu_s / records * 1e6, 2),
            "rate_ratio": round(bare_s / our_s, 3),
            "cpu_ratio": round(our_cpu_s / bare_cpu_s, 2),
        }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
