"""Bad input of all kinds: each has an error that names the limit or the rule and the place, and hurts nobody else.

Every test ends the same way (fixture ``bad``): a bystander that was running before is told an event and ends well, the
engine has not failed, and an engine that starts from any prefix of what was committed reads it without complaint: bad input
must not lie in the journal either, where it would stop each start from now on.
"""

from __future__ import annotations

import asyncio
import gc
import math
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.durable import (
    AlreadyExistsError,
    DurableOrchestrationStatus,
    Engine,
    EntityId,
    EntityLockError,
    EntityOperationError,
    LimitExceededError,
    NotFoundError,
    NotSerializableError,
    RetryOptions,
    TaskFailedError,
    overrun,
)
from gateway.durable.codec import MAX_CUSTOM_STATUS_BYTES, MAX_NESTING, MAX_PAYLOAD_BYTES
from gateway.durable.execution import MAX_ACTIONS
from gateway.durable.retry import MAX_INTERVAL_MS

BOX = EntityId("box", "b")
BIG = "x" * MAX_PAYLOAD_BYTES
LIMIT = str(MAX_PAYLOAD_BYTES)


class Odd:
    """A value that JSON has no word for."""


class Mute(Exception):
    """An exception that can't say what is wrong."""

    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


class Bare(BaseException):
    """As some libraries signal: no Exception at all."""


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def chain(length: int) -> Exception:
    """An exception with so many causes behind it."""
    error = Exception("the first")
    for number in range(length):
        error, error.__cause__ = ValueError(f"number {number}"), error
    return error


def ring() -> Exception:
    """Two exceptions that are the cause of each other."""
    one, two = ValueError("one"), KeyError("two")
    one.__cause__, two.__cause__ = two, one
    return one


