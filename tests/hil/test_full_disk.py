"""The disk is full in the middle of a shed: the daemon stops with outputs held and says why; with room again it goes on."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from station import Station, small_station, until

from journal import verify_file

TIER3 = ["F001-004", "F001-005", "F001-008", "F002-002", "F003-001", "F003-007"]


@contextlib.contextmanager
def file_size_limit(site: Station) -> Iterator[None]:
    """No file of the daemon may grow any more: the kernel's limit for its process."""
    largest = max(file.stat().st_size for file in (site.folder / "state").iterdir())
    resource.prlimit(site.pid, resource.RLIMIT_FSIZE, (largest, largest))
    yield


@contextlib.contextmanager
def full_file_system(site: Station) -> Iterator[None]:
    """The state's file system has not one free byte left."""
    ballast = site.folder / "state" / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096) == 4096:
            pass
    yield
    ballast.unlink()


@contextlib.contextmanager
def on_a_small_disk(site: Station) -> Iterator[None]:
    """A file system of 4 MiB for the state."""
    state = site.folder / "state"
    state.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(state)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small file system needs the right to mount: {mounted.stderr.decode().strip()}")
    try:
        yield
    finally:
        site.end_daemon()
        subprocess.run(["umount", str(state)], check=True)


@pytest.mark.parametrize("how", ["limit", "disk"])
async def test_a_full_disk_stops_the_daemon_and_nothing_is_lost_or_moved(tmp_path: Path, how: str) -> None:
    port, host = (15312, "127.0.9.1") if how == "limit" else (15313, "127.0.9.11")
    if how == "disk" and (os.geteuid() != 0 or shutil.which("mount") is None):
        pytest.skip("a small file system needs root")
    fill: Callable[[Station], contextlib.AbstractContextManager[None]]
    fill = file_size_limit if how == "limit" else full_file_system
    async with small_station(tmp_path, port, host) as site:
        with on_a_small_disk(site) if how == "disk" else contextlib.nullcontext():
            await _story(site, fill)


async def _story(site: Station, fill: Callable[[Station], contextlib.AbstractContextManager[None]]) -> None:
    site.start_daemon()
    await site.wait_serving()
    await site.wait_links_up()
    async with site.simulator() as plant:
        for name in TIER3:
            await plant.fault("slow", name, value=0.5)
        order = {"actor": "anna", "reason": "drill", "tiers": ["Tier3"]}
        await site.ask("instances.start", name="LoadSheddingProtocol", instance="shed", input=order)

        async def sent() -> bool:
            return sum(one.open_commands for one in (await plant.counters()).values()) == 6

        await until(sent, "the commands are out")
        with fill(site):
            assert await site.wait_end() == 1
            assert "the journal failed" in site.said()
            assert "outputs are held" in site.said()
            assert "Traceback" not in site.said().split("gridlatch: outputs are held")[1]
        site.start_daemon()
        await site.wait_serving()

        async def ordered() -> bool:
            procedure = (await site.ask("status"))["procedure"]
            return isinstance(procedure, dict) and procedure.get("phase") == "ordered"

        await until(ordered, "the shed is complete")
        counters = await plant.counters()
        assert [(counters[n].open_commands, counters[n].operations, counters[n].position) for n in TIER3] == [
            (1, 1, "open")
        ] * 6
        assert sum(one.operations for one in counters.values()) == 6
    assert site.stop_daemon() == 0
    result = verify_file(site.folder / "state" / "journal.db")
    assert result.ok, result.reason
