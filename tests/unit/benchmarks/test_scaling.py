"""The journal that scaling is measured on is a sound one, as long as it says."""

from __future__ import annotations

import asyncio
from pathlib import Path

from benchmarks import scaling
from journal import Journal


def test_a_filled_journal_is_sound_and_grows_on(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"

    async def run() -> tuple[int, bool, int]:
        await scaling.fill(path, 1_000)
        await scaling.fill(path, 3_000)
        journal = await Journal.open(path)
        try:
            return journal.head().seq, (await journal.verify()).ok, len((await journal.recover()).instances)
        finally:
            await journal.close()

    assert asyncio.run(run()) == (3_000, True, 0)


def test_the_cost_is_told_for_each_kind_of_work(tmp_path: Path) -> None:
    figures = asyncio.run(scaling.cost(tmp_path / "journal.db", 20, 300, 20, 2))
    work = {"operation_cpu_us", "operation_p50_ms", "three_steps_cpu_us", "three_steps_p50_ms"}
    assert set(figures) == {"ready_s", *work}
    assert all(value > 0 for value in figures.values())


def test_so_many_orchestrations_wait(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    asyncio.run(scaling.wait(path, 150))

    async def waiting() -> int:
        journal = await Journal.open(path)
        try:
            return len((await journal.recover()).instances)
        finally:
            await journal.close()

    assert asyncio.run(waiting()) == 150
