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
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import structlog

from config import ConfigErrors, Site, load_site, restart_needed
from gateway import __version__, logs
from gateway.clock import SystemClock, iso, synchronized, to_us
from gateway.control import ControlServer, SocketInUse
from gateway.durable import Engine, Registry
from gateway.durable.codec import Json
from gateway.durable.instances import Orchestration
from gateway.notify import Notifier, Watchdog, watchdog_interval_s
from gateway.operations import Desk, Health, committed_station, handlers
from gateway.programs import ProgramError, load_programs
from gateway.shedding.activities import load_mode
from gateway.shedding.application import register
from gateway.shedding.breaker_model import Breaker
from gateway.shedding.entities import substation_id, transformer_id
from gateway.shedding.field import Field
from gateway.shedding.gate import OutputGate
from gateway.shedding.reconcile import Reconciliation, may_continue, reconcile
from gateway.shedding.report import Proof, render_report
from gateway.shedding.substation import Transformer
from gateway.story import tell_story
from gateway.trend import TrendStore
from gateway.watch import CommittedBreakers, Observer, Watch, breaker_now
from journal import Head, Journal, JournalError
from protocols.modbus.driver import ModbusDriver

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

FIRST_SCAN_S = 15.0
DRAIN_S = 8.0
HEAD_EVERY_S = 600.0
CLOCK_CHECK_S = 5.0
CLOCK_STEP_ALARM_S = 1.0
WATCH_LATE_S = 5.0
PROBLEMS_SHOWN = 10
UNSYNCED = "the clock is not synchronised"
OK, FAILED = 0, 1