class Bad:
    """Runs bad code and bad calls on an engine, beside a bystander."""

    def __init__(self, site: Any, engine: Engine) -> None:
        self.site = site
        self.engine = engine
        self.client = engine.client

    async def run(self, code: Callable[[Any], Any], value: Any = None) -> DurableOrchestrationStatus:
        """The end of an orchestration of this code."""
        name = f"code{len(self.site.registry._orchestrators)}"
        self.site.registry.orchestrator(code, name)
        await self.client.start_new(name, name, value)
        return await self.client.wait_for_completion(name, 10)

    async def fails(self, code: Callable[[Any], Any], kind: str, *words: str, value: Any = None) -> str:
        """It fails with this kind of error, whose message holds these words."""
        status = await self.run(code, value)
        assert status.runtime_status == "Failed", status.output
        assert status.failure is not None
        assert status.failure.kind == kind, status.failure
        for word in words:
            assert word in status.failure.message, status.failure.message[:500]
        return status.failure.message

    async def check(self) -> None:
        """The bystander and the journal took no harm."""
        assert self.engine.failure is None
        await self.client.raise_event("bystander", "go", 1)
        assert (await self.client.wait_for_completion("bystander", 5)).output == 1
        await self.engine.on_disk()
        batches = self.site.store.batches
        for upto in {len(batches), len(batches) // 2, *range(min(len(batches), 20))}:
            fresh = Engine(type(self.site.store).after(batches[:upto]), self.site.registry, self.site.clock)
            await fresh.recover()
        again = await self.site.start(type(self.site.store).after(batches))
        await asyncio.sleep(0.01)
        await again.on_disk()
        assert again.failure is None


def bystander(context: Any) -> Any:
    return (yield context.wait_for_external_event("go"))


def box(context: Any) -> None:
    value = context.get_input()
    match context.operation_name:
        case "keep":
            context.set_state(value)
        case "odd state":
            context.set_state(Odd())
        case "big state":
            context.set_state(BIG)
        case "odd answer":
            context.set_state("changed")
            context.set_result(Odd())
        case "big answer":
            context.set_state("changed")
            context.set_result(BIG)
        case "raise":
            context.set_state("changed")
            raise RAISED[value]
        case "raise bare":
            raise Bare("bare")
        case "call":
            context.set_state("changed")
            ENTITY_CALLS[value](context)
        case "get":
            context.set_result(context.get_state())
        case other:
            raise AttributeError(f"no {other}")


RAISED: dict[str, BaseException] = {
    "mute": Mute(),
    "surrogate": ValueError("\ud800"),
    "endless": ValueError("y" * 50_000_000),
    "a thousand causes": chain(2000),
    "a ring of causes": ring(),
    "SystemExit": SystemExit(3),
    "GeneratorExit": GeneratorExit(),
    "no Exception": Bare("bare"),
    "StopIteration": StopIteration(4),
    "CancelledError": asyncio.CancelledError(),
}

ENTITY_CALLS: dict[str, Callable[[Any], Any]] = {
    "an error as the message of a rejection": lambda c: c.reject(c.defer_result(), ValueError("no")),
    "an operation without a name": lambda c: c.signal_entity(BOX, ""),
    "an operation that is no text": lambda c: c.signal_entity(BOX, 5),
    "an operation that is no Unicode": lambda c: c.signal_entity(BOX, "\ud800"),
    "an activity that takes its result nowhere": lambda c: c.call_activity("echo", on_result=None),
    "an activity whose name is no Unicode": lambda c: c.call_activity("\ud800", on_result="get"),
    "a start under the id of an entity": lambda c: c.start_new("bystander", None, "@x"),
    "a start of nothing": lambda c: c.start_new(None),
    "a signal with a big input": lambda c: c.signal_entity(BOX, "get", BIG),
}


async def echo(value: Any) -> Any:
    return value


async def odd_result() -> Any:
    return Odd()


async def big_result() -> Any:
    return BIG


async def raises(what: str) -> None:
    raise RAISED[what]


def raises_in_thread(what: str) -> None:
    raise RAISED[what]


@pytest.fixture
async def bad(site: Any) -> AsyncIterator[Bad]:
    """See Bad."""
    registry = site.registry
    registry.orchestrator(bystander)
    registry.entity(box)
    for activity in (echo, odd_result, big_result, raises, raises_in_thread):
        registry.activity(activity)
    engine = await site.start()
    await engine.client.start_new("bystander", "bystander")
    bad = Bad(site, engine)
    yield bad
    await bad.check()


# Payloads


async def test_what_a_client_sends_is_checked_where_it_is_sent(bad):
    for value, error, words in (
        (BIG, LimitExceededError, LIMIT),
        (Odd(), NotSerializableError, "JSON"),
        ({"deep": {1, Odd()}}, NotSerializableError, "JSON"),
        ("\ud800", NotSerializableError, "JSON"),
        (nested(5000), NotSerializableError, "JSON"),
        (10**5000, NotSerializableError, "JSON"),
        (math.nan, NotSerializableError, "nan"),
        ({"deep": [1, {"kw": math.inf}, None]}, NotSerializableError, "inf"),
    ):
        for place, call in (
            ("the input of bystander", bad.client.start_new("bystander", "other", value)),
            ("the data of event go", bad.client.raise_event("bystander", "go", value)),
            ("the input of keep on @box@b", bad.client.signal_entity(BOX, "keep", value)),
            ("the input of keep on @box@b", bad.client.call_entity(BOX, "keep", value)),
        ):
            with pytest.raises(error, match=words) as caught:
                await call
            assert place in str(caught.value)
        with pytest.raises(error, match="the input of keep on @box@b"):
            bad.client.post_to_entity(BOX, "keep", value)
    with pytest.raises(NotFoundError):
        await bad.client.get_status("other")


@pytest.mark.parametrize(
    ("call", "place"),
    [
        (lambda c, v: c.call_activity("echo", v), "the input of activity echo"),
        (lambda c, v: c.call_activity_with_retry("echo", RetryOptions(1, 2), v), "the input of activity echo"),
        (lambda c, v: c.call_sub_orchestrator("bystander", v), "the input of sub-orchestration bystander"),
        (lambda c, v: c.call_entity(BOX, "keep", v), "the input of keep on @box@b"),
        (lambda c, v: c.signal_entity(BOX, "keep", v), "the input of keep on @box@b"),
        (lambda c, v: c.continue_as_new(v), "the input of code"),
        (lambda c, v: c.set_custom_status(v), "the custom status of code"),
        (lambda c, v: c.send_event("bystander", "no", v), "the data of event no"),
    ],
)
@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        (BIG, "LimitExceededError", "limit is"),
        (Odd(), "NotSerializableError", "JSON"),
        (nested(5000), "NotSerializableError", "JSON"),
        ("\udfff", "NotSerializableError", "JSON"),
        (-math.inf, "NotSerializableError", "-inf"),
    ],
    ids=["big", "odd", "deep", "surrogate", "infinite"],
)
async def test_what_an_orchestrator_hands_over_is_checked_where_it_does(bad, call, place, value, kind, words):
    def code(context: Any) -> Any:
        yield call(context, value)

    await bad.fails(code, kind, place, words)


async def test_a_custom_status_has_a_limit_of_its_own_and_may_be_caught(bad):
    def code(context: Any) -> Any:
        context.set_custom_status("y" * (MAX_CUSTOM_STATUS_BYTES - 2))
        try:
            context.set_custom_status("y" * (MAX_CUSTOM_STATUS_BYTES - 1))
        except LimitExceededError as error:
            return str(error)
        yield

    status = await bad.run(code)
    assert status.custom_status == "y" * (MAX_CUSTOM_STATUS_BYTES - 2)
    assert str(MAX_CUSTOM_STATUS_BYTES) in status.output


