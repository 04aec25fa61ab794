"""The words of a transcript: what the world says, and what the code under test must say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.durable import history as h

START_US = 1_768_377_600_000_000  # 2026-01-14T08:00:00Z
QUIET = (h.TimerCancelled, h.EntityOperationSignaled)


def matches(expected: Any, actual: Any) -> bool:
    """True if actual holds all that expected says: objects by the named keys, callables judge, the rest equals."""
    if isinstance(expected, Mapping):
        return isinstance(actual, Mapping) and all(k in actual and matches(v, actual[k]) for k, v in expected.items())
    if callable(expected):
        return bool(expected(actual))
    if isinstance(expected, float) and isinstance(actual, float | int):
        return abs(expected - actual) < 0.05
    if isinstance(expected, list | tuple):
        return (
            isinstance(actual, list | tuple)
            and len(expected) == len(actual)
            and all(matches(e, a) for e, a in zip(expected, actual, strict=True))
        )
    return bool(expected == actual)


# --- what the code must say -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Expect:
    """One decision. input: what the input must hold; a mapping names the keys that matter."""

    kind: type
    name: str = ""
    input: Any = None
    target: str = ""
    after_s: float | None = None


def activity(name: str, input_: Any = None, **keys: Any) -> Expect:
    """An activity is started."""
    return Expect(h.TaskScheduled, name, input_ if input_ is not None else (keys or None))


def entity_call(target: str, operation: str, **keys: Any) -> Expect:
    """An entity is asked."""
    return Expect(h.EntityOperationCalled, operation, keys or None, target)


def entity_signal(target: str, operation: str, **keys: Any) -> Expect:
    """An entity is told something."""
    return Expect(h.EntityOperationSignaled, operation, keys or None, target)


def timer(seconds: float) -> Expect:
    """A timer is set, so many seconds from now."""
    return Expect(h.TimerCreated, after_s=seconds)


def cancelled_timer() -> Expect:
    """A timer is given up."""
    return Expect(h.TimerCancelled)


@dataclass(frozen=True)
class status:
    """The custom status as it stands; takes no decision off the list."""

    keys: dict[str, Any] = field(default_factory=dict)

    def __init__(self, **keys: Any) -> None:
        object.__setattr__(self, "keys", keys)


@dataclass(frozen=True)
class output:
    """The orchestration has completed with this output."""

    keys: dict[str, Any] = field(default_factory=dict)

    def __init__(self, **keys: Any) -> None:
        object.__setattr__(self, "keys", keys)


@dataclass(frozen=True)
class failed:
    """The orchestration has failed; its message holds this text."""

    text: str


@dataclass(frozen=True)
class continues_as_new:
    """The history starts over with this input; the transcript goes on with the new execution."""

    keys: dict[str, Any] = field(default_factory=dict)

    def __init__(self, **keys: Any) -> None:
        object.__setattr__(self, "keys", keys)


# --- what the world says ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class done:
    """An open call has its result: the oldest one, or the one called ``of``."""

    result: Any = None
    of: str = ""


@dataclass(frozen=True)
class fails:
    """An open call has failed."""

    message: str
    type: str = "RuntimeError"
    of: str = ""


@dataclass(frozen=True)
class event:
    """An external event arrives."""

    name: str
    data: Any = None


@dataclass(frozen=True)
class later:
    """So many seconds pass; timers that come due fire, each in a turn of its own."""

    seconds: float


# --- of entities ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class call:
    """Somebody calls an operation and waits for the answer; ``by`` names them."""

    operation: str
    input: Any = None
    by: str = "caller"


@dataclass(frozen=True)
class signal:
    """Somebody tells the entity something; nobody waits."""

    operation: str
    input: Any = None


@dataclass(frozen=True)
class ends:
    """The oldest open activity (of this name) has its result."""

    result: Any = None
    of: str = ""


@dataclass(frozen=True)
class breaks:
    """The oldest open activity (of this name) has an error instead."""

    type: str
    message: str = ""
    of: str = ""


@dataclass(frozen=True)
class answer:
    """A caller is answered; keys is what the answer must hold."""

    to: str = "caller"
    keys: dict[str, Any] = field(default_factory=dict)

    def __init__(self, to: str = "caller", **keys: Any) -> None:
        object.__setattr__(self, "to", to)
        object.__setattr__(self, "keys", keys)


@dataclass(frozen=True)
class error:
    """A caller gets an error that holds this text."""

    text: str
    to: str = "caller"


@dataclass(frozen=True)
class starts:
    """An orchestration is started."""

    name: str
    keys: dict[str, Any] = field(default_factory=dict)

    def __init__(self, name: str, **keys: Any) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "keys", keys)


@dataclass(frozen=True)
class state:
    """The state as it stands; takes nothing off the list."""

    keys: dict[str, Any] = field(default_factory=dict)

    def __init__(self, **keys: Any) -> None:
        object.__setattr__(self, "keys", keys)


@dataclass(frozen=True)
class nothing:
    """No action and no answer is left."""
