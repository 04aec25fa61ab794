"""The daemon as a service manager sees it: ready, alive, frozen, stopping; and a clock that nobody disciplines."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

from station import Station, small_station, until

from gateway.clock import synchronized

WATCHDOG_S = 1.5


class ServiceManager:
    """Listens where ``NOTIFY_SOCKET`` points to, as systemd does."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))
        self.environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))}
        self.heard: list[str] = []
        self.pings = 0
        self.last_ping = 0.0

    def listen(self) -> None:
        """Take what has come."""
        with contextlib.suppress(BlockingIOError):
            while True:
                for line in self._socket.recv(65536).decode().splitlines():
                    if line == "WATCHDOG=1":
                        self.pings += 1
                        self.last_ping = time.monotonic()
                    else:
                        self.heard.append(line)

    def close(self) -> None:
        self._socket.close()


@contextlib.asynccontextmanager
async def service(folder: Path, port: int, first_host: str) -> AsyncIterator[tuple[Station, ServiceManager]]:
    async with small_station(folder / "site", port, first_host) as site:
        manager = ServiceManager(folder / "notify")
        try:
            yield site, manager
        finally:
            manager.close()


async def test_ready_comes_after_the_field_was_read_and_stopping_before_the_end(tmp_path: Path) -> None:
    async with service(tmp_path, 15305, "127.0.8.1") as (site, manager):
        site.start_daemon(**manager.environment)

        async def ready() -> bool:
            manager.listen()
            return "READY=1" in manager.heard

        await until(ready, "READY=1")
        assert any("24 seen for the first time" in line for line in manager.heard)
        assert (await site.ask("status"))["held"] == {"held": False, "why": ""}
        await pings(manager, 3)
        manager.heard.clear()
        site.signal_daemon(signal.SIGHUP)
        await until(ready, "READY=1 after the reload")
        assert manager.heard[0] == "RELOADING=1"
        assert site.stop_daemon() == 0
        manager.listen()
        assert "STOPPING=1" in manager.heard


async def test_a_frozen_daemon_stops_pinging_and_one_that_goes_on_pings_again(tmp_path: Path) -> None:
    async with service(tmp_path, 15306, "127.0.8.11") as (site, manager):
        site.start_daemon(**manager.environment)
        await site.wait_serving()
        await pings(manager, 2)
        site.signal_daemon(signal.SIGSTOP)
        manager.listen()
        before = manager.pings
        frozen_at = time.monotonic()

        async def long_enough() -> bool:
            manager.listen()
            return time.monotonic() > frozen_at + 1.5 * WATCHDOG_S

        await until(long_enough, "more than the service manager allows")
        assert manager.pings <= before + 1, "a ping may have been on its way"
        assert time.monotonic() - manager.last_ping > WATCHDOG_S
        site.signal_daemon(signal.SIGCONT)
        await pings(manager, 2)
        assert site.stop_daemon() == 0


async def pings(manager: ServiceManager, number: int) -> None:
    """Wait for so many more pings."""
    manager.listen()
    wanted = manager.pings + number

    async def come() -> bool:
        manager.listen()
        return manager.pings >= wanted

    await until(come, f"{number} pings")


async def test_with_a_clock_that_nobody_disciplines_outputs_are_held_where_the_site_says_so(tmp_path: Path) -> None:
    async with small_station(tmp_path, 15307, "127.0.8.21", require_time_sync="true") as site:
        site.start_daemon()
        await site.wait_serving()
        await site.wait_links_up()
        status = await site.ask("status")
        disciplined = synchronized() is True
        assert status["held"] == {
            "held": not disciplined,
            "why": "" if disciplined else "the clock is not synchronised",
        }
        ran = await site.cli("breakers", "open", "F001-001", "--reason", "test", "--wait", "1")
        async with site.simulator() as plant:
            counters = await plant.counters_of("F001-001")
        assert (ran.code, counters.open_commands) == ((0, 1) if disciplined else (6, 0))
        released = await site.cli("release", "--reason", "I know the time")
        held = (await site.ask("status"))["held"]
        assert isinstance(held, dict)
        assert held["held"] is not disciplined
        assert disciplined or "the clock is not synchronised" in released.out
