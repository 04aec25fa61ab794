"""The engine as a whole: run ahead of the disk, never act ahead of it; fail stop; back-pressure; stop."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.durable import (
    AlreadyExistsError,
    EngineStoppedError,
    EntityId,
    GoneError,
    LimitExceededError,
    NotFoundError,
    OrchestrationRuntimeStatus,
)
from gateway.durable import history as h
from gateway.durable.testing import Workbench

COUNTER = EntityId("counter", "k")


def GridEmergencyProtocol(context):
    grid = context.get_input()  # noqa: F841 - the program as it stands
    yield context.call_activity("SendDisconnectCommand", "Tier1")
    yield context.create_timer(context.current_utc_datetime + timedelta(minutes=5))
    override = yield context.wait_for_external_event("OperatorOverride", timeout=300)
    if override and override.get("cancel"):
        return {"status": "aborted"}
    yield context.call_activity("SendReconnectCommand", "Tier1")
    return {"status": "recovered"}


def counter(context: Any) -> None:
    value = context.get_state(lambda: 0)
    if context.operation_name == "add":
        value += context.get_input()
        context.set_state(value)
    context.set_result(value)


@pytest.fixture
def calls(site: Any) -> list[str]:
    """What the activities of the protocol were told."""
    told: list[str] = []

    async def disconnect(tier: str) -> str:
        told.append(f"open {tier}")
        return "ok"

    async def reconnect(tier: str) -> str:
        told.append(f"close {tier}")
        return "ok"

    site.registry.activity(disconnect, "SendDisconnectCommand")
    site.registry.activity(reconnect, "SendReconnectCommand")
    site.registry.orchestrator(GridEmergencyProtocol)
    site.registry.entity(counter)
    return told


async def test_the_protocol_runs_as_it_stands(site, calls):
    engine = await site.start()
    instance = await engine.client.start_new("GridEmergencyProtocol", client_input={"grid": 1})
    status = await engine.client.wait_for_completion(instance, 10)
    assert status.output == {"status": "recovered"}
    assert calls == ["open Tier1", "close Tier1"]
    assert status.last_updated_time - status.created_time >= timedelta(minutes=10)


async def test_the_operator_overrides_the_protocol(site, calls):
    engine = await site.start()
    instance = await engine.client.start_new("GridEmergencyProtocol")
    await engine.client.raise_event(instance, "operatoroverride", {"cancel": True})
    assert (await engine.client.wait_for_completion(instance, 10)).output == {"status": "aborted"}
    assert calls == ["open Tier1"]


async def test_messages_run_ahead_of_the_disk_but_effects_wait_for_it(site, calls, wait_until):
    def asks(context):
        total = yield context.call_entity(COUNTER, "add", 2)
        return (yield context.call_activity("SendDisconnectCommand", f"after {total}"))

    site.registry.orchestrator(asks)
    engine = await site.start()
    site.store.hold()
    start = asyncio.ensure_future(engine.client.start_new("asks", "i"))
    call = asyncio.ensure_future(engine.client.call_entity(COUNTER, "get"))
    await wait_until(lambda: ("i", 2) in engine.underway._pending)  # entity asked and answered, activity decided
    await asyncio.sleep(0.02)
    assert not start.done()
    assert not call.done()
    assert calls == []
    assert engine.client.read_entity_raw(COUNTER) is None, "people must see committed state only"
    site.store.let_go()
    assert await start == "i"
    assert await call in (0, 2)
    await engine.client.wait_for_completion("i", 5)
    assert calls == ["open after 2"]


async def test_nothing_is_released_when_the_journal_fails(site, calls):
    engine = await site.start()
    site.store.hold()
    site.store.fail_at = 1
    waiting = [
        asyncio.ensure_future(engine.client.start_new("GridEmergencyProtocol", "i")),
        asyncio.ensure_future(engine.client.call_entity(COUNTER, "add", 1)),
        asyncio.ensure_future(engine.client.signal_entity(COUNTER, "add", 1)),
    ]
    await asyncio.sleep(0.01)
    finished = asyncio.ensure_future(engine.client.wait_for_completion("i"))
    await asyncio.sleep(0)
    site.store.let_go()
    for outcome in await asyncio.gather(*waiting, finished, return_exceptions=True):
        assert isinstance(outcome, EngineStoppedError)
    await asyncio.wait_for(engine.wait_stopped(), 1)
    assert isinstance(engine.failure, OSError)
    assert calls == []
    assert site.store.batches == []
    for late in (engine.client.start_new("GridEmergencyProtocol"), engine.client.call_entity(COUNTER, "get")):
        with pytest.raises(EngineStoppedError):
            await late
    with pytest.raises(EngineStoppedError):
        await engine.on_disk()
    with pytest.raises(EngineStoppedError):
        engine.client.post_to_entity(COUNTER, "add", 1)


async def test_a_turn_that_breaks_the_engine_is_never_committed_by_half(site, calls, monkeypatch):
    engine = await site.start()
    await engine.client.call_entity(COUNTER, "add", 1)
    committed = len(site.store.batches)
    site.store.hold()
    signal = asyncio.ensure_future(engine.client.signal_entity(COUNTER, "add", 1))
    await asyncio.sleep(0.01)

    def broken(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(engine.ledger, "append", broken)
    engine.client.post_to_entity(COUNTER, "add", 1)
    await asyncio.wait_for(engine.wait_stopped(), 1)
    site.store.let_go()
    with pytest.raises(EngineStoppedError):
        await signal
    await asyncio.sleep(0.01)
    assert str(engine.failure) == "a defect"
    assert len(site.store.batches) <= committed + 1, "only the batch that was under way may reach the disk"


async def test_an_error_in_an_effect_stops_the_engine_and_leaves_nobody_waiting(site, calls, monkeypatch):
    engine = await site.start()

    def broken(*_: object) -> None:
        raise RuntimeError("no thread left")

    monkeypatch.setattr(engine.activities, "start", broken)
    start = asyncio.ensure_future(engine.client.start_new("GridEmergencyProtocol"))
    await asyncio.wait_for(engine.wait_stopped(), 1)
    await asyncio.wait([start])  # its own start may have reached the disk before
    assert str(engine.failure) == "no thread left"


async def test_an_error_when_timers_fire_stops_the_engine(site, calls, monkeypatch):
    engine = await site.start()

    def broken(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(engine.underway, "fired", broken)
    await engine.client.start_new("GridEmergencyProtocol")
    await asyncio.wait_for(engine.wait_stopped(), 5)
    assert str(engine.failure) == "a defect"


async def test_queued_activities_do_not_start_after_a_failure(site, wait_until):
    started: list[int] = []
    gate = asyncio.Event()

    async def slow(number: int) -> None:
        started.append(number)
        await gate.wait()

    def fan(context):
        yield context.task_all([context.call_activity("slow", n) for n in range(3)])

    site.registry.activity(slow)
    site.registry.orchestrator(fan)
    engine = await site.start()
    engine.activities._max_running = 1
    await engine.client.start_new("fan")
    await wait_until(lambda: started == [0])
    engine._fail(OSError("disk full"))
    gate.set()
    await asyncio.sleep(0.02)
    assert started == [0]


async def test_intake_waits_while_the_disk_lags_behind(site, calls):
    engine = await site.start(max_pending=10)
    site.store.hold()
    callers = [
        asyncio.ensure_future(engine.client.call_entity(EntityId("counter", str(n)), "add", 1)) for n in range(50)
    ]
    await asyncio.sleep(0.02)
    late = asyncio.ensure_future(engine.client.signal_entity(COUNTER, "add", 1))
    await asyncio.sleep(0.01)
    assert not engine.ledger.instances.get(str(COUNTER)), "a signal was taken although there is no room"
    assert len(engine.ledger.outbox.batch.records) <= 10
    site.store.let_go()
    assert await asyncio.gather(*callers) == [1] * 50
    await late


async def test_stopping_writes_what_is_decided_and_goes_on_after_a_restart(site, calls, wait_until):
    engine = await site.start()
    instance = await engine.client.start_new("GridEmergencyProtocol")
    await wait_until(lambda: len(engine.timers) == 1)
    await engine.stop()
    with pytest.raises(EngineStoppedError):
        await engine.client.start_new("GridEmergencyProtocol")
    with pytest.raises(EngineStoppedError):
        await engine.on_disk()
    again = await site.start()
    assert (await again.client.wait_for_completion(instance, 10)).output == {"status": "recovered"}
    assert calls == ["open Tier1", "close Tier1"]
    assert again.counters.replays == 1


async def test_a_record_of_the_gateway_has_its_own_time_and_is_durable(site):
    engine = await site.start()
    await asyncio.sleep(0.01)
    before = engine.now_us()
    await engine.record("", "audit", {"op": "test"})
    assert [(r.seq, r.kind, r.payload) for r in site.store.records] == [(1, "audit", b'{"op":"test"}')]
    assert site.store.records[0].time_us >= before


def waits(context):
    first = yield context.wait_for_external_event("go")
    second = yield context.wait_for_external_event("GO")
    return [first, second]


async def test_events_go_to_waits_in_order_whatever_their_case(site):
    site.registry.orchestrator(waits)
    engine = await site.start()
    await engine.client.start_new("waits", "i")
    await engine.client.raise_event("i", "Go", 1)
    await engine.client.raise_event("i", "gO", 2)
    assert (await engine.client.wait_for_completion("i", 5)).output == [1, 2]
    with pytest.raises(GoneError):
        await engine.client.raise_event("i", "go", 3)
    with pytest.raises(NotFoundError):
        await engine.client.raise_event("nobody", "go", 3)
    with pytest.raises(GoneError):
        await engine.client.terminate("i", "late")


async def test_buffered_events_are_limited_also_across_a_restart(site, monkeypatch):
    monkeypatch.setattr("gateway.durable.client.MAX_BUFFERED_EVENTS", 3)
    site.registry.orchestrator(waits)
    engine = await site.start()
    await engine.client.start_new("waits", "i")
    for number in range(3):
        await engine.client.raise_event("i", "other", number)
    with pytest.raises(LimitExceededError):
        await engine.client.raise_event("i", "other", 3)
    await site.kill(engine)
    again = await site.start()
    with pytest.raises(LimitExceededError):
        await again.client.raise_event("i", "other", 3)


async def test_a_live_id_cannot_be_started_twice_and_a_used_one_goes_on_counting(site, calls):
    site.registry.orchestrator(waits)
    engine = await site.start()
    both = await asyncio.gather(
        engine.client.start_new("waits", "i"), engine.client.start_new("waits", "i"), return_exceptions=True
    )
    assert sum(isinstance(outcome, AlreadyExistsError) for outcome in both) == 1
    await engine.client.terminate("i", "enough")
    assert (await engine.client.wait_for_completion("i", 5)).runtime_status is OrchestrationRuntimeStatus.Terminated
    await engine.client.start_new("GridEmergencyProtocol", "i")
    await engine.client.wait_for_completion("i", 10)
    used = h.decode_turn(site.store.records[-1].payload)
    await engine.client.start_new("GridEmergencyProtocol", "i")
    await engine.client.wait_for_completion("i", 10)
    ids = [
        event.id
        for record in site.store.records
        if record.kind == h.TURN
        for event in h.decode_turn(record.payload).events
        if isinstance(event, h.TaskScheduled)
    ]
    assert used.events
    assert len(ids) == len(set(ids)) == 4


async def test_a_child_with_a_used_id_does_not_take_late_results_of_the_one_before(site):
    async def quick(number: int) -> int:
        return number

    def child(context):
        return (yield context.call_activity("quick", context.get_input()))

    def parent(context):
        one = yield context.call_sub_orchestrator("child", 1, "fixed")
        yield context.create_timer(timedelta(seconds=20))
        two = yield context.call_sub_orchestrator("child", 2, "fixed")
        return [one, two]

    site.registry.activity(quick)
    site.registry.orchestrator(child)
    site.registry.orchestrator(parent)
    engine = await site.start()
    await engine.client.start_new("parent", "p")
    assert (await engine.client.wait_for_completion("p", 5)).output == [1, 2]
    keys = [key for batch in site.store.batches for key in batch.activities_added]
    assert len(keys) == len(set(keys)) == 2


async def test_termination_is_recursive_and_cancels_activities(site, wait_until):
    cancelled: list[str] = []

    async def slow(_: object) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append("slow")
            raise

    def child(context):
        yield context.call_activity("slow")

    def parent(context):
        yield context.call_sub_orchestrator("child")

    site.registry.activity(slow)
    site.registry.orchestrator(child)
    site.registry.orchestrator(parent)
    engine = await site.start()
    await engine.client.start_new("parent", "p")
    await wait_until(lambda: engine.activities.running == 1)
    await engine.client.terminate("p", "storm over")
    assert (await engine.client.wait_for_completion("p", 5)).runtime_status == "Terminated"
    await wait_until(lambda: bool(cancelled) and not engine.instances)
    assert (await engine.client.get_status("p:0001")).runtime_status == "Terminated"
    assert engine.ledger.children == {}
    assert not site.store.pending_activities


async def test_whoever_gives_up_waiting_leaves_nothing_behind(site):
    site.registry.orchestrator(waits)
    engine = await site.start()
    await engine.client.start_new("waits", "i")
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await engine.client.wait_for_completion("i", 0.001)
    assert not engine.instances["i"].waiters


async def test_a_finished_orchestration_whose_activity_runs_on_can_be_waited_for(site):
    gate = asyncio.Event()

    async def slow(_: object) -> None:
        await gate.wait()

    def forgets(context):
        context.call_activity("slow")
        return "done"
        yield

    site.registry.activity(slow)
    site.registry.orchestrator(forgets)
    engine = await site.start()
    await engine.client.start_new("forgets", "i")
    for _ in range(2):
        assert (await engine.client.wait_for_completion("i", 1)).output == "done"
    gate.set()


async def test_evicted_generators_are_replayed_to_the_same_state(site, wait_until):
    site.registry.orchestrator(waits)
    engine = await site.start(max_live=2)
    names = [f"i{n}" for n in range(10)]
    for name in names:
        await engine.client.start_new("waits", name)
    for name in names:
        await engine.client.raise_event(name, "go", f"{name} first")
    await engine.on_disk()
    await wait_until(lambda: sum(engine.instances[n].execution is not None for n in names) <= 4)
    for name in names:
        await engine.client.raise_event(name, "go", f"{name} second")
    for name in names:
        assert (await engine.client.wait_for_completion(name, 5)).output == [f"{name} first", f"{name} second"]
    assert engine.counters.replays >= 8


async def test_one_that_fails_is_said_and_one_that_is_terminated_is_not(site):
    def parent(context):
        return (yield context.call_sub_orchestrator("child"))

    def child(context):
        yield context.wait_for_external_event("go")
        raise ValueError("no such tier")

    site.registry.orchestrator(parent)
    site.registry.orchestrator(child)
    engine = await site.start()
    with capture_logs() as lines:
        await engine.client.start_new("parent", "p")
        await engine.client.start_new("child", "c")
        await engine.client.terminate("c", "a drill")
        await engine.on_disk()
        (instance,) = {one.instance_id for one in await engine.client.get_status_all()} - {"p", "c"}
        await engine.client.raise_event(instance, "go")
        await engine.client.wait_for_completion("p", 5)
    told = [
        (one["instance"], one["orchestrator"], one["why"]) for one in lines if one["event"] == "orchestration_failed"
    ]
    assert told == [
        (instance, "child", "ValueError: no such tier"),
        ("p", "parent", "TaskFailedError: child failed: ValueError: no such tier"),
    ]


async def test_code_that_raises_system_exit_fails_its_instance_only(site):
    def leaves(context):
        raise SystemExit(3)
        yield

    site.registry.orchestrator(leaves)
    engine = await site.start()
    await engine.client.start_new("leaves", "i")
    status = await engine.client.wait_for_completion("i", 5)
    assert status.failure is not None
    assert status.failure.kind == "SystemExit"
    assert engine.failure is None


async def test_a_changed_program_fails_with_the_step_that_differs(site, calls):
    def program(context):
        yield context.call_activity("SendDisconnectCommand", "a")
        yield context.wait_for_external_event("go")

    site.registry.orchestrator(program)
    engine = await site.start()
    await engine.client.start_new("program", "i")
    await engine.client.raise_event("i", "other")
    await site.kill(engine)

    def changed(context):
        yield context.call_activity("SendReconnectCommand", "a")

    del site.registry._orchestrators["program"]
    site.registry.orchestrator(changed, "program")
    again = await site.start()
    await again.client.raise_event("i", "go")
    status = await again.client.wait_for_completion("i", 5)
    assert status.runtime_status == "Failed"
    assert status.failure is not None
    assert status.failure.kind == "NondeterminismError"
    for part in ("SendDisconnectCommand", "SendReconnectCommand", "step 1", "test_engine.py:"):
        assert part in status.failure.message


async def test_one_whose_code_has_changed_can_be_terminated_with_all_that_it_started():
    code = {"changed": False}

    def parent(context):
        if code["changed"]:
            yield context.create_timer(timedelta(hours=1))
        return (yield context.call_sub_orchestrator("waits", instance_id="child"))

    async with Workbench(parent, waits) as bench:
        await bench.start("parent", instance_id="i")
        code["changed"] = True
        await bench.crash()
        await bench.tell(lambda client: client.terminate("i", "of no use any more", "jane"))
        for instance in ("i", "child"):
            assert (await bench.status(instance)).runtime_status == "Terminated"


async def test_an_orchestration_without_its_code_waits_for_it_and_can_be_terminated(site):
    site.registry.orchestrator(waits)
    engine = await site.start()
    for name in ("i", "j"):
        await engine.client.start_new("waits", name)
    await site.kill(engine)
    code = site.registry._orchestrators.pop("waits")
    without = await site.start()
    await without.client.raise_event("i", "go", 1)
    await without.client.terminate("j", "not wanted")
    assert (await without.client.wait_for_completion("j", 5)).runtime_status == "Terminated"
    assert without.instances["i"].stuck
    await without.stop()
    site.registry._orchestrators["waits"] = code
    again = await site.start()
    await again.client.raise_event("i", "go", 2)
    assert (await again.client.wait_for_completion("i", 5)).output == [1, 2]


async def test_continue_as_new_keeps_events_and_ignores_what_is_decided_after_it(site, calls):
    def rounds(context):
        done = context.get_input()
        if done == 3:
            return "end"
        number = yield context.wait_for_external_event("step")
        context.continue_as_new(number)
        context.call_activity("SendDisconnectCommand", "ignored")

    site.registry.orchestrator(rounds)
    engine = await site.start()
    await engine.client.start_new("rounds", "i", 0)
    for number in (1, 2, 3):
        await engine.client.raise_event("i", "step", number)
    assert (await engine.client.wait_for_completion("i", 5)).output == "end"
    assert calls == []
