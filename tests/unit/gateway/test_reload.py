"""A reload takes the whole configuration or nothing of it, and tells which."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from config import load_site
from gateway.notify import Notifier
from gateway.reload import PROBLEMS_SHOWN, Reload
from tests.core_station import Station

EXAMPLE = Path(__file__).parents[3] / "config" / "examples" / "substation"


class Running:
    """A gateway of the example site, whose files a test may change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.station = Station(load_site(folder))
        self.reconciled = asyncio.Event()
        self.reconciled.set()
        self.reload = Reload(self.station.engine, self.station.field, Notifier(None), self.reconciled)

    def replace(self, old: str, new: str) -> None:
        """Change site.toml in one place."""
        text = (self.folder / "site.toml").read_text()
        assert text.count(old) == 1, old
        (self.folder / "site.toml").write_text(text.replace(old, new))

    async def last_record(self) -> dict[str, Any]:
        """What the journal holds of the gateway's own doings, the last of it."""
        await self.station.engine.on_disk()
        found: dict[str, Any] = msgspec.json.decode(self.station.store.records[-1].payload)
        return found


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    shutil.copytree(EXAMPLE, tmp_path / "site")
    one = Running(tmp_path / "site")
    await one.station.start()
    yield one
    await one.station.engine.stop(0.1)


async def test_what_may_change_is_used_and_recorded(running: Running) -> None:
    before = running.station.field.site.sha256
    running.replace("arm_pct = 98.0", "arm_pct = 97.5")
    await running.reload.run()
    assert running.station.field.site.trigger.arm_pct == 97.5
    assert running.reload.refused == ""
    record = await running.last_record()
    assert (record["event"], record["before"]) == ("reloaded", before)


async def test_who_listens_hears_of_a_site_that_is_in_use_and_of_no_other(running: Running) -> None:
    heard: list[float] = []
    running.reload.listeners.append(lambda site: heard.append(site.trigger.arm_pct))
    running.replace("arm_pct = 98.0", "arm_pct = 'hot'")
    await running.reload.run()
    running.replace("arm_pct = 'hot'", "arm_pct = 97.0")
    await running.reload.run()
    assert heard == [97.0]


async def test_one_change_that_needs_a_restart_keeps_all_others_out(running: Running) -> None:
    running.replace("arm_pct = 98.0", "arm_pct = 97.5")
    running.replace("max_turns_pending = 10000", "max_turns_pending = 20000")
    await running.reload.run()
    assert running.station.field.site.trigger.arm_pct == 98.0
    assert "gateway.max_turns_pending changed" in running.reload.refused
    assert "needs a restart" in running.reload.refused
    assert (await running.last_record())["event"] == "reload_refused"


async def test_a_wrong_file_changes_nothing_until_it_is_right(running: Running) -> None:
    running.replace("arm_pct = 98.0", "arm_pct = 'hot'")
    await running.reload.run()
    assert running.station.field.site.trigger.arm_pct == 98.0
    assert "the changed configuration is not in use: " in running.reload.refused
    running.replace("arm_pct = 'hot'", "arm_pct = 97.0")
    await running.reload.run()
    assert (running.reload.refused, running.station.field.site.trigger.arm_pct) == ("", 97.0)


async def test_of_many_problems_some_are_named_and_all_are_counted(running: Running) -> None:
    feeders = running.folder / "feeders.csv"
    rows = [f"X{number},no_such_rtu" for number in range(PROBLEMS_SHOWN + 5)]
    feeders.write_text(feeders.read_text() + "\n".join(rows) + "\n")
    await running.reload.run()
    record = await running.last_record()
    assert len(record["problems"]) == PROBLEMS_SHOWN
    assert record["number"] > PROBLEMS_SHOWN
    assert running.reload.refused.endswith(f" and {record['number'] - PROBLEMS_SHOWN} more")


async def test_nothing_is_replaced_before_the_field_was_read(running: Running) -> None:
    running.reconciled.clear()
    running.replace("arm_pct = 98.0", "arm_pct = 97.5")
    asked = asyncio.ensure_future(running.reload.run())
    await asyncio.sleep(0.05)
    assert running.station.field.site.trigger.arm_pct == 98.0
    running.reconciled.set()
    await asked
    assert running.station.field.site.trigger.arm_pct == 97.5
