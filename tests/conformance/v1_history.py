"""The journal of one execution as a history of v1, cut at the end of each turn.

What differs between the two forms of history, and is put right here:

* v1 numbers tasks when they are first waited for, signals when they are sent, and the timers and attempts of a retry when
  the outcome before them is told; from 0.
* v1 runs a task only once it is waited for, so the outcome of one that our engine had started earlier is told to v1 when it
  would have been there: right after the event at which the code waits for it.
* v1's SDK does not buffer events (its host does): an event is told when there is a wait for it. Which one a wait gets is
  decided here, by the rule (first come, first served), not copied from the engine.
* v1 waits for one more timer after the last attempt of a retry.
* The answer of an entity is an event in v1, under a name that the sending of the call made known.

Beside the export stand the rules that v1's host enforces and its SDK never sees (``HostRuleBroken``): no timer fires before
it is due, no task ends twice, a retry comes when its policy says so.

Where our engine deliberately goes another way than v1 (``Fork``), the execution's export ends right after that event:
further on, both would have lived through different histories.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gateway.durable import history as h
from gateway.durable.tasks import EventTask, Task
from tests.conformance import v1_events as v1
from tests.conformance.decisions import Decisions
from tests.conformance.trace import Note, Rules, Step, Trace
from tests.conformance.world import Turns


class HostRuleBroken(AssertionError):
    """The journal holds what the host of v1 would never let happen."""


class OwnRuleBroken(AssertionError):
    """Where ours and v1 go apart on purpose, ours did not keep its own rule."""


@dataclass(frozen=True, slots=True)
class Fork:
    """The execution came to a point where a deliberate difference shows. rules: v1's rule; None: the SDK can't tell."""

    name: str
    rules: Rules | None


FAIL_FAST = Fork("task_all fails fast", Rules(fail_fast=True))
NEWEST_WAIT = Fork("the newest wait takes the event", Rules(newest_wait_first=True))
KEPT_EVENTS = Fork("an event that came before the wait, in a race", None)
EARLY_TASKS = Fork("an outcome that came before anybody waited, in a race", None)


Events = dict[str, list[str]]


@dataclass(slots=True)
class Cut:
    """A point in an execution: v1's history up to it, and what our engine has decided by then.

    early: tasks that ours has scheduled and v1 has not, as nothing has waited for them yet. in_order: tasks were waited for
    in the order in which they were made. fork: why this is the last cut;
    ``ours`` are then the decisions of our core under v1's rule.
    """

    history: list[v1.Event]
    ours: Decisions
    early: int = 0
    in_order: bool = True
    fork: Fork | None = None


@dataclass(slots=True)
class ExecutionExport:
    """One execution: input, parent, its cuts.

    carried: events that it began with; left: those that it left when it continued as new; both by name, as JSON. untold:
    why the cuts end before the journal does, if the SDK can't tell more.
    """

    input: str
    parent: str | None
    carried: Events = field(default_factory=dict)
    left: Events | None = None
    cuts: list[Cut] = field(default_factory=list)
    untold: Fork | None = None


def executions(turns: Turns) -> list[Turns]:
    """The turns of an instance, an execution (from a start or a continue-as-new to the next) at a time."""
    found: list[Turns] = []
    for turn in turns:
        if isinstance(turn[1].events[0], h.ExecutionStarted):
            found.append([])
        found[-1].append(turn)
    return found


def export(instance: str, turns: Turns) -> ExecutionExport:
    """One execution as v1 would tell it.

    Errors: HostRuleBroken.
    """
    return _Exporter(instance, turns).export()


class _Exporter:
    def __init__(self, instance: str, turns: Turns) -> None:
        self.instance = instance
        self.turns = turns
        self.trace = Trace(instance)
        self.past: list[v1.Event] = []
        self.turn: list[v1.Event] = []
        self.time = ""
        self.time_us = 0
        self.sequence = 0
        self.number: dict[int, int] = {}
        """Our id → v1's, for what v1 has scheduled."""
        self.root: dict[int, int] = {}
        """Id of a retry's timer or attempt → id of the call."""
        self.attempts: Counter[int] = Counter()
        self.held: dict[int, list[h.Incoming]] = {}
        self.waiting: Counter[str] = Counter()
        self.buffered: dict[str, deque[h.EventRaised]] = {}
        self.seen_waits: list[EventTask] = []
        self.unsent: list[v1.Event] = []
        """Events that note what v1 has scheduled in this turn; they stand at its end."""
        self.ended: set[int] = set()
        self.oldest: EventTask | None = None
        """Of several waits for the event of this step the one that ours gives it to."""
        self.together: set[str] = set()
        """Names of events that were told in this step to one of several tasks that are waited for at once."""
        self.kept_back = False
        """v1 had not been told everything when this event came: on its own way it might ask for that, and miss it."""
        self.fork: Fork | None = None

    def export(self) -> ExecutionExport:
        started = self.turns[0][1].events[0]
        assert isinstance(started, h.ExecutionStarted)
        for event in started.carried:
            self.buffered.setdefault(event.name, deque()).append(event)
        found = ExecutionExport(v1.text_of(started.input), started.parent or None, self._kept())
        for number, (time_us, record) in enumerate(self.turns):
            self._open(time_us)
            actions: list[h.Action] = []
            for place, event in enumerate(e for e in record.events if e.incoming):
                actions += self._event(event)  # type: ignore[arg-type]
                if self.fork is not None:
                    if self.fork.rules is None or self.kept_back:
                        found.untold = self.fork
                        return found
                    ours = self._under(self.fork.rules, number, place)
                    found.cuts.append(Cut([*self.past, *self.turn], ours, fork=self.fork))
                    return found
            _same([e for e in record.events if not e.incoming], actions)
            found.cuts.append(Cut([*self.past, *self.turn], self.trace.decisions(), self._early(), self._in_order()))
            self._close()
        if isinstance(self.trace.core.outcome, h.ContinueAsNew):
            found.left = self._kept()
        return found

    def _kept(self) -> Events:
        return {name: [v1.text_of(event.data) for event in kept] for name, kept in self.buffered.items() if kept}

    # Turns

    def _open(self, time_us: int) -> None:
        if time_us < self.time_us:
            raise HostRuleBroken("the time of a turn lies before that of the turn before")
        self.time_us = time_us
        self.time = v1.text_of_time(time_us)
        self.trace.begin_turn(time_us)
        self._tell(v1.STARTED)

    def _close(self) -> None:
        events = (*self.turn, *self.unsent, self._stamped(v1.COMPLETED))
        self.past += [{**event, "IsPlayed": True} for event in events]
        self.turn, self.unsent = [], []

    def _tell(self, event: v1.Event) -> None:
        self.turn.append(self._stamped(event))

    def _stamped(self, event: v1.Event) -> v1.Event:
        return {"EventId": -1, "IsPlayed": False, "Timestamp": self.time, **event}

    def _early(self) -> int:
        scheduled = {self.root.get(task_id, task_id) for task_id in self.number}
        asked = set(self.trace.tasks) - {0} - set(self.root)
        return len(asked - scheduled - self._signals())

    def _in_order(self) -> bool:
        ids = [
            what.id if isinstance(what, Task) else what
            for _, what in self.trace.decided
            if isinstance(what, Task | int)
        ]
        ids = [task_id for task_id in ids if task_id]  # waits for events have none
        return ids == sorted(ids)

    def _signals(self) -> set[int]:
        return {i for i, a in self.trace.tasks.items() if isinstance(a, h.EntityOperationSignaled)}

    # One event

    def _event(self, event: h.Incoming) -> list[h.Action]:
        """Take one event, tell it to v1 (now or later), and number what the code asked for."""
        self.kept_back = bool(self.held) or any(self.buffered.values())
        task_id: int = getattr(event, "id", 0)
        root = self.root.get(task_id, task_id)
        if isinstance(event, h.EventRaised):
            self._raised(event)
        elif task_id and root not in self.number:
            if root in self.trace.policies:
                raise AssertionError("a retry that nobody waits for can't be told to v1")
            self._check_outcome(event, task_id)
            self.held.setdefault(root, []).append(event)
        else:
            if task_id:
                self._check_outcome(event, task_id)
            self._tell_outcome(event)
        kept = self._keep_number(event, root)
        step = self.trace.take(event)
        self._name_retry(step, root, kept)
        self.together.clear()
        for note in step.notes:
            if not note.late:
                self._number(note)
        self._check_own_rules()
        return step.actions

    def _check_own_rules(self) -> None:
        if self.oldest is not None and not self.oldest.is_completed:
            raise OwnRuleBroken(f"the oldest wait for {self.oldest.name} did not get the event")
        half_failed = self.trace.half_failed()
        if any(task.is_completed for task in half_failed):
            raise OwnRuleBroken("task_all did not wait for all")
        if half_failed and self.fork is None:
            self.fork = FAIL_FAST

    def _raised(self, event: h.EventRaised) -> None:
        if not self.waiting[event.name]:
            self.buffered.setdefault(event.name, deque()).append(event)
            return
        if self.waiting[event.name] > 1:
            self.fork = NEWEST_WAIT
            self.oldest = next(w for w in self.seen_waits if w.name == event.name and not w.is_completed)
        self.waiting[event.name] -= 1
        self._tell(v1.raised(event))

    def _check_outcome(self, event: h.Incoming, task_id: int) -> None:
        if task_id in self.ended:
            raise HostRuleBroken(f"task {task_id} ended twice")
        self.ended.add(task_id)
        action = self.trace.tasks.get(task_id)
        if action is None:
            raise HostRuleBroken(f"task {task_id} ended, and was never asked for")
        if isinstance(event, h.TimerFired):
            if not isinstance(action, h.TimerCreated):
                raise HostRuleBroken(f"task {task_id} is no timer")
            if self.time_us < action.due_us:
                raise HostRuleBroken(f"timer {task_id} fired {action.due_us - self.time_us} µs early")
            if task_id in self.trace.cancelled:
                raise HostRuleBroken(f"timer {task_id} fired, and was cancelled before")

    def _tell_outcome(self, event: h.Incoming) -> None:
        self._tell(v1.outcome(event, self.number.get(getattr(event, "id", 0), -1)))

    # Retries

    def _keep_number(self, event: h.Incoming, root: int) -> int | None:
        """v1 numbers the next timer or attempt of a retry before the code runs on."""
        policy = self.trace.policies.get(root)
        if policy is None:
            return None
        match event:
            case h.TaskFailed() | h.SubOrchestrationInstanceFailed():
                self.attempts[root] += 1
                kept = self._next()
                if self.attempts[root] >= policy.max_number_of_attempts:
                    self._tell(v1.timer_fired(kept))
                    return None
                return kept
            case h.TimerFired():
                return self._next()
        return None

    def _name_retry(self, step: Step, root: int, kept: int | None) -> None:
        if kept is None:
            return
        action = step.actions[0] if step.actions else None
        if isinstance(action, h.TimerCreated):
            wait_us = self.trace.policies[root].first_retry_interval_in_milliseconds * 1000
            if action.due_us - self.time_us != wait_us:
                raise HostRuleBroken(f"a retry is due after {action.due_us - self.time_us} µs, not after {wait_us}")
        elif not isinstance(action, h.TaskScheduled | h.SubOrchestrationInstanceCreated):
            raise HostRuleBroken(f"call {root} was to be tried again; the engine decided {step.actions}")
        self.number[action.id] = kept
        self.root[action.id] = root

    def _next(self) -> int:
        self.sequence += 1
        return self.sequence - 1

    # What the code asked for

    def _number(self, note: Note) -> None:
        if note.signal:
            self._next()
        over = any(leaf.is_completed and self._known(leaf) for leaf in note.leaves)
        told = len(self.turn)
        for leaf in note.leaves:
            if isinstance(leaf, EventTask):
                self._wait(leaf, alone=len(note.leaves) == 1)
            elif leaf.id not in self.number:
                self._schedule(leaf)
        if over and len(self.turn) > told and self.fork is None:
            # For us it came first, or at least in its place; v1 can only be told of it after what it knows already.
            self.fork = EARLY_TASKS

    def _known(self, leaf: Task) -> bool:
        return leaf in self.seen_waits if isinstance(leaf, EventTask) else leaf.id in self.number

    def _wait(self, leaf: EventTask, alone: bool) -> None:
        if leaf in self.seen_waits:
            return
        self.seen_waits.append(leaf)
        if leaf.name in self.together:
            self.fork = KEPT_EVENTS
        kept = self.buffered.get(leaf.name)
        if kept:
            if not alone:  # then v1 may open another wait before it is told
                self.together.add(leaf.name)
            event = kept.popleft()
            self._tell(v1.raised(event))
        else:
            self.waiting[leaf.name] += 1

    def _schedule(self, leaf: Task) -> None:
        number = self.number[leaf.id] = self._next()
        asked = v1.asked(self.trace.tasks[leaf.id], number)
        held = self.held.pop(leaf.id, None)
        if held is None:
            self.unsent.append(self._stamped(asked))
            return
        self._tell(asked)
        for event in held:
            self._tell_outcome(event)

    # Deliberate differences

    def _under(self, rules: Rules, last_turn: int, last_event: int) -> Decisions:
        """What our core decides up to this event, when it goes by other rules."""
        trace = Trace(self.instance, rules)
        for number, (time_us, record) in enumerate(self.turns[: last_turn + 1]):
            trace.begin_turn(time_us)
            events = [event for event in record.events if event.incoming]
            for event in events if number < last_turn else events[: last_event + 1]:
                trace.take(event)  # type: ignore[arg-type]
        return trace.decisions()


def _same(journaled: list[Any], decided: list[h.Action]) -> None:
    """Replay must decide what was journaled; only the lines in a traceback may differ."""
    if [_plain(action) for action in journaled] != [_plain(action) for action in decided]:
        raise AssertionError(f"replay decides otherwise than it did: {journaled} / {decided}")


def _plain(action: h.Action) -> bytes:
    if isinstance(action, h.ExecutionFailed):
        action = msgspec.structs.replace(action, details=msgspec.structs.replace(action.details, traceback=""))
    return msgspec.json.encode(action)
