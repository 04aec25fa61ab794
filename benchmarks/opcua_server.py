"""The operators' OPC UA server beside a bare asyncua server: one JSON line a case.

Each server runs in a process of its own, on loopback, with 12,000 breakers (the bare one: the same variables of a tenth of
them, for its build takes time and memory with each). The same asyncua client asks both, over Basic256Sha256 with
SignAndEncrypt, certificate, user and password. Nothing of the gateway is behind ours: calls are answered at once.

* ``start``: until the server listens, and what the process has grown by then. The bare server's are ten times those of
  its tenth.
* ``calls``: method calls a second, one after the other and ten at once.
* ``subscribe``: seconds until 12,000 items of one client have told their first value.
* ``changes``: 1,000 variables a second change; from the change in the server until the client has it, publishing interval
  50 ms.
* ``stall``: longest time that the server's event loop did not turn, over ``subscribe`` and ``changes``.

usage: python benchmarks/opcua_server.py [--rtus 120] [--breakers 100] [--seconds 10]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from asyncua import Client, Node, Server, ua  # noqa: E402
from asyncua.crypto.permission_rules import User, UserRole  # noqa: E402
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256  # noqa: E402
from asyncua.server.user_managers import UserManager  # noqa: E402

from benchmarks.processes import usage  # noqa: E402
from benchmarks.summary import Row, at_least, at_most, percentile  # noqa: E402
from config.loader import load_site  # noqa: E402
from config.models import Site  # noqa: E402
from gateway.clock import wall_now  # noqa: E402
from gateway.operator import names  # noqa: E402
from gateway.operator.shedding_types import BREAKER  # noqa: E402
from gateway.operator.surface_model import build_surface  # noqa: E402
from protocols.opcua.pki import Pki  # noqa: E402
from protocols.opcua.server import OperatorServer, ServerSettings  # noqa: E402
from protocols.opcua.surface import (  # noqa: E402
    Answer,
    Caller,
    Change,
    Deed,
    EventPage,
    HistoryPage,
    Sample,
    Status,
    Value,
)
from protocols.opcua.user_file import UserFile  # noqa: E402
from protocols.opcua.users import Doorman  # noqa: E402

HOST = "127.0.66.1"
URI = "urn:gridlatch:benchmark"
USER, PASSWORD = "operator", "a password of this benchmark"
RATE = 1000
TICK_S = 0.05
CHUNK = 1000
SHARE = 10
"""The bare server has one in so many breakers."""
CHANGED = "MW"


class Backend:
    """A gateway that permits all and answers at once; satisfies ``surface.Backend``."""

    def may_read(self, caller: Caller, type_name: str, variable: str) -> bool:
        """See Backend."""
        return True

    def may_call(self, caller: Caller, type_name: str, method: str) -> bool:
        """See Backend."""
        return True

    def may_see_events(self, caller: Caller, event_type: str) -> bool:
        """See Backend."""
        return True

    async def call(
        self, caller: Caller, object_key: str, type_name: str, method: str, inputs: tuple[Value, ...]
    ) -> Answer:
        """See Backend."""
        return Answer(Status.OK, "done")

    async def acknowledge(self, caller: Caller, alarm_key: str, comment: str) -> Answer:
        """See Backend."""
        return Answer(Status.OK, "done")

    async def history(
        self, object_key: str, variable: str, start_us: int, end_us: int, limit: int, after: str, newest_first: bool
    ) -> HistoryPage:
        """See Backend."""
        return HistoryPage([])

    async def event_history(self, start_us: int, end_us: int, limit: int, after: str, newest_first: bool) -> EventPage:
        """See Backend."""
        return EventPage([])

    def tell(self, deed: Deed) -> None:
        """See Backend."""


class Anybody(UserManager):
    """The bare server's: who knows the password."""

    def get_user(
        self, iserver: object, username: object = None, password: object = None, certificate: object = None
    ) -> User | None:
        """See UserManager."""
        return User(role=UserRole.Admin) if password == PASSWORD else None


# The servers


class Turning:
    """Looks how long the event loop does not turn."""

    def __init__(self) -> None:
        self.longest_s = 0.0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            self.longest_s = max(self.longest_s, time.monotonic() - before - 0.005)


