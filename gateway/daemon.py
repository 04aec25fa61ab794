"""The daemon: the one place that knows every part, and the order in which they start and stop.

Start: configuration → journal (exclusive) → engine recovers what is live → field links → serve with outputs held → read
every breaker → compare with what was known → release outputs, or wait for an operator → ready. Stop: take nothing more →
let commands end → write → close.

What must stay true: nothing is written to the field before every breaker was read or is known not to answer; when the
journal fails, outputs are held at once and the process ends (the service manager starts it again); every start and every
orderly stop is a record in the journal. On a crash nothing has to be cleaned up: the next start does it all.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from config import ConfigErrors, Site, load_site, restart_needed
from gateway import __version__, logs
from gateway.clock import SystemClock, iso, synchronized, to_us
from gateway.control import ControlServer, SocketInUse
from gateway.durable import Engine, Registry
from gateway.durable.codec import Json
from gateway.durable.instances import Orchestration
from gateway.notify import Notifier, Watchdog, watchdog_interval_s
from gateway.operations import Health, Operations, committed_breakers, committed_station
from gateway.programs import ProgramError, load_programs
from gateway.shedding.activities import load_mode
from gateway.shedding.application import register
from gateway.shedding.breaker_model import Breaker
from gateway.shedding.entities import substation_id, transformer_id
from gateway.shedding.field import Field
from gateway.shedding.gate import OutputGate
from gateway.shedding.reconcile import Reconciliation, may_continue, reconcile
from gateway.shedding.report import Proof, render_report
from gateway.story import tell_story
from gateway.trend import TrendStore
from gateway.watch import Observer, Watch, breaker_now
from journal import Head, Journal, JournalError
from protocols.modbus.driver import ModbusDriver

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

FIRST_SCAN_S = 15.0
DRAIN_S = 8.0
HEAD_EVERY_S = 600.0
CLOCK_CHECK_S = 5.0
CLOCK_STEP_ALARM_S = 1.0
OK, FAILED = 0, 1


async def run(site_path: Path) -> int:
    """Run the daemon of a site until it is told to stop; its exit code.

    Errors: ConfigErrors; everything else that keeps it from starting is said on standard error, with exit code 1.
    """
    site = load_site(site_path)
    logs.configure(site.gateway.log_level, site.gateway.log_format)
    try:
        async with contextlib.AsyncExitStack() as stack:
            daemon = await Daemon.open(site, stack)
            return await daemon.serve()
    except (JournalError, SocketInUse, ProgramError, OSError) as error:
        log.critical("not_started", error=str(error), kind=type(error).__name__)
        print(f"gridlatch: {error}", file=sys.stderr)
        return FAILED


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
        self.notifier = Notifier.from_environment()
        self.warnings: list[str] = []
        self.reconciled = asyncio.Event()
        self._stop = asyncio.Event()
        self._exit_code = OK
        self._clock_alarm = False
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, site: Site, stack: contextlib.AsyncExitStack) -> Daemon:
        """Open the journal and recover; nothing moves yet.

        Errors: JournalError, ProgramError, OSError.
        """
        state_dir = site.gateway.state_dir
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        journal = await Journal.open(state_dir / "journal.db")
        stack.push_async_callback(journal.close)
        clock = _clock_of(site, journal.head())
        driver = ModbusDriver(site.devices, site.feeders, site.measurements)
        gate = OutputGate("starting: the field has not been read yet")
        field = Field(driver, site, clock, gate)
        registry = Registry()
        register(registry, field)
        offered = load_programs(registry, site.gateway.programs, site.path)
        if offered:
            log.info("programs_loaded", programs=offered)
        engine = Engine(journal, registry, clock, site.gateway.max_turns_pending)
        await engine.recover()
        trend = TrendStore(state_dir)
        raw = engine.client.read_entity_raw(transformer_id(site))
        armed = raw is not None and b'"armed":true' in bytes(raw)
        parts = Parts(
            journal,
            engine,
            driver,
            field,
            gate,
            clock,
            trend,
            Observer(engine, field),
            Watch(engine, field, trend, armed),
        )
        return cls(site, parts)

    async def serve(self) -> int:
        """Run until told to stop or until the journal fails; the exit code."""
        parts = self.parts
        self._handle_signals()
        parts.engine.start()
        self._record("started", version=__version__, config_sha256=self.site.sha256, site=self.site.name)
        await parts.driver.start(parts.observer)
        operations = Operations(parts.engine, parts.field, parts.watch, parts.clock, self._health())
        try:
            async with ControlServer(self.site.gateway.socket, self.site.gateway.socket_mode, operations.handlers()):
                self._spawn(self._bring_up(), "bring-up")
                self._spawn(self._watchdog().run(), "watchdog")
                self._spawn(self._watch_clock(), "clock")
                self._spawn(self._send_heads(), "heads")
                return await self._until_end()
        finally:
            await self._shut_down()

    async def _until_end(self) -> int:
        stop = asyncio.ensure_future(self._stop.wait())
        failed = asyncio.ensure_future(self.parts.engine.wait_stopped())
        done, _ = await asyncio.wait({stop, failed}, return_when=asyncio.FIRST_COMPLETED)
        for waiting in (stop, failed):
            waiting.cancel()
        if failed in done and self.parts.engine.failure is not None:
            self.parts.gate.hold("the journal failed")
            self.notifier.status(f"stopping: the journal failed: {self.parts.engine.failure}")
            print(f"gridlatch: the journal failed, outputs are held: {self.parts.engine.failure}", file=sys.stderr)
            return FAILED
        return self._exit_code

    async def _shut_down(self) -> None:
        parts = self.parts
        self.notifier.stopping("draining")
        parts.gate.hold("the gateway is stopping")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if parts.engine.failure is None:
            self._record("stopping")
        await parts.engine.stop(DRAIN_S)
        await parts.driver.stop()
        head = parts.journal.head()
        log.info("stopped", journal_batch=head.batch, journal_hash=head.hash_hex)

    # Bringing up

    async def _bring_up(self) -> None:
        """Read the field, compare, release or hold; then watch."""
        parts = self.parts
        await parts.driver.wait_first_scan(FIRST_SCAN_S)
        readings = {name: parts.driver.breaker(name) for name in parts.field.feeders}
        found = reconcile(self._known(), readings)
        in_procedure = self._in_procedure()
        log.info("reconciled", sentence=found.sentence, in_procedure=in_procedure)
        parts.observer.mark(parts.field.feeders)
        parts.observer.round()
        self._spawn(parts.observer.run(), "observer")
        self._record("reconciled", sentence=found.sentence, in_procedure=in_procedure)
        await load_mode(parts.field, parts.engine.client)
        if not may_continue(self.site.shedding.after_restart, found, in_procedure):
            why = self._why_held(found)
            parts.gate.hold(why)
            await parts.engine.client.signal_entity(substation_id(self.site), "hold", {"reason": why})
            log.warning("outputs_held", why=why)
        elif self._must_wait_for_time():
            parts.gate.hold("the clock is not synchronised")
            self._spawn(self._release_when_synchronized(), "time")
        else:
            parts.gate.release()
        self._spawn(parts.watch.run(), "watch")
        self.reconciled.set()
        self.notifier.ready(f"{self.site.name}: {found.sentence}")
        log.info("ready", mode=parts.field.mode.value, held=parts.gate.held, feeders=len(parts.field.feeders))

    def _known(self) -> dict[str, Breaker]:
        known: dict[str, Breaker] = {}
        for name in self.parts.field.feeders:
            state = breaker_now(self.parts.engine, name)
            if state is not None:
                known[name] = state
        return known

    def _in_procedure(self) -> bool:
        return any(isinstance(one, Orchestration) and not one.terminal for one in self.parts.engine.instances.values())

    def _why_held(self, found: Reconciliation) -> str:
        return f"after a restart inside a procedure: {found.sentence}; release when you have seen to it"

    def _must_wait_for_time(self) -> bool:
        """Commands are bounded in time, so they need a clock that somebody disciplines, where the site says so."""
        return self.site.gateway.require_time_sync and synchronized() is not True

    async def _release_when_synchronized(self) -> None:
        log.warning("clock_unsynced", consequence="outputs are held")
        while self._must_wait_for_time():  # noqa: ASYNC110 - the kernel tells nobody when it is so
            await asyncio.sleep(CLOCK_CHECK_S)
        log.info("clock_synced")
        self.parts.gate.release()

    # While it runs

    async def _watch_clock(self) -> None:
        while True:
            await asyncio.sleep(CLOCK_CHECK_S)
            step_s = self.parts.clock.wall_step_s()
            if abs(step_s) >= CLOCK_STEP_ALARM_S and not self._clock_alarm:
                self._clock_alarm = True
                log.error("clock_stepped", step_s=round(step_s, 3))
                self._record("clock_stepped", step_s=round(step_s, 3))
                self.warnings.append(f"the wall clock was stepped by {step_s:.1f} s; running timers are not moved")

    async def _send_heads(self) -> None:
        """Send the head of the hash chain out of this file, so that a cut tail can be found."""
        while True:
            head = self.parts.journal.head()
            log.info("journal_head", batch=head.batch, seq=head.seq, hash=head.hash_hex)
            await asyncio.sleep(HEAD_EVERY_S)

    def _watchdog(self) -> Watchdog:
        parts = self.parts
        seen = {"ticks": -1}

        async def journal() -> str | None:
            await parts.journal.probe()
            return None

        async def watch() -> str | None:
            if not self.reconciled.is_set():
                return None
            stuck = parts.watch.ticks == seen["ticks"]
            seen["ticks"] = parts.watch.ticks
            return "the load is not being watched" if stuck else None

        async def engine() -> str | None:
            await parts.engine.on_disk()
            return None

        return Watchdog(self.notifier, watchdog_interval_s(), {"journal": journal, "engine": engine, "watch": watch})

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
            states = committed_breakers(parts.engine, parts.field)
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
            lambda: parts.journal.head().seq,
            synchronized,
            verify,
            report,
            self._release,
            self.warnings,
        )

    def _release(self, who: str) -> None:
        self.parts.gate.release()
        log.warning("outputs_released", by=who)

    def _record(self, event: str, **details: Json) -> None:
        future = self.parts.engine.record("", "gateway", {"event": event, "pid": os.getpid(), **details})
        # A failed journal ends the daemon elsewhere; here nobody waits for the answer.
        future.add_done_callback(lambda f: f.cancelled() or f.exception())

    # Signals

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        loop.set_exception_handler(self._defect)

    def _defect(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An exception that nobody awaited is a defect: hold outputs, say it, end; the service manager starts again."""
        error = context.get("exception")
        log.critical("defect", message=context.get("message"), error=str(error), exc_info=error)
        if error is not None:
            self.parts.gate.hold(f"defect: {error}")
            self._exit_code = FAILED
            self._stop.set()

    def _reload(self) -> None:
        """Re-read the configuration; what can't be changed at run time stays as it is, and is named."""
        self.notifier.reloading()
        try:
            new = load_site(self.site.path)
        except ConfigErrors as errors:
            log.error("reload_refused", problems=str(errors))
        else:
            waiting = restart_needed(self.site, new)
            if waiting:
                log.error("reload_needs_restart", changes=waiting)
            else:
                self._use(new)
        self.notifier.ready(f"{self.site.name}: configuration {self.site.sha256[:12]}")

    def _use(self, new: Site) -> None:
        old, self.site = self.site, new
        self.parts.field.use(new)
        logs.set_level(new.gateway.log_level)
        self._record("reloaded", config_sha256=new.sha256, before=old.sha256)
        log.info("reloaded", config_sha256=new.sha256)

    def _spawn(self, work: object, name: str) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work, name=name)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """None of these tasks ends by itself, save bring-up: anything else is a defect, and the daemon must not limp."""
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            log.critical("task_failed", task=task.get_name(), error=str(error), exc_info=error)
            self.parts.gate.hold(f"{task.get_name()} failed: {error}")
            self._exit_code = FAILED
            self._stop.set()


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
