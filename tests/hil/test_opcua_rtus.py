"""RTUs on OPC UA beside one on Modbus: whatever goes wrong between, no breaker is operated twice, and all is settled by
reading.

RTU002 and RTU003 speak OPC UA; even-numbered breakers of RTU003 are select-before-operate. Each breaker and each RTU
counts for itself: what the gateway says is held against that.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from station import UNTIL_S, Station, small_station, until

from simulators.client import Counters, SimulatorClient

pytestmark = pytest.mark.asyncio(loop_scope="module")

NODES = ("RTU002", "RTU003")
SIGN_OF_LIFE_S = 2.5
"""Within this time a subscription says that it lives, and what its device's clock says."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Station]:
    folder: Path = tmp_path_factory.mktemp("site")
    generator = ("--opcua-rtus", "2")
    async with small_station(folder, 15311, "127.0.64.41", generator, cooldown_s="2.0") as made:
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
        await calm(running)
    procedure = (await running.ask("status"))["procedure"]
    if isinstance(procedure, dict):
        await running.ask("instances.terminate", instance=procedure["instance"], reason="end of the test")

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
        await calm(site)

        async def closed() -> bool:
            feeders = await site.pages("breakers.list", "breakers")
            return {(f["position"], f["quality"], f["local"]) for f in feeders} == {("closed", "good", False)}

        await until(closed, "all breakers closed")
        yield client


async def calm(site: Station) -> None:
    """Wait until every link is up."""

    async def up() -> bool:
        return await troubled(site) == {}

    await until(up, "all links up")


async def troubled(site: Station) -> dict[str, str]:
    """Links that are not up, and why."""
    links = (await site.ask("status"))["links"]
    assert isinstance(links, dict)
    return {str(one["device"]): str(one) for one in links["troubled"]}


async def shown(site: Station, feeder: str) -> dict[str, object]:
    return dict(await site.ask("breakers.show", feeder=feeder))


async def intents(site: Station, feeder: str) -> int:
    state = (await shown(site, feeder))["state"]
    assert isinstance(state, dict)
    return int(str(state.get("intents", 0)))


async def switch(site: Station, verb: str, feeder: str) -> str:
    """The outcome of a person's command."""
    told = await site.ask(f"breakers.{verb}", feeder=feeder, reason="test")
    return str(told["outcome"])


def took(counters: Counters) -> tuple[int, int]:
    return counters.open_commands, counters.operations


async def reads(site: Station, feeder: str, position: str, timeout_s: float = UNTIL_S) -> None:
    async def there() -> bool:
        return (await shown(site, feeder))["position"] == position

    await until(there, f"{feeder} reads {position}", timeout_s)


@pytest.mark.parametrize("feeder", ["F002-001", "F003-001", "F003-002"], ids=["direct", "other policy", "select"])
async def test_a_breaker_opens_and_closes_and_is_read_back(site: Station, plant: SimulatorClient, feeder: str) -> None:
    before = await intents(site, feeder)
    assert (await switch(site, "open", feeder), await switch(site, "close", feeder)) == ("done", "done")
    counters = await plant.counters_of(feeder)
    assert (counters.open_commands, counters.close_commands, counters.operations, counters.refused) == (1, 1, 2, 0)
    assert await intents(site, feeder) - before == 2


@pytest.mark.parametrize("feeder", ["F002-002", "F003-002"], ids=["direct", "select"])
@pytest.mark.parametrize(
    ("fault", "value", "outcome", "counted"),
    [
        ("refuse", None, "refused", (0, 0)),
        ("stuck", None, "failed", (1, 0)),
        ("slow", 0.4, "done", (1, 1)),
        ("lost_reply", None, "done", (1, 1)),
        ("garbled_reply", None, "done", (1, 1)),
        ("garbled_reply", 0x80020000, "done", (1, 1)),
        ("local", 0, "refused", (0, 0)),
        ("bad_feedback_11", None, "refused", (0, 0)),
        ("bad_status", None, "not_sent", (0, 0)),
    ],
)
async def test_a_breaker_with_a_fault_gets_one_command_at_most(
    site: Station,
    plant: SimulatorClient,
    feeder: str,
    fault: str,
    value: float | None,
    outcome: str,
    counted: tuple[int, int],
) -> None:
    """An answer that is lost or bad does not say what the breaker did: reading does."""
    await plant.fault(fault, feeder, value=value)
    await asyncio.sleep(0.3)
    assert await switch(site, "open", feeder) == outcome
    counters = await plant.counters_of(feeder)
    assert took(counters) == counted
    assert counters.position == ("open" if counted[1] else "closed")


