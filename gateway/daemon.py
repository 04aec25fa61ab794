"""The daemon: the one place that knows every part, and the order in which they start and stop.

Start: configuration → journal (exclusive) → engine recovers what is live → field links → serve with outputs held → read
every breaker → compare with what was known → release outputs, or wait for an operator → open the operators' OPC UA
server → ready. Stop: take nothing more → end operators' sessions → let commands end → write → close.

What must stay true: nothing is written to the field before every breaker was read or is known not to answer; a hold after
a restart outlives further restarts, until an operator releases it; when the journal fails, outputs are held at once and
the process ends (the service manager starts it again); every start and every orderly stop is a record in the journal;
what fails inside the operators' server, or in the care of the journal, ends neither control nor the process; a journal
that a person must look at is refused, with an exit code at which the service manager does not start again.
On a crash nothing has to be cleaned up: the next start does it all.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog

from config import Site, load_site
from gateway import __version__, logs
from gateway.clock import SystemClock, wall_now
from gateway.clock_check import ClockCheck
from gateway.control import ControlServer, SocketInUse
from gateway.device_key import DeviceKey, device_key
from gateway.durable import Engine, Registry
from gateway.durable.codec import Json
from gateway.health import health_of, watchdog_of
from gateway.housekeeping import Housekeeping
from gateway.housekeeping_heads import Heads
from gateway.http_call import register_http
from gateway.notify import Notifier
from gateway.operations import Desk, handlers
from gateway.operator.alarms import register_alarms
from gateway.outputs import Outputs
from gateway.programs import ProgramError, load_programs
from gateway.reload import Reload
from gateway.shedding.application import register
from gateway.shedding.entities import transformer_id
from gateway.shedding.field import Field
from gateway.shedding.gate import OutputGate
from gateway.shedding.substation import Transformer
from gateway.starting import StartError, WrongRights, check_owner, check_rights, clock_of, spare_the_loop
from gateway.supervision import Supervision, record
from gateway.trend import TrendStore
from gateway.watch import CommittedBreakers, Observer, Watch
from journal import Journal, JournalCorrupt, JournalError, JournalNewer, JournalNotFound
from protocols.base import Driver
from protocols.fleet import make_driver

if TYPE_CHECKING:
    from gateway.operator.door import Door
    from gateway.operators import Files

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

DRAIN_S = 8.0
OK, FAILED, WRONG_CONFIGURATION, REFUSED_JOURNAL = 0, 1, 2, 4
_ENDS_WITH: tuple[tuple[type[Exception], int], ...] = (
    (ProgramError, WRONG_CONFIGURATION),
    (JournalCorrupt, REFUSED_JOURNAL),
    (JournalNewer, REFUSED_JOURNAL),
    (JournalNotFound, REFUSED_JOURNAL),
    (WrongRights, REFUSED_JOURNAL),
)
"""What starting again would not mend; a person has to see to it. The unit does not start again at these exit codes."""


async def run(site_path: Path) -> int:
    """Run the daemon of a site until it is told to stop; its exit code.

    Errors: ConfigErrors; everything else that keeps it from starting is said on standard error, with exit code 1;
    2 for a program of the site's own that can't be loaded, 4 for a journal that must not be written, or can't be by this
    user: starting again would not mend it.
    """
    site = load_site(site_path)
    logs.configure(site.gateway.log_level, site.gateway.log_format)
    started = False
    try:
        async with contextlib.AsyncExitStack() as stack:
            daemon = await Daemon.open(site, stack)
            started = True
            return await daemon.serve()
    except (JournalError, SocketInUse, ProgramError, StartError, OSError) as error:
        log.critical("failed" if started else "not_started", error=str(error), kind=type(error).__name__)
        print(f"gridlatch: {error}", file=sys.stderr)
        return next((code for kind, code in _ENDS_WITH if not started and isinstance(error, kind)), FAILED)


@dataclass(slots=True)
class Parts:
    """What the daemon is made of."""

    journal: Journal
    engine: Engine
    driver: Driver
    field: Field
    gate: OutputGate
    clock: SystemClock
    trend: TrendStore
    observer: Observer
    watch: Watch
    heads: Heads
    key: DeviceKey
    files: Files | None
    """Certificates and users of operators; None for a site without them."""


class Daemon:
    """A running gateway."""

    def __init__(self, site: Site, parts: Parts) -> None:
        self.site = site
        self.parts = parts
        self._notifier = Notifier.from_environment()
        self._supervision = Supervision(parts.gate)
        self._outputs = Outputs(parts.engine, parts.field, parts.gate, self._supervision)
        self._reload = Reload(parts.engine, parts.field, self._notifier, self._outputs.reconciled)
        self._clock_check = ClockCheck(parts.engine, parts.clock)
        self._door: Door | None = None
        self._care = Housekeeping(
            parts.journal,
            parts.engine,
            parts.field,
            parts.trend,
            parts.heads,
            lambda: 0 if self._door is None else self._door.unrecorded,
            (JournalError, OSError),
        )

    @classmethod
    async def open(cls, site: Site, stack: contextlib.AsyncExitStack) -> Daemon:
        """Open the journal and recover; nothing moves yet.

        Errors: JournalError, ProgramError, StartError, OSError.
        """
        state_dir = site.gateway.state_dir
        check_rights(state_dir)
        journal = await Journal.open(state_dir / "journal.db")
        stack.push_async_callback(journal.close)
        clock = clock_of(site, journal.head().time_us)
        try:
            host = site.operators.host if site.operators is not None else ""
            driver = make_driver(
                site.devices, site.feeders, site.measurements, site.opcua_client, lambda: wall_now().timestamp(), host
            )
        except ValueError as error:
            raise StartError(f"the driver refuses the list of points: {error}") from error
        gate = OutputGate("starting: the field has not been read yet")
        field = Field(driver, site, clock, gate)
        registry = Registry()
        register(registry, field)
        register_http(registry, site.gateway.http_hosts)
        register_alarms(registry)
        offered = load_programs(registry, site.gateway.programs, site.path)
        if offered:
            log.info("programs_loaded", programs=offered)
        engine = Engine(journal, registry, clock, site.gateway.max_turns_pending)
        try:
            await engine.recover()
            check_owner(engine.instances, site)
            raw = engine.client.read_entity_raw(transformer_id(site))
            armed = raw is not None and msgspec.json.decode(raw, type=Transformer).armed
        except msgspec.MsgspecError as error:
            raise StartError(f"the journal holds what this version can't read: {error}") from error
        files = None
        if site.operators is not None:
            from gateway import operators  # OPC UA takes its time and memory: only where it is wanted

            files = operators.prepare(site.operators)
        key = await device_key(state_dir, journal, (JournalError,))
        trend = TrendStore(state_dir)
        observer = Observer(engine, field)
        parts = Parts(
            journal,
            engine,
            driver,
            field,
            gate,
            clock,
            trend,
            observer,
            Watch(engine, field, trend, observer, CommittedBreakers(engine), armed),
            Heads(journal.head, key.sign, lambda: field.site.journal.head_every_s, key.warning),
            key,
            files,
        )
        try:
            return cls(site, parts)
        except msgspec.MsgspecError as error:
            raise StartError(f"the journal holds a breaker's state that this version can't read: {error}") from error

    async def serve(self) -> int:
        """Run until told to stop or until the journal fails; the exit code."""
        parts, spawn = self.parts, self._supervision.spawn
        self._supervision.watch_signals(self._reload.run)
        parts.engine.start()
        try:
            self._care.begin()
            told = {"version": __version__, "config_sha256": self.site.sha256, "site": self.site.name}
            record(parts.engine, "started", **told, key=parts.key.fingerprint)
            parts.key.record(parts.engine, os.getpid())
            health = health_of(parts, self.site, self._outputs, self._care, self._door_status, self._warnings)
            desk = Desk(parts.engine, parts.field, parts.watch, parts.clock, health, parts.journal)
            gateway = self.site.gateway
            self._make_door(desk)
            async with ControlServer(gateway.socket, gateway.socket_mode, handlers(desk)):
                await parts.driver.start(parts.observer)
                spawn(self._bring_up(), "bring-up")
                spawn(watchdog_of(parts, self._notifier, self._outputs).run(), "watchdog")
                spawn(self._clock_check.run(), "clock")
                spawn(parts.heads.run(), "heads")
                spawn(self._care.run(), "care of the journal")
                return await self._until_end()
        finally:
            await self._shut_down()

    def _make_door(self, desk: Desk) -> None:
        """The operators' server, still closed, where the site has one."""
        if self.site.operators is None or self.parts.files is None:
            return
        from gateway import operators

        door = operators.make_door(self.site.operators, self.parts.files, desk)

        def tolerate(error: BaseException) -> bool:
            if not operators.is_guest(error):
                return False
            door.defect(error)
            return True

        self._door = door
        self._supervision.tolerate = tolerate
        self._reload.listeners.append(door.site_changed)

    async def _bring_up(self) -> None:
        """Read the field, compare, watch; then let outputs go, or hold them; then let operators look."""
        parts = self.parts
        found, held = await self._outputs.compare()
        parts.observer.mark(parts.field.feeders)
        parts.observer.round()
        self._supervision.spawn(parts.observer.run(), "observer")
        self._supervision.spawn(parts.watch.run(), "watch")
        self._outputs.begin(held)
        spare_the_loop()
        if self._door is not None:
            await self._door.open()
        self._notifier.ready(f"{self.site.name}: {found.sentence}")
        log.info("ready", mode=parts.field.mode.value, held=parts.gate.held, feeders=len(parts.field.feeders))

    async def _until_end(self) -> int:
        """Wait for a reason to end, and hold the outputs at once; the exit code."""
        parts, supervision = self.parts, self._supervision
        stop = asyncio.ensure_future(supervision.stop.wait())
        failed = asyncio.ensure_future(parts.engine.wait_stopped())
        await asyncio.wait({stop, failed}, return_when=asyncio.FIRST_COMPLETED)
        for waiting in (stop, failed):
            waiting.cancel()
        if parts.engine.failure is not None:
            supervision.failed = f"the journal failed: {parts.engine.failure}"
        parts.gate.hold(supervision.failed or "the gateway is stopping")
        self._notifier.stopping(supervision.failed or "draining")
        if not supervision.failed:
            return OK
        print(f"gridlatch: outputs are held: {supervision.failed}", file=sys.stderr)
        return FAILED

    async def _shut_down(self) -> None:
        parts, supervision = self.parts, self._supervision
        parts.gate.hold(supervision.failed or "the gateway is stopping")
        await supervision.end_tasks()
        if self._door is not None:
            await self._door.close()
        if parts.engine.failure is None:
            record(parts.engine, "stopping", why=supervision.failed)
        # Without a journal nothing that ends now can be kept: the next start reads it back.
        await parts.engine.stop(DRAIN_S if parts.engine.failure is None else 0.0)
        await parts.driver.stop()
        head = parts.heads.send()
        log.info("stopped", journal_batch=head.batch, journal_hash=head.hash_hex)

    def _door_status(self) -> Json:
        return None if self._door is None else self._door.status()

    def _warnings(self) -> list[str]:
        told = [warning for warning in (self._clock_check.warning, self._reload.refused) if warning]
        return told if self._door is None else [*told, *self._door.warnings()]
