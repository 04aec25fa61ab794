"""An operator with a client of another maker: node-opcua, over real sockets, with the whole gateway behind our server.

npm fetches node-opcua once (into ``tests/interop/node/node_modules``); without npm or its registry these tests are skipped,
and say so.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from station import Station, until

from gateway.operator import names
from gateway.operator.gateway_types import GATEWAY, STRESS
from gateway.operator.roles import CALL
from gateway.operator.shedding_types import BREAKER
from protocols.opcua.pki import Pki

pytestmark = pytest.mark.asyncio(loop_scope="module")

NODE = Path(__file__).with_name("node")
HOST, PORT = "127.0.67.1", 48670
FIRST_RTU = "127.0.67.11"
URI = "urn:operator:node-opcua"
USERS = {"olga": "OPERATOR", "egon": "ENGINEER", "vera": "VIEWER", "sara": "SECADM"}
PASSWORD = "correct horse battery"
POLICIES = ("Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss")
RTUS, BREAKERS = 120, 100
ORDERED_MW = 0.05

Line = dict[str, Any]


@dataclass
class Desk:
    """A station and the means of an operator at it. client: folder of a trusted client certificate."""

    station: Station
    client: Path

    async def play(self, user: str, *steps: Line) -> list[Line]:
        """One connection of this user: a line for the connection, and one for each step."""
        return await self.play_all({"user": user, "steps": steps})

    async def play_all(self, *connections: Line) -> list[Line]:
        """What node-opcua found: for each connection a line, and one for each of its steps."""
        script = {
            "endpoint": f"opc.tcp://{HOST}:{PORT}", "policy": POLICIES[0], "namespace": names.NAMESPACE,
            "certificate": str(self.client / "cert.pem"), "key": str(self.client / "own" / "key.pem"),
            "pki": str(self.client / "node"), "applicationUri": URI, "password": PASSWORD, "connections": connections,
        }  # fmt: skip
        path = self.client / "script.json"
        path.write_text(json.dumps(script))

        def run() -> str:
            command = ["node", str(NODE / "operator.mjs"), str(path)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
            return done.stdout + ("" if '{"op"' in done.stdout else done.stderr)

        said = await asyncio.to_thread(run)
        lines = [json.loads(line) for line in said.splitlines() if line.startswith('{"op"')]
        assert lines, said[-2000:]
        return lines


def identity(folder: Path, uri: str = URI) -> Path:
    """A client's own certificate and key, as DER and as PEM."""
    Pki(folder).ensure_own(uri, ["localhost"], datetime.now(UTC))
    der = (folder / "own" / "cert.der").read_bytes()
    (folder / "cert.pem").write_text(ssl.DER_cert_to_PEM_cert(der))
    return folder


@pytest.fixture(scope="module")
def npm() -> None:
    """node-opcua is there, or these tests are skipped."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed: nothing of another maker asks the OPC UA server")
    wanted = json.loads((NODE / "package.json").read_text())["dependencies"]["node-opcua"]
    there = NODE / "node_modules" / "node-opcua" / "package.json"
    if there.exists() and json.loads(there.read_text())["version"] == wanted:
        return
    command = ["npm", "install", "--no-audit", "--no-fund", "--no-save", "--omit=optional", "--ignore-scripts"]
    done = subprocess.run(command, cwd=NODE, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        pytest.skip(f"npm could not fetch node-opcua {wanted}: {done.stderr.strip()[-300:]}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(npm: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    """12,000 breakers, a daemon with the operators' server, a client that it trusts, and a user for each role."""
    station = Station(tmp_path_factory.mktemp("node"))
    station.write_site(RTUS, BREAKERS, 15670, FIRST_RTU, {"log_level": '"warning"', "arm_pct": "199.0"})
    with (station.folder / "site.toml").open("a") as site:
        site.write(f'\n[operators]\nhost = "{HOST}"\nport = {PORT}\n')
    client = identity(station.folder / "client")
    trusted = await station.cli("certs", "trust", str(client / "cert.pem"))
    assert trusted.code == 0, trusted.err
    for user, role in USERS.items():
        added = await station.cli("users", "add", user, "--role", role, "--password-stdin", typed=PASSWORD)
        assert added.code == 0, added.err
    try:
        station.start_simulator()
        async with station.simulator():
            station.start_daemon()
            await station.wait_serving(90.0)

            async def listens() -> bool:
                operators = (await station.ask("status"))["operators"]
                assert isinstance(operators, dict)
                return operators["open"] is True

            await until(listens, "the OPC UA server to open", 90.0)
            yield Desk(station, client)
    finally:
        station.end()


def call(object_: str, method: str, *inputs: Line) -> Line:
    """A step that calls a method of an object; its type declares it."""
    kind = (
        names.BREAKER_TYPE
        if object_.startswith("Feeder/")
        else {"Gateway": names.GATEWAY_TYPE}.get(object_, names.SHEDDING_TYPE)
    )
    return {"op": "call", "object": object_, "method": f"Type/{kind}/{method}", "inputs": list(inputs)}


