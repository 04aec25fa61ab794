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

A message is first *classified* into an event (``breaker_events.py``: guards, no change of state); the table then says
the next phase and what is done. An event that the table does not list for a phase can't come out of the classification
in that phase.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec.structs import replace

from gateway.shedding.breaker_events import Classified, Event, last_hour
from gateway.shedding.breaker_model import (
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
    Result,
    Rules,
    Shed,
    Switch,
)
from protocols.base import Position, Quality


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
        operations=(*last_hour(state.operations, step.now_us), step.now_us),
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
    if readable and seen.position is Position.OPEN:
        late = late_opening(state, step.rules, step.now_us)
        if late is not None:
            shed = Shed(late.procedure, step.now_us, late.kw)
            state = replace(state, shed=shed, last_shed_us=step.now_us)
    step.state = state


_MAY_MOVE_LATE = (Result.FAILED, Result.REFUSED)
"""Outcomes after which a breaker to which a frame was sent may move all the same; a device may refuse, and obey."""


def late_opening(state: Breaker, rules: Rules, now_us: int) -> Ended | None:
    """The failed (or refused) command of a procedure that this open breaker has obeyed late; None if there is none.

    A slow breaker must not be forgotten: what a procedure opened, it has to close. But a breaker that a person or its
    protection opened must not be closed by a procedure. So all of this has to hold: the command failed just now, nothing
    was asked for since, the breaker stands at remote, and its own counter (if it has one) counted one operation.
    """
    last = state.last
    if state.command is not None or state.shed is not None or last is None or state.local:
        return None
    if last.target is not Position.OPEN or last.result not in _MAY_MOVE_LATE or not last.procedure:
        return None
    return last if _counted_one(last.op_count, state.op_count) and now_us - last.at_us <= rules.late_move_us else None


_FULL_COUNTERS = (2**8 - 1, 2**16 - 1, 2**32 - 1)
"""After these a device's operation counter goes on with 0."""


def _counted_one(before: int | None, after: int | None) -> bool:
    """Whether the device counted one operation, as far as it counts."""
    if before is None or after is None:
        return True
    return after == before + 1 or (after == 0 and before in _FULL_COUNTERS)


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
        if result in _MAY_MOVE_LATE and not _nothing_left(step.message, command):
            ended = replace(ended, procedure=command.procedure, kw=command.kw, op_count=command.op_count)
        _remember(step, ended)
        if command.tokens:
            step.effects.append(Answer(command.tokens, ended, step.state.position))
        step.state = _books(replace(step.state, command=None), command, result, step)

    return act


def _nothing_left(message: Message, command: Command) -> bool:
    """True when it is certain that no frame left for this command: not now, and not under an intent before."""
    return _not_sent_now(message) and not command.repeats


def _not_sent_now(message: Message) -> bool:
    return isinstance(message, CommandResult) and message.result is not None and not message.result.sent


def _books(state: Breaker, command: Command, result: Result, step: _Step) -> Breaker:
    """Ledger of the shed, lock-out, operation times."""
    if _not_sent_now(step.message):
        # No frame left: this intent neither wore the breaker nor shed anything, and says nothing of its health.
        state = replace(state, operations=tuple(t for t in state.operations if t != command.intent_us))
    if _nothing_left(step.message, command):
        return state
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
        Event.NOT_SENT: (Phase.IDLE, (_end(Result.NOT_SENT, "nothing was sent: "),)),
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
