"""RTUs on OPC UA over real TCP: what a master sees of breakers, sessions, certificates and faults."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, ua
from cryptography import x509

from simulators.client import SimulatorClient
from simulators.control import ControlError
from simulators.opcua.wire import MAX_SESSIONS
from simulators.simulation import Simulation

FIRST, SECOND = "F002-001", "F002-002"


async def endpoints(simulation: Simulation, device: str) -> list[ua.EndpointDescription]:
    """What a client without a session is told."""
    row = next(row for row in simulation.site.devices if row.name == device)
    return await Client(f"opc.tcp://{row.host}:{row.port}", timeout=3.0).connect_and_get_server_endpoints()


def code(error: pytest.ExceptionInfo[ua.UaStatusCodeError]) -> int:
    return int(error.value.code)


async def test_open_and_close_by_calls(connect: Any, control: SimulatorClient) -> None:
    async with connect() as master:
        assert await master.pos(FIRST) == 2
        await master.call(FIRST, "Open")
        assert await master.pos(FIRST) == 0
        await master.reach(FIRST, 1)
        assert await master.node(f"{FIRST}/OpCnt").read_value() == 1
        await master.call(FIRST, "Close")
        await master.reach(FIRST, 2)
    counters = await control.counters_of(FIRST)
    assert (counters.open_commands, counters.close_commands, counters.operations) == (1, 1, 2)
    links = (await control.links())["RTU002"]
    assert (links["writes"], links["connections"]) == (2, 0)
    assert int(str(links["requests"])) > 6


@pytest.mark.parametrize("policy", [0, 1, 2])
async def test_all_three_policies_and_select_before_operate(
    connect: Any, control: SimulatorClient, policy: int
) -> None:
    async with connect("RTU003", policy=policy) as master:
        with pytest.raises(ua.UaStatusCodeError) as refused:
            await master.call("F003-002", "Oper", False)
        assert code(refused) == ua.StatusCodes.BadInvalidState
        await master.call("F003-002", "Select", False)
        await master.call("F003-002", "Oper", False)
        await master.reach("F003-002", 1)
    counters = await control.counters_of("F003-002")
    assert (counters.open_commands, counters.refused) == (1, 1)


async def test_a_subscription_tells_every_step(connect: Any, until: Any) -> None:
    async with connect() as master:
        await master.watch(f"{FIRST}/Pos", f"{FIRST}/Loc", f"{FIRST}/OpCnt")
        await master.call(FIRST, "Open")

        async def told() -> bool:
            return [value for name, value in master.notes if name.endswith("Pos")] == [2, 0, 1]

        await until(told)
        assert (f"{FIRST}/OpCnt", 1) in master.notes


async def test_loads_are_shown(connect: Any, simulation: Simulation) -> None:
    async with connect() as master:
        index = simulation.plant.switchgear.by_name[FIRST].index
        shown = await master.node(f"{FIRST}/Kw").read_value()
        assert shown == pytest.approx(float(simulation.loads.power_kw[index]), abs=0.051)


@pytest.mark.parametrize(
    ("method", "arguments", "wanted"),
    [
        ("Open", (True,), ua.StatusCodes.BadTooManyArguments),
        ("Select", (), ua.StatusCodes.BadArgumentsMissing),
        ("Select", (1.5,), ua.StatusCodes.BadInvalidArgument),
        ("Dance", (), ua.StatusCodes.BadMethodInvalid),
    ],
)
async def test_calls_that_cannot_be(connect: Any, control: Any, method: str, arguments: Any, wanted: int) -> None:
    feeder = "F003-002" if method == "Select" else "F003-001"
    async with connect("RTU003") as master:
        with pytest.raises(ua.UaStatusCodeError) as refused:
            await master.call(feeder, method, *arguments)
        assert code(refused) == wanted
    assert await control.counters(active=True) == {}


async def test_more_nodes_in_one_request_than_the_device_takes_are_refused(connect: Any) -> None:
    async with connect() as master:
        said = master.client.get_node(ua.NodeId(ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead))
        most = await said.read_value()
        nodes = [master.node(f"{FIRST}/Pos")] * most
        assert await master.client.read_values(nodes) == [2] * most
        with pytest.raises(ua.UaStatusCodeError) as refused:
            await master.client.read_values([*nodes, nodes[0]])
        assert code(refused) == ua.StatusCodes.BadTooManyOperations


async def test_variables_that_are_no_commands_cannot_be_written(connect: Any) -> None:
    async with connect() as master:
        with pytest.raises(ua.UaStatusCodeError) as refused:
            await master.node(f"{FIRST}/Pos").write_value(1, ua.VariantType.Int32)
        assert code(refused) == ua.StatusCodes.BadNotWritable
        assert await master.pos(FIRST) == 2


async def test_a_wrong_password_and_a_session_without_security_are_refused(
    connect: Any, simulation: Simulation
) -> None:
    with pytest.raises(ua.UaStatusCodeError):
        async with connect(password="gateway"):
            pass
    offered = await endpoints(simulation, "RTU002")
    assert {one.SecurityMode for one in offered} == {ua.MessageSecurityMode.SignAndEncrypt}
    assert len({one.SecurityPolicyUri for one in offered}) == 3
    row = simulation.site.devices[1]
    with pytest.raises(ua.UaStatusCodeError) as refused:
        async with Client(f"opc.tcp://{row.host}:{row.port}", timeout=3.0):
            pass
    assert code(refused) == ua.StatusCodes.BadSecurityPolicyRejected


async def test_silence_and_a_broken_network(connect: Any, control: SimulatorClient) -> None:
    async with connect(timeout_s=0.3) as master:
        await control.fault("silent", "RTU002")
        with pytest.raises((TimeoutError, ConnectionError)):
            await master.call(FIRST, "Open")
        assert (await control.counters_of(FIRST)).open_commands == 0
        await control.clear("RTU002")
    await control.fault("unreachable", "RTU002")
    with pytest.raises(OSError, match=r"refused|failed|failure"):
        async with connect():
            pass
    await control.clear()
    async with connect() as master:
        assert await master.pos(FIRST) == 2


async def test_a_slow_answer_comes_after_the_deed(connect: Any, control: SimulatorClient, until: Any) -> None:
    await control.fault("delay", "RTU002", value=0.15)
    async with connect() as master:
        began = asyncio.get_running_loop().time()
        calling = asyncio.ensure_future(master.call(FIRST, "Open"))

        async def done() -> bool:
            return (await control.counters_of(FIRST)).open_commands == 1

        await until(done)
        assert not calling.done()
        await calling
        assert asyncio.get_running_loop().time() - began >= 0.15
        await control.clear()


async def test_lost_and_bad_answers_of_a_call_that_acted(connect: Any, control: SimulatorClient) -> None:
    await control.fault("lost_reply", FIRST)
    await control.fault("garbled_reply", SECOND)
    async with connect(timeout_s=0.4) as master:
        with pytest.raises(ua.UaStatusCodeError) as answered:
            await master.call(SECOND, "Open")
        assert code(answered) == ua.StatusCodes.BadUnexpectedError
        with pytest.raises(TimeoutError):
            await master.call(FIRST, "Open")
        await master.reach(FIRST, 1)
        await master.reach(SECOND, 1)


async def test_spoiled_answers_end_the_channel(connect: Any, control: SimulatorClient) -> None:
    async with connect(timeout_s=0.5) as master:
        await control.fault("malformed", "RTU002")
        with pytest.raises((TimeoutError, ConnectionError, ua.UaError)):
            await master.pos(FIRST)
        await control.clear()


async def test_a_bad_status_and_a_skewed_clock_are_read(connect: Any, control: SimulatorClient, until: Any) -> None:
    async with connect() as master:
        pos = master.node(f"{FIRST}/Pos")
        await control.fault("bad_status", FIRST)
        read = await pos.read_data_value(raise_on_bad_status=False)
        assert (read.StatusCode.value, read.Value.Value) == (ua.StatusCodes.BadSensorFailure, None)
        await control.clear(FIRST)
        await control.fault("skewed_clock", "RTU002", value=-3600.0)

        async def late() -> bool:
            return datetime.now(UTC) - (await pos.read_data_value()).SourceTimestamp > timedelta(minutes=59)

        await until(late)
        clock = master.client.get_node(ua.NodeId(ua.ObjectIds.Server_ServerStatus_CurrentTime))
        assert datetime.now(UTC) - await clock.read_value() > timedelta(minutes=59)
        assert (await pos.read_data_value()).Value.Value == 2


async def test_a_stale_rtu_obeys_and_shows_nothing_of_it(connect: Any, control: SimulatorClient, until: Any) -> None:
    async with connect() as master:
        await control.fault("stale", "RTU002")
        await master.call(FIRST, "Open")

        async def opened() -> bool:
            return (await control.counters_of(FIRST)).position == "open"

        await until(opened)
        assert await master.pos(FIRST) == 2
        await control.clear("RTU002", "stale")
        await master.reach(FIRST, 1)


async def test_a_dropped_session_answers_no_request(connect: Any, control: SimulatorClient) -> None:
    async with connect() as master:
        await control.fault("drop_session", "RTU002")
        await asyncio.sleep(0.02)
        with pytest.raises(ua.UaStatusCodeError) as refused:
            await master.call(FIRST, "Close")
        assert code(refused) == ua.StatusCodes.BadSessionIdInvalid
    async with connect() as master:
        assert await master.pos(FIRST) == 2


@pytest.mark.parametrize("fault", ["drop_subscription", "missed_publish"])
async def test_a_subscription_falls_silent_and_the_session_does_not(
    connect: Any, control: SimulatorClient, until: Any, fault: str
) -> None:
    async with connect() as master:
        await master.watch(f"{FIRST}/Pos", f"{SECOND}/Pos", keep_alive=2)

        async def begun() -> bool:
            return len(master.notes) == 2

        await until(begun)
        await control.fault(fault, "RTU002")
        await master.call(FIRST, "Open")
        await master.reach(FIRST, 1)
        await asyncio.sleep(0.1)
        assert len(master.notes) == 2
        await control.clear("RTU002")
        await master.call(SECOND, "Open")
        await master.reach(SECOND, 1)
        await asyncio.sleep(0.1)
        later = {name for name, _ in master.notes[2:]}
        assert later == (set() if fault == "drop_subscription" else {f"{SECOND}/Pos"})


async def test_clients_that_vanish_leave_a_bounded_rest(
    connect: Any, control: SimulatorClient, simulation: Simulation
) -> None:
    """Their sessions and subscriptions live on for a while, as they should; never more than the device has room for."""
    for _ in range(MAX_SESSIONS + 4):
        async with connect() as master:
            await master.watch(f"{FIRST}/Pos")
            master.client.uaclient.disconnect_socket()
    core = simulation.field["RTU002"]._core  # type: ignore[attr-defined]
    await asyncio.sleep(0.05)
    assert len(core._external_sessions) <= MAX_SESSIONS
    assert len(core.subscription_service.subscriptions) <= MAX_SESSIONS
    async with connect() as master:
        assert await master.pos(FIRST) == 2


async def test_a_restart_moves_the_namespace_and_no_breaker(
    connect: Any, control: SimulatorClient, simulation: Simulation, until: Any
) -> None:
    async with connect() as master:
        await master.call(FIRST, "Open")
        await master.reach(FIRST, 1)
        first = master.index
        await control.fault("restart", "RTU002", value=0.05)

        async def away() -> bool:
            return not simulation.field["RTU002"].is_open

        await until(away)

    async def back() -> bool:
        return simulation.field["RTU002"].is_open

    await until(back)
    async with connect() as master:
        assert master.index == first + 1
        assert await master.pos(FIRST) == 1
        assert (await master.client.get_namespace_array())[first] != "urn:gridlatch:simulator:rtu"
        with pytest.raises(ua.UaStatusCodeError):
            await master.client.get_node(f"ns={first};s={FIRST}/Pos").read_value()


@pytest.mark.parametrize("how", ["expired", "wrong_uri", "untrusted"])
async def test_another_certificate_is_shown_until_it_is_cleared(
    control: SimulatorClient, simulation: Simulation, until: Any, how: str
) -> None:
    pinned = simulation.site.devices[1].certificate  # type: ignore[union-attr]
    good = x509.load_der_x509_certificate(pinned.read_bytes())

    async def shown() -> x509.Certificate:
        offered = await endpoints(simulation, "RTU002")
        return x509.load_der_x509_certificate(offered[0].ServerCertificate)

    assert await shown() == good
    await control.fault("certificate", "RTU002", how=how)

    async def other() -> bool:
        return simulation.field["RTU002"].is_open and await shown() != good

    await until(other)
    found = await shown()
    assert (found.public_key() == good.public_key()) == (how != "untrusted")
    assert (found.not_valid_after_utc < datetime.now(UTC)) == (how == "expired")
    names = [one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value for one in (good, found)]
    assert (names[0] == names[1]) == (how != "wrong_uri")
    await control.clear("RTU002")

    async def again() -> bool:
        return simulation.field["RTU002"].is_open and await shown() == good

    await until(again)


async def test_faults_that_a_device_cannot_have_are_refused(control: SimulatorClient) -> None:
    with pytest.raises(ControlError, match="RTU001 can't have stale"):
        await control.fault("stale", "RTU001")
    with pytest.raises(ControlError, match="needs a feeder on OPC UA"):
        await control.fault("bad_status", "F001-001")
    with pytest.raises(ControlError, match="is not one of expired, untrusted, wrong_uri"):
        await control.fault("certificate", "RTU002", how="short")
    with pytest.raises(ControlError, match="happens once"):
        await control.fault("restart", "RTU002", for_s=1.0)


def test_keys_and_the_password_are_for_their_owner_alone(site: Any, tmp_path: Path) -> None:
    for name in ("simulator/RTU002.key", "simulator/RTU003.key", "devices/password"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE" not in (tmp_path / "devices" / "RTU002.der").read_bytes()
