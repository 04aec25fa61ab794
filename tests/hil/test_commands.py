"""An operator's commands against breakers and devices that misbehave, with real processes and real sockets.

The breakers count for themselves: what the gateway says is held against what they took.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from station import Station, small_station, until

from simulators.client import SimulatorClient

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Station]:
    folder: Path = tmp_path_factory.mktemp("site")
    async with small_station(folder, 15301, "127.0.4.1", cooldown_s="600.0") as made:
        made.start_daemon()
        await made.wait_serving()
        await made.wait_links_up()
        yield made
        assert made.stop_daemon() == 0


async def shown(site: Station, feeder: str) -> dict[str, object]:
    return dict(await site.ask("breakers.show", feeder=feeder))


async def read_open(site: Station, feeder: str) -> bool:
    return (await shown(site, feeder))["position"] == "open"


async def test_a_healthy_breaker_opens_and_closes_and_is_read_back(site: Station, plant: SimulatorClient) -> None:
    opened = await site.cli("breakers", "open", "F001-001", "--reason", "maintenance")
    closed = await site.cli("breakers", "close", "F001-001", "--reason", "done")
    assert (opened.code, closed.code) == (0, 0)
    assert "reads open" in opened.out
    counters = await plant.counters_of("F001-001")
    assert (counters.open_commands, counters.close_commands, counters.operations) == (1, 1, 2)


async def test_a_breaker_that_refuses_is_told_and_not_asked_again(site: Station, plant: SimulatorClient) -> None:
    await plant.fault("refuse", "F001-004")
    ran = await site.cli("breakers", "open", "F001-004", "--reason", "test")
    assert ran.code == 4
    assert "the device refused" in ran.out
    state = (await shown(site, "F001-004"))["state"]
    assert isinstance(state, dict)
    assert (state.get("phase", "idle"), state["intents"]) == ("idle", 1)
    counters = await plant.counters_of("F001-004")
    assert (counters.refused, counters.open_commands, counters.position) == (1, 0, "closed")


async def test_a_stuck_breaker_has_failed_and_raises_an_alarm(site: Station, plant: SimulatorClient) -> None:
    await plant.fault("stuck", "F001-005")
    ran = await site.cli("breakers", "open", "F001-005", "--reason", "test")
    assert ran.code == 1
    assert "failed, reads closed" in ran.out
    counters = await plant.counters_of("F001-005")
    assert (counters.open_commands, counters.operations) == (1, 0)

    async def alarm() -> bool:
        return any("breaker_failed" in line and "F001-005" in line for line in site.said().splitlines())

    await until(alarm, "an alarm in the log")
    listed = await site.cli("breakers", "list", "--outcome", "failed")
    assert "F001-005" in listed.out


async def test_a_slow_breaker_is_waited_for(site: Station, plant: SimulatorClient) -> None:
    await plant.fault("slow", "F001-006", value=0.7)
    ran = await site.cli("breakers", "open", "F001-006", "--reason", "test")
    assert ran.code == 0
    assert (await plant.counters_of("F001-006")).open_commands == 1


async def test_a_breaker_slower_than_its_limit_has_failed_and_shows_where_it_went(
    site: Station, plant: SimulatorClient
) -> None:
    await plant.fault("slow", "F001-008", value=2.5)
    ran = await site.cli("breakers", "open", "F001-008", "--reason", "test")
    assert ran.code == 1
    assert "after 1 s the position is intermediate" in ran.out
    await until(lambda: read_open(site, "F001-008"), "the position that it reached at last")
    assert (await plant.counters_of("F001-008")).open_commands == 1


@pytest.mark.parametrize(
    ("fault", "feeder"), [("garbled_reply", "F002-004"), ("lost_reply", "F002-006")], ids=["garbled", "lost"]
)
async def test_without_a_valid_answer_the_readback_decides_and_nothing_is_sent_twice(
    site: Station, plant: SimulatorClient, fault: str, feeder: str
) -> None:
    await plant.fault(fault, feeder)
    ran = await site.cli("breakers", "open", feeder, "--reason", "test")
    assert ran.code == 0
    assert "resolved by readback" in ran.out
    counters = await plant.counters_of(feeder)
    assert (counters.open_commands, counters.operations, counters.position) == (1, 1, "open")


async def test_whoever_does_not_wait_long_enough_is_told_that_the_outcome_is_unknown(
    site: Station, plant: SimulatorClient
) -> None:
    await plant.fault("slow", "F002-007", value=0.9)
    await plant.fault("delay", "RTU002", value=0.3)
    ran = await site.cli("breakers", "open", "F002-007", "--reason", "test", "--wait", "1")
    await plant.clear("RTU002")
    assert ran.code == 6
    assert "no outcome within 1 s" in ran.out
    await until(lambda: read_open(site, "F002-007"), "the command that goes on")
    assert (await plant.counters_of("F002-007")).open_commands == 1


async def test_a_device_that_spoils_every_reply_is_a_troubled_link_and_no_position_is_believed(
    site: Station, plant: SimulatorClient
) -> None:
    async def distrusted() -> bool:
        return (await shown(site, "F003-004"))["quality"] != "good"

    for how in ("junk", "short", "wrong_unit", "wrong_transaction", "wrong_function"):
        await plant.fault("malformed", "RTU003", how=how)
        await until(distrusted, f"bad quality with {how}")
    writes = (await plant.links())["RTU003"]["writes"]
    ran = await site.cli("breakers", "open", "F003-004", "--reason", "test")
    assert ran.code == 4
    assert "not_sent" in ran.out
    assert "nothing was sent" in ran.out
    assert (await plant.links())["RTU003"]["writes"] == writes
    await plant.clear("RTU003")

    async def trusted() -> bool:
        return (await shown(site, "F003-004"))["quality"] == "good"

    await until(trusted, "good quality again")
    await until(lambda: link_is_up(site, "F003-004"), "the link is up again")


async def link_is_up(site: Station, feeder: str) -> bool:
    """True when commands can be sent to this feeder's device."""
    return (await shown(site, feeder))["link"] == "up"


