"""A server for operators whose values count, to be killed and started anew, and asked what it holds.

Run as a script, it takes words from its standard input: ``start BASE`` forks a process that serves, with counters that
begin at BASE; ``kill`` pulls its plug, ``stop`` ends it in order. Forking spares the imports of each start, nothing else:
the process builds its address space, takes the port and reads certificates and users as any other. What it holds is
told, as a line of JSON, to whoever connects to ``state.sock`` in its folder.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import structlog
from opcua_house import NAMESPACE, PASSWORD, FakeBackend

from benchmarks.processes import usage
from gateway.clock import wall_now
from protocols.opcua.hardening import Limits, ServerSettings
from protocols.opcua.pki import Pki
from protocols.opcua.server import OperatorServer
from protocols.opcua.surface import Change, DataType, Deed, Doing, Folder, Object, ObjectType, Sample, Surface, Variable
from protocols.opcua.users import Doorman, UserFile

URI = "urn:test:counting"
USER = "operator"
COUNTERS = tuple(f"Counter/C{number}" for number in range(20))
STEP_S = 0.04
"""Each counter counts so often: 500 changes a second in all."""
IDLE_S = 5.0
LIMITS = Limits(session_timeout_min_s=0.5, connections_burst=1000, connections_per_s=100.0)
"""Those of the server, but for one address that comes and goes many times, and an idle time that a test can wait for."""


class Silent(FakeBackend):
    """Keeps nothing, so that what grows is the server's; what went wrong is in the log."""

    def tell(self, deed: Deed) -> None:
        """See Backend."""
        if deed.doing not in (Doing.LOGIN, Doing.LOGOUT):
            print(f"{deed.doing.value}: {deed.detail}", file=sys.stderr, flush=True)


def equip(folder: Path, host: str) -> None:
    """Certificates of the server and of a client that it trusts, and a user."""
    now = datetime.now(UTC)
    server, client = Pki(folder / "server"), Pki(folder / "client")
    server.ensure_own(URI, [host], now)
    client.ensure_own(f"{URI}:client", [host], now)
    (folder / "server.der").write_bytes(server.own().der)
    (folder / "client.der").write_bytes(client.own().der)
    server.trust(folder / "client.der", now)
    UserFile(folder / "users.toml").add(USER, PASSWORD, ["OPERATOR"])


def surface() -> Surface:
    """Twenty counters."""
    counter = ObjectType("CounterType", "counts", (Variable("N", DataType.INT64, "the number"),), ())
    objects = tuple(Object(key, key, "Folder/Counters", "CounterType") for key in COUNTERS)
    return Surface(NAMESPACE, (counter,), (), (Folder("Folder/Counters", "Counters"),), objects)


async def serve(folder: Path, host: str, port: int, base: int) -> None:
    """Serve until SIGTERM."""
    settings = ServerSettings(host, port, URI, idle_timeout_s=IDLE_S)
    doorman = Doorman(UserFile(folder / "users.toml"), 5, 300.0)
    server = OperatorServer(settings, Pki(folder / "server"), doorman, surface(), Silent(), LIMITS, now=wall_now)
    number = base

    async def count() -> None:
        nonlocal number
        while True:
            number += 1
            server.change([Change(key, "N", Sample(number)) for key in COUNTERS])
            await asyncio.sleep(STEP_S)

    async def tell(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gc.collect()
        writer.write(json.dumps(held(server) | {"number": number}).encode() + b"\n")
        await writer.drain()
        writer.close()

    done = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, done.set)
    (folder / "state.sock").unlink(missing_ok=True)
    asking = await asyncio.start_unix_server(tell, folder / "state.sock")
    await server.start()
    counting = asyncio.create_task(count())
    print("listening", flush=True)
    await done.wait()
    counting.cancel()
    asking.close()
    await server.stop()


def held(server: OperatorServer) -> dict[str, float]:
    """All that a client could leave behind, and what the process has grown to."""
    door = server._door
    core = door._core
    entries = [server._nodes.entry(key) for key in COUNTERS]
    return {
        "sessions": len(core.sessions),
        "ways_to_sessions": len(core.sending) + len(core.endings),
        "subscriptions": len(core.subscriptions),
        "items": core.items,
        "connections": len(door._lobby.everybody()),
        "values_waiting": core.backlog.waiting,
        "watched": sum(1 for entry in entries if entry.watchers),
        "calls": len(core.tasks),
        "tasks": len(asyncio.all_tasks()),
        "files": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "rss_mb": usage(os.getpid()).rss_mb,
    }


class CountingServer:
    """The parent's side. Every process is ended by its own pid."""

    def __init__(self, folder: Path, host: str, port: int) -> None:
        self.folder = folder
        self.url = f"opc.tcp://{host}:{port}"
        here = Path(__file__).resolve().parent
        command = [sys.executable, __file__, str(folder), host, str(port)]
        paths = os.pathsep.join([str(here), str(here.parent)])
        self._log = (folder / "server.log").open("ab")
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
            env={**os.environ, "PYTHONPATH": paths},
        )  # fmt: skip

    async def say(self, words: str) -> None:
        """A word to it; returns when it is done."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{words}\n")
        self._process.stdin.flush()
        async with asyncio.timeout(30):
            said = await asyncio.to_thread(self._process.stdout.readline)
        assert said, f"the server did not {words}: see {self.folder}/server.log"

    async def held(self) -> Mapping[str, float]:
        """What it holds now."""
        reader, writer = await asyncio.open_unix_connection(self.folder / "state.sock")
        line = await reader.readline()
        writer.close()
        found: dict[str, float] = json.loads(line)
        return found

    def end(self) -> None:
        """End it, and what it forked."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        finally:
            self._process.kill()
            self._process.wait()
            self._log.close()


@contextmanager
def counting_server(folder: Path, host: str, port: int) -> Iterator[CountingServer]:
    """A server that is not started yet."""
    equip(folder, host)
    made = CountingServer(folder, host, port)
    try:
        yield made
    finally:
        made.end()


def obey(folder: Path, host: str, port: int) -> None:
    """Words of the parent, until it closes the pipe."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # standard output speaks to the parent
    serving = 0
    for line in sys.stdin:
        word, *rest = line.split()
        if word == "start":
            serving = os.fork()
            if serving == 0:
                try:
                    asyncio.run(serve(folder, host, port, int(rest[0])))
                finally:
                    sys.stdout.flush()
                    os._exit(0)
            continue
        os.kill(serving, signal.SIGKILL if word == "kill" else signal.SIGTERM)
        os.waitpid(serving, 0)
        serving = 0
        print("ended", flush=True)
    if serving:
        os.kill(serving, signal.SIGKILL)
        os.waitpid(serving, 0)


if __name__ == "__main__":
    obey(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
