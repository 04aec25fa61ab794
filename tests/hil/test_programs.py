"""A site's own procedure in the dialect, on a simulated clock: five minutes pass within seconds."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
from station import Station, small_station, until

from simulators.client import SimulatorClient

pytestmark = pytest.mark.asyncio(loop_scope="module")

RATE = 100.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Station]:
    folder: Path = tmp_path_factory.mktemp("site")
    shutil.copy(Path(__file__).parent / "emergency.py", folder)
    generator = ("--rate", str(RATE), "--wall-origin", datetime.now(UTC).isoformat())
    settings = {"programs": '["emergency.py"]', "command_deadline_s": "2000.0"}
    async with small_station(folder, 15314, "127.0.9.21", generator=generator, **settings) as made:
        made.start_daemon()
        await made.wait_serving()
        await made.wait_links_up()
        yield made
        assert made.stop_daemon() == 0


async def tier1(site: Station) -> list[str]:
    return [str(f["feeder"]) for f in await site.pages("breakers.list", "breakers") if f["tier"] == "Tier1"]


async def positions(site: Station, plant: SimulatorClient) -> set[str]:
    counters = await plant.counters()
    return {counters[name].position for name in await tier1(site)}


async def start(site: Station, plant: SimulatorClient, instance: str) -> None:
    """Start it; returns once the tier is open and the five minutes run."""
    ran = await site.cli(
        "instances", "start", "GridEmergencyProtocol", "--id", instance, "--input", '{"grid": "south"}'
    )
    assert ran.code == 0

    async def running() -> bool:
        timers = (await site.ask("timers"))["timers"]
        assert isinstance(timers, list)
        return any(one["instance"] == instance for one in timers)

    await until(running, "the timer")
    assert await positions(site, plant) == {"open"}


async def output(site: Station, instance: str) -> object:
    async def ended() -> bool:
        return (await site.ask("instances.show", instance=instance))["status"] == "Completed"

    await until(ended, f"the end of {instance}", 90.0)
    return (await site.ask("instances.show", instance=instance))["output"]


async def test_without_an_operator_the_tier_comes_back_after_the_waits(site: Station, plant: SimulatorClient) -> None:
    await start(site, plant, "calm")
    site.kill_daemon()  # in the middle of the five minutes: the timer is none of the process's
    site.start_daemon()
    await site.wait_serving()
    assert await output(site, "calm") == {"status": "recovered"}
    assert await positions(site, plant) == {"closed"}
    shown = await site.ask("instances.show", instance="calm")
    lasted = datetime.fromisoformat(str(shown["updated"])) - datetime.fromisoformat(str(shown["created"]))
    assert 600 <= lasted.total_seconds() < 3600
    counters = await plant.counters()
    assert {(counters[n].open_commands, counters[n].close_commands) for n in await tier1(site)} == {(1, 1)}


async def test_an_operator_cancels_and_the_tier_stays_as_it_is(site: Station, plant: SimulatorClient) -> None:
    await start(site, plant, "cancelled")
    ran = await site.cli("instances", "raise", "cancelled", "operatoroverride", "--data", '{"cancel": true}')
    assert ran.code == 0
    assert await output(site, "cancelled") == {"status": "aborted"}
    assert await positions(site, plant) == {"open"}
    late = await site.cli("instances", "raise", "cancelled", "OperatorOverride", "--data", '{"cancel": true}')
    assert late.code == 4
