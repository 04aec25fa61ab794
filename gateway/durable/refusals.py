"""The closer watch on an orchestrator that looks suspicious: each call that it makes is looked at before it happens.

The interpreter tells a profile function of the thread about each call, also those into C, with the very function
object: ``datetime.now`` is found under any name that it was given. Only calls made by the author's own code are
refused; what the engine, the logger and other libraries do meanwhile is their business. What must stay true: other
threads, and steps of other orchestrators, notice nothing. A crash here: nothing is kept.

After a refusal that the author's code has caught, the rest of that step is not watched (the interpreter takes the profile
function away); its next step is.
"""

from __future__ import annotations

import functools
import importlib
import random
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from datetime import date
from threading import Thread, Timer
from types import BuiltinMethodType, FrameType, FunctionType, MethodType

from gateway.durable.determinism.rules import ENVIRONMENT, NAMES, RANDOM, THREAD, Rule, plain
from gateway.durable.errors import NondeterminismError
from gateway.durable.reach import watched_names

_MAPPING = "_collections_abc"

ProfileFunction = Callable[[FrameType, str, object], None]


def refusal(rule: Rule, name: str, place: str) -> NondeterminismError:
    """The error of a step that did what replay can't bear, in the words of the check. place: the author's line."""
    return NondeterminismError(f"{rule.words(plain(name))} ({place}); write instead: {rule.instead}", line=place)


@dataclass(slots=True)
class _Table:
    """What is refused: by the id of a Python function's code, and by the id of a C function.

    passed: files whose functions call such a one in their caller's name. names: of all of them, to pass by the rest
    fast: in this interpreter even ``id`` is an audit event.
    """

    codes: dict[int, tuple[str, Rule]] = field(default_factory=dict)
    functions: dict[int, tuple[str, Rule]] = field(default_factory=dict)
    passed: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    keep: list[object] = field(default_factory=list)

    def add(self, name: str, rule: Rule, value: object) -> None:
        """Refuse this function."""
        value = value.__func__ if isinstance(value, MethodType) else value
        if isinstance(value, FunctionType):
            self.codes.setdefault(id(value.__code__), (name, rule))
            self.names.add(value.__code__.co_name)
        elif isinstance(value, BuiltinMethodType):
            self.functions.setdefault(id(value), (name, rule))
            self.names.add(value.__name__)
        self.keep.append(value)


@functools.cache
def _table() -> _Table:
    table = _Table()
    for module_name, names in watched_names().items():
        module = importlib.import_module(module_name)
        for attribute in sorted(names if names is not None else getattr(module, "__all__", ())):
            name = f"{module_name}.{attribute}"
            value = getattr(module, attribute, None)
            rule = NAMES.get(name, RANDOM)
            table.add(name, rule, value)
    environ = type(importlib.import_module("os").environ)
    for attribute in ("__getitem__", "__iter__", "__len__", "__setitem__", "__delitem__", "copy", "__repr__"):
        table.add("os.environ", ENVIRONMENT, getattr(environ, attribute))
    table.passed.add(environ.__getitem__.__code__.co_filename)
    table.add("random.Random", RANDOM, random.Random.__init__)
    for method in (Thread.__init__, Thread.start, Timer.__init__):
        table.add("threading.Thread", THREAD, method)
    table.names.update(name.rpartition(".")[2] for name in NAMES if name.startswith("datetime."))
    table.names.update(("random", "getrandbits", "seed", "randbytes"))
    table.passed.add(importlib.import_module(_MAPPING).Mapping.get.__code__.co_filename)
    return table


def profile_of(codes: Container[int]) -> ProfileFunction:
    """The profile function for an orchestrator whose code objects have these ids."""
    table = _table()

    def look(frame: FrameType, event: str, arg: object) -> None:
        if event == "call":
            code = frame.f_code
            found = table.codes.get(id(code)) if code.co_name in table.names else None
            if found is None:
                return
            caller = frame.f_back
            while caller is not None and caller.f_code.co_filename in table.passed:
                caller = caller.f_back
            if found[1] is RANDOM and not _is_shared(found[0], frame):
                return
        elif event == "c_call":
            if getattr(arg, "__name__", "") not in table.names:
                return
            found = table.functions.get(id(arg)) or _method(arg)
            caller = frame
        else:
            return
        if found is not None and caller is not None and id(caller.f_code) in codes:
            name, rule = found
            raise refusal(rule, name, f"{caller.f_code.co_filename}:{caller.f_lineno}")

    return look


def _is_shared(name: str, frame: FrameType) -> bool:
    """False for a generator of chance that the author has made from a seed."""
    if not name.startswith("random."):
        return True
    variables = frame.f_locals
    owner = variables.get("self")
    if name == "random.Random":
        return variables.get("x") is None
    return owner is getattr(random, "_inst", None) or isinstance(owner, random.SystemRandom)


def _method(arg: object) -> tuple[str, Rule] | None:
    """The clock's methods, bound to their class; C methods of a generator of chance."""
    owner = getattr(arg, "__self__", None)
    if isinstance(owner, type):
        if issubclass(owner, date):
            name = f"datetime.{owner.__name__}.{getattr(arg, '__name__', '')}"
            rule = NAMES.get(name)
            return None if rule is None else (name, rule)
    elif isinstance(owner, random.SystemRandom) or (
        isinstance(owner, random.Random) and owner is getattr(random, "_inst", None)
    ):
        return f"random.{getattr(arg, '__name__', '')}", RANDOM
    return None
