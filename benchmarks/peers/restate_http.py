"""Restate: its server, a process with the steps' code, and the load, which is this process. All talk HTTP on loopback.

The server comes from npm (``python -m benchmarks.peers.install`` puts it into ``.venv/peers``), the code of the steps uses
the SDK for Python or that for TypeScript.

usage: python -m benchmarks.peers.restate_http FOLDER [CASE ...]  (RESTATE_SDK=node: the steps' code in Node.js)
"""

from __future__ import annotations

import asyncio
import itertools
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.peers.http import Http
from benchmarks.peers.install import npm_folder
from benchmarks.peers.measuring import (
    AHEAD_S,
    EVENTS,
    FANNED_OUT,
    GREETINGS,
    HUNDRED,
    IN_FLIGHT,
    IN_SEQUENCE,
    KEYS,
    OPERATIONS,
    THOUSAND,
    TIMERS,
    Done,
    calling,
    in_flight,
    leave,
    measure,
    running,
)

HERE = Path(__file__).resolve().parent
INGRESS, ADMIN, NODE, SERVICE = 15_480, 15_481, 15_482, 15_483
READY_S = 60.0


def server() -> Path:
    """The program. Raises SystemExit with what is missing."""
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    name = f"@restatedev/restate-server-linux-{machine}/bin/restate-server"
    path = npm_folder() / "node_modules" / name
    if not path.exists():
        raise SystemExit("no restate-server: npm has not installed it")
    return path


def version_of(path: Path) -> str:
    """What the server says it is."""
    return subprocess.run([path, "--version"], capture_output=True, text=True, check=True, timeout=10).stdout.split()[
        -1
    ]


def service(node: bool) -> tuple[list[str], str]:
    """The command that serves the steps, and the SDK in words. Raises SystemExit with what is missing."""
    if not node:
        return [
            sys.executable,
            "-m",
            "benchmarks.peers.restate_service",
            str(SERVICE),
        ], f"Python SDK {version('restate-sdk')}"
    found, modules = shutil.which("node"), npm_folder() / "node_modules"
    if found is None or not (modules / "@restatedev" / "restate-sdk").exists():
        raise SystemExit("no Node.js, or npm has not installed @restatedev/restate-sdk")
    return [found, str(HERE / "restate_service.mjs"), str(SERVICE), str(modules.parent)], "TypeScript SDK"


class Load:
    """The cases, as a client of Restate's ingress asks for them."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._names = itertools.count()

    async def three_steps(self, _: int = 0) -> None:
        """One orchestration."""
        output = await self._http.post("/Steps/three_steps")
        assert output == GREETINGS, f"the peer did not do the work: {output!r}"

    async def fan_out(self) -> Done:
        """One of many steps at once."""
        assert await self._http.post("/Steps/fan_out", FANNED_OUT) == FANNED_OUT
        return Done(1)

    async def add(self, number: int) -> None:
        """One operation of an entity."""
        await self._http.post(f"/Counter/{number % KEYS}/add", 1.5)

    async def timers(self) -> Done:
        """All due at one instant."""
        due_s = time.time() + AHEAD_S
        late = await asyncio.gather(*(self._http.post("/Steps/sleeps", due_s) for _ in range(TIMERS)))
        return Done(TIMERS, late)

    async def events(self) -> Done:
        """One at a time, each to a workflow that waits for it, until the workflow goes on."""
        latencies = []
        for _ in range(EVENTS):
            name = f"/Waits/{next(self._names)}"
            waiting = asyncio.create_task(self._http.post(f"{name}/run"))
            await asyncio.sleep(0.05)  # until it waits: nobody tells
            asked_s = time.time()
            await self._http.post(f"{name}/go", 1)
            latencies.append(await waiting - asked_s)
        return Done(EVENTS, latencies)


async def ready(http: Http) -> None:
    """Wait until the server has heard of the services, and done a first piece of work. Raises TimeoutError."""
    admin = Http(ADMIN)
    async with asyncio.timeout(READY_S):
        while True:
            try:
                await admin.post("/deployments", {"uri": f"http://127.0.0.1:{SERVICE}"})
                await Load(http).three_steps()
            except (OSError, RuntimeError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.2)
            else:
                break
    admin.close()


def environment(folder: Path) -> dict[str, str]:
    """What the server is told, beside its file of settings."""
    return {
        "RESTATE_BASE_DIR": str(folder / "restate"),
        "RESTATE_BIND_PORT": str(NODE),
        "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{INGRESS}",
        "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{ADMIN}",
        "DO_NOT_TRACK": "1",
        "RESTATE_LOGGING": "ERROR",
    }


async def main(folder: Path, node: bool) -> None:
    """Measure it."""
    path, (serving, sdk) = server(), service(node)
    number = await asyncio.to_thread(version_of, path)
    for port in (INGRESS, ADMIN, NODE, SERVICE):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))  # OSError: somebody else is there, and must not be measured
    with running(serving, [str(path), "--no-logo", "-c", str(HERE / "restate_server.toml")], env=environment(folder)):
        http = Http(INGRESS)
        load = Load(http)
        await ready(http)
        await in_flight(load.three_steps, 50, 10)  # not counted: imports, caches, connections
        cases: dict[str, Any] = {
            "in_sequence": calling(load.three_steps, IN_SEQUENCE, 1),
            "hundred": calling(load.three_steps, HUNDRED, 100),
            "thousand": calling(load.three_steps, THOUSAND, 1_000),
            "events": load.events,
            "fan_out": load.fan_out,
            "entities": calling(load.add, OPERATIONS, IN_FLIGHT),
            "timers": load.timers,
        }
        durability = "RocksDB's log flushed before an answer (its default), one node"
        await measure(cases, folder, f"{number}, {sdk}", durability)
        http.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), os.environ.get("RESTATE_SDK") == "node"))
    leave()
