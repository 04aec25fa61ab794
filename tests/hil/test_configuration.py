"""A wrong configuration, a program that can't be used, a journal that can't be: nothing starts, and it is said why."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

import pytest
from station import Ran, Station, small_station

from gateway.durable.store import Batch, InstanceRow
from journal import Journal


async def start(site: Station) -> Ran:
    """Run the daemon, which is to end at once."""
    ran = await site.cli("run", str(site.folder), timeout_s=20.0)
    assert "Traceback" not in ran.err
    return ran


async def connections(site: Station) -> object:
    async with site.simulator() as plant:
        return (await plant.state())["connections"]


async def test_a_wrong_configuration_tells_every_problem_at_once_and_starts_nothing(tmp_path: Path) -> None:
    async with small_station(
        tmp_path, 15308, "127.0.8.31", stage_pct='"most"', arm_pct="90.0", programs='["none.py"]'
    ) as site:
        assert await connections(site) == 0
        feeders = site.folder / "feeders.csv"
        feeders.write_text(feeders.read_text().replace("F001-001,RTU001", "F001-001,RTU999"))
        ran = await start(site)
        assert (ran.code, ran.out) == (2, "")
        for words in ("stage_pct", "arm_pct", "none.py", "RTU999"):
            assert words in ran.err
        assert "feeders.csv:2:" in ran.err
        assert "write instead" in ran.err
        assert f"{ran.err.count('write instead')} problems; nothing was started" in ran.err
        assert not (site.folder / "state").exists()
        assert await connections(site) == 0


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("def Broken(context:\n", "SyntaxError"),
        ("import no_such_module\n", "no_such_module"),
        ("import sys\nsys.exit(0)\n", "SystemExit"),
        ("def Forgotten(ctx):\n    yield ctx\n", "offers nothing"),
        ("def LoadSheddingProtocol(context):\n    yield context\n", "LoadSheddingProtocol"),
    ],
    ids=["syntax", "import", "exits", "empty", "taken"],
)
async def test_a_program_that_cannot_be_used_is_named_and_nothing_starts(
    tmp_path: Path, program: str, words: str
) -> None:
    async with small_station(tmp_path, 15309, "127.0.8.41", programs='["own.py"]') as site:
        (site.folder / "own.py").write_text(program)
        ran = await start(site)
        assert ran.code == 2
        assert "the program " in ran.err
        assert "own.py can" in ran.err or "own.py offers" in ran.err
        assert words in ran.err
        assert await connections(site) == 0


async def test_a_journal_of_a_newer_version_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    async with small_station(tmp_path, 15310, "127.0.8.51") as site:
        site.start_daemon()
        await site.wait_serving()
        assert site.stop_daemon() == 0
        journal = site.folder / "state" / "journal.db"
        with sqlite3.connect(journal) as database:
            version = database.execute("PRAGMA user_version").fetchone()[0]
            database.execute(f"PRAGMA user_version = {version + 1}")
        database.close()
        before = hashlib.sha256(journal.read_bytes()).hexdigest()
        ran = await start(site)
        assert ran.code == 4, "the service manager does not start it again"
        assert "this software knows versions up to" in ran.err
        assert hashlib.sha256(journal.read_bytes()).hexdigest() == before
        with sqlite3.connect(journal) as database:
            database.execute(f"PRAGMA user_version = {version}")
        database.close()
        site.start_daemon()
        await site.wait_serving()
        assert site.stop_daemon() == 0


async def test_a_breaker_that_this_version_can_t_read_is_said_and_nothing_starts(tmp_path: Path) -> None:
    async with small_station(tmp_path, 15316, "127.0.8.81") as site:
        site.start_daemon()
        await site.wait_serving()
        assert (await site.cli("breakers", "block", "F001-001", "--reason", "so that it has a state")).code == 0
        assert site.stop_daemon() == 0
        file = site.folder / "state" / "journal.db"
        with sqlite3.connect(file) as database:
            columns = ", ".join(InstanceRow._fields)
            found = database.execute(f"SELECT {columns} FROM instances WHERE instance = '@breaker@F001-001'").fetchone()
        database.close()
        batch = Batch()
        batch.time_us = found[6] + 1
        batch.instances[found[0]] = InstanceRow(*found[:-1], b'{"state":{"phase":"dancing"}}')
        journal = await Journal.open(file)
        await journal.commit(batch)
        await journal.close()
        ran = await start(site)
        assert ran.code == 1
        assert "the journal holds a breaker's state that this version can't read: " in ran.err
        assert await connections(site) == 0


async def test_a_file_in_the_place_of_the_socket_or_the_state_is_not_touched(tmp_path: Path) -> None:
    async with small_station(tmp_path, 15311, "127.0.8.61") as site:
        site.socket.write_text("mine")
        ran = await start(site)
        assert (ran.code, site.socket.read_text()) == (1, "mine")
        assert "is no socket" in ran.err
        site.socket.unlink()
        site.change_site({"state_dir": '"site.toml"'})
        ran = await start(site)
        assert ran.code in (1, 2)
        assert "site.toml" in ran.err


async def test_a_journal_of_another_station_is_not_taken_over(tmp_path: Path) -> None:
    async with small_station(tmp_path, 15315, "127.0.8.71") as site:
        site.start_daemon()
        await site.wait_serving()
        await site.ask("mode", mode="armed", reason="so that the station has a state", actor="test")
        assert site.stop_daemon() == 0
        file = site.folder / "site.toml"
        text = file.read_text()
        name = next(line for line in text.splitlines() if line.startswith("name = "))
        file.write_text(text.replace(name, 'name = "Elsewhere"', 1))
        ran = await start(site)
        assert ran.code == 1
        assert "put the name back, or choose another state_dir" in ran.err
        file.write_text(text)
        site.start_daemon()
        await site.wait_serving()
        assert site.stop_daemon() == 0
