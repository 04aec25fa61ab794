"""Playbooks: transcripts that pass when the code says what they say, and fail with the place when it does not."""

from __future__ import annotations

import itertools

import pytest

import gateway.durable as df
from gateway.durable.testing import EntityBook, Playbook
from gateway.durable.testing.words import (
    activity,
    answer,
    breaks,
    call,
    cancelled_timer,
    continues_as_new,
    done,
    ends,
    entity_call,
    entity_signal,
    error,
    event,
    event_sent,
    failed,
    fails,
    granted,
    later,
    locks,
    nothing,
    output,
    result,
    signal,
    starts,
    state,
    status,
    sub_orchestration,
    timer,
    unlocks,
)

COUNTER = df.EntityId("counter", "7B")


def GridEmergencyProtocol(context):
    context.set_custom_status({"phase": "shedding", "tier": "tier1"})
    yield context.call_activity("SendDisconnectCommand", "tier1")
    override = yield context.wait_for_external_event("OperatorOverride", timeout=300)
    if override and override.get("cancel"):
        return {"status": "aborted"}
    yield context.call_activity("SendReconnectCommand", "tier1")
    return {"status": "recovered"}


def test_a_transcript_says_what_the_world_and_the_code_say():
    (
        Playbook(GridEmergencyProtocol)
        << activity("SendDisconnectCommand", "tier1")
        << status(phase="shedding")
        >> done({"7B": "done"})
        << timer(300)
        >> event("OperatorOverride", {"cancel": True})
        << cancelled_timer()
        << output(status="aborted")
    )
    (
        Playbook(GridEmergencyProtocol)
        << activity("SendDisconnectCommand")
        >> done()
        << timer(300)
        >> later(300)
        << activity("SendReconnectCommand")
        >> fails("no answer", "TimeoutError")
        << failed("TimeoutError: no answer")
    )


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (
            lambda book: book << activity("SendDisconnectCommand", "tier2"),
            'expected .*tier2.*but it calls SendDisconnectCommand "tier1"',
        ),
        (lambda book: book << activity("Other"), "expected .*Other"),
        (lambda book: book << activity("SendDisconnectCommand") << timer(1), "the code decided nothing"),
        (lambda book: book >> done(), "the transcript does not expect"),
        (lambda book: book << status(phase="cooldown"), "the custom status is .*shedding"),
        (lambda book: book << output(), "expected ExecutionCompleted, but it goes on"),
        (
            lambda book: book << activity("SendDisconnectCommand") >> done() << timer(299),
            "expected .*299.*but it sets a timer",
        ),
        (lambda book: book << activity("SendDisconnectCommand") >> done(of="Other"), "no open call Other"),
        (lambda book: book << activity("SendDisconnectCommand") >> granted(), "no lock was asked for"),
    ],
)
def test_what_the_code_does_not_say_fails_with_what_it_says(wrong, told):
    with pytest.raises(AssertionError, match=told):
        wrong(Playbook(GridEmergencyProtocol))


def test_code_that_would_go_another_way_after_a_restart_is_found():
    count = itertools.count()

    def undecided(context):
        yield context.call_activity(f"Step{next(count)}")

    with pytest.raises(df.NondeterminismError, match="history has TaskScheduled 'Step0'"):
        Playbook(undecided)


def test_calls_of_all_kinds_have_their_words():
    def proc(context):
        context.signal_entity(COUNTER, "reset")
        yield context.call_entity(COUNTER, "add", {"by": 2})
        with (yield context.lock_entities([COUNTER, df.EntityId("counter", "7A")])):
            yield context.call_entity(COUNTER, "get")
        context.send_event("other-1", "Ready", {"feeder": "7B"})
        found = yield context.call_sub_orchestrator("Restore", ["7B"])
        context.continue_as_new({"found": found, "version": context.version})

    (
        Playbook(proc, version="2")
        << entity_signal(COUNTER, "reset")
        << entity_call("@counter@7B", "add", by=2)
        >> done(2)
        << locks(COUNTER, "@counter@7A")
        >> granted()
        << entity_call(COUNTER, "get")
        >> done(2, of="get")
        << unlocks()
        << event_sent("other-1", "Ready", feeder="7B")
        << sub_orchestration("Restore", ["7B"])
        >> done("closed")
        << continues_as_new(found="closed", version="2")
        << entity_call(COUNTER, "add")
    )