async def test_outputs_are_checked(bad):
    await bad.fails(lambda context: BIG, "LimitExceededError", "the output of code", LIMIT)
    await bad.fails(lambda context: Odd(), "NotSerializableError", "the output of code", "JSON", "Odd")
    await bad.fails(lambda context: [math.nan], "NotSerializableError", "the output of code", "nan")
    await bad.fails(lambda context: nested(5000), "NotSerializableError", "the output of code")
    await bad.fails(lambda context: context.create_timer(timedelta(1)), "NotSerializableError", "the output of code")
    assert (await bad.run(lambda context: "x" * (MAX_PAYLOAD_BYTES - 2))).runtime_status == "Completed"


async def test_a_value_that_is_nested_as_deep_as_may_be_can_be_read_by_all_who_get_it(bad):
    """Whoever writes stands less deep than those who read; what was accepted must be readable for all of them."""

    def code(context: Any) -> Any:
        given = yield context.wait_for_external_event("deep")
        return (yield context.call_activity("echo", given))

    bad.site.registry.orchestrator(code, "deep")
    await bad.client.start_new("deep", "d")
    for depth in (MAX_NESTING + 1, 500, 970):
        with pytest.raises((LimitExceededError, NotSerializableError), match=f"{MAX_NESTING}|recursion"):
            await bad.client.raise_event("d", "deep", nested(depth))
    # Brackets within strings, and those of neighbours, are no levels.
    for wide in ([[1]] * 1000, '["\\"[{' * 1000, [{"[": "]", "\\": ["{" * 400]}] * 400):
        await bad.client.raise_event("d", "other", wide)
    await bad.client.raise_event("d", "deep", nested(MAX_NESTING))
    assert (await bad.client.wait_for_completion("d", 5)).output == nested(MAX_NESTING)


async def test_results_of_activities_are_checked_and_the_caller_is_told(bad):
    def code(context: Any) -> Any:
        told = []
        for name in ("odd_result", "big_result"):
            try:
                yield context.call_activity(name)
            except TaskFailedError as error:
                told.append([error.details.kind, error.details.message])
        return told

    odd, big = (await bad.run(code)).output
    assert odd[0] == "NotSerializableError"
    assert "the result of activity odd_result" in odd[1]
    assert big[0] == "LimitExceededError"
    assert "the result of activity big_result" in big[1]
    assert LIMIT in big[1]


@pytest.mark.parametrize(
    ("operation", "kind", "place"),
    [
        ("odd state", "NotSerializableError", "the state of @box@b"),
        ("big state", "LimitExceededError", "the state of @box@b"),
        ("odd answer", "NotSerializableError", "the answer of odd answer on @box@b"),
        ("big answer", "LimitExceededError", "the answer of big answer on @box@b"),
        ("raise bare", "Bare", "bare"),
        ("_keep", "AttributeError", "_keep"),
    ],
)
async def test_an_operation_with_a_bad_state_or_answer_fails_and_changes_nothing(bad, operation, kind, place):
    await bad.client.call_entity(BOX, "keep", "as it was")
    with pytest.raises(EntityOperationError, match=f"{operation} on @box@b failed") as caught:
        await bad.client.call_entity(BOX, operation)
    assert caught.value.details.kind == kind
    assert place in caught.value.details.message
    assert await bad.client.call_entity(BOX, "get") == "as it was"


async def test_a_huge_whole_number_is_kept_exactly(bad):
    number = -(10**4000)
    assert await bad.client.call_entity(BOX, "keep", number) is None
    assert await bad.client.call_entity(BOX, "get") == number


# Exceptions


@pytest.mark.parametrize("what", RAISED)
async def test_whatever_is_raised_is_told_in_bounds(bad, what):
    def code(context: Any) -> Any:
        yield context.create_timer(timedelta(0))
        raise RAISED[what]

    def at_once(context: Any) -> Any:
        raise RAISED[what]

    def asks(context: Any) -> Any:
        told = []
        for call in (
            lambda: context.call_activity("raises", what),
            lambda: context.call_activity("raises_in_thread", what),
            lambda: context.call_entity(BOX, "raise", what),
        ):
            try:
                yield call()
            except TaskFailedError as error:
                told.append(error.details.kind)
        return told

    for raising in (code, at_once):
        status = await bad.run(raising)
        assert status.runtime_status == "Failed"
        assert status.failure is not None
        assert len(status.failure.message) < 100_000
        assert len(status.failure.traceback) < 100_000
    kinds = (await bad.run(asks)).output
    assert len(kinds) == 3
    assert max(len(record.payload) for record in bad.site.store.records) < 1_000_000
    assert await bad.client.call_entity(BOX, "get") is None


async def test_an_exception_that_cannot_speak_is_named_all_the_same(bad):
    def code(context: Any) -> Any:
        raise Mute

    await bad.fails(code, "Mute", "Mute")


