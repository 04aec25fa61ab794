"""What a request may say: each argument that can't be meant is refused with its name and what to write instead."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.control import Code, ControlError
from gateway.operations import arguments
from gateway.operations.arguments import PAGE, PAGE_AT_MOST, TEXT_AT_MOST


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "reason is missing"),
        ("", "reason is missing"),
        ("  \n", "reason is missing"),
        (7, "reason is missing"),
        (["x"], "reason is missing"),
        ("x" * (TEXT_AT_MOST + 1), f"reason has {TEXT_AT_MOST + 1} characters; {TEXT_AT_MOST} is the limit"),
    ],
)
def test_a_text_says_something_and_not_too_much(value: Any, words: str) -> None:
    with pytest.raises(ControlError, match=words) as refused:
        arguments.text({"reason": value}, "reason")
    assert refused.value.code is Code.BAD_REQUEST


def test_a_text_at_the_limit_passes() -> None:
    assert arguments.text({"reason": "x" * TEXT_AT_MOST}, "reason") == "x" * TEXT_AT_MOST


def test_an_optional_text_may_be_left_out_but_not_be_empty() -> None:
    assert arguments.optional({}, "tier") is None
    assert arguments.optional({"tier": None}, "tier") is None
    with pytest.raises(ControlError, match="tier is missing"):
        arguments.optional({"tier": ""}, "tier")


def test_bounds_of_seconds_belong_to_them() -> None:
    assert arguments.seconds({}, "wait_s", 30.0, 0.1, 300.0) == 30.0
    assert arguments.seconds({"wait_s": 0.1}, "wait_s", 30.0, 0.1, 300.0) == 0.1
    assert arguments.seconds({"wait_s": 300}, "wait_s", 30.0, 0.1, 300.0) == 300.0


@pytest.mark.parametrize("value", [0.0, 300.5, "5", True, None, float("nan"), float("inf")])
def test_other_seconds_are_refused_with_the_bounds(value: Any) -> None:
    with pytest.raises(ControlError, match=r"wait_s must be a number of seconds from 0\.1 to 300") as refused:
        arguments.seconds({"wait_s": value}, "wait_s", 30.0, 0.1, 300.0)
    assert refused.value.code is Code.BAD_REQUEST


def test_a_page_has_a_size_when_nothing_is_said() -> None:
    assert arguments.limit({}) == PAGE
    assert arguments.limit({"limit": 1}) == 1
    assert arguments.limit({"limit": PAGE_AT_MOST}) == PAGE_AT_MOST


@pytest.mark.parametrize("value", [0, -1, PAGE_AT_MOST + 1, 5.0, "5", True, None])
def test_no_page_is_empty_or_endless(value: Any) -> None:
    with pytest.raises(ControlError, match=f"whole number from 1 to {PAGE_AT_MOST}"):
        arguments.limit({"limit": value})


@pytest.mark.parametrize(
    ("args", "who"),
    [
        ({"actor": "ada", "_peer": {"user": "ada"}}, "ada"),
        ({"actor": "ada", "_peer": {"user": "scada"}}, "ada (scada)"),
        ({"actor": "ada"}, "ada"),
        ({"_peer": {"user": "scada"}}, "scada"),
        ({}, "unknown"),
    ],
)
def test_who_acts_is_the_given_name_and_the_user_behind_it(args: dict[str, Any], who: str) -> None:
    assert arguments.who(args) == who


@pytest.mark.parametrize("actor", ["ana\nroot", "ana\x1b[2K", "ana\u202e", "\x00"])
def test_a_name_that_can_t_be_printed_is_no_name(actor: str) -> None:
    with pytest.raises(ControlError, match="actor holds characters that can't be printed") as refused:
        arguments.who({"actor": actor, "_peer": {"user": "root"}})
    assert refused.value.code is Code.BAD_REQUEST
