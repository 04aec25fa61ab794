"""Why an orchestration gave a command, told from its recorded turns: its step, what it had measured, who had told it.

Pure: (turns, operation id of the command) → decision. What must stay true: nothing later than the turn of the decision is
taken into it, and nothing is told that is not in the records.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gateway.durable import history as h
from gateway.durable.codec import Json, unpack_plain
from gateway.shedding.conduct import EVENT


class Decision(msgspec.Struct):
    """The turn in which a command was decided.

    name: of the orchestrator. started_us, reason, actor: of the run, as its input says. step: the task's id. phase, tier,
    sentence: of the custom status by then; target_kw, shed_kw, load_pct: its figures. measured, measured_us: the last load
    that it had read, and when. cooldown: what it had said of the last cooldown, empty if there was none. override: the
    last word of an operator on this feeder.
    """

    instance: str
    name: str = ""
    version: str = ""
    seq: int = 0
    at_us: int = 0
    step: int = 0
    activity: str = ""
    first_seq: int = 0
    started_us: int = 0
    reason: str = ""
    actor: str = ""
    phase: str = ""
    tier: str = ""
    sentence: str = ""
    target_kw: float | None = None
    shed_kw: float | None = None
    load_pct: float | None = None
    measured: dict[str, Json] | None = None
    measured_us: int = 0
    cooldown: str = ""
    override: dict[str, Json] | None = None


def decision_of(
    instance: str, feeder: str, operation_id: str, turns: Iterable[tuple[int, int, h.TurnRecord]]
) -> Decision | None:
    """The decision whose command carries this operation id; None if it is not in these turns (seq, time, record)."""
    told = Decision(instance)
    reads: set[int] = set()
    for seq, time_us, turn in turns:
        for event in turn.events:
            _heard(told, event, feeder, seq, time_us, reads)
        _said(told, unpack_plain(turn.custom_status))
        for event in turn.events:
            if isinstance(event, h.TaskScheduled) and event.operation_id == operation_id:
                told.seq, told.at_us, told.step, told.activity = seq, time_us, event.id, event.name
                return told
    return None


def _heard(told: Decision, event: h.Event, feeder: str, seq: int, time_us: int, reads: set[int]) -> None:
    match event:
        case h.ExecutionStarted():
            told.name, told.version = event.name, event.version
            if event.execution == 1:
                told.first_seq, told.started_us = seq, time_us
            order = unpack_plain(event.input)
            if isinstance(order, dict):
                told.reason, told.actor = _text(order.get("reason")), _text(order.get("actor"))
        case h.TaskScheduled(name="ReadLoad"):
            reads.add(event.id)
        case h.TaskCompleted() if event.id in reads:
            measured = unpack_plain(event.result)
            if isinstance(measured, dict):
                told.measured, told.measured_us = measured, time_us
        case h.EventRaised() if event.name.lower() == EVENT.lower():
            data = unpack_plain(event.data)
            if isinstance(data, dict) and feeder in (data.get("feeders") or ()):
                told.override = {"raised_by": event.raised_by, "at_us": time_us, **data}
        case _:
            pass


def _said(told: Decision, status: Json) -> None:
    if not isinstance(status, dict):
        return
    told.phase, told.tier = _text(status.get("phase")), _text(status.get("tier"))
    told.sentence = _text(status.get("sentence"))
    told.target_kw, told.shed_kw = _number(status.get("target_kw")), _number(status.get("shed_kw"))
    told.load_pct = _number(status.get("load_pct"))
    if told.phase == "cooldown":
        told.cooldown = told.sentence


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Json) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
