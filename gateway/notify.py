"""Telling the service manager how the daemon is: ready, what it does, that it lives, that it ends.

The protocol is systemd's sd_notify: datagrams of ``KEY=value`` lines to the Unix socket that ``NOTIFY_SOCKET`` names
(a leading ``@`` is an abstract one). Without a service manager everything here does nothing.

What must stay true: the watchdog is fed by proof of work alone. Each check does something real (a tick of the loop, a
no-op through the journal's thread, the age of each command path) and a ping is sent only if every check passed in time.
A daemon that hangs anywhere is therefore killed and started again by the service manager, which is its way out of
anything that was not foreseen. Nothing here ever blocks or ends the daemon by itself.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping

import structlog

Check = Callable[[], Awaitable[str | None]]
"""Passes by returning None in time; fails by returning a sentence, by raising, or by taking too long."""

_log = structlog.get_logger("notify")


class Notifier:
    """Sends states to the service manager; ``address`` is that of ``NOTIFY_SOCKET``, None for nobody.

    A datagram that can't be sent is counted in ``lost`` and told to the log once: the service manager notices by itself
    when pings stay away.
    """

    def __init__(self, address: str | None) -> None:
        if address and not address.startswith(("/", "@")):
            raise ValueError(f"NOTIFY_SOCKET is neither a path nor an abstract name: {address!r}")
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        self.lost = 0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Notifier:
        """The notifier for the service manager that started this process, if one did."""
        return cls(environment.get("NOTIFY_SOCKET") or None)

    def ready(self, status: str) -> None:
        """The start is over (or the reload that ``reloading`` announced)."""
        self._send("READY=1", _status(status))

    def status(self, sentence: str) -> None:
        """One sentence for ``systemctl status``."""
        self._send(_status(sentence))

    def reloading(self) -> None:
        """The configuration is being read again; ``ready`` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, sentence: str) -> None:
        """The daemon ends."""
        self._send("STOPPING=1", _status(sentence))

    def alive(self) -> None:
        """Feed the service manager's watchdog. Only ``Watchdog`` calls this."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as out:
                out.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            self.lost += 1
            if self.lost == 1:
                _log.warning("service_manager_not_reached", error=str(error))


def _status(sentence: str) -> str:
    # A line feed would begin another key.
    return "STATUS=" + " ".join(sentence.split())


def watchdog_interval_s(environment: Mapping[str, str] = os.environ) -> float | None:
    """Within how many seconds the service manager wants a ping; None if it does not watch this process."""
    text, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not text.isascii() or not text.isdecimal() or int(text) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(text) / 1e6


class Watchdog:
    """Runs every check in each round and pings only if all passed.

    interval_s: what the service manager allows (``watchdog_interval_s``); a round is a third of it, so that one late
    round does not kill. None: checks run in rounds of 5 s, and failures are logged, with nobody to ping.
    """

    def __init__(self, notifier: Notifier, interval_s: float | None, checks: Mapping[str, Check]) -> None:
        self._notifier = notifier
        self._pings = interval_s is not None
        self.round_s = 5.0 if interval_s is None else interval_s / 3
        self._checks = dict(checks)
        self._running: dict[str, asyncio.Task[str | None]] = {}
        self.failed: dict[str, str] = {}
        """Check → why it failed in the last round."""

    async def run(self) -> None:
        """Check and ping until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                began = loop.time()
                await self.round()
                await asyncio.sleep(max(0.0, began + self.round_s - loop.time()))
        finally:
            for task in self._running.values():
                task.cancel()

    async def round(self) -> bool:
        """One round: True if every check passed within the round's time, and then the ping was sent."""
        for name, check in self._checks.items():
            if name not in self._running:  # one that still hangs is not started a second time
                self._running[name] = asyncio.ensure_future(check())
        if self._running:
            await asyncio.wait(self._running.values(), timeout=self.round_s)
        before, self.failed = self.failed, {}
        for name, task in list(self._running.items()):
            reason = _reason(task, self.round_s)
            if task.done():
                del self._running[name]
            if reason is not None:
                self.failed[name] = reason
        if self.failed != before:
            self._tell(before)
        if self.failed:
            return False
        if self._pings:
            self._notifier.alive()
        return True

    def _tell(self, before: Mapping[str, str]) -> None:
        if self.failed:
            _log.error("watchdog_check_failed", **self.failed)
            self._notifier.status("not healthy: " + "; ".join(f"{name}: {why}" for name, why in self.failed.items()))
        elif before:
            _log.info("watchdog_checks_pass_again", checks=sorted(before))
            self._notifier.status("healthy again")


def _reason(task: asyncio.Task[str | None], round_s: float) -> str | None:
    if not task.done():
        return f"no answer within {round_s:g} s"
    if task.cancelled():
        return "cancelled"
    error = task.exception()
    return task.result() if error is None else f"{type(error).__name__}: {error}"
