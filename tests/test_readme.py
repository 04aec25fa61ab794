"""The README keeps up with the code: errors, commands, make targets and settings that it names are those that exist."""

from __future__ import annotations

import argparse
import ast
import re
from pathlib import Path

from config.models import JournalCare, Restoration, Shedding, Trigger
from gateway.cli.parser import build_parser

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def error_classes() -> set[str]:
    """Each class of the daemon's packages that derives from an exception, by the names of the bases."""
    bases: dict[str, set[str]] = {}
    for package in ("gateway", "journal", "protocols", "config"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ClassDef):
                    bases[node.name] = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
    errors = {"Exception", "BaseException", "ValueError", "RuntimeError", "OSError", "KeyError", "TypeError"}
    known = set(errors)
    while more := {name for name, of in bases.items() if of & known} - known:
        known |= more
    return known - errors


def commands(parser: argparse.ArgumentParser) -> set[str]:
    """All commands with their second words."""
    found: set[str] = set()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                found |= {f"{name} {second}" for second in commands(inner)} or {name}
    return found


def test_the_error_tree_names_every_error() -> None:
    section = README.partition("## Errors")[2].partition("\n## ")[0]
    assert "JournalError" in error_classes()
    assert {name for name in error_classes() if not re.search(rf"\b{name}\b", section)} == set()


def test_the_error_tree_names_no_error_that_is_gone() -> None:
    tree = README.partition("## Errors")[2].split("```")[1]
    named = {match[1] for match in re.finditer(r"^[│├└─ ]*([A-Z]\w+)  ", tree, re.MULTILINE)}
    assert len(named) > 20
    assert named - error_classes() == set()


def test_every_command_is_told() -> None:
    section = README.partition("## The command line")[2].partition("\n## ")[0]
    for command in commands(build_parser()):
        first, _, second = command.partition(" ")
        (line,) = [line for line in section.splitlines() if re.match(rf"    gridlatch {first}\b.*\b{second}\b", line)]
        assert line


def test_every_setting_of_the_journal_is_told() -> None:
    for name in JournalCare.__dataclass_fields__:
        assert f"| `journal.{name}` |" in README


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^    |`)make (\w+)", README, re.MULTILINE))
    assert {"run", "test", "bench"} <= named
    assert named <= targets


def test_defaults_are_those_of_the_models() -> None:
    trigger, restoration, journal = Trigger(), Restoration(), JournalCare(Path("archive"))
    defaults = {name: Shedding.__dataclass_fields__[name].default for name in Shedding.__dataclass_fields__}
    for row in (
        f"| `trigger.arm_pct`, `arm_for_s` | {trigger.arm_pct:g} %, {trigger.arm_for_s:g} s |",
        f"| `trigger.clear_pct`, `clear_for_s` | {trigger.clear_pct:g} %, {trigger.clear_for_s:g} s |",
        f"| `shedding.target_pct` | {defaults['target_pct']:g} % |",
        f"| `shedding.cooldown_s` | {defaults['cooldown_s']:g} s |",
        f"| `shedding.command_deadline_s` | {defaults['command_deadline_s']:g} s |",
        f"| `shedding.max_operations_per_hour` | {defaults['max_operations_per_hour']} |",
        f"| `shedding.after_restart` | `{defaults['after_restart']}` |",
        f"| `restoration.stable_for_s` | {restoration.stable_for_s:g} s |",
        f"| `journal.keep_days` | {journal.keep_days} |",
        f"| `journal.disk_budget_mb` | {journal.disk_budget_mb} |",
        f'| `journal.integrity_check_at` | `"{journal.integrity_check_at:%H:%M}"` |',
        f"| `journal.head_every_s` | {journal.head_every_s:g} s |",
        f"| `restoration.limit_pct`, `stage_pct` | {restoration.limit_pct:g} %, {restoration.stage_pct:g} % |",
    ):
        assert row in README
