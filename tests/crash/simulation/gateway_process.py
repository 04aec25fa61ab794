"""One process of the gateway: the parts of ``gateway/daemon.py`` without its sockets, in its order of start and stop.

Real: engine, application, entities, procedure, driver down to the transport, output gate, outputs, reconciliation,
watch, observer, clock, clock check, leavings, supervision, the operations behind the control socket. Not here: signals, the
control socket itself, the OPC UA server, care of the journal, signed heads, trend files, watchdog.
The observer's round and the watch's look come when something has changed, or after ``look_s``, not four times and once
a second: a round in which nothing has changed does nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec
from crash.simulation.disk import Journal
from crash.simulation.loop import Process, VirtualLoop

from config import Site
from gateway.clock import SystemClock
from gateway.clock_check import ClockCheck
from gateway.control import Handler
from gateway.durable import Engine, Registry
from gateway.operations import Desk, Health, handlers
from gateway.operations.desk import handler
from gateway.operations.shedding import start as start_shedding
from gateway.outputs import Outputs
from gateway.shedding.application import register
from gateway.shedding.entities import transformer_id
from gateway.shedding.field import Field
from gateway.shedding.gate import OutputGate
from gateway.shedding.substation import Transformer
from gateway.starting import check_owner
from gateway.supervision import Supervision, record
from gateway.trend import TrendSample
from gateway.watch import CommittedBreakers, Observer, Watch
from protocols.base import BreakerReading
from protocols.modbus.driver import ModbusDriver

DRAIN_S = 8.0
OBSERVE_S = 0.25


def CollectEvents(context: Any) -> Any:
    """Take numbered events; every ten a new history, until one says stop; what came, in its order."""
    seen = list(context.get_input() or [])
    for _ in range(10):
        event = yield context.wait_for_external_event("Number")
        if event["number"] < 0:
            return seen
        seen.append([event["sender"], event["number"]])
    context.continue_as_new(seen)
    return None


class NoTrend:
    """The trend store, without files."""

    lost = 0

    def append(self, sample: TrendSample) -> None:
        """See TrendStore."""


class Gate(OutputGate):
    """The gate, and what it was told last: a leaky one is found out by that."""

    told_held = True

    def hold(self, reason: str) -> None:
        """See OutputGate."""
        self.told_held = True
        super().hold(reason)

    def release(self) -> None:
        """See OutputGate."""
        self.told_held = False
        super().release()


class LeakyGate(Gate):
    """A control: it lets writes through."""

    @property
    def held(self) -> bool:
        """Never."""
        return False


class QuietObserver(Observer):
    """The observer, asleep while there is nothing to tell."""

    def __init__(self, engine: Engine, field: Field) -> None:
        super().__init__(engine, field)
        self._something = asyncio.Event()

    def breakers_changed(self, changes: list[tuple[str, BreakerReading]]) -> None:
        """See Observer."""
        super().breakers_changed(changes)
        self._something.set()

    def mark(self, feeders: Iterable[str]) -> None:
        """See Observer."""
        super().mark(feeders)
        self._something.set()

    async def run(self) -> None:
        """See Observer."""
        while True:
            self.round()
            if not self._changed:
                self._something.clear()
                await self._something.wait()
            await asyncio.sleep(OBSERVE_S)


class GatewayProcess(Process):
    """See above. ended: told when the process has ended by itself, with the reason it ends for."""

    def __init__(
        self,
        number: int,
        site: Site,
        journal: Journal,
        loop: VirtualLoop,
        look_s: float,
        gate: Gate,
        ended: Callable[[str], None],
    ) -> None:
        self.number = number
        self.site = site
        self.journal = journal
        self.gate = gate
        self.ready = False
        self.ready_at = 0.0
        self.handlers: dict[str, Handler] = {}
        self.asked: dict[int, asyncio.Future[Any]] = {}
        self.engine: Engine
        self.field: Field
        self.watch: Watch
        self.clock: SystemClock
        self.supervision: Supervision
        self._loop = loop
        self._look_s = look_s
        self._ended = ended
        self._numbers = 0

    def boot(self) -> None:
        """Start; everything else happens in the loop."""
        self._loop.spawn_in(self, self._main())

    async def _main(self) -> None:
        try:
            why = await self._serve()
        except Exception as error:  # noqa: BLE001 - whatever ends a process, the story has to hear of it
            why = f"died: {type(error).__name__}: {error}"
        self._ended(why)

    async def _serve(self) -> str:
        self._compose()
        engine, supervision, outputs = self.engine, self.supervision, self.outputs
        await engine.recover()
        check_owner(engine.instances, self.site)
        raw = engine.client.read_entity_raw(transformer_id(self.site))
        armed = raw is not None and msgspec.json.decode(raw, type=Transformer).armed
        self.observer = QuietObserver(engine, self.field)
        self.watch = Watch(engine, self.field, NoTrend(), self.observer, CommittedBreakers(engine), armed)  # type: ignore[arg-type]
        engine.start()
        try:
            record(engine, "started", version="0", config_sha256=self.site.sha256, site=self.site.name)
            self._open_desk()
            await self.driver.start(self.observer)
            supervision.spawn(self._bring_up(), "bring-up")
            await self._until_end(outputs)
        finally:
            self.gate.hold(supervision.failed or "the gateway is stopping")
            await supervision.end_tasks()
            if engine.failure is None:
                record(engine, "stopping", why=supervision.failed)
            await engine.stop(DRAIN_S if engine.failure is None else 0.0)
            await self.driver.stop()
        return supervision.failed

    def _compose(self) -> None:
        site = self.site
        self.clock = SystemClock(not_before_us=self.journal.disk.last_time_us)
        self.driver = ModbusDriver(site.devices, site.feeders, site.measurements, self._loop.time)  # type: ignore[arg-type]
        self.field = Field(self.driver, site, self.clock, self.gate)
        registry = Registry()
        register(registry, self.field)
        registry.orchestrator(CollectEvents)
        self.engine = Engine(self.journal, registry, self.clock, site.gateway.max_turns_pending)
        self.supervision = Supervision(self.gate)
        self._loop.set_exception_handler(self.supervision._defect)
        self.outputs = Outputs(self.engine, self.field, self.gate, self.supervision)
        self.clock_check = ClockCheck(self.engine, self.clock)

    def _open_desk(self) -> None:
        health = Health(
            self.engine.now_us(),
            "",
            lambda: (0, 0, ""),
            lambda: True,
            self._nothing,
            lambda _: self._text(),
            self.outputs.why_not_released,
            self.outputs.release,
            list,
        )
        desk = Desk(self.engine, self.field, self.watch, self.clock, health, None)  # type: ignore[arg-type]
        self.desk = desk
        self.handlers = {**handlers(desk), "shed.start": handler(desk, start_shedding)}

    async def _nothing(self) -> dict[str, Any]:
        return {}

    async def _text(self) -> str:
        return ""

    async def _bring_up(self) -> None:
        _, held = await self.outputs.compare()
        self.observer.mark(self.field.feeders)
        self.observer.round()
        self.supervision.spawn(self.observer.run(), "observer")
        self.supervision.spawn(self._look(), "watch")
        self.outputs.begin(held)
        self.ready, self.ready_at = True, self._loop.time()

    async def _look(self) -> None:
        while True:
            self.watch.look()
            self.clock_check.look()
            await asyncio.sleep(self._look_s)

    async def _until_end(self, outputs: Outputs) -> None:
        engine, supervision = self.engine, self.supervision
        stop = asyncio.ensure_future(supervision.stop.wait())
        failed = asyncio.ensure_future(engine.wait_stopped())
        await asyncio.wait({stop, failed}, return_when=asyncio.FIRST_COMPLETED)
        for waiting in (stop, failed):
            waiting.cancel()
        if engine.failure is not None:
            supervision.failed = f"the journal failed: {engine.failure}"
        self.gate.hold(supervision.failed or "the gateway is stopping")

    def ask(self, work: Callable[[], Awaitable[Any]]) -> asyncio.Future[Any]:
        """Let the process do this for somebody outside; the future fails with ConnectionError when it dies over it."""
        answer = self._loop.create_future()
        self._numbers += 1
        number = self._numbers
        self.asked[number] = answer

        async def run() -> None:
            try:
                told: Any = await work()
            except Exception as error:  # noqa: BLE001 - it is the answer
                if not answer.done():
                    answer.set_exception(error)
            else:
                if not answer.done():
                    answer.set_result(told)
            self.asked.pop(number, None)

        self._loop.spawn_in(self, run())
        return answer

    def gone(self) -> None:
        """The process has gone: nobody gets an answer any more."""
        for answer in self.asked.values():
            if not answer.done():
                answer.set_exception(ConnectionError("the gateway has gone"))
        self.asked.clear()