async def serve_ours(site: Site, folder: Path) -> None:
    """The operators' server."""
    pki = Pki(folder / "server")
    surface = build_surface(site)
    began, rss_mb = time.monotonic(), usage_mb()
    settings = ServerSettings(HOST, 0, URI)
    server = OperatorServer(
        settings, pki, Doorman(UserFile(folder / "users.toml"), 5, 300.0), surface, Backend(), now=wall_now
    )
    await server.start()
    keys = [names.feeder_key(feeder.name) for feeder in site.feeders]

    def change(place: int) -> None:
        server.change([Change(keys[place % len(keys)], CHANGED, Sample(time.monotonic()))])

    say(port=server.port, build_s=time.monotonic() - began, grown_mb=usage_mb() - rss_mb)
    await obey(change)
    await server.stop()


async def serve_bare(site: Site, folder: Path) -> None:
    """asyncua as it comes, with folders and variables made by its own calls."""
    own = Pki(folder / "server").own()
    certificate = folder / "server.der"
    certificate.write_bytes(own.der)
    began, rss_mb = time.monotonic(), usage_mb()
    server = Server(user_manager=Anybody())
    await server.init()
    await server.set_application_uri(URI)
    server.set_endpoint(f"opc.tcp://{HOST}:{free_port()}")
    server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])
    await server.load_certificate(str(certificate))
    await server.load_private_key(str(own.key_path))
    index = await server.register_namespace(names.NAMESPACE)
    nodes = []
    feeders = site.feeders[::SHARE]
    for first in range(0, len(feeders), 100):
        place = await server.nodes.objects.add_folder(index, f"{first}")
        for feeder in feeders[first : first + 100]:
            key = names.feeder_key(feeder.name)
            one = await place.add_object(ua.NodeId(key, index), f"{index}:{feeder.name}")
            for variable in BREAKER.variables:
                node = await one.add_variable(
                    ua.NodeId(f"{key}/{variable.name}", index), f"{index}:{variable.name}", 0.0
                )
                nodes.append(node.nodeid)

    async def answer(parent: ua.NodeId, reason: ua.Variant) -> list[ua.Variant]:
        return [ua.Variant("done", ua.VariantType.String)]

    await server.nodes.objects.add_method(
        ua.NodeId("Block", index), f"{index}:Block", answer, [ua.VariantType.String], [ua.VariantType.String]
    )
    await server.start()
    space = server.iserver.aspace

    def change(place: int) -> None:
        value = ua.DataValue(ua.Variant(time.monotonic(), ua.VariantType.Double))
        writing.append(asyncio.ensure_future(
            space.write_attribute_value(nodes[place % len(nodes)], ua.AttributeIds.Value, value)
        ))  # fmt: skip
        if len(writing) > 2 * RATE:
            del writing[:RATE]

    writing: list[asyncio.Future[object]] = []
    port = server.bserver.port
    say(port=port, build_s=time.monotonic() - began, grown_mb=usage_mb() - rss_mb)
    await obey(change)
    await server.stop()


async def obey(change: Callable[[int], None]) -> None:
    """Commands of the parent: a number of seconds during which values change, or the end."""
    gc.collect()  # as the daemon does once it is up, see _spare_the_loop
    gc.freeze()
    gc.set_threshold(10_000, 50, 1_000)
    turning = Turning()
    watching = asyncio.ensure_future(turning.run())
    loop = asyncio.get_running_loop()
    try:
        while line := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
            if line == "stall":
                say(longest_ms=turning.longest_s * 1e3)
                turning.longest_s = 0.0
                continue
            began, done, until = loop.time(), 0, loop.time() + float(line)
            while (now := loop.time()) < until:
                due = int((now - began) * RATE)
                for place in range(done, due):
                    change(place)
                done = due
                await asyncio.sleep(TICK_S / 10)
            say(changes=done)
    finally:
        watching.cancel()


def usage_mb() -> float:
    """Resident memory of this process."""
    return usage(os.getpid()).rss_mb


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def say(**what: float) -> None:
    """One line to the parent."""
    print(json.dumps(what), flush=True)


