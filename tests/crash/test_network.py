"""Networks that fail in the middle of commands: by a proxy at chosen bytes (everywhere), and by the kernel's packet filter
between two network namespaces (root)."""

from __future__ import annotations

import contextlib
import csv
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from crash.figures import figure
from crash.namespaces import FIRST_HOST, Filter, missing, two_namespaces
from crash.network import play
from crash.proxy import Proxies, Proxy
from station import SMALL, TRAVEL_S, Station, station

RTUS, OPCUA = 10, 4
PORT, PROXY_PORT = 15400, 15402
WELL = ("RTU001", "RTU010")
"""One of each protocol has no trouble."""
FRAME_BYTES = {"modbus": 40, "opcua": 900}
"""Trouble begins within so many bytes: a few frames."""


@contextlib.asynccontextmanager
async def _behind_proxies(folder: Path) -> AsyncIterator[tuple[Station, Proxies]]:
    settings = {**SMALL, "log_level": '"warning"'}
    generator = ("--peak-pct", "40", "--opcua-rtus", str(OPCUA))
    async with station(folder / "site", RTUS, 8, PORT, "127.0.75.1", settings, generator, TRAVEL_S) as site:
        async with site.simulator():
            pass  # it has read the site: from here on the gateway's is another
        path = site.folder / "devices.csv"
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        proxies, most = {}, {}
        for row in rows:
            if row["name"] != "TX":
                proxies[row["name"]] = Proxy(row["host"], PROXY_PORT, int(row["port"]))
                most[row["name"]] = FRAME_BYTES[row["protocol"] or "modbus"]
                row["port"] = str(PROXY_PORT)
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        for proxy in proxies.values():
            await proxy.start()
        try:
            site.start_daemon()
            await site.wait_serving()
            yield site, Proxies(proxies, most)
            assert site.stop_daemon() == 0
        finally:
            site.end_daemon()
            for proxy in proxies.values():
                await proxy.stop()


async def _through_proxies(folder: Path, tries: int) -> None:
    seed = random.randrange(2**32)
    began = time.monotonic()
    async with _behind_proxies(folder) as (site, proxies):
        troubled = [f"RTU{n:03}" for n in range(1, RTUS + 1) if f"RTU{n:03}" not in WELL]
        seen = await play(site, proxies, troubled, tries, seed)
    figure("network, proxy", seen.tries, len(seen.wrong), seed, time.monotonic() - began)
    assert seen.wrong == []


async def test_commands_through_a_proxy_that_fails_at_chosen_bytes(tmp_path: Path) -> None:
    """The form for every run."""
    await _through_proxies(tmp_path, 6)


async def test_a_network_that_repeats_requests_is_found_out(tmp_path: Path) -> None:
    """The control: what no TCP does, and what a gateway that sends twice would look like."""
    began = time.monotonic()
    async with _behind_proxies(tmp_path) as (site, proxies):
        proxies.repeat("RTU002")
        seen = await play(site, proxies, ["RTU002"], 1, 1)
    told = f"{len(seen.wrong)} kinds of violation found"
    figure("network, control", seen.tries, 0, None, time.monotonic() - began, told)
    assert any("told more than was intended" in one for one in seen.wrong), seen.wrong


@pytest.mark.soak
async def test_commands_through_a_failing_proxy_for_an_hour(tmp_path: Path) -> None:
    """The long form."""
    for turn in range(10):
        await _through_proxies(tmp_path / str(turn), 120)


async def _through_a_filter(folder: Path, tries: int, only: str = "") -> None:
    if why := missing():
        pytest.skip(why)
    seed = random.randrange(2**32)
    began = time.monotonic()
    generator = ("--peak-pct", "40", "--opcua-rtus", str(OPCUA))
    settings = {**SMALL, "log_level": '"warning"'}
    devices = [f"RTU{n:03}" for n in range(1, RTUS + 1)]
    with two_namespaces(RTUS + 1) as names:
        ways = tuple(("ip", "netns", "exec", name) for name in (names.gateway, names.devices))
        made = station(
            folder / "site", RTUS, 8, PORT, FIRST_HOST, settings, generator, TRAVEL_S, prefixes=(ways[0], ways[1])
        )
        async with made as site:
            trouble = Filter(names, {name: f"10.75.0.{n}" for n, name in enumerate(devices, 1)}, only)
            troubled = [name for name in devices if name not in WELL]
            if only:
                troubled = [name for name in troubled if name not in devices[-OPCUA:]]
            await trouble.start()
            site.start_daemon()
            await site.wait_serving()
            seen = await play(site, trouble, troubled, tries, seed)
            assert site.stop_daemon() == 0
    print(trouble.kinds)
    figure(f"network, {only or 'packet filter'}", seen.tries, len(seen.wrong), seed, time.monotonic() - began)
    assert seen.wrong == []


async def test_a_command_that_the_network_lost_does_not_arrive_after_it_was_settled(tmp_path: Path) -> None:
    """TCP sends again what was lost, after the network is well and the gateway has judged by a new connection: only a
    reset takes it back. Each trouble here loses commands alone, for so long that this would come seconds late."""
    await _through_a_filter(tmp_path, 1, only="commands_lost")


async def test_commands_over_a_wire_whose_filter_loses_and_refuses(tmp_path: Path) -> None:
    """The form for every run, as root."""
    await _through_a_filter(tmp_path, 5)


@pytest.mark.soak
async def test_commands_over_a_failing_wire_for_an_hour(tmp_path: Path) -> None:
    """The long form, as root."""
    for turn in range(10):
        await _through_a_filter(tmp_path / str(turn), 120)
        await _through_a_filter(tmp_path / f"{turn} commands alone", 40, only="commands_lost")
