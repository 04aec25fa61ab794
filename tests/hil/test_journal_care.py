"""The journal of a running station: backup while it sheds, restore on a clean host, archive, and the loss of its end."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
from station import Ran, Station, small_station, until

from gateway.control_client import JsonValue
from journal import JournalFile, verify_archive, verify_file
from simulators.client import SimulatorClient

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

TIER3 = ["F001-004", "F001-005", "F001-008", "F002-002", "F003-001", "F003-007"]
START_S = 60.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Station]:
    folder: Path = tmp_path_factory.mktemp("site")
    async with small_station(folder, 15450, "127.0.69.1", block_size="1") as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def plant(site: Station) -> AsyncIterator[SimulatorClient]:
    """Everything closed, an empty journal, a daemon that runs."""
    site.end_daemon()
    shutil.rmtree(site.folder / "state", ignore_errors=True)
    async with site.simulator() as client:
        await client.reset()
        site.start_daemon()
        await site.wait_serving(START_S)
        await site.wait_links_up()
        yield client
        await client.clear()
    site.end_daemon()


def journal_of(site: Station) -> Path:
    return site.folder / "state" / "journal.db"


async def start_shed(site: Station, instance: str) -> None:
    order = {"actor": "anna", "reason": "drill", "tiers": ["Tier3"]}
    await site.ask("instances.start", name="LoadSheddingProtocol", instance=instance, input=order)


async def wait_phase(site: Station, wanted: str) -> None:
    async def there() -> bool:
        procedure = (await site.ask("status"))["procedure"]
        return isinstance(procedure, dict) and procedure.get("phase") == wanted

    await until(there, f"phase {wanted}", START_S)


async def operated(plant: SimulatorClient) -> list[tuple[int, int]]:
    """Commands to open and movements of the tier's breakers, by their own count."""
    counters = await plant.counters()
    return [(counters[name].open_commands, counters[name].operations) for name in TIER3]


async def records(site: Station, op: str) -> list[dict[str, JsonValue]]:
    """Audit records of an operation, the newest first."""
    rows = json.loads(good(await site.cli("audit", "list", "--op", op, "--json")).out)["records"]
    return [one["told"] for one in rows]


def good(ran: Ran) -> Ran:
    assert ran.code == 0, ran
    return ran


async def test_a_backup_made_in_the_middle_of_a_shed_goes_on_with_it_on_a_clean_host(
    site: Station, plant: SimulatorClient, tmp_path: Path
) -> None:
    """The box is lost together with its disk after the first breakers have opened; another one takes over."""
    for name in TIER3:
        await plant.fault("slow", name, value=0.6)
    await start_shed(site, "carried")

    async def begun() -> bool:
        return (await operated(plant))[0] == (1, 1)

    await until(begun, "the first breaker has opened", START_S)
    await site.ask("journal.backup", target=str(tmp_path / "backup.db"))  # at once: the shed goes on meanwhile
    site.kill_daemon()
    assert (await operated(plant))[-1] == (0, 0), "the shed was over before the end of the box"
    assert verify_file(tmp_path / "backup.db").ok
    shutil.rmtree(site.folder / "state")  # another host: nothing is left of the old one's disk
    restored = good(await site.cli("journal", "restore", str(tmp_path / "backup.db"), "--actor", "olga"))
    assert f"Restored {journal_of(site)}" in restored.out
    site.start_daemon()
    await site.wait_serving(START_S)
    good(await site.cli("release", "--reason", "the new box has been looked over"))
    await wait_phase(site, "ordered")
    assert await operated(plant) == [(1, 1)] * 6, "a breaker was operated twice, or forgotten"
    (told,) = await records(site, "journal.restore")
    assert (told["status"], told["actor"], told["backup"]) == ("ok", "olga", str(tmp_path / "backup.db"))
    again = await site.cli("journal", "restore", str(tmp_path / "backup.db"))
    assert (again.code, "stop it first" in again.err) == (4, True)
    assert good(await site.cli("audit", "verify")).out.startswith("The chain is whole")


