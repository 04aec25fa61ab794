"""How a procedure waits, works and listens: every wait and every command is raced with the operator's word.

An override is taken the moment it arrives, also while breakers are being operated: it is acknowledged (custom status,
the substation's list, the output) with the step that consumed it. What it demands happens at the next safe point: a
wait ends at once; a block of commands that is on its way is heard to its end first, so that what was done is known.

What must stay true: nothing in here looks at a clock or draws a number but through the context, so that a replay goes
the same way; an override is consumed once. A crash here: replay brings the generator back to the very wait it was in,
and the time that a hold had left is part of that.
"""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from typing import TypeVar

from gateway.clock import iso, to_us
from gateway.durable.codec import Json
from gateway.durable.context import DurableOrchestrationContext
from gateway.durable.errors import TaskFailedError
from gateway.durable.identity import EntityId
from gateway.durable.tasks import Task
from gateway.shedding.override import Decision, Override, OverrideError, parse
from gateway.shedding.status import OVERRIDES_SHOWN, Figures, StatusDict, describe

EVENT = "OperatorOverride"
OVERRIDES_KEPT = 64
EXPIRED = "expired: not acted on"
HOLD_OVER = "its time is over: goes on"
"""What is said of an override whose time is over."""

T = TypeVar("T")
Step = Generator[Task, object, T]


