"""The table of differences from Azure is whole, and each row names a test that is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.unit.durable.guide.pages import GUIDE, prose

TESTS = Path(__file__).parents[3]
WHERE_MOST_ARE = "conformance/test_differences.py"
BEHAVIOUR = prose(GUIDE / "differences-from-azure.md").partition("## Names and parameters")[0]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in BEHAVIOUR.splitlines()
    if line.startswith("|") and not line.startswith(("|---", "| what |"))
]


def place_of(row: list[str]) -> tuple[str, str]:
    """File and name of the test that a row names."""
    file, _, name = row[-1].strip("`").rpartition("::")
    return file or WHERE_MOST_ARE, name


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_each_row_is_whole_and_its_test_exists(row: list[str]) -> None:
    assert len(row) == 5
    assert all(row)
    file, name = place_of(row)
    functions = {
        node.name
        for node in ast.walk(ast.parse((TESTS / file).read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert name in functions


def test_every_difference_that_the_comparison_with_v1_knows_has_its_row() -> None:
    known = set(re.findall(r'"(test_\w+)"', (TESTS / "conformance" / "differences.py").read_text(encoding="utf-8")))
    assert len(known) > 15
    assert known - {place_of(row)[1] for row in ROWS} == set()


def test_no_difference_is_shown_and_not_told() -> None:
    told = {place_of(row) for row in ROWS}
    for file in (WHERE_MOST_ARE, "conformance/test_differences_surface.py"):
        shown = set(re.findall(r"^def (test_\w+)", (TESTS / file).read_text(encoding="utf-8"), re.MULTILINE))
        meta = {"test_each_difference_is_shown_by_a_test_here"}
        meta |= {"test_every_name_and_parameter_of_v1_is_here_or_told_to_be_absent"}
        assert shown - meta - {name for where, name in told if where == file} == set()
