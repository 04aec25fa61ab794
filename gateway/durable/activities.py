"""Running activities: bounded, with time-outs, on the loop (``async def``) or in a thread (``def``).

An activity is started only once its start is on disk. What must stay true: every start yields exactly one report to the
engine, or none when this process ends first; the journal then still holds the start, and the engine decides at recovery.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, cast

import msgspec

from gateway.durable.codec import NULL, Json, Raw, pack, unpack
from gateway.durable.errors import DurableError, FailureDetails, NotFoundError, describe, traceback_of, words_of
from gateway.durable.registry import Activity, Registry

if TYPE_CHECKING:
    from gateway.durable.client import DurableOrchestrationClient

MAX_RUNNING = 16_384
"""Room for a command of every breaker of a large station at once, and for those who wait for them."""
MAX_THREADS = 32

INTERRUPTED = "ActivityInterrupted"


class PendingActivity(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A started activity without a result, as journaled. on_result: for entities, the operation that takes it."""

    name: str
    input: Raw = NULL
    attempt: int = 1
    operation_id: str = ""
    on_result: str = ""
    context: Raw = NULL


encode_pending = msgspec.json.Encoder().encode
decode_pending = msgspec.json.Decoder(PendingActivity).decode


class ActivityContext(msgspec.Struct, frozen=True):
    """What an activity is told about itself.

    operation_id: the same over retries and restarts. attempt: 1, 2, … as the caller's retries count. timeout_s: real
    seconds that it may take, None for no limit.
    """

    instance_id: str
    name: str
    operation_id: str
    attempt: int
    timeout_s: float | None
    client: DurableOrchestrationClient


class Report(NamedTuple):
    """How one activity ended; failure is None when it ended well."""

    result: Raw
    failure: FailureDetails | None


Key = tuple[str, int]


class ActivityRunner:
    """Runs at most ``max_running`` activities at once; the others wait in order (they are journaled already)."""

    def __init__(
        self,
        registry: Registry,
        client: DurableOrchestrationClient,
        report: Callable[[Key, Report], None],
        max_running: int = MAX_RUNNING,
    ) -> None:
        self._registry = registry
        self._client = client
        self._report = report
        self._max_running = max_running
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._queue: dict[Key, PendingActivity] = {}
        self._threads: ThreadPoolExecutor | None = None
        self._stopping = False

    @property
    def running(self) -> int:
        """How many run now."""
        return len(self._running)

    @property
    def queued(self) -> int:
        """How many wait for a place."""
        return len(self._queue)

    def start(self, key: Key, pending: PendingActivity) -> None:
        """Run it now or as soon as there is a place."""
        if self._stopping:
            return
        if len(self._running) >= self._max_running:
            self._queue[key] = pending
            return
        task = asyncio.get_running_loop().create_task(self._run(key, pending))
        self._running[key] = task
        task.add_done_callback(lambda _: self._ended(key))

    def cancel(self, key: Key) -> None:
        """End it; it reports nothing."""
        task = self._running.get(key)
        if task is not None:
            task.cancel()
        else:
            self._queue.pop(key, None)

    def halt(self) -> None:
        """Start nothing more; what waits for a place stays in the journal."""
        self._stopping = True
        self._queue.clear()

    async def drain(self, timeout_s: float) -> int:
        """Start nothing more, wait for what runs, then cancel the rest; how many were cut off."""
        self.halt()
        tasks = list(self._running.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=timeout_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=1.0)
        else:
            late = set()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        return len(late)

    def _ended(self, key: Key) -> None:
        self._running.pop(key, None)
        while self._queue and len(self._running) < self._max_running:
            following = next(iter(self._queue))
            self.start(following, self._queue.pop(following))

    async def _run(self, key: Key, pending: PendingActivity) -> None:
        try:
            activity = self._registry.get_activity(pending.name)
        except NotFoundError as error:
            self._report(key, Report(NULL, describe(error)))
            return
        context = ActivityContext(
            key[0], pending.name, pending.operation_id, pending.attempt, activity.timeout_s, self._client
        )
        try:
            if activity.timeout_s is None:
                value = await self._call(activity, pending.input, context)
            else:
                async with asyncio.timeout(activity.timeout_s):
                    value = await self._call(activity, pending.input, context)
            report = Report(pack(value, lambda: f"the result of activity {pending.name}"), None)
        except TimeoutError as error:
            message = words_of(error) or f"the activity {pending.name} took longer than {activity.timeout_s} s"
            report = Report(NULL, describe(TimeoutError(message)))
        except DurableError as error:
            report = Report(NULL, describe(error))
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Not this activity was cancelled, but something that it waited for.
            report = Report(NULL, describe(error))
        except KeyboardInterrupt:
            raise
        except GeneratorExit as error:
            if not self._is_running(key):
                raise  # nobody raised it: the loop has gone, and with it this coroutine
            report = Report(NULL, describe(error, traceback_of(error)))
        except BaseException as error:  # noqa: BLE001 - whatever the author's code raises is the activity's outcome
            report = Report(NULL, describe(error, traceback_of(error)))
        self._report(key, report)

    def _is_running(self, key: Key) -> bool:
        try:
            return asyncio.current_task() is self._running.get(key)
        except RuntimeError:
            return False

    async def _call(self, activity: Activity, given: Raw, context: ActivityContext) -> Json:
        arguments = (unpack(given, lambda: f"the input of activity {activity.name}"), context)[: activity.takes]
        if activity.on_loop:
            return await cast(Awaitable[Json], activity.function(*arguments))
        if self._threads is None:
            self._threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="activity")
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, partial(_in_thread, activity.function, arguments)
        )


def _in_thread(function: Callable[..., Json], arguments: tuple[Json, ...]) -> Json:
    try:
        return function(*arguments)
    except StopIteration as error:  # a future can't hold it: whoever awaits would wait for ever
        raise RuntimeError(f"the activity raised StopIteration: {error}") from error
