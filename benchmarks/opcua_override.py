"""An operator's word by OPC UA: how long until the orchestration that waits for it has acted. One JSON line a case.

The whole gateway with 12,000 breakers on simulated RTUs, and an operator with certificate, user and password. Events are
raised by the method RaiseEvent; an orchestration waits for them and starts an activity that takes the time. ``asked``:
from the call until the activity runs; ``accepted``: from the method's answer, which often comes later than that.

* ``idle``: nothing else happens but polls.
* ``mass``: all 12,000 breakers are being opened, then closed, meanwhile.

usage: python benchmarks/opcua_override.py [--rtus 120] [--breakers 100] [--seconds 10] [--dir /var/tmp]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from asyncua import Client, ua  # noqa: E402
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256  # noqa: E402

from benchmarks.mass_shed import EVENT_EVERY_S, Rig, operate_all, write_site  # noqa: E402
from benchmarks.summary import Row, at_most, percentile  # noqa: E402
from config.loader import load_site  # noqa: E402
from gateway.operator import names  # noqa: E402
from protocols.opcua.pki import Pki  # noqa: E402
from protocols.opcua.user_file import UserFile  # noqa: E402

HOST, PORT = "127.0.66.2", 48662
URI = "urn:gridlatch:benchmark:operator"
USER, PASSWORD = "operator", "a password of this benchmark"
OPEN_S = 60.0
CASES = {"idle": "nothing else", "opening": "12,000 opened", "closing": "12,000 closed"}


@dataclass(slots=True)
class Latency:
    """Of the events of one case, milliseconds."""

    accepted_ms: list[float] = field(default_factory=list)
    asked_ms: list[float] = field(default_factory=list)
    answered_ms: list[float] = field(default_factory=list)


def let_in(folder: Path) -> None:
    """A table [operators], a trusted client, a user."""
    with (folder / "site.toml").open("a") as site:
        site.write(f'\n[operators]\nhost = "{HOST}"\nport = {PORT}\n')
    now = datetime.now(UTC)
    client = Pki(folder / "client")
    client.ensure_own(URI, [HOST], now)
    (folder / "client.der").write_bytes(client.own().der)
    Pki(folder / "pki").trust(folder / "client.der", now)
    UserFile(folder / "users.toml").add(USER, PASSWORD, ["ENGINEER"])


async def operator(folder: Path) -> Client:
    """A client, not connected yet."""
    client = Client(f"opc.tcp://{HOST}:{PORT}", timeout=30)
    client.application_uri = URI
    client.set_user(USER)
    client.set_password(PASSWORD)
    server = folder / "server.der"
    server.write_bytes(Pki(folder / "pki").own().der)
    key = Pki(folder / "client").own().key_path
    await client.set_security(
        SecurityPolicyBasic256Sha256, str(folder / "client.der"), str(key), server_certificate=str(server)
    )
    return client


async def until_open(rig: Rig) -> None:
    """Wait for the OPC UA server."""
    deadline = time.monotonic() + OPEN_S
    while True:
        told = (await rig.ask("status"))["operators"]
        if isinstance(told, dict) and told["open"]:
            return
        if time.monotonic() > deadline:
            raise SystemExit("the OPC UA server does not open")
        await asyncio.sleep(0.1)


async def raise_events(client: Client, rig: Rig, instance: str, numbers: Iterator[int], found: Latency) -> None:
    """Raise events until cancelled; then their latencies are in ``found``."""
    index = await client.get_namespace_index(names.NAMESPACE)
    target = client.get_node(ua.NodeId(names.SHEDDING, index))
    method = ua.NodeId(f"Type/{names.SHEDDING_TYPE}/RaiseEvent", index)
    asked: dict[int, float] = {}
    answered: dict[int, float] = {}
    try:
        while True:
            number = next(numbers)
            asked[number] = time.monotonic()
            texts = (instance, "Ping", json.dumps({"number": number}))
            await asyncio.shield(target.call_method(method, *(ua.Variant(one, ua.VariantType.String) for one in texts)))
            answered[number] = time.monotonic()
            await asyncio.sleep(EVENT_EVERY_S)
    finally:
        await asyncio.sleep(1.0)
        for line in (rig.folder / "stamps").read_text().splitlines():
            number, at_s = int(line.split()[0]), float(line.split()[1])
            if number in answered:
                found.asked_ms.append((at_s - asked[number]) * 1e3)
                found.accepted_ms.append(max(0.0, at_s - answered[number]) * 1e3)
                found.answered_ms.append((answered.pop(number) - asked[number]) * 1e3)
        if answered:
            raise SystemExit(f"{len(answered)} events were accepted and nobody reacted")


async def case(name: str, client: Client, rig: Rig, numbers: Iterator[int], seconds: float) -> Latency:
    """One case."""
    found = Latency()
    (rig.folder / "stamps").write_text("")
    instance = f"react-{name}"
    await rig.ask("instances.start", name="React", instance=instance)
    raising = asyncio.create_task(raise_events(client, rig, instance, numbers, found))
    feeders = [feeder.name for feeder in load_site(rig.folder / "site.toml").feeders]
    if name == "idle":
        await asyncio.sleep(seconds)
    else:
        activity = "SendDisconnectCommand" if name == "opening" else "SendReconnectCommand"
        await operate_all(rig, activity, feeders, f"mass-{name}")
    raising.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await raising
    await rig.ask("instances.raise", instance=instance, event="Ping", data={"number": -1})
    await rig.settle()
    return found


def tell(name: str, found: Latency) -> None:
    """One JSON line."""
    figures = {
        what: {f"p{p}": round(percentile(values, p), 1) for p in (50, 99, 100)}
        for what, values in (
            ("accepted_to_reacted_ms", found.accepted_ms),
            ("asked_to_reacted_ms", found.asked_ms),
            ("asked_to_answered_ms", found.answered_ms),
        )
    }
    words = f"OPC UA event asked → reacted, {CASES[name]}"
    rows: list[Row] = [
        at_most(f"{words}: p50", percentile(found.asked_ms, 50), "ms", None),
        at_most(f"{words}: p99", percentile(found.asked_ms, 99), "ms", 100.0),
    ]
    line = {"bench": "opcua_override", "case": name, "events": len(found.asked_ms), **figures, "table": rows}
    print(json.dumps(line), flush=True)


async def run(folder: Path, arguments: argparse.Namespace) -> None:
    """All cases."""
    write_site(folder, arguments.rtus, arguments.breakers)
    let_in(folder)
    rig, numbers = Rig(folder), itertools.count(1)
    try:
        await rig.start_daemon()
        await until_open(rig)
        await rig.settle()
        async with await operator(folder) as client:
            for name in CASES:
                tell(name, await case(name, client, rig, numbers, arguments.seconds))
    finally:
        rig.end()


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rtus", type=int, default=120)
    parser.add_argument("--breakers", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the idle case")
    parser.add_argument("--dir", type=Path, default=Path("/var/tmp"), help="a folder on the disk to measure")
    arguments = parser.parse_args()
    logging.getLogger("asyncua").setLevel(logging.ERROR)
    folder = Path(tempfile.mkdtemp(dir=arguments.dir, prefix="opcua_override."))
    try:
        asyncio.run(run(folder, arguments))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
