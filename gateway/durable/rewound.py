"""Rewinding a failed orchestration: which of its turns still count, and what has to happen again. Pure.

Histories are append-only: nothing is taken out of the log. A rewind appends a turn that begins with ``ExecutionRewound``,
and that event cuts: from the record that it names on, the turns before it count no more. That record is the turn in
which the failure arrived that ended the execution (or the last turn, when no step's failure did), so all decisions that
were taken because of that failure are undone, and those before it stand.

Of what the cut turns had heard, everything is heard again, in its order, but the failures: external events, results of
steps that were asked for before the cut, fired timers. Steps of before the cut that failed run again, under their ids.
Steps that were asked for in the cut turns are forgotten: the code decides anew, and new ids go on where the old ones
ended. What the cut turns sent (signals, events to others) was sent: it is sent again if the code decides so again.

What must stay true: ``effective`` of the recorded turns replays without divergence as long as the code decides as before.
A crash here: nothing is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from gateway.durable import history as h
from gateway.durable.errors import FailureDetails

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
            if isinstance(event, h.ExecutionRewound) and event.until:
                kept = before(kept, event.until)
        kept.append(turn)
    return kept


def before(turns: Sequence[Turn], until: int) -> list[Turn]:
    """The turns before the record of this number."""
    return [turn for turn in turns if turn[0] < until]


@dataclass(slots=True)
class Cut:
    """What rewinding means for one failed execution.

    until: as in ExecutionRewound. started: the start, when it starts over. open: steps that the turns before the cut asked
    for and that had no outcome then, by id. heard: what is heard again, in its order. failed: failures of open steps.
    section: id of the critical section that it had asked for or was in, 0 if none.
    """

    until: int = 0
    started: h.ExecutionStarted | None = None
    open: dict[int, Step] = field(default_factory=dict)
    heard: list[Heard] = field(default_factory=list)
    failed: dict[int, FailureDetails] = field(default_factory=dict)
    section: int = 0


def cut(recorded: Iterable[Turn]) -> Cut:
    """What rewinding means for a failed execution with these turns."""
    turns = effective(recorded)
    place = _turn_of_failure(turns)
    found = Cut(turns[place][0] if place else 0)
    for _, _, record in turns[:place]:
        for event in record.events:
            _keep(found, event)
    for _, _, record in turns[place:]:
        for event in record.events:
            if event.incoming:
                _hear_again(found, event)
    return found


def _turn_of_failure(turns: Sequence[Turn]) -> int:
    """The place of the turn in which the failure arrived that ended the execution; the last one when no step's did."""
    last = len(turns) - 1
    task = next((e.task for e in turns[last][2].events if isinstance(e, h.ExecutionFailed)), 0)
    if task:
        for place, (_, _, record) in enumerate(turns):
            if any(isinstance(event, Failed) and event.id == task for event in record.events):
                return place
    return last


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
