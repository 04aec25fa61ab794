"""The ceiling does the work that it is measured by: every operation is in its log, and programs go on after a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from benchmarks.limit import cases
from benchmarks.limit.log import Form, Log, read


def test_every_operation_is_acknowledged_and_in_the_log(tmp_path: Path) -> None:
    measured = asyncio.run(cases.entities(tmp_path / "log", 500, 20, 50))
    assert len(measured.latencies_s) == 500
    lines = read(tmp_path / "log")[""]
    assert sum(body.count(b"\n") + 1 for body in lines) == 500
    assert measured.flushes == len(lines) < 500


def test_a_program_of_three_calls_has_eight_rows(tmp_path: Path) -> None:
    measured = asyncio.run(cases.three_steps(tmp_path / "log", 10, 5))
    assert len(measured.latencies_s) == 10
    rows = read(tmp_path / "log")["p7"]
    kinds = [msgspec.json.decode(row)["type"] for row in rows]
    assert kinds == ["started", *["scheduled", "done"] * 3, "completed"]
    assert msgspec.json.decode(rows[-1])["result"] == ["hello Tokyo", "hello Seattle", "hello London"]


def test_a_fan_out_waits_for_all(tmp_path: Path) -> None:
    asyncio.run(cases.fan_out(tmp_path / "log", 30))
    assert len(read(tmp_path / "log")["fan"]) == 2 + 2 * 30


def test_timers_and_events_wake_programs(tmp_path: Path) -> None:
    slept = asyncio.run(cases.timers(tmp_path / "timers", 20, 0.05))
    assert min(slept.latencies_s) >= 0
    assert len(asyncio.run(cases.events(tmp_path / "events", 3)).latencies_s) == 3


def test_another_process_finds_all_that_waited(tmp_path: Path) -> None:
    assert cases.recovery(tmp_path / "log", 50).seconds > 0


@pytest.mark.parametrize("form", list(Form))
def test_what_was_told_is_on_disk(tmp_path: Path, form: Form) -> None:
    async def run() -> list[int]:
        log = Log(tmp_path / "log", form)
        seen: list[int] = []
        for number in range(5):
            log.append("key", number, b"body", lambda: seen.append(sum(map(len, read(tmp_path / "log").values()))))
        await log.close()
        return seen

    assert asyncio.run(run())[0] == (5 if form is Form.VALUES else 1)
