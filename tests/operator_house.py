"""The gateway's core with all that stands behind the operators' server, and a server that only listens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec

from config.models import Site
from gateway.operations import Desk, Health
from gateway.operator.alarms import register_alarms
from gateway.operator.backend import OperatorBackend
from gateway.operator.happenings import Happenings
from gateway.trend import TrendStore
from gateway.watch import CommittedBreakers, Observer, Watch
from protocols.base import LinkState, LinkStatus
from protocols.opcua.surface import Alarm, Answer, Caller, Change, Event, Object, SessionInfo, Value
from tests.core_station import Station

OPERATOR = Caller("s1", "m.meier", frozenset({"OPERATOR"}), "ab12", "10.0.0.7:51000", "HMI")
ENGINEER = Caller("s2", "e.ernst", frozenset({"ENGINEER"}), "cd34", "10.0.0.8:51001", "tool")
VIEWER = Caller("s3", "v.vogt", frozenset({"VIEWER"}), "ef56", "10.0.0.9:51002", "wall")
SECADM = Caller("s4", "s.sand", frozenset({"SECADM"}), "aa77", "10.0.0.6:51003", "tool")
FAR_US = 1 << 60


class Listener:
    """A server that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.alarms: list[Alarm] = []
        self.expires_us = FAR_US // 512

    def change(self, changes: Iterable[Change]) -> None:
        """See Server."""

    def add(self, objects: Sequence[Object]) -> None:
        """See Server."""

    def remove(self, keys: Sequence[str]) -> None:
        """See Server."""

    def event(self, event: Event) -> None:
        """See Server."""
        self.events.append(event)

    def alarm(self, alarm: Alarm) -> None:
        """See Server."""
        self.alarms.append(alarm)

    def sessions(self) -> list[SessionInfo]:
        """See Server."""
        return []

    def certificate_expires_us(self) -> int:
        """See Server."""
        return self.expires_us

    def told(self, type_name: str) -> list[Event]:
        """Events of one type."""
        return [event for event in self.events if event.type == type_name]

    def stands(self, key: str) -> Alarm | None:
        """The alarm as it was told last."""
        return next((alarm for alarm in reversed(self.alarms) if alarm.key == key), None)


class StoreLog:
    """The records of a store in memory, as the journal gives them."""

    def __init__(self, house: House) -> None:
        self._house = house
        self.asked = 0

    async def records(
        self, after_seq: int, limit: int = 1_000, *, up_to_seq: int | None = None, kinds: Sequence[str] | None = None
    ) -> list[Any]:
        """See Log."""
        self.asked += 1
        found = [
            one
            for one in self._house.store.records
            if after_seq < one.seq <= (up_to_seq or one.seq) and (kinds is None or one.kind in kinds)
        ]
        return found[:limit]

    async def latest(self, instance: str, limit: int = 1_000, *, before_seq: int | None = None) -> list[Any]:
        """See Log."""
        found = [
            one
            for one in reversed(self._house.store.records)
            if one.instance == instance and (before_seq is None or one.seq < before_seq)
        ]
        return found[:limit]


class House(Station):
    """A station with operators."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.folder = folder
        self.links: dict[str, tuple[LinkState, str]] = {"rtu": (LinkState.UP, "")}
        self.synchronized: bool | None = True
        super().__init__(site)
        driver: Any = self.driver
        driver.links = lambda: [LinkStatus(name, *state, 0.0) for name, state in self.links.items()]

    def build(self) -> None:
        """See Station."""
        super().build()
        register_alarms(self.engine.registry)

    async def open(self) -> None:
        """Recover, run, and let operators in."""
        await self.start()
        self.trend = TrendStore(self.folder)
        observer = Observer(self.engine, self.field)
        self.watch = Watch(self.engine, self.field, self.trend, observer, CommittedBreakers(self.engine), armed=False)

        async def nothing(*_: object) -> Any:
            return {}

        health = Health(
            0, "/s/journal.db", self._head, lambda: self.synchronized, nothing, nothing, str, "freed by {}".format, list
        )
        clock: Any = SimpleNamespace(rate=1.0, wall_step_s=float)
        self.log = StoreLog(self)
        self.desk = Desk(self.engine, self.field, self.watch, clock, health, self.log)
        self.backend = OperatorBackend(self.desk)
        self.server = Listener()
        self.backend.server = self.server
        self.happenings = Happenings(self.desk, self.backend)
        self._run: asyncio.Task[None] | None = None

    def _head(self) -> tuple[int, int, str]:
        records = self.store.records
        return (records[-1].seq if records else 0, 0, "ab")

    def happen(self) -> None:
        """Begin to tell what happens."""
        self._run = asyncio.create_task(self.happenings.run())

    async def close(self) -> None:
        """The end."""
        if self._run is not None:
            self._run.cancel()
            await asyncio.gather(self._run, return_exceptions=True)
        await self.engine.stop(0.1)

    async def call(self, caller: Caller, key: str, method: str, *inputs: Value) -> Answer:
        """A call of a method of an object."""
        type_name = {"L": "LoadSheddingType", "F": "BreakerType", "G": "GatewayType"}[key[0]]
        return await self.backend.call(caller, key, type_name, method, inputs)

    async def shed(self, method: str, *inputs: Value, caller: Caller = OPERATOR) -> Answer:
        """A call of a method of LoadShedding."""
        return await self.call(caller, "LoadShedding", method, *inputs)

    def audit(self, op: str = "", kind: str = "audit") -> list[dict[str, Any]]:
        """The audit records on disk whose operation begins so."""
        found = [msgspec.json.decode(record.payload) for record in self.store.records if record.kind == kind]
        return [one for one in found if str(one.get("op", "")).startswith(op)]

    async def wait(self, condition: Callable[[], object], what: str, timeout_s: float = 30.0) -> None:
        """Wait, in real time, until the condition holds."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_s
        while not condition():
            assert loop.time() < end, f"not within {timeout_s:g} s: {what}"
            await asyncio.sleep(0.005)