@pytest.mark.parametrize("fault", ["drop_session", "drop_subscription", "missed_publish"])
async def test_a_movement_is_seen_though_the_device_tells_nothing_of_it(
    site: Station, plant: SimulatorClient, fault: str
) -> None:
    """A trip by the relay is found by the slow read, or by the session that follows."""
    for device in NODES:
        await plant.fault(fault, device)
    assert await plant.trip("F002-003")
    assert await plant.trip("F003-004")
    await reads(site, "F002-003", "open")
    await reads(site, "F003-004", "open")


@pytest.mark.parametrize("fault", ["drop_session", "drop_subscription", "missed_publish", "restart"])
async def test_a_command_right_after_a_break_is_done_once_or_told_as_not_sent(
    site: Station, plant: SimulatorClient, fault: str
) -> None:
    await plant.fault(fault, "RTU002")
    outcome = await switch(site, "open", "F002-005")
    opened = await plant.counters_of("F002-005")
    assert (outcome, took(opened)) in [("done", (1, 1)), ("not_sent", (0, 0)), ("refused", (0, 0))]
    await plant.clear("RTU002")
    await calm(site)
    await reads(site, "F002-005", opened.position)


async def test_an_answer_that_comes_too_late_is_settled_by_reading(site: Station, plant: SimulatorClient) -> None:
    await plant.fault("delay", "RTU002", value=0.8, for_s=1.5)
    asked = asyncio.ensure_future(switch(site, "open", "F002-006"))
    assert await asked in ("done", "unknown", "not_sent", "refused")
    await plant.clear("RTU002")
    await calm(site)
    counters = await plant.counters_of("F002-006")
    assert took(counters) in [(1, 1), (0, 0)]
    await reads(site, "F002-006", counters.position)
    assert await settled(site, "F002-006") == ("done" if counters.operations else "not_sent")


async def settled(site: Station, feeder: str) -> str:
    """The outcome of the last command, when nothing of it is open any more; refused counts as not sent."""
    row: dict[str, object] = {}

    async def ended() -> bool:
        nonlocal row
        row = next(one for one in await site.pages("breakers.list", "breakers") if one["feeder"] == feeder)
        return row["outcome"] not in ("operating", "unknown")

    await until(ended, f"the outcome of {feeder}")
    return "not_sent" if row["outcome"] == "refused" else str(row["outcome"])


async def test_a_device_that_shows_old_values_is_not_believed_to_have_moved(
    site: Station, plant: SimulatorClient
) -> None:
    """The breaker obeys, the device goes on showing it closed: failed at first, and told when it is seen at last."""
    await plant.fault("stale", "RTU002")
    assert await switch(site, "open", "F002-007") == "failed"
    assert took(await plant.counters_of("F002-007")) == (1, 1)
    await plant.clear("RTU002")
    await reads(site, "F002-007", "open")
    assert took(await plant.counters_of("F002-007")) == (1, 1)


@pytest.mark.parametrize("skew_s", [-86_400.0, 86_400.0])
async def test_values_of_a_clock_that_is_off_are_not_acted_on_until_it_is_right(
    site: Station, plant: SimulatorClient, skew_s: float
) -> None:
    await plant.fault("skewed_clock", "RTU002", value=skew_s)

    async def uncertain() -> bool:
        return (await shown(site, "F002-008"))["quality"] == "uncertain"

    await asyncio.sleep(SIGN_OF_LIFE_S)
    await until(uncertain, "the position is told as uncertain")
    assert await switch(site, "open", "F002-008") == "not_sent"
    await plant.clear("RTU002")

    async def certain() -> bool:
        return (await shown(site, "F002-008"))["quality"] == "good"

    await until(certain, "the position is good again")
    assert await switch(site, "open", "F002-008") == "done"
    assert took(await plant.counters_of("F002-008")) == (1, 1)


def ups(site: Station, device: str) -> int:
    """How often this link has come up since the daemon started; that it is down may pass unseen."""
    said = [json.loads(line) for line in site.said().splitlines() if '"link_changed"' in line]
    return sum(one["device"] == device and one["state"] == "up" for one in said)


