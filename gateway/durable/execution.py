"""The pure core of an orchestration: (code, events so far, now) → decisions.

``Execution`` is one execution of one orchestrator, with its live program. The same object serves both ways: live, the
engine opens a turn, applies what has arrived and takes the decisions; after a restart, ``replay.py`` does so with the
journaled turns. No I/O, no clock, no logging in here.

What must stay true: the decisions of a turn depend on nothing but the code, the events and the turns' times. A crash
here: the generator is gone, and replay makes it again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import assert_never

from gateway.clock import to_us
from gateway.durable import history as h
from gateway.durable.codec import MAX_TURN_BYTES, Json, Raw, pack, unpack
from gateway.durable.context import DurableOrchestrationContext
from gateway.durable.errors import (
    DurableError,
    EntityLockError,
    FailureDetails,
    LimitExceededError,
    NotSerializableError,
    TaskFailedError,
    describe,
    step_behind,
    traceback_of,
)
from gateway.durable.external import ExternalEvents
from gateway.durable.lines import line_of_author
from gateway.durable.locks import CriticalSection, EntityLock
from gateway.durable.program import Ended, OrchestratorFunction, Program
from gateway.durable.retry import Attempt, RetryOptions
from gateway.durable.tasks import EventTask, Raise, Task, TimerTask

MAX_ACTIONS = 100_000
MAX_STEPS_WITHOUT_WAITING = 100_000
MAX_RESTARTS_WITHOUT_WAITING = 1_000
MAX_DUE_US = to_us(datetime.max)
"""The last moment that a calendar holds."""


class Execution:
    """One execution of one orchestrator, from its start to its outcome.

    outcome: None while it runs, else the action that ended it. custom_status: JSON, as last set. replaying: this turn has
    happened before. history: all that it heard and decided; times_us: the time of each.
    """

    __slots__ = (
        "_actions",
        "_actions_at_continue",
        "_attempts",
        "_external",
        "_lines",
        "_open",
        "_program",
        "_section",
        "_turn_bytes",
        "_waited",
        "actions_total",
        "context",
        "continue_input",
        "custom_status",
        "custom_status_set",
        "history",
        "instance",
        "keep_events",
        "next_task",
        "now_us",
        "outcome",
        "replaying",
        "restarts",
        "started",
        "times_us",
        "token",
        "uuid_counter",
    )

    def __init__(self, instance: str, function: OrchestratorFunction) -> None:
        self.instance = instance
        self.now_us = 0
        self.replaying = False
        self.outcome: h.ContinueAsNew | h.ExecutionCompleted | h.ExecutionFailed | None = None
        self.custom_status: Raw | None = None
        self.custom_status_set = False
        self.started = h.ExecutionStarted(name="")
        self.next_task = 1
        self.actions_total = 0
        self._turn_bytes = 0
        self.history: list[h.Event] = []
        self.times_us: list[int] = []
        self.restarts = 0
        self.uuid_counter = 0
        self.continue_input: Raw | None = None
        self.keep_events = True
        self._actions_at_continue = 0
        self.token = object()
        self._external = ExternalEvents(self.token)
        self._program = Program(function, self.token)
        self._open: dict[int, Task] = {}
        self._attempts: dict[int, Attempt] = {}
        self._actions: list[h.Action] = []
        self._lines: dict[int, str] = {}
        self._section: CriticalSection | None = None
        self._waited = False
        self.context = DurableOrchestrationContext(self)

    # Turns

    def begin_turn(self, now_us: int) -> None:
        """Open a turn; its time never lies before that of the turn before."""
        self.now_us = max(now_us, self.now_us)
        self.custom_status_set = False
        self._turn_bytes = 0

    def end_turn(self) -> list[h.Action]:
        """Close the turn: its decisions, in the order in which the code made them."""
        actions, self._actions = self._actions, []
        return actions

    def apply(self, event: h.Incoming) -> None:
        """Take one incoming event and let the code run until it waits for something that has not happened."""
        self.history.append(event)
        self.times_us.append(self.now_us)
        try:
            self._take(event)
        except (DurableError, ValueError, RecursionError) as error:
            # What the engine does in the code's name (a retry, its timer, reading a result) can reach a limit, too.
            self.close()
            self._end_failed(error)
        if not isinstance(event, h.ExecutionTerminated):
            self._advance()
        self._waited = True

    def _take(self, event: h.Incoming) -> None:
        match event:
            case h.ExecutionStarted():
                self._start(event)
            case h.EventRaised():
                self._external.raised(event)
            case h.TimerFired():
                self._timer_fired(event.id)
            case h.TaskCompleted() | h.SubOrchestrationInstanceCompleted() | h.EntityOperationCompleted():
                self._completed(event.id, event.result)
            case h.TaskFailed() | h.SubOrchestrationInstanceFailed() | h.EntityOperationFailed():
                self._failed(event.id, event.details)
            case h.EntityLockGranted():
                self._locked(event.id)
            case h.ExecutionRewound():
                self.next_task = max(self.next_task, event.first_task)
            case h.ExecutionSuspended() | h.ExecutionResumed():
                pass  # the engine keeps what comes meanwhile; the code knows nothing of it
            case h.ExecutionTerminated():
                self.close()
            case _:
                assert_never(event)

    def wants(self, event: h.Incoming) -> bool:
        """False for the outcome of a task that nobody waits for any more (a cancelled timer, an earlier execution)."""
        task_id = getattr(event, "id", None)
        return task_id is None or task_id in self._open

    def close(self) -> None:
        """Let go of the program. What its clean-up says or raises concerns nobody any more."""
        self.replaying = True
        self._program.close()

    # What the code asks for (called by the context)

    def new_id(self) -> int:
        """The next id."""
        self.actions_total += 1
        if self.actions_total > MAX_ACTIONS:
            raise LimitExceededError(f"an orchestration may take {MAX_ACTIONS} actions; use continue_as_new")
        task_id = self.next_task
        self.next_task += 1
        if self.replaying:
            self._lines[task_id] = line_of_author()
        return task_id

    def act(self, action: h.Action) -> None:
        """Note a decision.

        Errors: LimitExceededError when this turn hands over too much.
        """
        size = h.payload_bytes(action)
        if self._turn_bytes + size > MAX_TURN_BYTES:
            raise LimitExceededError(f"one turn may hand over {MAX_TURN_BYTES} bytes; wait for something in between")
        self._turn_bytes += size
        self.history.append(action)
        self.times_us.append(self.now_us)
        self._actions.append(action)

    @property
    def events_total(self) -> int:
        """How many events its history has."""
        return len(self.history)

    def add_task(self, task: Task) -> None:
        """This task is completed by an event with its id."""
        self._open[task.id] = task

    def call(self, name: str, schedule: Callable[[int, int, str], None], retry: RetryOptions | None) -> Task:
        """Schedule a call (an activity, a sub-orchestration) that may be repeated.

        schedule(id, attempt, operation_id) notes the action of one attempt.
        """
        task_id = self.new_id()
        task = Task(task_id, name, self.token)
        operation_id = f"{self.instance}:{task_id}"
        schedule(task_id, 1, operation_id)
        self.add_task(task)
        if retry is not None:

            def again(attempt: int) -> int:
                attempt_id = self.new_id()
                schedule(attempt_id, attempt, operation_id)
                return attempt_id

            self._attempts[task_id] = Attempt(task, retry, self.now_us, again)
        return task

    def timer(self, due_us: int) -> TimerTask:
        """Set a timer.

        Errors: LimitExceededError.
        """
        if due_us > MAX_DUE_US:
            raise LimitExceededError("a timer can't be due after the year 9999")
        due_us = max(due_us, 0)
        task = TimerTask(self.new_id(), due_us, self._cancel_timer, self.token)
        self.act(h.TimerCreated(task.id, due_us))
        self.add_task(task)
        return task

    def _cancel_timer(self, timer: TimerTask) -> None:
        del self._open[timer.id]
        self._external.timer_cancelled(timer.id)
        self.act(h.TimerCancelled(timer.id))

    def wait_for_event(self, name: str, timeout_us: int | None, default: Json | Raise) -> EventTask:
        """Wait for an external event: the oldest buffered one, or the next that comes."""
        if self.continue_input is not None:
            return EventTask(0, name, self.token)  # decided too late: the event is for the next execution
        task = self._external.wait(name)
        if timeout_us is not None and not task.is_completed:
            try:
                self._external.limit(task, self.timer(self.now_us + timeout_us), default)
            except LimitExceededError:
                self._external.forget(task)
                raise
        return task

    def lock(self, targets: tuple[str, ...]) -> Task:
        """Ask for entities, sorted and each named once, for a critical section.

        Errors: EntityLockError within another one.
        """
        if self._section is not None:
            raise EntityLockError("critical sections can't be nested: lock all that is needed at once")
        task = Task(self.new_id(), f"the lock of {', '.join(targets)}", self.token)
        self._section = CriticalSection(task.id, targets)
        self.act(h.EntityLockRequested(task.id, targets))
        self.add_task(task)
        return task

    def check_in_section(self, what: str, target: str | None = None, wants_lock: bool = False) -> None:
        """What is not allowed in a critical section. target: the entity, which must (or must not) be a locked one.

        Errors: EntityLockError.
        """
        if self._section is not None:
            self._section.check(what, target, wants_lock)

    def _locked(self, task_id: int) -> None:
        task = self._open.pop(task_id, None)
        section = self._section
        if task is not None and section is not None and section.id == task_id:
            section.held = True
            task.succeed(EntityLock(partial(self._unlock, task_id)))

    def _unlock(self, task_id: int) -> None:
        if self._section is not None and self._section.id == task_id and self.outcome is None:
            self._section = None
            self.act(h.EntityUnlockSent(task_id))

    def continue_as_new(self, value: Json, keep_events: bool) -> None:
        """End this execution at its next yield or return, and start the next one; what is decided later is ignored, be it
        another input."""
        if self.continue_input is not None:
            return
        self.continue_input = pack(value, f"the input of {self.instance} for continue_as_new")
        self.keep_events = keep_events
        self._actions_at_continue = len(self._actions)

    @property
    def waits_for(self) -> Task | None:
        """What the code waits for now."""
        return self._program.waiting

    @property
    def buffered_count(self) -> int:
        """External events that nobody has asked for yet."""
        return self._external.count

    def leftover_events(self) -> tuple[h.EventRaised, ...]:
        """External events that nobody took, oldest first for each name."""
        return self._external.leftover() if self.keep_events else ()

    # Events

    def _start(self, event: h.ExecutionStarted) -> None:
        self.started = event
        self.next_task = event.first_task
        for carried in event.carried:
            self._external.keep(carried)
        self._ran(self._program.start(self.context))

    def _timer_fired(self, task_id: int) -> None:
        task = self._open.pop(task_id, None)
        if task is None:
            return
        task.succeed(None)
        self._external.timer_fired(task_id)
        attempt = self._attempts.pop(task_id, None)
        if attempt is not None:
            attempt.attempts += 1
            self._track(attempt.again(attempt.attempts), attempt)

    def _track(self, task_id: int, attempt: Attempt) -> None:
        self._open[task_id] = attempt.outer
        self._attempts[task_id] = attempt

    def _completed(self, task_id: int, result: Raw) -> None:
        task = self._open.pop(task_id, None)
        self._attempts.pop(task_id, None)
        if task is not None:
            _succeed(task, result)

    def _failed(self, task_id: int, details: FailureDetails) -> None:
        task = self._open.pop(task_id, None)
        if self._section is not None and self._section.id == task_id:
            self._section = None  # what was to be locked can't be
        attempt = self._attempts.pop(task_id, None)
        if task is None:
            return
        if attempt is not None:
            delay_us = attempt.delay_us(self.now_us)
            if delay_us is not None:
                self._attempts[self.timer(self.now_us + delay_us).id] = attempt
                return
        task.fail(TaskFailedError(f"{task.name} failed: {details}", details, task_id))

    # Running the code

    def _advance(self) -> None:
        steps = 0
        while self.outcome is None and self._program.ready:
            steps += 1
            if steps > MAX_STEPS_WITHOUT_WAITING:
                self._end_failed(LimitExceededError(f"{MAX_STEPS_WITHOUT_WAITING} steps without waiting for anything"))
                return
            self._ran(self._program.go_on())

    def _ran(self, ended: Ended | None) -> None:
        if self.continue_input is not None and (ended is None or ended.astray):
            self.close()
            self._end_completed(None)
        elif ended is None:
            return
        elif ended.error is not None:
            self._end_failed(ended.error)
        else:
            self._end_completed(ended.value)

    def _end_completed(self, result: object) -> None:
        if self.continue_input is not None:
            del self._actions[self._actions_at_continue :]
            self.restarts = 0 if self._waited or self._took_an_event() else self.started.restarts + 1
            if self.restarts > MAX_RESTARTS_WITHOUT_WAITING:
                limit = f"continue_as_new {MAX_RESTARTS_WITHOUT_WAITING} times in a row without waiting for anything"
                self._end_failed(LimitExceededError(f"{limit} (in {self.started.name})"))
                return
            left = sum(len(event.data) for event in self.leftover_events())
            if left > MAX_TURN_BYTES:
                limit = (
                    f"continue_as_new with {left} bytes of events that nobody asked for; the limit is {MAX_TURN_BYTES}"
                )
                self._end_failed(LimitExceededError(f"{limit} (in {self.started.name})"))
                return
            self._turn_bytes = 0
            self.outcome = h.ContinueAsNew(self.continue_input)
        else:
            try:
                self.outcome = h.ExecutionCompleted(pack(result, f"the output of {self.instance}"))
            except DurableError as error:
                self._end_failed(error)
                return
        self.act(self.outcome)

    def _took_an_event(self) -> bool:
        return self._external.count < len(self.started.carried)

    def _end_failed(self, error: BaseException) -> None:
        self.fail(describe(error, traceback_of(error)), step_behind(error))

    def fail(self, details: FailureDetails, task: int = 0) -> None:
        """The orchestration ends as failed. task: the step whose failure ended it."""
        if self.continue_input is not None:  # it won't, and still: what came after that is ignored
            del self._actions[self._actions_at_continue :]
        self.outcome = h.ExecutionFailed(details, task)
        self.act(self.outcome)

    def line_of(self, task_id: int) -> str:
        """Where the code asked for this task (known at replay only); where it stands now, when it did not ask."""
        return self._lines.get(task_id) or self._program.line()


def _succeed(task: Task, result: Raw) -> None:
    try:
        task.succeed(unpack(result, lambda: f"the result of {task.name}"))
    except NotSerializableError as error:  # an object that can't be rebuilt: its author can catch that
        task.fail(TaskFailedError(str(error), describe(error)))
