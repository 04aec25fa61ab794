"""Each difference from durabletask that is listed in ``durabletask_differences``: both engines do just what the list says.

A test fails, too, when durabletask comes to do what this engine does: then its line can go.
"""
# ruff: noqa: E402 - what is missing must be told before it is imported

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

WHY_NOT = "durabletask is not installed: NOTHING is compared with its backend (pip install -e '.[dev]')"
pytest.importorskip("durabletask.testing", reason=WHY_NOT)
grpc = pytest.importorskip("grpc", reason=WHY_NOT)

from durabletask import client, entities, task

from gateway.clock import SystemClock
from gateway.durable import DurableEntityContext, DurableOrchestrationContext, Engine, EntityId, Registry, RetryOptions
from gateway.durable.errors import GoneError, NotFoundError, TaskFailedError
from gateway.durable.testing import MemoryStore
from tests.conformance.durabletask_differences import DIFFERENCES
from tests.conformance.durabletask_theirs import their_hub

Json = Any
SOON_S = 0.4
"""Long enough for what happens at all to have happened."""
LATE_S = 10.0


def test_each_difference_has_its_test():
    assert len({d.name for d in DIFFERENCES}) == len(DIFFERENCES)
    shown = {name for name, value in globals().items() if name.startswith("test_") and callable(value)}
    assert {d.test for d in DIFFERENCES} == shown - {test_each_difference_has_its_test.__name__}


# Both engines, and what runs on them


class Ours:
    """This engine: starts, waits, and looks."""

    def __init__(self, engine: Engine, registry: Registry) -> None:
        self.client = engine.client
        self.registry = registry

    async def begin(self, function: Callable[..., Any], instance: str | None = None, given: Json = None) -> str:
        """Start an orchestrator."""
        if function.__name__ not in self.registry.names()["orchestrators"]:
            self.registry.orchestrator(function)
        return await self.client.start_new(function, instance, given)

    async def run(self, function: Callable[..., Any], given: Json = None) -> Any:
        """Its status once it has finished."""
        return await self.client.wait_for_completion(await self.begin(function, None, given), LATE_S)

    async def waits(self, instance: str) -> None:
        """Until it stands at a wait that it has announced."""
        await _until(lambda: self.client.get_status(instance), lambda s: s.custom_status == "waits")


async def _until(ask: Callable[[], Any], good: Callable[[Any], bool]) -> Any:
    async with asyncio.timeout(LATE_S):
        while not good(seen := await ask()):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.005)
        return seen


class Theirs:
    """durabletask: starts, waits, and looks."""

    def __init__(self, hub: client.TaskHubGrpcClient) -> None:
        self.hub = hub

    def begin(self, function: Callable[..., Any], instance: str | None = None, given: Json = None) -> str:
        """Start an orchestrator."""
        return self.hub.schedule_new_orchestration(function, input=given, instance_id=instance)

    def run(self, function: Callable[..., Any], given: Json = None) -> client.OrchestrationState:
        """Its state once it has finished."""
        return self.end(self.begin(function, None, given))

    def end(self, instance: str, limit_s: float = LATE_S) -> client.OrchestrationState:
        """Its state once it has finished."""
        state = self.hub.wait_for_orchestration_completion(instance, timeout=limit_s)
        assert state is not None
        return state

    def status(self, instance: str) -> str:
        """The name of its status."""
        state = self.hub.get_orchestration_state(instance)
        assert state is not None
        return state.runtime_status.name

    def waits(self, instance: str) -> None:
        """Until it stands at a wait that it has announced."""
        self.until(lambda: self.hub.get_orchestration_state(instance).get_custom_status() == "waits")

    def until(self, good: Callable[[], bool]) -> None:
        """Until this is so."""
        give_up = time.monotonic() + LATE_S
        while not good():
            assert time.monotonic() < give_up
            time.sleep(0.005)


def wordless(given: Json) -> Json:
    raise ValueError


def note(given: Json) -> Json:
    NOTED.append(given)
    return given


NOTED: list[Json] = []


def their_wordless(_: task.ActivityContext, given: Json) -> Json:
    return wordless(given)


