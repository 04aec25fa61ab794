"""The field: breakers that count for themselves, behind devices that do what real ones do on a bad day.

The real driver sits above it, down to its transport: ``Wire`` stands in pymodbus's place. What a device does outlives every
process of the gateway: a frame that left arrives, a breaker on its way moves on.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from protocols.base import Position
from protocols.errors import ConnectionLost, DeviceRefused, LinkDown, MalformedReply, ReplyTimeout

COUNTERS_AT = 100
LOAD_AT = 300
ACTS = {
    "obeys": 60.0,
    "slow reply": 5.0,
    "reply lost after": 6.0,
    "reply lost before": 6.0,
    "reply garbled": 2.0,
    "refused": 4.0,
    "refused and obeys": 1.5,
    "stuck": 4.0,
    "moves late": 4.0,
    "lost and late": 3.0,
    "bounces": 1.5,
    "wrong position": 2.0,
}
"""What a breaker does with a frame that tells it to move, while faults are on; weights."""


class World(Protocol):
    """What the field needs of the story."""

    chance: random.Random
    faults: bool

    def now(self) -> float: ...
    def later(self, delay_s: float, work: Callable[[], None]) -> None: ...
    def note(self, kind: str, *what: object) -> None: ...
    def sent(self, breaker: SimBreaker, target: Position) -> None: ...
    def load_kw(self) -> float: ...


@dataclass
class SimBreaker:
    """One breaker. opens, closes: frames that reached it; moves: its own operations, whoever caused them."""

    name: str
    kw: float
    critical: bool
    position: Position = Position.CLOSED
    local: bool = False
    local_since: float = 0.0
    count: int = 0
    modulus: int = 65536
    opens: int = 0
    closes: int = 0
    moves: int = 0
    by: str = ""
    """Who moved it last: frame, hand, itself."""
    opened_at: float = -1.0
    pending: int = 0
    """Number of the movement that is on its way: a later one replaces it."""

    def status(self) -> bytes:
        """One register: 52a, 52b, local."""
        return _STATUS[self.position, self.local]


_CONTACTS = {Position.CLOSED: 1, Position.OPEN: 2, Position.INTERMEDIATE: 0, Position.BAD: 3}
_STATUS = {
    (position, local): (contacts | 4 * local).to_bytes(2, "big")
    for position, contacts in _CONTACTS.items()
    for local in (False, True)
}


@dataclass
class Rtu:
    """One device. state: up, silent (takes frames, says nothing), or down (no connection)."""

    name: str
    world: World
    breakers: list[SimBreaker]
    timeout_s: float
    travel_s: float
    with_load: bool = False
    state: str = "up"
    slow_s: float = 0.0
    wires: list[Wire] = field(default_factory=list)
    acts: Counter[str] = field(default_factory=Counter)

    # What is done to it

    def cut(self, why: str) -> None:
        """Its connections break."""
        wires, self.wires = self.wires, []
        for wire in wires:
            wire.lose(why)

    def restart(self) -> None:
        """It starts again: connections are gone, and the counters with them if they are kept in memory."""
        self.cut("reset by peer")
        if self.world.chance.random() < 0.3:
            self.world.note("device forgets its counters", self.name)
            for breaker in self.breakers:
                breaker.count = 0

    # What it does

    def obey(self, breaker: SimBreaker, target: Position, seconds: float, by: str = "frame") -> None:
        """The breaker will have moved in so many seconds."""
        breaker.pending += 1
        number = breaker.pending

        def arrive() -> None:
            if breaker.pending == number and breaker.position is not target:
                self.move(breaker, target, by)

        if seconds > 0.3 and self.world.chance.random() < 0.3 and breaker.position is not target:
            self.world.later(seconds * 0.5, lambda: self._leave(breaker, number))
        self.world.later(seconds, arrive)

    def _leave(self, breaker: SimBreaker, number: int) -> None:
        if breaker.pending == number:
            breaker.position = Position.INTERMEDIATE

    def move(self, breaker: SimBreaker, target: Position, by: str) -> None:
        """It moves, and counts that."""
        breaker.position = target
        breaker.count = (breaker.count + 1) % breaker.modulus
        breaker.moves += 1
        breaker.by = by
        if target is Position.OPEN:
            breaker.opened_at = self.world.now()
        self.world.note("moved", breaker.name, target.value, by)

    def act(self, breaker: SimBreaker, target: Position) -> str:
        """A frame arrived; what the device makes of it."""
        chance = self.world.chance
        if target is Position.OPEN:
            breaker.opens += 1
        else:
            breaker.closes += 1
        if breaker.local:
            return self._count("refused: local")
        act = "obeys"
        if self.world.faults:
            act = chance.choices(list(ACTS), list(ACTS.values()))[0]
        travel_s = chance.uniform(0.05, 0.6) * self.travel_s
        late_s = chance.choice((1.5, 3.0, 10.0, 40.0, 100.0, 200.0)) * chance.uniform(0.8, 1.2) * self.travel_s
        match act:
            case "moves late" | "lost and late":
                self.obey(breaker, target, late_s)
            case "refused" | "stuck" | "reply lost before":
                pass
            case "bounces":
                self.obey(breaker, target, travel_s)
                back = Position.CLOSED if target is Position.OPEN else Position.OPEN
                self.world.later(late_s, lambda: self.obey(breaker, back, travel_s, "itself"))
            case "wrong position":
                breaker.pending += 1
                breaker.position = chance.choice((Position.INTERMEDIATE, Position.BAD))
            case _:
                self.obey(breaker, target, travel_s)
        return self._count(act)

    def _count(self, act: str) -> str:
        self.acts[act] += 1
        self.world.note("frame", act)
        return act


class Wire:
    """One connection, in the place of ``PymodbusTransport``."""

    def __init__(self, rtu: Rtu, on_lost: Callable[[str], None]) -> None:
        self.rtu = rtu
        self._on_lost = on_lost
        self._closed = ""
        self._waiting: asyncio.Future[None] | None = None

    def close(self) -> None:
        """See Transport."""
        self._closed = self._closed or "closed"
        if self in self.rtu.wires:
            self.rtu.wires.remove(self)

    def lose(self, why: str) -> None:
        """The peer ends it."""
        if not self._closed:
            self._closed = why
            if self._waiting is not None and not self._waiting.done():
                self._waiting.set_result(None)
            self._on_lost(why)

    async def read(self, table: str, start: int, count: int) -> bytes:
        """See Transport."""
        rtu, chance = self.rtu, self.rtu.world.chance
        await self._turn_around()
        if rtu.world.faults:
            luck = chance.random()
            if luck < 0.002:
                rtu.acts["read refused"] += 1
                raise DeviceRefused(0x06)
            if luck < 0.003:
                rtu.acts["read garbled"] += 1
                raise MalformedReply("the length does not fit")
            if luck < 0.004:
                rtu.acts["read lost"] += 1
                await self._pass(rtu.timeout_s)
                raise ReplyTimeout("no answer")
        return self._words(start, count)

    def _words(self, start: int, count: int) -> bytes:
        rtu = self.rtu
        if start >= LOAD_AT:
            return min(65535, max(0, int(rtu.world.load_kw() * 10))).to_bytes(2, "big") * count
        if start >= COUNTERS_AT:
            first = start - COUNTERS_AT
            return b"".join([one.count.to_bytes(2, "big") for one in rtu.breakers[first : first + count]])
        return b"".join([one.status() for one in rtu.breakers[start : start + count]])

    async def write_coil(self, address: int) -> None:
        """See Transport. Even addresses open, odd ones close."""
        rtu, chance = self.rtu, self.rtu.world.chance
        if self._closed:
            raise LinkDown(self._closed)
        breaker, target = rtu.breakers[address // 2], (Position.OPEN, Position.CLOSED)[address % 2]
        rtu.world.sent(breaker, target)
        transit_s = chance.uniform(0.001, 0.02) + rtu.slow_s * chance.random()
        reply: list[str] = []
        if rtu.world.faults:
            self._happens_meanwhile(breaker)
        if rtu.state == "up":

            def arrive() -> None:
                reply.append(rtu.act(breaker, target))

            rtu.world.later(transit_s, arrive)
        else:
            rtu.acts["frame into nowhere"] += 1
        await self._pass(transit_s + 0.001)
        act = reply[0] if reply else "nothing"
        if act in ("reply lost after", "reply lost before", "lost and late", "nothing"):
            await self._pass(rtu.timeout_s)
            raise ReplyTimeout("no answer")
        if act == "reply garbled":
            raise MalformedReply("an echo of another address")
        if act.startswith("refused"):
            raise DeviceRefused(0x04)
        if act == "slow reply":
            await self._pass(rtu.timeout_s * 0.9)

    def _happens_meanwhile(self, breaker: SimBreaker) -> None:
        """The frame is on its way, and what it was checked against changes."""
        rtu, chance = self.rtu, self.rtu.world.chance
        luck = chance.random()
        if luck < 0.02:
            breaker.local, breaker.local_since = True, rtu.world.now()
            rtu.world.later(90.0, lambda: setattr(breaker, "local", False))
        elif luck < 0.04:
            rtu.state = "silent"
            rtu.world.later(chance.choice((3.0, 40.0, 400.0)), lambda: setattr(rtu, "state", "up"))

    async def write_register(self, address: int, value: int) -> None:
        """See Transport."""
        raise AssertionError("no point of these stations is commanded so")

    async def _turn_around(self) -> None:
        if self._closed:
            raise LinkDown(self._closed)
        rtu, chance = self.rtu, self.rtu.world.chance
        if rtu.state == "silent":
            await self._pass(rtu.timeout_s)
            raise ReplyTimeout("no answer")
        if rtu.slow_s or chance.random() < 0.2:
            await self._pass(chance.uniform(0.001, 0.02) + rtu.slow_s * chance.random())
        if rtu.state != "up":
            await self._pass(rtu.timeout_s)
            raise ReplyTimeout("no answer")

    async def _pass(self, seconds: float) -> None:
        """Wait for an answer; it may be the end of the connection."""
        loop = asyncio.get_running_loop()
        waiting = self._waiting = loop.create_future()
        timer = loop.call_later(seconds, lambda: waiting.done() or waiting.set_result(None))
        try:
            await waiting
        finally:
            timer.cancel()
            self._waiting = None
        if self._closed:
            raise ConnectionLost(self._closed)


async def connect(rtu: Rtu, on_lost: Callable[[str], None]) -> Wire:
    """A connection, or what a device says that takes none."""
    await asyncio.sleep(rtu.world.chance.uniform(0.001, 0.01))
    if rtu.state == "down":
        raise LinkDown("connection refused")
    wire = Wire(rtu, on_lost)
    rtu.wires.append(wire)
    return wire
