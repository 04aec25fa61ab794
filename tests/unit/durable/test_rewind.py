"""Rewinding failed orchestrations: what failed runs again, what succeeded does not, whenever the power fails."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from gateway.durable import (
    Engine,
    EntityId,
    NotFoundError,
    Registry,
    RetryOptions,
    TaskFailedError,
    WrongStatusError,
)
from gateway.durable.exported import recorded
from gateway.durable.rehearsal import Verdict, rehearse
from gateway.durable.testing import MemoryStore, Workbench

DEVICE = EntityId("device", "d1")


class World:
    """What activities do: how often each ran, which fail, which wait."""

    def __init__(self) -> None:
        self.ran: Counter[str] = Counter()
        self.failing: set[str] = set()
        self.holding: set[str] = set()
        self.gate = asyncio.Event()
        self.operations: list[str] = []

    def register(self, registry: Registry) -> None:
        async def step(what: str, context: Any) -> str:
            self.ran[what] += 1
            self.operations.append(f"{what} {context.operation_id} {context.attempt}")
            if what in self.holding:
                await self.gate.wait()
            if what in self.failing:
                raise ValueError(f"{what} fails")
            return what.upper()

        async def once(what: str, context: Any) -> str:
            return await step(what, context)

        def device(context: Any) -> None:
            held, what = context.get_state(dict), context.get_input()
            match context.operation_name:
                case "hold":
                    self.ran[what] += 1
                    context.set_state({**held, what: context.defer_result()})
                case "resolve":
                    context.resolve(held[what], what.upper())
                case "reject":
                    context.reject(held[what], "refused")

        registry.activity(step)
        registry.activity(once, at_most_once=True)
        registry.entity(device)


@pytest.fixture
def world(site) -> World:
    world = World()
    world.register(site.registry)
    return world


async def failed(engine: Engine, instance: str = "i"):
    status = await engine.client.wait_for_completion(instance, 5)
    assert status.runtime_status == "Failed", status
    return status.failure


async def output(engine: Engine, instance: str = "i"):
    status = await engine.client.wait_for_completion(instance, 5)
    assert status.runtime_status == "Completed", status.failure
    return status.output


async def rewinds(engine: Engine, instance: str) -> list[tuple[str, str]]:
    status = await engine.client.wait_for_completion(instance, 5)
    told = (await engine.client.get_status(instance, show_history=True)).history
    assert status.runtime_status in ("Completed", "Failed")
    rewound = [e for turn in told for e in turn["events"] if e["type"] == "ExecutionRewound"]
    return [(e["reason"], e["raised_by"]) for e in rewound]


async def test_the_failed_step_runs_again_and_those_that_succeeded_do_not(site, world):
    def shed(context):
        seen = [(yield context.call_activity("step", "a"))]
        seen.append((yield context.call_activity("step", "b")))
        seen.append((yield context.call_activity("step", "c")))
        return seen

    site.registry.orchestrator(shed)
    world.failing = {"b"}
    engine = await site.start()
    await engine.client.start_new("shed", "i")
    assert (await failed(engine)).is_caused_by(ValueError)
    world.failing.clear()
    await engine.client.rewind("i", "the relay was repaired", "Eva")
    assert await output(engine) == ["A", "B", "C"]
    assert world.ran == {"a": 1, "b": 2, "c": 1}
    assert world.operations[1] == world.operations[2] == "b i:2 1", "the same operation, as after a restart"
    status = await engine.client.get_status("i", show_history=True)
    rewound = [e for turn in status.history for e in turn["events"] if e["type"] == "ExecutionRewound"]
    assert [(e["reason"], e["raised_by"], e["again"]) for e in rewound] == [("the relay was repaired", "Eva", [2])]


async def test_it_can_fail_and_be_rewound_again_and_again(site, world):
    def shed(context):
        for what in "abc":
            yield context.call_activity("step", what)
        return "done"

    site.registry.orchestrator(shed)
    world.failing = {"a", "b", "c"}
    engine = await site.start()
    await engine.client.start_new("shed", "i")
    for repaired in "abc":
        await failed(engine)
        await engine.client.rewind("i", "again")
        await failed(engine)
        world.failing.remove(repaired)
        await engine.client.rewind("i", "again")
    assert await output(engine) == "done"
    assert world.ran == {"a": 3, "b": 3, "c": 3}


async def test_what_was_heard_after_the_failed_step_is_heard_again(site, world):
    def shed(context):
        tasks = [context.call_activity("step", what) for what in "abc"]
        told = context.wait_for_external_event("go", timeout=3600)
        pause = context.create_timer(timedelta(seconds=1))
        found = yield context.task_all([*tasks, pause])
        found.append((yield told))
        found.append((yield context.wait_for_external_event("go")))
        found.append((yield context.wait_for_external_event("late")))
        return found

    site.registry.orchestrator(shed)
    world.failing, world.holding = {"a", "c"}, {"c"}
    engine = await site.start()
    await engine.client.start_new("shed", "i")
    await asyncio.sleep(0.01)
    for number in (1, 2):
        await engine.client.raise_event("i", "go", number)
    await asyncio.sleep(0.02)
    world.gate.set()
    await failed(engine)
    world.failing.clear()
    await engine.client.rewind("i", "")
    await engine.client.raise_event("i", "late", 3)
    assert await output(engine) == ["A", "B", "C", None, 1, 2, 3]
    assert world.ran == {"a": 2, "b": 1, "c": 2}


async def test_a_failure_that_was_caught_before_stays_as_it_was(site, world):
    def shed(context):
        try:
            yield context.call_activity("step", "a")
        except TaskFailedError:
            yield context.call_activity("step", "instead")
        try:
            yield context.call_activity("step", "b")
        except TaskFailedError as error:
            yield context.call_activity("step", "clean up")
            raise RuntimeError("no way on") from error
        return "done"

    site.registry.orchestrator(shed)
    world.failing = {"a", "b"}
    engine = await site.start()
    await engine.client.start_new("shed", "i")
    assert (await failed(engine)).kind == "RuntimeError"
    world.failing.clear()
    await engine.client.rewind("i", "")
    assert await output(engine) == "done"
    assert world.ran == {"a": 1, "instead": 1, "b": 2, "clean up": 1}


async def test_what_the_code_did_before_it_asked_for_the_failed_step_stands(site, world):
    def shed(context):
        tasks = [context.call_activity("step", what) for what in "abcd"]
        for task in tasks:
            yield context.create_timer(timedelta(seconds=1))
            found = yield task
            context.signal_entity(DEVICE, "note", found)
            yield context.call_activity("step", f"note {found}")
        return "done"

    site.registry.orchestrator(shed)
    world.failing = {"b", "d"}
    engine = await site.start()
    await engine.client.start_new("shed", "i")
    await failed(engine)
    assert world.ran == {"a": 1, "b": 1, "c": 1, "d": 1, "note A": 1}
    world.failing.clear()
    await engine.client.rewind("i", "")
    assert await output(engine) == "done"
    assert world.ran == {"a": 1, "b": 2, "c": 1, "d": 2, **{f"note {x}": 1 for x in "ABCD"}}, "all that failed, once"


async def test_a_failure_that_decided_something_is_not_taken_back_with_another(site, world):
    def shed(context):
        first = context.call_activity("step", "a")
        winner = yield context.task_any([first, context.create_timer(timedelta(hours=9))])
        if winner is first and first.is_faulted:
            yield context.call_activity("step", "instead")
        return (yield context.call_activity("step", "b"))

    site.registry.orchestrator(shed)
    world.failing = {"a", "b"}
    engine = await site.start()
    await engine.client.start_new("shed", "i")
    await failed(engine)
    world.failing.clear()
    await engine.client.rewind("i", "")
    assert await output(engine) == "B"
    assert world.ran == {"a": 1, "instead": 1, "b": 2}


async def test_the_last_attempt_of_a_call_with_retries_runs_again(site, world):
    def shed(context):
        return (yield context.call_activity_with_retry("step", RetryOptions(10, 3), "a"))

    site.registry.orchestrator(shed)
    world.failing = {"a"}
    engine = await site.start()
    await engine.client.start_new("shed", "i")
    await failed(engine)
    world.failing.clear()
    await engine.client.rewind("i", "")
    assert await output(engine) == "A"
    assert world.operations[2:] == ["a i:1 3", "a i:1 3"]


async def test_an_error_of_the_code_itself_is_taken_from_the_last_turn_on(site, world):
    def shed(context):
        seen = yield context.call_activity("step", "a")
        if "fixed" not in world.failing:
            raise KeyError("a bug")
        return seen

    def at_once(context):
        if "fixed" not in world.failing:
            raise KeyError("a bug")
        return (yield context.call_activity("step", context.get_input()))

    site.registry.orchestrator(shed)
    site.registry.orchestrator(at_once)
    engine = await site.start()
    await engine.client.start_new("shed", "i")
    await engine.client.start_new("at_once", "j", "b")
    await failed(engine, "i")
    await failed(engine, "j")
    world.failing = {"fixed"}
    await engine.client.rewind("i", "")
    await engine.client.rewind("j", "")
    assert await output(engine, "i") == "A"
    assert await output(engine, "j") == "B"
    assert world.ran == {"a": 1, "b": 1}


async def test_one_that_starts_over_and_fails_at_once_again_says_who_rewound_it_and_why(site, world, wait_until):
    def top(context):
        try:
            yield context.call_sub_orchestrator("at_once", instance_id="below")
        except TaskFailedError:
            return "went on without it"

    def at_once(context):
        context.signal_entity(DEVICE, "hold", "told")
        if "fixed" not in world.failing:
            raise KeyError("a bug")
        return "done"

    site.registry.orchestrator(top)
    site.registry.orchestrator(at_once)
    engine = await site.start()
    await engine.client.start_new("top", "i")
    assert await output(engine) == "went on without it"
    for reason in ("first try", "second try"):
        await failed(engine, "below")
        await engine.client.rewind("below", reason, "Eva")
        assert await rewinds(engine, "below") == [(reason, "Eva")]
    world.failing.add("fixed")
    await engine.client.rewind("below", "it is fixed", "Eva")
    assert await output(engine, "below") == "done"
    assert await rewinds(engine, "below") == [("it is fixed", "Eva")]
    assert await output(engine) == "went on without it", "who had heard of the failure is not told of another end"
    await wait_until(lambda: world.ran["told"] == 4)
    records = [record for record in site.store.records if record.instance == "below"]
    assert [b"ExecutionRewound" in record.payload for record in records] == [False, True, True, True]


async def test_one_that_starts_over_and_continues_as_new_at_once_is_rewound_in_the_turn_that_did_so(site, world):
    def shed(context):
        if "fixed" not in world.failing:
            raise KeyError("a bug")
        if context.get_input() is None:
            context.continue_as_new("second")
            return None
        return (yield context.call_activity("step", context.get_input()))

    site.registry.orchestrator(shed)
    engine = await site.start()
    await engine.client.start_new("shed", "i")
    await failed(engine)
    world.failing.add("fixed")
    await engine.client.rewind("i", "it is fixed")
    assert await output(engine) == "SECOND"
    kinds = [[event["type"] for event in json.loads(record.payload)["events"]] for record in site.store.records]
    assert kinds[:3] == [
        ["ExecutionStarted", "ExecutionFailed"],
        ["ExecutionStarted", "ExecutionRewound", "ContinueAsNew"],
        ["ExecutionStarted", "TaskScheduled"],
    ]


async def test_a_failed_sub_orchestration_is_rewound_and_not_started_anew(site, world):
    def top(context):
        first = yield context.call_sub_orchestrator("middle", "x", instance_id="middle-x")
        return [first, (yield context.call_activity("step", "end"))]

    def middle(context):
        seen = yield context.call_activity("step", "once")
        return [seen, (yield context.call_sub_orchestrator("bottom"))]

    def bottom(context):
        kept = yield context.call_activity("step", "kept")
        return [kept, (yield context.call_activity("step", "broken"))]

    for function in (top, middle, bottom):
        site.registry.orchestrator(function)
    world.failing = {"broken"}
    engine = await site.start()
    await engine.client.start_new("top", "i")
    await failed(engine)
    world.failing.clear()
    await engine.client.rewind("i", "", "Eva")
    assert await output(engine) == [["ONCE", ["KEPT", "BROKEN"]], "END"]
    assert world.ran == {"once": 1, "kept": 1, "broken": 2, "end": 1}
    assert engine.ledger.starting == set()


async def test_a_terminated_sub_orchestration_starts_anew_and_a_running_one_is_waited_for(site, world, wait_until):
    def top(context):
        tasks = [context.call_sub_orchestrator("waits", name, instance_id=name) for name in ("t", "r", "c")]
        broken = context.call_activity("step", "broken")
        found = [(yield broken), (yield tasks[0]), (yield tasks[1]), (yield tasks[2])]
        return found

    def waits(context):
        return (yield context.wait_for_external_event("go"))

    site.registry.orchestrator(top)
    site.registry.orchestrator(waits)
    world.failing, world.holding = {"broken"}, {"broken"}
    engine = await site.start()
    await engine.client.start_new("top", "i")
    await wait_until(lambda: {"t", "r", "c"} <= set(engine.instances))
    world.gate.set()
    await failed(engine)
    await engine.client.terminate("t", "no more")
    await engine.client.raise_event("c", "go", "while failed")
    await engine.client.wait_for_completion("c", 5)
    await engine.client.wait_for_completion("t", 5)
    world.failing.clear()
    await engine.client.rewind("i", "")
    await engine.client.raise_event("r", "go", "still there")
    await wait_until(lambda: "t" in engine.instances)
    await engine.client.raise_event("t", "go", "anew")
    assert await output(engine) == ["BROKEN", "anew", "still there", "while failed"]


async def test_an_activity_that_is_still_under_way_is_not_started_twice(site, world, wait_until):
    def shed(context):
        slow = context.call_activity("once", "slow")
        yield context.call_activity("step", "broken")
        return (yield slow)

    site.registry.orchestrator(shed)
    world.failing, world.holding = {"broken"}, {"slow"}
    engine = await site.start()
    await engine.client.start_new("shed", "i")
    await failed(engine)
    world.failing.clear()
    await engine.client.rewind("i", "")
    await wait_until(lambda: world.ran["broken"] == 2)
    world.gate.set()
    assert await output(engine) == "SLOW"
    assert world.ran == {"slow": 1, "broken": 2}


async def test_an_activity_that_a_restart_started_again_is_waited_for(site, world, wait_until):
    def shed(context):
        slow = context.call_activity("step", "slow")
        yield context.call_activity("step", "broken")
        return (yield slow)

    site.registry.orchestrator(shed)
    world.failing, world.holding = {"broken"}, {"slow"}
    engine = await site.start()
    await engine.client.start_new("shed", "i")
    await failed(engine)
    await site.kill(engine)
    again = await site.start()
    await wait_until(lambda: world.ran["slow"] == 2)
    world.failing.clear()
    await again.client.rewind("i", "")
    await wait_until(lambda: world.ran["broken"] == 2)
    world.gate.set()
    assert await output(again) == "SLOW"
    assert world.ran["slow"] == 2


async def test_a_timer_that_had_not_fired_runs_on(site, world):
    def shed(context):
        timer = context.create_timer(timedelta(seconds=40))
        begun = context.current_utc_datetime
        yield context.call_activity("step", "broken")
        yield timer
        return (context.current_utc_datetime - begun).total_seconds()

    site.registry.orchestrator(shed)
    world.failing = {"broken"}
    engine = await site.start()
    await engine.client.start_new("shed", "i")
    await failed(engine)
    assert len(engine.timers) == 0
    world.failing.clear()
    await engine.client.rewind("i", "")
    assert await output(engine) >= 40


async def test_a_late_result_of_a_forgotten_step_is_not_taken_for_that_of_a_new_one(site, world, wait_until):
    def shed(context):
        try:
            yield context.call_activity("step", "broken")
        except TaskFailedError:
            context.call_activity("step", "forgotten")
            raise
        return (yield context.call_activity("step", "next"))

    site.registry.orchestrator(shed)
    world.failing, world.holding = {"broken"}, {"forgotten"}
    engine = await site.start()
    await engine.client.start_new("shed", "i")
    await failed(engine)
    await wait_until(lambda: world.ran["forgotten"] == 1)
    world.failing.clear()
    world.holding.add("next")
    await engine.client.rewind("i", "")
    await wait_until(lambda: world.ran["next"] == 1)
    world.gate.set()
    assert await output(engine) == "NEXT"
    assert [line.split()[:2] for line in world.operations[-2:]] == [["broken", "i:1"], ["next", "i:3"]]


async def test_what_may_have_been_done_is_not_repeated(site, world, wait_until):
    def shed(context):
        lost = context.call_activity("once", "command")
        looked = context.call_activity("step", "look")
        asked = context.call_entity(DEVICE, "hold", "asked")
        owed = context.call_entity(DEVICE, "hold", "owed")
        refused = context.call_entity(DEVICE, "hold", "refused")
        yield context.task_all([context.call_activity("step", "broken"), refused])
        found = []
        for task in (lost, looked, asked, owed):
            try:
                found.append((yield task))
            except TaskFailedError as error:
                found.append(error.details.kind)
        return found

    site.registry.orchestrator(shed)
    world.failing, world.holding = {"broken"}, {"command", "look"}
    engine = await site.start()
    await engine.client.start_new("shed", "i")
    await wait_until(
        lambda: world.ran["refused"] == world.ran["broken"] == world.ran["command"] == world.ran["look"] == 1
    )
    await engine.on_disk()
    await engine.client.call_entity(DEVICE, "reject", "refused")
    await failed(engine)
    # All that comes now finds nobody: how it ended is known to those who did it alone.
    await engine.client.call_entity(DEVICE, "resolve", "asked")
    world.gate.set()
    await wait_until(lambda: not engine.activities.running)
    world.failing.clear()
    await engine.client.rewind("i", "")
    await wait_until(lambda: world.ran["refused"] == 2)
    await engine.client.call_entity(DEVICE, "resolve", "refused")
    await engine.client.call_entity(DEVICE, "resolve", "owed")
    assert await output(engine) == ["ActivityInterrupted", "LOOK", "OutcomeUnknown", "OWED"]
    assert world.ran == {"command": 1, "look": 2, "broken": 2, "asked": 1, "owed": 1, "refused": 2}


async def test_an_interrupted_command_is_not_repeated_by_a_rewind(site, world, wait_until):
    def shed(context):
        return (yield context.call_activity("once", "command"))

    site.registry.orchestrator(shed)
    world.holding = {"command"}
    engine = await site.start()
    await engine.client.start_new("shed", "i")
    await wait_until(lambda: world.ran["command"] == 1)
    await engine.on_disk()
    await site.kill(engine)
    world.gate.set()
    again = await site.start()
    assert (await failed(again)).is_caused_by("ActivityInterrupted")
    await again.client.rewind("i", "")
    assert "not repeated" in str((await failed(again)).cause)
    assert world.ran["command"] == 1


async def test_code_that_diverged_goes_on_once_it_is_back(site, world, wait_until):
    def shed(context):
        seen = yield context.call_activity("step", "a")
        return [seen, (yield context.wait_for_external_event("go"))]

    def changed(context):
        yield context.create_timer(timedelta(hours=1))

    async def restart_with(function) -> Engine:
        await site.engines[-1].on_disk()
        await site.kill(site.engines[-1])
        site.registry = Registry()
        world.register(site.registry)
        site.registry.orchestrator(function, "shed")
        return await site.start()

    site.registry.orchestrator(shed)
    engine = await site.start()
    await engine.client.start_new("shed", "i")
    await wait_until(lambda: engine.instances["i"].execution is not None and not engine.instances["i"].activities)
    wrong = await restart_with(changed)
    await wrong.client.raise_event("i", "go", 7)
    assert (await failed(wrong)).kind == "NondeterminismError"
    await wrong.client.rewind("i", "tried too early")
    assert (await failed(wrong)).kind == "NondeterminismError"
    right = await restart_with(shed)
    await right.client.rewind("i", "the code is back")
    assert await output(right) == ["A", 7]
    assert world.ran == {"a": 1}


async def test_what_one_that_diverged_was_told_while_suspended_is_not_lost():
    code = {"back": True}

    def listens(context):
        if not code["back"]:
            yield context.create_timer(timedelta(hours=1))
        return [(yield context.wait_for_external_event("word")), (yield context.wait_for_external_event("word"))]

    async with Workbench(listens) as bench:
        await bench.start("listens", instance_id="i")
        await bench.tell(lambda client: client.suspend("i", "new code comes"))
        await bench.raise_event("i", "word", 1)
        code["back"] = False
        await bench.crash()
        await bench.raise_event("i", "word", 2)
        await bench.tell(lambda client: client.resume("i", "it is there"))
        assert (await bench.status("i")).runtime_status == "Failed"
        code["back"] = True
        await bench.tell(lambda client: client.rewind("i", "the code is back"))
        assert await bench.output("i") == [1, 2]


async def test_what_can_not_be_rewound_is_refused(site, world):
    def locks(context):
        with (yield context.lock_entities([DEVICE])):
            yield context.call_activity("step", "broken")

    def waits(context):
        yield context.wait_for_external_event("go")

    site.registry.orchestrator(locks)
    site.registry.orchestrator(waits)
    world.failing = {"broken"}
    engine = await site.start()
    await engine.client.start_new("locks", "l")
    await engine.client.start_new("waits", "w")
    await failed(engine, "l")
    with pytest.raises(WrongStatusError, match="l failed in a critical section"):
        await engine.client.rewind("l", "")
    with pytest.raises(WrongStatusError, match="w is Running: only a failed"):
        await engine.client.rewind("w", "")
    await engine.client.raise_event("w", "go")
    assert await output(engine, "w") is None
    with pytest.raises(WrongStatusError, match="w is Completed"):
        await engine.client.rewind("w", "")
    with pytest.raises(NotFoundError):
        await engine.client.rewind("nobody", "")
    with pytest.raises(NotFoundError):
        await engine.client.rewind(str(DEVICE), "")
    assert engine.ledger.starting == set()


async def test_two_rewinds_at_once_are_one(site, world):
    def shed(context):
        return (yield context.call_activity("step", "a"))

    site.registry.orchestrator(shed)
    world.failing = {"a"}
    engine = await site.start()
    await engine.client.start_new("shed", "i")
    await failed(engine)
    world.failing.clear()
    results = await asyncio.gather(*(engine.client.rewind("i", "") for _ in range(3)), return_exceptions=True)
    assert sorted(type(r).__name__ for r in results) == ["NoneType", "WrongStatusError", "WrongStatusError"]
    assert await output(engine) == "A"
    assert world.ran["a"] == 2


async def test_a_sub_orchestration_that_ends_while_the_journal_is_read_is_heard(site, world, wait_until):
    def top(context):
        child = context.call_sub_orchestrator("waits", instance_id=f"{context.instance_id}-c")
        yield context.call_activity("step", "broken")
        return (yield child)

    def waits(context):
        return (yield context.wait_for_external_event("go"))

    site.registry.orchestrator(top)
    site.registry.orchestrator(waits)
    engine = await site.start()

    async def end_after(rounds: int, name: str) -> None:
        for _ in range(rounds):
            await asyncio.sleep(0)
        await engine.client.raise_event(f"{name}-c", "go", rounds)

    for rounds in range(16):
        name = f"i{rounds}"
        world.failing = {"broken"}
        await engine.client.start_new("top", name)
        await failed(engine, name)
        world.failing = set()
        await asyncio.gather(engine.client.rewind(name, ""), end_after(rounds, name))
        assert await output(engine, name) == rounds


def procedure(context):
    tasks = [context.call_activity("step", what) for what in ("a", "b")]
    told = context.wait_for_external_event("go", timeout=timedelta(hours=1))
    below = context.call_sub_orchestrator("below", instance_id="below")
    found = yield context.task_all([*tasks, below])
    found.append((yield told))
    yield context.create_timer(timedelta(milliseconds=10))
    found.append((yield context.call_activity("step", "end")))
    return found


def below(context):
    kept = yield context.call_activity("step", "kept")
    return [kept, (yield context.call_activity("step", "broken"))]


async def test_a_crash_at_every_commit_of_a_rewind_ends_the_same(site, world):
    site.registry.orchestrator(procedure)
    site.registry.orchestrator(below)
    world.failing = {"b", "broken"}
    engine = await site.start()
    await engine.client.start_new("procedure", "i")
    await engine.client.raise_event("i", "go", "told")
    await failed(engine)
    await failed(engine, "below")
    await engine.on_disk()
    before = len(site.store.batches)
    world.failing.clear()
    await engine.client.rewind("i", "repaired")
    expected = ["A", "B", ["KEPT", "BROKEN"], "told", "END"]
    assert await output(engine) == expected
    await engine.on_disk()
    batches = list(site.store.batches)
    assert len(batches) > before + 3
    for survived in range(before, len(batches) + 1):
        world.ran.clear()
        store = MemoryStore.after(batches[:survived])
        again = await site.start(store)
        if survived == before:
            assert (await again.client.get_status("i")).runtime_status == "Failed"
            await again.client.rewind("i", "repaired")
        assert await output(again) == expected, f"after {survived} batches"
        assert not world.ran.keys() & {"a", "kept"}, "what had succeeded ran again"
        await again.on_disk()
        assert not store.pending_activities
        assert not store.pending_timers
        assert not store.messages
        for instance in ("i", "below"):
            row = store.rows[instance]
            history = recorded(row, await store.history(instance, row.first_seq))
            assert rehearse(site.registry, history).verdict is Verdict.SAME
        await again.stop()


async def test_a_rewound_one_that_left_memory_is_replayed_as_it_went_on(site, world, wait_until):
    def shed(context):
        yield context.call_activity("step", "a")
        return (yield context.wait_for_external_event("go"))

    site.registry.orchestrator(shed)
    world.failing = {"a"}
    engine = await site.start()
    await engine.client.start_new("shed", "i")
    await failed(engine)
    world.failing.clear()
    await engine.client.rewind("i", "")
    await wait_until(lambda: world.ran["a"] == 2 and not engine.instances["i"].activities)
    await engine.on_disk()
    await site.kill(engine)
    again = await site.start()
    await again.client.raise_event("i", "go", 1)
    assert await output(again) == 1
    assert again.counters.replays == 1
    assert world.ran["a"] == 2
