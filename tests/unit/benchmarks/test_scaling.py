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


def test_the_cost_is_told_for_each_kind_of_work_beside_the_smallest(tmp_path: Path) -> None:
    kind = scaling.Kind("small", scaling.fill, 300, 20, 20)
    figures = kind.in_turns(tmp_path / "journal.db", 1_000, 100, 2)
    work = {"ready_s", "operation_cpu_us", "operation_p50_ms", "three_steps_cpu_us", "three_steps_p50_ms"}
    assert set(figures) == {*work, *(f"beside_{name}" for name in work)}
    assert all(value > 0 for value in figures.values())
    assert not list(tmp_path.glob("smallest*"))


def test_the_dearest_is_judged_by_what_the_smallest_cost_at_the_same_moments() -> None:
    # The second was measured while the machine was slow: it is dear, but not because of its size.
    points = {
        100: {"us": 10.0, "beside_us": 10.0},
        1_000: {"us": 30.0, "beside_us": 28.0},
        10_000: {"us": 15.0, "beside_us": 10.0},
    }
    (row,) = scaling.compared("work", points, "us")
    assert (row["figure"], row["ratio"], row["met"]) == (15.0, 1.5, False)


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
