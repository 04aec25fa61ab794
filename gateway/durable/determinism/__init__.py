"""Determinism of orchestrators, before they run: the check of their source.

An orchestration is brought back after a restart by running its code again over its history, so the code must decide the
same again. ``lint.py`` tells what the check finds and what it can't see; ``rules.py`` what is forbidden, and what to write
instead. ``# gridlatch: allow(rule)`` at the end of a line silences one finding. What must stay true: a check never fails
because of what stands in a file, and never runs it.
"""

from __future__ import annotations

import functools
import inspect
import linecache
from collections.abc import Callable
from pathlib import Path
from types import CodeType

from gateway.durable.determinism.finding import Finding
from gateway.durable.determinism.lint import check
from gateway.durable.determinism.rules import RULES, Rule
from gateway.durable.determinism.source import Source

__all__ = ["RULES", "Finding", "Rule", "check_file", "check_function", "check_source"]


def check_source(text: str, file: str) -> dict[str, list[Finding]]:
    """Each orchestrator of this source with what was found in it. Errors: SyntaxError, ValueError."""
    found: dict[str, list[Finding]] = {}
    source = Source(text, file)
    for place in source.orchestrators():
        found[place.name] = sorted({*found.get(place.name, []), *check(source, place)})
    return found


def check_file(path: Path) -> dict[str, list[Finding]]:
    """As check_source. Errors: OSError, SyntaxError, ValueError (no text of Python)."""
    return check_source(path.read_text(encoding="utf-8"), str(path))


def check_function(function: Callable[..., object]) -> tuple[Finding, ...]:
    """What was found in this orchestrator; nothing if its source isn't there or can't be read."""
    inner = inspect.unwrap(function)
    code = getattr(inner, "__code__", None)
    if not isinstance(code, CodeType):
        return ()
    lines = linecache.getlines(code.co_filename, getattr(inner, "__globals__", None))
    return _findings(code.co_filename, "".join(lines), code.co_name, code.co_firstlineno)


@functools.lru_cache(maxsize=256)
def _findings(file: str, text: str, name: str, line: int) -> tuple[Finding, ...]:
    source = _source_of(file, text)
    if source is None:
        return ()
    for place in source.functions():
        first = min([place.function.lineno, *(one.lineno for one in place.function.decorator_list)])
        if place.function.name == name and first == line:
            return tuple(check(source, place))
    return ()


@functools.lru_cache(maxsize=16)
def _source_of(file: str, text: str) -> Source | None:
    try:
        return Source(text, file) if text else None
    except (SyntaxError, ValueError, RecursionError):  # changed since it was imported, or written by a machine
        return None