class Stopped(Exception):
    """The procedure ends here and leaves the breakers as they are."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = reason


class RestoreNow(Exception):
    """Shedding ends here; restoration begins without waiting for a stable load."""


class Conductor:
    """Waits, runs activities and listens on behalf of one procedure.

    station: the substation entity, which is told of each override that was consumed. figures: shown in the status.
    excluded: feeders that an operator took out of this procedure, by a skip or by force: it sheds them no more.
    kept_open: those of them that were forced open: it does not close them either.
    """

    def __init__(self, context: DurableOrchestrationContext, station: EntityId, figures: Figures) -> None:
        self.context = context
        self.figures = figures
        self.excluded: set[str] = set()
        self.kept_open: set[str] = set()
        self.status: StatusDict = {}
        self._station = station
        self._word = context.wait_for_external_event(EVENT)
        self._stop: Stopped | RestoreNow | None = None
        self._hold: Override | None = None
        self._skip = False
        self._phase = "starting"

    @property
    def now_us(self) -> int:
        """Time of this turn."""
        return to_us(self.context.current_utc_datetime)

    @property
    def quiet(self) -> bool:
        """True when no override waits to be taken, or to be acted on: a safe moment to start over with an empty history."""
        return not self._word.is_completed and not self._demand

    def say(self, phase: str, sentence: str, waits_for: str = "", until_us: int | None = None) -> None:
        """Set the custom status."""
        self._phase = phase
        self.status = describe(phase, self.figures, sentence, waits_for, until_us)
        self.context.set_custom_status(self.status)

    def run(self, activity: str, input_: Json = None) -> Step[Json]:
        """Run an activity to its end and hear overrides meanwhile; ``settle`` then does what they demand.

        Errors: TaskFailedError.
        """
        task = self.context.call_activity(activity, input_)
        while not task.is_completed:
            yield self.context.task_any([task, self._word])
            if self._word.is_completed:
                yield from self._take(waiting=False)
        if task.exception is not None:
            raise task.exception
        return task.result

    def settle(self) -> Step[bool]:
        """A safe point: stop here if that was demanded, stay here while held.

        True when it was held: what was measured or planned before that is old.
        """
        self._raise_stop()
        if self._hold is None:
            return False
        yield from self._stay_held()
        self._skip = False  # it has ended the hold; it must not end the next wait, too
        return True

    def wait(self, seconds: float, phase: str, sentence: str, waits_for: str = "", until_us: int = 0) -> Step[bool]:
        """A durable wait. A hold freezes it: the time that is left runs on after the resume. True when it was skipped.

        until_us: what the status shows as the end, where that is later than the end of this wait.
        Errors: Stopped, RestoreNow.
        """
        left = timedelta(seconds=seconds)
        extra_us = max(0, until_us - self.now_us - left // timedelta(microseconds=1)) if until_us else 0
        while True:
            end = self.context.current_utc_datetime + left
            self.say(phase, sentence, waits_for, to_us(end) + extra_us)
            timer = self.context.create_timer(end)
            while not timer.is_completed and not self._demand:
                yield self.context.task_any([timer, self._word])
                if self._word.is_completed:
                    yield from self._take(waiting=True)
            if not timer.is_completed:
                timer.cancel()
            left = max(end - self.context.current_utc_datetime, timedelta())
            self._raise_stop()
            if self._hold is not None:
                yield from self._stay_held()
            if self._skip:
                self._skip = False
                return True
            if not left:
                return False

    @property
    def _demand(self) -> bool:
        return self._stop is not None or self._hold is not None or self._skip

    def _raise_stop(self) -> None:
        stop, self._stop = self._stop, None
        if stop is not None:
            raise stop

    def _stay_held(self) -> Step[None]:
        phase = self._phase
        while self._hold is not None and not self._hold_is_over:
            yield from self._stay_held_by(self._hold)
        self._hold = None
        self._phase = phase
        self._raise_stop()

    @property
    def _hold_is_over(self) -> bool:
        return self._stop is not None or self._skip

    def _stay_held_by(self, hold: Override) -> Step[None]:
        """Until this hold is over, or another one has taken its place, with an expiry of its own."""
        until_us = hold.expires_us or None
        self.say("held", f"held by {hold.actor}: {hold.reason or 'no reason given'}", "resume", until_us)
        expiry = self.context.create_timer(timedelta(microseconds=hold.expires_us - self.now_us)) if until_us else None
        while self._hold is hold and not self._hold_is_over:
            yield self._word if expiry is None else self.context.task_any([expiry, self._word])
            if self._word.is_completed:
                yield from self._take(waiting=True)
            elif expiry is not None and expiry.is_completed:
                self._acknowledge(hold, HOLD_OVER)
                self._hold = None
        if expiry is not None and not expiry.is_completed:
            expiry.cancel()

    def _take(self, waiting: bool) -> Step[None]:
        """Consume one override. waiting: the procedure is in a wait, which can be skipped."""
        data = self._word.result
        self._word = self.context.wait_for_external_event(EVENT)
        try:
            override = parse(data)
        except OverrideError as error:
            actor = data.get("actor", "") if isinstance(data, dict) else ""
            self._record("?", str(actor)[:80], "", "", f"not understood: {error}")
            return
        if override.expired(self.now_us):
            self._acknowledge(override, EXPIRED)
            return
        match override.decision:
            case Decision.CANCEL:
                self._hold = None  # the later word counts: this ends a hold
                self._stop = Stopped("cancelled", f"{override.actor}: {override.reason or 'no reason given'}")
                self._acknowledge(override, "stops; breakers stay as they are")
            case Decision.CANCEL_AND_RESTORE:
                self._hold = None
                self._stop = RestoreNow()
                self._acknowledge(override, "stops shedding; restores in stages")
            case Decision.HOLD if isinstance(self._stop, Stopped):
                self._acknowledge(override, "too late to hold: it stops")
            case Decision.HOLD:
                self._hold = override
                self._acknowledge(override, "holds; timers are frozen")
            case Decision.RESUME:
                self._acknowledge(override, "goes on" if self._hold is not None else "nothing was held")
                self._hold = None
            case Decision.SKIP:
                self._take_skip(override, waiting)
            case Decision.FORCE_OPEN | Decision.FORCE_CLOSE:
                yield from self._force(override)

    def _take_skip(self, override: Override, waiting: bool) -> None:
        if override.feeders:
            self.excluded.update(override.feeders)
            self._acknowledge(override, f"leaves out {len(override.feeders)} feeders")
        elif waiting:
            self._skip = True
            self._acknowledge(override, f"ends the wait of step {self._phase}")
        else:
            self._acknowledge(override, "there is no wait to skip now")

    def _force(self, override: Override) -> Step[None]:
        opens = override.decision is Decision.FORCE_OPEN
        # Whoever forces a feeder does not want it moved back by the next step.
        self.excluded.update(override.feeders)
        if opens:
            self.kept_open.update(override.feeders)
        else:
            self.kept_open.difference_update(override.feeders)
        order = {
            "feeders": list(override.feeders),
            "actor": override.actor,
            "reason": override.reason or override.decision.value,
            "force": True,
        }
        task = self.context.call_activity("SendDisconnectCommand" if opens else "SendReconnectCommand", order)
        try:
            yield task
        except TaskFailedError as error:
            self._acknowledge(override, f"failed: {error.details.message}"[:300])
            return
        counts = count(task.result)
        self._acknowledge(override, ", ".join(f"{number} {word}" for word, number in sorted(counts.items())))

    def _acknowledge(self, override: Override, outcome: str) -> None:
        self._record(override.decision.value, override.actor, override.role, override.reason, outcome, override.id)

    def _record(self, decision: str, actor: str, role: str, reason: str, outcome: str, id_: str = "") -> None:
        record: dict[str, object] = {
            "decision": decision,
            "actor": actor,
            "role": role,
            "reason": reason,
            "step": self._phase,
            "at": iso(self.now_us),
            "outcome": outcome,
        }
        if id_:
            record["id"] = id_
        self.figures.overrides.append(record)
        del self.figures.overrides[:-OVERRIDES_KEPT]
        procedure = {"record": {"procedure": self.context.instance_id, **record}}
        self.context.signal_entity(self._station, "consumed", procedure)
        self.status["overrides"] = self.figures.overrides[-OVERRIDES_SHOWN:]
        self.context.set_custom_status(self.status)


def count(outcomes: dict[str, str]) -> dict[str, int]:
    """How many of each outcome."""
    counts: dict[str, int] = {}
    for outcome in outcomes.values():
        counts[outcome] = counts.get(outcome, 0) + 1
    return counts
