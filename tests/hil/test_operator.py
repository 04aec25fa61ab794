"""What a person asks that can't be: each gets one clear sentence and an exit code that a script can act upon."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from station import Station, small_station, until

from gateway.control_client import ControlError
from simulators.client import SimulatorClient

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROGRAM = """
def Wait(context):
    return (yield context.wait_for_external_event("Go"))


def OpenAll(context):
    return (yield context.call_activity("SendDisconnectCommand", context.get_input()))
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Station]:
    folder: Path = tmp_path_factory.mktemp("site")
    (folder / "own.py").write_text(PROGRAM)
    async with small_station(folder, 15302, "127.0.5.1", programs='["own.py"]') as made:
        made.start_daemon()
        await made.wait_serving()
        await made.wait_links_up()
        yield made
        assert made.stop_daemon() == 0


async def finished(site: Station, instance: str) -> bool:
    return (await site.ask("instances.show", instance=instance))["status"] not in ("Pending", "Running")


async def test_unknown_names_are_not_found(site: Station) -> None:
    for command, words in (
        (("breakers", "open", "F999-999", "--reason", "x"), "no feeder 'F999-999'"),
        (("breakers", "show", "F999-999"), "no feeder 'F999-999'"),
        (("breakers", "list", "--tier", "Tier9"), "no tier 'Tier9'; it has Tier1, Tier2, Tier3"),
        (("instances", "show", "nobody"), "no orchestration 'nobody'"),
        (("instances", "raise", "nobody", "Go"), "no orchestration 'nobody'"),
        (("instances", "terminate", "nobody", "--reason", "x"), "no orchestration 'nobody'"),
        (("instances", "start", "NoSuchThing"), "NoSuchThing"),
    ):
        ran = await site.cli(*command)
        assert (ran.code, ran.out) == (3, ""), (command, ran)
        assert words in ran.err


async def test_an_event_for_a_finished_instance_is_gone(site: Station) -> None:
    assert (await site.cli("instances", "start", "Wait", "--id", "waits")).code == 0
    assert (await site.cli("instances", "start", "Wait", "--id", "waits")).code == 4
    assert (await site.cli("instances", "raise", "waits", "go", "--data", '{"a": 1}')).code == 0
    await until(lambda: finished(site, "waits"), "the instance ends")
    late = await site.cli("instances", "raise", "waits", "go")
    assert (late.code, late.out) == (4, "")
    assert "waits has finished: Completed" in late.err
    assert (await site.cli("instances", "terminate", "waits", "--reason", "x")).code == 4
    assert (await site.ask("instances.show", instance="waits"))["output"] == {"a": 1}


async def test_an_event_with_another_name_waits_until_it_is_asked_for(site: Station) -> None:
    await site.ask("instances.start", name="Wait", instance="deaf")
    assert (await site.cli("instances", "raise", "deaf", "Stop")).code == 0
    assert not await finished(site, "deaf")
    assert (await site.cli("instances", "terminate", "deaf", "--reason", "not needed")).code == 0
    await until(lambda: finished(site, "deaf"), "the instance ends")
    assert (await site.ask("instances.show", instance="deaf"))["status"] == "Terminated"


async def test_an_override_needs_a_procedure_and_a_known_decision(site: Station) -> None:
    idle = await site.cli("override", "hold", "--reason", "x")
    assert idle.code == 4
    assert "no procedure runs" in idle.err
    assert (await site.cli("override", "dance", "--reason", "x")).code == 2
    with pytest.raises(ControlError, match="unknown decision 'dance'; write one of cancel, ") as told:
        await site.ask("override", decision="dance", reason="x", instance="shed-1")
    assert told.value.code == "bad_request"


async def test_an_override_that_reaches_a_procedure_unchecked_is_answered_there_and_changes_nothing(
    site: Station,
) -> None:
    order = {"actor": "anna", "reason": "drill", "target_kw": 1.0}
    await site.ask("instances.start", name="LoadSheddingProtocol", instance="drill", input=order)

    async def waits() -> bool:
        return await phase(site) == "ordered"

    await until(waits, "the order is met")
    await site.ask("instances.raise", instance="drill", event="OperatorOverride", data={"decision": "dance"})

    async def consumed() -> list[str]:
        overrides = (await site.ask("status"))["overrides"]
        assert isinstance(overrides, list)
        return [str(one["outcome"]) for one in overrides]

    await until(consumed, "the answer to the override")
    assert (await consumed())[-1].startswith("not understood: unknown decision 'dance'")
    assert await phase(site) == "ordered"
    assert (await site.cli("override", "cancel-and-restore", "--reason", "drill over")).code == 0
    await until(lambda: finished(site, "drill"), "everything is restored")
    output = (await site.ask("instances.show", instance="drill"))["output"]
    assert isinstance(output, dict)
    assert (output["status"], output["opened"]) == ("restored", output["closed"])
    gone = await site.cli("override", "hold", "--instance", "drill", "--reason", "x")
    assert gone.code == 4


