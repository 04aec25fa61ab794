"""Values in a few words: what matters is there, what is empty is not, and nothing is longer than it may be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.durable.codec import NULL, pack
from gateway.durable.preview import preview, preview_raw


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, ""),
        ("", ""),
        ({}, ""),
        ([], ""),
        (0, "0"),
        (False, "false"),
        ("two\n lines", "two lines"),
        (2.70006, "2.7"),
        (40.0, "40"),
        ({"good": True, "kw": 189.04, "note": ""}, "good true, kw 189.04"),
        ([1, 2, 3, 4, 5, 6], "1, 2, 3, 4 and 2 more"),
        ({"plan": {"tier": "T1", "kw": 4}}, "plan (tier T1, kw 4)"),
        ({"result": {"a": 1, "b": 2, "c": 3}}, "result (3 values)"),
        ({"deadline_us": 1_768_377_600_000_000}, "deadline 2026-01-14T08:00:00.000Z"),
        ({"wait_us": 5}, "wait_us 5"),
    ],
)
def test_a_value_in_words(value: object, words: str) -> None:
    assert preview(value) == words


def test_many_answers_of_few_kinds_are_counted() -> None:
    outcomes = {f"F{n}": "failed" if n == 3 else "done" for n in range(10)}
    assert preview(outcomes) == "9 done, 1 failed"


def test_what_is_too_long_is_cut_and_shows_it() -> None:
    assert preview("x" * 100, width=10) == "x" * 9 + "…"


def test_a_payload_is_read_and_the_absent_one_is_nothing() -> None:
    assert preview_raw(pack({"a": 1}, "it")) == "a 1"
    assert preview_raw(NULL) == ""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON, st.integers(1, 80))
def test_any_value_has_words_within_the_width(value: object, width: int) -> None:
    assert len(preview(value, width)) <= width
