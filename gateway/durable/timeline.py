"""The story of an orchestration, told from its recorded turns: one row for each thing that was asked for or happened.

Pure: (turns) → rows. What must stay true: nothing is told that is not in the records; attempts of one call are one row; a
step that has no outcome in the records is told as open, one whose beginning is not in them as such. Waits for events
leave no trace until the event comes: the event is told, with who raised it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from gateway.durable import history as h
from gateway.durable.codec import NULL, Raw, encode
from gateway.durable.errors import FailureDetails

OPEN = "open"
"""Outcome of a step that has none yet."""


class Row(msgspec.Struct):
    """One row. Times in µs of engine time.

    kind: what it is, in a word or two; name: of the activity, entity, event …; step: the task's id, 0 if it has none.
    done_us: when it ended, 0 while it is open or for what is over at once. attempts: how often a call was tried. outcome:
    done, failed, fired, cancelled, open …; empty where there is none. value: the input of a call, the data of an event;
    result: what came back. failure: of the last attempt. who: who did it, where known. why: a reason that was given.
    """

    at_us: int
    kind: str
    name: str = ""
    step: int = 0
    done_us: int = 0
    attempts: int = 1
    outcome: str = ""
    value: Raw = NULL
    result: Raw = NULL
    failure: FailureDetails | None = None
    who: str = ""
    why: str = ""
    execution: int = 1
    seq: int = 0

    @property
    def took_us(self) -> int | None:
        """How long it took; None while it is open, and for what has no length."""
        return self.done_us - self.at_us if self.done_us else None


@dataclass(slots=True)
class _Teller:
    """The rows so far, and the steps that have no outcome yet."""

    rows: list[Row] = field(default_factory=list)
    steps: dict[int, Row] = field(default_factory=dict)
    calls: dict[str, Row] = field(default_factory=dict)
    """Activities by operation_id: further attempts belong to the same row."""
    failed_in: dict[int, Row] = field(default_factory=dict)
    """Timers that were set in the turn in which this call failed: one of them may be the wait before its next attempt."""
    known: dict[int, Row] = field(default_factory=dict)
    """All steps, also those that have ended."""
    suspended: Row | None = None
    status: bytes = b""
    execution: int = 1
    seq: int = 0
    rewinds: bool = False
    """This turn tells again what turns had heard that count no more."""

    def add(self, row: Row) -> Row:
        row.execution, row.seq = self.execution, self.seq
        self.rows.append(row)
        return row

    def turn(self, seq: int, time_us: int, record: h.TurnRecord) -> None:
        """One turn: what came in, then what was decided."""
        self.seq = seq
        self.rewinds = any(isinstance(event, h.ExecutionRewound) for event in record.events)
        failed: list[Row] = []
        for event in record.events:
            row = self._came(time_us, event) if event.incoming else None
            if row is not None and isinstance(event, h.TaskFailed):
                failed.append(row)
        raised = [event.name for event in record.events if isinstance(event, h.EventRaised)]
        fired = [event.id for event in record.events if isinstance(event, h.TimerFired)]
        if record.custom_status is not NULL and bytes(record.custom_status) != self.status:
            self.status = bytes(record.custom_status)
            self.add(Row(time_us, "says", value=record.custom_status))
        for event in record.events:
            if not event.incoming:
                self._decided(time_us, event, failed, raised, fired)

    # What came in

    def _came(self, at_us: int, event: h.Event) -> Row | None:
        match event:
            case h.ExecutionStarted():
                self.execution = event.execution
                kind = "started" if event.execution == 1 else "started anew"
                name = event.name + (f" version {event.version}" if event.version else "")
                self.add(Row(at_us, kind, name, value=event.input, who=event.parent))
            case h.EventRaised():
                again = "heard again after the rewind" if self.rewinds else ""
                self.add(Row(at_us, "event", event.name, value=event.data, who=event.raised_by, why=again))
            case h.TaskCompleted() | h.SubOrchestrationInstanceCompleted() | h.EntityOperationCompleted():
                return self._ended(at_us, event.id, "done", event.result)
            case h.TaskFailed() | h.SubOrchestrationInstanceFailed() | h.EntityOperationFailed():
                return self._ended(at_us, event.id, "failed", failure=event.details)
            case h.TimerFired():
                return self._ended(at_us, event.id, "fired")
            case h.EntityLockGranted():
                return self._ended(at_us, event.id, "granted")
            case h.ExecutionSuspended():
                self.suspended = self.add(
                    Row(at_us, "suspended", outcome=OPEN, who=event.raised_by, why=event.reason),
                )
            case h.ExecutionResumed():
                self._resumed(at_us, event)
            case h.ExecutionRewound():
                self._rewound(at_us, event)
            case h.ExecutionTerminated():
                self._close(at_us)
                self.add(Row(at_us, "terminated", outcome="terminated", who=event.raised_by, why=event.reason))
            case _:
                self.add(_unforeseen(at_us, event))
        return None

    def _ended(
        self, at_us: int, step: int, outcome: str, result: Raw = NULL, failure: FailureDetails | None = None
    ) -> Row:
        row = self.steps.pop(step, None) or self.known.get(step) or self.add(Row(0, "step", step=step))
        row.done_us, row.outcome, row.result, row.failure = at_us, outcome, result, failure
        row.at_us = row.at_us or at_us
        return row

    def _rewound(self, at_us: int, event: h.ExecutionRewound) -> None:
        """What the turns that count no more had left open is forgotten; steps that run again are told again."""
        self.add(Row(at_us, "rewound", who=event.raised_by, why=event.reason))
        for row in self.rows:
            if row.outcome == OPEN and row.step and row.seq >= event.until:
                row.done_us, row.outcome = at_us, "forgotten"
        for step in event.again:
            before = self.known.get(step)
            if before is not None:
                self._asked(at_us, step, before.kind, before.name, before.value)

    def _resumed(self, at_us: int, event: h.ExecutionResumed) -> None:
        row = self.suspended or self.add(Row(at_us, "suspended"))
        row.done_us = at_us
        row.outcome = "resumed"
        words = ": ".join(word for word in (event.raised_by and f"by {event.raised_by}", event.reason) if word)
        row.result = Raw(encode(words)) if words else NULL
        self.suspended = None

    # What was decided

    def _decided(self, at_us: int, event: h.Event, failed: list[Row], raised: list[str], fired: list[int]) -> None:
        match event:
            case h.TaskScheduled():
                self._activity(at_us, event, fired)
            case h.TimerCreated():
                row = self._asked(at_us, event.id, "timer", "", NULL)
                row.value = Raw(encode({"due_us": event.due_us, "after_s": (event.due_us - at_us) / 1e6}))
                if failed:
                    self.failed_in[event.id] = failed.pop(0)
            case h.TimerCancelled():
                row = self._ended(at_us, event.id, "cancelled")
                row.why = f"event {', '.join(raised)}" if raised else ""
            case h.SubOrchestrationInstanceCreated():
                self._asked(at_us, event.id, "sub-orchestration", f"{event.name} {event.instance}", event.input)
            case h.EntityOperationCalled():
                self._asked(at_us, event.id, "entity call", f"{event.name} {event.target}", event.input)
            case h.EntityOperationSignaled():
                self.add(Row(at_us, "signal", f"{event.name} {event.target}", event.id, value=event.input))
            case h.EntityLockRequested():
                self._asked(at_us, event.id, "lock", ", ".join(event.targets), NULL)
            case h.EntityUnlockSent():
                self.add(Row(at_us, "unlock", step=event.id))
            case h.EventSent():
                self.add(Row(at_us, "event sent", f"{event.name} to {event.instance}", event.id, value=event.data))
            case h.ContinueAsNew():
                self.add(Row(at_us, "continued as new", value=event.input))
                self._close(at_us)
            case h.ExecutionCompleted():
                self.add(Row(at_us, "completed", outcome="completed", result=event.result))
                self._close(at_us)
            case h.ExecutionFailed():
                self.add(Row(at_us, "failed", outcome="failed", failure=event.details))
                self._close(at_us)
            case _:
                self.add(_unforeseen(at_us, event))

    def _asked(self, at_us: int, step: int, kind: str, name: str, value: Raw) -> Row:
        row = self.add(Row(at_us, kind, name, step, outcome=OPEN, value=value))
        self.steps[step] = self.known[step] = row
        return row

    def _activity(self, at_us: int, event: h.TaskScheduled, fired: list[int]) -> None:
        row = self.calls.get(event.operation_id) if event.attempt > 1 else None
        if row is None:
            row = self._asked(at_us, event.id, "activity", event.name, event.input)
            self.calls[event.operation_id] = row
        row.attempts, row.outcome, row.done_us = event.attempt, OPEN, 0
        self.steps[event.id] = self.known[event.id] = row
        waited = next((timer for timer in fired if self.failed_in.get(timer) is row), None)
        if waited is not None:
            # The wait between two attempts is part of the call.
            self.rows = [one for one in self.rows if not (one.kind == "timer" and one.step == waited)]
            del self.failed_in[waited]

    def _close(self, at_us: int) -> None:
        """What an end does to steps that have no outcome: their results, if any come, are dropped."""
        for row in self.steps.values():
            if row.outcome == OPEN:
                row.done_us, row.outcome = at_us, "ended with it"


def _unforeseen(at_us: int, event: h.Event) -> Row:
    """An event that this teller has no words for is told by its own name, with all that it holds."""
    who, why = str(getattr(event, "raised_by", "")), str(getattr(event, "reason", ""))
    step = getattr(event, "id", 0)
    return Row(at_us, type(event).__name__, step=step, value=Raw(encode(event)), who=who, why=why)


def timeline(turns: Iterable[tuple[int, int, h.TurnRecord]]) -> list[Row]:
    """The rows of these turns (number of the record, time in µs, record), in the order in which things began."""
    teller = _Teller()
    for seq, time_us, record in turns:
        teller.turn(seq, time_us, record)
    return sorted(teller.rows, key=lambda row: row.at_us)


def present_run(turns: list[tuple[int, int, h.TurnRecord]]) -> tuple[list[tuple[int, int, h.TurnRecord]], bool]:
    """Of all turns of an id (seq, time, record): those since the start of its present run, and whether that start is among
    them. An id may have been used before; a run may have continued as new many times."""
    for position in range(len(turns) - 1, -1, -1):
        first = turns[position][2].events[0] if turns[position][2].events else None
        if isinstance(first, h.ExecutionStarted) and first.execution == 1:
            return turns[position:], True
    return turns, False


def exact(row: Row) -> dict[str, object]:
    """The row as JSON can hold it, with nothing left out."""
    failure = None if row.failure is None else msgspec.to_builtins(row.failure)
    return {
        "at_us": row.at_us,
        "kind": row.kind,
        "name": row.name,
        "step": row.step,
        "done_us": row.done_us or None,
        "took_s": None if row.took_us is None else row.took_us / 1e6,
        "attempts": row.attempts,
        "outcome": row.outcome,
        "value": row.value,
        "result": row.result,
        "failure": failure,
        "who": row.who,
        "why": row.why,
        "execution": row.execution,
        "seq": row.seq,
    }
