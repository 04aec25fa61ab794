"""The daemon: the one place that knows every part, and the order in which they start and stop.

Start: configuration → journal (exclusive) → engine recovers what is live → field links → serve with outputs held → read
every breaker → compare with what was known → release outputs, or wait for an operator → ready. Stop: take nothing more →
let commands end → write → close.

What must stay true: nothing is written to the field before every breaker was read or is known not to answer; a hold after
a restart outlives further restarts, until an operator releases it; when the journal fails, outputs are held at once and
the process ends (the service manager starts it again); every start and every orderly stop is a record in the journal.
On a crash nothing has to be cleaned up: the next start does it all.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from config import Site, load_site
from gateway import __version__, logs
from gateway.clock import SystemClock, iso, synchronized, to_us
from gateway.clock_check import ClockCheck
from gateway.control import ControlServer, SocketInUse
from gateway.durable import Engine, EntityId, Registry
from gateway.durable.codec import Json
from gateway.http_call import register_http
from gateway.notify import Notifier, Watchdog, watchdog_interval_s
from gateway.operations import Desk, Health, committed_station, handlers
from gateway.outputs import Outputs
from gateway.programs import ProgramError, load_programs
from gateway.reload import Reload
from gateway.shedding.application import register
from gateway.shedding.entities import SUBSTATION, TRANSFORMER, substation_id, transformer_id
from gateway.shedding.field import Field
from gateway.shedding.gate import OutputGate
from gateway.shedding.report import Proof, render_report
from gateway.shedding.substation import Transformer
from gateway.story import tell_story
from gateway.supervision import Supervision, record
from gateway.trend import TrendStore
from gateway.watch import CommittedBreakers, Observer, Watch
from journal import Head, Journal, JournalError
from protocols.modbus.driver import ModbusDriver

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

DRAIN_S = 8.0
HEAD_EVERY_S = 600.0
WATCH_LATE_S = 5.0
OK, FAILED, WRONG_CONFIGURATION = 0, 1, 2


async def run(site_path: Path) -> int:
    """Run the daemon of a site until it is told to stop; its exit code.

    Errors: ConfigErrors; everything else that keeps it from starting is said on standard error, with exit code 1;
    2 for a program of the site's own that can't be loaded: starting again would not mend it.
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
        return WRONG_CONFIGURATION if isinstance(error, ProgramError) else FAILED


class StartError(Exception):
    """The daemon can't start with what it found; the text says why. Nothing was started."""