async def test_a_restart_with_another_namespace_index_moves_no_stranger(site: Station, plant: SimulatorClient) -> None:
    before = ups(site, "RTU003")
    await plant.fault("restart", "RTU003", value=0.3)

    async def connected_again() -> bool:
        return ups(site, "RTU003") > before

    await until(connected_again, "the link is lost, and up again")
    await calm(site)
    for feeder in ("F003-007", "F003-004"):
        assert await switch(site, "open", feeder) == "done"
    counters = await plant.counters(active=True)
    assert {name: took(one) for name, one in counters.items()} == {"F003-007": (1, 1), "F003-004": (1, 1)}


@pytest.mark.parametrize("how", ["expired", "wrong_uri", "untrusted"])
async def test_another_certificate_is_not_spoken_to(site: Station, plant: SimulatorClient, how: str) -> None:
    await plant.fault("certificate", "RTU003", how=how)

    async def told() -> bool:
        return "certificate" in (await troubled(site)).get("RTU003", "")

    await until(told, "the certificate is said to be the reason")
    before = (await plant.links())["RTU003"]["writes"]
    assert await switch(site, "open", "F003-005") == "not_sent"
    assert (await plant.links())["RTU003"]["writes"] == before
    await plant.clear("RTU003")
    await calm(site)
    assert await switch(site, "open", "F003-005") == "done"


async def start_shed(site: Station, instance: str) -> None:
    order = {"actor": "anna", "reason": "drill", "tiers": ["Tier1", "Tier2", "Tier3"]}
    await site.ask("instances.start", name="LoadSheddingProtocol", instance=instance, input=order)


async def sheddable(site: Station) -> list[str]:
    """Feeders that a shed of all tiers opens."""
    feeders = await site.pages("breakers.list", "breakers")
    return sorted(str(f["feeder"]) for f in feeders if f["tier"])


async def opened(plant: SimulatorClient, feeders: list[str]) -> set[tuple[int, int, str]]:
    counters = await plant.counters()
    return {(*took(counters[name]), counters[name].position) for name in feeders}


async def wait_opened(plant: SimulatorClient, feeders: list[str]) -> None:
    async def all_open() -> bool:
        return await opened(plant, feeders) == {(1, 1, "open")}

    await until(all_open, "all are open, after one command each")


async def test_a_shed_over_both_protocols_opens_each_once(site: Station, plant: SimulatorClient) -> None:
    feeders = await sheddable(site)
    assert {name[:4] for name in feeders} == {"F001", "F002", "F003"}
    await start_shed(site, "mixed")
    await wait_opened(plant, feeders)
    assert all(one.refused == 0 for one in (await plant.counters()).values())


async def test_a_shed_through_breaks_of_all_kinds_opens_each_once(site: Station, plant: SimulatorClient) -> None:
    feeders = await sheddable(site)
    on_nodes = [name for name in feeders if not name.startswith("F001")]
    for name in on_nodes:
        await plant.fault("slow", name, value=0.3)
    for name in on_nodes[::3]:
        await plant.fault("lost_reply", name)
    await start_shed(site, "broken")

    async def begun() -> bool:
        return any(one.open_commands for name, one in (await plant.counters()).items() if name in on_nodes)

    await until(begun, "the first command over OPC UA")
    await plant.fault("drop_session", "RTU002")
    await plant.fault("restart", "RTU003", value=0.3)
    await wait_opened(plant, feeders)


async def test_a_power_loss_in_the_middle_of_a_shed_repeats_nothing(site: Station, plant: SimulatorClient) -> None:
    feeders = await sheddable(site)
    for name in feeders:
        await plant.fault("slow", name, value=0.3)
    before = {name: await intents(site, name) for name in feeders}
    await start_shed(site, "dark")

    async def begun() -> bool:
        counters = await plant.counters()
        return any(counters[name].operations for name in feeders if not name.startswith("F001"))

    await until(begun, "the first movement over OPC UA")
    site.kill_daemon()
    await asyncio.sleep(0.5)
    site.start_daemon()
    await site.wait_serving()
    await wait_opened(plant, feeders)
    after = {name: await intents(site, name) for name in feeders}
    assert {after[name] - before[name] for name in feeders} == {1}
