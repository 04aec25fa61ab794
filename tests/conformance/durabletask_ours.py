"""This engine as a place where conformance programs run: a real Engine, real time, a journal in memory."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Generator, Iterable
from datetime import timedelta
from typing import Any

from gateway.clock import SystemClock
from gateway.durable.context import DurableOrchestrationContext
from gateway.durable.engine import MAX_LIVE_GENERATORS, Engine
from gateway.durable.entity import DurableEntityContext
from gateway.durable.errors import FailureDetails, NotFoundError, TaskFailedError
from gateway.durable.identity import EntityId
from gateway.durable.registry import Registry
from gateway.durable.retry import RetryOptions
from gateway.durable.testing.store import MemoryStore
from tests.conformance.durabletask_driver import Seen
from tests.conformance.durabletask_entities import Tally, box, counter, fault_in
from tests.conformance.durabletask_interpreter import Stage
from tests.conformance.durabletask_programs import Json

Task = Any
RETRY_MS = 10


def entity_id(entity: str) -> EntityId:
    """The id of ``kind:key``."""
    return EntityId(*entity.split(":", 1))


def root_of(details: FailureDetails) -> FailureDetails:
    """The failure behind all others."""
    while details.cause is not None:
        details = details.cause
    return details


class OurDialect:
    """The interpreter's words in this engine's dialect."""

    failed = TaskFailedError

    def __init__(self, context: DurableOrchestrationContext) -> None:
        self.context = context
        self.begun = context.current_utc_datetime

    def activity(self, given: Json, attempts: int) -> Task:
        if attempts:
            return self.context.call_activity_with_retry("perform", RetryOptions(RETRY_MS, attempts), given)
        return self.context.call_activity("perform", given)

    def timer(self, ms: int) -> Task:
        return self.context.create_timer(timedelta(milliseconds=ms))

    def event(self, name: str) -> Task:
        return self.context.wait_for_external_event(name)

    def patience(self, name: str, ms: int) -> Generator[Task, Any, Json]:
        wait = self.context.wait_for_external_event(name, timeout=ms / 1000, default="expired")
        value = yield wait
        return [value, wait.timed_out]

    def ask(self, entity: str, operation: str, argument: Json) -> Task:
        return self.context.call_entity(entity_id(entity), operation, argument)

    def tell(self, entity: str, operation: str, argument: Json, delay_ms: int) -> None:
        when = self.context.current_utc_datetime + timedelta(milliseconds=delay_ms) if delay_ms else None
        self.context.signal_entity(entity_id(entity), operation, argument, when)

    def child(self, given: Json, name: str | None, attempts: int, version: str) -> Task:
        if attempts:
            options = RetryOptions(RETRY_MS, attempts)
            return self.context.call_sub_orchestrator_with_retry("program", options, given, name, version or None)
        return self.context.call_sub_orchestrator("program", given, name, version or None)

    def all(self, tasks: list[Task]) -> Task:
        return self.context.task_all(tasks)

    def any(self, tasks: list[Task]) -> Task:
        return self.context.task_any(tasks)

    def lock(self, keys: Iterable[str]) -> Task:
        return self.context.lock_entities([entity_id(key) for key in keys])

    def send(self, instance: str, name: str, value: Json) -> None:
        self.context.send_event(instance, name, value)

    def status(self, value: Json) -> None:
        self.context.set_custom_status(value)

    def again(self, given: Json, keep_events: bool) -> None:
        self.context.continue_as_new(given, keep_events)

    def result(self, task: Task) -> Json:
        return task.result

    def error(self, task: Task) -> Exception | None:
        return task.exception if task.is_faulted else None

    def cancel(self, task: Task) -> None:
        task.cancel()

    def reason(self, error: BaseException) -> list[str]:
        assert isinstance(error, TaskFailedError)
        root = root_of(error.details)
        return [root.kind, root.message]

    def about(self) -> Json:
        return [self.context.name, self.context.version or "", self.context.current_utc_datetime >= self.begun]

    def live(self) -> bool:
        return not self.context.is_replaying


class _OurEntity:
    def __init__(self, context: DurableEntityContext) -> None:
        self.context = context

    def get(self) -> Json:
        return self.context.get_state()

    def set(self, state: Json) -> None:
        self.context.set_state(state)

    def tell(self, entity: str, operation: str, argument: Json) -> None:
        self.context.signal_entity(entity_id(entity), operation, argument)

    def start(self, given: Json, instance: str) -> None:
        self.context.start_new("program", given, instance)


class _OurTally(Tally):
    """A class-based entity: its attributes are its state."""


class OurHost:
    """Starts, asks and tells programs on this engine."""

    first_look_s = 0.005

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.client = engine.client

    async def start(self, instance: str, given: Json, version: str) -> None:
        await self.client.start_new("program", instance, given, version or None)

    async def status(self, instance: str) -> Seen | None:
        try:
            status = await self.client.get_status(instance)
        except NotFoundError:
            return None
        failure: list[str] | None = None
        if status.failure is not None and status.runtime_status == "Failed":
            failure = [status.failure.kind, root_of(status.failure).kind, fault_in(str(status.failure))]
        output = status.output if status.runtime_status == "Completed" else None
        return Seen(str(status.runtime_status), output, failure, status.custom_status)

    async def raise_event(self, instance: str, name: str, value: Json) -> None:
        await self.client.raise_event(instance, name, value)

    async def suspend(self, instance: str) -> None:
        await self.client.suspend(instance, "the test says so")

    async def resume(self, instance: str) -> None:
        await self.client.resume(instance, "the test says so")

    async def terminate(self, instance: str) -> None:
        await self.client.terminate(instance, "the test says so")

    async def rewind(self, instance: str) -> None:
        await self.client.rewind(instance, "the test says so")

    async def signal(self, entity: str, operation: str, argument: Json) -> None:
        await self.client.signal_entity(entity_id(entity), operation, argument)

    async def entity(self, entity: str) -> Json:
        return (await self.client.read_entity_state(entity_id(entity))).entity_state


@contextlib.asynccontextmanager
async def our_host(stage: Stage, max_live: int = MAX_LIVE_GENERATORS) -> AsyncIterator[OurHost]:
    """This engine, running. max_live: generators that are kept; all others are replayed for each turn."""

    def program(context: DurableOrchestrationContext) -> Generator[Task, Any, Any]:
        return (yield from stage.orchestrate(OurDialect(context), context.get_input()))

    def perform(given: Json) -> Json:
        return stage.perform(given)

    def our_box(context: DurableEntityContext) -> Json:
        return box(_OurEntity(context), context.operation_name, context.get_input())

    def our_counter(context: DurableEntityContext) -> Json:
        return counter(_OurEntity(context), context.operation_name, context.get_input())

    registry = Registry()
    registry.orchestrator(program)
    registry.activity(perform)
    registry.entity(our_box, "box")
    registry.entity(our_counter, "counter")
    registry.entity(_OurTally, "tally")
    engine = Engine(MemoryStore(), registry, SystemClock(), max_live=max_live)
    await engine.recover()
    engine.start()
    try:
        yield OurHost(engine)
    finally:
        await engine.stop(drain_s=2.0)
