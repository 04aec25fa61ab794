"""An event loop without a clock, sockets or threads: time jumps to the next timer when nothing is ready, chance is seeded.

What must stay true of asyncio, since code may rely on it: a callback never runs before it was due, and never in the round
in which it was scheduled; each round runs all that was ready when it began; plain callbacks run in the order in which they
were scheduled; the steps of one task are in order. What chance decides, since nobody may rely on it: which of several
tasks that are ready goes first, which of several timers of one instant, how late a timer is, and how long the loop stalls.

A *process* is a context: all that is scheduled by it carries it along. A killed one runs not a single step more, not even
its ``finally`` blocks: that is what kill -9 and a loss of power do. Its tasks are kept until the story is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
import random
import sys
from collections.abc import Callable, Coroutine
from typing import Any

STALL = 0.0005
"""How often the loop stalls before a timer."""


class Process:
    """What is killed as one. dead: nothing of it runs any more."""

    dead = False


PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class Stalled(Exception):
    """Nothing is ready and no timer runs: nothing can ever happen any more."""


class NumberedTask(asyncio.Task[Any]):
    """A task whose place in a set does not depend on its address."""

    number = 0

    def __hash__(self) -> int:
        return self.number


class NumberedFuture(asyncio.Future[Any]):
    """A future whose place in a set does not depend on its address."""

    number = 0

    def __hash__(self) -> int:
        return self.number


class VirtualLoop(asyncio.BaseEventLoop):
    """See above. crash: called between two steps, ``steps_left`` steps from when that is set."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._chance = chance
        self._time_s = 1000.0
        self._numbers = 0
        self._tasks: dict[int, tuple[NumberedTask, Process]] = {}
        self.steps = 0
        self.stalls = 0
        self.swaps = 0
        self.steps_left = -1
        self.crash: Callable[[], None] = lambda: None
        self.set_task_factory(self._make_task)  # type: ignore[arg-type]
        self._buried: list[NumberedTask] = []

    def time(self) -> float:
        """Seconds; see above."""
        return self._time_s

    def create_future(self) -> asyncio.Future[Any]:
        """See NumberedFuture."""
        future = NumberedFuture(loop=self)
        self._numbers += 1
        future.number = self._numbers
        return future

    def _make_task(self, loop: asyncio.AbstractEventLoop, coro: Any, context: Any = None) -> NumberedTask:
        task = NumberedTask(coro, loop=loop, context=context)
        self._numbers += 1
        task.number = self._numbers
        process = PROCESS.get() if context is None else context.get(PROCESS)
        if process is not None:
            self._tasks[task.number] = (task, process)
            if len(self._tasks) % 500 == 0:
                self._tasks = {number: entry for number, entry in self._tasks.items() if not entry[0].done()}
        return task

    def spawn_in(self, process: Process, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run this as a part of a process."""
        context = contextvars.Context()
        context.run(PROCESS.set, process)
        return self.create_task(work, context=context)

    def kill(self, process: Process) -> None:
        """Nothing of it runs any more."""
        process.dead = True
        self._buried += [task for task, of in self._tasks.values() if of is process and not task.done()]
        self._tasks = {number: entry for number, entry in self._tasks.items() if entry[1] is not process}

    def _write_to_self(self) -> None:
        """Nobody waits in a selector."""

    def _process_events(self, event_list: object) -> None:
        """There are none."""

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled  # type: ignore[attr-defined]
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            self._go_on(scheduled)
        if scheduled and scheduled[0]._when <= self._time_s:
            self._take_due(scheduled, ready)
        batch = [ready.popleft() for _ in range(len(ready))]
        if len(batch) > 1:
            self._permute(batch)
        self.steps += len(batch)
        for handle in batch:
            if handle._cancelled:
                continue
            context = handle._context
            process = context.get(PROCESS)
            if process is not None:
                if process.dead:
                    continue
                if self.steps_left >= 0:
                    self.steps_left -= 1
                    if self.steps_left < 0:
                        self.crash()
                        if process.dead:
                            continue
            handle._run()

    def _go_on(self, scheduled: list[Any]) -> None:
        while scheduled and self._over(scheduled[0]):
            heapq.heappop(scheduled)._scheduled = False
        if not scheduled:
            raise Stalled("nothing can ever happen any more")
        late_s = self._chance.random() * 0.0003
        if self._chance.random() < STALL:
            late_s += self._chance.choice((0.01, 0.05, 0.2, 1.0, 2.5))
            self.stalls += 1
        self._time_s = max(self._time_s, scheduled[0]._when) + late_s

    @staticmethod
    def _over(handle: Any) -> bool:
        if handle._cancelled:
            return True
        process = handle._context.get(PROCESS)
        return process is not None and process.dead

    def _take_due(self, scheduled: list[Any], ready: Any) -> None:
        due = []
        while scheduled and scheduled[0]._when <= self._time_s:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            if not handle._cancelled:
                due.append(handle)
        if len(due) > 1:
            self._chance.shuffle(due)
            due.sort(key=lambda handle: handle._when)
        ready.extend(due)

    def _permute(self, batch: list[Any]) -> None:
        """Tasks change places among themselves; what is no task stays where it is."""
        places = [
            place
            for place, handle in enumerate(batch)
            if isinstance(getattr(handle._callback, "__self__", None), asyncio.Task)
        ]
        if len(places) > 1:
            self.swaps += 1
            handles = [batch[place] for place in places]
            self._chance.shuffle(handles)
            for place, handle in zip(places, handles, strict=True):
                batch[place] = handle

    def bury(self) -> None:
        """The story is over: let go of all that is left, without a word."""
        self._buried += [task for task, _ in self._tasks.values() if not task.done()]
        left = [task for task in asyncio.all_tasks(self) if not task.done()]
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        try:
            for task in (*self._buried, *left):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                with contextlib.suppress(BaseException):
                    task.get_coro().close()  # type: ignore[union-attr]
            self._buried.clear()
            self._tasks.clear()
            left.clear()
            self.set_exception_handler(lambda *_: None)
            self.close()
        finally:
            sys.unraisablehook = hook
