"""When commands may leave: not before the field is known, not without the time where the site wants it, not in a hold.

The output gate starts held. What must stay true: nothing is written to the field before every breaker was read or is
known not to answer; a hold after a restart outlives further restarts, until an operator releases it; once the journal
failed or the daemon ends, nobody can release. A crash here: the gate is held again after the start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog

from config.models import AfterRestart
from gateway.clock import synchronized
from gateway.durable import Engine
from gateway.durable.instances import Orchestration
from gateway.operations import committed_station
from gateway.shedding.activities import load_mode
from gateway.shedding.breaker_model import Breaker
from gateway.shedding.entities import substation_id
from gateway.shedding.field import Field
from gateway.shedding.gate import OutputGate
from gateway.shedding.reconcile import Reconciliation, may_continue, reconcile
from gateway.supervision import Supervision, record
from gateway.watch import breaker_now

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

FIRST_SCAN_S = 15.0
LOOK_AGAIN_S = 0.25
CLOCK_CHECK_S = 5.0
UNSYNCED = "the clock is not synchronised"


class Outputs:
    """Decides over the gate. reconciled: set once the field has been read and compared with what was known.

    Made once the engine has recovered and before it starts: what the breakers were known to be is taken then. An order
    that comes before the field is read explains nothing of what is found there.
    """

    def __init__(self, engine: Engine, field: Field, gate: OutputGate, supervision: Supervision) -> None:
        self.reconciled = asyncio.Event()
        self._engine = engine
        self._field = field
        self._gate = gate
        self._supervision = supervision
        self._as_left = self._known()

    async def compare(self) -> tuple[Reconciliation, str]:
        """Read the field and compare; the finding, and why outputs stay held (empty when they may go).

        A hold is on its way to the disk when this returns: entities may hear of what moved only after that, for then
        all looks clean.
        """
        engine, field = self._engine, self._field
        policy = field.site.shedding.after_restart
        held = committed_station(engine, field).held
        waits = policy is AfterRestart.CONTINUE_IF_CLEAN and self._in_procedure() and not held
        found = await self._read(FIRST_SCAN_S if waits else 0.0)
        in_procedure = self._in_procedure()
        log.info("reconciled", sentence=found.sentence, in_procedure=in_procedure)
        record(engine, "reconciled", sentence=found.sentence, in_procedure=in_procedure)
        await load_mode(field, engine.client)
        held = committed_station(engine, field).held
        if not held and not may_continue(policy, found, in_procedure):
            held = f"after a restart inside a procedure: {found.sentence}; release when you have seen to it"
            await engine.client.signal_entity(substation_id(field.site), "hold", {"reason": held})
        return found, held

    async def _read(self, patience_s: float) -> Reconciliation:
        """What a comparison finds once every breaker was read, or its device is known not to answer.

        One that does not answer at first may do so at the second try: it has patience_s, as a hold wants a person; not
        where one is wanted anyway.
        """
        loop, feeders = asyncio.get_running_loop(), list(self._field.feeders)
        until = loop.time() + patience_s
        await self._field.driver.wait_first_scan(FIRST_SCAN_S)
        found = self._compared(feeders)
        while found.unreadable and not found.moved and loop.time() < until:
            await asyncio.sleep(LOOK_AGAIN_S)
            found = self._compared(found.unreadable)
        found = self._compared(feeders)
        self._as_left.clear()
        return found

    def _compared(self, feeders: Iterable[str]) -> Reconciliation:
        return reconcile(self._as_left, {name: self._field.driver.breaker(name) for name in feeders})

    def _in_procedure(self) -> bool:
        return any(isinstance(one, Orchestration) and not one.terminal for one in self._engine.instances.values())

    def begin(self, held: str) -> None:
        """The field is known: let outputs go, or hold them for this reason."""
        self.reconciled.set()
        if held:
            self._gate.hold(held)
            log.warning("outputs_held", why=held)
        else:
            self._open()

    def why_not_released(self) -> str:
        """Why nobody can release the outputs now; empty when an operator can."""
        if self._engine.failure is not None:
            return "the journal failed: outputs stay held until the gateway starts again"
        if self._supervision.stop.is_set():
            return "the gateway is stopping: outputs stay held"
        return "" if self.reconciled.is_set() else "the field has not been read yet: wait until the gateway is ready"

    def release(self, who: str) -> str:
        """An operator lets outputs go; what became of it, in words."""
        if why := self.why_not_released():
            return f"the hold is over, but {why}"
        log.warning("outputs_released", by=who)
        if not self._gate.held:
            return "outputs are released"
        if self._gate.reason != UNSYNCED:
            self._open()
        return f"the hold is over, but {UNSYNCED}" if self._gate.held else "outputs are released"

    def _known(self) -> dict[str, Breaker]:
        states = ((name, breaker_now(self._engine, name)) for name in self._field.feeders)
        return {name: state for name, state in states if state is not None}

    def _must_wait_for_time(self) -> bool:
        """Commands are bounded in time, so they need a clock that somebody disciplines, where the site says so."""
        return self._field.site.gateway.require_time_sync and synchronized() is not True

    def _open(self) -> None:
        """Let outputs go, or as soon as the clock is synchronised."""
        if self._must_wait_for_time():
            self._gate.hold(UNSYNCED)
            log.warning("clock_unsynced", consequence="outputs are held")
            self._supervision.spawn(self._open_when_synchronized(), "time")
        else:
            self._gate.release()

    async def _open_when_synchronized(self) -> None:
        while self._must_wait_for_time():  # noqa: ASYNC110 - the kernel tells nobody when it is so
            await asyncio.sleep(CLOCK_CHECK_S)
        log.info("clock_synced")
        if self._gate.reason == UNSYNCED:  # what holds it for another reason stays
            self._gate.release()
