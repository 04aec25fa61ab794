"""Stand-ins for activities, and the book of what was called.

An activity is what a procedure does to the world, so a test puts something harmless in its place and looks at what was
asked of it. Real activities that are registered run as they are; they are written down, too.

What must stay true: every call is in ``calls`` in the order in which calls began. A call that is repeated because a crash
lost its result gets the answer that it had got: a device that is asked twice for the same operation says the same. A
crash here: the world outside is not taken back, so this book lives on.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, cast

from gateway.durable.activities import ActivityContext
from gateway.durable.codec import Json
from gateway.durable.errors import NotFoundError
from gateway.durable.registry import Activity, Registry
from gateway.durable.testing.errors import UnexpectedCall

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.durable.testing.clock import VirtualClock

Key = tuple[str, int]
"""Operation id and attempt: what stays the same when a call is repeated after a crash."""
Fails = int | BaseException | Sequence[BaseException]


class StubbedFailure(RuntimeError):
    """What a call of a stub with ``fails=n`` fails with."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an activity. attempt: 1, 2, … of a retry. again: repeated, because a crash lost the result."""

    name: str
    input: Json
    instance_id: str
    operation_id: str
    attempt: int
    at: datetime
    again: bool = False

    def __str__(self) -> str:
        return f"{self.name}({self.input!r})" + (" again" if self.again else "")


@dataclass(frozen=True, slots=True)
class _Answer:
    value: Json = None
    error: BaseException | None = None


@dataclass(eq=False, slots=True)
class Stub:
    """What answers the calls of one activity; made by ``Workbench.stub``. calls: those that it got, repeated ones too."""

    name: str
    result: Json
    fails: Fails
    times: int | None
    takes: timedelta | None
    hangs: bool
    calls: list[Call] = field(default_factory=list)
    answered: int = 0

    @property
    def used_up(self) -> bool:
        """True when it has answered as often as it may."""
        return self.times is not None and self.answered >= self.times

    @property
    def inputs(self) -> list[Json]:
        """What it was asked for, in order, without repetitions after a crash."""
        return [call.input for call in self.calls if not call.again]

    async def answer(self, value: Json, context: ActivityContext) -> _Answer:
        """Decide how this call ends."""
        self.answered += 1
        error = self._failure()
        if error is None and isinstance(self.result, BaseException):
            error = self.result
        if error is not None:
            return _Answer(error=error)
        if not callable(self.result):
            return _Answer(self.result)
        try:
            given = self.result(*(value, context)[: len(inspect.signature(self.result).parameters)])
            return _Answer(await given if inspect.isawaitable(given) else given)
        except Exception as error:  # noqa: BLE001 - what the function raises is how the activity fails
            return _Answer(error=error)

    def _failure(self) -> BaseException | None:
        if isinstance(self.fails, BaseException):
            return self.fails
        if isinstance(self.fails, int):
            return StubbedFailure(f"failure {self.answered} of {self.fails}") if self.answered <= self.fails else None
        return self.fails[self.answered - 1] if self.answered <= len(self.fails) else None


