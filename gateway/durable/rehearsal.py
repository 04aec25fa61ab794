"""Rehearsal: would recorded histories go the same way with the code as it is now?

Asked before an upgrade is rolled out: an orchestration that is under way goes on after the restart only if its code
decides at every recorded turn as it did. What must stay true: nothing is executed but orchestrators at replay, so no
activity runs and nothing is written; one history that can't be read does not keep the others from being looked at.
Pure, but for what an orchestrator does that it must not do. A crash here: rehearse again.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence

import msgspec

from gateway.durable import history as h
from gateway.durable.errors import NondeterminismError, NotFoundError
from gateway.durable.exported import RecordedHistory
from gateway.durable.registry import Registry
from gateway.durable.replay import replay
from gateway.durable.rewound import effective


class Verdict(enum.StrEnum):
    """What became of one history. All but SAME mean that this instance would not go on after an upgrade."""

    SAME = "same"
    DIVERGES = "would diverge"
    NO_CODE = "no such orchestrator"
    UNREADABLE = "not readable"


class Rehearsed(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer for one instance.

    why: a sentence, empty when all is the same. code_changed: the code is not the one that ran it, whatever it decides.
    For DIVERGES: seq and time_us of the turn's record, step (task id), recorded and asked (what history has and what the
    code asks for), line (where the code asks, or where it waits).
    """

    instance: str
    name: str
    status: str
    verdict: Verdict
    turns: int
    version: str = ""
    why: str = ""
    code_changed: bool = False
    seq: int = 0
    time_us: int = 0
    step: int = 0
    recorded: str = ""
    asked: str = ""
    line: str = ""


def rehearse(registry: Registry, history: RecordedHistory) -> Rehearsed:
    """Replay one history against what is registered now."""

    def end(verdict: Verdict, why: str = "", changed: bool = False) -> Rehearsed:
        return Rehearsed(
            history.instance, history.name, history.status, verdict, len(history.turns), history.version, why, changed
        )

    try:
        turns = _to_compare(history.decoded())
    except msgspec.MsgspecError as error:
        return end(Verdict.UNREADABLE, f"this version can't read its history: {error}")
    try:
        orchestrator = registry.get_orchestrator(history.name, history.version)
    except NotFoundError as error:
        return end(Verdict.NO_CODE, str(error))
    ran = next((e.fingerprint for _, _, turn in turns for e in turn.events if isinstance(e, h.ExecutionStarted)), "")
    changed = bool(ran) and ran != orchestrator.fingerprint
    at = _At(turns)
    try:
        execution = replay(history.instance, orchestrator.function, at)
    except NondeterminismError as error:
        return msgspec.structs.replace(
            end(Verdict.DIVERGES, f"history has {error.recorded}, the code asks for {error.asked}", changed),
            seq=at.seq,
            time_us=at.time_us,
            step=error.step,
            recorded=error.recorded,
            asked=error.asked,
            line=error.line,
        )
    except Exception as error:  # noqa: BLE001 - a history that nobody foresaw must not keep the others from being checked
        return end(Verdict.UNREADABLE, f"its history can't be replayed: {type(error).__name__}: {error}")
    execution.close()
    return end(Verdict.SAME, changed=changed)


class _At:
    """Hands turns to the replay and knows which one it is at."""

    def __init__(self, turns: Sequence[tuple[int, int, h.TurnRecord]]) -> None:
        self._turns = turns
        self.seq = 0
        self.time_us = 0

    def __iter__(self) -> Iterator[tuple[int, h.TurnRecord]]:
        for seq, time_us, record in self._turns:
            self.seq, self.time_us = seq, time_us
            yield time_us, record


def _to_compare(turns: list[tuple[int, int, h.TurnRecord]]) -> list[tuple[int, int, h.TurnRecord]]:
    """Those that count, without a last turn that is no decision of the code: a termination, or the verdict of an earlier
    replay."""
    turns = effective(turns)
    if turns and any(_no_decision(event) for event in turns[-1][2].events):
        return turns[:-1]
    return turns


def _no_decision(event: h.Event) -> bool:
    if isinstance(event, h.ExecutionFailed):
        return event.details.kind == NondeterminismError.__name__
    return isinstance(event, h.ExecutionTerminated)
