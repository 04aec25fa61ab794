"""A journal in a folder of its own, and a scribe that writes batches with the right sequence numbers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.durable.store import Batch, InstanceRow, RecordRow
from journal import Head, Journal


class Scribe:
    """Makes batches that continue each other."""

    def __init__(self, seq: int = 0) -> None:
        self.seq = seq
        self.time_us = 1_000

    def batch(self, *records: tuple[str, str], payload: bytes = b"{}") -> Batch:
        """A batch of records (instance, kind), each a microsecond after the one before."""
        batch = Batch()
        for instance, kind in records:
            self.seq += 1
            self.time_us += 1
            batch.records.append(RecordRow(self.seq, instance, kind, self.time_us, payload))
        batch.time_us = self.time_us
        return batch

    @staticmethod
    def entity(name: str, state: bytes = b"{}") -> InstanceRow:
        return InstanceRow(name, "entity", "breaker", "Running", "", 1, 2, 1, state)

    @staticmethod
    def orchestration(name: str, status: str = "Running", *, created_us: int = 1, first_seq: int = 1) -> InstanceRow:
        return InstanceRow(name, "orchestration", "shed", status, "", created_us, 2, first_seq, b"{}")


@pytest.fixture
def scribe() -> Scribe:
    return Scribe()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[Journal]:
    opened = await Journal.open(path)
    yield opened
    await opened.close()


async def filled(path: Path, batches: int = 10) -> Head:
    """Close a journal with so many batches of three records each; returns its head."""
    scribe = Scribe()
    journal = await Journal.open(path)
    for number in range(batches):
        batch = scribe.batch(("plan", "TimerFired"), (f"@breaker@{number}", "Opened"), ("plan", "TaskCompleted"))
        batch.instances["plan"] = Scribe.orchestration("plan")
        await journal.commit(batch)
    head = journal.head()
    await journal.close()
    return head


@pytest.fixture
async def head(path: Path) -> Head:
    """A closed journal of ten batches at ``path``; its head."""
    return await filled(path)
