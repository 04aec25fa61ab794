"""``gridlatch lint``: what replay can't bear in the orchestrators of some modules. Asks no daemon, runs no code of them."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from dataclasses import asdict
from pathlib import Path

from gateway.durable.determinism import Finding, check_file

_CLEAN, _FOUND, _UNREADABLE = 0, 1, 2


def lint(options: argparse.Namespace) -> int:
    """0: nothing was found; 1: something was; 2: a module can't be read (the others are told all the same)."""
    found: dict[str, dict[str, list[Finding]]] = {}
    problems: list[str] = []
    for module in options.modules:
        try:
            path = _path_of(module)
            found[str(path)] = check_file(path)
        except (OSError, ValueError, SyntaxError, ImportError) as error:
            problems.append(f"{module} can't be read: {_why(error)}")
    findings = sorted(one for file in found.values() for several in file.values() for one in several)
    if options.json:
        orchestrators = {file: sorted(names) for file, names in found.items()}
        told = {"findings": [asdict(one) for one in findings], "orchestrators": orchestrators, "unreadable": problems}
        print(json.dumps({"ok": not findings and not problems, **told}, indent=2, ensure_ascii=False))
    else:
        for one in findings:
            print(one)
        if found:
            print(_summary(found, len(findings)))
    for problem in problems:
        print(f"gridlatch: {problem}", file=sys.stderr)
    return _UNREADABLE if problems else _FOUND if findings else _CLEAN


def _path_of(module: str) -> Path:
    """The file of a module on the path, or the .py file itself. Of a package: its ``__init__.py``."""
    if module.endswith(".py"):
        return Path(module)
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.has_location or spec.origin is None or not spec.origin.endswith(".py"):
        raise ImportError("there is no such module on the path; a file is named with its ending .py")
    return Path(spec.origin)


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, SyntaxError):
        return f"{error.msg} (line {error.lineno})"
    return str(error)


def _summary(found: dict[str, dict[str, list[Finding]]], findings: int) -> str:
    orchestrators = sum(map(len, found.values()))
    if not orchestrators:
        return "No orchestrator was found."
    told = f"{findings} finding{'s' if findings != 1 else ''}" if findings else "Nothing was found"
    return f"{told} in {orchestrators} orchestrator{'s' if orchestrators != 1 else ''}."