def their_note(_: task.ActivityContext, given: Json) -> Json:
    return note(given)


def box(context: DurableEntityContext) -> Json:
    context.set_state((context.get_state() or 0) + 1)
    return "counted"


def their_box(context: entities.EntityContext, given: Json) -> Json:
    context.set_state((context.get_state() or 0) + 1)
    return "counted"


THEIR_ORCHESTRATORS: list[Callable[..., Any]] = []


def theirs_too(function: Callable[..., Any]) -> Callable[..., Any]:
    """Register with durabletask's worker, which wants to know all before it starts."""
    THEIR_ORCHESTRATORS.append(function)
    return function


@pytest.fixture
async def ours() -> AsyncIterator[Ours]:
    registry = Registry()
    registry.activity(wordless)
    registry.activity(note)
    registry.entity(box)
    engine = Engine(MemoryStore(), registry, SystemClock())
    await engine.recover()
    engine.start()
    NOTED.clear()
    yield Ours(engine, registry)
    await engine.stop(drain_s=1.0)


@pytest.fixture(scope="module")
def hub() -> Iterator[client.TaskHubGrpcClient]:
    with their_hub(THEIR_ORCHESTRATORS, [their_wordless, their_note], {"box": their_box}) as running:
        yield running


@pytest.fixture
def theirs(hub: client.TaskHubGrpcClient) -> Theirs:
    return Theirs(hub)


# Tasks


def our_all_of_nothing(context: DurableOrchestrationContext):
    return (yield context.task_all([]))


@theirs_too
def their_all_of_nothing(context: task.OrchestrationContext, _: Json):
    return (yield task.when_all([]))


async def test_all_of_nothing(ours: Ours, theirs: Theirs):
    assert (await ours.run(our_all_of_nothing)).output == []
    instance = theirs.begin(their_all_of_nothing)
    with pytest.raises(TimeoutError):
        theirs.end(instance, SOON_S)


def our_any_of_nothing(context: DurableOrchestrationContext):
    return (yield context.task_any([]))


@theirs_too
def their_any_of_nothing(context: task.OrchestrationContext, _: Json):
    return (yield task.when_any([]))


async def test_any_of_nothing(ours: Ours, theirs: Theirs):
    assert (await ours.run(our_any_of_nothing)).failure.kind == "ValueError"
    instance = theirs.begin(their_any_of_nothing)
    with pytest.raises(TimeoutError):
        theirs.end(instance, SOON_S)


def our_wordless_failure(context: DurableOrchestrationContext):
    return [(yield context.call_activity(wordless))]


@theirs_too
def their_wordless_failure(context: task.OrchestrationContext, _: Json):
    return [(yield context.call_activity(their_wordless))]


async def test_a_failure_without_a_message_is_a_failure(ours: Ours, theirs: Theirs):
    status = await ours.run(our_wordless_failure)
    assert status.failure.is_caused_by(ValueError)
    assert theirs.run(their_wordless_failure).get_output() == [None]


def test_a_retry_waits():
    with pytest.raises(ValueError, match="first_retry_interval"):
        RetryOptions(0, 2)
    assert task.RetryPolicy(first_retry_interval=timedelta(0), max_number_of_attempts=2)


# Continue as new


def our_status_and_again(context: DurableOrchestrationContext):
    if context.get_input() == "again":
        return (yield context.create_timer(timedelta(milliseconds=5)))
    context.set_custom_status("set before")
    return context.continue_as_new("again")


@theirs_too
def their_status_and_again(context: task.OrchestrationContext, given: Json):
    if given == "again":
        return (yield context.create_timer(timedelta(milliseconds=5)))
    context.set_custom_status("set before")
    return context.continue_as_new("again")


async def test_the_custom_status_outlives_continue_as_new(ours: Ours, theirs: Theirs):
    assert (await ours.run(our_status_and_again)).custom_status == "set before"
    assert theirs.run(their_status_and_again).get_custom_status() is None


def our_events_and_again(context: DurableOrchestrationContext):
    if context.get_input() == "again":
        race = [context.wait_for_external_event(name) for name in ("a", "b", "late")]
        return (yield (yield context.task_any(race)))
    context.set_custom_status("waits")
    yield context.wait_for_external_event("go")
    return context.continue_as_new("again")


