"""Determinism of orchestrators, while they run: what replay can't bear is refused where it happens.

A step is one run of an orchestrator's code, from one wait to the next. While it lasts, in its thread,

- files, sockets, processes, threads and ``time.sleep`` are refused: the interpreter announces them (audit events);
- the clock, chance, ids and the environment are refused to code that names any of them (``reach.py``, ``refusals.py``);
- it may take ``LIMIT_S`` real seconds (``overrun.py``).

The refusal is a ``NondeterminismError`` with the words of the check (``determinism/``) and the author's line; what the
engine's own context does, loggers, modules that are being imported and the rules of time zones are let through. What must
stay true: nobody but the step notices any of it, and an orchestrator that names nothing of the kind pays a microsecond a
step. It does not see ``os.stat``, C libraries, nor what libraries ask the clock on the author's behalf. A crash here:
nothing is kept.

This is the one part of the core that knows the thread it runs in. It decides nothing: code that keeps the rules runs the
same without it.
"""

from __future__ import annotations

import functools
import sys
import zoneinfo
from collections.abc import Callable
from threading import get_ident
from types import CoroutineType, FrameType, TracebackType

from gateway.durable.determinism.rules import ENVIRONMENT, FOREIGN, IO, NAMES, SLEEP, THREAD
from gateway.durable.errors import LimitExceededError, NondeterminismError
from gateway.durable.overrun import StepTooLong, running, watch
from gateway.durable.reach import Reach
from gateway.durable.refusals import ProfileFunction, profile_of, refusal

MAX_GUARDS = 1_000
"""Orchestrators that are remembered; beyond that all are looked at anew."""

_OWN_FILES = __file__.rsplit("/", 1)[0] + "/"
_BOUNDARY = _OWN_FILES + "program.py"
_RUNS_STEPS = ("start", "_send", "_throw", "close")
"""Every step is run from there, by these."""
_LOGGERS = ("structlog", "logging")
_LET_THROUGH = (*_LOGGERS, "linecache", "tokenize", "warnings", "traceback", "zoneinfo")
"""Libraries that may open files."""

_EVENTS = {"open": IO, "builtins.input": IO, "time.sleep": SLEEP, "_thread.start_new_thread": THREAD}
_EVENTS |= dict.fromkeys(("os.putenv", "os.unsetenv"), ENVIRONMENT)
_EVENTS |= dict.fromkeys(("os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.exec"), THREAD)
_EVENT_FAMILIES = {"socket", "subprocess", "os", "shutil", "glob", "tempfile", "sqlite3", "fcntl"}
_EVENT_FAMILIES |= {"urllib", "http", "ftplib", "smtplib"}
_AS_WRITTEN = {"socket.__new__": "socket.socket", "_thread.start_new_thread": "threading.Thread"}


class Guard:
    """What is known of one orchestrator: the ids of its code objects, and the closer watch if it looks suspicious."""

    __slots__ = ("codes", "profile")

    def __init__(self, function: object) -> None:
        reach = Reach(function)
        self.codes = reach.codes
        self.profile: ProfileFunction | None = profile_of(reach.codes) if reach.suspect else None
        _listen()