async def test_failures_handed_up_through_many_parents_stay_in_bounds(bad):
    def descend(context: Any) -> Any:
        depth = context.get_input()
        if not depth:
            raise ValueError("z" * 1000)
        yield context.call_sub_orchestrator("descend", depth - 1, f"level {depth}")

    bad.site.registry.orchestrator(descend)
    await bad.client.start_new("descend", "top", 400)
    status = await bad.client.wait_for_completion("top", 20)
    assert status.runtime_status == "Failed"
    assert max(len(record.payload) for record in bad.site.store.records) < 200_000


# Names and ids


async def test_unknown_names_are_named_with_those_there_are(bad):
    with pytest.raises(NotFoundError, match="no orchestrator called 'nope'; there are: bystander"):
        await bad.client.start_new("nope")
    with pytest.raises(NotFoundError, match="no entity called 'nope'; there are: box"):
        await bad.client.call_entity(EntityId("nope", "k"), "get")
    with pytest.raises(NotFoundError, match="no entity called 'nope'"):
        await bad.client.signal_entity(EntityId("nope", "k"), "get")
    with pytest.raises(NotFoundError, match="no entity called 'nope'"):
        bad.client.post_to_entity(EntityId("nope", "k"), "get")
    for call in (bad.client.raise_event("nope", "go"), bad.client.terminate("nope", ""), bad.client.get_status("nope")):
        with pytest.raises(NotFoundError, match="no orchestration 'nope'"):
            await call
    for call in (bad.client.raise_event(str(BOX), "go"), bad.client.get_status(str(BOX))):
        with pytest.raises(NotFoundError):
            await call

    def code(context: Any) -> Any:
        context.signal_entity(EntityId("nope", "k"), "get")
        told = []
        for call in (
            lambda: context.call_activity("nope"),
            lambda: context.call_sub_orchestrator("nope"),
            lambda: context.call_entity(EntityId("nope", "k"), "get"),
            lambda: context.call_sub_orchestrator("bystander", None, "bystander"),
            lambda: context.call_sub_orchestrator("bystander", None, context.instance_id),
        ):
            try:
                yield call()
            except TaskFailedError as error:
                told.append(f"{error.details.kind}: {error}")
        return told

    told = (await bad.run(code)).output
    kinds = [line.split(":")[0] for line in told]
    assert kinds == ["NotFoundError"] * 3 + ["AlreadyExistsError"] * 2
    for line, words in zip(
        told,
        ("activity called 'nope'", "orchestrator called 'nope'", "entity called 'nope'", "'bystander'", "'code"),
        strict=True,
    ):
        assert words in line


BAD_IDS = [
    ("", ValueError, "1 to 256"),
    ("i" * 257, ValueError, "1 to 256"),
    ("@x", ValueError, "@"),
    ("a\nb", ValueError, "printable"),
    ("a\0", ValueError, "printable"),
    ("\ud800", ValueError, "printable"),
    (5, TypeError, "int"),
    (b"abc", TypeError, "bytes"),
]


@pytest.mark.parametrize(("wrong", "error", "rule"), BAD_IDS)
async def test_wrong_instance_ids(bad, wrong, error, rule):
    with pytest.raises(error, match=rule):
        await bad.client.start_new("bystander", wrong)

    def code(context: Any) -> Any:
        yield context.call_sub_orchestrator("bystander", None, wrong)

    if wrong != "":  # as None: the engine gives one
        await bad.fails(code, error.__name__, rule)


@pytest.mark.parametrize(
    ("name", "key", "rule"),
    [
        ("", "k", "name"),
        ("a@b", "k", "name"),
        ("box", "", "key"),
        ("box", "k" * 256, "256"),
        ("box", "a\nb", "printable"),
        ("box", "\ud800", "printable"),
        ("bo\x00x", "k", "printable"),
    ],
)
async def test_wrong_entity_ids(bad, name, key, rule):
    with pytest.raises(ValueError, match=rule):
        EntityId(name, key)


@pytest.mark.parametrize("text", ["", "box", "@box", "@@k", "@box@", "box@k", "@bo\nx@k"])
async def test_malformed_entity_ids(bad, text):
    with pytest.raises(ValueError, match="entity"):
        EntityId.parse(text)

    def code(context: Any) -> Any:
        yield context.call_entity(text, "get")

    status = await bad.run(code)
    assert status.runtime_status == "Failed"
    assert status.failure is not None
    assert "entity" in status.failure.message


BAD_NAMES = [
    ("", ValueError),
    ("n" * 257, ValueError),
    ("\ud800", ValueError),
    ("a\nb", ValueError),
    (5, TypeError),
    (None, TypeError),
]


@pytest.mark.parametrize(("name", "error"), BAD_NAMES)
async def test_wrong_names_of_events_and_operations(bad, name, error):
    for call in (
        bad.client.raise_event("bystander", name),
        bad.client.signal_entity(BOX, name),
        bad.client.call_entity(BOX, name),
    ):
        with pytest.raises(error):
            await call
    with pytest.raises(error):
        bad.client.post_to_entity(BOX, name)
    for wrong in (
        lambda context: context.wait_for_external_event(name),
        lambda context: context.call_entity(BOX, name),
        lambda context: context.signal_entity(BOX, name),
        lambda context: context.send_event("bystander", name),
        lambda context: context.call_activity(name),
        lambda context: context.call_sub_orchestrator(name),
    ):

        def code(context: Any, wrong: Callable[[Any], Any] = wrong) -> Any:
            yield wrong(context)

        status = await bad.run(code)
        assert status.failure is not None
        assert status.failure.kind in (error.__name__, "TaskFailedError")


