"""A small operators' surface and a gateway behind it that remembers what it was asked: for tests of the OPC UA server.

Two breakers in a folder, a gateway object, a list of orchestrations; one method with every kind of argument.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from protocols.opcua.surface import (
    Alarm,
    Answer,
    Argument,
    Caller,
    DataType,
    Deed,
    Event,
    EventPage,
    EventType,
    Folder,
    HistoryPage,
    Method,
    Object,
    ObjectType,
    Sample,
    Status,
    Surface,
    Value,
    Variable,
)

URI = "urn:gridlatch:surface"
T0 = 1_700_000_000_000_000
"""An hour in November 2023, in µs."""

BREAKER = ObjectType(
    "BreakerType",
    "A breaker of a feeder.",
    (
        Variable("Pos", DataType.DBPOS, "Position.", history=True),
        Variable("Kw", DataType.DOUBLE, "Load.", unit="kW", history=True),
        Variable("OpCnt", DataType.UINT32, "Operations so far."),
        Variable("Loc", DataType.BOOLEAN, "Local control."),
        Variable("Reason", DataType.STRING, "Why it is as it is."),
        Variable("MovedAt", DataType.TIME, "When it moved last."),
        Variable("Tiers", DataType.STRING, "Its tiers.", array=True),
    ),
    (
        Method(
            "Open",
            "Open it.",
            (Argument("Reason", DataType.STRING, "Why."),),
            (
                Argument("Outcome", DataType.STRING, "How it ended."),
                Argument("Position", DataType.DBPOS, "Where it is."),
            ),
        ),
        Method(
            "Everything",
            "Takes one argument of each kind.",
            (
                Argument("Flag", DataType.BOOLEAN, ""),
                Argument("Small", DataType.INT32, ""),
                Argument("Count", DataType.UINT32, ""),
                Argument("Large", DataType.INT64, ""),
                Argument("Megawatts", DataType.DOUBLE, "", optional=True),
                Argument("Text", DataType.STRING, "", optional=True),
                Argument("At", DataType.TIME, ""),
                Argument("Where", DataType.DBPOS, ""),
                Argument("Tiers", DataType.STRING, "", array=True),
            ),
            (),
        ),
    ),
)
GATEWAY = ObjectType("GatewayType", "The gateway.", (Variable("Mode", DataType.STRING, "Its mode."),))
ORCHESTRATION = ObjectType("OrchestrationType", "A procedure.", (Variable("Status", DataType.STRING, "Where it is."),))
SHED = EventType("ShedEventType", "A shed started or ended.", (Variable("Tier", DataType.STRING, "Of which tier."),))
FAILED = EventType(
    "BreakerFailedAlarmType", "A breaker failed.", (Variable("Feeder", DataType.STRING, "Which."),), alarm=True
)


def small_site(breakers: int = 2) -> Surface:
    """The surface."""
    return Surface(
        URI,
        (BREAKER, GATEWAY, ORCHESTRATION),
        (SHED, FAILED),
        (
            Folder("Feeders", "Feeders"),
            Folder("Feeders/1", "1 to 200", "Feeders"),
            Folder("Orchestrations", "Orchestrations"),
        ),
        (
            Object("Gateway", "Gateway", "", "GatewayType", "This gateway."),
            *(
                Object(f"Feeder/F{n}", f"F{n}", "Feeders/1", "BreakerType", f"Feeder {n}")
                for n in range(1, breakers + 1)
            ),
        ),
    )


def failed(feeder: str, active: bool = True, acked: bool = False, at: int = T0, by: str = "") -> Alarm:
    """An alarm of a breaker."""
    message = f"breaker {feeder} did not open"
    return Alarm(
        f"breaker_failed/{feeder}", FAILED.name, f"Feeder/{feeder}", message, 800, at, active, acked, by,
        fields={"Feeder": feeder},
    )  # fmt: skip


def shed(tier: str, at: int = T0, source: str = "Gateway") -> Event:
    """An event."""
    return Event(SHED.name, source, f"tier {tier} is being shed", 500, at, {"Tier": tier})


ANNA = Caller("session-1", "anna", frozenset({"OPERATOR"}), "ab" * 32, "127.0.62.9:50000")


@dataclass
class Gateway:
    """A backend that says yes unless told otherwise."""

    answer: Answer = field(default_factory=lambda: Answer(Status.OK, "It is open.", ("opened", 1)))
    refused_calls: set[str] = field(default_factory=set)
    unreadable: set[str] = field(default_factory=set)
    unseen: set[str] = field(default_factory=set)
    calls: list[tuple[str, str, str, tuple[Value, ...]]] = field(default_factory=list)
    callers: list[Caller] = field(default_factory=list)
    acknowledged: list[tuple[str, str, str]] = field(default_factory=list)
    past: list[Sample] = field(default_factory=list)
    past_events: list[Event] = field(default_factory=list)
    deeds: list[Deed] = field(default_factory=list)
    error: Exception | None = None
    hold: asyncio.Event | None = None

    def may_read(self, caller: Caller, type_name: str, variable: str) -> bool:
        return variable not in self.unreadable

    def may_call(self, caller: Caller, type_name: str, method: str) -> bool:
        return method not in self.refused_calls

    def may_see_events(self, caller: Caller, event_type: str) -> bool:
        return event_type not in self.unseen

    async def call(
        self, caller: Caller, object_key: str, type_name: str, method: str, inputs: tuple[Value, ...]
    ) -> Answer:
        if self.error is not None:
            raise self.error
        if self.hold is not None:
            await self.hold.wait()
        self.callers.append(caller)
        self.calls.append((object_key, type_name, method, inputs))
        return self.answer

    async def acknowledge(self, caller: Caller, alarm_key: str, comment: str) -> Answer:
        self.acknowledged.append((caller.user, alarm_key, comment))
        return Answer(Status.OK, "Acknowledged.")

    async def history(
        self, object_key: str, variable: str, start_us: int, end_us: int, limit: int, after: str, newest_first: bool
    ) -> HistoryPage:
        within = [each for each in self.past if start_us <= each.time_us <= end_us]
        if newest_first:
            within.reverse()
        begin = int(after or 0)
        rest = str(begin + limit) if begin + limit < len(within) else ""
        return HistoryPage(within[begin : begin + limit], rest)

    async def event_history(self, start_us: int, end_us: int, limit: int, after: str, newest_first: bool) -> EventPage:
        within = [each for each in self.past_events if start_us <= each.time_us <= end_us]
        if newest_first:
            within.reverse()
        begin = int(after or 0)
        rest = str(begin + limit) if begin + limit < len(within) else ""
        return EventPage(within[begin : begin + limit], rest)

    def tell(self, deed: Deed) -> None:
        self.deeds.append(deed)
