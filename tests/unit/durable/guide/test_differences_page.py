"""The tables of differences are whole: each row names a test that is there, and no difference that is shown is left out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.unit.durable.guide.pages import GUIDE, prose

TESTS = Path(__file__).parents[3]
WHERE_MOST_ARE = {
    "differences-from-azure.md": "conformance/test_differences.py",
    "differences-from-durabletask.md": "conformance/test_differences_durabletask.py",
}
OF_THE_LISTS_THEMSELVES = {
    "test_each_difference_is_shown_by_a_test_here",
    "test_each_difference_has_its_test",
    "test_every_name_and_parameter_of_v1_is_here_or_told_to_be_absent",
}


def rows(page: str) -> list[list[str]]:
    """The cells of each row that tells a difference of behaviour; the last one: file and name of the test."""
    behaviour = prose(GUIDE / page).partition("## Names and parameters")[0]
    found = []
    for line in behaviour.splitlines():
        if line.startswith("|") and not line.startswith(("|---", "| what |")):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            file, _, name = cells[-1].strip("`").rpartition("::")
            found.append([*cells[:-1], file or WHERE_MOST_ARE[page], name])
    return found


ROWS = [row for page in WHERE_MOST_ARE for row in rows(page)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_each_row_is_whole_and_its_test_exists(row: list[str]) -> None:
    assert len(row) == 6
    assert all(row)
    *_, file, name = row
    functions = {
        node.name
        for node in ast.walk(ast.parse((TESTS / file).read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert name in functions


def test_every_difference_that_the_comparison_with_v1_knows_has_its_row() -> None:
    known = set(re.findall(r'"(test_\w+)"', (TESTS / "conformance" / "differences.py").read_text(encoding="utf-8")))
    assert len(known) > 15
    assert known - {row[-1] for row in ROWS} == set()


def test_no_difference_is_shown_and_not_told() -> None:
    files = sorted(TESTS.glob("conformance/test_differences*.py"))
    assert len(files) > 2
    for file in files:
        shown = set(re.findall(r"^(?:async )?def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE))
        told = {row[-1] for row in ROWS if row[-2] == f"conformance/{file.name}"}
        assert shown - OF_THE_LISTS_THEMSELVES - told == set()
