"""durabletask's in-memory backend with one worker and one client as a place where conformance programs run.

The backend listens on loopback only, on a port that the system gives; backend, worker and client end with the test.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from durabletask import client, entities, task, worker
from durabletask.internal import helpers
from durabletask.internal import orchestrator_service_pb2_grpc as stubs
from durabletask.testing.in_memory_backend import InMemoryOrchestrationBackend

from tests.conformance.durabletask_driver import Seen
from tests.conformance.durabletask_entities import Tally, box, counter, fault_in
from tests.conformance.durabletask_interpreter import Stage
from tests.conformance.durabletask_programs import Json

Task = Any
RETRY_MS = 10
QUIET = logging.getLogger("conformance.durabletask")
QUIET.setLevel(logging.CRITICAL + 1)


def entity_id(entity: str) -> entities.EntityInstanceId:
    """The id of ``kind:key``."""
    return entities.EntityInstanceId(*entity.split(":", 1))


def root_of(details: task.FailureDetails) -> task.FailureDetails:
    """The failure behind all others."""
    while details.inner_failure is not None:
        details = details.inner_failure
    return details


def reason_of(details: task.FailureDetails) -> list[str]:
    """Kind and message of the failure behind all others.

    Where the backend loses the kind (it hands on a failed sub-orchestration as a bare Exception), the message names it.
    """
    root = root_of(details)
    kind, text = root.error_type.rsplit(".", 1)[-1], fault_in(root.message)
    return [text.split("-")[1] if kind == "Exception" and text.startswith("fault-") else kind, text]


class TheirDialect:
    """The interpreter's words in durabletask's dialect."""

    failed = task.TaskFailedError

    def __init__(self, context: task.OrchestrationContext, name: str) -> None:
        self.context = context
        self.name = name
        self.begun = context.current_utc_datetime

    @staticmethod
    def retry(attempts: int) -> task.RetryPolicy | None:
        if not attempts:
            return None
        return task.RetryPolicy(first_retry_interval=timedelta(milliseconds=RETRY_MS), max_number_of_attempts=attempts)

    def activity(self, given: Json, attempts: int) -> Task:
        return self.context.call_activity("perform", input=given, retry_policy=self.retry(attempts))

    def timer(self, ms: int) -> Task:
        return self.context.create_timer(timedelta(milliseconds=ms))

    def event(self, name: str) -> Task:
        return self.context.wait_for_external_event(name)

    def patience(self, name: str, ms: int) -> Generator[Task, Any, Json]:
        wait = self.context.wait_for_external_event(name)
        timer = self.timer(ms)
        winner = yield task.when_any([wait, timer])
        (timer if winner is wait else wait).cancel()
        return [wait.get_result(), False] if winner is wait else ["expired", True]

    def ask(self, entity: str, operation: str, argument: Json) -> Task:
        return self.context.call_entity(entity_id(entity), operation, argument)

    def tell(self, entity: str, operation: str, argument: Json, delay_ms: int) -> None:
        when = self.context.current_utc_datetime + timedelta(milliseconds=delay_ms) if delay_ms else None
        self.context.signal_entity(entity_id(entity), operation, argument, when)

    def child(self, given: Json, name: str | None, attempts: int, version: str) -> Task:
        return self.context.call_sub_orchestrator(
            "program", input=given, instance_id=name, retry_policy=self.retry(attempts), version=version or None
        )

    def all(self, tasks: list[Task]) -> Task:
        return task.when_all(tasks)

    def any(self, tasks: list[Task]) -> Task:
        return task.when_any(tasks)

    def lock(self, keys: Iterable[str]) -> Task:
        return self.context.lock_entities([entity_id(key) for key in keys])

    def send(self, instance: str, name: str, value: Json) -> None:
        self.context.send_event(instance, name, data=value)

    def status(self, value: Json) -> None:
        self.context.set_custom_status(value)

    def again(self, given: Json, keep_events: bool) -> None:
        self.context.continue_as_new(given, save_events=keep_events)

    def result(self, done: Task) -> Json:
        return done.get_result()

    def error(self, done: Task) -> Exception | None:
        return done.get_exception() if done.is_failed else None

    def cancel(self, timer: Task) -> None:
        timer.cancel()

    def reason(self, error: BaseException) -> list[str]:
        assert isinstance(error, task.TaskFailedError)
        return reason_of(error.details)

    def about(self) -> Json:
        return [self.name, self.context.version or "", self.context.current_utc_datetime >= self.begun]

    def live(self) -> bool:
        return not self.context.is_replaying


class _TheirEntity:
    def __init__(self, context: entities.EntityContext) -> None:
        self.context = context

    def get(self) -> Json:
        return self.context.get_state()

    def set(self, state: Json) -> None:
        self.context.set_state(state)

    def tell(self, entity: str, operation: str, argument: Json) -> None:
        self.context.signal_entity(entity_id(entity), operation, argument)

    def start(self, given: Json, instance: str) -> None:
        self.context.schedule_new_orchestration("program", given, instance)


def their_box(context: entities.EntityContext, order: Json) -> Json:
    """The box as a function of durabletask's."""
    return box(_TheirEntity(context), context.operation, order)


