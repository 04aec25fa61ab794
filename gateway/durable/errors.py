"""Errors of the durable engine, split by what the one who gets them must do.

DurableError
├── NotFoundError          no such instance (or function): check the id
├── GoneError              the instance has finished: nothing will hear this any more
├── AlreadyExistsError     an instance with this id is alive: take another id, or wait
├── WrongStatusError       the instance's status does not permit this: see the message
├── LimitExceededError     a payload, mailbox or history is over its limit: send less
├── NotSerializableError   a value can't be written as JSON: pass plain data
├── NondeterminismError    replay and code disagree, or the code did what replay can't bear: the message says which
├── ExportError            a file of exported histories can't be read: the line says where
├── EntityOperationError   an entity's operation failed: see its details
├── EntityLockError        a rule of critical sections was broken: see the message, change the orchestrator
├── TaskFailedError        an activity, sub-orchestration or entity call failed: see ``details``
└── EngineStoppedError     the engine stops or its journal failed: nothing was promised
"""

from __future__ import annotations

import traceback as tracebacks
from collections.abc import Sequence

import msgspec

MAX_MESSAGE_CHARACTERS = 4096
"""Of an exception's own words; what is longer is cut, and says so."""
MAX_TRACEBACK_CHARACTERS = 8192
MAX_CAUSES = 8
"""Failures behind a failure that are kept: the nearest ones, and the one at the bottom."""


class FailureDetails(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
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


class WrongStatusError(DurableError):
    """What was asked for is not possible as the instance stands; the message says why."""


class LimitExceededError(DurableError):
    """A limit was reached; the message names it."""


class NotSerializableError(DurableError):
    """A value that has to be journaled can't be written as JSON."""


class NondeterminismError(DurableError):
    """What the code asked for at replay is not what history holds, or it did what replay can't bear (``guard.py``).

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
    """A task that an orchestrator waited for has failed. task_id: its step, 0 if unknown."""

    def __init__(self, message: str, details: FailureDetails, task_id: int = 0) -> None:
        super().__init__(message)
        self.details = details
        self.task_id = task_id


class EntityOperationError(DurableError):
    """An operation that a client called on an entity has failed."""

    def __init__(self, message: str, details: FailureDetails) -> None:
        super().__init__(message)
        self.details = details


class EntityLockError(DurableError):
    """An orchestrator did what a critical section does not allow."""


def step_behind(error: BaseException) -> int:
    """The id of the failed step that led to this exception, the first one if several failed in a row; 0 if none did."""
    found, seen = 0, set[int]()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if isinstance(link, TaskFailedError):
            found = link.task_id or found
        link = link.__cause__ or link.__context__
    return found


_UNINTERESTING: Sequence[type] = (object, BaseException, Exception)


def words_of(error: BaseException) -> str:
    """What an exception says, in bounds and fit for the journal; an author's exception may say anything, or raise."""
    try:
        words = str(error)
    except KeyboardInterrupt:
        raise
    except BaseException as second:  # noqa: BLE001 - whatever an author's __str__ raises
        return f"({type(error).__name__} can't be put into words: its __str__ raises {type(second).__name__})"
    return _writable(_cut(words, MAX_MESSAGE_CHARACTERS))


def traceback_of(error: BaseException) -> str:
    """The innermost lines of an exception's traceback, in bounds and fit for the journal."""
    try:
        text = "".join(tracebacks.format_exception(error, limit=-8))
    except KeyboardInterrupt:
        raise
    except BaseException as second:  # noqa: BLE001 - as in words_of: it prints what an author's exception says
        return f"(no traceback: printing {type(error).__name__} raises {type(second).__name__})"
    if len(text) > MAX_TRACEBACK_CHARACTERS:
        half = MAX_TRACEBACK_CHARACTERS // 2
        text = f"{text[:half]}\n(…)\n{text[-half:]}"
    return _writable(text)


def describe(error: BaseException, traceback: str = "") -> FailureDetails:
    """The journaled form of an exception, with what caused it; bounded, however long that chain is."""
    chain: list[FailureDetails] = []
    seen: set[int] = set()
    here: BaseException | None = error
    while here is not None and id(here) not in seen:
        seen.add(id(here))
        bases = tuple(_writable(c.__name__) for c in type(here).__mro__[1:] if c not in _UNINTERESTING)
        chain.append(FailureDetails(_writable(type(here).__name__), words_of(here), "", bases))
        if isinstance(here, TaskFailedError | EntityOperationError):
            behind: FailureDetails | None = here.details
            while behind is not None:
                chain.append(behind)
                behind = behind.cause
            break
        here = here.__cause__
    del chain[MAX_CAUSES:-1]
    cause: FailureDetails | None = None
    for link in reversed(chain[1:]):
        cause = link if link.cause is cause else msgspec.structs.replace(link, cause=cause)
    return msgspec.structs.replace(chain[0], traceback=traceback, cause=cause)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]} (… {len(text)} characters)"


def _writable(text: str) -> str:
    """Half of a surrogate pair is no Unicode, and can't be written."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()
