"""The operators' server in the life of the daemon: built, fed, watched, and closed in order.

Theory of operation. ``open`` makes the address space, fills it and listens; from then on the feed tells values and the
happenings tell events and alarms, each as a task of its own. Control depends on none of this: when one of these tasks
fails, that is logged, journaled and told in the status, and the task begins anew after a while (``WAITS_S``), however often
it takes; the server keeps its sessions meanwhile, with values that stand still. What fails inside the server's library, in
a task of a single connection, say, is logged and counted, and only that connection suffers (see ``gateway.operators``).

What must stay true: nobody is served before the journal was recovered; sessions end before the engine stops, so that
what a person was answered is on disk; a defect in here never holds outputs or ends the daemon, save where the server can't
be opened at all at the start. A crash here leaves nothing behind: clients connect again and get everything anew.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Protocol

import structlog

from config.models import Operators, Site
from gateway.clock import from_us, wall_now
from gateway.durable import EngineStoppedError
from gateway.durable.codec import Json
from gateway.operations.desk import Desk
from gateway.operator.backend import OperatorBackend
from gateway.operator.feed import Feed
from gateway.operator.happenings import Happenings
from gateway.operator.surface_model import build_surface
from gateway.starting import spare_what_was_made
from gateway.supervision import record
from protocols.opcua.surface import Backend, Doing, Server, Surface

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

WAITS_S = (1.0, 5.0, 20.0, 60.0)
"""Real seconds before a failed task begins anew: after the first failure, the second ...; the last holds on."""
WELL_AFTER_S = 600.0
"""A task that has run so long begins to count anew."""
CLOSE_S = 5.0
EXPIRES_SOON = timedelta(days=30)
DEFECTS_LOGGED = 20
"""Defects of the library that are logged one by one; of more, each hundredth is."""
USERS_SHOWN = 20
LOOK_S = 5.0


class RunningServer(Server, Protocol):
    """A server with its life."""

    async def start(self) -> None:
        """Build the address space and listen. Errors: OSError."""

    async def stop(self) -> None:
        """Close all sessions."""


class Keys(Protocol):
    """Certificates and users, as files."""

    def thumbprint(self) -> str:
        """SHA-256 of the server's own certificate, hexadecimal."""

    def expires_us(self) -> int:
        """When this certificate expires, µs since 1970."""

    def warnings(self) -> list[str]:
        """What is amiss with them, one sentence each."""

    def close(self) -> None:
        """Not needed any more."""


MakeServer = Callable[[Surface, Backend], Awaitable[RunningServer]]


