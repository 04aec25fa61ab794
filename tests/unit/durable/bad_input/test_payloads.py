"""Values that are too big, too deep, or that JSON has no words for; in every place where one is handed over."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest

from gateway.durable import (
    EntityOperationError,
    LimitExceededError,
    NotFoundError,
    NotSerializableError,
    RetryOptions,
    TaskFailedError,
)
from gateway.durable.codec import MAX_CUSTOM_STATUS_BYTES, MAX_NESTING, MAX_PAYLOAD_BYTES
from tests.unit.durable.bad_input.parts import (
    BIG,
    BOX,
    LIMIT,
    Odd,
    nested,
)


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