async def test_reasons_and_people_are_words(bad):
    """What goes into the journal as it is must be what a later start can read."""
    bad.site.registry.orchestrator(bystander, "second")
    await bad.client.start_new("second", "second")
    for wrong in (5, "\ud800", ["x"]):
        for call in (
            bad.client.terminate("second", wrong),
            bad.client.terminate("second", "ok", wrong),
            bad.client.raise_event("second", "go", 1, wrong),
            bad.client.start_new("second", "third", None, wrong),
        ):
            with pytest.raises((TypeError, ValueError)):
                await call
    assert (await bad.client.get_status("second")).runtime_status == "Running"


@pytest.mark.parametrize("what", ENTITY_CALLS)
async def test_bad_calls_of_an_entity_fail_its_operation_only(bad, what):
    await bad.client.call_entity(BOX, "keep", "as it was")
    try:
        await asyncio.wait_for(bad.client.call_entity(BOX, "call", what), 2)
    except EntityOperationError:
        assert await bad.client.call_entity(BOX, "get") == "as it was"
    else:
        pytest.fail("it was taken")


async def test_a_live_id_is_not_taken_twice(bad):
    with pytest.raises(AlreadyExistsError, match="'bystander'"):
        await bad.client.start_new("bystander", "bystander")


# What an orchestrator yields and asks for


def stranger(context: Any) -> Any:
    KEPT["task"] = context.wait_for_external_event("never")
    yield KEPT["task"]


KEPT: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("foreign", "word"),
    [
        (lambda context: None, "NoneType"),
        (lambda context: [context.create_timer(timedelta(1))], "list"),
        (lambda context: asyncio.Future(loop=asyncio.get_running_loop()), "Future"),
        (lambda context: "text", "str"),
        (lambda context: (n for n in ()), "generator"),
        (lambda context: context.create_timer, "method"),
    ],
)
async def test_yielding_what_is_no_task(bad, foreign, word):
    def code(context: Any) -> Any:
        yield foreign(context)

    await bad.fails(code, "TypeError", "may yield tasks only", word, "test_bad_input.py:")


async def test_yielding_a_task_of_another_instance(bad):
    bad.site.registry.orchestrator(stranger)
    await bad.client.start_new("stranger", "stranger")

    def alone(context: Any) -> Any:
        yield KEPT["task"]

    def among(context: Any) -> Any:
        yield context.task_any([context.create_timer(timedelta(1)), KEPT["task"]])

    for code in (alone, among):
        await bad.fails(code, "TypeError", "another orchestration")
    assert (await bad.client.get_status("stranger")).runtime_status == "Running"


async def test_a_task_may_be_waited_for_again_and_read_before_its_end(bad):
    def code(context: Any) -> Any:
        task = context.call_activity("echo", 7)
        before = [task.is_completed, task.result, task.is_faulted]
        results = [(yield task), (yield task), (yield task)]
        return [before, results, (yield context.task_all([task, task]))]

    assert (await bad.run(code)).output == [[False, None, False], [7, 7, 7], [7, 7]]


async def test_composites_of_anything_but_tasks(bad):
    await bad.fails(lambda c: c.task_any([]), "ValueError", "task_any needs at least one task")
    for wrong in (
        lambda c: c.task_all([1]),
        lambda c: c.task_any([None]),
        lambda c: c.task_all(c.create_timer(timedelta(1))),
    ):
        await bad.fails(wrong, "TypeError", "task")

    def code(context: Any) -> Any:
        return (yield context.task_all([]))

    assert (await bad.run(code)).output == []


@pytest.mark.parametrize(
    "far",
    [
        timedelta.max,
        timedelta(days=365 * 9000),
        float("nan"),
        float("inf"),
        1e300,
        "soon",
        None,
        5,
    ],
)
async def test_timers_that_no_calendar_holds(bad, far):
    def code(context: Any) -> Any:
        yield context.create_timer(far)

    status = await bad.run(code)
    assert status.failure is not None
    assert status.failure.kind in ("LimitExceededError", "TypeError", "ValueError")
    assert "timer" in status.failure.message


@pytest.mark.parametrize(
    "wrong", [timedelta.max, float("nan"), float("inf"), 1e300, "soon", timedelta(days=365 * 9000)]
)
async def test_time_outs_that_no_calendar_holds(bad, wrong):
    def code(context: Any) -> Any:
        yield context.wait_for_external_event("never", timeout=wrong)

    status = await bad.run(code)
    assert status.failure is not None
    assert status.failure.kind in ("LimitExceededError", "TypeError", "ValueError", "OverflowError")
    assert "time" in status.failure.message


