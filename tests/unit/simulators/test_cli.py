"""The simulator as a process of its own: start, ready line, control, faults file, end."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from simulators.cli import main
from simulators.client import SimulatorClient
from simulators.site import DeviceRow, OpcuaRow, SimulatedSite, read_site

REPOSITORY = Path(__file__).parents[3]
Start = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts ``python -m simulators ...``; kills what a failed test leaves."""
    running: list[asyncio.subprocess.Process] = []

    async def launch(*arguments: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "simulators", *arguments, cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE
        )
        running.append(process)
        return process

    yield launch
    for process in running:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_run_from_start_to_end(start: Start, site: SimulatedSite, tmp_path: Path, until: Any) -> None:
    faults = tmp_path / "faults.toml"
    faults.write_text('[[fault]]\nkind = "stuck"\nfeeder = "F001-001"\n')
    socket = tmp_path / "x.sock"
    process = await start("run", "--site", str(site.path), "--control", str(socket), "--faults", str(faults))
    assert process.stdout is not None
    async with asyncio.timeout(20):
        ready = json.loads(await process.stdout.readline())
    assert (ready["event"], ready["devices"], ready["feeders"], ready["pid"]) == ("ready", 4, 30, process.pid)
    async with SimulatorClient(socket) as client:
        assert (await client.state())["rate"] == 60.0

        async def stuck() -> bool:
            return (await client.request("breaker", feeder="F001-001"))["faults"] == {"stuck": None}

        await until(stuck)
    row = site.devices[0]
    _, writer = await asyncio.open_connection(row.host, row.port)
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        assert await process.wait() == 0
    writer.close()
    assert not socket.exists()


def test_site_and_bad_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["site", str(tmp_path / "s"), "--rtus", "2", "--breakers", "5", "--rate", "30", "--seed", "3"]) == 0
    site = read_site(tmp_path / "s")
    assert len(site.feeders) == 10
    assert site.seed == 3
    assert main(["site", str(tmp_path / "s"), "--rtus", "0"]) == 2
    assert main(["run", "--site", str(tmp_path / "none")]) == 2
    assert main(["run", "--site", str(tmp_path / "s"), "--rate", "0"]) == 2
    assert main(["run", "--site", str(tmp_path / "s"), "--faults", str(tmp_path / "none")]) == 2
    assert main(["ctl", str(tmp_path / "none.sock"), "state"]) == 1
    assert main(["ctl", str(tmp_path / "none.sock"), "state", "oops"]) == 2
    errors = capsys.readouterr().err
    for part in ("RTUs", "site.toml: No such file", "--rate must be above 0", "no simulator at", "key=value"):
        assert part in errors


async def test_ctl_prints_json(start: Start, tmp_path: Path, site: SimulatedSite) -> None:
    socket = tmp_path / "y.sock"
    process = await start("run", "--site", str(site.path), "--control", str(socket), "--rate", "5")
    assert process.stdout is not None
    async with asyncio.timeout(20):
        await process.stdout.readline()
    ctl = await start("ctl", str(socket), "fault", "kind=slow", "target=F001-002", "value=2.5")
    assert await ctl.wait() == 0
    ctl = await start("ctl", str(socket), "breaker", "feeder=F001-002")
    out, _ = await ctl.communicate()
    assert json.loads(out)["faults"] == {"slow": 2.5}
    process.terminate()
    assert await process.wait() == 0


def test_a_site_with_opc_ua_and_operators_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--rtus", "2", "--breakers", "2", "--opcua-rtus", "1", "--operators", "127.0.64.9:4841"]
    assert main(["site", str(tmp_path), *options]) == 0
    assert [type(device) for device in read_site(tmp_path).devices] == [DeviceRow, OpcuaRow, DeviceRow]
    assert "port = 4841" in (tmp_path / "site.toml").read_text()
    assert main(["site", str(tmp_path), "--rtus", "2", "--opcua-rtus", "3"]) == 2
    assert "at most all RTUs" in capsys.readouterr().err


def test_asyncua_is_loaded_only_where_a_device_needs_it(site: SimulatedSite) -> None:
    """It takes half a second, which the start of a plant on Modbus has no use for."""
    lines = (
        "import sys; from pathlib import Path",
        "from simulators.simulation import Simulation; from simulators.site import read_site; import simulators.cli",
        f"Simulation(read_site(Path({str(site.path)!r})))",
        "sys.exit('asyncua' in sys.modules)",
    )
    ran = subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=REPOSITORY, timeout=60)
    assert ran.returncode == 0