class BenchRegistry(Registry):
    """A registry whose activities are written down, and may be stubbed.

    working: activities that go on by themselves, in real time. asleep: how many wait for the clock, or for ever. changed:
    set when one has ended or fallen asleep.
    """

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self.clock = clock
        self.calls: list[Call] = []
        self.working: list[str] = []
        self.asleep = 0
        self.changed = asyncio.Event()
        self.unexpected: UnexpectedCall | None = None
        self._stubs: dict[str, list[Stub]] = {}
        self._answers: dict[Key, _Answer] = {}
        self._called: set[Key] = set()
        self._repeated: set[Key] = set()

    def add_stub(self, stub: Stub) -> Stub:
        """Stubs of one name answer in the order in which they came; a new one takes over from one without a limit."""
        line = self._stubs.setdefault(stub.name, [])
        if line and line[-1].times is None:
            line.pop()
        line.append(stub)
        return stub

    def repeat(self, keys: Iterable[Key]) -> None:
        """The next call with each of these keys is a repetition, if there was one."""
        self._repeated = set(keys) & self._called

    def called_keys(self) -> set[Key]:
        """All calls that there were."""
        return set(self._called)

    # What the engine asks

    def get_activity(self, name: str) -> Activity:
        """See Registry; wrapped so that calls are written down.

        Errors: NotFoundError.
        """
        try:
            real: Activity | None = super().get_activity(name)
        except NotFoundError as error:
            real = None
            if name not in self._stubs:
                told = f"{name!r} is called, but no such activity is there: register it, or bench.stub({name!r}, …)"
                self.unexpected = UnexpectedCall(told)
                raise NotFoundError(told) from error

        async def perform(value: Json, context: ActivityContext) -> Json:
            with self._at_work(name):
                call = self._write_down(name, value, context)
                if name in self._stubs:
                    return await self._stubbed(call, context)
                assert real is not None
                return await _run(real, value, context)

        if real is None:
            return Activity(name, perform, False, None, 2, True)
        # Stubs take virtual time, so the limit in real time is not theirs.
        return replace(
            real, function=perform, timeout_s=None if name in self._stubs else real.timeout_s, takes=2, on_loop=True
        )

    async def _stubbed(self, call: Call, context: ActivityContext) -> Json:
        key, line = (call.operation_id, call.attempt), self._stubs[call.name]
        stub = next((s for s in line if not s.used_up), None)
        if call.again and key in self._answers:
            stub = stub or line[-1]
            answer = self._answers[key]
        elif stub is None:
            times = sum(s.times or 0 for s in line)
            self.unexpected = UnexpectedCall(f"{call} is one more than the {times} calls that its stubs answer")
            raise self.unexpected
        else:
            answer = self._answers[key] = await stub.answer(call.input, context)
        stub.calls.append(call)
        await self._pass_time(stub, call.name)
        if answer.error is not None:
            raise answer.error
        return answer.value

    async def _pass_time(self, stub: Stub, name: str) -> None:
        if stub.takes is None and not stub.hangs:
            return
        timeout_s = self._timeout_of(name)
        limit = None if timeout_s is None else timedelta(seconds=timeout_s)
        with self._napping(name):
            if limit is not None and (stub.hangs or (stub.takes is not None and stub.takes > limit)):
                await self.clock.sleep(limit)
                raise TimeoutError(f"the activity {name} took longer than {timeout_s} s")
            if stub.hangs:
                await asyncio.get_running_loop().create_future()
            elif stub.takes is not None:
                await self.clock.sleep(stub.takes)

    def _timeout_of(self, name: str) -> float | None:
        try:
            return super().get_activity(name).timeout_s
        except NotFoundError:
            return None

    def _write_down(self, name: str, value: Json, context: ActivityContext) -> Call:
        key = (context.operation_id, context.attempt)
        again = key in self._repeated
        self._repeated.discard(key)
        self._called.add(key)
        call = Call(name, value, context.instance_id, *key, self.clock.now, again)
        self.calls.append(call)
        return call

    @contextmanager
    def _at_work(self, name: str) -> Iterator[None]:
        self.working.append(name)
        try:
            yield
        finally:
            self.working.remove(name)
            self.changed.set()

    @contextmanager
    def _napping(self, name: str) -> Iterator[None]:
        self.working.remove(name)
        self.asleep += 1
        self.changed.set()
        try:
            yield
        finally:
            self.working.append(name)
            self.asleep -= 1


async def _run(activity: Activity, value: Json, context: ActivityContext) -> Json:
    arguments = (value, context)[: activity.takes]
    if activity.on_loop:
        return await cast(Awaitable[Json], activity.function(*arguments))
    return await asyncio.to_thread(_in_thread, activity.function, arguments)


def _in_thread(function: Callable[..., Json], arguments: tuple[Json, ...]) -> Json:
    try:
        return function(*arguments)
    except StopIteration as error:  # a future can't hold it
        raise RuntimeError(f"the activity raised StopIteration: {error}") from error