async def test_timers_at_the_ends_of_time(bad):
    def past(context: Any) -> Any:
        for moment in (
            timedelta(0),
            timedelta(days=-1),
            timedelta.min,
            datetime.min,
            datetime(2000, 1, 1),
            datetime(1970, 1, 1, tzinfo=UTC),
        ):
            yield context.create_timer(moment)
        yield context.wait_for_external_event("never", timeout=-5)
        return "at once"

    def future(context: Any) -> Any:
        for moment in (datetime.max, datetime(9999, 12, 31, tzinfo=UTC)):
            context.create_timer(moment)
        return "not waited for"

    assert (await bad.run(past)).output == "at once"
    assert (await bad.run(future)).output == "not waited for"


@pytest.mark.parametrize(
    "options",
    [
        (0, 1),
        (-1, 1),
        (1, 0),
        (1, -3),
        (1, 3, 0.5),
        (1, 3, float("nan")),
        (float("nan"), 3),
        (1, float("nan")),
        (1, 3, 1.0, -1),
        (1, 3, 1.0, 0),
        (1, 3, 1.0, None, -1),
        (1, 3, 1.0, float("nan")),
        ("1", 3),
        (1, None),
        (10**30, 3),
        (1, 1000, float("inf")),
    ],
)
def test_retry_options_out_of_range(options):
    with pytest.raises((ValueError, TypeError)):
        RetryOptions(*options)


@pytest.mark.parametrize(
    "options",
    [(1, 1000, 1e300), (1, 1000, 10**30), (1, 10**9, 2.0), (10**12, 10**9, 10.0, 10**18)],
)
async def test_huge_retry_options_end_in_a_failure_and_not_in_an_overflow(bad, options):
    """No wait is longer than a thousand years, whatever was asked for."""

    def code(context: Any) -> Any:
        yield context.call_activity_with_retry("raises", RetryOptions(*options), "StopIteration")

    bad.site.registry.orchestrator(code, "retries")
    await bad.client.start_new("retries", "r")
    await asyncio.sleep(0.05)
    status = await bad.client.get_status("r")
    assert status.runtime_status in ("Running", "Failed")
    for attempts in (2, 3, 60, 999):
        assert 0 < (RetryOptions(*options).delay_us(attempts, 0) or 1) <= MAX_INTERVAL_MS * 1000


async def test_too_many_actions(bad):
    def code(context: Any) -> Any:
        for _ in range(MAX_ACTIONS + 1):
            context.create_timer(timedelta(0)).cancel()
        yield

    await bad.fails(code, "LimitExceededError", f"{MAX_ACTIONS} actions", "continue_as_new")


async def test_one_turn_may_hand_over_so_much_and_go_on_after_a_wait(bad, monkeypatch):
    monkeypatch.setattr("gateway.durable.execution.MAX_TURN_BYTES", 3_000)
    value = "x" * 900

    def code(context: Any) -> Any:
        for _ in range(2):
            tasks = [context.call_activity("echo", value) for _ in range(2)]
            context.signal_entity(BOX, "get", value)
            for call in (
                lambda: context.call_activity("echo", value),
                lambda: context.send_event("bystander", "other", value),
                lambda: context.call_sub_orchestrator("bystander", value),
                lambda: context.call_entity(BOX, "get", value),
            ):
                with pytest.raises(LimitExceededError, match="one turn may hand over 3000 bytes"):
                    call()
            yield context.task_all(tasks)
        return "well"

    assert (await bad.run(code)).output == "well"


async def test_one_operation_may_hand_over_so_much(bad, monkeypatch):
    monkeypatch.setattr(sys.modules["gateway.durable.entity"], "MAX_TURN_BYTES", 3_000)
    ENTITY_CALLS["many signals"] = lambda c: [c.signal_entity(BOX, "get", "x" * 900) for _ in range(4)]
    with pytest.raises(EntityOperationError, match="an operation may hand over 3000 bytes"):
        await bad.client.call_entity(BOX, "call", "many signals")
    ENTITY_CALLS.pop("many signals")
    assert await bad.client.call_entity(BOX, "get") is None


async def test_a_turn_of_an_entity_is_journaled_in_pieces_that_fit(bad, monkeypatch):
    monkeypatch.setattr("gateway.durable.entities.MAX_TURN_BYTES", 3_000)
    await asyncio.gather(*(bad.client.call_entity(BOX, "keep", "x" * 900) for _ in range(20)))
    assert max(len(record.payload) for record in bad.site.store.records) < 5_000


