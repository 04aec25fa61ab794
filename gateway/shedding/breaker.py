"""The breaker: one explicit transition table, and no way around it.

Theory of operation
===================
A breaker entity stands between everyone who wants a breaker moved and the one field command that may be under way.
It never touches the field itself. It *intends*: it writes an intent with a number of its own into its state, and asks
for the activity ``OperateBreaker``, which runs at most once for that intent and only after the intent is on disk.

* **IDLE**: nothing is under way.
* **OPERATING**: an intent was journaled and a frame may be on the wire. Whoever asks for the same request joins and
  gets the same outcome; another request is refused as busy. Observations are noted, they decide nothing.
* **RESOLVING**: the frame left, or may have left, and nobody knows what it did: a time-out, or the process died between
  intent and outcome. The activity ``ReadBreaker`` reads until the position is good and any travel is certainly over.
  In the target position the command is *done*. Still in the position of before, with the device's operation counter
  unchanged, it is *proven never to have taken effect*; only then, and only if its deadline has not passed, it is still
  wanted, the breaker is remote, not blocked and within its operation cap, it is sent once more under a new intent.
  Anything else is *failed*.
* **UNRESOLVED**: the breaker can't be read. The callers were told *unknown*, so that a procedure goes on; the command
  stays here until an observation, a link that came back or a person's ``resolve`` makes it readable. No new command is
  taken meanwhile, since the state it would start from is not known.

What must stay true: at most one intent is without an outcome; an intent is never repeated without proof; each accepted
request is answered exactly once; a request that comes again (same ``request_id``) is answered, never executed again;
``position`` changes by readback alone. Interlocks (blocked, local, lock-out, contradicting contacts) outrank force.

A crash here: the state is journaled with the message that changed it. The at-most-once activity comes back as
"interrupted", which is the event LOST, and the readback decides.

A message is first *classified* into an event (guards, no change of state); the table then says the next phase and what
is done. An event that the table does not list for a phase can't come out of the classification in that phase.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec.structs import replace

from gateway.shedding.breaker_model import (
    CALLERS_LIMIT,
    HOUR_US,
    RECENT_LIMIT,
    TEXT_LIMIT,
    Answer,
    Block,
    Breaker,
    Command,
    CommandResult,
    Effect,
    Ended,
    Message,
    Note,
    Observation,
    Operate,
    Phase,
    Read,
    ReadAnswer,
    ReadbackResult,
    Result,
    Rules,
    Shed,
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


@dataclass(slots=True)
class _Step:
    """One transition under way. why: the detail that the classification found; seen: what was read."""

    state: Breaker
    rules: Rules
    message: Message
    now_us: int
    why: str
    target: Position | None = None
    token: str | None = None
    seen: Observation | None = None
    effects: list[Effect] = field(default_factory=list)

    @property
    def command(self) -> Command:
        """The command in flight; the table asks for it only where there is one."""
        if self.state.command is None:
            raise AssertionError(f"phase {self.state.phase} without a command")
        return self.state.command


Action = Callable[[_Step], None]


@dataclass(frozen=True, slots=True)
class Classified:
    """An event and why; target is that of a request, seen what a readback or observation said."""

    event: Event
    why: str = ""
    target: Position | None = None
    seen: Observation | None = None


# --- classification: guards only --------------------------------------------------------------------------------------


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


def _right(rules: Rules, target: Position, request: Switch) -> str:
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
    if force or len(_last_hour(state.operations, now_us)) < rules.max_operations_per_hour:
        return ""
    return f"operated {rules.max_operations_per_hour} times within the last hour: the cap of this site"


def _last_hour(operations: tuple[int, ...], now_us: int) -> tuple[int, ...]:
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
    if answer.expired and not answer.sent:
        return Classified(Event.OUTLIVED, answer.detail)
    good = answer.outcome in (Outcome.DONE, Outcome.FAILED)
    seen = Observation(answer.position, Quality.GOOD, state.local, state.op_count) if good else None
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


# --- actions: each does one thing -------------------------------------------------------------------------------------


def _intend(step: _Step) -> None:
    """A new command: its intent is in the state before anything is sent."""
    request, state = step.message, step.state
    if not isinstance(request, Switch) or step.target is None:
        raise AssertionError("only a request starts a command")
    step.state = replace(
        state,
        command=Command(
            request_id=request.request_id,
            target=step.target,
            actor=request.actor[:TEXT_LIMIT],
            reason=request.reason[:TEXT_LIMIT],
            deadline_us=request.deadline_us or step.now_us + step.rules.command_deadline_us,
            intent=state.intents,
            intent_us=step.now_us,
            procedure=request.procedure,
            force=request.force,
            kw=request.kw,
            tokens=(step.token,) if step.token is not None else (),
        ),
    )
    _send(step)


def _send(step: _Step) -> None:
    """Count one more intent and ask for its frame."""
    state, command = step.state, step.command
    intent = state.intents + 1
    good = state.quality is Quality.GOOD
    step.state = replace(
        state,
        intents=intent,
        commanded=command.target,
        operations=(*_last_hour(state.operations, step.now_us), step.now_us),
        command=replace(
            command,
            intent=intent,
            intent_us=step.now_us,
            start=state.position if good else Position.UNKNOWN,
            op_count=state.op_count,
        ),
    )
    step.effects.append(Operate(command.target, intent, command.deadline_us))


def _send_again(step: _Step) -> None:
    step.state = replace(step.state, command=replace(step.command, repeats=step.command.repeats + 1))
    _send(step)


def _join(step: _Step) -> None:
    if step.token is not None:
        command = step.command
        step.state = replace(step.state, command=replace(command, tokens=(*command.tokens, step.token)))


def _read(step: _Step) -> None:
    command = replace(step.command, reads=step.command.reads + 1)
    step.state = replace(step.state, command=command)
    step.effects.append(Read(command.target, command.intent, command.reads, command.deadline_us))


def _note(step: _Step) -> None:
    """Take over what was read; a breaker that is closed again is shed no more, whoever closed it."""
    seen, state = step.seen, step.state
    if seen is None:
        return
    readable = seen.quality is Quality.GOOD and seen.position is not Position.UNKNOWN
    state = replace(
        state,
        position=seen.position if seen.position is not Position.UNKNOWN else state.position,
        quality=seen.quality,
        observed_us=step.now_us if readable else state.observed_us,
        local=seen.local if seen.local is not None else state.local,
        op_count=seen.op_count if seen.op_count is not None else state.op_count,
    )
    if readable and seen.position is Position.CLOSED and state.shed is not None:
        outage_s = state.outage_s + (step.now_us - state.shed.since_us) / 1e6
        state = replace(state, shed=None, outage_s=outage_s)
    step.state = state


def _answer_now(result: Result) -> Action:
    """Answer this very request; nothing was or is sent for it."""

    def act(step: _Step) -> None:
        request = step.message
        if not isinstance(request, Switch) or step.target is None:
            raise AssertionError("only a request is answered at once")
        ended = Ended(request.request_id, step.target, result, step.why, request.actor[:TEXT_LIMIT], step.now_us)
        # A refusal is not remembered: the same request may come again when its cause is gone.
        if result in (Result.DONE, Result.EXPIRED):
            _remember(step, ended)
        step.effects.append(Answer((), ended, step.state.position))

    return act


def _answer_again(step: _Step) -> None:
    request = step.message
    known = next(e for e in step.state.recent if isinstance(request, Switch) and e.request_id == request.request_id)
    step.effects.append(Answer((), known, step.state.position))


def _tell_unknown(step: _Step) -> None:
    """Those who wait are told *unknown*: known later, but not in time for them."""
    command = step.command
    why = f"the outcome is not known: {step.why}" if step.why else "the outcome is not known"
    ended = Ended(
        command.request_id, command.target, Result.UNKNOWN, why[:TEXT_LIMIT], command.actor, step.now_us, command.intent
    )
    if command.tokens:
        step.effects.append(Answer(command.tokens, ended, step.state.position))
    step.state = replace(step.state, command=replace(command, tokens=()))


def _remember(step: _Step, ended: Ended) -> None:
    others = tuple(e for e in step.state.recent if e.request_id != ended.request_id)
    step.state = replace(step.state, recent=(*others, ended)[-RECENT_LIMIT:])


def _end(result: Result, words: str = "") -> Action:
    """The command has its terminal outcome: remember it, answer all who wait, keep the books."""

    def act(step: _Step) -> None:
        command = step.command
        resolved = step.state.phase in (Phase.RESOLVING, Phase.UNRESOLVED)
        detail = (words + step.why)[:TEXT_LIMIT]
        ended = Ended(
            command.request_id, command.target, result, detail, command.actor, step.now_us, command.intent, resolved
        )
        _remember(step, ended)
        if command.tokens:
            step.effects.append(Answer(command.tokens, ended, step.state.position))
        step.state = _books(replace(step.state, command=None), command, result, step)

    return act


def _books(state: Breaker, command: Command, result: Result, step: _Step) -> Breaker:
    """Ledger of the shed, lock-out, operation times."""
    message = step.message
    if isinstance(message, CommandResult) and message.result is not None and not message.result.sent:
        # No frame left: this intent neither wore the breaker nor shed anything, and says nothing of its health.
        return replace(state, operations=tuple(t for t in state.operations if t != command.intent_us))
    if command.target is Position.OPEN and result is Result.DONE and command.procedure:
        shed = Shed(command.procedure, step.now_us, command.kw)
        return replace(state, shed=shed, last_shed_us=step.now_us)
    if command.target is Position.CLOSED and result is Result.DONE:
        return replace(state, failed_closes=0)
    if command.target is Position.CLOSED and result is Result.FAILED:
        failed = state.failed_closes + 1
        return replace(state, failed_closes=failed, locked_out=failed >= step.rules.lock_out_after)
    return state


def _withdraw(step: _Step) -> None:
    step.state = replace(step.state, command=replace(step.command, wanted=False))


def _block(step: _Step) -> None:
    if isinstance(step.message, Note):
        note = step.message
        block = Block(note.actor[:TEXT_LIMIT], note.reason[:TEXT_LIMIT], step.now_us, note.open, note.close)
        step.state = replace(step.state, blocked=block)


def _unblock(step: _Step) -> None:
    step.state = replace(step.state, blocked=None)


def _reset(step: _Step) -> None:
    step.state = replace(step.state, locked_out=False, failed_closes=0)


# --- the table --------------------------------------------------------------------------------------------------------

Row = tuple[Phase, tuple[Action, ...]]

_refuse = _answer_now(Result.REFUSED)
_ANYWHERE: dict[Event, tuple[Action, ...]] = {
    Event.AGAIN: (_answer_again,),
    Event.REFUSED: (_refuse,),
    Event.STALE: (),
    Event.SEEN: (_note,),
    Event.BLOCKED: (_block,),
    Event.UNBLOCKED: (_unblock,),
    Event.RESET: (_reset,),
}
"""Events that change no phase and mean the same everywhere."""

_TABLE: dict[Phase, dict[Event, Row]] = {
    Phase.IDLE: {
        Event.START: (Phase.OPERATING, (_intend,)),
        Event.ALREADY_THERE: (Phase.IDLE, (_answer_now(Result.DONE),)),
        Event.TOO_LATE: (Phase.IDLE, (_answer_now(Result.EXPIRED),)),
        Event.READ_AGAIN: (Phase.IDLE, (_note,)),
    },
    Phase.OPERATING: {
        Event.JOIN: (Phase.OPERATING, (_join,)),
        Event.BUSY: (Phase.OPERATING, (_refuse,)),
        Event.DONE: (Phase.IDLE, (_note, _end(Result.DONE))),
        Event.DECLINED: (Phase.IDLE, (_end(Result.REFUSED),)),
        Event.FAILED: (Phase.IDLE, (_note, _end(Result.FAILED))),
        Event.NOT_SENT: (Phase.IDLE, (_end(Result.FAILED, "nothing was sent: "),)),
        Event.OUTLIVED: (Phase.IDLE, (_end(Result.EXPIRED),)),
        Event.LOST: (Phase.RESOLVING, (_read,)),
        Event.READ_AGAIN: (Phase.OPERATING, ()),
        Event.WITHDRAWN: (Phase.OPERATING, (_withdraw,)),
    },
    Phase.RESOLVING: {
        Event.JOIN: (Phase.RESOLVING, (_join,)),
        Event.BUSY: (Phase.RESOLVING, (_refuse,)),
        Event.AT_TARGET: (Phase.IDLE, (_note, _end(Result.DONE, "resolved by readback"))),
        Event.UNMOVED_SEND_AGAIN: (Phase.OPERATING, (_note, _send_again)),
        Event.NOT_EXECUTED: (Phase.IDLE, (_note, _end(Result.FAILED))),
        Event.ASTRAY: (Phase.IDLE, (_note, _end(Result.FAILED))),
        Event.UNREADABLE: (Phase.UNRESOLVED, (_note, _tell_unknown)),
        Event.READ_AGAIN: (Phase.RESOLVING, (_note,)),
        Event.WITHDRAWN: (Phase.RESOLVING, (_withdraw,)),
    },
    Phase.UNRESOLVED: {
        Event.JOIN: (Phase.RESOLVING, (_join, _read)),
        Event.BUSY: (Phase.RESOLVING, (_refuse, _read)),
        Event.AT_TARGET: (Phase.IDLE, (_note, _end(Result.DONE, "resolved by readback"))),
        Event.READ_AGAIN: (Phase.RESOLVING, (_note, _read)),
        Event.WITHDRAWN: (Phase.UNRESOLVED, (_withdraw,)),
    },
}

TABLE: dict[Phase, dict[Event, Row]] = {
    phase: {event: (phase, actions) for event, actions in _ANYWHERE.items()} | rows for phase, rows in _TABLE.items()
}


def transition(
    state: Breaker,
    rules: Rules,
    message: Message,
    classified: Classified,
    now_us: int,
    token: str | None = None,
) -> tuple[Breaker, list[Effect]]:
    """Carry out what the table says for a classified message.

    token: names the caller of this message where its event is one of DEFERRED.
    """
    phase, actions = TABLE[state.phase][classified.event]
    step = _Step(state, rules, message, now_us, classified.why, classified.target, token, classified.seen)
    for action in actions:
        action(step)
    after = step.state
    return (after if after.phase is phase else replace(after, phase=phase)), step.effects
