"""Errors of the durable engine, split by what the one who gets them must do.

DurableError
├── NotFoundError          no such instance (or function): check the id
├── GoneError              the instance has finished: nothing will hear this any more
├── AlreadyExistsError     an instance with this id is alive: take another id, or wait
├── LimitExceededError     a payload, mailbox or history is over its limit: send less
├── NotSerializableError   a value can't be written as JSON: pass plain data
├── NondeterminismError    replay and code disagree: the code of a running orchestration was changed
├── ExportError            a file of exported histories can't be read: the line says where
├── EntityOperationError   an entity's operation failed: see its details
├── EntityLockError        a rule of critical sections was broken: see the message, change the orchestrator
├── TaskFailedError        an activity, sub-orchestration or entity call failed: see ``details``
└── EngineStoppedError     the engine stops or its journal failed: nothing was promised
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class FailureDetails(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why something failed, as it is journaled.

    kind: name of the exception's class; bases: names of the classes it derives from, nearest first.
    """

    kind: str
    message: str
    traceback: str = ""
    bases: tuple[str, ...] = ()
    cause: FailureDetails | None = None

    def is_caused_by(self, kind: type[BaseException] | str) -> bool:
        """True if this failure, or the one behind it, is of this exception class (or a subclass of it)."""
        name = kind if isinstance(kind, str) else kind.__name__
        if name == self.kind or name in self.bases:
            return True
        return self.cause is not None and self.cause.is_caused_by(name)

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


class DurableError(Exception):
    """Base of all errors of the engine."""


class NotFoundError(DurableError):
    """There is no such instance or function."""


class GoneError(DurableError):
    """The instance has finished."""


class AlreadyExistsError(DurableError):
    """An instance with this id is alive."""


class LimitExceededError(DurableError):
    """A limit was reached; the message names it."""


class NotSerializableError(DurableError):
    """A value that has to be journaled can't be written as JSON."""


class NondeterminismError(DurableError):
    """What the code asked for at replay is not what history holds.

    step: id of the task; recorded, asked: what history has and what the code asked for, in words; line: file and line.
    """

    def __init__(self, message: str, step: int = 0, recorded: str = "", asked: str = "", line: str = "") -> None:
        super().__init__(message)
        self.step = step
        self.recorded = recorded
        self.asked = asked
        self.line = line


class ExportError(DurableError):
    """A file of exported histories can't be read; the message names the line."""


class EngineStoppedError(DurableError):
    """The engine is stopping, or its journal failed."""


class TaskFailedError(DurableError):
    """A task that an orchestrator waited for has failed."""

    def __init__(self, message: str, details: FailureDetails) -> None:
        super().__init__(message)
        self.details = details


class EntityOperationError(DurableError):
    """An operation that a client called on an entity has failed."""

    def __init__(self, message: str, details: FailureDetails) -> None:
        super().__init__(message)
        self.details = details


class EntityLockError(DurableError):
    """An orchestrator did what a critical section does not allow."""


_UNINTERESTING: Sequence[type] = (object, BaseException, Exception)


def describe(error: BaseException, traceback: str = "") -> FailureDetails:
    """The journaled form of an exception."""
    bases = tuple(c.__name__ for c in type(error).__mro__[1:] if c not in _UNINTERESTING)
    cause: FailureDetails | None = None
    if isinstance(error, TaskFailedError | EntityOperationError):
        cause = error.details
    elif error.__cause__ is not None:
        cause = describe(error.__cause__)
    return FailureDetails(type(error).__name__, str(error), traceback, bases, cause)