async def run(site_path: Path) -> int:
    """Run the daemon of a site until it is told to stop; its exit code.

    Errors: ConfigErrors; everything else that keeps it from starting is said on standard error, with exit code 1.
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
        return FAILED


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
        self.notifier = Notifier.from_environment()
        self.warnings: list[str] = []
        self.reconciled = asyncio.Event()
        self._stop = asyncio.Event()
        self._failed = ""
        self._reload_refused = ""
        self._reloading = asyncio.Lock()
        self._clock_alarm = False
        self._tasks: set[asyncio.Task[None]] = set()

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
        offered = load_programs(registry, site.gateway.programs, site.path)
        if offered:
            log.info("programs_loaded", programs=offered)
        engine = Engine(journal, registry, clock, site.gateway.max_turns_pending)
        try:
            await engine.recover()
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
        parts = self.parts
        self._handle_signals()
        parts.engine.start()
        try:
            self._record("started", version=__version__, config_sha256=self.site.sha256, site=self.site.name)
            desk = Desk(parts.engine, parts.field, parts.watch, parts.clock, self._health())
            gateway = self.site.gateway
            async with ControlServer(gateway.socket, gateway.socket_mode, handlers(desk)):
                await parts.driver.start(parts.observer)
                self._spawn(self._bring_up(), "bring-up")
                self._spawn(self._watchdog().run(), "watchdog")
                self._spawn(self._watch_clock(), "clock")
                self._spawn(self._send_heads(), "heads")
                return await self._until_end()
        finally:
            await self._shut_down()

    async def _until_end(self) -> int:
        """Wait for a reason to end, and hold the outputs at once; the exit code."""
        parts = self.parts
        stop = asyncio.ensure_future(self._stop.wait())
        failed = asyncio.ensure_future(parts.engine.wait_stopped())
        await asyncio.wait({stop, failed}, return_when=asyncio.FIRST_COMPLETED)
        for waiting in (stop, failed):
            waiting.cancel()
        if parts.engine.failure is not None:
            self._failed = f"the journal failed: {parts.engine.failure}"
        parts.gate.hold(self._failed or "the gateway is stopping")
        self.notifier.stopping(self._failed or "draining")
        if not self._failed:
            return OK
        print(f"gridlatch: outputs are held: {self._failed}", file=sys.stderr)
        return FAILED

    async def _shut_down(self) -> None:
        parts = self.parts
        parts.gate.hold(self._failed or "the gateway is stopping")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if parts.engine.failure is None:
            self._record("stopping", why=self._failed)
        # Without a journal nothing that ends now can be kept: the next start reads it back.
        await parts.engine.stop(DRAIN_S if parts.engine.failure is None else 0.0)
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
        self._record("reconciled", sentence=found.sentence, in_procedure=in_procedure)
        await load_mode(parts.field, parts.engine.client)
        # A hold outlives restarts; it is on disk before the entities hear of what moved, for after that all looks clean.
        held = committed_station(parts.engine, parts.field).held
        if not held and not may_continue(self.site.shedding.after_restart, found, in_procedure):
            held = self._why_held(found)
            await parts.engine.client.signal_entity(substation_id(self.site), "hold", {"reason": held})
        parts.observer.mark(parts.field.feeders)
        parts.observer.round()
        self._spawn(parts.observer.run(), "observer")
        self._spawn(parts.watch.run(), "watch")
        self.reconciled.set()
        if held:
            parts.gate.hold(held)
            log.warning("outputs_held", why=held)
        else:
            self._open_gate()
        _spare_the_loop()
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

    def _open_gate(self) -> None:
        """Let outputs go, or as soon as the clock is synchronised."""
        if self._must_wait_for_time():
            self.parts.gate.hold(UNSYNCED)
            log.warning("clock_unsynced", consequence="outputs are held")
            self._spawn(self._open_when_synchronized(), "time")
        else:
            self.parts.gate.release()

    async def _open_when_synchronized(self) -> None:
        while self._must_wait_for_time():  # noqa: ASYNC110 - the kernel tells nobody when it is so
            await asyncio.sleep(CLOCK_CHECK_S)
        log.info("clock_synced")
        if self.parts.gate.reason == UNSYNCED:  # what holds it for another reason stays
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

        async def journal() -> str | None:
            await parts.journal.probe()
            return None

        async def watch() -> str | None:
            if not self.reconciled.is_set():
                return None
            late_s = asyncio.get_running_loop().time() - parts.watch.looked_at
            return f"nobody has looked at the load for {late_s:.1f} s" if late_s > WATCH_LATE_S else None

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
            self._why_not_released,
            self._release,
            lambda: [*self.warnings, *([self._reload_refused] if self._reload_refused else [])],
        )

    def _why_not_released(self) -> str:
        """Why nobody can release the outputs now; empty when an operator can."""
        if self.parts.engine.failure is not None:
            return "the journal failed: outputs stay held until the gateway starts again"
        if self._stop.is_set():
            return "the gateway is stopping: outputs stay held"
        return "" if self.reconciled.is_set() else "the field has not been read yet: wait until the gateway is ready"

    def _release(self, who: str) -> str:
        """An operator lets outputs go; what became of it, in words."""
        if why := self._why_not_released():
            return f"the hold is over, but {why}"
        log.warning("outputs_released", by=who)
        if not self.parts.gate.held:
            return "outputs are released"
        if self.parts.gate.reason != UNSYNCED:
            self._open_gate()
        return f"the hold is over, but {UNSYNCED}" if self.parts.gate.held else "outputs are released"

    def _record(self, event: str, **details: Json) -> None:
        future = self.parts.engine.record("", "gateway", {"event": event, "pid": os.getpid(), **details})
        # A failed journal ends the daemon elsewhere; here nobody waits for the answer.
        future.add_done_callback(lambda f: f.cancelled() or f.exception())

    # Signals

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._spawn(self._reload(), "reload"))
        loop.set_exception_handler(self._defect)

    def _defect(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An exception that nobody awaited is a defect."""
        error = context.get("exception")
        log.critical("defect", message=context.get("message"), error=str(error), exc_info=error)
        if error is not None:
            self._give_up(f"defect: {error}")

    def _give_up(self, why: str) -> None:
        """Hold outputs and end: the daemon must not limp; the service manager starts it again."""
        self._failed = self._failed or why
        self.parts.gate.hold(why)
        self._stop.set()

    async def _reload(self) -> None:
        """Re-read the configuration; what can't be changed at run time stays as it is, and is named."""
        await self.reconciled.wait()
        async with self._reloading:
            self.notifier.reloading()
            try:
                new = await asyncio.to_thread(load_site, self.site.path)  # 12,000 rows take longer than a poll may wait
            except ConfigErrors as errors:
                self._refuse_reload([str(one) for one in errors.problems])
            else:
                waiting = restart_needed(self.site, new)
                if waiting:
                    self._refuse_reload([f"{change}: needs a restart" for change in waiting])
                else:
                    self._use(new)
            told = self._reload_refused or "the configuration was read again"
            self.notifier.ready(f"{self.site.name}: configuration {self.site.sha256[:12]}; {told}")

    def _refuse_reload(self, problems: list[str]) -> None:
        shown = problems[:PROBLEMS_SHOWN]
        self._reload_refused = f"the changed configuration is not in use: {'; '.join(shown)}"
        if len(problems) > len(shown):
            self._reload_refused += f" and {len(problems) - len(shown)} more"
        log.error("reload_refused", problems=shown, number=len(problems))
        self._record("reload_refused", problems=shown, number=len(problems))

    def _use(self, new: Site) -> None:
        old, self.site = self.site, new
        self._reload_refused = ""
        self.parts.field.use(new)
        logs.set_level(new.gateway.log_level)
        self._record("reloaded", config_sha256=new.sha256, before=old.sha256)
        log.info("reloaded", config_sha256=new.sha256)

    def _spawn(self, work: object, name: str) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work, name=name)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A task that fails is a defect, and the daemon must not limp: it ends, and says so by its exit code."""
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            log.critical("task_failed", task=task.get_name(), error=str(error), exc_info=error)
            self._give_up(f"{task.get_name()} failed: {error}")


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