def _their_events_and_again(context: task.OrchestrationContext, given: Json, **how: bool):
    if given == "again":
        race = [context.wait_for_external_event(name) for name in ("a", "b", "late")]
        return (yield task.when_any(race)).get_result()
    context.set_custom_status("waits")
    yield context.wait_for_external_event("go")
    return context.continue_as_new("again", **how)


@theirs_too
def their_events_and_again(context: task.OrchestrationContext, given: Json):
    return (yield from _their_events_and_again(context, given))


@theirs_too
def their_kept_events_and_again(context: task.OrchestrationContext, given: Json):
    return (yield from _their_events_and_again(context, given, save_events=True))


async def test_events_outlive_continue_as_new_by_default(ours: Ours, theirs: Theirs):
    instance = await ours.begin(our_events_and_again)
    await ours.waits(instance)
    for name in ("a", "go"):
        await ours.client.raise_event(instance, name, name)
    assert (await ours.client.wait_for_completion(instance, LATE_S)).output == "a"

    instance = theirs.begin(their_events_and_again)
    theirs.waits(instance)
    for name in ("a", "go"):
        theirs.hub.raise_orchestration_event(instance, name, data=name)
    theirs.until(lambda: theirs.hub.get_orchestration_state(instance).get_custom_status() != "waits")
    theirs.hub.raise_orchestration_event(instance, "late", data="late")
    assert theirs.end(instance).get_output() == "late"


async def test_a_race_of_waits_for_carried_events(ours: Ours, theirs: Theirs):
    instance = await ours.begin(our_events_and_again)
    await ours.waits(instance)
    for name in ("b", "a", "go"):
        await ours.client.raise_event(instance, name, name)
    assert (await ours.client.wait_for_completion(instance, LATE_S)).output == "a"

    instance = theirs.begin(their_kept_events_and_again)
    theirs.waits(instance)
    for name in ("b", "a", "go"):
        theirs.hub.raise_orchestration_event(instance, name, data=name)
    assert theirs.end(instance).get_output() == "b"


def our_fresh_start(context: DurableOrchestrationContext):
    context.set_custom_status("waits")
    if context.get_input() == "again":
        return (yield context.wait_for_external_event("word"))
    yield context.wait_for_external_event("go")
    return context.continue_as_new("again", preserve_unprocessed_events=False)


@theirs_too
def their_fresh_start(context: task.OrchestrationContext, given: Json):
    context.set_custom_status("waits")
    if given == "again":
        return (yield context.wait_for_external_event("word"))
    yield context.wait_for_external_event("go")
    return context.continue_as_new("again", save_events=False)


async def test_events_behind_the_one_that_leads_to_continue_as_new(ours: Ours, theirs: Theirs):
    instance = await ours.begin(our_fresh_start)
    await ours.waits(instance)
    await ours.client.suspend(instance, "so that they come together")
    for name in ("go", "word"):
        await ours.client.raise_event(instance, name, "early")
    await ours.client.resume(instance, "now")
    assert (await ours.client.wait_for_completion(instance, LATE_S)).output == "early"

    instance = theirs.begin(their_fresh_start)
    theirs.waits(instance)
    theirs.hub.suspend_orchestration(instance)
    theirs.until(lambda: theirs.status(instance) == "SUSPENDED")
    for name in ("go", "word"):
        theirs.hub.raise_orchestration_event(instance, name, data="early")
    theirs.hub.resume_orchestration(instance)
    await asyncio.sleep(SOON_S)
    theirs.hub.raise_orchestration_event(instance, "word", data="late")
    assert theirs.end(instance).get_output() == "late"


def our_work_after_the_end(context: DurableOrchestrationContext):
    if context.get_input() == "again":
        return (yield context.create_timer(timedelta(milliseconds=50)))
    context.continue_as_new("again")
    context.call_activity(note, "ours")
    return None