async def test_a_breaker_in_local_is_left_alone(site: Station, plant: SimulatorClient) -> None:
    await plant.fault("local", "F003-005")
    writes = (await plant.links())["RTU003"]["writes"]
    ran = await site.cli("breakers", "open", "F003-005", "--reason", "test")
    assert ran.code == 4
    assert "local" in ran.out
    assert (await plant.links())["RTU003"]["writes"] == writes


async def test_a_blocked_breaker_obeys_nobody_until_it_is_unblocked(site: Station, plant: SimulatorClient) -> None:
    assert (await site.cli("breakers", "block", "F003-008", "--reason", "crew on the line")).code == 0
    refused = await site.cli("breakers", "open", "F003-008", "--reason", "test")
    assert refused.code == 4
    assert "crew on the line" in refused.out
    assert (await plant.counters_of("F003-008")).open_commands == 0
    assert (await site.cli("breakers", "unblock", "F003-008", "--reason", "crew left")).code == 0
    assert (await site.cli("breakers", "open", "F003-008", "--reason", "test")).code == 0


async def test_the_journal_answers_who_moved_a_breaker_and_whether_what_runs_would_go_on(
    site: Station, plant: SimulatorClient
) -> None:
    opened = await site.cli("breakers", "open", "F002-001", "--reason", "smoke in the cubicle", "--actor", "jane")
    assert opened.code == 0
    why = await site.cli("why", "F002-001")
    assert "opened by jane (" in why.out
    assert "because   smoke in the cubicle" in why.out
    assert "gridlatch breakers close F002-001 --reason TEXT" in why.out
    assert await plant.trip("F002-002")

    async def told() -> bool:
        return "opened without a command of this gateway" in (await site.cli("why", "F002-002")).out

    await until(told, "the trip is told")

    started = await site.cli(
        "instances", "start", "LoadSheddingProtocol", "--id", "drill", "--input", '{"target_kw": 5}'
    )
    assert started.code == 0

    async def works() -> bool:
        return "cooldown" in (await site.cli("instances", "show", "drill")).out

    await until(works, "the drill has opened something")
    timeline = await site.cli("instances", "show", "drill", "--timeline")
    assert "activity SendDisconnectCommand" in timeline.out
    replayed = await site.cli("replay", "--instance", "drill")
    assert (replayed.code, "all go on as they went" in replayed.out) == (0, True), replayed.err
    assert (await site.cli("instances", "terminate", "drill", "--reason", "over")).code == 0
