"""The page of limits says what the code says: each number, and each limit that an author can reach."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from tests.unit.durable.guide.pages import GUIDE, prose

DURABLE = GUIDE.parent
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in prose(GUIDE / "limits.md").splitlines()
    if line.startswith("|") and "`" in line
]
NO_CONCERN_OF_AUTHORS = {
    "errors.MAX_CAUSES": "a chain of causes keeps its nearest ones and its last",
    "execution.MAX_DUE_US": "told in words: the year 9999",
    "orchestrations.MAX_LOADS_AT_ONCE": "pace of reading after a restart",
    "waits.MAX_DEPTH": "how far a sentence on what an instance waits for goes into nested tasks",
    "timers.MAX_NAP_S": "the loop looks again, nothing comes late",
    "engine.MAX_STOP_ROUNDS": "pace of stopping",
    "guard.MAX_GUARDS": "a cache",
    "reach.MAX_CODES": "how far the guard looks ahead; told there",
    "rewinding.MAX_TRIES": "a race with the instance itself",
}


def value_of(constant: str) -> object:
    module, _, name = constant.rpartition(".")
    return getattr(importlib.import_module(f"gateway.durable.{module}"), name)


def ways_to_write(number: float) -> set[str]:
    """How a limit may stand in the table."""
    ways = {f"{number:,.0f}"} if number == int(number) else {f"{number:g}"}
    for unit, size in (("KiB", 1024), ("MiB", 1024**2)):
        if number % size == 0:
            ways.add(f"{number // size} {unit}")
    return ways


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[3].strip("`"))
def test_each_number_is_that_of_the_code(row: list[str]) -> None:
    what, limit, consequence, constant = row
    value = value_of(constant.strip("`"))
    assert isinstance(value, int | float)
    assert limit in ways_to_write(value), what
    assert consequence


def test_every_limit_of_the_engine_is_told() -> None:
    there_are = set()
    for file in DURABLE.glob("*.py"):
        for name in re.findall(
            r"^((?:MAX|LIMIT|NESTING)_\w+|\w+_ALARM\w*)(?:: [^=]+)? = ", file.read_text(), re.MULTILINE
        ):
            there_are.add(f"{file.stem}.{name}")
    told = {row[3].strip("`") for row in ROWS}
    assert len(told) > 20
    assert there_are - told - set(NO_CONCERN_OF_AUTHORS) == set()
    assert set(NO_CONCERN_OF_AUTHORS) <= there_are


def test_the_errors_and_lines_of_the_log_that_are_named_exist() -> None:
    source = "".join(file.read_text() for file in Path(DURABLE).rglob("*.py"))
    for row in ROWS:
        for name in re.findall(r"`(\w+Error)`", row[2]):
            assert name == "ValueError" or f"class {name}" in source
        for event in re.findall(r"\(`(\w+)`\)", row[2]):
            assert f'"{event}"' in source