@theirs_too
def their_work_after_the_end(context: task.OrchestrationContext, given: Json):
    if given == "again":
        return (yield context.create_timer(timedelta(milliseconds=50)))
    context.continue_as_new("again")
    context.call_activity(their_note, input="theirs")
    return None


async def test_what_comes_after_continue_as_new(ours: Ours, theirs: Theirs):
    await ours.run(our_work_after_the_end)
    theirs.run(their_work_after_the_end)
    theirs.until(lambda: bool(NOTED))
    assert NOTED == ["theirs"]


# Locks


def our_owner(context: DurableOrchestrationContext):
    with (yield context.lock_entities([EntityId("box", context.get_input())])):
        context.set_custom_status("waits")
        yield context.wait_for_external_event("go")


@theirs_too
def their_owner(context: task.OrchestrationContext, given: Json):
    with (yield context.lock_entities([entities.EntityInstanceId("box", given)])):
        context.set_custom_status("waits")
        yield context.wait_for_external_event("go")


def our_stranger(context: DurableOrchestrationContext):
    return (yield context.call_entity(EntityId("box", context.get_input()), "add"))


@theirs_too
def their_stranger(context: task.OrchestrationContext, given: Json):
    return (yield context.call_entity(entities.EntityInstanceId("box", given), "add"))


async def test_a_locked_entity_lets_others_wait(ours: Ours, theirs: Theirs):
    owner = await ours.begin(our_owner, None, "k")
    await ours.waits(owner)
    stranger = await ours.begin(our_stranger, None, "k")
    await asyncio.sleep(SOON_S)
    assert (await ours.client.get_status(stranger)).runtime_status == "Running"
    await ours.client.raise_event(owner, "go")
    assert (await ours.client.wait_for_completion(stranger, LATE_S)).output == "counted"

    owner = theirs.begin(their_owner, None, "k")
    theirs.waits(owner)
    assert theirs.run(their_stranger, "k").get_output() == "counted"
    assert theirs.status(owner) == "RUNNING"


def our_child_in_section(context: DurableOrchestrationContext):
    with (yield context.lock_entities([EntityId("box", "c")])):
        return (yield context.call_sub_orchestrator(our_all_of_nothing))


@theirs_too
def their_child_in_section(context: task.OrchestrationContext, _: Json):
    with (yield context.lock_entities([entities.EntityInstanceId("box", "c")])):
        return (yield context.call_sub_orchestrator(their_grandchild))


@theirs_too
def their_grandchild(context: task.OrchestrationContext, _: Json) -> Json:
    return context.parent_instance_id


async def test_a_critical_section_has_no_sub_orchestrations(ours: Ours, theirs: Theirs):
    assert (await ours.run(our_child_in_section)).failure.kind == "EntityLockError"
    assert theirs.run(their_child_in_section).runtime_status.name == "COMPLETED"


async def test_who_is_terminated_while_waiting_for_a_lock(ours: Ours, theirs: Theirs):
    first = await ours.begin(our_owner, None, "d")
    await ours.waits(first)
    second = await ours.begin(our_owner, None, "d")
    await ours.client.terminate(second, "not any more")
    await ours.client.raise_event(first, "go")
    third = await ours.begin(our_owner, None, "d")
    await ours.waits(third)

    first = theirs.begin(their_owner, None, "d")
    theirs.waits(first)
    second = theirs.begin(their_owner, None, "d")
    theirs.hub.wait_for_orchestration_start(second, timeout=LATE_S)
    theirs.hub.terminate_orchestration(second)
    theirs.end(second)
    theirs.hub.raise_orchestration_event(first, "go")
    theirs.end(first)
    third = theirs.begin(their_owner, None, "d")
    theirs.hub.wait_for_orchestration_start(third, timeout=LATE_S)
    await asyncio.sleep(SOON_S)
    assert theirs.hub.get_orchestration_state(third).get_custom_status() is None


# Ends, sub-orchestrations


def our_parent(context: DurableOrchestrationContext):
    yield context.call_sub_orchestrator(our_waiting_child, None, f"{context.instance_id}-child")


def our_waiting_child(context: DurableOrchestrationContext):
    context.set_custom_status("waits")
    yield context.wait_for_external_event("go")


