"""The two processes of the story, and the ways to talk to them.

What must stay true: only processes that were started here are ended, by their own pid, and each is ended. They get
sessions of their own, so that a Ctrl-C at the terminal reaches this program alone, which then ends them in order.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from simulators.client import SimulatorClient

REPLY_LIMIT = 32 * 1024 * 1024
ASK_TIMEOUT_S = 20.0
END_TIMEOUT_S = 12.0
COMMAND_TIMEOUT_S = 90.0
TAIL_LINES = 12
ROOT = Path(__file__).resolve().parents[2]

Json = dict[str, object]


class GatewayAway(Exception):
    """The gateway does not answer: it is off, starting, or gone."""


class GatewayRefused(Exception):
    """The gateway answered with an error; the text is its own."""


class ProcessEnded(Exception):
    """A process that should run has ended; the text has the end of its log."""


class StoryError(Exception):
    """The story did not go on; the text says what was waited for, or what failed."""


@dataclass(slots=True)
class Running:
    """One process that was started here, and its log."""

    name: str
    process: asyncio.subprocess.Process
    log: Path

    @property
    def alive(self) -> bool:
        """True until it has ended."""
        return self.process.returncode is None

    def tail(self) -> str:
        """The end of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-TAIL_LINES:])


class Station:
    """A site's folder with its simulator and its gateway."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "gridlatch.sock"
        self.simulator = SimulatorClient(folder / "simulator.sock")
        self.simulation: Running | None = None
        self.gateway: Running | None = None
        self.starts = 0

    async def start_simulator(self) -> None:
        """Start the simulated hardware and connect to its control channel. Raises ControlError, ProcessEnded."""
        command = [sys.executable, "-m", "simulators", "run", "--site", str(self.folder)]
        self.simulation = await self._start("simulator", command, "simulator.log")
        waiting = asyncio.ensure_future(self.simulator.connect(timeout_s=30.0))
        ended = asyncio.ensure_future(self.simulation.process.wait())
        try:
            await asyncio.wait({waiting, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                self.check()
            await waiting
        finally:
            waiting.cancel()
            ended.cancel()

    async def start_gateway(self) -> None:
        """Start the gateway; returns at once."""
        self.starts += 1
        self.gateway = await self._start(
            "gateway", [*gateway_command(), "run", str(self.folder)], f"gateway-{self.starts}.log"
        )

    async def _start(self, name: str, command: Sequence[str], log_name: str) -> Running:
        log = self.folder / log_name
        with log.open("ab") as output:
            process = await _spawn(command, output, output)
        return Running(name, process, log)

    async def cut_power(self) -> int:
        """SIGKILL to the gateway; its pid."""
        gateway = self.gateway
        if gateway is None or not gateway.alive:
            raise ProcessEnded("the gateway does not run")
        gateway.process.send_signal(signal.SIGKILL)
        await gateway.process.wait()
        self.gateway = None
        return gateway.process.pid

    def check(self) -> None:
        """Raise ProcessEnded if a process that should run has ended."""
        for one in (self.simulation, self.gateway):
            if one is not None and not one.alive:
                raise ProcessEnded(
                    f"the {one.name} ended with {one.process.returncode}; the end of {one.log}:\n{one.tail()}"
                )

    async def ask(self, op: str, arguments: Json | None = None, timeout_s: float = ASK_TIMEOUT_S) -> Json:
        """One operation of the gateway's control socket. Raises GatewayAway, GatewayRefused."""
        try:
            async with asyncio.timeout(timeout_s):
                line = await self._exchange(json.dumps({"op": op, "args": arguments or {}}).encode() + b"\n")
        except (OSError, TimeoutError, ValueError) as error:
            raise GatewayAway(f"{op}: {error or 'no answer in time'}") from error
        if not line.endswith(b"\n"):
            raise GatewayAway(f"{op}: the connection ended without an answer")
        reply = json.loads(line)
        if not reply["ok"]:
            problem = reply["error"]
            kind = GatewayAway if problem["code"] == "unavailable" else GatewayRefused
            raise kind(f"{op}: {problem['message']}")
        result = reply["result"]
        assert isinstance(result, dict)
        return result

    async def _exchange(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(self.socket, limit=REPLY_LIMIT)
        try:
            writer.write(request)
            await writer.drain()
            return await reader.readline()
        finally:
            writer.close()

    async def breakers(self, **filters: object) -> dict[str, Json]:
        """All breakers as the gateway knows them, by feeder. Raises GatewayAway, GatewayRefused."""
        found: dict[str, Json] = {}
        after: object = None
        while True:
            page = await self.ask("breakers.list", {"limit": 4000, "after": after, **filters})
            rows, after = page["breakers"], page["next"]
            assert isinstance(rows, list)
            found.update({str(row["feeder"]): row for row in rows})
            if after is None:
                return found

    async def command_line(self, *arguments: str, given: str = "") -> tuple[int, str]:
        """One call of the gateway's command line; its exit code and what it said. given: to its standard input."""
        command = [*gateway_command(), *arguments, "--site", str(self.folder)]
        pipe = asyncio.subprocess.PIPE
        process = await _spawn(command, pipe, asyncio.subprocess.STDOUT, pipe)
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT_S):
                said, _ = await process.communicate(given.encode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return process.returncode or 0, said.decode(errors="replace").strip()

    def log_event(self, event: str) -> Json | None:
        """The last line with this event in the log of the present gateway (JSON lines)."""
        if self.gateway is None:
            return None
        found: Json | None = None
        for line in self.gateway.log.read_text(encoding="utf-8", errors="replace").splitlines():
            if f'"{event}"' in line and line.startswith("{"):
                record = json.loads(line)
                if record.get("event") == event:
                    found = record
        return found

    async def end(self) -> list[str]:
        """End what runs, the gateway first, by SIGTERM and after END_TIMEOUT_S by SIGKILL; what was done, in words."""
        await self.simulator.close()
        told = []
        for one in (self.gateway, self.simulation):
            if one is None or not one.alive:
                continue
            one.process.terminate()
            how = "ended"
            try:
                await asyncio.wait_for(one.process.wait(), END_TIMEOUT_S)
            except TimeoutError:
                one.process.kill()
                await one.process.wait()
                how = f"did not end within {END_TIMEOUT_S:g} s and was killed"
            told.append(f"{one.name} (pid {one.process.pid}) {how} with {one.process.returncode}")
        self.gateway = self.simulation = None
        return told


async def _spawn(
    command: Sequence[str], stdout: int | IO[bytes], stderr: int | IO[bytes], stdin: int = asyncio.subprocess.DEVNULL
) -> asyncio.subprocess.Process:
    """Start a process in a session of its own. Cancelled while it starts, it is killed: none is left that nobody knows."""
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *command, stdin=stdin, stdout=stdout, stderr=stderr,
            env=_environment(), start_new_session=True,
        )
    )  # fmt: skip
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        process = await starting
        process.kill()
        await process.wait()
        raise


def gateway_command() -> list[str]:
    """How the gateway is started: the installed command of this environment, else its module."""
    installed = Path(sys.executable).with_name("gridlatch")
    return [str(installed)] if installed.exists() else [sys.executable, "-m", "gateway.cli"]


def _environment() -> dict[str, str]:
    path = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH", "")) if part)
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
