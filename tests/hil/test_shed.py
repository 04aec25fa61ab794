"""Sheds in which something goes wrong: what can't be opened is replaced or left out, and nobody else is affected.

Tier 3 of the small station has six feeders with some 5 to 9 kW each, which are taken in the order of their names.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from station import Station, small_station, until

from simulators.client import SimulatorClient

pytestmark = pytest.mark.asyncio(loop_scope="module")

TIER3 = ["F001-004", "F001-005", "F001-008", "F002-002", "F003-001", "F003-007"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Station]:
    folder: Path = tmp_path_factory.mktemp("site")
    async with small_station(folder, 15303, "127.0.6.1", cooldown_s="2.0") as made:
        made.start_daemon()
        await made.wait_serving()
        await made.wait_links_up()
        yield made
        assert made.stop_daemon() == 0


@pytest_asyncio.fixture(loop_scope="module")
async def site(running: Station) -> AsyncIterator[Station]:
    """The station with everything closed and no procedure, before and after."""
    yield running
    async with running.simulator() as plant:
        await plant.clear()
    if (await running.ask("status"))["procedure"] is not None:
        await running.ask("override", decision="cancel", reason="end of the test")

    async def idle() -> bool:
        return (await running.ask("status"))["procedure"] is None

    await until(idle, "the end of the procedure")
    for feeder in await running.pages("breakers.list", "breakers"):
        if feeder["position"] != "closed":
            await running.ask("breakers.close", feeder=feeder["feeder"], reason="end of the test")


@pytest_asyncio.fixture(loop_scope="module")
async def plant(site: Station) -> AsyncIterator[SimulatorClient]:
    async with site.simulator() as client:
        await client.reset()

        async def calm() -> bool:
            feeders = await site.pages("breakers.list", "breakers")
            counts = (await site.ask("status"))["breakers"]
            assert isinstance(counts, dict)
            seen = {(f["position"], f["quality"], f["local"]) for f in feeders}
            return seen == {("closed", "good", False)} and (counts["closed"], counts["local"]) == (24, 0)

        await until(calm, "all breakers closed")
        yield client


async def start(site: Station, instance: str, **order: object) -> None:
    given = {"actor": "anna", "reason": "drill", **order}
    await site.ask("instances.start", name="LoadSheddingProtocol", instance=instance, input=given)  # type: ignore[arg-type]


async def phase(site: Station) -> object:
    procedure = (await site.ask("status"))["procedure"]
    return procedure.get("phase") if isinstance(procedure, dict) else None


async def wait_phase(site: Station, wanted: str) -> None:
    async def there() -> bool:
        return await phase(site) == wanted

    await until(there, f"phase {wanted}")


async def restored(site: Station, instance: str) -> dict[str, object]:
    """Cancel and restore; the output of the procedure."""
    await site.ask("override", decision="cancel-and-restore", reason="drill over")

    async def ended() -> bool:
        return (await site.ask("instances.show", instance=instance))["status"] == "Completed"

    await until(ended, "the restoration")
    output = (await site.ask("instances.show", instance=instance))["output"]
    assert isinstance(output, dict)
    return output


async def opened(plant: SimulatorClient) -> list[str]:
    counters = await plant.counters()
    return [name for name in TIER3 if counters[name].position == "open"]


async def test_breakers_that_are_stuck_refuse_or_stand_at_local_are_replaced_by_the_next(
    site: Station, plant: SimulatorClient
) -> None:
    """Two feeders' worth is ordered: the first is stuck, the second refuses, the third stands at local."""
    await plant.fault("stuck", "F001-004")
    await plant.fault("refuse", "F001-005")
    await plant.fault("local", "F001-008")
    await start(site, "replaced", target_kw=12.0, tiers=["Tier3"])
    await wait_phase(site, "ordered")
    assert (await opened(plant))[:2] == ["F002-002", "F003-001"]
    counters = await plant.counters()
    assert (counters["F001-004"].open_commands, counters["F001-004"].operations) == (1, 0)
    assert (counters["F001-005"].refused, counters["F001-005"].open_commands) == (1, 0)
    assert (counters["F001-008"].refused, counters["F001-008"].open_commands) == (0, 0)
    output = await restored(site, "replaced")
    assert (output["status"], output["failed"]) == ("restored", ["F001-004"])
    assert await opened(plant) == []


async def test_an_unreachable_device_is_left_out_and_its_feeders_are_tried_again_in_the_next_step(
    site: Station, plant: SimulatorClient
) -> None:
    await plant.fault("unreachable", "RTU003")

    async def down() -> list[str]:
        links = (await site.ask("status"))["links"]
        assert isinstance(links, dict)
        return [one["device"] for one in links["troubled"]]

    async def known() -> bool:
        return await down() == ["RTU003"]

    await until(known, "the lost link is said")
    await start(site, "without", tiers=["Tier3"])
    await wait_phase(site, "cooldown")
    assert await opened(plant) == TIER3[:4]
    await plant.clear("RTU003")
    await wait_phase(site, "ordered")
    assert await opened(plant) == TIER3
    counters = await plant.counters()
    assert [counters[name].open_commands for name in TIER3] == [1] * 6
    history = await site.ask("instances.show", instance="without", history=True)
    assert '"not readable now": 2' in str(history["history"]).replace("'", '"')
    assert (await restored(site, "without"))["closed"] == 6


async def test_a_device_that_restarts_in_the_middle_of_a_shed_loses_and_repeats_nothing(
    site: Station, plant: SimulatorClient
) -> None:
    """Its breakers are on their way when the connection goes; they are read when it is back."""
    for name in ("F001-004", "F001-005", "F001-008"):
        await plant.fault("slow", name, value=0.6)
    await start(site, "reboot", tiers=["Tier3"])

    async def moving() -> bool:
        counters = await plant.counters()
        return sum(counters[name].open_commands for name in TIER3[:3]) == 3

    await until(moving, "the commands are out")
    await plant.fault("unreachable", "RTU001", for_s=1.2)
    await wait_phase(site, "ordered")

    async def all_open() -> bool:
        return await opened(plant) == TIER3

    await until(all_open, "all are open")
    counters = await plant.counters()
    assert [(counters[name].open_commands, counters[name].operations) for name in TIER3] == [(1, 1)] * 6
    assert (await restored(site, "reboot"))["status"] == "restored"


async def test_lost_and_spoilt_answers_in_a_shed_are_resolved_by_reading(site: Station, plant: SimulatorClient) -> None:
    """A connection that gave a wrong answer is given up; commands that could not leave then leave with the next step."""
    await plant.fault("garbled_reply", "F001-004")
    await plant.fault("lost_reply", "F002-002")
    await plant.fault("lost_reply", "F003-001")
    await start(site, "mute", tiers=["Tier3"])
    await wait_phase(site, "ordered")
    counters = await plant.counters()
    took = {n: (counters[n].open_commands, counters[n].operations, counters[n].position) for n in TIER3}
    assert [took[name] for name in ("F001-004", "F002-002", "F003-001")] == [(1, 1, "open")] * 3
    assert set(took.values()) == {(1, 1, "open")}
    assert (await restored(site, "mute"))["failed"] == []