class Step:
    """``with`` this, one step of an execution runs; it is used again for the next one.

    number: how many there were. too_long: see overrun.Step.
    Errors: NondeterminismError, from inside; LimitExceededError when it took too long.
    """

    __slots__ = ("_codes", "_profile", "_thread", "number", "too_long")

    def __init__(self, guard: Guard) -> None:
        self._codes = guard.codes
        self._profile = guard.profile
        self._thread = 0
        self.number = 0
        self.too_long: tuple[int, str] | None = None

    def __enter__(self) -> None:
        self.number += 1
        self._thread = get_ident()
        running[self._thread] = self
        if watch.asleep:
            watch.wake()
        if self._profile is not None and sys.getprofile() is None:
            sys.setprofile(self._profile)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._leave()
        except StepTooLong:  # it arrives at last, and only once: the step is not in ``running`` any more
            self._leave()
        if self.too_long is not None and self.too_long[0] == self.number:
            raise self._limit_exceeded() from None

    def verdict(self, error: BaseException) -> BaseException:
        """The error of a step as it is told. One that was too long may have been told so on the very way out."""
        if not isinstance(error, StepTooLong):
            return error
        self._leave()
        return self._limit_exceeded()

    def _limit_exceeded(self) -> LimitExceededError:
        place = "" if self.too_long is None else f" ({self.too_long[1]})"
        return LimitExceededError(
            f"an orchestrator may take {watch.limit_s:g} s for a step, and this one was still at it{place};"
            " long work belongs into an activity"
        )

    def _leave(self) -> None:
        running.pop(self._thread, None)
        if self._profile is not None and sys.getprofile() is self._profile:
            sys.setprofile(None)
        if self.too_long is not None:
            watch.take_back(self._thread)

    def place(self, frame: FrameType) -> str | None:
        """The author's line in this stack; None if what happens there is none of the author's doing."""
        nearest: FrameType | None = None
        last = frame
        at: FrameType | None = frame
        while at is not None:
            file = at.f_code.co_filename
            if file == _BOUNDARY and at.f_code.co_name in _RUNS_STEPS:
                nearest = nearest or last
                return f"{nearest.f_code.co_filename}:{nearest.f_lineno}"
            if nearest is None and id(at.f_code) in self._codes:
                nearest = at
            last, at = at, at.f_back
        return None

    def logs(self, frame: FrameType) -> bool:
        """True if a logger is at work in this stack."""
        at: FrameType | None = frame
        while at is not None and at.f_code.co_filename != _BOUNDARY:
            if str(at.f_globals.get("__name__", "")).partition(".")[0] in _LOGGERS:
                return True
            at = at.f_back
        return False

    def answers_for(self, frame: FrameType) -> bool:
        """True if the author's code wanted what happens here: not the engine, a logger, or an import."""
        at: FrameType | None = frame
        while at is not None:
            file = at.f_code.co_filename
            if file.startswith(_OWN_FILES):
                return file == _BOUNDARY and at.f_code.co_name in _RUNS_STEPS
            module = str(at.f_globals.get("__name__", ""))
            if module.partition(".")[0] in _LET_THROUGH or file.startswith("<frozen importlib"):
                return False
            at = at.f_back
        return False


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if not running:
        return
    rule = _EVENTS.get(event)
    if rule is None:
        if event.partition(".")[0] not in _EVENT_FAMILIES:
            return
        rule = IO
    step = running.get(get_ident())
    if isinstance(step, Step) and not (event == "open" and _is_of_time_zones(arguments[0])):
        frame = sys._getframe(1)
        if step.answers_for(frame):
            place = step.place(frame)
            if place is not None:
                raise refusal(rule, _AS_WRITTEN.get(event, event), place)


def _is_of_time_zones(file: object) -> bool:
    """True for the rules of a time zone: ``ZoneInfo`` reads them when it is first named, and its C code leaves no frame."""
    return isinstance(file, str) and file.startswith(tuple(f"{path}/" for path in zoneinfo.TZPATH))


@functools.cache
def _listen() -> None:
    sys.addaudithook(_audit)  # for good: the interpreter knows no way back


_guards: dict[object, Guard] = {}


def step_of(function: Callable[..., object]) -> Step:
    """The steps of one execution of this orchestrator, whose code is looked at when it is first used."""
    try:
        guard = _guards.get(function)
    except TypeError:  # an object that can be called and not hashed
        return Step(Guard(function))
    return Step(guard or _guard(function))


def _guard(function: Callable[..., object]) -> Guard:
    if len(_guards) >= MAX_GUARDS:
        _guards.clear()
    return _guards.setdefault(function, Guard(function))


def refuse_awaitable(value: object, place: str) -> NondeterminismError | None:
    """The error for a coroutine that was yielded (``yield asyncio.sleep(1)``); None for anything else."""
    if not isinstance(value, CoroutineType):
        return None
    frame: FrameType | None = value.cr_frame
    module = str(frame.f_globals.get("__name__", "")) if frame is not None else ""
    value.close()
    name = f"{module.partition('.')[0]}.{value.__name__}"
    return refusal(NAMES.get(name, FOREIGN), name, place)
