"""The key of a running device: exchanged, taken away, put back. It goes on protecting, and everybody is told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from station import Station, small_station, until

from gateway.evidence.signing import Signer

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

START_S = 60.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Station]:
    folder: Path = tmp_path_factory.mktemp("site")
    async with small_station(folder, 15462, "127.0.64.1", block_size="1") as made:
        yield made
        made.end_daemon()


async def start_anew(site: Station) -> None:
    site.end_daemon()
    site.start_daemon()
    await site.wait_serving(START_S)


async def events(site: Station) -> list[str]:
    ran = await site.cli("audit", "list", "--op", "gateway.device_key", "--json")
    assert ran.code == 0, ran.err
    return [one["told"]["event"] for one in json.loads(ran.out)["records"]]


async def wait_warned(site: Station, words: str) -> None:
    async def told() -> bool:
        return any(words in str(one) for one in (await site.ask("status"))["warnings"])  # type: ignore[union-attr]

    await until(told, f"a warning with {words!r}", START_S)


async def opens(site: Station, feeder: str) -> None:
    ran = await site.cli("breakers", "open", feeder, "--reason", "it protects all the same")
    assert ran.code == 0, ran.err


async def test_a_key_that_is_exchanged_or_gone_stops_nobody_and_is_told(site: Station) -> None:
    state = site.folder / "state"
    await start_anew(site)
    await start_anew(site)
    assert await events(site) == []  # the same key: nothing to tell
    old = Signer.load(state / "device.key").fingerprint

    site.end_daemon()
    (state / "device.key").unlink()
    await start_anew(site)
    await wait_warned(site, "device.key is gone")
    assert await events(site) == ["device_key_unusable"]
    await opens(site, "F001-004")
    assert not (state / "device.key").exists()

    ran = await site.cli("audit", "key", "--new")
    assert ran.code == 0, ran.err
    await start_anew(site)
    new = Signer.load(state / "device.key").fingerprint
    await wait_warned(site, f"it is {new}, and was {old}")
    assert await events(site) == ["device_key_changed", "device_key_unusable"]
    await opens(site, "F001-005")

    ran = await site.cli("audit", "verify", str(state / "journal.db"))
    assert ran.code == 0, ran.err
    assert f"key {new} signs since record" in ran.out
    assert f"A CHANGED KEY, before it was {old}" in ran.out


async def test_an_export_of_an_archive_is_signed_and_on_record(site: Station, tmp_path: Path) -> None:
    await start_anew(site)
    moment = str((await site.ask("status"))["clock"]["now"])  # type: ignore[index, call-overload]
    ran = await site.cli("journal", "archive", "--before", moment)
    assert ran.code == 0, ran.err
    (archive,) = (site.folder / "state" / "archive").glob("*.gz")
    ran = await site.cli("audit", "export", "--format", "csv", "--journal", str(archive), "-o", str(tmp_path / "x.csv"))
    assert (ran.code, ran.err) == (0, "")
    key = str(site.folder / "state" / "device.pub")
    ran = await site.cli("audit", "verify", str(tmp_path / "x.csv"), str(archive), "--key", key)
    assert ran.code == 0, ran.out
    ran = await site.cli("audit", "list", "--op", "audit.export", "--json")
    assert json.loads(ran.out)["records"][0]["told"]["from"] == archive.name
