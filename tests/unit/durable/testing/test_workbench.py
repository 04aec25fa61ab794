"""The workbench: the real engine on virtual time, at rest after each verb."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta
from types import ModuleType

import pytest

import gateway.durable as df
from gateway.durable.testing import Ended, Endless, Stalled, StubbedFailure, UnexpectedCall, Workbench, play

COUNTER = df.EntityId("counter", "7B")
MINUTE = timedelta(minutes=1)


def GridEmergencyProtocol(context):
    yield context.call_activity("SendDisconnectCommand", "tier1")
    yield context.create_timer(context.current_utc_datetime + timedelta(minutes=5))
    override = yield context.wait_for_external_event("OperatorOverride", timeout=300)
    if override and override.get("cancel"):
        return {"status": "aborted"}
    yield context.call_activity("SendReconnectCommand", "tier1")
    return {"status": "recovered"}


def waits_for_two(context):
    first, second = yield context.task_all(
        [context.wait_for_external_event("Earthed"), context.wait_for_external_event("Tested")]
    )
    return [first, second]


def counter(context):
    value = context.get_state(lambda: 0)
    if context.operation_name == "add":
        value += context.get_input()
        context.set_state(value)
    elif context.operation_name == "later":
        at = context.current_utc_datetime + timedelta(hours=1)
        context.signal_entity(COUNTER, "add", 1, signal_time=at)
    context.set_result(value)


@pytest.fixture
async def bench():
    async with Workbench() as bench:
        yield bench


# --- time


async def test_ten_minutes_pass_in_milliseconds(bench):
    began = time.monotonic()
    bench.stub("SendDisconnectCommand", {"7B": "done"})
    bench.stub("SendReconnectCommand", {"7B": "done"})
    assert await bench.run(GridEmergencyProtocol) == {"status": "recovered"}
    assert bench.called == [("SendDisconnectCommand", "tier1"), ("SendReconnectCommand", "tier1")]
    disconnected, reconnected = bench.calls
    assert reconnected.at - disconnected.at == timedelta(minutes=10)
    assert time.monotonic() - began < 5


async def test_the_operator_overrides_after_seven_minutes(bench):
    bench.stub("SendDisconnectCommand")
    drill = await bench.start(GridEmergencyProtocol)
    await bench.advance(7 * MINUTE)
    await bench.raise_event(drill, "OperatorOverride", {"cancel": True})
    assert (await bench.status(drill)).runtime_status is df.OrchestrationRuntimeStatus.Completed
    assert await bench.output(drill) == {"status": "aborted"}
    assert bench.clock.now == datetime(2026, 1, 14, 8, 7, tzinfo=UTC)


async def test_what_comes_due_while_time_goes_by_happens_at_its_own_time(bench):
    def every_minute(context):
        for _ in range(3):
            yield context.create_timer(MINUTE)
            yield context.call_activity("Note", context.current_utc_datetime.isoformat())

    note = bench.stub("Note")
    await bench.start(every_minute)
    await bench.advance(2.5 * MINUTE)
    assert note.inputs == ["2026-01-14T08:01:00+00:00", "2026-01-14T08:02:00+00:00"]
    assert bench.clock.now == datetime(2026, 1, 14, 8, 2, 30, tzinfo=UTC)


async def test_a_bench_may_begin_at_any_time():
    def what_time(context):
        return context.current_utc_datetime.isoformat()

    async with Workbench(start=datetime(2027, 7, 1, 15)) as bench:
        assert await bench.run(what_time) == "2027-07-01T15:00:00+00:00"


async def test_a_signal_for_later_is_heard_then(bench):
    bench.registry.entity(counter)
    await bench.signal_entity(COUNTER, "add", 2)
    assert await bench.call_entity(COUNTER, "later") == 2
    await bench.advance(59 * MINUTE)
    assert await bench.entity_state(COUNTER) == 2
    await bench.advance(MINUTE)
    assert await bench.entity_state(COUNTER) == 3


async def test_an_answer_that_takes_its_time_is_waited_for_by_the_clock(bench):
    def slow(context):
        if context.operation_name == "answer":
            context.resolve(context.get_input(), "at last")
        else:
            at = context.current_utc_datetime + timedelta(hours=1)
            context.signal_entity(context.entity_id, "answer", context.defer_result(), signal_time=at)

    bench.registry.entity(slow)
    assert await bench.call_entity(df.EntityId("slow", "x"), "ask") == "at last"
    assert bench.clock.now == datetime(2026, 1, 14, 9, tzinfo=UTC)


# --- what can't be


async def test_who_waits_for_what_never_comes_is_told_so(bench):
    with pytest.raises(Stalled) as stalled:
        await bench.run(waits_for_two)
    told = str(stalled.value)
    assert "waits_for_two-1 never ends: it waits for all of (the event 'Earthed', the event 'Tested')" in told
    assert "test_workbench.py:" in told, "the line of the wait"
    assert "no timer runs, and no activity that will end" in told
    assert "starts as waits_for_two" in told, "and the story so far"


async def test_what_is_left_to_wait_for_is_told(bench):
    instance = await bench.start(waits_for_two)
    await bench.raise_event(instance, "Earthed")
    with pytest.raises(Stalled, match="it waits for the event 'Tested' "):
        await bench.finish(instance)


async def test_each_kind_of_wait_has_its_words(bench):
    def parent(context):
        yield context.call_sub_orchestrator("waits_for_two")

    def asks(context):
        yield context.call_entity(df.EntityId("mute", "x"), "get")

    def calls(context):
        yield context.task_any([context.call_activity("Hang"), context.wait_for_external_event("E")])

    def mute(context):
        context.defer_result()

    bench.add(waits_for_two)
    bench.registry.entity(mute)
    bench.stub("Hang", hangs=True)
    with pytest.raises(Stalled, match=r"the sub-orchestration 'parent-1:0001' \(waits_for_two\)"):
        await bench.run(parent)
    with pytest.raises(Stalled, match="the answer of @mute@x to 'get'"):
        await bench.run(asks)
    with pytest.raises(Stalled, match=r"any of \(the activity 'Hang', the event 'E'\)"):
        await bench.run(calls)
    with pytest.raises(Stalled, match="@mute@x never answers to 'get'"):
        await bench.call_entity(df.EntityId("mute", "x"), "get")
    suspended = await bench.start(waits_for_two)
    await bench.tell(lambda client: client.suspend(suspended, "tea"))
    with pytest.raises(Stalled, match="is suspended, and nobody resumes it"):
        await bench.finish(suspended)


async def test_what_goes_on_for_ever_is_told_so(bench, monkeypatch):
    def monitor(context):
        yield context.create_timer(MINUTE)
        context.continue_as_new(None)

    monkeypatch.setattr("gateway.durable.testing.workbench.MAX_JUMPS", 20)
    with pytest.raises(Endless, match="20 timers later, monitor-1 never ends: it waits for its timer at"):
        await bench.run(monitor)


async def test_a_failure_is_told_with_its_reason(bench):
    def breaks(context):
        raise ValueError("no tier of that name")

    with pytest.raises(Ended, match="breaks-1 has failed: ValueError: no tier of that name") as ended:
        await bench.run(breaks)
    assert ended.value.details.is_caused_by(ValueError)
    assert (await bench.status("breaks-1")).runtime_status is df.OrchestrationRuntimeStatus.Failed


async def test_a_call_that_nobody_prepared_fails_the_test_even_if_the_code_forgives_it(bench):
    def forgiving(context):
        try:
            yield context.call_activity("Shed")
        except df.TaskFailedError:
            return "never mind"

    with pytest.raises(UnexpectedCall, match=r"'Shed' is called, .* bench.stub\('Shed', …\)"):
        await bench.run(forgiving)


async def test_a_journal_that_fails_is_not_taken_for_a_loss_of_power(bench):
    bench.store.fail_at = 1
    with pytest.raises(df.EngineStoppedError, match="no space left on device"):
        await bench.start(waits_for_two)


async def test_an_activity_that_never_ends_in_real_time_is_told_so():
    async def waits(_):
        await asyncio.Event().wait()

    def proc(context):
        yield context.call_activity("waits")

    async with Workbench(proc, patience_s=0.5) as bench:
        bench.registry.activity(waits)
        with pytest.raises(Stalled, match=r"not at rest after 0.5 real seconds; at work: waits; the clock stands"):
            await bench.run(proc)


# --- activities


def call_it(context):
    retry = df.RetryOptions(60_000, 3)
    return (yield context.call_activity_with_retry("Ask", retry, context.get_input()))


async def test_a_stub_answers_with_a_value_or_what_a_function_says(bench):
    bench.stub("Ask", 5)
    assert await bench.run(call_it, 1) == 5
    bench.stub("Ask", lambda value: value + 1)
    assert await bench.run(call_it, 1) == 2
    bench.stub("Ask", lambda value, context: [value, context.attempt, context.operation_id])
    assert await bench.run(call_it, 1) == [1, 1, "call_it-3:1"]

    async def later(value):
        return value * 2

    bench.stub("Ask", later)
    assert await bench.run(call_it, 4) == 8
    bench.stub("Ask", lambda: "without input")
    assert await bench.run(call_it) == "without input"


async def test_a_stub_fails_as_often_as_it_is_told_and_the_retries_are_seen(bench):
    ask = bench.stub("Ask", "ok", fails=2)
    assert await bench.run(call_it) == "ok"
    assert [call.attempt for call in ask.calls] == [1, 2, 3]
    assert [call.at.minute for call in ask.calls] == [0, 1, 2]
    assert len({call.operation_id for call in ask.calls}) == 1

    bench.stub("Ask", fails=[TimeoutError("no answer"), OSError("link down")], result="ok")
    assert await bench.run(call_it) == "ok"
    bench.stub("Ask", fails=ConnectionError("for ever"))
    with pytest.raises(Ended, match="for ever") as ended:
        await bench.run(call_it)
    assert ended.value.details.is_caused_by(OSError)
    bench.stub("Ask", fails=3)
    with pytest.raises(Ended) as ended:
        await bench.run(call_it)
    assert ended.value.details.is_caused_by(StubbedFailure)


async def test_stubs_of_one_name_answer_one_after_the_other_and_one_call_too_many_fails_the_test(bench):
    def thrice(context):
        answers = []
        for _ in range(3):
            answers.append((yield context.call_activity("Ask")))
        return answers

    first, second = bench.stub("Ask", "high", times=1), bench.stub("Ask", "low", times=2)
    assert await bench.run(thrice) == ["high", "low", "low"]
    assert (len(first.calls), len(second.calls)) == (1, 2)
    with pytest.raises(UnexpectedCall, match="one more than the 3 calls"):
        await bench.run(thrice)


async def test_a_stub_may_take_its_time_by_the_clock(bench):
    def races(context):
        limit = context.create_timer(timedelta(seconds=90))
        operated = context.call_activity("Operate")
        winner = yield context.task_any([operated, limit])
        return "operated" if winner is operated else "too late"

    bench.stub("Operate", takes=timedelta(seconds=89))
    assert await bench.run(races) == "operated"
    bench.stub("Operate", takes=timedelta(seconds=91))
    assert await bench.run(races) == "too late"
    bench.stub("Operate", hangs=True)
    assert await bench.run(races) == "too late"


async def test_an_activitys_own_time_out_ends_its_stub_by_the_clock(bench):
    bench.registry.activity(lambda value: None, "Ask", timeout_s=20.0)
    ask = bench.stub("Ask", takes=timedelta(hours=1), times=1)
    bench.stub("Ask", "quick", takes=timedelta(seconds=19))
    began = time.monotonic()
    assert await bench.run(call_it) == "quick"
    assert [call.at.second for call in ask.calls] == [0]
    assert bench.clock.now == datetime(2026, 1, 14, 8, 1, 39, tzinfo=UTC), "20 s, a minute until the retry, 19 s"
    assert time.monotonic() - began < 5


async def test_real_activities_run_in_their_threads_and_the_clock_stands_while_they_do(bench):
    """The timer would win at once, if anybody moved the clock before the thread has ended."""
    threads: list[str] = []

    def measure(feeder):
        time.sleep(0.05)
        threads.append(threading.current_thread().name)
        return f"{feeder} measured"

    async def note(text, context):
        return f"{text} by {context.instance_id}"

    def proc(context):
        measured = [context.call_activity("measure", feeder) for feeder in ("7A", "7B")]
        winner = yield context.task_any([context.task_all(measured), context.create_timer(MINUTE)])
        return (yield context.call_activity("note", winner.result))

    bench.registry.activity(measure)
    bench.registry.activity(note)
    assert await bench.run(proc) == "['7A measured', '7B measured'] by proc-1"
    assert threading.current_thread().name not in threads
    assert bench.called == [
        ("measure", "7A"),
        ("measure", "7B"),
        ("note", ["7A measured", "7B measured"]),
    ]


async def test_an_activity_that_raises_stop_iteration_fails_like_any_other(bench):
    def ends(_):
        raise StopIteration("nothing left")

    bench.registry.activity(ends, "Ask")
    with pytest.raises(Ended, match="StopIteration: nothing left"):
        await bench.run(call_it)


# --- parts and stories


async def test_a_module_is_taken_as_the_daemon_takes_it():
    module = ModuleType("site_procedures")
    code = """