async def test_events_that_nobody_asked_for_can_be_left_to_the_next_execution_within_limits(bad, monkeypatch):
    monkeypatch.setattr("gateway.durable.execution.MAX_TURN_BYTES", 3_000)

    def code(context: Any) -> Any:
        yield context.wait_for_external_event("go")
        context.continue_as_new(None)

    bad.site.registry.orchestrator(code, "leaves")
    await bad.client.start_new("leaves", "l")
    for _ in range(4):
        await bad.client.raise_event("l", "other", "x" * 900)
    await bad.client.raise_event("l", "go")
    status = await bad.client.wait_for_completion("l", 5)
    assert status.failure is not None
    assert "3608 bytes of events that nobody asked for; the limit is 3000" in status.failure.message


async def test_too_many_steps_without_waiting(bad):
    def code(context: Any) -> Any:
        done = context.task_all([])
        while True:
            yield done

    await bad.fails(code, "LimitExceededError", "steps without waiting")


async def test_continue_as_new_without_end(bad):
    def code(context: Any) -> Any:
        context.continue_as_new(context.get_input() + 1)
        return
        yield

    await bad.fails(code, "LimitExceededError", "continue_as_new", "1000", value=0)


async def test_what_is_asked_for_after_continue_as_new_takes_no_event(bad):
    """Actions after it are ignored; so is a wait: the event is for the next execution."""

    def code(context: Any) -> Any:
        if context.get_input() == "again":
            return (yield context.wait_for_external_event("go"))
        yield context.wait_for_external_event("begin")
        context.continue_as_new("again")
        yield context.wait_for_external_event("go")
        return None

    bad.site.registry.orchestrator(code, "continues")
    await bad.client.start_new("continues", "c")
    await bad.client.raise_event("c", "go", 1)
    await bad.client.raise_event("c", "begin")
    assert (await bad.client.wait_for_completion("c", 2)).output == 1


# Code that does not let go


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_code_that_catches_everything_can_be_ended(bad):
    def stubborn(context: Any) -> Any:
        while True:
            try:
                yield context.wait_for_external_event("go")
            except BaseException:  # noqa: BLE001 - that is the point
                context.set_custom_status("caught")

    def bitter(context: Any) -> Any:
        try:
            yield context.wait_for_external_event("go")
        finally:
            raise SystemExit("not me")

    def busy(context: Any) -> Any:
        try:
            yield context.wait_for_external_event("go")
        finally:
            context.call_activity("echo", "too late")
            context.signal_entity(BOX, "keep", "too late")

    def ignores(context: Any) -> Any:
        try:
            yield None
        finally:
            yield context.call_activity("echo", "too late")

    for code in (stubborn, bitter, busy):
        bad.site.registry.orchestrator(code)
        await bad.client.start_new(code.__name__, code.__name__)
        await bad.client.terminate(code.__name__, "enough")
        assert (await bad.client.wait_for_completion(code.__name__, 5)).runtime_status == "Terminated"
    await bad.fails(ignores, "TypeError", "may yield tasks only")
    await bad.engine.on_disk()
    assert await bad.client.call_entity(BOX, "get") is None
    assert not bad.site.store.pending_activities
    gc.collect()  # what Python says of a generator that ignores its end belongs to this test


async def test_code_that_calls_itself_without_end(bad):
    def endless(context: Any) -> Any:
        return endless(context)

    await bad.fails(endless, "RecursionError", "recursion")


@pytest.mark.parametrize("catching", [False, True])
async def test_code_that_never_waits_is_ended_and_the_engine_goes_on(bad, monkeypatch, catching):
    monkeypatch.setattr(overrun.watch, "limit_s", 0.1)
    monkeypatch.setattr(overrun.watch, "look_s", 0.02)

    def never(context: Any) -> Any:
        while True:
            try:
                context.is_replaying  # noqa: B018 - it only keeps busy
            except BaseException:
                if not catching:
                    raise
        yield

    await bad.fails(never, "LimitExceededError", "0.1 s", "test_bad_input.py")


# Custom objects


class Fragile:
    """Its JSON form can be written or read, or not."""

    def __init__(self, how: str) -> None:
        self.how = how

    @staticmethod
    def to_json(fragile: Fragile) -> Any:
        if fragile.how == "writes badly":
            raise RAISED["mute"]
        return Odd() if fragile.how == "writes odd things" else fragile.how

    @staticmethod
    def from_json(data: Any) -> Fragile:
        if data != "well":
            raise RAISED["no Exception" if data == "reads worse" else "mute"]
        return Fragile(data)


@pytest.mark.parametrize("how", ["writes badly", "writes odd things"])
async def test_objects_that_cannot_be_written(bad, how):
    def gives(context: Any) -> Any:
        return Fragile(how)

    def hands_over(context: Any) -> Any:
        yield context.call_activity("echo", Fragile(how))

    await bad.fails(gives, "NotSerializableError", "the output of code")
    await bad.fails(hands_over, "NotSerializableError", "the input of activity echo")
    with pytest.raises(NotSerializableError, match="the data of event go"):
        await bad.client.raise_event("bystander", "go", Fragile(how))
    with pytest.raises(NotSerializableError, match="the input of keep on @box@b"):
        await bad.client.call_entity(BOX, "keep", Fragile(how))