@dataclass(slots=True)
class Parts:
    """What the daemon is made of."""

    journal: Journal
    engine: Engine
    driver: ModbusDriver
    field: Field
    gate: OutputGate
    clock: SystemClock
    trend: TrendStore
    observer: Observer
    watch: Watch


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

    @classmethod
    async def open(cls, site: Site, stack: contextlib.AsyncExitStack) -> Daemon:
        """Open the journal and recover; nothing moves yet.

        Errors: JournalError, ProgramError, StartError, OSError.
        """
        state_dir = site.gateway.state_dir
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        journal = await Journal.open(state_dir / "journal.db")
        stack.push_async_callback(journal.close)
        clock = _clock_of(site, journal.head())
        try:
            driver = ModbusDriver(site.devices, site.feeders, site.measurements)
        except ValueError as error:
            raise StartError(f"the driver refuses the list of points: {error}") from error
        gate = OutputGate("starting: the field has not been read yet")
        field = Field(driver, site, clock, gate)
        registry = Registry()
        register(registry, field)
        register_http(registry, site.gateway.http_hosts)
        offered = load_programs(registry, site.gateway.programs, site.path)
        if offered:
            log.info("programs_loaded", programs=offered)
        engine = Engine(journal, registry, clock, site.gateway.max_turns_pending)
        try:
            await engine.recover()
            _check_owner(engine.instances, site)
            raw = engine.client.read_entity_raw(transformer_id(site))
            armed = raw is not None and msgspec.json.decode(raw, type=Transformer).armed
        except msgspec.MsgspecError as error:
            raise StartError(f"the journal holds what this version can't read: {error}") from error
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
        )
        return cls(site, parts)

    async def serve(self) -> int:
        """Run until told to stop or until the journal fails; the exit code."""
        parts, spawn = self.parts, self._supervision.spawn
        self._supervision.watch_signals(self._reload.run)
        parts.engine.start()
        try:
            record(parts.engine, "started", version=__version__, config_sha256=self.site.sha256, site=self.site.name)
            desk = Desk(parts.engine, parts.field, parts.watch, parts.clock, self._health(), parts.journal)
            gateway = self.site.gateway
            async with ControlServer(gateway.socket, gateway.socket_mode, handlers(desk)):
                await parts.driver.start(parts.observer)
                spawn(self._bring_up(), "bring-up")
                spawn(self._watchdog().run(), "watchdog")
                spawn(self._clock_check.run(), "clock")
                spawn(self._send_heads(), "heads")
                return await self._until_end()
        finally:
            await self._shut_down()

    async def _bring_up(self) -> None:
        """Read the field, compare, watch; then let outputs go, or hold them."""
        parts = self.parts
        found, held = await self._outputs.compare()
        parts.observer.mark(parts.field.feeders)
        parts.observer.round()
        self._supervision.spawn(parts.observer.run(), "observer")
        self._supervision.spawn(parts.watch.run(), "watch")
        self._outputs.begin(held)
        _spare_the_loop()
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
        if parts.engine.failure is None:
            record(parts.engine, "stopping", why=supervision.failed)
        # Without a journal nothing that ends now can be kept: the next start reads it back.
        await parts.engine.stop(DRAIN_S if parts.engine.failure is None else 0.0)
        await parts.driver.stop()
        head = parts.journal.head()
        log.info("stopped", journal_batch=head.batch, journal_hash=head.hash_hex)

    async def _send_heads(self) -> None:
        """Send the head of the hash chain out of this file, so that a cut tail can be found."""
        while True:
            head = self.parts.journal.head()
            log.info("journal_head", batch=head.batch, seq=head.seq, hash=head.hash_hex)
            await asyncio.sleep(HEAD_EVERY_S)

    def _watchdog(self) -> Watchdog:
        parts = self.parts

        async def journal() -> str | None:
            await parts.journal.probe()
            return None

        async def watch() -> str | None:
            if not self._outputs.reconciled.is_set():
                return None
            late_s = asyncio.get_running_loop().time() - parts.watch.looked_at
            return f"nobody has looked at the load for {late_s:.1f} s" if late_s > WATCH_LATE_S else None

        async def engine() -> str | None:
            await parts.engine.on_disk()
            return None

        return Watchdog(self._notifier, watchdog_interval_s(), {"journal": journal, "engine": engine, "watch": watch})

    def _health(self) -> Health:
        parts = self.parts

        def head() -> tuple[int, int, str]:
            now = parts.journal.head()
            return now.seq, now.batch, now.hash_hex

        async def verify() -> dict[str, Json]:
            result = await parts.journal.verify()
            return {
                "ok": result.ok,
                "batches": result.batches,
                "records": result.records,
                "head": result.head.hash_hex,
                "problem": result.reason,
            }

        async def report(proofs: list[Proof]) -> str:
            states = parts.watch.committed_breakers()
            data = await tell_story(
                parts.journal,
                parts.trend,
                parts.field,
                committed_station(parts.engine, parts.field),
                states,
                parts.journal.head().hash_hex,
                parts.engine.now_us(),
                proofs,
            )
            return await asyncio.to_thread(render_report, data)

        return Health(
            parts.engine.now_us(),
            str(self.site.gateway.state_dir / "journal.db"),
            head,
            synchronized,
            verify,
            report,
            self._outputs.why_not_released,
            self._outputs.release,
            lambda: [warning for warning in (self._clock_check.warning, self._reload.refused) if warning],
        )


def _check_owner(instances: Iterable[str], site: Site) -> None:
    """A journal of a station or transformer by another name: its procedure and its stress would be forgotten here.

    Errors: StartError.
    """
    for kind, own in ((SUBSTATION, substation_id(site)), (TRANSFORMER, transformer_id(site))):
        other = [one for one in instances if one.startswith(f"@{kind}@") and one != str(own)]
        if other:
            raise StartError(
                f"the journal in {site.gateway.state_dir} is that of {kind} {EntityId.parse(other[0]).key!r}, and this "
                f"site calls its {kind} {own.key!r}: put the name back, or choose another state_dir"
            )


def _spare_the_loop() -> None:
    """Keep the garbage collector from stopping the loop: measured, full collections over 12,000 breakers took 0.4-0.8 s.

    What lives now lives on, so it is never looked at again; what comes later is looked at in larger portions.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 50, 1_000)


def _clock_of(site: Site, head: Head) -> SystemClock:
    simulated = site.gateway.simulated_clock
    if simulated is None:
        return SystemClock(not_before_us=head.time_us)
    clock = SystemClock(
        rate=simulated.rate,
        origin_us=to_us(simulated.origin),
        wall_origin_us=to_us(simulated.wall_origin),
        not_before_us=head.time_us,
    )
    log.warning("simulated_clock", rate=simulated.rate, now=iso(clock.now_us()))
    return clock