class Door:
    """The operators' server of a running gateway."""

    def __init__(self, settings: Operators, desk: Desk, keys: Keys, make_server: MakeServer) -> None:
        self._settings = settings
        self._desk = desk
        self._keys = keys
        self._make_server = make_server
        self._backend = OperatorBackend(desk)
        self._server: RunningServer | None = None
        self._feed: Feed | None = None
        self._happenings = Happenings(desk, self._backend)
        self._tasks: list[asyncio.Task[None]] = []
        self._open: bool | None = None
        """None until it was tried."""
        self._failed_at: dict[str, tuple[float, str]] = {}
        self._looked_at = -LOOK_S
        self._of_files: list[str] = []
        self.defects = 0

    async def open(self) -> None:
        """Fill, build and listen. A port that is taken ends the start; a defect in here is told, and control goes on.

        Errors: OSError.
        """
        try:
            feed = await self._build()
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - a defect of this view must not keep the gateway from its work
            self._open = False
            self._failed("server", error)
            return
        self._open = True
        spare_what_was_made()
        for name, work in (("feed", feed.run), ("happenings", self._happenings.run)):
            self._tasks.append(asyncio.create_task(self._keep(name, work), name=f"operators' {name}"))
        log.info("operators_open", endpoint=self.endpoint, certificate=self._keys.thumbprint())

    async def _build(self) -> Feed:
        self._server = await self._make_server(build_surface(self._desk.field.site), self._backend)
        self._backend.server = self._server
        self._feed = Feed(self._desk, self._server, self._keys.expires_us, self._backend.counts)
        await self._feed.fill()
        self._backend.tell_now = self._feed.tell_now
        await self._server.start()
        return self._feed

    async def close(self) -> None:
        """End sessions and all work for them; what does not end in time is left to the end of the process."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._feed is not None:
            self._feed.close()
        try:
            if self._server is not None:
                async with asyncio.timeout(CLOSE_S):
                    await self._server.stop()
        except TimeoutError:
            log.warning("operators_close_late", after_s=CLOSE_S)
        except Exception as error:  # whatever the library does here, the engine must still be stopped in order
            log.error("operators_close_failed", error=str(error), exc_info=error)
        self._open = False
        self._keys.close()

    @property
    def unrecorded(self) -> int:
        """How many acts of operators could not be recorded since the start."""
        return self._backend.deeds.unrecorded

    def site_changed(self, _: Site) -> None:
        """The site's files were read again."""
        if self._feed is not None:
            self._feed.site_changed()

    @property
    def endpoint(self) -> str:
        """Where clients connect."""
        return f"opc.tcp://{self._settings.host}:{self._settings.port}"

    def status(self) -> Json:
        """For the status that people ask for."""
        sessions = self._server.sessions() if self._open and self._server is not None else []
        users = Counter(one.caller.user or "anonymous" for one in sessions)
        return {
            "endpoint": self.endpoint,
            "open": bool(self._open),
            "sessions": len(sessions),
            "users": [f"{user} ({number})" for user, number in users.most_common(USERS_SHOWN)],
            "failed_logins": self._backend.counts[Doing.LOGIN_REFUSED],
            "certificate": self._keys.thumbprint(),
            "certificate_expires": from_us(self._keys.expires_us()).isoformat(timespec="seconds"),
            "failing": self._failing(),
            "defects": self.defects,
        }

    def warnings(self) -> list[str]:
        """What a person should see to, one sentence each. Files are looked at each few seconds."""
        now = asyncio.get_running_loop().time()
        if now >= self._looked_at + LOOK_S:
            self._looked_at, self._of_files = now, self._keys.warnings()
        told = list(self._of_files)
        left = from_us(self._keys.expires_us()) - wall_now()
        if left <= timedelta(0):
            told.append("the OPC UA server's certificate has expired; make a new one with 'gridlatch certs renew'")
        elif left <= EXPIRES_SOON:
            told.append(
                f"the OPC UA server's certificate expires in {left.days} days; renew it with 'gridlatch certs renew'"
            )
        told += [f"operators' {name} failed within the last minutes: {why}" for name, why in self._failing().items()]
        if self._open is False:
            told.append("the OPC UA server could not be opened; see the log, and restart the gateway to try again")
        if self.defects:
            told.append(f"{self.defects} errors inside the OPC UA server since the start; the log tells of them")
        return told

    def defect(self, error: BaseException) -> None:
        """Something failed inside the server's library; control goes on, and so does the server."""
        self.defects += 1
        if self.defects <= DEFECTS_LOGGED or self.defects % 100 == 0:
            log.error("operators_defect", error=str(error), number=self.defects, exc_info=error)
        if self.defects == 1:
            record(self._desk.engine, "operators_defect", error=f"{type(error).__name__}: {error}"[:400])

    async def _keep(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do this work until the engine has stopped; when it fails, again."""
        loop, failures = asyncio.get_running_loop(), 0
        while True:
            began = loop.time()
            try:
                await work()
            except EngineStoppedError:
                return  # the daemon ends, and says why
            except Exception as error:  # noqa: BLE001 - a defect of this view must not end control
                failures = 0 if loop.time() - began > WELL_AFTER_S else failures
                self._failed(name, error)
            else:
                return
            await asyncio.sleep(WAITS_S[min(failures, len(WAITS_S) - 1)])
            failures += 1

    def _failed(self, name: str, error: Exception) -> None:
        while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        why = f"{type(error).__name__}: {error}"[:400]
        log.critical("operators_failed", task=name, error=why, exc_info=error)
        if self._failing().get(name) != why:
            record(self._desk.engine, "operators_failed", task=name, error=why)
        self._failed_at[name] = (asyncio.get_running_loop().time(), why)

    def _failing(self) -> dict[str, str]:
        """Tasks that failed not long ago, and why."""
        now = asyncio.get_running_loop().time()
        return {name: why for name, (at, why) in self._failed_at.items() if now - at < WELL_AFTER_S}
