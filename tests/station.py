"""A whole station for tests: the simulator and the daemon as real processes, which may be killed at any instant.

The simulator outlives the daemon, as breakers outlive a gateway: its own counters are the witness.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.control_client import ControlError, DaemonUnreachable, JsonValue, call
from simulators.client import SimulatorClient

START_S = 40.0
LINKS_S = 60.0
"""So long links may take that are given nothing to trouble them; a slow machine needs much of it."""
LOOK_S = 0.05
UNTIL_S = 45.0
"""What takes a second takes a good deal more on a slow machine with other tests beside; only a failure waits so long."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended: its exit code and what it wrote."""

    code: int
    out: str
    err: str


async def until(condition: Callable[[], Awaitable[object]], what: str, timeout_s: float = UNTIL_S) -> None:
    """Wait until the condition is true, at most so many seconds; what: the words of the failure."""
    deadline = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        await asyncio.sleep(LOOK_S)


class Station:
    """A site's folder, its simulator, and its daemon. Every process is ended by its own pid."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "gridlatch.sock"
        self.kills = 0
        self._daemon: subprocess.Popen[bytes] | None = None
        self._simulator: subprocess.Popen[bytes] | None = None
        self._log = (folder / "daemon.log").open("ab")
        self._said_from = 0
        self.daemon_prefix: tuple[str, ...] = ()
        self.simulator_prefix: tuple[str, ...] = ()

    def write_site(
        self,
        rtus: int,
        breakers: int,
        port: int,
        first_host: str,
        settings: Mapping[str, str],
        generator: tuple[str, ...] = (),
    ) -> None:
        """Generate the site; settings as for ``change_site``; generator: further options of ``simulators site``."""
        command = [sys.executable, "-m", "simulators", "site", str(self.folder), "--rtus", str(rtus)]
        command += ["--breakers", str(breakers), "--port", str(port), "--first-host", first_host, *generator]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        self.change_site(settings)

    def change_site(self, settings: Mapping[str, str]) -> None:
        """Replace lines of site.toml (``key`` → value as TOML)."""
        path = self.folder / "site.toml"
        lines = path.read_text().splitlines()
        for key, value in settings.items():
            found = [n for n, line in enumerate(lines) if line.split("=")[0].strip() == key]
            assert found, f"site.toml has no key {key}"
            for number in found:
                lines[number] = f"{key} = {value}"
        path.write_text("\n".join(lines) + "\n")

    def limit_travel(self, travel_s: float) -> None:
        """Within how many seconds each breaker's end position must be read back."""
        feeders = self.folder / "feeders.csv"
        rows = [line.split(",") for line in feeders.read_text().splitlines()]
        column = rows[0].index("travel_s")
        for row in rows[1:]:
            row[column] = f"{travel_s:g}"
        feeders.write_text("\n".join(",".join(row) for row in rows) + "\n")

    def start_simulator(self) -> None:
        """Start the simulated hardware."""
        command = [*self.simulator_prefix, sys.executable, "-m", "simulators", "run", "--site", str(self.folder)]
        self._simulator = subprocess.Popen(command, stdout=self._log, stderr=self._log)

    def simulator(self) -> SimulatorClient:
        """A client of the simulator's control channel."""
        return SimulatorClient(self.folder / "simulator.sock")

    def start_daemon(self, **environment: str) -> None:
        """Start the daemon; returns at once."""
        command = [*self.daemon_prefix, sys.executable, "-m", "gateway.cli", "run", str(self.folder)]
        self._said_from = self._log.seek(0, os.SEEK_END)
        self._daemon = subprocess.Popen(command, stdout=self._log, stderr=self._log, env={**os.environ, **environment})

    async def wait_serving(self, timeout_s: float = START_S) -> None:
        """Wait until the daemon answers. That says nothing of any link: see ``wait_links_up``."""
        deadline = time.monotonic() + timeout_s
        while True:
            if self._daemon is not None and self._daemon.poll() is not None:
                raise AssertionError(f"the daemon ended with {self._daemon.returncode}; see {self.folder}/daemon.log")
            with contextlib.suppress(DaemonUnreachable, ControlError):
                status = await self.ask("status")
                if status["breakers"]:
                    return
            assert time.monotonic() < deadline, f"the daemon does not serve; see {self.folder}/daemon.log"
            await asyncio.sleep(0.05)

    async def wait_links_up(self, timeout_s: float = LINKS_S) -> None:
        """Wait until every link is up and every position was read."""

        async def well() -> bool:
            links = (await self.ask("status"))["links"]
            assert isinstance(links, dict)
            feeders = await self.pages("breakers.list", "breakers")
            return not links["troubled"] and {f["quality"] for f in feeders} == {"good"}

        await until(well, "all links are up and all positions good", timeout_s)

    async def ask(self, op: str, timeout_s: float = 20.0, **args: JsonValue) -> dict[str, JsonValue]:
        """One operation of the control socket."""
        result = await asyncio.to_thread(call, self.socket, op, args, timeout_s)
        assert isinstance(result, dict)
        return result

    async def cli(self, *arguments: str, timeout_s: float = 60.0, typed: str | None = None) -> Ran:
        """``gridlatch`` with these arguments, as a person types it, for this site. typed: goes to its standard input."""
        command = [sys.executable, "-m", "gateway.cli", *arguments]
        environment = {**os.environ, "GRIDLATCH_SITE": str(self.folder)}

        def run() -> Ran:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=timeout_s, env=environment, input=typed
            )
            return Ran(done.returncode, done.stdout, done.stderr)

        return await asyncio.to_thread(run)

    async def pages(self, op: str, key: str) -> list[dict[str, JsonValue]]:
        """All pages of a listing."""
        found: list[dict[str, JsonValue]] = []
        after: JsonValue = None
        while True:
            page = await self.ask(op, limit=5000, **({} if after is None else {"after": after}))
            rows = page[key]
            assert isinstance(rows, list)
            found.extend(rows)
            after = page["next"]
            if after is None:
                return found

    @property
    def pid(self) -> int:
        """The daemon's process."""
        assert self._daemon is not None
        return self._daemon.pid

    def signal_daemon(self, number: signal.Signals) -> None:
        """Send a signal and wait for nothing."""
        assert self._daemon is not None
        self._daemon.send_signal(number)

    def kill_daemon(self) -> None:
        """Pull the plug."""
        assert self._daemon is not None
        self._daemon.send_signal(signal.SIGKILL)
        self._daemon.wait()
        self.kills += 1

    def stop_daemon(self, timeout_s: float = 20.0) -> int:
        """An orderly stop; the exit code."""
        assert self._daemon is not None
        self._daemon.send_signal(signal.SIGTERM)
        return self._daemon.wait(timeout_s)

    def wait_daemon(self, timeout_s: float) -> int:
        """Wait until the daemon ends by itself; its exit code."""
        assert self._daemon is not None
        return self._daemon.wait(timeout_s)

    async def wait_end(self, timeout_s: float = 20.0) -> int:
        """As wait_daemon, for tests that do something else meanwhile."""
        return await asyncio.to_thread(self.wait_daemon, timeout_s)

    def said(self) -> str:
        """What was said since the daemon was started last."""
        with (self.folder / "daemon.log").open("rb") as log:
            log.seek(self._said_from)
            return log.read().decode(errors="replace")

    def log_text(self) -> str:
        """All that daemon and simulator have said."""
        return (self.folder / "daemon.log").read_text(errors="replace")

    def end_daemon(self) -> None:
        """End the daemon if it still runs."""
        if self._daemon is not None and self._daemon.poll() is None:
            self._daemon.kill()
            self._daemon.wait()

    def end(self) -> None:
        """End what is left."""
        for process in (self._daemon, self._simulator):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        self._log.close()


