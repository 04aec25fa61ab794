"""Stops, starts and reloads in the middle of things: nothing is forgotten, nothing moves twice, nothing moves unasked."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from station import Station, small_station, until

from simulators.client import SimulatorClient

pytestmark = pytest.mark.asyncio(loop_scope="module")

TIER3 = ["F001-004", "F001-005", "F001-008", "F002-002", "F003-001", "F003-007"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Station]:
    folder: Path = tmp_path_factory.mktemp("site")
    async with small_station(folder, 15304, "127.0.7.1", block_size="2") as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def plant(site: Station) -> AsyncIterator[SimulatorClient]:
    """Everything closed, a daemon that runs."""
    async with site.simulator() as client:
        await client.reset()
        site.start_daemon()
        await site.wait_serving()
        await site.wait_links_up()
        yield client
        await client.clear()
        await _end_procedure(site)
        assert site.stop_daemon() == 0


async def _end_procedure(site: Station) -> None:
    await site.ask("release", reason="end of the test")
    procedure = (await site.ask("status"))["procedure"]
    if isinstance(procedure, dict):
        await site.ask("instances.terminate", instance=procedure["instance"], reason="end of the test")

    async def idle() -> bool:
        return (await site.ask("status"))["procedure"] is None

    await until(idle, "the end of the procedure")
    for feeder in await site.pages("breakers.list", "breakers"):
        if feeder["position"] != "closed":
            await site.ask("breakers.close", feeder=feeder["feeder"], reason="end of the test")


async def start_shed(site: Station, instance: str) -> None:
    order = {"actor": "anna", "reason": "drill", "tiers": ["Tier3"]}
    await site.ask("instances.start", name="LoadSheddingProtocol", instance=instance, input=order)


async def wait_phase(site: Station, wanted: str) -> None:
    async def there() -> bool:
        procedure = (await site.ask("status"))["procedure"]
        return isinstance(procedure, dict) and procedure.get("phase") == wanted

    await until(there, f"phase {wanted}")


async def taken(plant: SimulatorClient) -> list[tuple[int, int]]:
    """Commands to open and movements of the tier's breakers, by their own count."""
    counters = await plant.counters()
    return [(counters[name].open_commands, counters[name].operations) for name in TIER3]


async def test_sigterm_in_the_middle_of_a_shed_ends_what_is_on_its_way_and_the_rest_follows_after_the_start(
    site: Station, plant: SimulatorClient
) -> None:
    for name in TIER3:
        await plant.fault("slow", name, value=0.4)
    await start_shed(site, "interrupted")

    async def begun() -> bool:
        return (await taken(plant))[0] != (0, 0)

    await until(begun, "the first command")
    assert site.stop_daemon() == 0
    assert '"stopped"' in site.said()
    done = await taken(plant)
    assert done[0] == (1, 1)
    assert done[-1] == (0, 0), "the shed was over before the stop"
    site.start_daemon()
    await site.wait_serving()
    await wait_phase(site, "ordered")
    assert await taken(plant) == [(1, 1)] * 6


async def test_a_breaker_that_was_moved_by_hand_during_a_restart_holds_the_outputs_until_an_operator_releases(
    site: Station, plant: SimulatorClient
) -> None:
    await start_shed(site, "moved")
    await wait_phase(site, "ordered")
    site.kill_daemon()
    assert await plant.trip("F002-004")
    for start, feeder in (("first", "F002-006"), ("second", "F002-007")):  # a hold is no matter of one start
        site.start_daemon()
        await site.wait_serving()

        async def held() -> bool:
            now = (await site.ask("status"))["held"]
            assert isinstance(now, dict)
            return bool(now["held"]) and "moved meanwhile (F002-004)" in str(now["why"])

        await until(held, f"outputs are held after the {start} start")
        writes = await _writes(plant)
        ran = await site.cli("breakers", "open", feeder, "--reason", "test", "--wait", "1")
        assert ran.code == 6
        assert await _writes(plant) == writes
        site.kill_daemon()
    site.start_daemon()
    await site.wait_serving()
    await site.wait_links_up()
    released = await site.cli("release", "--reason", "seen to it", "--actor", "anna")
    assert (released.code, "outputs are released" in released.out) == (0, True), released
    held_now = (await site.ask("status"))["held"]
    assert isinstance(held_now, dict)
    assert held_now["held"] is False
    assert (await site.cli("breakers", "open", "F003-005", "--reason", "test")).code == 0
    assert (await site.cli("override", "cancel-and-restore", "--reason", "drill over")).code == 0

    async def restored() -> bool:
        return (await site.ask("instances.show", instance="moved"))["status"] == "Completed"

    await until(restored, "the restoration")
    counters = await plant.counters()
    assert [counters[name].operations for name in TIER3] == [2] * 6
    assert counters["F002-004"].position == "open", "whoever opened it by hand closes it"


async def _writes(plant: SimulatorClient) -> int:
    return sum(int(str(link["writes"])) for link in (await plant.links()).values())


async def test_a_start_with_nothing_moved_goes_on_by_itself(site: Station, plant: SimulatorClient) -> None:
    await start_shed(site, "clean")
    await wait_phase(site, "ordered")
    site.kill_daemon()
    site.start_daemon()
    await site.wait_serving()

    async def free() -> bool:
        held = (await site.ask("status"))["held"]
        assert isinstance(held, dict)
        return not held["held"]

    await until(free, "the outputs are released")
    assert (await site.cli("override", "cancel-and-restore", "--reason", "drill over")).code == 0

    async def restored() -> bool:
        return (await site.ask("instances.show", instance="clean"))["status"] == "Completed"

    await until(restored, "the restoration")
    counters = await plant.counters()
    assert [(counters[n].open_commands, counters[n].close_commands) for n in TIER3] == [(1, 1)] * 6


async def test_sighup_takes_over_what_can_be_changed_and_names_what_is_wrong(
    site: Station, plant: SimulatorClient
) -> None:
    file = site.folder / "site.toml"
    good = file.read_text()
    try:
        before = (await site.ask("status"))["config_sha256"]
        site.change_site({"stage_pct": "80.0"})
        site.signal_daemon(signal.SIGHUP)

        async def changed() -> bool:
            return (await site.ask("status"))["config_sha256"] != before

        await until(changed, "the changed configuration is in use")
        now = (await site.ask("status"))["config_sha256"]
        site.change_site({"stage_pct": '"most"', "limit_pct": "0.0"})
        site.signal_daemon(signal.SIGHUP)

        async def warned() -> str:
            warnings = (await site.ask("status"))["warnings"]
            assert isinstance(warnings, list)
            return " ".join(str(one) for one in warnings if "is not in use" in str(one))

        await until(warned, "the warning")
        assert "stage_pct" in await warned()
        assert "limit_pct" in await warned()
        site.change_site({"stage_pct": "80.0", "limit_pct": "95.0", "capacity_kw": "9999.0"})
        site.signal_daemon(signal.SIGHUP)

        async def needs_restart() -> bool:
            return "transformer.capacity_kw changed: needs a restart" in await warned()

        await until(needs_restart, "the warning")
        assert (await site.ask("status"))["config_sha256"] == now
        assert (await site.cli("breakers", "open", "F001-001", "--reason", "still here")).code == 0
    finally:
        file.write_text(good)
    site.signal_daemon(signal.SIGHUP)

    async def calm() -> bool:
        return not await warned()

    await until(calm, "the warning is gone once the file is right again")
