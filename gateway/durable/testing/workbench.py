"""A workbench for procedures: the real engine, without a daemon, without waiting.

::

    async def test_the_operator_overrides():
        async with Workbench(my_procedures) as bench:
            bench.stub("SendDisconnectCommand", {"7B": "done"})
            drill = await bench.start("GridEmergencyProtocol")
            await bench.advance(timedelta(minutes=5))
            await bench.raise_event(drill, "OperatorOverride", {"cancel": True})
            assert await bench.output(drill) == {"status": "aborted"}
            assert bench.called == [("SendDisconnectCommand", "tier1")]

Time stands still unless the test moves it: by ``advance``, or by waiting for an end (``run``, ``finish``, ``output``),
which jumps from one due time to the next. Each verb returns when the engine has come to rest, so that a test is the same
each time that it runs. The power may fail whenever the test wants (``crash``), or right before or after the n-th commit;
then the bench starts a new engine on what is on disk, and tells it again what was lost on the way.

What must stay true: what a test sees is what the daemon would do with the same words at the same times. On a crash here:
that is what it is for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from types import ModuleType, TracebackType
from typing import Self, TypeVar

from gateway.clock import from_us, to_us
from gateway.durable import history as h
from gateway.durable.app import KIND, Blueprint
from gateway.durable.client import DurableOrchestrationClient
from gateway.durable.codec import Json, unpack
from gateway.durable.engine import Engine
from gateway.durable.errors import EngineStoppedError, EntityOperationError
from gateway.durable.identity import EntityId, name_of
from gateway.durable.instances import TERMINAL, Orchestration, OrchestrationRuntimeStatus
from gateway.durable.queries import DurableOrchestrationStatus
from gateway.durable.registry import VERSION
from gateway.durable.store import Batch
from gateway.durable.testing.clock import DEFAULT_START, VirtualClock
from gateway.durable.testing.errors import Ended, Endless, Stalled
from gateway.durable.testing.process import Process
from gateway.durable.testing.store import MemoryStore
from gateway.durable.testing.stubs import BenchRegistry, Call, Fails, Stub
from gateway.durable.testing.transcript import transcript
from gateway.durable.testing.waiting import waits_for

T = TypeVar("T")
Part = ModuleType | Blueprint | Callable[..., object]
Act = Callable[[DurableOrchestrationClient], Awaitable[T]]

PATIENCE_S = 30.0
MAX_JUMPS = 10_000


class Workbench:
    """See above.

    parts: modules, apps, marked functions and classes, or orchestrators (see ``add``). start: engine time at the beginning.
    power_fails_before, power_fails_after: the number of the commit that the power fails right before or after (see
    MemoryStore.lose_power); the bench then goes on by itself. power_fails_times: how often, in a row: each process after
    the first loses its power at its first commit.
    patience_s: real seconds that activities may take between two moves of the clock.
    """

    def __init__(
        self,
        *parts: Part,
        start: datetime = DEFAULT_START,
        power_fails_before: int | None = None,
        power_fails_after: int | None = None,
        power_fails_times: int = 1,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.clock = VirtualClock(start)
        self.registry = BenchRegistry(self.clock)
        self.store = MemoryStore()
        self.crashes = 0
        self._fails_before, self._fails_after = power_fails_before, power_fails_after
        self._failures_left = power_fails_times
        self._plan_failure(0)
        self._patience_s = patience_s
        self._process: Process | None = None
        self._starts = 0
        for part in parts:
            self.add(part)

    async def __aenter__(self) -> Self:
        await self._running()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # What there is

    def add(self, part: Part, name: str | None = None) -> None:
        """Register a module (all that it offers, as the daemon does), an app or blueprint, or one function or class: as
        what its mark says, else as an orchestrator. For options (time-outs, state types) use ``registry``.

        Errors: AlreadyExistsError.
        """
        if isinstance(part, ModuleType):
            self.registry.add_module(part)
            return
        if isinstance(part, Blueprint):
            part.add_to(self.registry)
            return
        match getattr(part, KIND, None):
            case "activity":
                self.registry.activity(part, name)
            case "entity":
                self.registry.entity(part, name)
            case _:
                self.registry.orchestrator(part, name, getattr(part, VERSION, ""))

    def stub(
        self,
        name: str | Callable[..., object],
        result: Json = None,
        *,
        fails: Fails = 0,
        times: int | None = None,
        takes: timedelta | None = None,
        hangs: bool = False,
    ) -> Stub:
        """Answer an activity's calls in its place; what they were is in ``calls`` of what this gives.

        result: the answer; a function of (), (input) or (input, context) that gives it; an exception to raise. fails: the
        first so many calls fail, or fail with these exceptions, one after the other; an exception: all of them. times: it
        answers so many calls, then the next stub of this name does; one call too many fails the test. takes: engine time
        until the answer. hangs: it never answers (an activity's own time-out ends it by the clock).
        """
        return self.registry.add_stub(Stub(name_of(name), result, fails, times, takes, hangs))

    @property
    def engine(self) -> Engine:
        """The engine of the present process."""
        assert self._process is not None, "nothing runs yet: use the bench with `async with`, or start something"
        return self._process.engine

    @property
    def client(self) -> DurableOrchestrationClient:
        """Its client, for all that the bench has no verb for; see ``tell``, which outlives a crash."""
        return self.engine.client

    # Verbs

    async def start(
        self,
        orchestrator: str | Callable[..., object],
        input_: Json = None,
        instance_id: str | None = None,
        version: str | None = None,
    ) -> str:
        """Start an orchestration; its id is ``Name-1`` (2, 3, …) unless given. A function that is not registered is.

        Errors: those of ``start_new``.
        """
        name = name_of(orchestrator)
        if callable(orchestrator) and name not in self.registry.names()["orchestrators"]:
            self.add(orchestrator)
        if instance_id is None:
            self._starts += 1
            instance_id = f"{name}-{self._starts}"
        chosen = instance_id
        await self.tell(lambda client: client.start_new(name, chosen, input_, version))
        return chosen

    async def raise_event(self, instance_id: str, name: str, data: Json = None, raised_by: str = "") -> None:
        """Send an external event.

        Errors: those of the client.
        """
        await self.tell(lambda client: client.raise_event(instance_id, name, data, raised_by))

    async def signal_entity(
        self, entity_id: EntityId, operation: str, input_: Json = None, signal_time: datetime | None = None
    ) -> None:
        """Tell an entity something, now or at a time.

        Errors: those of the client.
        """
        await self.tell(lambda client: client.signal_entity(entity_id, operation, input_, signal_time))

    async def tell(self, act: Act[T]) -> T | None:
        """Let the client act: ``await bench.tell(lambda client: client.suspend(drill, "tea"))``. If the power fails
        meanwhile it is done again, unless it is on disk already; the answer is then None.

        Errors: those of the client.
        """
        process = await self._running()
        done, answer = await process.tell(act)
        await self.settle()
        return answer if done else await self.tell(act)

    async def call_entity(self, entity_id: EntityId, operation: str, input_: Json = None) -> Json:
        """Ask an entity and wait for its answer, however long that takes by the clock. A question that a crash took back is
        asked again.

        Errors: EntityOperationError, Stalled, Endless, and those of the client.
        """
        process = await self._running()
        before = len(self.store.records)
        asking = asyncio.ensure_future(process.engine.client.call_entity(entity_id, operation, input_))
        try:
            await self._jump_until(lambda: asking.done(), lambda: f"{entity_id} never answers to {operation!r}")
            return await asking
        except EngineStoppedError:
            if process is self._process:
                raise
        finally:
            asking.cancel()
        answer = process.answer_on_disk(str(entity_id), before)
        if answer is None:
            return await self.call_entity(entity_id, operation, input_)
        if isinstance(answer, h.EntityOperationFailed):
            raise EntityOperationError(f"{operation} on {entity_id} failed: {answer.details}", answer.details)
        return unpack(answer.result)

    async def entity_state(self, entity_id: EntityId) -> Json:
        """The state of an entity, None when it has none."""
        await self._running()
        return (await self.client.read_entity_state(entity_id)).entity_state

    async def status(self, instance_id: str) -> DurableOrchestrationStatus:
        """The status of an orchestration as it stands.

        Errors: NotFoundError.
        """
        await self._running()
        return await self.client.get_status(instance_id)

    # Time

    async def settle(self) -> None:
        """Return when nothing happens any more at this time.

        Errors: Stalled, UnexpectedCall; EngineStoppedError when the store fails otherwise than by a loss of power.
        """
        process = await self._running()
        await process.rest()
        if process.power_lost:
            await self._start_again(list(self.store.batches))
            await self.settle()

    async def advance(self, span: timedelta) -> None:
        """Let this much time go by; what comes due meanwhile happens at its time."""
        await self.settle()
        until_us = to_us(self.clock.now + span)
        while (due_us := (await self._running()).next_us) is not None and due_us <= until_us:
            await self._go_to(due_us)
        await self._go_to(until_us)

    async def run(self, orchestrator: str | Callable[..., object], input_: Json = None) -> Json:
        """Start an orchestration and jump from timer to timer until it has completed; its output.

        Errors: Ended when it fails or is terminated, Stalled, Endless.
        """
        return await self.output(await self.start(orchestrator, input_))

    async def output(self, instance_id: str) -> Json:
        """As ``finish``, and its output.

        Errors: Ended when it fails or is terminated, Stalled, Endless, NotFoundError.
        """
        status = await self.finish(instance_id)
        if status.runtime_status is not OrchestrationRuntimeStatus.Completed:
            raise Ended(f"{instance_id} has {status.runtime_status.lower()}: {status.failure}", status.failure)
        return status.output

    async def finish(self, instance_id: str) -> DurableOrchestrationStatus:
        """Jump from timer to timer until an orchestration has ended, however; its status then.

        Errors: Stalled when nothing can ever happen any more, Endless, NotFoundError.
        """
        await self.status(instance_id)

        def ended() -> bool:
            row = self.store.rows.get(instance_id)
            return row is not None and row.status in TERMINAL

        await self._jump_until(ended, lambda: f"{instance_id} never ends: it {self._why(instance_id)}")
        return await self.status(instance_id)

    async def _jump_until(self, reached: Callable[[], bool], otherwise: Callable[[], str]) -> None:
        await self.settle()
        for _ in range(MAX_JUMPS):
            if reached():
                return
            due_us = (await self._running()).next_us
            if due_us is None:
                told = f"{otherwise()}; no timer runs, and no activity that will end"
                raise Stalled(f"{told}\n{self._tail()}")
            await self._go_to(due_us)
        raise Endless(f"{MAX_JUMPS} timers later, {otherwise()}; see advance() for what never ends\n{self._tail()}")

    async def _go_to(self, time_us: int) -> None:
        (await self._running()).go_to(time_us)
        await self.settle()

    # Power

    async def crash(self, after: int | None = None, downtime: timedelta = timedelta(0)) -> None:
        """The power fails now, and a new engine goes on with what is on disk.

        after: as if it had failed right after that many commits; the clock goes back to that time, and a stub that had
        answered a call then answers it in the same way. downtime: how long nothing runs.
        """
        await self._running()
        batches = self.store.batches
        if after is not None:
            if not 0 <= after <= len(batches):
                raise ValueError(f"there were {len(batches)} commits; after={after}")
            batches = batches[:after]
            last_us = max((batch.time_us for batch in batches), default=0)
            self.registry.clock = self.clock = VirtualClock(from_us(last_us) if last_us else self.clock.now)
        self.clock.go_on(downtime)
        await self._start_again(list(batches))
        if after is not None:
            self.registry.repeat(self.registry.called_keys())
        await self.settle()

    async def stop(self) -> None:
        """Stop the engine; what still waits is given up."""
        if self._process is not None:
            await self._process.end()
            self._process = None

    async def _running(self) -> Process:
        if self._process is None:
            await self._begin()
        assert self._process is not None
        return self._process

    async def _begin(self) -> None:
        self._process = Process(self.store, self.registry, self.clock, self._patience_s)
        await self._process.begin()

    async def _start_again(self, batches: list[Batch]) -> None:
        assert self._process is not None
        self._failures_left -= self._process.power_lost
        await self._process.kill()
        self.crashes += 1
        self.store = MemoryStore.after(batches)
        self._plan_failure(len(batches))
        await self._begin()

    def _plan_failure(self, commits: int) -> None:
        """Let the present process, which begins with so many commits, lose its power at its time."""
        if self._failures_left > 0 and self._fails_before is not None:
            self.store.lose_power(before=max(self._fails_before, commits + 1))
        elif self._failures_left > 0 and self._fails_after is not None:
            self.store.lose_power(after=max(self._fails_after, commits + 1))

    # What happened

    @property
    def calls(self) -> list[Call]:
        """All calls of activities in order, repetitions after a crash too."""
        return self.registry.calls

    @property
    def called(self) -> list[tuple[str, Json]]:
        """Name and input of all calls of activities in order, without repetitions after a crash."""
        return [(call.name, call.input) for call in self.calls if not call.again]

    @property
    def story(self) -> list[str]:
        """What the journal tells, a line for each thing that happened."""
        return list(transcript(self.store.records))

    def _tail(self, lines: int = 20) -> str:
        return "\n".join(f"    {line}" for line in self.story[-lines:])

    def _why(self, instance_id: str) -> str:
        instance = self.engine.instances.get(instance_id)
        if not isinstance(instance, Orchestration):
            return "is unknown"
        return waits_for(instance, self.registry, self.store.records)
