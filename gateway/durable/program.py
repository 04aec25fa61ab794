"""The author's program of one execution: runs it from one wait to the next, and tells how it ended.

Each run is a step under guard (``guard.py``). What must stay true: whatever the author's code raises, yields or returns
is told as its end, and reaches nobody else; once it has ended or was closed, none of it runs again. A crash here: the
generator is gone, and replay makes it again.
"""

from __future__ import annotations

from collections.abc import Callable
from types import GeneratorType
from typing import NamedTuple, TypeAlias

from gateway.durable.codec import Json
from gateway.durable.context import DurableOrchestrationContext
from gateway.durable.guard import refuse_awaitable, step_of
from gateway.durable.lines import line_of_wait
from gateway.durable.tasks import Task

OrchestratorFunction = Callable[[DurableOrchestrationContext], object]
OrchestratorGenerator: TypeAlias = "GeneratorType[object, Json, object]"


class Ended(NamedTuple):
    """How the program ended: with a value, or with an error. astray: it yielded what is no task of its own."""

    value: object = None
    error: BaseException | None = None
    astray: bool = False


class Program:
    """See above. owner: what the tasks that it may yield are marked with. waiting: what it waits for."""

    __slots__ = ("_function", "_generator", "_owner", "_step", "waiting")

    def __init__(self, function: OrchestratorFunction, owner: object) -> None:
        self._function = function
        self._owner = owner
        self._step = step_of(function)
        self._generator: OrchestratorGenerator | None = None
        self.waiting: Task | None = None

    @property
    def ready(self) -> bool:
        """True when what it waited for has come."""
        return self.waiting is not None and self.waiting.is_completed

    def start(self, context: DurableOrchestrationContext) -> Ended | None:
        """Run it up to its first wait; None while it waits."""
        try:
            with self._step:
                result = self._function(context)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever the author's code raises (SystemExit, too) is the outcome
            return Ended(error=self._step.verdict(error))
        if not isinstance(result, GeneratorType):
            return Ended(result)
        self._generator = result
        return self._resume(None, None)

    def go_on(self) -> Ended | None:
        """Run it, with the outcome of what it waited for, up to its next wait; None while it waits."""
        task, self.waiting = self.waiting, None
        assert task is not None
        error = task.exception
        return self._resume(None if error is not None else task.result, error)

    def _resume(self, value: Json, failure: BaseException | None) -> Ended | None:
        generator = self._generator
        if generator is None:
            return None
        try:
            with self._step:
                yielded = _send(value, generator) if failure is None else _throw(failure, generator)
        except StopIteration as stop:
            self._generator = None
            return Ended(stop.value)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever the author's code raises (SystemExit, too) is the outcome
            self.close()  # it has ended, but for one that was stopped and went on
            return Ended(error=self._step.verdict(error))
        if isinstance(yielded, Task) and yielded.owner is self._owner:
            self.waiting = yielded
            return None
        return self._gone_astray(generator, yielded)

    def _gone_astray(self, generator: OrchestratorGenerator, yielded: object) -> Ended:
        frame = generator.gi_frame
        where = f"{generator.gi_code.co_filename}:{frame.f_lineno if frame is not None else 0}"
        what = "a task of another orchestration" if isinstance(yielded, Task) else type(yielded).__name__
        message = f"an orchestrator may yield tasks only, and its own, not {what} (at {where})"
        if isinstance(yielded, list | tuple):
            message += "; for several at once, write instead: yield context.task_all([...])"
        elif isinstance(yielded, GeneratorType):
            message += "; for the steps of another generator, write instead: yield from"
        self.close()
        return Ended(error=refuse_awaitable(yielded, where) or TypeError(message), astray=True)

    def close(self) -> None:
        """Let go of it. What its clean-up says or raises concerns nobody any more."""
        generator, self._generator = self._generator, None
        self.waiting = None
        if generator is not None:
            try:
                with self._step:
                    generator.close()
            except KeyboardInterrupt:
                raise
            except BaseException:  # noqa: BLE001 - SystemExit in a finally, a generator that won't be closed
                return

    def line(self) -> str:
        """Where it waits."""
        return line_of_wait(self._generator)


def _send(value: Json, generator: OrchestratorGenerator) -> object:
    return generator.send(value)


def _throw(error: BaseException, generator: OrchestratorGenerator) -> object:
    return generator.throw(error)