# The client


class Told:
    """Hears data changes. first: nodes that have told a value; late_ms: of changes that carry their time."""

    def __init__(self) -> None:
        self.first: set[str] = set()
        self.late_ms: list[float] = []
        self.measuring = False

    def datachange_notification(self, node: object, value: object, data: object) -> None:
        """See asyncua's subscription handler."""
        if self.measuring and isinstance(value, float) and value > 0:
            self.late_ms.append((time.monotonic() - value) * 1e3)
        else:
            self.first.add(str(node))


@dataclass
class Figures:
    """What one server gave."""

    build_s: float
    grown_mb: float
    calls_s: float
    calls_10_s: float
    subscribe_s: float
    late_ms: list[float]
    sent: int
    stall_ms: float


class Peer:
    """A server in a process of its own."""

    def __init__(self, kind: str, folder: Path) -> None:
        command = [sys.executable, str(Path(__file__)), "--serve", kind, "--folder", str(folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    async def ask(self, line: str = "") -> dict[str, float]:
        """Send a command and wait for the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if line:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
        said = await asyncio.to_thread(self._process.stdout.readline)
        if not said:
            raise SystemExit("the server ended")
        found: dict[str, float] = json.loads(said)
        return found

    def end(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@contextlib.asynccontextmanager
async def session(folder: Path, port: int) -> AsyncIterator[Client]:
    """A client with certificate, user and password."""
    client = Client(f"opc.tcp://{HOST}:{port}", timeout=30)
    client.application_uri = f"{URI}:client"
    own = Pki(folder / "client").own()
    certificate = folder / "client.der"
    certificate.write_bytes(own.der)
    server = folder / "server-known.der"
    server.write_bytes(Pki(folder / "server").own().der)
    client.set_user(USER)
    client.set_password(PASSWORD)
    await client.set_security(
        SecurityPolicyBasic256Sha256, str(certificate), str(own.key_path), server_certificate=str(server)
    )
    async with client:
        yield client


async def measure(kind: str, site: Site, folder: Path, seconds: float) -> Figures:
    """All cases with one server."""
    peer = Peer(kind, folder)
    try:
        start = await peer.ask()
        async with session(folder, int(start["port"])) as client:
            index = await client.get_namespace_index(names.NAMESPACE)
            some = site.feeders if kind == "ours" else site.feeders[::SHARE]
            keys = [names.feeder_key(feeder.name) for feeder in some]
            ours = kind == "ours"
            target = client.get_node(ua.NodeId(keys[0], index)) if ours else client.nodes.objects
            method = ua.NodeId(f"Type/{names.BREAKER_TYPE}/Block" if ours else "Block", index)
            one = await calls(target, method, 1, 3.0)
            ten = await calls(target, method, 10, 3.0)
            await peer.ask("stall")
            told = Told()
            # Ours: one value of each breaker; the bare one: as many variables, of a tenth of the breakers.
            wanted = (
                [f"{key}/{CHANGED}" for key in keys]
                if ours
                else [f"{key}/{each.name}" for key in keys for each in BREAKER.variables][: len(site.feeders)]
            )
            began = time.monotonic()
            subscription = await client.create_subscription(50, told)
            for first in range(0, len(wanted), CHUNK):
                part = [client.get_node(ua.NodeId(name, index)) for name in wanted[first : first + CHUNK]]
                await subscription.subscribe_data_change(part, queuesize=10)
            while len(told.first) < len(wanted) and time.monotonic() < began + 60:  # noqa: ASYNC110 - heard by a callback of the client
                await asyncio.sleep(0.01)
            subscribe_s = time.monotonic() - began
            if len(told.first) < len(wanted):
                raise SystemExit(f"{kind}: {len(told.first)} of {len(wanted)} items have told a value")
            told.measuring = True
            done = await peer.ask(str(seconds))
            await asyncio.sleep(1.0)
            stall = await peer.ask("stall")
            return Figures(
                start["build_s"], start["grown_mb"], one, ten, subscribe_s, told.late_ms, int(done["changes"]),
                stall["longest_ms"],
            )  # fmt: skip
    finally:
        peer.end()


async def calls(target: Node, method: ua.NodeId, at_once: int, seconds: float) -> float:
    """Calls a second by so many callers of one session."""
    done = 0
    until = time.monotonic() + seconds

    async def caller() -> None:
        nonlocal done
        while time.monotonic() < until:
            await target.call_method(method, ua.Variant("a reason", ua.VariantType.String))
            done += 1

    await asyncio.gather(*(caller() for _ in range(at_once)))
    return done / seconds


def tell(case: str, table: Iterable[Row], **figures: object) -> None:
    """One JSON line."""
    print(json.dumps({"bench": "opcua_server", "case": case, **figures, "table": list(table)}), flush=True)


def tell_all(ours: Figures, bare: Figures) -> None:
    """All cases, ours beside bare."""
    tell(
        "start",
        [
            at_most("OPC UA server, 12,000 breakers built", ours.build_s, "s", None, SHARE * bare.build_s),
            at_most("OPC UA server, built: at most 10 s", ours.build_s, "s", 10.0),
            at_most("OPC UA server, memory", ours.grown_mb, "MB", 350.0),
        ],
        build_s=round(ours.build_s, 2), grown_mb=round(ours.grown_mb),
        bare_tenth_build_s=round(bare.build_s, 2), bare_tenth_grown_mb=round(bare.grown_mb),
    )  # fmt: skip
    tell(
        "calls",
        [
            at_least("OPC UA calls, one at a time", ours.calls_s, "/s", None, bare.calls_s),
            at_least("OPC UA calls, ten at once", ours.calls_10_s, "/s", None, bare.calls_10_s),
        ],
    )
    tell("subscribe", [at_most("OPC UA, 12,000 items subscribed", ours.subscribe_s, "s", None, bare.subscribe_s)])
    p50, p99 = (percentile(ours.late_ms, p) for p in (50, 99))
    bare_p50, bare_p99 = (percentile(bare.late_ms, p) for p in (50, 99))
    tell(
        "changes",
        [
            at_most("OPC UA, 1,000 changes/s: late p50", p50, "ms", None, bare_p50),
            at_most("OPC UA, 1,000 changes/s: late p99", p99, "ms", None, bare_p99),
        ],
        sent=ours.sent, told=len(ours.late_ms), bare_sent=bare.sent, bare_told=len(bare.late_ms),
    )  # fmt: skip
    if len(ours.late_ms) != ours.sent:
        raise SystemExit(f"{ours.sent} values changed and {len(ours.late_ms)} were told")
    tell("stall", [at_most("OPC UA, longest stall of the loop", ours.stall_ms, "ms", 100.0, None)], bare=bare.stall_ms)


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rtus", type=int, default=120)
    parser.add_argument("--breakers", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the changes")
    parser.add_argument("--serve", choices=("ours", "bare"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    logging.getLogger("asyncua").setLevel(logging.ERROR)
    if arguments.serve:
        site = load_site(arguments.folder / "site.toml")
        asyncio.run((serve_ours if arguments.serve == "ours" else serve_bare)(site, arguments.folder))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shape = ["--rtus", str(arguments.rtus), "--breakers", str(arguments.breakers), "--port", "25030"]
        command = [sys.executable, "-m", "simulators", "site", str(folder), *shape]
        subprocess.run(command, cwd=HERE.parent, check=True, stdout=subprocess.DEVNULL)
        now = datetime.now(UTC)
        server, client = Pki(folder / "server"), Pki(folder / "client")
        server.ensure_own(URI, [HOST], now)
        client.ensure_own(f"{URI}:client", [HOST], now)
        (folder / "client.der").write_bytes(client.own().der)
        server.trust(folder / "client.der", now)
        UserFile(folder / "users.toml").add(USER, PASSWORD, ["OPERATOR"])
        site = load_site(folder / "site.toml")
        ours = asyncio.run(measure("ours", site, folder, arguments.seconds))
        bare = asyncio.run(measure("bare", site, folder, arguments.seconds))
        tell_all(ours, bare)


if __name__ == "__main__":
    main()
