"""The words of a transcript: what the world says (``>>``), and what the code under test must say (``<<``).

Inputs, outputs and states are compared by what is named: a mapping by the keys that it names, at any depth; a function
judges; floats may differ in the last digits. What is left out does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.clock import to_us
from gateway.durable import history as h
from gateway.durable.codec import Json
from gateway.durable.identity import name_of
from gateway.durable.testing.clock import DEFAULT_START

START_US = to_us(DEFAULT_START)
QUIET = (h.TimerCancelled, h.EntityOperationSignaled, h.EntityUnlockSent)
"""Decisions that are passed over, unless the transcript names them."""

Named = str | Callable[..., object]


def matches(expected: Json, actual: Json) -> bool:
    """True if actual holds all that expected says: objects by the named keys, functions judge, the rest equals."""
    if isinstance(expected, Mapping):
        return isinstance(actual, Mapping) and all(k in actual and matches(v, actual[k]) for k, v in expected.items())
    if callable(expected):
        return bool(expected(actual))
    if isinstance(expected, float) and isinstance(actual, float | int):
        return math.isclose(expected, actual, rel_tol=1e-6, abs_tol=1e-6)
    if isinstance(expected, list | tuple):
        return (
            isinstance(actual, list | tuple)
            and len(expected) == len(actual)
            and all(matches(e, a) for e, a in zip(expected, actual, strict=True))
        )
    return bool(expected == actual)


class _Anything:
    """What a transcript says of a value that does not matter."""

    def __call__(self, actual: Json) -> bool:
        return True

    def __repr__(self) -> str:
        return "…"


ANYTHING = _Anything()


def _wanted(value: Json, keys: dict[str, Json]) -> Json:
    return keys if keys and value is ANYTHING else value


class _Value:
    """A word with the value that it stands for: the one that is given, or a mapping of the named keys."""

    __slots__ = ("wanted",)

    def __init__(self, wanted: Json = ANYTHING, /, **keys: Json) -> None:
        self.wanted = _wanted(wanted, keys)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.wanted!r})"


# --- what an orchestrator must say ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Expect:
    """One decision. input: what its input (or data) must hold; target: entities or instance that it is meant for."""

    kind: type
    name: str = ""
    input: Json = ANYTHING
    target: str = ""
    after_s: float | None = None

    def __str__(self) -> str:
        said = " ".join(part for part in (self.target, self.name) if part)
        after = "" if self.after_s is None else f"{self.after_s} s"
        return f"{self.kind.__name__}({', '.join(part for part in (said, repr(self.input), after) if part)})"


def activity(name: Named, input_: Json = ANYTHING, /, **keys: Json) -> Expect:
    """An activity is started."""
    return Expect(h.TaskScheduled, name_of(name), _wanted(input_, keys))


def sub_orchestration(name: Named, input_: Json = ANYTHING, /, **keys: Json) -> Expect:
    """Another orchestration is started and waited for."""
    return Expect(h.SubOrchestrationInstanceCreated, name_of(name), _wanted(input_, keys))


def entity_call(target: object, operation: str, input_: Json = ANYTHING, /, **keys: Json) -> Expect:
    """An entity (an EntityId, or its text) is asked."""
    return Expect(h.EntityOperationCalled, operation, _wanted(input_, keys), str(target))


def entity_signal(target: object, operation: str, input_: Json = ANYTHING, /, **keys: Json) -> Expect:
    """An entity is told something."""
    return Expect(h.EntityOperationSignaled, operation, _wanted(input_, keys), str(target))


def event_sent(instance: str, name: str, data: Json = ANYTHING, /, **keys: Json) -> Expect:
    """Another orchestration is sent an event."""
    return Expect(h.EventSent, name, _wanted(data, keys), instance)


def locks(*targets: object) -> Expect:
    """A critical section over these entities is asked for."""
    return Expect(h.EntityLockRequested, target=", ".join(sorted(str(target) for target in targets)))


def unlocks() -> Expect:
    """The critical section is left."""
    return Expect(h.EntityUnlockSent)


def timer(seconds: float) -> Expect:
    """A timer is set, so many seconds from now."""
    return Expect(h.TimerCreated, after_s=seconds)


def cancelled_timer() -> Expect:
    """A timer is given up."""
    return Expect(h.TimerCancelled)


class status(_Value):
    """The custom status as it stands; takes no decision off the list."""


class output(_Value):
    """The orchestration has completed with this output."""


class continues_as_new(_Value):
    """The history starts over with this input; the transcript goes on with the new execution."""


@dataclass(frozen=True)
class failed:
    """The orchestration has failed; its message holds this text."""

    text: str


# --- what the world says to an orchestrator ---------------------------------------------------------------------------


@dataclass(frozen=True)
class done:
    """An open call (activity, sub-orchestration, entity) has its result: the oldest, or the one called ``of``."""

    result: Json = None
    of: str = ""


@dataclass(frozen=True)
class fails:
    """An open call has failed."""

    message: str
    type: str = "RuntimeError"
    of: str = ""


@dataclass(frozen=True)
class granted:
    """The entities that were to be locked are."""


@dataclass(frozen=True)
class event:
    """An external event arrives."""

    name: str
    data: Json = None


@dataclass(frozen=True)
class later:
    """So many seconds pass; timers that come due fire, each in a turn of its own."""

    seconds: float


# --- of entities ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class call:
    """Somebody calls an operation and waits for the answer; ``by`` names them."""

    operation: str
    input: Json = None
    by: str = "caller"


@dataclass(frozen=True)
class signal:
    """Somebody tells the entity something; nobody waits."""

    operation: str
    input: Json = None


@dataclass(frozen=True)
class ends:
    """The oldest open activity (of this name) has its result."""

    result: Json = None
    of: str = ""


@dataclass(frozen=True)
class breaks:
    """The oldest open activity (of this name) has an error instead."""

    type: str
    message: str = ""
    of: str = ""


class answer:
    """A caller is answered with a mapping that holds these keys; without keys, with anything. See ``result`` for values."""

    def __init__(self, to: str = "caller", **keys: Json) -> None:
        self.to = to
        self.wanted = _wanted(ANYTHING, keys)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.to!r}, {self.wanted!r})"


class result(answer):
    """The caller is answered with just this value."""

    def __init__(self, value: Json, to: str = "caller") -> None:
        super().__init__(to)
        self.wanted = value


@dataclass(frozen=True)
class error:
    """A caller gets an error that holds this text."""

    text: str
    to: str = "caller"


class starts:
    """An orchestration is started."""

    def __init__(self, name: Named, input_: Json = ANYTHING, /, **keys: Json) -> None:
        self.name = name_of(name)
        self.wanted = _wanted(input_, keys)

    def __repr__(self) -> str:
        return f"starts({self.name!r}, {self.wanted!r})"


class state(_Value):
    """The state as it stands; takes nothing off the list."""


@dataclass(frozen=True)
class nothing:
    """No action and no answer is left."""