def text(value: str) -> Line:
    """A String."""
    return {"type": "String", "value": value}


def number(value: float | str) -> Line:
    """A Double; "NaN" for one that is not given."""
    return {"type": "Double", "value": value}


NO_TIERS = {"type": "String", "value": [], "array": True}
WHY = text("interoperation test")


async def test_each_policy_carries_a_session_that_browses_and_reads(desk: Desk) -> None:
    steps = [
        {"op": "browse", "node": "i=85"},
        {"op": "browse", "node": "Folder/Feeders", "page": 50},
        {"op": "browse", "node": "Folder/Device/RTU001", "page": 30},
        {"op": "read", "nodes": ["Gateway/Mode", "GridStress/CapacityKw", "Feeder/none/Pos"]},
    ]
    said = await desk.play_all(*({"user": "vera", "policy": policy, "steps": steps} for policy in POLICIES))
    assert len(said) == len(POLICIES) * (1 + len(steps)), said
    for first, policy in enumerate(POLICIES):
        connected, root, devices, feeders, read = said[5 * first : 5 * first + 5]
        assert connected["namespace"] > 1, (policy, connected)
        assert {"Gateway", "GridStress", "LoadShedding", "Feeders", "Orchestrations", "Timers"} <= set(root["names"])
        assert (len(devices["names"]), devices["pages"]) == (RTUS, 3), "BrowseNext goes on where the page ended"
        assert (len(set(feeders["names"])), feeders["pages"]) == (BREAKERS, 4)
        mode, capacity, nothing = read["values"]
        assert (mode["value"], mode["status"]) == ("armed", "Good")
        assert capacity["value"] > 0
        assert nothing["status"] == "BadNodeIdUnknown"


async def test_12_000_items_of_one_client_tell_their_values(desk: Desk) -> None:
    feeders = [str(row["feeder"]) for row in await desk.station.pages("breakers.list", "breakers")]
    nodes = [f"Feeder/{name}/Pos" for name in feeders]
    assert len(nodes) == RTUS * BREAKERS
    first = nodes[0]
    opened = call(f"Feeder/{feeders[0]}", "Open", WHY)
    _, found = await desk.play(
        "olga", {"op": "subscribe", "nodes": nodes, "shown": [first], "during": [opened], "wait_ms": 5000}
    )
    assert found["refused"] == []
    assert found["told"] == len(nodes)
    assert found["during"][0]["status"] == "Good", found["during"]
    assert found["last"][first] == 1, "open, as it was read back"
    assert found["changes"] > len(nodes)
    closed = (await desk.play("olga", call(f"Feeder/{feeders[0]}", "Close", WHY)))[1]
    assert closed["status"] == "Good"
    print(f"\nnode-opcua: 12,000 items made in {found['created_ms']} ms, all told after {found['complete_ms']} ms")


async def test_every_method_is_called_and_answers_with_a_sentence(desk: Desk) -> None:
    feeder = str((await desk.station.pages("breakers.list", "breakers"))[7]["feeder"])
    breaker = f"Feeder/{feeder}"
    started = call("LoadShedding", "StartShedding", number(ORDERED_MW), NO_TIERS, WHY)
    found = await desk.play(
        "olga",
        call(breaker, "Block", WHY),
        call(breaker, "Open", WHY),
        call(breaker, "Unblock", WHY),
        call(breaker, "Open", WHY),
        call(breaker, "Close", WHY),
        started,
        {"op": "pause", "ms": 3000},
        call("LoadShedding", "Override", text(""), text("hold"), text(""), WHY, number("NaN")),
        {"op": "pause", "ms": 500},
        {"op": "read", "nodes": ["LoadShedding/Phase", "LoadShedding/ShedKw"]},
        call("LoadShedding", "Override", text(""), text("resume"), text(""), WHY, number("NaN")),
        call("LoadShedding", "Override", text(""), text("cancel"), text(""), WHY, number(600.0)),
    )
    assert "error" not in found[0], found[0]
    block, refused, unblock, opened, closed, order, _, hold, _, phase, resume, cancel = found[1:]
    assert [one["status"] for one in (block, unblock, opened, closed)] == ["Good"] * 4, found
    assert refused["status"] != "Good", "a blocked breaker is not opened"
    assert order["status"] == "Good", order
    instance = order["outputs"][1]
    for word in (hold, resume, cancel):
        assert word["status"] == "Good", word
        assert word["outputs"][1] is True, f"consumed by a step: {word}"
    assert phase["values"][0]["value"] == "held"

    async def ended() -> bool:
        shown = await desk.station.ask("instances.show", instance=instance)
        return shown["status"] == "Completed"

    await until(ended, "the order to end", 60.0)
    engineer = await desk.play(
        "egon",
        call("LoadShedding", "SetMode", text("monitor"), WHY),
        call("LoadShedding", "SetMode", text("armed"), WHY),
        call("LoadShedding", "Suspend", text(instance), WHY),
        call("LoadShedding", "Resume", text(instance), WHY),
        call("LoadShedding", "Terminate", text(instance), WHY),
        call("LoadShedding", "RaiseEvent", text(instance), text("Any"), text('{"n": 1}')),
        call("Gateway", "Acknowledge", text("no/such-alarm"), WHY),
    )
    monitor, armed, *after_the_end, acknowledged = engineer[1:]
    assert (monitor["status"], armed["status"]) == ("Good", "Good")
    for one in (*after_the_end, acknowledged):
        assert "error" not in one, one
        assert one["status"] != "Good", f"{instance} has ended, and the alarm never was: {one}"
    called = {(step["method"].split("/")[1], step["method"].split("/")[2]) for step in (call(breaker, "Open"), started)}
    assert called <= set(CALL)


