"""Losing power on the workbench: what is on disk goes on, what was lost on the way is told again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

import gateway.durable as df
from gateway.durable.testing import Workbench, survives_every_crash

COUNTER = df.EntityId("counter", "7B")


def GridEmergencyProtocol(context):
    yield context.call_activity("SendDisconnectCommand", "tier1")
    yield context.create_timer(context.current_utc_datetime + timedelta(minutes=5))
    override = yield context.wait_for_external_event("OperatorOverride", timeout=300)
    if override and override.get("cancel"):
        return {"status": "aborted"}
    yield context.call_activity("SendReconnectCommand", "tier1")
    return {"status": "recovered"}


def counter(context):
    value = context.get_state(lambda: 0)
    if context.operation_name == "add":
        value += context.get_input()
        context.set_state(value)
    if context.operation_name == "refuse":
        raise ValueError("not today")
    context.set_result(value)


def bench_with_stubs(**options):
    bench = Workbench(GridEmergencyProtocol, **options)
    bench.registry.entity(counter)
    bench.stub("SendDisconnectCommand", {"7B": "done"})
    bench.stub("SendReconnectCommand", {"7B": "done"})
    return bench


async def test_a_crash_in_the_middle_of_the_five_minutes_changes_nothing():
    async with bench_with_stubs() as bench:
        drill = await bench.start("GridEmergencyProtocol")
        await bench.advance(timedelta(minutes=2))
        await bench.crash()
        await bench.advance(timedelta(minutes=3))
        await bench.crash()
        assert await bench.output(drill) == {"status": "recovered"}
        assert bench.clock.now == datetime(2026, 1, 14, 8, 10, tzinfo=UTC)
        assert bench.called == [("SendDisconnectCommand", "tier1"), ("SendReconnectCommand", "tier1")]
        assert bench.crashes == 2


async def test_what_comes_due_while_nothing_runs_happens_afterwards():
    async with bench_with_stubs() as bench:
        drill = await bench.start("GridEmergencyProtocol")
        await bench.crash(downtime=timedelta(hours=1))
        assert bench.store.pending_timers, "five minutes from now, for the operator"
        assert await bench.output(drill) == {"status": "recovered"}
        assert bench.clock.now == datetime(2026, 1, 14, 9, 5, tzinfo=UTC)


async def test_one_may_go_back_to_any_commit():
    async with bench_with_stubs() as bench:
        drill = await bench.start("GridEmergencyProtocol")
        begun = len(bench.store.batches)
        assert await bench.output(drill) == {"status": "recovered"}
        await bench.crash(after=begun)
        assert bench.clock.now == datetime(2026, 1, 14, 8, tzinfo=UTC)
        await bench.advance(timedelta(minutes=6))
        await bench.raise_event(drill, "OperatorOverride", {"cancel": True})
        assert await bench.output(drill) == {"status": "aborted"}
        with pytest.raises(ValueError, match="there were"):
            await bench.crash(after=1000)


async def test_a_call_whose_result_was_lost_is_repeated_and_answered_alike():
    answers = iter(["first", "second"])

    def twice(context):
        return [(yield context.call_activity("Ask")), (yield context.call_activity("Ask"))]

    async def story(bench):
        nonlocal answers
        answers = iter(["first", "second"])
        bench.stub("Ask", lambda: next(answers))
        return await bench.run(twice)

    survived = await survives_every_crash(story)
    assert survived.outcome == ["first", "second"]
    assert survived.boundaries >= 3

    async with Workbench(power_fails_before=2) as bench:
        assert await story(bench) == ["first", "second"]
        assert [str(call) for call in bench.calls] == ["Ask(None)", "Ask(None) again", "Ask(None)"]
        assert len(bench.called) == 2


async def test_a_real_activity_is_repeated_too_and_that_is_seen():
    asked = []

    def once(context):
        return (yield context.call_activity("Ask"))

    async with Workbench(once, power_fails_before=2) as bench:
        bench.registry.activity(lambda: asked.append(1), "Ask")
        await bench.run(once)
        assert [call.again for call in bench.calls] == [False, True]
        assert len(asked) == 2


async def test_words_that_were_lost_are_told_again_and_those_on_disk_are_not():
    """Each event and signal must arrive exactly once, whichever commit the power fails after."""

    def collects(context):
        heard = []
        for _ in range(3):
            heard.append((yield context.wait_for_external_event("Reading")))
        yield context.create_timer(timedelta(minutes=1))
        return heard

    async def story(bench):
        bench.registry.entity(counter)
        instance = await bench.start(collects)
        for value in (1, 2, 3):
            await bench.raise_event(instance, "Reading", value)
            await bench.signal_entity(COUNTER, "add", value)
        heard = await bench.output(instance)
        return heard, await bench.call_entity(COUNTER, "add", 10), await bench.entity_state(COUNTER)

    survived = await survives_every_crash(story)
    assert survived.outcome == ([1, 2, 3], 16, 16)
    assert survived.boundaries >= 8


async def test_errors_of_clients_are_the_same_after_a_crash():
    async def story(bench):
        bench.registry.entity(counter)
        await bench.call_entity(COUNTER, "add", 1)
        with pytest.raises(df.EntityOperationError, match="not today"):
            await bench.call_entity(COUNTER, "refuse")
        with pytest.raises(df.NotFoundError):
            await bench.raise_event("nobody", "Go")
        with pytest.raises(df.NotFoundError):
            await bench.finish("nobody")
        return await bench.call_entity(COUNTER, "get")

    assert (await survives_every_crash(story)).outcome == 1


async def test_the_grid_emergency_protocol_survives_each_crash():
    async def cancelled(bench):
        bench.stub("SendDisconnectCommand", {"7B": "done"})
        drill = await bench.start(GridEmergencyProtocol)
        await bench.advance(timedelta(minutes=7))
        await bench.raise_event(drill, "OperatorOverride", {"cancel": True})
        return await bench.output(drill), bench.called, bench.clock.now

    survived = await survives_every_crash(cancelled)
    assert survived.outcome[0] == {"status": "aborted"}
    assert survived.boundaries >= 4
    assert await survives_every_crash(cancelled, in_a_row=3) == survived


@pytest.mark.parametrize("when", ["power_fails_before", "power_fails_after"])
async def test_a_box_that_loses_its_power_again_and_again_starts_as_often(when):
    async with bench_with_stubs(**{when: 2}, power_fails_times=3) as bench:
        assert await bench.run("GridEmergencyProtocol") == {"status": "recovered"}
        assert bench.crashes == 3
        assert len(bench.called) == 2


async def test_a_planned_loss_of_power_comes_though_the_test_crashes_first():
    async with bench_with_stubs(power_fails_after=3) as bench:
        drill = await bench.start("GridEmergencyProtocol")
        await bench.crash()
        assert await bench.output(drill) == {"status": "recovered"}
        assert bench.crashes == 2


async def test_a_story_that_does_not_survive_is_told_with_its_commit():
    """The stand-in for a mistake: an outcome that depends on how often something was called."""
    told = []

    def proc(context):
        return (yield context.call_activity("Ask"))

    async def story(bench):
        told.clear()
        bench.registry.activity(lambda: told.append("asked"), "Ask")
        await bench.run(proc)
        return len(told)

    with pytest.raises(AssertionError, match=r"with a crash before commit \d of \d it comes to 2, without one to 1"):
        await survives_every_crash(story)


async def test_an_activity_that_must_not_run_twice_is_reported_as_interrupted():
    def proc(context):
        try:
            return (yield context.call_activity("Operate"))
        except df.TaskFailedError as error:
            return error.details.kind

    async with Workbench(proc) as bench:
        bench.registry.activity(lambda: None, "Operate", at_most_once=True)
        operate = bench.stub("Operate", takes=timedelta(seconds=10))
        instance = await bench.start(proc)
        await bench.crash()
        assert await bench.output(instance) == "ActivityInterrupted"
        assert len(operate.calls) == 1


async def test_each_commit_is_tried_from_both_sides():
    def proc(context):
        return (yield context.call_activity("Ask"))

    async def story(bench):
        bench.stub("Ask", "said")
        return await bench.run(proc)

    with capture_logs() as logs:
        survived = await survives_every_crash(story)
    losses = [line["error"] for line in logs if line["event"] == "journal_failed"]
    sides = [
        f"the power failed {when} batch {n}" for n in range(1, survived.boundaries + 1) for when in ("before", "after")
    ]
    assert losses == sides


async def test_a_step_that_is_rewound_is_asked_anew_and_not_answered_as_before():
    def proc(context):
        return (yield context.call_activity("Ask"))

    async with Workbench(proc) as bench:
        ask = bench.stub("Ask", "well", fails=2)
        instance = await bench.start(proc)
        for _ in range(2):
            assert (await bench.finish(instance)).runtime_status is df.OrchestrationRuntimeStatus.Failed
            await bench.crash()
            await bench.tell(lambda client: client.rewind(instance, "the link is back"))
        assert await bench.output(instance) == "well"
        assert [call.again for call in ask.calls] == [False, False, False]


async def test_a_call_is_repeated_once_for_each_crash():
    def proc(context):
        return (yield context.call_activity("Ask"))

    async with Workbench(proc) as bench:
        ask = bench.stub("Ask", "well", fails=1, takes=timedelta(minutes=1))
        instance = await bench.start(proc)
        await bench.crash()
        assert (await bench.finish(instance)).runtime_status is df.OrchestrationRuntimeStatus.Failed
        await bench.tell(lambda client: client.rewind(instance, "the link is back"))
        assert await bench.output(instance) == "well"
        assert [call.again for call in ask.calls] == [False, True, False]


def breaker(context):
    """Answers once the contacts have moved."""
    if context.operation_name == "open":
        context.call_activity("send_open", context.entity_key, on_result="sent", context=context.defer_result())
    else:
        context.resolve(context.get_input()["context"], context.get_input()["result"])


async def test_a_caller_that_an_entity_lets_wait_asks_again_after_a_crash():
    async def story(bench):
        bench.registry.entity(breaker)
        bench.stub("send_open", "open", takes=timedelta(seconds=2))
        return await bench.call_entity(df.EntityId("breaker", "7B"), "open")

    survived = await survives_every_crash(story)
    assert survived.outcome == "open"


def closes(context):
    yield context.call_activity("SendReconnectCommand", "7B")
    return "closed"


async def test_a_rewound_step_is_asked_anew_also_when_the_power_fails_before_it_begins():
    async def story(bench):
        asked = bench.stub("SendReconnectCommand", fails=1)
        run = await bench.start(closes)
        assert (await bench.finish(run)).runtime_status is df.OrchestrationRuntimeStatus.Failed
        await bench.tell(lambda client: client.rewind(run, "the link is back"))
        return await bench.output(run), len(asked.inputs)

    survived = await survives_every_crash(story)
    assert survived.outcome == ("closed", 2)