from gateway.durable import activity, entity

def Shed(context):
    yield context.call_activity("Tell", "shed")
    return (yield context.call_activity("Ask"))

@activity
def Tell(text): ...

@activity
def Ask(): return "the real one"

@entity
def counter(context): context.set_result(1)
"""
    exec(code, module.__dict__)
    async with Workbench(module) as bench:
        bench.stub("Tell")
        assert await bench.run("Shed") == "the real one"
        assert await bench.call_entity(COUNTER, "get") == 1
        assert bench.called == [("Tell", "shed"), ("Ask", None)]


async def test_marked_functions_are_taken_one_by_one():
    @df.activity
    def Ask(value):
        return value

    @df.entity
    def counter(context):
        context.set_result("an entity")

    async with Workbench(Ask, counter, call_it) as bench:
        assert await bench.run("call_it", 3) == 3
        assert await bench.call_entity(COUNTER, "get") == "an entity"


async def test_the_story_is_what_the_journal_tells(bench):
    bench.registry.entity(counter)

    def proc(context):
        context.set_custom_status({"phase": "asking"})
        yield context.call_entity(COUNTER, "add", 2)
        yield context.create_timer(MINUTE)
        raised = yield context.wait_for_external_event("Go")
        yield context.call_activity("Shed", raised)
        return "done"

    bench.stub("Shed", fails=ValueError("no such tier"))
    instance = await bench.start(proc)
    await bench.advance(MINUTE)
    await bench.raise_event(instance, "Go", "tier1")
    with pytest.raises(Ended):
        await bench.output(instance)
    assert bench.story == [
        "0:00:00 proc-1 starts as proc",
        "0:00:00 proc-1 asks @counter@7B to add 2 as step 1",
        '0:00:00 proc-1 says {"phase": "asking"}',
        "0:00:00 @counter@7B does add 2 -> 2",
        "0:00:00 proc-1 step 1 gives 2",
        "0:00:00 proc-1 sets a timer at 2026-01-14 08:01:00+00:00 as step 2",
        "0:01:00 proc-1 step 2: the timer fires",
        '0:01:00 proc-1 hears Go "tier1"',
        '0:01:00 proc-1 calls Shed "tier1" as step 3',
        "0:01:00 proc-1 step 3 fails: ValueError: no such tier",
        "0:01:00 proc-1 fails: TaskFailedError: Shed failed: ValueError: no such tier",
    ]


def test_a_test_that_is_not_async_plays_a_story():
    async def story(bench):
        bench.stub("Ask", 1)
        return await bench.run(call_it)

    assert play(story) == 1


async def test_a_bench_that_was_not_entered_starts_with_its_first_verb():
    bench = Workbench()
    bench.stub("Ask", 1)
    assert await bench.run(call_it) == 1
    await bench.stop()
    await bench.stop()


async def test_an_app_is_taken_with_all_that_it_declares():
    app = df.DFApp()

    @app.orchestration_trigger(context_name="context", version="2")
    def Shed(context):
        return [context.version, (yield context.call_activity(Ask, "tier1"))]

    @app.activity_trigger(input_name="tier")
    def Ask(tier):
        return f"{tier} is open"

    async with Workbench(app) as bench:
        assert await bench.run("Shed") == ["2", "tier1 is open"]


async def test_versions_stand_side_by_side():
    @df.orchestrator(name="Shed", version="1")
    def first(context):
        return "first"

    @df.orchestrator(name="Shed", version="2")
    def second(context):
        return "second"

    async with Workbench(first, second) as bench:
        assert await bench.run("Shed") == "second"
        assert await bench.output(await bench.start("Shed", version="1")) == "first"