async def test_events_reach_a_subscriber(desk: Desk) -> None:
    order = call("LoadShedding", "StartShedding", number(ORDERED_MW), NO_TIERS, WHY)
    cancel = call("LoadShedding", "Override", text(""), text("cancel"), text(""), WHY, number("NaN"))
    during = [order, {"op": "pause", "ms": 2000}, cancel]
    _, found = await desk.play("olga", {"op": "events", "during": during, "until": "has ended", "wait_ms": 20_000})
    assert found["status"] == "Good"
    assert all(1 <= one["Severity"] <= 1000 for one in found["events"])
    said = [str(one["Message"]) for one in found["events"]]
    for words in ("has started: interoperation test", "cancel by olga", "has ended: cancelled"):
        assert any(words in sentence for sentence in said), (words, said)


async def test_history_is_read(desk: Desk) -> None:
    feeder = str((await desk.station.pages("breakers.list", "breakers"))[0]["feeder"])
    _, moves, load = await desk.play(
        "olga",
        {"op": "history", "node": f"Feeder/{feeder}/Pos", "seconds": 86_400},
        {"op": "history", "node": "GridStress/LoadKw", "seconds": 86_400},
    )
    assert moves["status"] == "Good", moves
    assert 1 in moves["values"], "it was opened"
    assert 2 in moves["values"], "and closed"
    assert load["status"] == "Good", load
    assert len(load["values"]) > 3


async def test_who_may_not_is_refused(desk: Desk) -> None:
    feeder = str((await desk.station.pages("breakers.list", "breakers"))[0]["feeder"])
    _, opened, security, written, history = await desk.play(
        "vera",
        call(f"Feeder/{feeder}", "Open", WHY),
        {"op": "read", "nodes": ["Security/Sessions"]},
        {"op": "write", "node": f"Feeder/{feeder}/Pos", "type": "Int32", "value": 1},
        {"op": "history", "node": "Security/Sessions"},
    )
    assert opened["status"] == "BadUserAccessDenied"
    assert security["values"][0]["status"] == "BadUserAccessDenied"
    assert written["status"].startswith("Bad")
    assert history["status"].startswith("Bad")
    _, officer = await desk.play("sara", {"op": "read", "nodes": ["Security/Sessions", f"Feeder/{feeder}/Pos"]})
    assert [one["status"] for one in officer["values"]] == ["Good", "BadUserAccessDenied"]


async def test_who_is_not_known_does_not_get_in(desk: Desk, tmp_path: Path) -> None:
    other = identity(tmp_path / "stranger")
    wrong: dict[str, Line] = {
        "a wrong password": {"user": "olga", "password": "wrong horse battery"},
        "an unknown user": {"user": "nobody"},
        "nobody": {"user": ""},
        "an unknown certificate": {
            "user": "olga", "certificate": str(other / "cert.pem"), "key": str(other / "own" / "key.pem"),
        },
        "no security": {"user": "olga", "policy": "None", "mode": "None"},
        "signed only": {"user": "olga", "mode": "Sign"},
        "a policy of old": {"user": "olga", "policy": "Basic128Rsa15"},
    }  # fmt: skip
    *refused, welcome = await desk.play_all(*wrong.values(), {"user": "olga"})
    assert len(refused) == len(wrong), refused
    for what, line in zip(wrong, refused, strict=True):
        assert "error" in line, f"{what}: {line}"
    assert "error" not in welcome, "who is known gets in all the same"


async def test_the_surface_is_what_the_declarations_say(desk: Desk) -> None:
    feeder = str((await desk.station.pages("breakers.list", "breakers"))[3]["feeder"])
    _, breaker, gateway, stress = await desk.play(
        "vera", *({"op": "browse", "node": node} for node in (f"Feeder/{feeder}", "Gateway", "GridStress"))
    )
    for found, declared in ((breaker, BREAKER), (gateway, GATEWAY), (stress, STRESS)):
        wanted = {each.name for each in declared.variables} | {each.name for each in declared.methods}
        assert wanted <= set(found["names"]), f"missing: {wanted - set(found['names'])}"
