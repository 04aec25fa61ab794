"""A limit on the time that one step of an orchestrator may take: code that never yields must not stop the engine.

All orchestrators run on the engine's one thread, and nothing there can interrupt one that loops for ever. A second thread
looks about once a second which step runs in which thread; one that is over the limit gets ``StepTooLong`` raised into it,
again and again until it has ended. It derives from BaseException, so that an author's ``except Exception`` lets it pass.
A log line that the machine doesn't take is not the author's doing: as long as the same one is being written, that does not
count. The thread sleeps while no step runs, and costs a look a second while some do. C code that doesn't return (a
regular expression without end) can't be interrupted; the service's own watchdog ends that.

What must stay true: nothing is ever raised outside of the step that it was meant for. The looking thread first says so in
the step (``too_long``) and then sees whether the step still runs; the step first takes itself out of ``running`` and then
sees whether it was told. So at least one of them notices the other, whatever the interpreter does in between, and a
step that was told takes back what may still be pending. A crash here: the thread ends with the process.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from types import FrameType
from typing import Protocol

LIMIT_S = 5.0
"""Real seconds that a step may take. The service's watchdog bites after 15."""
LOOK_S = 1.0
LOOK_AGAIN_S = 0.1
"""After the first time: an exception may have been caught, or have met a ``finally``."""


class StepTooLong(BaseException):
    """A step took longer than its limit; the instance fails with LimitExceededError."""


class Step(Protocol):
    """The steps of one execution, as the watch sees them.

    number: grows with each. too_long: the number of the one whose time was over, and where the author's code was then.
    """

    number: int
    too_long: tuple[int, str] | None

    def place(self, frame: FrameType) -> str | None:
        """File and line of the author's code in this stack; None if the stack doesn't belong to a step."""

    def logs(self, frame: FrameType) -> bool:
        """True if a logger is at work in this stack."""


_now = time.monotonic

running: dict[int, Step] = {}
"""The step that runs in each thread, by the thread's id."""


class Watch:
    """The looking thread. limit_s, look_s: real seconds."""

    def __init__(self, limit_s: float = LIMIT_S, look_s: float = LOOK_S) -> None:
        self.limit_s = limit_s
        self.look_s = look_s
        self.asleep = True
        self._lock = threading.Lock()
        self._called = threading.Event()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """A step has begun; see ``asleep``."""
        self.asleep = False
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._look, name="watch-steps", daemon=True)
                    self._thread.start()
        self._called.set()

    def forget(self) -> None:
        """This process was forked: the thread did not come along, nor did any step."""
        running.clear()
        self._lock = threading.Lock()
        self._called = threading.Event()
        self._thread = None
        self.asleep = True

    def _look(self) -> None:
        seen: dict[int, tuple[Step, int, float, object]] = {}
        now = _now()
        while True:
            # A process that was stopped for a while, or a starved one, has not worked for so long.
            last, now = now, _now()
            passed = min(now - last, 2 * self.look_s)
            before, seen = seen, {}
            late = False
            for thread, step in running.copy().items():
                number = step.number
                known = before.get(thread)
                spent, writes = 0.0, _log_line(thread, step)
                if known is not None and known[0] is step and known[1] == number:
                    spent = known[2] if writes is not None and writes == known[3] else known[2] + passed
                seen[thread] = step, number, spent, writes
                if spent >= self.limit_s:
                    late = True
                    self._end(thread, step, number)
            if not seen:
                self._called.clear()
                self.asleep = True
                if not running:
                    self._called.wait()
                self.asleep = False
            time.sleep(LOOK_AGAIN_S if late else self.look_s)

    def _end(self, thread: int, step: Step, number: int) -> None:
        frame = sys._current_frames().get(thread)
        place = None if frame is None else step.place(frame)
        del frame
        if place is None:
            return
        with self._lock:
            step.too_long = number, place
            if running.get(thread) is step and step.number == number:
                _raise_in(thread)

    def take_back(self, thread: int) -> None:
        """What was raised in this thread, the caller's own, and has not arrived yet never will.

        It is made to arrive here: to withdraw it would leave the interpreter looking for it for ever.
        """
        with self._lock:
            pass  # the watch is done with it
        try:
            _raise_in(thread)
            while True:
                pass
        except StepTooLong:
            return


def _log_line(thread: int, step: Step) -> object:
    """What tells two looks at the same log line that is being written from two lines; None if none is."""
    frame = sys._current_frames().get(thread)
    return None if frame is None or not step.logs(frame) else (id(frame), frame.f_lasti)


def _raise_in(thread: int) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(StepTooLong))


watch = Watch()


os.register_at_fork(after_in_child=watch.forget)