@pytest.mark.parametrize("how", ["reads badly", "reads worse"])
async def test_objects_that_cannot_be_read(bad, how):
    def reads_input(context: Any) -> Any:
        return context.get_input()

    def reads_event(context: Any) -> Any:
        return (yield context.wait_for_external_event("thing"))

    def reads_result(context: Any) -> Any:
        return (yield context.call_entity(BOX, "get"))

    with pytest.raises(EntityOperationError, match=r"Fragile\.from_json raised"):
        await bad.client.call_entity(BOX, "keep", Fragile(how))
    await bad.fails(reads_input, "NotSerializableError", "Fragile.from_json raised", value=Fragile(how))
    bad.site.registry.orchestrator(reads_event)
    await bad.client.start_new("reads_event", "e")
    await bad.client.raise_event("e", "thing", Fragile(how))
    failed = await bad.client.wait_for_completion("e", 5)
    assert failed.failure is not None
    assert "Fragile.from_json raised" in failed.failure.message
    assert (await bad.run(reads_result)).output is None


# Critical sections

OTHER = EntityId("box", "other")


async def test_rules_of_a_critical_section(bad):
    def code(context: Any) -> Any:
        told = []
        with (yield context.lock_entities([BOX])):
            for wrong in (
                lambda: context.lock_entities([OTHER]),
                lambda: context.call_sub_orchestrator("bystander"),
                lambda: context.call_entity(OTHER, "get"),
                lambda: context.signal_entity(BOX, "get"),
            ):
                with pytest.raises(EntityLockError) as caught:
                    wrong()
                told.append(str(caught.value))
            yield context.call_entity(BOX, "keep", 1)
        return told

    nested, child, other, signal = (await bad.run(code)).output
    assert "nested" in nested
    assert "the sub-orchestration bystander is not allowed in the critical section of @box@b" in child
    assert "to call @box@other is not allowed in the critical section of @box@b" in other
    assert "to signal @box@b is not allowed" in signal
    assert await bad.client.call_entity(BOX, "get") == 1


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        (lambda c: c.lock_entities([]), "ValueError"),
        (lambda c: c.lock_entities(["box"]), "ValueError"),
        (lambda c: c.lock_entities([None]), "TypeError"),
        (lambda c: c.lock_entities(5), "TypeError"),
        (lambda c: c.lock_entities([EntityId("nope", "k")]), "TaskFailedError"),
        (lambda c: c.lock_entities([BOX, EntityId("nope", "k")]), "TaskFailedError"),
    ],
)
async def test_what_cannot_be_locked(bad, wrong, kind):
    def code(context: Any) -> Any:
        with (yield wrong(context)):
            return "never"

    await bad.fails(code, kind)
    assert await asyncio.wait_for(bad.client.call_entity(BOX, "get"), 2) is None


async def test_operations_of_others_on_a_locked_entity_wait_and_a_broken_section_frees_it(bad):
    def holds(context: Any) -> Any:
        with (yield context.lock_entities([BOX])):
            yield context.call_entity(BOX, "keep", "mine")
            yield context.wait_for_external_event("done")
            raise RuntimeError("within")

    bad.site.registry.orchestrator(holds)
    await bad.client.start_new("holds", "h")
    others = [asyncio.ensure_future(bad.client.call_entity(BOX, "keep", number)) for number in range(3)]
    await asyncio.sleep(0)
    await bad.client.signal_entity(BOX, "keep", "signalled")
    await asyncio.sleep(0.02)
    assert not any(other.done() for other in others)
    assert (await bad.client.read_entity_state(BOX)).entity_state == "mine"
    await bad.client.raise_event("h", "done")
    assert (await bad.client.wait_for_completion("h", 5)).runtime_status == "Failed"
    await asyncio.wait_for(asyncio.gather(*others), 5)
    assert await bad.client.call_entity(BOX, "get") == "signalled"


# Class-based entities


class Safe:
    """Its attributes are its state."""

    def __init__(self) -> None:
        self.things: list[Any] = []

    def put(self, thing: Any) -> int:
        self.things.append(thing)
        return len(self.things)

    def lose(self) -> None:
        self.things.append(Odd())

    def _secret(self) -> str:
        return "never"


@pytest.mark.parametrize("operation", ["_secret", "__init__", "__class__", "__dict__", "things", "nothing", "lose"])
async def test_operations_that_a_class_does_not_offer(bad, operation):
    bad.site.registry.entity(Safe)
    safe = EntityId("safe", "s")
    assert await bad.client.call_entity(safe, "put", 1) == 1
    with pytest.raises(EntityOperationError, match="safe"):
        await bad.client.call_entity(safe, operation)
    assert (await bad.client.read_entity_state(safe)).entity_state == {"things": [1]}
    assert await bad.client.call_entity(safe, "put", 2) == 2
