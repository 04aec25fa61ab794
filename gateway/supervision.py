"""The daemon's own tasks, and its reason to end.

A task that fails is a defect, and so is an exception that nobody awaited. The daemon must not limp: outputs are held at
once, it ends and says so by its exit code, and the service manager starts it again. The one exception is ``tolerate``:
failures of a part that control does not need. What must stay true: the first reason is the one that is told. After a crash
there is nothing to clean up.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from gateway.durable import Engine, EngineStoppedError
from gateway.durable.codec import Json
from gateway.shedding.gate import OutputGate

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


def record(engine: Engine, event: str, **details: Json) -> None:
    """Append what the daemon did or saw to the journal, behind all that is there."""
    future = engine.record("", "gateway", {"event": event, "pid": os.getpid(), **details})
    # A failed journal ends the daemon elsewhere; here nobody waits for the answer.
    future.add_done_callback(lambda f: f.cancelled() or f.exception())


class Supervision:
    """Holds the tasks. stop: set once the daemon is to end. failed: why it must; empty where somebody asked for it.
    tolerate: takes an exception that nobody awaited and need not end the daemon; False where it must."""

    def __init__(self, gate: OutputGate) -> None:
        self.stop = asyncio.Event()
        self.failed = ""
        self.tolerate: Callable[[BaseException], bool] = lambda _: False
        self._gate = gate
        self._tasks: set[asyncio.Task[None]] = set()

    def watch_signals(self, reload: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """End at SIGTERM and SIGINT, reload at SIGHUP, and fail at exceptions that nobody awaited."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: self.spawn(reload(), "reload"))
        loop.set_exception_handler(self._defect)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run this beside everything else, until it ends or the daemon does."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def give_up(self, why: str) -> None:
        """Hold outputs and end."""
        self.failed = self.failed or why
        self._gate.hold(why)
        self.stop.set()

    async def end_tasks(self) -> None:
        """Cancel what still runs, and wait for it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _defect(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None and self.tolerate(error):
            return
        log.critical("defect", message=context.get("message"), error=str(error), exc_info=error)
        if error is not None:
            self.give_up(f"defect: {error}")

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, EngineStoppedError):
            # It only met what ends the daemon anyway, and that has been told: no defect of this task.
            log.info("task_ended", task=task.get_name(), why=str(error))
            self.give_up(str(error))
        elif error is not None:
            log.critical("task_failed", task=task.get_name(), error=str(error), exc_info=error)
            self.give_up(f"{task.get_name()} failed: {error}")
