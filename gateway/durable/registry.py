"""Which orchestrators, activities and entities there are, by name.

Several versions of one orchestrator may stand side by side. An instance keeps the version that it started with, and runs
the code that is registered under just that version; else the code without a version, which branches by
``context.version``; else it waits until its code is back: it never runs other code on a guess. Nothing here is
journaled, a start fills it anew.
"""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import CodeType, ModuleType
from typing import TypeVar, overload

import msgspec
import structlog

from gateway.durable.app import DECLARED, KIND, Blueprint, DFApp
from gateway.durable.determinism import Finding, check_function
from gateway.durable.entity import EntityFunction, entity_function
from gateway.durable.errors import AlreadyExistsError, NotFoundError
from gateway.durable.objects import note_classes
from gateway.durable.program import OrchestratorFunction

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

F = TypeVar("F", bound=Callable[..., object])

_NAME = "durable_name"
VERSION = "durable_version"
_VERSION_PARTS = re.compile(r"\d+|[^\d.]+")


@overload
def orchestrator(function: F) -> F: ...
@overload
def orchestrator(*, name: str | None = None, version: str = "") -> Callable[[F], F]: ...
def orchestrator(function: F | None = None, *, name: str | None = None, version: str = "") -> F | Callable[[F], F]:
    """Mark a function of a site's module as an orchestrator: ``@orchestrator``, or ``@orchestrator(name="Shed",
    version="1.1")`` for one of several versions."""

    def mark(marked: F) -> F:
        setattr(marked, KIND, "orchestrator")
        setattr(marked, VERSION, version)
        if name is not None:
            setattr(marked, _NAME, name)
        return marked

    return mark if function is None else mark(function)


def activity(function: F) -> F:
    """Mark a function of a site's module as an activity."""
    setattr(function, KIND, "activity")
    return function


def entity(function: F) -> F:
    """Mark a function or class of a site's module as an entity."""
    setattr(function, KIND, "entity")
    return function


@dataclass(frozen=True, slots=True)
class Orchestrator:
    """A registered orchestrator; fingerprint is a hash of its code."""

    name: str
    function: OrchestratorFunction
    version: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Activity:
    """A registered activity.

    at_most_once: never run again after a restart; its caller is told ``ActivityInterrupted`` instead. timeout_s: real
    seconds until it is cancelled and counts as failed. takes: number of arguments (0, 1: input, 2: input and context).
    on_loop: an ``async def``, which runs on the event loop; else it runs in a thread.
    """

    name: str
    function: Callable[..., object]
    at_most_once: bool
    timeout_s: float | None
    takes: int
    on_loop: bool


@dataclass(frozen=True, slots=True)
class Entity:
    """A registered entity; state_type: what its state is decoded to (None: plain JSON). lockable: an orchestration may have
    it for itself, so that others wait."""

    name: str
    function: EntityFunction
    state_type: type[msgspec.Struct] | None
    lockable: bool = True


