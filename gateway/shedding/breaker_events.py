"""What a message means for a breaker in its present state: guards only, nothing is changed.

Whether a request may be carried out, whether a result is that of the command in flight, whether a readback is proof. The
transition table in ``breaker.py`` says what follows from each event. Pure; a crash here leaves nothing behind.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from msgspec.structs import replace

from gateway.shedding.breaker_model import (
    CALLERS_LIMIT,
    HOUR_US,
    Breaker,
    Command,
    CommandResult,
    Message,
    Note,
    Observation,
    Phase,
    ReadAnswer,
    ReadbackResult,
    Rules,
    Switch,
    Withdraw,
)
from protocols.base import Outcome, Position, Quality


class Event(enum.Enum):
    """What a message means for this breaker in its present state."""

    # a request, open or close
    START = enum.auto()
    JOIN = enum.auto()
    AGAIN = enum.auto()
    ALREADY_THERE = enum.auto()
    REFUSED = enum.auto()
    BUSY = enum.auto()
    TOO_LATE = enum.auto()
    # the outcome of a command
    DONE = enum.auto()
    DECLINED = enum.auto()
    FAILED = enum.auto()
    NOT_SENT = enum.auto()
    OUTLIVED = enum.auto()
    LOST = enum.auto()
    # a readback or an observation
    AT_TARGET = enum.auto()
    UNMOVED_SEND_AGAIN = enum.auto()
    NOT_EXECUTED = enum.auto()
    ASTRAY = enum.auto()
    UNREADABLE = enum.auto()
    SEEN = enum.auto()
    # the rest
    READ_AGAIN = enum.auto()
    STALE = enum.auto()
    WITHDRAWN = enum.auto()
    BLOCKED = enum.auto()
    UNBLOCKED = enum.auto()
    RESET = enum.auto()


DEFERRED = frozenset({Event.START, Event.JOIN})
"""Events whose caller is answered later: the shell defers the result and hands in the token."""


@dataclass(frozen=True, slots=True)
class Classified:
    """An event and why; target is that of a request, seen what a readback or observation said."""

    event: Event
    why: str = ""
    target: Position | None = None
    seen: Observation | None = None


def classify(state: Breaker, rules: Rules, operation: str, message: Message, now_us: int) -> Classified:
    """What the message means now. Changes nothing."""
    match message:
        case Switch():
            return _classify_request(
                state, rules, Position.OPEN if operation == "open" else Position.CLOSED, message, now_us
            )
        case CommandResult():
            return _classify_command_result(state, message)
        case ReadbackResult():
            return _classify_readback(state, rules, message, now_us)
        case Observation():
            return _classify_observation(state, message)
        case Withdraw():
            known = state.command is not None and state.command.request_id == message.request_id
            return Classified(Event.WITHDRAWN if known else Event.STALE)
        case Note():
            return Classified(_NOTES[operation])


_NOTES = {
    "resolve": Event.READ_AGAIN,
    "block": Event.BLOCKED,
    "unblock": Event.UNBLOCKED,
    "reset": Event.RESET,
}


def _classify_request(state: Breaker, rules: Rules, target: Position, request: Switch, now_us: int) -> Classified:
    command = state.command
    known = next((e for e in state.recent if e.request_id == request.request_id), None)
    before = command if command is not None and command.request_id == request.request_id else known
    if before is not None and before.target is not target:
        return Classified(Event.REFUSED, f"request id {request.request_id} was used to {_verb(before.target)}", target)
    if command is not None and command.request_id == request.request_id:
        if len(command.tokens) >= CALLERS_LIMIT:
            return Classified(Event.BUSY, f"{CALLERS_LIMIT} callers wait for this command already", target)
        return Classified(Event.JOIN, "", target)
    if known is not None:
        return Classified(Event.AGAIN, "", target)
    if command is not None:
        state_words = "is under way" if state.phase is Phase.OPERATING else "has an outcome that is not known yet"
        return Classified(
            Event.BUSY, f"the command to {_verb(command.target)} by {command.actor} {state_words}", target
        )
    if request.deadline_us and request.deadline_us <= now_us:
        return Classified(Event.TOO_LATE, "its deadline passed before it came", target)
    if why := _right(rules, target, request):
        return Classified(Event.REFUSED, why, target)
    if state.position is target and state.quality is Quality.GOOD:
        return Classified(Event.ALREADY_THERE, f"already {target}, by readback; nothing was sent", target)
    if why := _interlock(state, target) or _cap(state, rules, request.force, now_us):
        return Classified(Event.REFUSED, why, target)
    return Classified(Event.START, "", target)


def _verb(target: Position) -> str:
    return "open" if target is Position.OPEN else "close"


def _right(rules: Rules, target: Position, request: Switch | Command) -> str:
    """Why this request may not open this breaker at all; empty when it may."""
    if target is Position.CLOSED:
        return ""
    if rules.critical and request.procedure:
        return "a critical feeder is never shed"
    if rules.critical and not request.force:
        return "a critical feeder is opened only by a person's own command with force"
    if request.procedure and not rules.sheddable:
        return "this feeder is not sheddable"
    return ""


def _interlock(state: Breaker, target: Position) -> str:
    """Why the breaker must not be moved now, force or not; empty when it may be."""
    block = state.blocked
    if block is not None and (block.open if target is Position.OPEN else block.close):
        return f"blocked by {block.actor}: {block.reason}"
    if state.local:
        return "the local/remote switch stands at local"
    if target is Position.CLOSED and state.locked_out:
        return f"locked out after {state.failed_closes} failed closes"
    if state.position in (Position.BAD, Position.INTERMEDIATE):
        return f"its position is {state.position}"
    return ""


def _cap(state: Breaker, rules: Rules, force: bool, now_us: int) -> str:
    if force or len(last_hour(state.operations, now_us)) < rules.max_operations_per_hour:
        return ""
    return f"operated {rules.max_operations_per_hour} times within the last hour: the cap of this site"


def last_hour(operations: tuple[int, ...], now_us: int) -> tuple[int, ...]:
    """The times that lie within the last hour. operations: oldest first."""
    if not operations or operations[0] > now_us - HOUR_US:
        return operations
    return tuple(at_us for at_us in operations if at_us > now_us - HOUR_US)


def _classify_command_result(state: Breaker, message: CommandResult) -> Classified:
    command = state.command
    if command is None or state.phase is not Phase.OPERATING or message.context.intent != command.intent:
        return Classified(Event.STALE)
    if message.result is None:
        error = message.error
        why = f"no outcome is known: {error.type} {error.message}".strip() if error else "no outcome is known"
        return Classified(Event.LOST, why)
    answer = message.result
    if command.repeats and not answer.sent and answer.outcome in (Outcome.NOT_SENT, Outcome.REFUSED):
        # An earlier frame did leave: "nothing was sent" would be wrong, and the breaker may still obey it, late.
        return Classified(Event.FAILED, f"not executed by readback; the repeat did not leave: {answer.detail}")
    if answer.expired and not answer.sent:
        return Classified(Event.OUTLIVED, answer.detail)
    good = answer.outcome in (Outcome.DONE, Outcome.FAILED)
    # With the counter that came with it: the next scan then finds nothing that is not known here already.
    count = answer.op_count if answer.op_count is not None else state.op_count
    seen = Observation(answer.position, Quality.GOOD, state.local, count) if good else None
    return Classified(_OUTCOMES[answer.outcome], answer.detail, seen=seen)


_OUTCOMES = {
    Outcome.DONE: Event.DONE,
    Outcome.REFUSED: Event.DECLINED,
    Outcome.FAILED: Event.FAILED,
    Outcome.NOT_SENT: Event.NOT_SENT,
    Outcome.UNKNOWN: Event.LOST,
}


def _classify_readback(state: Breaker, rules: Rules, message: ReadbackResult, now_us: int) -> Classified:
    command = state.command
    ours = command is not None and message.context.intent == command.intent and message.context.read == command.reads
    if command is None or not ours or state.phase is not Phase.RESOLVING:
        return Classified(Event.STALE)
    answer = message.result
    if answer is None:
        error = message.error
        return Classified(Event.UNREADABLE, f"{error.type} {error.message}".strip() if error else "")
    seen = Observation(answer.position, answer.quality, answer.local, answer.op_count)
    if answer.quality is not Quality.GOOD or answer.position is Position.UNKNOWN:
        return Classified(Event.UNREADABLE, "the breaker can't be read", seen=seen)
    if answer.position is command.target:
        return Classified(Event.AT_TARGET, "", seen=seen)
    if not answer.settled:
        return Classified(Event.UNREADABLE, "the readback came while it may still move", seen=seen)
    if answer.position in (Position.BAD, Position.INTERMEDIATE):
        return Classified(Event.ASTRAY, f"readback says {answer.position}", seen=seen)
    return _judge_unmoved(state, rules, command, answer, seen, now_us)


def _judge_unmoved(
    state: Breaker, rules: Rules, command: Command, answer: ReadAnswer, seen: Observation, now_us: int
) -> Classified:
    """The breaker stands firmly in the other end position: was it never moved, and may the command be sent again?"""
    if answer.op_count is not None and command.op_count is not None and answer.op_count != command.op_count:
        return Classified(Event.ASTRAY, f"it operated and is {answer.position} again", seen=seen)
    proven = command.start is answer.position and (answer.op_count is None) == (command.op_count is None)
    after = replace(state, local=answer.local, position=answer.position)
    permitted = (
        proven
        and command.wanted
        and command.repeats < rules.max_repeats
        and now_us < command.deadline_us
        and not _right(rules, command.target, command)  # the rules may have changed since it was asked for
        and not _interlock(after, command.target)
        and not _cap(state, rules, command.force, now_us)
    )
    why = f"not executed: readback says still {answer.position}"
    return Classified(Event.UNMOVED_SEND_AGAIN if permitted else Event.NOT_EXECUTED, why, seen=seen)


def _classify_observation(state: Breaker, seen: Observation) -> Classified:
    command = state.command
    readable = seen.quality is Quality.GOOD and seen.position is not Position.UNKNOWN
    if command is None or not readable or state.phase is Phase.OPERATING:
        return Classified(Event.SEEN, seen=seen)
    if seen.position is command.target:
        return Classified(Event.AT_TARGET, seen=seen)
    # Seen elsewhere: it may be on its way still. Only a settled readback is proof, so ask for one if none is under way.
    return Classified(Event.READ_AGAIN, seen=seen)
