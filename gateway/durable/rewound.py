"""Rewinding a failed orchestration: which of its turns still count, and what has to happen again. Pure.

Histories are append-only: nothing is taken out of the log. A rewind appends a turn that begins with ``ExecutionRewound``
(of one that starts over: with ``ExecutionStarted`` and it, whatever comes of that turn), and that event changes what
counts of the turns before it: those from the record that it names on (``until``) count no more, and of the others the
failures of the steps that it names (``again``) don't.

Where to cut: as late as possible, so that what was done is not done again. The failure that ended the execution may have
arrived long before the code asked for it, and all that the code decided in between without it stands. So the turns are
replayed without that failure, and the cut is made where the code first decides otherwise than it did; never before the
turn in which the failure arrived. Other failures that the turns before the cut can do without (the code had not asked for
them yet) are taken back, too. When no step's failure ended the execution, the last turn is cut.

Of what the cut turns had heard, everything is heard again, in its order, but the failures: external events, results of
steps that were asked for before the cut, fired timers. Steps of before the cut that failed run again, under their ids.
Steps that were asked for in the cut turns are forgotten: the code decides anew, and new ids go on where the old ones
ended. What the cut turns sent (signals, events to others) was sent: it is sent again if the code decides so again.

What must stay true: ``effective`` of the recorded turns replays without divergence as long as the code decides as before.
A crash here: nothing is kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TypeAlias

from gateway.durable import history as h
from gateway.durable.errors import FailureDetails, NondeterminismError
from gateway.durable.program import OrchestratorFunction
from gateway.durable.replay import replay

MAX_TRIED = 32
"""So many failures (the latest) are tried to be taken back besides the one that ended the execution …"""
MAX_TRIED_EVENTS = 20_000
"""… but fewer of a long history: no more than so many events are replayed for it, since all else waits meanwhile."""

Turn: TypeAlias = tuple[int, int, h.TurnRecord]
"""Number of the record, time in µs, record."""
Step: TypeAlias = h.TaskScheduled | h.TimerCreated | h.SubOrchestrationInstanceCreated | h.EntityOperationCalled
Failed: TypeAlias = h.TaskFailed | h.SubOrchestrationInstanceFailed | h.EntityOperationFailed
Heard: TypeAlias = (
    h.EventRaised | h.TaskCompleted | h.SubOrchestrationInstanceCompleted | h.EntityOperationCompleted | h.TimerFired
)
_NOT_REPEATED = (h.ExecutionRewound, h.ExecutionSuspended, h.ExecutionResumed, h.ExecutionTerminated)


def effective(turns: Iterable[Turn]) -> list[Turn]:
    """The turns that count, of all turns that were recorded of one execution."""
    kept: list[Turn] = []
    for turn in turns:
        for event in turn[2].events:
            if isinstance(event, h.ExecutionRewound):
                kept = rewound(kept, event)
        kept.append(turn)
    return kept


def rewound(turns: Sequence[Turn], event: h.ExecutionRewound) -> list[Turn]:
    """What a rewind leaves of the turns before it."""
    return _without([turn for turn in turns if turn[0] < event.until], frozenset(event.again))


def _without(turns: Sequence[Turn], again: AbstractSet[int]) -> list[Turn]:
    """The turns without the failures of these steps."""

    def taken_back(event: h.Event) -> bool:
        return isinstance(event, Failed) and event.id in again

    found: list[Turn] = []
    for seq, time_us, record in turns:
        if any(taken_back(event) for event in record.events):
            events = [event for event in record.events if not taken_back(event)]
            found.append((seq, time_us, h.TurnRecord(events, record.custom_status)))
        else:
            found.append((seq, time_us, record))
    return found


@dataclass(slots=True)
class Cut:
    """What rewinding means for one failed execution.

    until: as in ExecutionRewound. started: the start, when it starts over. open: steps that the turns before the cut asked
    for and that had no outcome then, or whose failure is taken back, by id. heard: what is heard again, in its order.
    failed: failures of open steps. section: id of the critical section that it had asked for or was in, 0 if none.
    """

    until: int = 0
    started: h.ExecutionStarted | None = None
    open: dict[int, Step] = field(default_factory=dict)
    heard: list[Heard] = field(default_factory=list)
    failed: dict[int, FailureDetails] = field(default_factory=dict)
    section: int = 0


def cut(instance: str, function: OrchestratorFunction, recorded: Iterable[Turn]) -> Cut:
    """What rewinding means for a failed execution of this code with these turns."""
    turns = effective(recorded)
    task, place = _failure(turns)
    again = {task} if task else set[int]()
    if task:
        place = max(place, _agree(instance, function, _without(turns[:-1], again)))
        again |= _also(instance, function, turns[:place], again)
    found = Cut(turns[place][0] if place else 0)
    for _, _, record in turns[:place]:
        for event in record.events:
            if isinstance(event, Failed) and event.id in again:
                found.failed[event.id] = event.details
            else:
                _keep(found, event)
    for _, _, record in turns[place:]:
        for event in record.events:
            if event.incoming:
                _hear_again(found, event)
    return found


def _failure(turns: Sequence[Turn]) -> tuple[int, int]:
    """The step whose failure ended the execution, and the place of the turn in which that arrived; 0 and the last place
    when none did."""
    last = len(turns) - 1
    task = next((e.task for e in turns[last][2].events if isinstance(e, h.ExecutionFailed)), 0)
    if task:
        for place, (_, _, record) in enumerate(turns):
            if any(isinstance(event, Failed) and event.id == task for event in record.events):
                return task, place
    return 0, last


def _also(instance: str, function: OrchestratorFunction, turns: Sequence[Turn], again: AbstractSet[int]) -> set[int]:
    """Further failed steps that all of these turns can do without."""
    failed = [e.id for _, _, record in turns for e in record.events if isinstance(e, Failed) and e.id not in again]
    found: set[int] = set()
    tries = min(MAX_TRIED, len(failed), MAX_TRIED_EVENTS // max(1, sum(len(record.events) for _, _, record in turns)))
    for task in failed[len(failed) - tries :]:
        if _agree(instance, function, _without(turns, {*again, *found, task})) == len(turns):
            found.add(task)
    return found


def _agree(instance: str, function: OrchestratorFunction, turns: Sequence[Turn]) -> int:
    """How many of these turns, from the first on, the code takes as they are."""
    taken = 0

    def hand() -> Iterator[tuple[int, h.TurnRecord]]:
        nonlocal taken
        for _, time_us, record in turns:
            yield time_us, record
            taken += 1

    with contextlib.suppress(NondeterminismError):
        replay(instance, function, hand()).close()
    return taken


def _keep(found: Cut, event: h.Event) -> None:
    """An event of a turn that counts."""
    match event:
        case h.TaskScheduled() | h.TimerCreated() | h.SubOrchestrationInstanceCreated() | h.EntityOperationCalled():
            found.open[event.id] = event
        case h.EntityLockRequested():
            found.section = event.id
        case h.EntityUnlockSent():
            found.section = 0
        case _ if event.incoming or isinstance(event, h.TimerCancelled):
            found.open.pop(getattr(event, "id", 0), None)
            if isinstance(event, h.EntityOperationFailed) and event.id == found.section:
                found.section = 0


def _hear_again(found: Cut, event: h.Event) -> None:
    """An event that a cut turn had heard."""
    match event:
        case h.ExecutionStarted():
            found.started = event
        case h.EventRaised():
            found.heard.append(event)
        case h.TaskFailed() | h.SubOrchestrationInstanceFailed() | h.EntityOperationFailed():
            if event.id in found.open:
                found.failed[event.id] = event.details
        case h.TaskCompleted() | h.SubOrchestrationInstanceCompleted() | h.EntityOperationCompleted() | h.TimerFired():
            if found.open.pop(event.id, None) is not None:
                found.heard.append(event)
        case _:
            assert isinstance(event, (*_NOT_REPEATED, h.EntityLockGranted)), event