@theirs_too
def their_parent(context: task.OrchestrationContext, _: Json):
    yield context.call_sub_orchestrator(their_waiting_child, instance_id=f"{context.instance_id}-child")


@theirs_too
def their_waiting_child(context: task.OrchestrationContext, _: Json):
    context.set_custom_status("waits")
    yield context.wait_for_external_event("go")


async def test_termination_reaches_sub_orchestrations(ours: Ours, theirs: Theirs):
    ours.registry.orchestrator(our_waiting_child)
    await ours.begin(our_parent, "p")
    await _until(lambda: ours.client.get_status_by(instance_id_prefix="p-child"), bool)
    await ours.client.terminate("p", "enough")
    assert (await ours.client.wait_for_completion("p-child", LATE_S)).runtime_status == "Terminated"

    theirs.begin(their_parent, "p")
    theirs.until(lambda: theirs.hub.get_orchestration_state("p-child") is not None)
    theirs.waits("p-child")
    theirs.hub.terminate_orchestration("p", recursive=True)
    assert theirs.end("p").runtime_status.name == "TERMINATED"
    await asyncio.sleep(SOON_S)
    assert theirs.status("p-child") == "RUNNING"


async def test_the_reason_of_a_termination(ours: Ours, theirs: Theirs):
    instance = await ours.begin(our_waiting_child)
    await ours.waits(instance)
    await ours.client.terminate(instance, "enough")
    status = await ours.client.wait_for_completion(instance, LATE_S)
    assert (status.output, status.failure.message) == (None, "enough")

    instance = theirs.begin(their_waiting_child)
    theirs.waits(instance)
    theirs.hub.terminate_orchestration(instance, output="enough")
    state = theirs.end(instance)
    assert (state.get_output(), state.failure_details) == ("enough", None)


def our_failing_child(context: DurableOrchestrationContext):
    NOTED.append(context.instance_id)
    raise LookupError("nothing there")


def our_parent_of_failing(context: DurableOrchestrationContext):
    try:
        yield context.call_sub_orchestrator(our_failing_child)
    except TaskFailedError as error:
        return error.details.kind


@theirs_too
def their_failing_child(context: task.OrchestrationContext, _: Json):
    NOTED.append(context.instance_id)
    raise LookupError("nothing there")


@theirs_too
def their_parent_of_failing(context: task.OrchestrationContext, _: Json):
    try:
        yield context.call_sub_orchestrator(their_failing_child)
    except task.TaskFailedError as error:
        return error.details.error_type


async def test_the_kind_of_a_failed_sub_orchestration(ours: Ours, theirs: Theirs):
    ours.registry.orchestrator(our_failing_child)
    assert (await ours.run(our_parent_of_failing)).output == "LookupError"
    assert theirs.run(their_parent_of_failing).get_output() == "builtins.Exception"


def our_retried_child(context: DurableOrchestrationContext):
    yield context.call_sub_orchestrator_with_retry(our_failing_child, RetryOptions(1, 2))


@theirs_too
def their_retried_child(context: task.OrchestrationContext, _: Json):
    policy = task.RetryPolicy(first_retry_interval=timedelta(milliseconds=1), max_number_of_attempts=2)
    yield context.call_sub_orchestrator(their_failing_child, retry_policy=policy)


async def test_each_attempt_of_a_sub_orchestration_has_an_id(ours: Ours, theirs: Theirs):
    ours.registry.orchestrator(our_failing_child)
    assert (await ours.run(our_retried_child)).runtime_status == "Failed"
    first, second = NOTED
    assert first != second
    NOTED.clear()
    assert theirs.run(their_retried_child).runtime_status.name == "FAILED"
    first, second = NOTED
    assert first == second


def our_grandchild(context: DurableOrchestrationContext) -> Json:
    return context.parent_instance_id


def our_family(context: DurableOrchestrationContext):
    return (yield context.call_sub_orchestrator(our_grandchild)) == context.instance_id


@theirs_too
def their_family(context: task.OrchestrationContext, _: Json):
    return (yield context.call_sub_orchestrator(their_grandchild)) == context.instance_id


