"""Breakers: travel time, auxiliary contacts, local/remote, own counters, and a log of every command they were given.

A breaker rests closed or open, or travels. On a command that changes its position it starts to travel at once: both
auxiliary contacts (52a, 52b) part, ``operations`` and the operation counter go up by one, and after ``travel_s`` real
seconds the contact of the end position makes. The main contacts switch at the end of the travel.

=================  ======================================  =====================================================
state              open command                            close command
=================  ======================================  =====================================================
closed             travels to open                         counted, nothing moves
open               counted, nothing moves                  travels to closed
travels to open    counted, nothing more                   counted, lost (a breaker does not close while it trips)
travels to closed  counted, opens right after (trip-free)  counted, nothing more
=================  ======================================  =====================================================

What must stay true: each write that a breaker took is counted exactly once, redundant or not; a refused one moves and
counts nothing but ``refused``. The counters are the witness against which a gateway's journal is checked, so nothing
but ``reset`` lowers them. All of it is in memory.

Times are seconds of a monotonic clock, given by the caller.
"""

from __future__ import annotations

import enum
import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from simulators.modbus import DEVICE_FAILURE, DROP_REPLY, GARBLE_REPLY, ILLEGAL_VALUE

LOG_LIMIT = 200_000


class BreakerFault(enum.StrEnum):
    """What can be wrong with one breaker.

    STUCK takes commands and never moves. SLOW travels for ``value`` seconds. REFUSE answers commands with exception
    ``value`` (default 3). LOCAL sets the local/remote switch to local: commands get exception ``value`` (default 4), or
    are taken and ignored when value is 0. LOST_REPLY acts and does not answer. GARBLED_REPLY acts and echoes another
    value. BAD_FEEDBACK_11 and BAD_FEEDBACK_00 show both or no contact. WELDED reads open and still carries load.

    On OPC UA a refusal is a status code: ``value`` where it is one, else BadInvalidState. GARBLED_REPLY acts and answers
    with the status ``value`` (BadUnexpectedError). BAD_STATUS, there alone, shows the position with the status
    ``value`` (BadSensorFailure) and no value.
    """

    STUCK = "stuck"
    SLOW = "slow"
    REFUSE = "refuse"
    LOCAL = "local"
    LOST_REPLY = "lost_reply"
    GARBLED_REPLY = "garbled_reply"
    BAD_FEEDBACK_11 = "bad_feedback_11"
    BAD_FEEDBACK_00 = "bad_feedback_00"
    WELDED = "welded"
    BAD_STATUS = "bad_status"


class Verdict(enum.StrEnum):
    """What became of one command."""

    MOVED = "moved"
    REDUNDANT = "redundant"
    LATCHED = "latched"
    STUCK = "stuck"
    IGNORED = "ignored"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class CommandRecord:
    """One command as the breaker received it. wall_s: Unix seconds. sim_us: simulated microseconds since 1970."""

    number: int
    wall_s: float
    sim_us: int
    feeder: str
    command: str
    verdict: Verdict


@dataclass(slots=True)
class Breaker:
    """One breaker. target is the position that it travels to (True is closed), None at rest."""

    index: int
    name: str
    travel_s: float
    closed: bool = True
    target: bool | None = None
    trip_latched: bool = False
    local: bool = False
    open_commands: int = 0
    close_commands: int = 0
    refused: int = 0
    operations: int = 0
    op_count: int = 0
    movement: int = 0
    faults: dict[BreakerFault, float | None] = field(default_factory=dict)

    def contacts(self) -> tuple[bool, bool]:
        """The auxiliary contacts (52a made when closed, 52b made when open) as the device shows them."""
        if BreakerFault.BAD_FEEDBACK_11 in self.faults:
            return True, True
        if BreakerFault.BAD_FEEDBACK_00 in self.faults or self.target is not None:
            return False, False
        return self.closed, not self.closed

    def position(self) -> str:
        """The true position, whatever the contacts show."""
        return "intermediate" if self.target is not None else "closed" if self.closed else "open"

    def counters(self) -> dict[str, int]:
        """Own counters since the start or the last reset."""
        return {
            "open_commands": self.open_commands,
            "close_commands": self.close_commands,
            "refused": self.refused,
            "operations": self.operations,
            "op_count": self.op_count,
        }


