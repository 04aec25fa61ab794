"""What the author of an orchestrator sees: the names of Azure Durable Functions for Python (v1).

Everything that this object does is a decision of the orchestration: it is noted, journaled at the end of the turn, and
compared at replay. Calls are scheduled when they are made, not when they are first waited for.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from gateway.clock import from_us, to_us
from gateway.durable import history as h
from gateway.durable.codec import MAX_CUSTOM_STATUS_BYTES, Json, Raw, encode, pack, unpack, unpack_plain
from gateway.durable.identity import EntityId, check_instance_id, check_name, check_text, entity_text, name_of
from gateway.durable.retry import RetryOptions
from gateway.durable.tasks import AllTask, AnyTask, EventTask, Raise, Task, TimerTask

if TYPE_CHECKING:
    from gateway.durable.execution import Execution

Named = str | Callable[..., object]

HTTP_ACTIVITY = "BuiltIn::HttpActivity"
"""Name of the activity behind ``call_http``, as in the Durable Task Framework; whoever runs the engine registers it."""
_NAMESPACE = uuid.UUID("9b4c3c52-2f0d-4ef0-9f55-6c0a0b8f6a11")
_MICROSECOND = timedelta(microseconds=1)


class DurableOrchestrationContext:
    """The orchestrator's only way to the world."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    # Who and when

    @property
    def instance_id(self) -> str:
        """Id of this orchestration."""
        return self._execution.instance

    @property
    def name(self) -> str:
        """Name under which the orchestrator is registered."""
        return self._execution.started.name

    @property
    def version(self) -> str:
        """The version that this instance started with."""
        return self._execution.started.version

    @property
    def parent_instance_id(self) -> str | None:
        """Id of the orchestration that started this one."""
        return self._execution.started.parent or None

    @property
    def is_replaying(self) -> bool:
        """True while a turn runs that has happened before."""
        return self._execution.replaying

    @property
    def current_utc_datetime(self) -> datetime:
        """Time of this turn (aware, UTC); the same at every replay."""
        return from_us(self._execution.now_us)

    @property
    def custom_status(self) -> Json:
        """The custom status as last set."""
        status = self._execution.custom_status
        return None if status is None else unpack(status)

    @property
    def will_continue_as_new(self) -> bool:
        """True once continue_as_new was called."""
        return self._execution.continue_input is not None

    @property
    def log(self) -> structlog.typing.FilteringBoundLogger:
        """A logger that is silent at replay, so that each line is written once."""
        if self._execution.replaying:
            silent: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
                None, processors=[_drop], wrapper_class=structlog.make_filtering_bound_logger(0)
            )
            return silent
        logger: structlog.typing.FilteringBoundLogger = structlog.get_logger().bind(instance=self.instance_id)
        return logger

    @property
    def histories(self) -> list[dict[str, Json]]:
        """All that this execution has heard and decided so far, oldest first: each event as it is journaled, with its
        ``type`` (names of the Durable Task Framework) and ``timestamp``."""
        events = zip(self._execution.times_us, self._execution.history, strict=True)
        return [{"timestamp": from_us(at_us), **unpack_plain(Raw(encode(event)))} for at_us, event in events]

    def get_input(self) -> Json:
        """The input, a fresh object each time.

        Errors: NotSerializableError, when it holds an object that can't be rebuilt.
        """
        return unpack(self._execution.started.input, f"the input of {self.instance_id}")

    def set_custom_status(self, status: Json) -> None:
        """Say what goes on; at most 16 KB of JSON.

        Errors: LimitExceededError, NotSerializableError.
        """
        what = f"the custom status of {self.instance_id}"
        # None is a status too: it must not be the object that stands for "not set".
        self._execution.custom_status = Raw(b"null") if status is None else pack(status, what, MAX_CUSTOM_STATUS_BYTES)
        self._execution.custom_status_set = True

    def new_uuid(self) -> str:
        """A UUID that is the same at every replay."""
        execution = self._execution
        execution.uuid_counter += 1
        return str(uuid.uuid5(_NAMESPACE, f"{execution.instance}_{execution.now_us}_{execution.uuid_counter}"))

    def new_guid(self) -> uuid.UUID:
        """As new_uuid, as an object."""
        return uuid.UUID(self.new_uuid())

    # Calls

    def call_activity(self, name: Named, input_: Json = None) -> Task:
        """Run an activity, at least once; the task's result is what it returns."""
        return self._activity(name, input_, None)

    def call_activity_with_retry(self, name: Named, retry_options: RetryOptions, input_: Json = None) -> Task:
        """As call_activity, tried again when it fails."""
        return self._activity(name, input_, retry_options)

    def _activity(self, named: Named, input_: Json, retry: RetryOptions | None) -> Task:
        name = name_of(named)
        data = pack(input_, lambda: f"the input of activity {name}")

        def schedule(task_id: int, attempt: int, operation_id: str) -> None:
            self._execution.act(h.TaskScheduled(task_id, name, data, attempt, operation_id))

        return self._execution.call(name, schedule, retry)

    def call_http(
        self,
        method: str,
        uri: str,
        content: Json = None,
        headers: dict[str, str] | None = None,
        token_source: None = None,
        is_raw_str: bool = False,
    ) -> Task:
        """Send an HTTP request, at least once; the task's result is a dict of status_code (statusCode), headers, content.

        content: sent as JSON, or as it is when is_raw_str. An error status is a result, not a failure. It fails unless the
        gateway was told which hosts may be called. Tokens of Azure are not to be had here.
        Errors: ValueError for a token_source, TypeError for is_raw_str with a content that is no text.
        """
        if token_source is not None:
            raise ValueError("call_http has no token_source here: put what authorises the call into its headers")
        if is_raw_str and not isinstance(content, str):
            raise TypeError(f"is_raw_str needs a text as content, not {type(content).__name__}")
        given = {} if content is None or is_raw_str else {"Content-Type": "application/json"}
        body = content if content is None or is_raw_str else pack(content, f"the content for {uri}")
        text = body if body is None or isinstance(body, str) else bytes(body).decode()
        order = {"method": method, "uri": uri, "content": text, "headers": given | (headers or {})}
        return self._activity(HTTP_ACTIVITY, order, None)

    def call_sub_orchestrator(
        self, name: Named, input_: Json = None, instance_id: str | None = None, version: str | None = None
    ) -> Task:
        """Start another orchestration and wait for its output. Its id is ``{parent}:{task id in hex}`` unless given."""
        return self._sub_orchestration(name, input_, instance_id, version, None)

    def call_sub_orchestrator_with_retry(
        self,
        name: Named,
        retry_options: RetryOptions,
        input_: Json = None,
        instance_id: str | None = None,
        version: str | None = None,
    ) -> Task:
        """As call_sub_orchestrator, tried again when it fails."""
        return self._sub_orchestration(name, input_, instance_id, version, retry_options)

    def _sub_orchestration(
        self, named: Named, input_: Json, instance_id: str | None, version: str | None, retry: RetryOptions | None
    ) -> Task:
        name = name_of(named)
        check_text(version or "", f"the version of {name}")
        self._execution.check_in_section(f"the sub-orchestration {name}")
        data = pack(input_, f"the input of sub-orchestration {name}")
        if instance_id is not None:
            check_instance_id(instance_id)

        def schedule(task_id: int, attempt: int, operation_id: str) -> None:
            child = instance_id or check_instance_id(f"{self.instance_id}:{task_id:04x}")
            self._execution.act(h.SubOrchestrationInstanceCreated(task_id, name, child, data, version or ""))

        return self._execution.call(name, schedule, retry)

    def call_entity(self, entity_id: EntityId, operation: str, input: Json = None) -> Task:
        """Ask an entity and wait for its answer.

        Errors: EntityLockError in a critical section that has not locked it.
        """
        target = entity_text(entity_id)
        check_name(operation, "an operation")
        self._execution.check_in_section(f"to call {target}", target, wants_lock=True)
        data = pack(input, f"the input of {operation} on {target}")

        def schedule(task_id: int, attempt: int, operation_id: str) -> None:
            self._execution.act(h.EntityOperationCalled(task_id, target, operation, data))

        return self._execution.call(f"{operation} on {target}", schedule, None)

    def signal_entity(
        self, entity_id: EntityId, operation: str, input: Json = None, signal_time: datetime | None = None
    ) -> None:
        """Tell an entity something, now or at signal_time (a naive one is UTC); no answer.

        Errors: EntityLockError in a critical section that has locked it.
        """
        target = entity_text(entity_id)
        check_name(operation, "an operation")
        self._execution.check_in_section(f"to signal {target}", target)
        data = pack(input, f"the input of {operation} on {target}")
        due_us = 0 if signal_time is None else to_us(signal_time)
        task_id = self._execution.new_id()
        self._execution.act(h.EntityOperationSignaled(task_id, target, operation, data, due_us))

    def lock_entities(self, entities: Sequence[EntityId]) -> Task:
        """Begin a critical section: ``with (yield context.lock_entities([...])):``. Nobody else's operation runs on these
        entities until the block is left, or the orchestration ends. Inside: no other lock, no sub-orchestration, no call
        of another entity, no signal to a locked one.

        Errors: EntityLockError, ValueError when nothing is named; at the yield TaskFailedError for one that can't be.
        """
        targets = tuple(sorted({entity_text(entity_id) for entity_id in entities}))
        if not targets:
            raise ValueError("lock_entities needs at least one entity")
        return self._execution.lock(targets)

    def send_event(self, instance_id: str, name: str, data: Json = None) -> None:
        """Send an external event to another orchestration. Nobody answers; if there is none, the log says so."""
        check_instance_id(instance_id)
        check_name(name, "an event")
        payload = pack(data, f"the data of event {name}")
        self._execution.act(h.EventSent(self._execution.new_id(), instance_id, name, payload))

    # Waiting

    def create_timer(self, fire_at: datetime | timedelta) -> TimerTask:
        """A durable timer, due at a time (a naive one is UTC) or after a span of engine time.

        One in the past is due at once. Errors: LimitExceededError for one that no calendar holds.
        """
        if isinstance(fire_at, timedelta):
            return self._execution.timer(self._execution.now_us + fire_at // _MICROSECOND)
        if not isinstance(fire_at, datetime):
            raise TypeError(f"a timer takes a datetime or a timedelta, not {type(fire_at).__name__}")
        return self._execution.timer(to_us(fire_at))

    def wait_for_external_event(
        self, name: str, timeout: float | timedelta | None = None, default: Json | Raise = None
    ) -> EventTask:
        """Wait for an event (names don't mind case); one event completes one wait, in the order of the waits.

        timeout: seconds or timedelta, after which the wait yields ``default`` (``RAISE``: raises TimeoutError) and is over:
        a later event is then kept for the next wait. The task says ``timed_out``.
        """
        check_name(name, "an event")
        timeout_us: int | None = None
        if timeout is not None:
            timeout_us = max(0, _span(timeout, name) // _MICROSECOND)
        return self._execution.wait_for_event(name, timeout_us, default)

    def task_all(self, activities: Sequence[Task]) -> AllTask:
        """Complete when all have; then their results in order, or the first failure."""
        return AllTask(activities, self._execution.token)

    def task_any(self, activities: Sequence[Task]) -> AnyTask:
        """Complete with the first that does, be it failed; the others run on."""
        return AnyTask(activities, self._execution.token)

    def continue_as_new(self, input_: Json, preserve_unprocessed_events: bool = True) -> None:
        """Start over with this input and an empty history, when the orchestrator next yields or returns."""
        self._execution.continue_as_new(input_, preserve_unprocessed_events)


def _span(timeout: float | timedelta, name: str) -> timedelta:
    if isinstance(timeout, timedelta):
        return timeout
    try:
        return timedelta(seconds=timeout)
    except (TypeError, ValueError, OverflowError) as error:
        message = f"the timeout of the wait for {name!r} must be a number of seconds or a timedelta, not {timeout!r}"
        raise ValueError(message) from error


def _drop(logger: object, method: str, event: object) -> str:
    raise structlog.DropEvent
