"""A daemon to be attacked: its station, what its journal says of whom, and a shed that shows whether it still works."""

from __future__ import annotations

import base64
import contextlib
import math
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from asyncua import ua
from asyncua.ua.uaerrors import UaStatusCodeError
from opcua_house import PASSWORD, Endpoint, Keys, Peer, node, until
from operators_client import equip, listening, person, text
from station import SMALL, TRAVEL_S, Station, station
from station import until as wait_until

from protocols.opcua.pki import Pki
from protocols.opcua.surface import Argument, DataType
from simulators.client import SimulatorClient

PORT = 15361
URL = f"opc.tcp://127.0.0.1:{PORT}"
OPERATORS = ("--peak-pct", "40", "--operators", f"127.0.0.1:{PORT}")
SESSIONS = 12
FEEDER = "F001-001"
SHEDDABLE = 8
"""Of the ten breakers."""
USERS = {"olga": "OPERATOR", "vera": "VIEWER", "enno": "ENGINEER", "sara": "SECADM", "adam": "AUDITOR"}

GUESS = "guess-5b0c2f"
"""A password that nobody has, and that attackers try."""
WRONG_INSIDE = ("defect", "Traceback", "never retrieved", "_failed", "critical", "could not be recorded")
"""What the log says of trouble of the daemon's own."""
GROWTH_MB = 20
"""More than this and the daemon has kept something of its attackers; seen: 3."""
Caller = Callable[..., Peer]
"""Makes a client: by the name of its certificate, and what else ``Peer`` takes."""


@contextlib.asynccontextmanager
async def attacked_station(folder: Path, *trusted: Keys) -> AsyncIterator[Station]:
    """Two RTUs with five breakers each, and a daemon with a user of each role. trusted: also those that have expired."""
    settings = {**SMALL, "port": f"{PORT}\nmax_sessions = {SESSIONS}"}
    async with station(folder, 2, 5, PORT - 1, "127.0.73.1", settings, OPERATORS, TRAVEL_S) as made:
        equip(folder, **USERS)
        for keys in trusted:
            path = folder / f"{keys.name}.der"
            path.write_bytes(keys.der)
            Pki(folder / "pki").trust(path, keys.certificate.not_valid_before_utc + timedelta(minutes=1))
        made.start_daemon()
        await made.wait_serving()
        await made.wait_links_up()
        await listening(PORT)
        yield made
        assert made.stop_daemon() == 0


def endpoint(site: Station) -> Endpoint:
    """Where clients go."""
    return Endpoint("127.0.0.1", PORT, Keys("daemon", "", (site.folder / "pki/own/cert.der").read_bytes(), None))


def megabytes(site: Station) -> float:
    """The daemon's memory."""
    (line,) = (each for each in Path(f"/proc/{site.pid}/status").read_text().splitlines() if each.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def look_over(site: Station, plant: SimulatorClient, before_mb: float, tokens: Sequence[bytes]) -> None:
    """The daemon is as it was: it serves operators and the command line, kept every secret, and has had no trouble."""
    async with person(site.folder, URL, "olga") as olga:
        for method, position in (("Open", "open"), ("Close", "closed")):
            result = await olga.call(f"Feeder/{FEEDER}", "BreakerType", method, text("relay test"))
            assert result.StatusCode.is_good(), result
            assert (await plant.counters_of(FEEDER)).position == position
    asked = (("status",), ("status", "--json"), ("breakers", "list"), ("audit", "verify"), ("report",))
    ran = [await site.cli(*words) for words in asked]
    assert [each.code for each in ran] == [0] * len(asked), ran
    files = [path.read_bytes() for path in site.folder.rglob("*") if path.is_file()]
    everything = b"\n".join([*files, *(each.out.encode() for each in ran)])
    assert b'"olga"' in everything, "nothing can be found in here"
    shown = [form for each in tokens for form in (each, each.hex().encode(), base64.b64encode(each))]
    for secret in (PASSWORD.encode(), GUESS.encode(), *shown):
        assert secret not in everything, secret
    status = await site.ask("status")
    operators = status["operators"]
    assert isinstance(operators, dict)
    assert (operators["defects"], operators["failing"], status["warnings"]) == (0, {}, [])
    assert [word for word in WRONG_INSIDE if word in site.log_text()] == []
    assert megabytes(site) < before_mb + GROWTH_MB


def records(site: Station) -> list[dict[str, Any]]:
    """Audit records, as they are on disk."""
    path = f"file:{site.folder}/state/journal.db?mode=ro"
    with contextlib.closing(sqlite3.connect(path, uri=True)) as database:
        rows = database.execute("SELECT payload FROM records WHERE kind = 'audit' ORDER BY seq").fetchall()
    return [msgspec.json.decode(payload) for (payload,) in rows]


def told(site: Station, address: str, op: str) -> list[str]:
    """What the journal says of one address, by operation."""
    mine = (one for one in records(site) if str(one.get("peer", {}).get("address", "")).startswith(address + ":"))
    return [one.get("detail", one.get("message", "")) for one in mine if one["op"] == f"opcua.{op}"]


async def kept(site: Station, address: str, op: str, words: str, number: int = 1) -> None:
    """Wait until so many refusals of this address are on record, each for this reason."""
    try:
        await until(lambda: len(told(site, address, op)) >= number)
    except TimeoutError:
        raise AssertionError([one for one in records(site) if address in str(one)]) from None
    found = told(site, address, op)
    assert len(found) == number, found
    assert all(words in each for each in found), found


async def code(attempt: Any) -> int:
    """The code that a request was refused with."""
    with pytest.raises(UaStatusCodeError) as refused:
        await attempt
    return int(refused.value.code)


def fitting(argument: Argument) -> ua.Variant:
    """A value of the right type that says nothing."""
    match argument.type:
        case DataType.STRING if argument.array:
            return ua.Variant([], ua.VariantType.String, is_array=True)
        case DataType.STRING:
            return ua.Variant("", ua.VariantType.String)
        case DataType.DOUBLE:
            return ua.Variant(math.nan, ua.VariantType.Double)
    raise AssertionError(argument)


async def shed_and_restore(olga: Peer, plant: SimulatorClient) -> tuple[set[str], float]:
    """Shed all tiers, and close again: which breakers opened (each once), and how many seconds that took."""

    async def all_open() -> bool:
        return (await plant.state())["open"] == SHEDDABLE

    async def ended() -> bool:
        return (await olga.read(node("LoadShedding/Running")))[0].Value.Value is False

    before = await plant.counters()
    tiers = ua.Variant(["Tier1", "Tier2", "Tier3"], ua.VariantType.String, is_array=True)
    nan = ua.Variant(math.nan, ua.VariantType.Double)
    began = time.monotonic()
    result = await olga.call("LoadShedding", "Type/LoadSheddingType/StartShedding", nan, tiers, text("exercise"))
    assert result.StatusCode.is_good(), result
    await wait_until(all_open, "the shed", 90)
    took = time.monotonic() - began
    words = map(text, ("", "cancel-and-restore", "", "over"))
    result = await olga.call("LoadShedding", "Type/LoadSheddingType/Override", *words, nan)
    assert result.StatusCode.is_good(), result
    await wait_until(ended, "the end of the procedure", 90)
    after = await plant.counters()
    moved = {name for name in after if after[name].operations != before[name].operations}
    for name in moved:
        assert after[name].open_commands == before[name].open_commands + 1, name
        assert after[name].close_commands == before[name].close_commands + 1, name
    return moved, took
