"""Deliberately broken variants: if the stories don't find them, they are blind."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from unittest import mock

from crash.simulation.disk import HastyJournal, Journal
from crash.simulation.gateway_process import Gate, LeakyGate
from crash.simulation.station import Plan

from gateway.durable import recovery
from gateway.durable.timers import Timers
from gateway.shedding import breaker
from gateway.shedding.breaker_events import Event
from gateway.shedding.breaker_model import Phase
from gateway.shedding.conduct import Conductor, Step
from protocols.commander import Commander

STORMY = Plan(
    hours=3.0,
    fault_every_s=200.0,
    order_every_s=150.0,
    crash_every_s=300.0,
    look_s=10.0,
    commit_fails=0.0,
    peak_pct=120.0,
)


@dataclass(frozen=True, slots=True)
class Control:
    """What is broken. found: words of which one must be in a violation. first_seed: where to begin, to be quick."""

    name: str
    found: tuple[str, ...]
    broken: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext
    journal: type[Journal] = Journal
    gate: type[Gate] = Gate
    first_seed: int = 0


@contextlib.contextmanager
def _repeats_without_readback() -> Iterator[None]:
    row = (Phase.OPERATING, (breaker._send_again,))
    with mock.patch.dict(breaker.TABLE[Phase.OPERATING], {Event.LOST: row}):
        yield


@contextlib.contextmanager
def _forgets_timers() -> Iterator[None]:
    """A restart takes the timers out of the journal and lets none of them run."""

    def recover(recovered: object, ledger: object, timers: Timers, underway: object) -> object:
        found = real(recovered, ledger, timers, underway)  # type: ignore[arg-type]
        for instance, task, _ in list(timers.pending()):
            timers.cancel(instance, task)
        return found

    real = recovery.recover
    with mock.patch("gateway.durable.engine.recover", recover):
        yield


@contextlib.contextmanager
def _ignores_holds() -> Iterator[None]:
    def stay(self: Conductor) -> Step[None]:
        self._hold = None
        yield from ()

    with mock.patch.object(Conductor, "_stay_held", stay):
        yield


@contextlib.contextmanager
def _sends_twice() -> Iterator[None]:
    """A driver that repeats a frame whose answer was lost."""
    real = Commander._not_confirmed

    def again(self, request, error):  # type: ignore[no-untyped-def]
        if error.sent and not request.remark:
            request.remark = "again"
            self._checked.append(request)
        else:
            real(self, request, error)

    with mock.patch.object(Commander, "_not_confirmed", again):
        yield


CONTROLS = (
    Control("journal acknowledges before it is durable", ("lost", "without an intent on disk"), journal=HastyJournal),
    Control("breaker repeats without readback", ("without proof",), _repeats_without_readback),
    Control("gate lets writes through", ("outputs were held",), gate=LeakyGate),
    Control("recovery forgets timers", ("overdue",), _forgets_timers),
    Control("procedure ignores holds", ("although it was held",), _ignores_holds, first_seed=8),
    Control("driver sends a frame again", ("executed twice",), _sends_twice),
)