class Switchgear:
    """All breakers of the plant. energised is one byte a feeder (1: load is connected), shared with the physics.

    changed: called after each change of a breaker's contacts, local bit or counter. stamp: gives (Unix seconds,
    simulated microseconds) for the log.
    """

    def __init__(
        self, breakers: list[Breaker], changed: Callable[[Breaker], None], stamp: Callable[[], tuple[float, int]]
    ) -> None:
        self.breakers = breakers
        self.by_name = {breaker.name: breaker for breaker in breakers}
        self.energised = bytearray(1 if breaker.closed else 0 for breaker in breakers)
        self.log: deque[CommandRecord] = deque(maxlen=LOG_LIMIT)
        self.commands_seen = 0
        self._changed = changed
        self._stamp = stamp
        self._arrivals: list[tuple[float, int, int]] = []

    def refusal(self, breaker: Breaker) -> int:
        """The exception code that a command would get now, 0 if it would be taken."""
        faults = breaker.faults
        if not faults and not breaker.local:
            return 0
        if BreakerFault.REFUSE in faults:
            code = faults[BreakerFault.REFUSE]
            return ILLEGAL_VALUE if code is None else int(code)
        if breaker.local:
            code = faults.get(BreakerFault.LOCAL)
            return DEVICE_FAILURE if code is None else int(code)
        return 0

    def refuse(self, breaker: Breaker, close: bool) -> None:
        """Count and log a command that was refused."""
        breaker.refused += 1
        self._record(breaker, close, Verdict.REFUSED)

    def command(self, breaker: Breaker, close: bool, now: float) -> int:
        """Carry out one command that is not refused; returns 0, DROP_REPLY or GARBLE_REPLY."""
        if close:
            breaker.close_commands += 1
        else:
            breaker.open_commands += 1
        self._record(breaker, close, self._act(breaker, close, now))
        if BreakerFault.LOST_REPLY in breaker.faults:
            return DROP_REPLY
        return GARBLE_REPLY if BreakerFault.GARBLED_REPLY in breaker.faults else 0

    def _act(self, breaker: Breaker, close: bool, now: float) -> Verdict:
        if breaker.local:
            return Verdict.IGNORED
        if breaker.target is not None:
            if breaker.target and not close:
                breaker.trip_latched = True
                return Verdict.LATCHED
            return Verdict.REDUNDANT if breaker.target == close else Verdict.IGNORED
        if breaker.closed == close:
            return Verdict.REDUNDANT
        if BreakerFault.STUCK in breaker.faults:
            return Verdict.STUCK
        self._start(breaker, close, now)
        return Verdict.MOVED

    def _start(self, breaker: Breaker, close: bool, now: float) -> None:
        slow = breaker.faults.get(BreakerFault.SLOW)
        travel_s = breaker.travel_s if slow is None else slow
        breaker.target = close
        breaker.operations += 1
        breaker.op_count = (breaker.op_count + 1) & 0xFFFF
        breaker.movement += 1
        heapq.heappush(self._arrivals, (now + travel_s, breaker.index, breaker.movement))
        self._changed(breaker)

    def trip(self, breaker: Breaker, now: float) -> bool:
        """Open without a command (a protection trip); False if it is not closed at rest."""
        if not breaker.closed or breaker.target is not None:
            return False
        self._start(breaker, False, now)
        return True

    def next_arrival(self) -> float | None:
        """When the next travel ends."""
        return self._arrivals[0][0] if self._arrivals else None

    def advance(self, now: float) -> None:
        """End every travel that is due."""
        arrivals = self._arrivals
        while arrivals and arrivals[0][0] <= now:
            _, index, movement = heapq.heappop(arrivals)
            breaker = self.breakers[index]
            if breaker.movement != movement or breaker.target is None:
                continue
            breaker.closed, breaker.target = breaker.target, None
            self.refresh(breaker)
            if breaker.trip_latched:
                breaker.trip_latched = False
                self._start(breaker, False, now)

    def refresh(self, breaker: Breaker) -> None:
        """Bring load and contacts in line after a change of position or of faults."""
        welded = BreakerFault.WELDED in breaker.faults and self.energised[breaker.index]
        self.energised[breaker.index] = 1 if breaker.closed or welded else 0
        self._changed(breaker)

    def set_fault(self, breaker: Breaker, fault: BreakerFault, value: float | None) -> None:
        """Put a fault on a breaker."""
        breaker.faults[fault] = value
        breaker.local = breaker.local or fault is BreakerFault.LOCAL
        self.refresh(breaker)

    def clear_fault(self, breaker: Breaker, fault: BreakerFault | None) -> None:
        """Take one fault, or all, off a breaker."""
        if fault is None:
            breaker.faults.clear()
        else:
            breaker.faults.pop(fault, None)
        breaker.local = BreakerFault.LOCAL in breaker.faults
        self.refresh(breaker)

    def reset(self) -> None:
        """Everything closed, at rest, without faults; counters at 0, log empty."""
        self._arrivals.clear()
        self.log.clear()
        self.commands_seen = 0
        for breaker in self.breakers:
            breaker.closed, breaker.target, breaker.trip_latched = True, None, False
            breaker.open_commands = breaker.close_commands = breaker.refused = breaker.operations = 0
            self.clear_fault(breaker, None)

    def records_since(self, number: int, limit: int) -> list[CommandRecord]:
        """Records from ``number`` on, oldest first, at most ``limit``; those beyond LOG_LIMIT are gone."""
        first = self.commands_seen - len(self.log)
        start = max(0, number - first)
        return [self.log[i] for i in range(start, min(len(self.log), start + limit))]

    def _record(self, breaker: Breaker, close: bool, verdict: Verdict) -> None:
        wall_s, sim_us = self._stamp()
        command = "close" if close else "open"
        self.log.append(CommandRecord(self.commands_seen, wall_s, sim_us, breaker.name, command, verdict))
        self.commands_seen += 1