def test_values_are_compared_as_far_as_they_are_named():
    def proc(context):
        return {"kw": 0.1 + 0.2, "feeders": ["7A", {"name": "7B", "kw": 20}], "at": "08:00"}

    (
        Playbook(proc)
        << output(kw=0.3)
        << output(feeders=["7A", {"name": "7B"}])
        << output(at=lambda text: text.startswith("08"))
        << output()
    )
    for wrong in (output(kw=0.31), output(feeders=["7A"]), output(nothing=None), output("08:00")):
        with pytest.raises(AssertionError, match="the output is"):
            Playbook(proc) << wrong
    assert Playbook(lambda context: "plain") << output("plain")


# --- entities


def lamp(context):
    match context.operation_name:
        case "light":
            token = context.defer_result()
            context.call_activity("Operate", {"on": True}, on_result="operated", context=token)
            context.set_state({"lit": False, "under_way": True})
        case "operated":
            outcome = context.get_input()
            context.set_state({"lit": outcome["ok"]})
            if outcome["ok"]:
                context.resolve(outcome["context"], {"lit": True, "after": outcome["result"]})
                context.signal_entity(COUNTER, "add", 1)
                context.start_new("Inspect", {"lamp": context.entity_key})
            else:
                context.reject(outcome["context"], outcome["error"]["message"])
        case "count":
            context.set_result(3)
        case _:
            raise ValueError("no such operation")


def test_an_entity_answers_its_caller_when_its_activity_has_ended():
    (
        EntityBook(lamp, "lamp", "door")
        >> call("light", by="m.meier")
        << activity("Operate", on=True)
        << state(lit=False, under_way=True)
        << nothing()
        >> ends("2 s", of="Operate")
        << answer("m.meier", lit=True, after="2 s")
        << entity_signal(COUNTER, "add", 1)
        << starts("Inspect", lamp="door")
        << state({"lit": True})
        >> call("count")
        << result(3)
        >> call("paint")
        << error("no such operation")
    )


def test_an_entity_says_why_it_could_not():
    (
        EntityBook(lamp, "lamp", "door")
        >> call("light")
        << activity("Operate")
        >> later(5)
        >> breaks("TimeoutError", "no answer")
        << error("no answer")
        << state(lit=False)
    )


def test_a_signal_that_fails_fails_the_transcript_as_nobody_else_would_hear_of_it():
    with pytest.raises(AssertionError, match="paint failed: ValueError: no such operation"):
        EntityBook(lamp, "lamp", "door") >> signal("paint")


def test_what_an_entity_does_not_say_fails():
    with pytest.raises(AssertionError, match="the entity said nothing"):
        EntityBook(lamp, "lamp", "door") >> call("count") << result(3) << result(4)
    with pytest.raises(AssertionError, match=r"expected result\('caller', 4\), but it answers caller: 3"):
        EntityBook(lamp, "lamp", "door") >> call("count") << result(4)
    with pytest.raises(AssertionError, match="the transcript does not expect"):
        EntityBook(lamp, "lamp", "door") >> call("count") >> later(1)
    with pytest.raises(AssertionError, match="no open activity Operate"):
        EntityBook(lamp, "lamp", "door") >> ends(of="Operate")


def test_a_class_is_an_entity_too():
    class Tally:
        def __init__(self) -> None:
            self.opened = 0

        def open(self, by):
            self.opened += by
            return self.opened

    EntityBook(Tally, "tally", "7B") >> call("open", 2) << result(2) << state(opened=2) >> call("open", 1) << result(3)
