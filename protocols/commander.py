"""Commands of one device, whatever it speaks: check, write once, watch.

A request goes QUEUED → CHECKED → WRITTEN → done, and its way is one loop:

1. All requests that are queued share one read of their positions and local switches, made after they were queued.
   Already there: DONE. Local, moving, or both contacts made: REFUSED. Not readable: NOT_SENT.
2. The rest are written one by one, each once. Whatever scan was the last, its word on position and local counts; is it
   older than ``CHECK_VALID_S``, or of a connection that is gone, the check is made again first. Whether the command may
   leave is asked once more when the line is free for it. An exception from the device: REFUSED. No valid answer: nobody
   knows, so watch as well.
3. All that are written share readback scans, ``READBACK_S`` apart, until the position is there (DONE) or a scan that
   began after the travel time shows that it isn't: FAILED if the device had accepted the command, else UNKNOWN. If
   nothing of good quality could be read by then: UNKNOWN. The operation counters of those that got there are read
   before they are told; that changes no verdict, whatever comes of it.

What must stay true: a frame leaves at most once for a request and only before its deadline; one command at a time runs
for a breaker; every request ends, also when the driver is stopped. On a crash all of this is forgotten: who asked has
the intent on record and resolves it by reading.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

from protocols.base import CommandOutcome, MonotonicClock, Outcome, Position, Quality
from protocols.errors import Expired, FieldError, NotSent
from protocols.image import BreakerCell, DeviceImage
from protocols.link import Connection, Link, Priority, end, spawn

MAX_QUEUED = 1000
"""Requests of one device that may wait; one more is NOT_SENT."""

CHECK_VALID_S = 1.0
"""So old may the reading of position and local be when a command is written, seconds."""

READBACK_S = 0.15
"""Pause between two readback scans, seconds."""

READBACK_LATEST_S = 1.0
"""A readback goes before waiting writes when the last one is this old: a long row of writes must not starve it."""


class BreakerLike(Protocol):
    """What is read of a feeder here. travel_s: real seconds until the end position must be read back."""

    @property
    def name(self) -> str: ...
    @property
    def travel_s(self) -> float: ...


F = TypeVar("F", bound=BreakerLike)
C = TypeVar("C", bound=Connection)


class Served(Protocol[C]):
    """What is asked of a device here."""

    link: Link[C]
    image: DeviceImage

    def fresh_since(self, feeder: str, moment: float) -> bool:
        """Position and local of this feeder were asked for at or after this moment, and came."""

    def counter_since(self, feeder: str, moment: float) -> bool:
        """The operation counter of this feeder was asked for at or after this moment, and came."""

    async def scan_counters(self, feeders: Iterable[str], priority: Priority) -> None:
        """Read the operation counters of these feeders into the image; what fails shows in ``counter_since``."""

    def fault(self, feeder: str) -> str:
        """Why position and local could not be read, in words."""


class Answer(enum.Enum):
    """What an answer that is no plain yes says of a command that left."""

    REFUSED = "refused"
    ACCEPTED = "accepted"
    DOUBT = "doubt"


class Stage(enum.Enum):
    """How far a request has come."""

    QUEUED = "queued"
    CHECKED = "checked"
    WRITTEN = "written"


class CheckAgain(NotSent):
    """The connection on which the command was checked broke while it waited for the line."""


class Request(Generic[F]):
    """One command on its way. deadline: monotonic time by which the frame must have left."""

    __slots__ = (
        "accepted",
        "deadline",
        "feeder",
        "future",
        "remark",
        "stage",
        "target",
        "timer",
        "watch_until",
    )

    def __init__(self, feeder: F, target: Position, deadline: float) -> None:
        self.feeder = feeder
        self.target = target
        self.deadline = deadline
        self.future: asyncio.Future[CommandOutcome] = asyncio.get_running_loop().create_future()
        self.timer: asyncio.TimerHandle | None = None
        self.stage = Stage.QUEUED
        self.accepted = False
        self.remark = ""
        self.watch_until = 0.0


class Commander(ABC, Generic[F, C]):
    """The commands of one device. allowed: whether writes may leave at all, asked again right before each."""

    def __init__(self, name: str, device: Served[C], monotonic: MonotonicClock, allowed: Callable[[], bool]) -> None:
        self._name = name
        self._device = device
        self._monotonic = monotonic
        self._allowed = allowed
        self._running: dict[str, Request[F]] = {}
        self._queue: deque[Request[F]] = deque()
        self._checked: deque[Request[F]] = deque()
        self._watched: list[Request[F]] = []
        self._next_readback = 0.0
        self._last_readback = 0.0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @abstractmethod
    async def _scan(self, feeders: Iterable[str], priority: Priority) -> None:
        """Read position and local of these feeders into the image; what fails shows in ``fresh_since``."""

    @abstractmethod
    async def _send(self, connection: C, request: Request[F]) -> None:
        """Let the command leave, once, with the stage of the request at WRITTEN from then on. Raises FieldError."""

    @abstractmethod
    def _answer(self, error: FieldError) -> Answer:
        """What the failure of a command that left says of it."""

    def start(self) -> None:
        """Start the loop."""
        self._task = spawn(self._run(), f"commands {self._name}")

    async def stop(self) -> None:
        """End every request: NOT_SENT if no frame left, else UNKNOWN."""
        if self._task is not None:
            await end([self._task])
            self._task = None
        for request in list(self._running.values()):
            outcome = Outcome.UNKNOWN if request.stage is Stage.WRITTEN else Outcome.NOT_SENT
            self._end(request, outcome, "the driver was stopped")

    async def operate(self, feeder: F, target: Position, timeout_s: float) -> CommandOutcome:
        """See ``Driver.operate``. If the caller is cancelled, what has not left is withdrawn, else it is watched on."""
        position = self._position(feeder.name)
        if not self._allowed():
            return CommandOutcome(Outcome.REFUSED, position, "monitor only: no write leaves", False)
        if feeder.name in self._running:
            return CommandOutcome(Outcome.REFUSED, position, "another command of this breaker is running", False)
        if self._task is None:
            return CommandOutcome(Outcome.NOT_SENT, position, "the driver is not running", False)
        if len(self._queue) + len(self._checked) >= MAX_QUEUED:
            return CommandOutcome(Outcome.NOT_SENT, position, "queue full", False)
        request = Request(feeder, target, self._monotonic() + timeout_s)
        request.timer = asyncio.get_running_loop().call_later(timeout_s, self._expire, request)
        self._running[feeder.name] = request
        self._queue.append(request)
        self._wake.set()
        try:
            return await asyncio.shield(request.future)
        except asyncio.CancelledError:
            if request.stage is not Stage.WRITTEN:
                self._end(request, Outcome.NOT_SENT, "withdrawn")
            raise

    async def _run(self) -> None:
        while True:
            now = self._monotonic()
            readback_due = bool(self._watched) and now >= self._next_readback
            if readback_due and (not (self._queue or self._checked) or now - self._last_readback > READBACK_LATEST_S):
                await self._read_back()
            elif self._queue:
                await self._check()
            elif self._checked:
                await self._write(self._checked.popleft())
            else:
                self._wake.clear()
                pause = self._next_readback - now if self._watched else None
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wake.wait()

    async def _check(self) -> None:
        """Read position and local for all that is queued, and decide each."""
        batch = [request for request in self._queue if not request.future.done()]
        self._queue.clear()
        if not batch:
            return
        started = self._monotonic()
        await self._scan([each.feeder.name for each in batch], Priority.OPERATE)
        for request in batch:
            name = request.feeder.name
            if request.future.done():
                continue
            if not self._device.fresh_since(name, started):
                self._end(request, Outcome.NOT_SENT, f"position and local can't be read: {self._device.fault(name)}")
            elif self._permitted(request):
                request.stage = Stage.CHECKED
                self._checked.append(request)

    def _permitted(self, request: Request[F]) -> bool:
        """True if the command may leave as far as the process image knows; else the request ends here."""
        image = self._device.image
        cell = image.breakers[request.feeder.name]
        quality, position = cell.quality(self._monotonic(), image.link_up), cell.position()
        if not self._allowed():
            self._end(request, Outcome.REFUSED, "monitor only: no write leaves")
        elif quality is not Quality.GOOD:
            self._end(request, Outcome.NOT_SENT, f"the quality of the position is {quality}")
        elif position is request.target:
            self._end(request, Outcome.DONE, f"already {request.target}")
        elif cell.local():
            self._end(request, Outcome.REFUSED, "the local/remote switch stands at local")
        elif position not in (Position.OPEN, Position.CLOSED):
            self._end(request, Outcome.REFUSED, f"never on an uncertain state: the position is {position}")
        else:
            return True
        return False

    async def _write(self, request: Request[F]) -> None:
        """Let the frame leave, once."""
        if request.future.done():
            return
        if not self._device.fresh_since(request.feeder.name, self._monotonic() - CHECK_VALID_S):
            self._check_again(request)
            return
        if not self._permitted(request):  # a scan since the check may have seen something else
            return
        epoch = self._device.link.epoch

        async def write(connection: C) -> None:
            if request.future.done():
                raise Expired("it was ended before the frame could leave")
            # It may have waited for the line: what was allowed when it was queued counts for nothing now.
            if self._device.link.epoch != epoch:
                raise CheckAgain("the connection on which it was checked is gone")
            if not self._permitted(request):
                raise Expired("it was not permitted any more when the line was free")
            await self._send(connection, request)

        try:
            await self._device.link.submit(Priority.OPERATE, write, request.deadline)
        except CheckAgain:
            self._check_again(request)
        except FieldError as error:
            self._not_confirmed(request, error)
        else:
            self._watch(request, accepted=True, remark="")

    def _check_again(self, request: Request[F]) -> None:
        """Back to the check; what was checked with it is as old, so all of it shares the next one."""
        for again in (request, *self._checked):
            again.stage = Stage.QUEUED
            self._queue.append(again)
        self._checked.clear()

    def _not_confirmed(self, request: Request[F], error: FieldError) -> None:
        """The write has no plain answer: known refusals end it, the unknown is watched."""
        answer = self._answer(error) if error.sent else None
        if answer is Answer.REFUSED:
            self._end(request, Outcome.REFUSED, f"the device refused: {error}")
        elif answer is None or request.stage is not Stage.WRITTEN:  # at most a selection left: nothing moves
            self._end(request, Outcome.NOT_SENT, str(error))
        else:
            self._watch(request, accepted=answer is Answer.ACCEPTED, remark=str(error))

    def _watch(self, request: Request[F], *, accepted: bool, remark: str) -> None:
        now = self._monotonic()
        request.accepted = accepted
        request.remark = remark
        request.watch_until = now + request.feeder.travel_s
        if not self._watched:
            self._last_readback = now
            self._next_readback = now + READBACK_S
        self._watched.append(request)

    async def _read_back(self) -> None:
        """One scan for all that is written, and the verdict on each."""
        started = self._last_readback = self._monotonic()
        await self._scan([request.feeder.name for request in self._watched], Priority.READBACK)
        now, image = self._monotonic(), self._device.image
        done: dict[str, tuple[Request[F], CommandOutcome]] = {}
        for request in self._watched:
            cell = image.breakers[request.feeder.name]
            outcome = self._judge(request, cell, started, now)
            # A counter that has never been read is not asked for: it would only delay the news.
            if outcome is not None and outcome.outcome is Outcome.DONE and cell.op_count() is not None:
                done[cell.name] = (request, outcome)
            elif outcome is not None:
                self._finish(request, outcome)
        try:
            if done:
                await self._device.scan_counters(done, Priority.READBACK)
        finally:  # also when the driver is stopped meanwhile: they are done, whatever their counters say
            for name, (request, outcome) in done.items():
                count = image.breakers[name].op_count() if self._device.counter_since(name, started) else None
                self._finish(request, replace(outcome, op_count=count))
        self._watched = [request for request in self._watched if not request.future.done()]
        self._next_readback = self._monotonic() + READBACK_S

    def _judge(self, request: Request[F], cell: BreakerCell, started: float, now: float) -> CommandOutcome | None:
        """The end of this request, if it is known or its time is over."""
        position, target = cell.position(), request.target
        if position is not target and now < request.watch_until:
            return None
        # A position that the device itself doubts shows neither that it was reached nor that it wasn't.
        good = cell.quality(now, self._device.image.link_up) is Quality.GOOD
        seen = good and self._device.fresh_since(request.feeder.name, started)
        if seen and position is target:
            detail = f"read back {target}"
            if not request.accepted:
                detail += f"; resolved by readback, the write itself had no valid answer ({request.remark})"
            return CommandOutcome(Outcome.DONE, position, detail, True)
        travel = f"{request.feeder.travel_s:g} s"
        if seen and started >= request.watch_until:
            if request.accepted:
                detail = f"accepted, but after {travel} the position is {position}"
                return CommandOutcome(Outcome.FAILED, position, detail, True)
            detail = f"no valid answer to the write ({request.remark}); after {travel} the position is {position}"
            return CommandOutcome(Outcome.UNKNOWN, position, detail, True)
        if not seen and now >= request.watch_until:
            reason = self._device.fault(request.feeder.name)
            detail = f"written, but for {travel} the position could not be read: {reason}"
            return CommandOutcome(Outcome.UNKNOWN, position, detail, True)
        return None

    def _expire(self, request: Request[F]) -> None:
        if request.stage is not Stage.WRITTEN:
            self._end(request, Outcome.NOT_SENT, "the deadline passed before the frame could leave")

    def _end(self, request: Request[F], outcome: Outcome, detail: str) -> None:
        """End a request with the position as it was read last."""
        left = request.stage is Stage.WRITTEN and outcome is not Outcome.NOT_SENT
        self._finish(request, CommandOutcome(outcome, self._position(request.feeder.name), detail, left))

    def _finish(self, request: Request[F], outcome: CommandOutcome) -> None:
        """The one place where a request ends."""
        if request.future.done():
            return
        if request.timer is not None:
            request.timer.cancel()
        self._running.pop(request.feeder.name, None)
        request.future.set_result(outcome)

    def _position(self, feeder: str) -> Position:
        return self._device.image.breakers[feeder].position()