async def phase(site: Station) -> object:
    procedure = (await site.ask("status"))["procedure"]
    return procedure.get("phase") if isinstance(procedure, dict) else None


async def test_a_critical_feeder_is_never_opened_by_a_procedure(site: Station, plant: SimulatorClient) -> None:
    feeders = [str(f["feeder"]) for f in await site.pages("breakers.list", "breakers")]
    critical = [name for name in feeders if (await site.ask("breakers.show", feeder=name))["critical"]]
    assert critical
    for order in ({"feeders": critical}, {"feeders": critical, "force": True, "actor": "anna", "procedure": ""}):
        started = await site.ask("instances.start", name="OpenAll", input=order)
        instance = str(started["instance"])
        await until(partial(finished, site, instance), "the outcomes")
        output = (await site.ask("instances.show", instance=instance))["output"]
        assert output == dict.fromkeys(critical, "refused")
    by_hand = await site.cli("breakers", "open", critical[0], "--reason", "by mistake")
    assert by_hand.code == 4
    assert "critical" in by_hand.out
    assert [(await plant.counters_of(name)).open_commands for name in critical] == [0] * len(critical)


async def test_wrong_arguments_at_the_socket_are_refused_and_the_daemon_goes_on(site: Station) -> None:
    nonsense: list[tuple[str, dict[str, object]]] = [
        ("breakers.open", {"feeder": "F001-001", "reason": "x", "wait_s": "soon"}),
        ("breakers.open", {"feeder": "F001-001", "reason": "x", "wait_s": 1e9}),
        ("breakers.open", {"feeder": "F001-001", "reason": "x" * 401}),
        ("breakers.open", {"feeder": "F001-001", "reason": "x", "actor": ["anna"]}),
        ("breakers.open", {"feeder": ["F001-001"], "reason": "x"}),
        ("breakers.list", {"prefix": 7}),
        ("breakers.list", {"limit": True}),
        ("instances.list", {"name": {"a": 1}}),
        ("instances.list", {"status": "Dancing"}),
        ("instances.start", {"name": "Wait", "instance": 7}),
        ("instances.start", {"name": "Wait", "instance": "@breaker@F001-001"}),
        ("override", {"decision": "hold", "reason": "x", "instance": "i", "expires_s": 1e300}),
        ("mode", {"mode": "off", "reason": "x"}),
        ("release", {"reason": " "}),
        ("timers", {"limit": 0}),
    ]
    before = (await site.ask("breakers.show", feeder="F001-001"))["intents"]
    for op, args in nonsense:
        with pytest.raises(ControlError) as refused:
            await site.ask(op, **args)  # type: ignore[arg-type]
        assert refused.value.code == "bad_request", (op, args, refused.value.message)
    assert (await site.ask("breakers.show", feeder="F001-001"))["intents"] == before
    assert "Traceback" not in site.said()


async def test_a_second_daemon_on_the_site_is_told_who_owns_it_and_the_first_goes_on(site: Station) -> None:
    second = await site.cli("run", str(site.folder))
    assert second.code == 1
    assert str(site.pid) in second.err
    assert "Traceback" not in second.err
    assert (await site.ask("status"))["pid"] == site.pid
    assert (await site.cli("breakers", "open", "F001-006", "--reason", "still here")).code == 0


async def test_in_mode_monitor_no_write_frame_leaves(site: Station, plant: SimulatorClient) -> None:
    """From the moment of the answer on; what would be shed is said."""
    assert (await site.cli("mode", "monitor", "--reason", "test")).code == 0
    before = {name: link["writes"] for name, link in (await plant.links()).items()}
    refused = await site.cli("breakers", "open", "F001-001", "--reason", "test")
    assert refused.code == 4
    assert "monitor" in refused.out
    order = {"actor": "anna", "reason": "drill", "tiers": ["Tier3"]}
    await site.ask("instances.start", name="LoadSheddingProtocol", instance="dry", input=order)
    await until(lambda: finished(site, "dry"), "the dry run")
    output = (await site.ask("instances.show", instance="dry"))["output"]
    assert isinstance(output, dict)
    assert (output["status"], output["opened"]) == ("monitored", 0)
    assert output["would_shed"][0]["feeders"] == 6
    assert {name: link["writes"] for name, link in (await plant.links()).items()} == before
    assert (await site.cli("mode", "armed", "--reason", "test over")).code == 0
    assert (await site.cli("breakers", "open", "F001-001", "--reason", "test")).code == 0


async def test_without_a_daemon_nothing_was_sent(tmp_path: Path, site: Station) -> None:
    ran = await site.cli("status", "--socket", str(tmp_path / "none.sock"))
    assert ran.code == 5
    assert "no daemon runs here" in ran.err
    assert (await site.cli("status", "--site", str(tmp_path / "nowhere"))).code == 2