@contextlib.asynccontextmanager
async def station(
    folder: Path,
    rtus: int,
    breakers: int,
    port: int,
    first_host: str,
    settings: Mapping[str, str],
    generator: tuple[str, ...] = (),
    travel_s: float | None = None,
    prefixes: tuple[tuple[str, ...], tuple[str, ...]] = ((), ()),
) -> AsyncIterator[Station]:
    """A station with its simulator running and its daemon not started yet. prefixes: of the daemon's and the simulator's
    command, which put themselves in their place (``ip netns exec NAME``)."""
    folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - before anything runs
    made = Station(folder)
    made.daemon_prefix, made.simulator_prefix = prefixes
    try:
        made.write_site(rtus, breakers, port, first_host, settings, generator)
        if travel_s is not None:
            made.limit_travel(travel_s)
        made.start_simulator()
        yield made
    finally:
        made.end()


SMALL = {
    "timeout_s": "0.5\nbackoff_max_s = 0.5",
    "poll_fast_s": "0.3",
    "poll_slow_s": "0.5",
    "check_s": "0.3",
    "cooldown_s": "0.5",
    "min_off_s": "0.1",
    "stable_for_s": "0.3",
    "stage_wait_s": "0.3",
    "stage_pct": "90.0",
    "command_deadline_s": "20.0",
    "max_operations_per_hour": "1000",
    "max_sheds_per_hour": "1000",
}
TRAVEL_S = 1
"""Within this time the end position of a small station's breaker must be read back; they travel within a tenth."""


@contextlib.asynccontextmanager
async def small_station(
    folder: Path, port: int, first_host: str, generator: tuple[str, ...] = (), **settings: str
) -> AsyncIterator[Station]:
    """3 RTUs with 8 breakers each, quick in all it does, at 18 % of its capacity: nothing starts by itself."""
    options = ("--peak-pct", "40", *generator)
    async with station(folder, 3, 8, port, first_host, {**SMALL, **settings}, options, TRAVEL_S) as made:
        yield made