async def test_a_sub_orchestration_knows_its_parent(ours: Ours, theirs: Theirs):
    ours.registry.orchestrator(our_grandchild)
    assert (await ours.run(our_family)).output is True
    assert theirs.run(their_family).get_output() is False


# Suspension

HELD_UP = threading.Event()
GO_ON = threading.Event()


def our_decision_while_suspended(context: DurableOrchestrationContext):
    context.set_custom_status("waits")
    yield context.wait_for_external_event("go")
    yield context.call_activity(note, "ours")
    yield context.wait_for_external_event("end")


@theirs_too
def their_decision_while_suspended(context: task.OrchestrationContext, _: Json):
    if not context.is_replaying:  # the first turn takes until the next one has got all that it needs
        HELD_UP.set()
        assert GO_ON.wait(LATE_S)
    yield context.wait_for_external_event("go")
    yield context.call_activity(their_note, input="theirs")
    yield context.wait_for_external_event("end")


async def test_what_is_decided_when_the_suspension_comes_is_done_once(ours: Ours, theirs: Theirs):
    instance = await ours.begin(our_decision_while_suspended)
    await ours.waits(instance)
    together = asyncio.gather(ours.client.raise_event(instance, "go"), ours.client.suspend(instance, "wait"))
    await together
    await _until(lambda: ours.client.get_status(instance), lambda s: s.runtime_status == "Suspended")
    await asyncio.sleep(SOON_S)
    await ours.client.resume(instance, "go on")
    await ours.client.raise_event(instance, "end")
    await ours.client.wait_for_completion(instance, LATE_S)
    assert NOTED == ["ours"]
    NOTED.clear()

    instance = theirs.begin(their_decision_while_suspended)
    assert HELD_UP.wait(LATE_S)
    theirs.hub.raise_orchestration_event(instance, "go")
    theirs.hub.suspend_orchestration(instance)
    GO_ON.set()
    theirs.until(lambda: len(NOTED) > 1)
    assert set(NOTED) == {"theirs"}
    theirs.hub.terminate_orchestration(instance)
    theirs.end(instance)


# Clients


def our_nothing(context: DurableOrchestrationContext) -> Json:
    return "done"


@theirs_too
def their_nothing(context: task.OrchestrationContext, _: Json) -> Json:
    return "done"


async def test_an_event_for_one_that_has_finished(ours: Ours, theirs: Theirs):
    status = await ours.run(our_nothing)
    with pytest.raises(GoneError):
        await ours.client.raise_event(status.instance_id, "late")
    with pytest.raises(NotFoundError):
        await ours.client.raise_event("nobody", "late")
    theirs.hub.raise_orchestration_event(theirs.run(their_nothing).instance_id, "late")
    with pytest.raises(grpc.RpcError):
        theirs.hub.raise_orchestration_event("nobody", "late")


async def test_an_id_can_be_used_again(ours: Ours, theirs: Theirs):
    for _ in range(2):
        await ours.begin(our_nothing, "same")
        assert (await ours.client.wait_for_completion("same", LATE_S)).output == "done"
    theirs.end(theirs.begin(their_nothing, "same"))
    with pytest.raises(grpc.RpcError):
        theirs.begin(their_nothing, "same")


async def test_an_unknown_orchestrator_is_not_started(ours: Ours, theirs: Theirs):
    with pytest.raises(NotFoundError):
        await ours.client.start_new("nowhere")
    state = theirs.end(theirs.hub.schedule_new_orchestration("nowhere"))
    assert state.failure_details.error_type.endswith("OrchestratorNotRegisteredError")


def our_timed_wait(context: DurableOrchestrationContext):
    return (yield context.wait_for_external_event("never", timeout=0.01, default="no answer"))


@theirs_too
def their_timed_wait(context: task.OrchestrationContext, _: Json):
    return (yield context.wait_for_external_event("never", timeout=0.01, default="no answer"))


async def test_a_wait_may_have_a_timeout(ours: Ours, theirs: Theirs):
    assert (await ours.run(our_timed_wait)).output == "no answer"
    assert theirs.run(their_timed_wait).failure_details.error_type.endswith("TypeError")
