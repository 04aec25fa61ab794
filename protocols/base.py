"""What a field driver is: the seam between the gateway and devices.

A driver reads positions and measurements into a process image and carries out single commands. What must stay true:

* A command is put on the wire at most once for each call of ``operate``; a driver never repeats one.
* A position is known by readback alone. ``Outcome.DONE`` is said only after the device was *read* in the end position.
* Whatever is not certain is said to be not certain: a frame that left without a valid answer is ``Outcome.UNKNOWN``.
* A device that is silent, slow or broken delays no other device.

Times in here are seconds of the monotonic clock of the event loop (``loop.time()``), never the wall clock: field
deadlines are real seconds. What belongs into an audit record carries a wall time given by the caller's clock.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol


class Position(enum.StrEnum):
    """Position of a switching device; four are IEC 61850 ``Dbpos`` (XCBR.Pos), the last means "never read"."""

    INTERMEDIATE = "intermediate"
    OPEN = "open"
    CLOSED = "closed"
    BAD = "bad"
    UNKNOWN = "unknown"

    @classmethod
    def from_contacts(cls, closed_52a: bool, open_52b: bool) -> Position:
        """Position from the auxiliary contacts 52a (made when closed) and 52b (made when open): 00 moves, 11 is bad."""
        if closed_52a and open_52b:
            return cls.BAD
        if closed_52a:
            return cls.CLOSED
        return cls.OPEN if open_52b else cls.INTERMEDIATE


class Quality(enum.StrEnum):
    """Quality of a value: GOOD was read in time, UNCERTAIN is older than its stale-after, BAD could not be read."""

    GOOD = "good"
    UNCERTAIN = "uncertain"
    BAD = "bad"


class Outcome(enum.StrEnum):
    """How one call of ``operate`` ended; what the caller must do differs for each.

    DONE      the end position was read back.
    REFUSED   nothing moves: precondition not met (local, blocked) or the device said no. Known.
    FAILED    the device took the command, and readback shows that the end position was not reached in time.
    UNKNOWN   the frame left (or may have left) and no valid answer or readback came: to be resolved by reading.
    NOT_SENT  no frame left: link down, or the deadline passed before. Known, nothing moves.
    """

    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    UNKNOWN = "unknown"
    NOT_SENT = "not_sent"


@dataclass(frozen=True, slots=True)
class Reading:
    """One measured value.

    value: in the unit of its point, None when never read. read_at: ``loop.time()`` of the reply that carried it.
    """

    value: float | None
    quality: Quality
    read_at: float


@dataclass(frozen=True, slots=True)
class BreakerReading:
    """What one scan says of one breaker.

    local: the local/remote switch stands at local (None: the device does not tell). op_count: the device's own
    operation counter (None: no such point, or not read yet). power_kw: measured load of the feeder, kW.
    read_at: ``loop.time()`` of the reply that carried the position. quality is that of position and local.
    """

    position: Position
    quality: Quality
    local: bool | None
    op_count: int | None
    power_kw: float | None
    read_at: float


@dataclass(frozen=True, slots=True)
class CommandOutcome:
    """The end of one command. detail is a sentence for people; sent tells whether a frame left (or may have left).

    op_count: the device's own operation counter, read after the end position was (None: no such point, or it was not
    read). With it whoever asked knows all that the next scan would tell.
    """

    outcome: Outcome
    position: Position
    detail: str
    sent: bool
    op_count: int | None = None


class LinkState(enum.StrEnum):
    """Health of the link to one device."""

    CONNECTING = "connecting"
    UP = "up"
    SILENT = "silent"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """State of one device's link; since is ``loop.time()`` of the last change, detail says why in words."""

    device: str
    state: LinkState
    detail: str
    since: float


class FieldListener(Protocol):
    """Who hears of changes. Called on the event loop, must not block; one call carries all changes of one scan."""

    def breakers_changed(self, changes: list[tuple[str, BreakerReading]]) -> None:
        """Position, quality, local or operation counter of these feeders' breakers changed (not: every sample)."""

    def link_changed(self, status: LinkStatus) -> None:
        """The link of a device changed its state."""


class Driver(Protocol):
    """All devices of one protocol. Feeders and measurements are named as in the site's point list."""

    async def start(self, listener: FieldListener) -> None:
        """Start the links. Returns at once: connecting goes on in the background and never fails the caller."""

    async def stop(self) -> None:
        """End all links; commands in flight end as UNKNOWN or NOT_SENT."""

    def set_writes_enabled(self, enabled: bool) -> None:
        """Allow or forbid write frames (monitor mode); forbidden until it is called."""

    async def operate(self, feeder: str, target: Position, timeout_s: float) -> CommandOutcome:
        """Drive one breaker to OPEN or CLOSED: read (remote? where is it?), write once, supervise by readback.

        timeout_s: real seconds until the frame must have left; past that it is NOT_SENT. The supervision of the travel
        comes on top (travel_s of the point). An already reached end position is DONE with sent=False.
        Never raises for anything that a device does; raises KeyError for an unknown feeder.
        """

    async def read_breaker(self, feeder: str, timeout_s: float) -> BreakerReading:
        """A fresh readback, ahead of polls. On failure the reading has Quality.BAD and the last known position."""

    def breaker(self, feeder: str) -> BreakerReading:
        """The process image, without I/O; its quality turns UNCERTAIN by age."""

    def measurement(self, name: str) -> Reading:
        """The process image of a measurement, without I/O."""

    def feeders(self) -> Iterable[str]:
        """All feeders that this driver serves."""

    def link_of(self, feeder: str) -> LinkStatus:
        """State of the link that serves this feeder."""

    def links(self) -> list[LinkStatus]:
        """State of every link."""

    async def wait_first_scan(self, timeout_s: float) -> None:
        """Return when each device has been read once or is known not to answer, at the latest after timeout_s."""


MonotonicClock = Callable[[], float]
