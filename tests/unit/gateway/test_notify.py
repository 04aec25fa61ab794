"""The service manager hears of the daemon's states, and is fed only while every check really passes."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.notify import Notifier, Watchdog, watchdog_interval_s


class Manager:
    """A service manager's end of the notification socket."""

    def __init__(self, address: str) -> None:
        self.environment = {"NOTIFY_SOCKET": address}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def heard(self) -> list[str]:
        """All messages since the last look."""
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return messages

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@gridlatch-test-{os.getpid()}"
    manager = Manager(name)
    yield manager
    manager.close()


class TestStates:
    def test_ready_status_and_stopping_are_told(self, manager: Manager) -> None:
        notifier = Notifier.from_environment(manager.environment)
        notifier.ready("12 000 breakers read")
        notifier.status("shedding tier 1")
        notifier.stopping("draining")
        assert manager.heard() == [
            "READY=1\nSTATUS=12 000 breakers read",
            "STATUS=shedding tier 1",
            "STOPPING=1\nSTATUS=draining",
        ]

    def test_a_reload_carries_the_time_since_boot(self, manager: Manager) -> None:
        Notifier.from_environment(manager.environment).reloading()
        (message,) = manager.heard()
        first, second = message.split("\n")
        assert first == "RELOADING=1"
        assert abs(int(second.removeprefix("MONOTONIC_USEC=")) / 1e6 - time.monotonic()) < 5

    def test_a_status_can_not_smuggle_in_another_key(self, manager: Manager) -> None:
        Notifier.from_environment(manager.environment).status("all well\nWATCHDOG=1")
        assert manager.heard() == ["STATUS=all well WATCHDOG=1"]

    def test_without_a_service_manager_nothing_happens(self) -> None:
        notifier = Notifier.from_environment({})
        notifier.ready("up")
        assert notifier.lost == 0

    def test_a_manager_that_is_gone_costs_a_count_not_the_daemon(self, tmp_path: Path) -> None:
        notifier = Notifier(str(tmp_path / "gone"))
        notifier.ready("up")
        notifier.alive()
        assert notifier.lost == 2

    def test_an_address_that_is_none_is_refused(self) -> None:
        with pytest.raises(ValueError, match="NOTIFY_SOCKET"):
            Notifier("relative/path")


class TestInterval:
    @pytest.mark.parametrize(
        ("environment", "seconds"),
        [
            ({"WATCHDOG_USEC": "15000000"}, 15.0),
            ({"WATCHDOG_USEC": "15000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
            ({"WATCHDOG_USEC": "15000000", "WATCHDOG_PID": "1"}, None),
            ({"WATCHDOG_USEC": "0"}, None),
            ({"WATCHDOG_USEC": "soon"}, None),
            ({}, None),
        ],
    )
    def test_it_is_meant_for_this_process(self, environment: dict[str, str], seconds: float | None) -> None:
        assert watchdog_interval_s(environment) == seconds


async def passes() -> str | None:
    return None


async def journal_is_slow() -> str | None:
    return "the last commit is 40 s old"


async def breaks() -> str | None:
    raise OSError("disk gone")


async def hangs() -> str | None:
    await asyncio.sleep(3600)
    return None


class TestWatchdog:
    async def test_all_checks_pass_so_it_pings(self, manager: Manager) -> None:
        watchdog = Watchdog(Notifier.from_environment(manager.environment), 15, {"loop": passes, "journal": passes})
        assert await watchdog.round()
        assert manager.heard() == ["WATCHDOG=1"]
        assert watchdog.round_s == 5

    @pytest.mark.parametrize(
        ("check", "reason"),
        [(journal_is_slow, "40 s old"), (breaks, "OSError: disk gone"), (hangs, "no answer within")],
    )
    async def test_one_failing_check_silences_it_and_is_named(
        self, manager: Manager, check: object, reason: str
    ) -> None:
        watchdog = Watchdog(
            Notifier.from_environment(manager.environment),
            0.03,
            {"loop": passes, "journal": check},  # type: ignore[dict-item]
        )
        assert not await watchdog.round()
        assert list(watchdog.failed) == ["journal"]
        assert reason in watchdog.failed["journal"]
        (message,) = manager.heard()
        assert message.startswith("STATUS=not healthy: journal: ")

    async def test_a_check_that_hangs_is_not_started_again(self, manager: Manager) -> None:
        starts = 0
        way = asyncio.Event()

        async def stuck() -> str | None:
            nonlocal starts
            starts += 1
            await way.wait()
            return None

        watchdog = Watchdog(Notifier.from_environment(manager.environment), 0.03, {"journal": stuck})
        assert not await watchdog.round()
        assert not await watchdog.round()
        assert starts == 1
        way.set()
        assert await watchdog.round()
        assert manager.heard()[-2:] == ["STATUS=healthy again", "WATCHDOG=1"]

    async def test_it_goes_on_by_itself_until_cancelled(self, manager: Manager) -> None:
        pinged = asyncio.Event()
        rounds = 0

        async def counts() -> str | None:
            nonlocal rounds
            rounds += 1
            if rounds == 3:
                pinged.set()
            return None

        watchdog = Watchdog(Notifier.from_environment(manager.environment), 0.003, {"loop": counts})
        running = asyncio.create_task(watchdog.run())
        await asyncio.wait_for(pinged.wait(), 5)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert manager.heard()[:2] == ["WATCHDOG=1"] * 2

    async def test_nobody_to_ping_still_tells_what_failed(self) -> None:
        watchdog = Watchdog(Notifier(None), None, {"journal": journal_is_slow})
        assert not await watchdog.round()
        assert watchdog.failed == {"journal": "the last commit is 40 s old"}
