"""What an orchestrator's code can reach, and whether it may call something that replay can't bear.

Once for each orchestrator: from its code on through the functions and classes that it names, in its own and the author's
other modules, not in libraries. Looks at compiled code and namespaces, and runs nothing. What must stay true: of two
answers this gives the careful one: code that only looks suspicious is watched closer at run time (``refusals.py``), which
costs it some time and nothing else.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterator
from datetime import date
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType

from gateway.durable.determinism.rules import (
    CLOCK,
    ENVIRONMENT,
    MODULES,
    NAMES,
    RANDOM,
    SLEEP,
    THREAD,
    UUID,
)

MAX_CODES = 2_000
"""Functions looked at for one orchestrator; what lies beyond is not watched closer."""

_WATCHED = (CLOCK, RANDOM, UUID, ENVIRONMENT, THREAD, SLEEP)
_MODULES = ("time", "os", "uuid", "asyncio", "threading")
_CLOCK_METHODS = {name.rpartition(".")[2] for name in NAMES if name.startswith("datetime.")}
_NOT_AUTHORS = ("gateway.durable", "gateway.clock", "structlog", "msgspec")


def watched_names() -> dict[str, set[str] | None]:
    """Module → names in it that are watched for; None: all of them."""
    found: dict[str, set[str] | None] = {"random": None, "secrets": None, "datetime": set(_CLOCK_METHODS)}
    for name, rule in NAMES.items():
        module, _, attribute = name.rpartition(".")
        if rule in _WATCHED and module in _MODULES:
            names = found.setdefault(module, set())
            assert names is not None
            names.add(attribute)
    return found


_NAMES = watched_names()


class Reach:
    """codes: all code objects of the author that may run in a step, by their ids. suspect: some name in them is watched."""

    def __init__(self, function: object) -> None:
        self.codes: dict[int, CodeType] = {}
        self.suspect = False
        self._waiting: list[tuple[CodeType, dict[str, object]]] = []
        self._add(function if isinstance(function, FunctionType | MethodType) else type(function))
        while self._waiting and len(self.codes) < MAX_CODES:
            code, names = self._waiting.pop()
            self._look(code, names)

    def _add(self, thing: object) -> None:
        """Take up a function or class, if it is the author's."""
        if type(thing) is MethodType:
            thing = thing.__func__
        if isinstance(thing, FunctionType):
            if id(thing.__code__) in self.codes or not _is_authors(thing):
                return
            self._add_code(thing.__code__, thing.__globals__)
            for inner in (*_cells(thing), *(thing.__defaults__ or ()), getattr(thing, "__wrapped__", None)):
                self._judge(inner, thing.__code__)
        elif isinstance(thing, type) and _is_authors(thing):
            for member in vars(thing).values():
                if type(member) is property:
                    self._add(member.fget)
                elif type(member) in (staticmethod, classmethod):
                    self._add(member.__func__)
                elif type(member) is FunctionType:
                    self._add(member)

    def _add_code(self, code: CodeType, names: dict[str, object]) -> None:
        self.codes[id(code)] = code
        self._waiting.append((code, names))
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                self._add_code(constant, names)

    def _look(self, code: CodeType, names: dict[str, object]) -> None:
        for name in code.co_names:
            value = names.get(name, getattr(builtins, name, None))
            if value is None:
                self.suspect |= _uses(code, name)  # an import inside the function, perhaps
            else:
                self._judge(value, code)

    def _judge(self, value: object, code: CodeType) -> None:
        kind = type(value)  # not isinstance: an author's object may answer for another, or fail to
        if issubclass(kind, ModuleType):
            assert isinstance(value, ModuleType)
            self._judge_module(value, code)
        elif issubclass(kind, type | FunctionType | MethodType | BuiltinFunctionType):
            if isinstance(value, type) and issubclass(value, date):
                self.suspect |= not _CLOCK_METHODS.isdisjoint(code.co_names)
            self.suspect |= _is_watched(value)
            self._add(value)
        elif kind.__name__ == "_Environ":
            self.suspect = True

    def _judge_module(self, module: ModuleType, code: CodeType) -> None:
        name = module.__name__
        if name in _NAMES:
            self.suspect |= _uses(code, name)
        elif not _is_library(name):
            for attribute in code.co_names:
                value = vars(module).get(attribute)
                if isinstance(value, FunctionType | type):
                    self._judge(value, code)


def _uses(code: CodeType, module: str) -> bool:
    """True if this code names something that is watched for in this module."""
    watched = _NAMES.get(module, set())
    return watched is None or not watched.isdisjoint(code.co_names)


def _cells(function: FunctionType) -> Iterator[object]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue


def _is_watched(value: object) -> bool:
    """A function that came by ``from time import time`` and the like."""
    home = getattr(value, "__module__", None)
    name = getattr(value, "__name__", "")
    if not isinstance(home, str):
        owner = getattr(value, "__self__", None)  # a method of the hidden generator of ``random``
        home = type(owner).__module__ if owner is not None else ""
    home = "os" if home == "posix" else home
    watched = _NAMES.get(home, set())
    return watched is None or name in watched


def _is_authors(thing: FunctionType | type) -> bool:
    return not _is_library(thing.__module__ or "") and not _is_installed(thing)


def _is_library(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names or module.startswith(_NOT_AUTHORS) or module in MODULES


def _is_installed(thing: FunctionType | type) -> bool:
    file = getattr(sys.modules.get(thing.__module__ or ""), "__file__", None) or ""
    return "site-packages" in file or "dist-packages" in file