async def test_what_is_archived_can_be_verified_and_the_journal_goes_on(
    site: Station, plant: SimulatorClient, tmp_path: Path
) -> None:
    await start_shed(site, "old")
    await wait_phase(site, "ordered")
    good(await site.cli("override", "cancel-and-restore", "--reason", "drill over"))

    async def over() -> bool:
        return (await site.ask("status"))["procedure"] is None

    await until(over, "the end of the procedure", START_S)
    before = datetime.now(UTC).isoformat()
    good(await site.cli("breakers", "open", "F001-001", "--reason", "something later"))
    nothing = good(await site.cli("journal", "archive", "--before", "2020-01-01"))
    assert "Nothing was to be archived" in nothing.out
    future = await site.cli("journal", "archive", "--before", "2099-01-01")
    assert (future.code, "is still to come" in future.err) == (2, True)
    done = good(await site.cli("journal", "archive", "--before", before, "--actor", "olga"))
    assert str((await records(site, "journal.archive"))[0]["actor"]).startswith("olga")
    assert "Archived" in done.out
    (file,) = (site.folder / "state" / "archive").iterdir()
    assert file.name in done.out
    assert verify_archive(file).ok
    stats = good(await site.cli("journal", "stats")).out
    assert "nothing so far" not in stats
    assert (await site.cli("instances", "show", "old")).code == 3, "what was archived is not listed any more"
    for words in (("why", "F001-004"), ("audit", "list")):
        assert f"Older records are archived in {file.name}" in good(await site.cli(*words)).out
    assert good(await site.cli("audit", "verify")).out.startswith("The chain is whole")
    assert good(await site.cli("journal", "check")).out.startswith("The journal is sound")
    await start_shed(site, "new")
    await wait_phase(site, "ordered")
    site.kill_daemon()
    site.start_daemon()
    await site.wait_serving(START_S)
    good(await site.cli("release", "--reason", "end of the test"))
    assert (await site.ask("instances.show", instance="new"))["status"] == "Running"
    assert site.stop_daemon() == 0
    size = journal_of(site).stat().st_size
    compacted = good(await site.cli("journal", "compact"))
    assert "before" in compacted.out
    assert journal_of(site).stat().st_size <= size
    result = verify_file(journal_of(site))
    assert result.ok, result.reason
    with JournalFile.open(journal_of(site)) as opened:
        assert [one.file for one in opened.archives()] == [file.name]


async def test_a_lost_end_is_refused_until_a_person_accepts_it_and_then_it_is_on_record(
    site: Station, plant: SimulatorClient
) -> None:
    """A damaged byte in the write-ahead log: SQLite drops all behind it without a word."""
    for number in range(5):
        good(await site.cli("breakers", "block", "F001-002", "--reason", f"note {number}"))
    site.kill_daemon()
    wal = journal_of(site).with_name("journal.db-wal")
    content = bytearray(wal.read_bytes())
    assert len(content) > 40_000
    content[len(content) * 3 // 4] ^= 1
    wal.write_bytes(content)
    site.start_daemon()
    assert await site.wait_end(60.0) == 4, "systemd does not start it again at this exit code"
    assert "batches with" in site.said()
    assert "gridlatch journal accept-loss" in site.said()
    assert "Traceback" not in site.said()
    checked = await site.cli("journal", "check")
    assert (checked.code, "was acknowledged" in checked.err) == (1, True)
    accepted = good(await site.cli("journal", "accept-loss", "--reason", "the card broke", "--actor", "olga"))
    assert "is kept in" in accepted.out
    site.start_daemon()
    await site.wait_serving(START_S)
    (told,) = await records(site, "journal.accept-loss")
    assert (told["actor"], told["reason"], told["status"]) == ("olga", "the card broke", "ok")
    marked, found = told["marked_batch"], told["found_batch"]
    assert isinstance(marked, int)
    assert isinstance(found, int)
    assert found < marked

    async def warned() -> bool:
        return any("olga accepted a loss" in str(one) for one in list((await site.ask("status"))["warnings"] or []))  # type: ignore[call-overload]

    await until(warned, "people are told")
    good(await site.cli("breakers", "unblock", "F001-002", "--reason", "still here"))
    good(await site.cli("breakers", "open", "F001-002", "--reason", "still here"))
    assert good(await site.cli("audit", "verify")).out.startswith("The chain is whole")
    site.signal_daemon(signal.SIGTERM)
    assert await site.wait_end(30.0) == 0
    again = good(await site.cli("journal", "accept-loss", "--reason", "once more"))
    assert "Nothing is missing" in again.out


async def test_a_disk_that_fills_is_told_in_time_and_trends_make_room(tmp_path: Path) -> None:
    """A file system of 32 MiB for the state, which somebody else fills to 92 %; then there is room again."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("SKIPPED: a small file system needs root")
    state = tmp_path / "state"
    state.mkdir()
    mounted = await asyncio.to_thread(
        subprocess.run, ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(state)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"SKIPPED: a small file system needs the right to mount: {mounted.stderr.decode().strip()}")
    try:
        async with small_station(tmp_path, 15451, "127.0.69.11") as site:
            (state / "trend.1.csv").write_text("old\n" * 1000)
            (state / "ballast").write_bytes(bytes(29 * 2**20 + 2**19))
            site.start_daemon()
            await site.wait_serving(START_S)

            async def told() -> str:
                return " ".join(str(one) for one in list((await site.ask("status"))["warnings"] or []))  # type: ignore[call-overload]

            async def full() -> bool:
                return "92 % full" in await told() or "93 % full" in await told()

            await until(full, "people are told", 90.0)
            assert "trends are dropped, the oldest first" in await told()
            assert not (state / "trend.1.csv").exists()
            good(await site.cli("breakers", "open", "F001-001", "--reason", "control goes on"))
            (state / "ballast").unlink()

            async def over() -> bool:
                return "full" not in await told()

            await until(over, "it is over", 90.0)
            events = [one.get("event") for one in await records(site, "gateway.tr")]
            assert events == ["trouble_over", "trouble", "trend_dropped"]
            assert site.stop_daemon() == 0
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", str(state)], check=True)