def their_counter(context: entities.EntityContext, value: Json) -> Json:
    """The counter as a function of durabletask's."""
    return counter(_TheirEntity(context), context.operation, value)


class TheirTally(entities.DurableEntity):
    """The tally as a class of durabletask's."""

    def add(self, order: Json) -> Json:
        return self._with(Tally.add, order)

    def fail(self, order: Json) -> Json:
        return self._with(Tally.fail, order)

    def _with(self, operation: Any, order: Json) -> Json:
        tally = Tally(self.get_state())
        try:
            return operation(tally, order)
        finally:
            self.set_state(vars(tally))


class TheirHost:
    """Starts, asks and tells programs on durabletask."""

    first_look_s = 0.03

    def __init__(self, hub: client.TaskHubGrpcClient) -> None:
        self.hub = hub

    async def start(self, instance: str, given: Json, version: str) -> None:
        await asyncio.to_thread(
            self.hub.schedule_new_orchestration, "program", input=given, instance_id=instance, version=version or None
        )

    async def status(self, instance: str) -> Seen | None:
        state = await asyncio.to_thread(self.hub.get_orchestration_state, instance)
        if state is None:
            return None
        failure: list[str] | None = None
        if state.failure_details is not None and state.runtime_status is client.OrchestrationStatus.FAILED:
            details = state.failure_details
            failure = [details.error_type.rsplit(".", 1)[-1], *reason_of(details)]
        done = state.runtime_status is client.OrchestrationStatus.COMPLETED
        name = state.runtime_status.name.title()
        return Seen(name, state.get_output() if done else None, failure, state.get_custom_status())

    async def raise_event(self, instance: str, name: str, value: Json) -> None:
        await asyncio.to_thread(self.hub.raise_orchestration_event, instance, name, data=value)

    async def suspend(self, instance: str) -> None:
        await asyncio.to_thread(self.hub.suspend_orchestration, instance)

    async def resume(self, instance: str) -> None:
        await asyncio.to_thread(self.hub.resume_orchestration, instance)

    async def terminate(self, instance: str) -> None:
        await asyncio.to_thread(self.hub.terminate_orchestration, instance, recursive=False)

    async def rewind(self, instance: str) -> None:
        await asyncio.to_thread(self.hub.rewind_orchestration, instance, reason="the test says so")

    async def signal(self, entity: str, operation: str, argument: Json) -> None:
        await asyncio.to_thread(self.hub.signal_entity, entity_id(entity), operation, argument)

    async def entity(self, entity: str) -> Json:
        found = await asyncio.to_thread(self.hub.get_entity, entity_id(entity))
        return None if found is None else found.get_typed_state()


class Backend(InMemoryOrchestrationBackend):
    """The backend, without a thread for each timer that is there to lose: it would outlive the test by an hour."""

    def _process_create_timer_action(self, instance: Any, action: Any) -> None:
        fire_at = action.createTimer.fireAt.ToDatetime(tzinfo=UTC)
        if fire_at > datetime.now(UTC) + timedelta(minutes=10):
            instance.history.append(helpers.new_timer_created_event(action.id, fire_at))
        else:
            super()._process_create_timer_action(instance, action)


@contextlib.contextmanager
def their_hub(
    orchestrators: Iterable[Any], activities: Iterable[Any], kinds: dict[str, Any]
) -> Iterator[client.TaskHubGrpcClient]:
    """Backend, worker and client, running; all of them have ended when this has."""
    backend = Backend()
    threads = ThreadPoolExecutor(16, "conformance-backend")
    server = grpc.server(threads)
    stubs.add_TaskHubSidecarServiceServicer_to_server(backend, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    options = worker.ConcurrencyOptions(maximum_thread_pool_workers=24)
    hands = worker.TaskHubGrpcWorker(
        host_address=address, logger=QUIET, concurrency_options=options, emit_trace_spans=False
    )
    for orchestrator in orchestrators:
        hands.add_orchestrator(orchestrator)
    for activity in activities:
        hands.add_activity(activity)
    for name, kind in kinds.items():
        hands.add_entity(kind, name)
    hands.start()
    hub = client.TaskHubGrpcClient(host_address=address, logger=QUIET, emit_trace_spans=False)
    try:
        yield hub
    finally:
        hands.stop()
        hub.close()
        backend.stop()
        server.stop(1.0).wait()
        threads.shutdown()


@contextlib.asynccontextmanager
async def their_host(stage: Stage) -> AsyncIterator[TheirHost]:
    """durabletask, running programs."""

    def program(context: task.OrchestrationContext, given: Json) -> Generator[Task, Any, Any]:
        return (yield from stage.orchestrate(TheirDialect(context, "program"), given))

    def perform(_: task.ActivityContext, given: Json) -> Json:
        return stage.perform(given)

    with their_hub([program], [perform], {"box": their_box, "counter": their_counter, "tally": TheirTally}) as hub:
        yield TheirHost(hub)
