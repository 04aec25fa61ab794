"""The control channel itself: states, logs, bad requests, its file."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from simulators.client import SimulatorClient
from simulators.control import ControlError, ControlServer
from simulators.simulation import Simulation


async def test_state_counts_breakers_and_gives_the_load(control: SimulatorClient, master: Any) -> None:
    await master.operate(0)
    state = await control.state()
    assert (state["open"], state["closed"], state["moving"]) == (0, 29, 1)
    assert (state["commands"], state["operations"], state["log_next"]) == (1, 1, 1)
    assert state["connections"] == 1
    assert state["rate"] == 60.0
    assert str(state["sim_time"]).startswith("2014-01-16T01:")
    assert float(str(state["load_kw"])) > 0


async def test_commands_are_fetched_from_where_one_left_off(control: SimulatorClient, master: Any) -> None:
    for coil in (0, 0, 3):
        await master.operate(coil)
    commands = await control.commands()
    assert [(c.number, c.feeder, c.command, c.verdict) for c in commands] == [
        (0, "F001-001", "open", "moved"),
        (1, "F001-001", "open", "redundant"),
        (2, "F001-002", "close", "redundant"),
    ]
    assert commands[0].wall_s <= commands[2].wall_s
    assert [c.number for c in await control.commands(since=2)] == [2]
    assert await control.commands(since=3) == []


async def test_one_breaker_in_detail(control: SimulatorClient) -> None:
    await control.fault("bad_feedback_11", "F002-003")
    breaker = await control.request("breaker", feeder="F002-003")
    assert breaker["position"] == "closed"
    assert breaker["contacts"] == [True, True]
    assert breaker["faults"] == {"bad_feedback_11": None}


async def test_reset(control: SimulatorClient, master: Any) -> None:
    await master.operate(0)
    await control.fault("silent", "RTU002")
    await control.fault("local", "F001-002")
    await control.reset()
    state = await control.state()
    assert (state["closed"], state["commands"], state["log_next"]) == (30, 0, 0)
    assert not (await control.links())["RTU002"]["silent"]


async def test_a_bad_line_is_answered_and_the_connection_goes_on(simulation: Simulation, tmp_path: Path) -> None:
    server = ControlServer(simulation, tmp_path / "c.sock")
    await server.start()
    reader, writer = await asyncio.open_unix_connection(server.path)
    for line in (b"not json\n", b"[1]\n", b'{"op": "breaker", "feeder": 7}\n', b'{"op": "fault", "value": "x"}\n'):
        writer.write(line)
        assert json.loads(await reader.readline())["ok"] is False
    writer.write(b'{"op": "state"}\n')
    assert json.loads(await reader.readline())["ok"] is True
    writer.write(b"x" * 200_000 + b"\n")
    assert json.loads(await reader.readline())["error"] == "the request is too long"
    assert await reader.read() == b""
    writer.close()
    await server.stop()


async def test_the_socket_is_its_owners_alone_and_a_dead_one_is_replaced(
    simulation: Simulation, tmp_path: Path
) -> None:
    path = tmp_path / "c.sock"
    first = ControlServer(simulation, path)
    await first.start()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    second = ControlServer(simulation, path)
    await second.start()
    async with SimulatorClient(path) as client:
        assert (await client.state())["feeders"] == 30
    await second.stop()
    assert not path.exists()
    await first.stop()


async def test_a_path_that_no_socket_can_have_is_refused(simulation: Simulation, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="longer than"):
        await ControlServer(simulation, tmp_path / ("x" * 120)).start()


async def test_a_client_without_a_simulator_says_so(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="no simulator at"):
        await SimulatorClient(tmp_path / "none.sock").connect(timeout_s=0.0)
    with pytest.raises(ControlError, match="not connected"):
        await SimulatorClient(tmp_path / "none.sock").state()
