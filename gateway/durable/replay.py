"""Replay: bring an orchestration back to where its journaled turns left it, and tell where its code has changed.

Pure. Each journaled turn is taken again, and the decisions of the code are compared with the journaled ones: kind, id and
name, not inputs and times, so that a corrected input does no harm. What must stay true: an orchestration goes on only
if its code decided at every turn as it did before. A crash here: replay again.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.durable import history as h
from gateway.durable.codec import NULL
from gateway.durable.errors import NondeterminismError
from gateway.durable.execution import Execution
from gateway.durable.program import OrchestratorFunction


def replay(instance: str, function: OrchestratorFunction, turns: Iterable[tuple[int, h.TurnRecord]]) -> Execution:
    """Bring an execution to where its journaled turns (time in µs, record) left it.

    Errors: NondeterminismError, when the code decides otherwise than it did.
    """
    execution = Execution(instance, function)
    execution.replaying = True
    for time_us, record in turns:
        execution.begin_turn(time_us)
        recorded: list[h.Event] = []
        for event in record.events:
            if event.incoming:
                execution.apply(event)  # type: ignore[arg-type]
            else:
                recorded.append(event)
        _compare(execution, recorded, execution.end_turn())
        if record.custom_status is not NULL:
            execution.custom_status = record.custom_status
    execution.replaying = False
    return execution


def _compare(execution: Execution, recorded: list[h.Event], decided: list[h.Action]) -> None:
    for position in range(max(len(recorded), len(decided))):
        was = recorded[position] if position < len(recorded) else None
        now = decided[position] if position < len(decided) else None
        if _key(was) == _key(now):
            continue
        task_id: int = getattr(now, "id", 0) or getattr(was, "id", 0)
        had, asked, line = _words(was), _words(now), execution.line_of(task_id)
        raise NondeterminismError(
            f"{execution.instance}: history has {had}, the code asked for {asked}"
            f" ({line}); a running orchestration must not be changed: put its code back, then rewind it",
            task_id,
            had,
            asked,
            line,
        )


def _key(event: h.Event | None) -> tuple[str, int, str] | None:
    if event is None:
        return None
    return type(event).__name__, getattr(event, "id", 0), getattr(event, "name", "")


def _words(event: h.Event | None) -> str:
    if event is None:
        return "nothing more"
    name = getattr(event, "name", "")
    task_id = getattr(event, "id", None)
    return type(event).__name__ + (f" {name!r}" if name else "") + (f" as step {task_id}" if task_id else "")