class Registry:
    """All that can be started by name.

    on_finding: told what replay can't bear in an orchestrator that is registered (``determinism/``); a warning is logged
    unless given.
    """

    def __init__(self, on_finding: Callable[[Finding], None] | None = None) -> None:
        self._on_finding = on_finding or _warn
        self._orchestrators: dict[str, dict[str, Orchestrator]] = {}
        self._defaults: dict[str, str] = {}
        self._containers: list[Blueprint] = []
        self._activities: dict[str, Activity] = {}
        self._entities: dict[str, Entity] = {}

    def orchestrator(self, function: OrchestratorFunction, name: str | None = None, version: str = "") -> None:
        """Register an orchestrator: a generator function (or a plain one) of one context.

        version: one of several that stand side by side under this name; empty for the code of all that have no code of
        their own. Errors: AlreadyExistsError for a name (and version) that is taken.
        """
        key = name or getattr(function, _NAME, None) or function.__name__
        _not_async(function, key)
        versions = self._orchestrators.setdefault(key, {})
        if version in versions:
            raise AlreadyExistsError(
                f"there is an orchestrator called {key!r} already" + (f" of version {version!r}" if version else "")
            )
        versions[version] = Orchestrator(key, function, version, fingerprint(function))
        _note(function)
        for finding in check_function(function):
            self._on_finding(finding)

    def set_default_version(self, name: str, version: str) -> None:
        """A start of this orchestrator that names no version takes this one (unless set: the highest registered one).

        Errors: NotFoundError, when no code is registered for it.
        """
        self.get_orchestrator(name, version)
        self._defaults[name] = version

    def activity(
        self,
        function: Callable[..., object],
        name: str | None = None,
        at_most_once: bool = False,
        timeout_s: float | None = None,
    ) -> None:
        """Register an activity: ``def`` (runs in a thread) or ``async def``, of (), (input) or (input, context)."""
        key = name or getattr(function, _NAME, None) or function.__name__
        _free(self._activities, key, "an activity")
        takes = len(inspect.signature(function).parameters)
        if takes > 2:
            raise TypeError(f"the activity {key} must take at most (input, context), not {takes} arguments")
        on_loop = inspect.iscoroutinefunction(function)
        self._activities[key] = Activity(key, function, at_most_once, timeout_s, takes, on_loop)
        _note(function)

    def entity(
        self,
        function: Callable[..., object],
        name: str | None = None,
        state_type: type[msgspec.Struct] | None = None,
        lockable: bool = True,
    ) -> None:
        """Register an entity: a function of one context, or a class with a method for each operation."""
        key = (name or function.__name__).lower()
        _not_async(function, key)
        if state_type is not None and not state_type.__struct_config__.frozen:
            raise TypeError(
                f"the state of {key} must be a frozen struct: a failed operation must not leave half a change"
            )
        _free(self._entities, key, "an entity")
        self._entities[key] = Entity(key, entity_function(function), state_type, lockable)
        _note(function)

    def add_module(self, module: ModuleType) -> list[str]:
        """Register what a site's module offers: its names, sorted.

        That is: all that its apps (``DFApp``) declare, and its blueprints that no app holds; everything marked by
        ``@orchestrator``, ``@activity`` or ``@entity``; every public generator function whose only argument is called
        ``context`` (an orchestrator in the dialect needs no mark). A function ``register(registry)`` in the module is
        called too.
        """
        found: set[str] = set()
        containers = [value for value in vars(module).values() if isinstance(value, Blueprint)]
        for container in containers:
            if isinstance(container, DFApp) or not container.held:
                found.update(container.add_to(self))
        seen: set[int] = set()
        for name, value in sorted(vars(module).items()):
            if name.startswith("_") or getattr(value, "__module__", None) != module.__name__ or not callable(value):
                continue
            if id(value) in seen or hasattr(value, DECLARED):
                continue
            seen.add(id(value))
            kind = getattr(value, KIND, None)
            if kind is None and (
                inspect.isgeneratorfunction(value) or inspect.isasyncgenfunction(value)
            ):  # that is told
                kind = "orchestrator" if list(inspect.signature(value).parameters) == ["context"] else None
            match kind:
                case "orchestrator":
                    self.orchestrator(value, version=getattr(value, VERSION, ""))
                case "activity":
                    self.activity(value)
                case "entity":
                    self.entity(value)
                case _:
                    continue
            found.add(getattr(value, _NAME, None) or value.__name__)
        register = getattr(module, "register", None)
        if callable(register):
            register(self)
        return sorted(found)

    def take(self, container: Blueprint) -> bool:
        """True for the first time that this app or blueprint is to be registered here."""
        new = container not in self._containers
        self._containers.append(container)
        return new

    def get_orchestrator(self, name: str, version: str = "") -> Orchestrator:
        """The code for this version: registered under just that, else without one.

        Errors: NotFoundError; it names what there is.
        """
        versions = _get(self._orchestrators, name, "orchestrator")
        found = versions.get(version) or versions.get("")
        if found is None:
            there_are = ", ".join(sorted(versions, key=natural))
            raise NotFoundError(f"there is no version {version!r} of the orchestrator {name!r}; there are: {there_are}")
        return found

    def new_orchestrator(self, name: str, version: str | None = None) -> tuple[Orchestrator, str]:
        """The code and the version of a new instance. Without a version: the default that was set, else the highest (as
        numbers: 1.10 is above 1.9).

        Errors: NotFoundError; it names what there is.
        """
        if version is None:
            versions = _get(self._orchestrators, name, "orchestrator")
            version = self._defaults.get(name)
            if version is None:
                version = max(versions, key=natural)
        return self.get_orchestrator(name, version), version

    def versions(self, name: str) -> list[str]:
        """The registered versions of an orchestrator, the lowest first.

        Errors: NotFoundError.
        """
        return sorted(_get(self._orchestrators, name, "orchestrator"), key=natural)

    def get_activity(self, name: str) -> Activity:
        """By name; NotFoundError names those there are."""
        return _get(self._activities, name, "activity")

    def get_entity(self, name: str) -> Entity:
        """By name; NotFoundError names those there are."""
        return _get(self._entities, name.lower(), "entity")

    def names(self) -> dict[str, list[str]]:
        """All names, by kind."""
        return {
            "orchestrators": sorted(self._orchestrators),
            "activities": sorted(self._activities),
            "entities": sorted(self._entities),
        }


def natural(version: str) -> tuple[tuple[int, int, str], ...]:
    """What versions are ordered by: numbers as numbers, words before numbers (2.0-rc is below 2.0.1)."""
    return tuple((1, int(part), "") if part.isdecimal() else (0, 0, part) for part in _VERSION_PARTS.findall(version))


def _warn(finding: Finding) -> None:
    log.warning(
        "orchestrator_not_deterministic",
        orchestrator=finding.orchestrator,
        rule=finding.rule,
        what=finding.what,
        line=f"{finding.file}:{finding.line}",
        instead=finding.instead,
    )


def _note(function: Callable[..., object]) -> None:
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    if module is not None:
        note_classes(vars(module))


def _not_async(function: Callable[..., object], name: str) -> None:
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{name} must not be async: it is replayed; what takes time belongs into an activity")


R = TypeVar("R")


def _free(table: dict[str, R], name: str, what: str) -> None:
    if name in table:
        raise AlreadyExistsError(f"there is {what} called {name!r} already")


def _get(table: Mapping[str, R], name: str, what: str) -> R:
    try:
        return table[name]
    except KeyError:
        raise NotFoundError(f"there is no {what} called {name!r}; there are: {', '.join(sorted(table))}") from None


def fingerprint(function: Callable[..., object]) -> str:
    """A short hash of a function's code: it changes when the code does, not when a comment does."""
    digest = hashlib.sha256()
    code = getattr(inspect.unwrap(function), "__code__", None)
    if isinstance(code, CodeType):
        _hash_code(code, digest.update)
    return digest.hexdigest()[:16]


def _hash_code(code: CodeType, update: Callable[[bytes], None]) -> None:
    update(code.co_code)
    update(repr(code.co_names).encode())
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _hash_code(constant, update)
        elif not isinstance(constant, frozenset):  # the order of a set's repr is not the same in two processes
            update(repr(constant).encode())
