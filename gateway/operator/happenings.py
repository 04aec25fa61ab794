"""Watches what is committed and tells operators of it: events when something changes, alarms while something is wrong.

Theory of operation. The substation and the procedures are followed by their commits, so that no state in between is
missed; people's acts by the journal's audit records; breakers, links, the clock and the certificate are looked at once a
second, and the alarms are told what is wrong now. What must stay true: nothing is told that is not on disk (save that the
journal itself is in trouble, which the disk can't say); a storm is bounded and counted (see ``announcer`` and ``alarms``);
nothing in here delays control. A crash here loses no state: alarms are entities, and all else is looked at anew.
"""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import timedelta
from functools import partial

from gateway.clock import from_us, wall_now
from gateway.durable.codec import Json, unpack_plain
from gateway.durable.instances import Instance, Orchestration, decode_state
from gateway.housekeeping_troubles import TYPES, CareTrouble
from gateway.operations.desk import Desk
from gateway.operator import names
from gateway.operator.acts import Acts
from gateway.operator.alarms import Trouble
from gateway.operator.backend import OperatorBackend
from gateway.operator.event_types import BY_NAME
from gateway.operator.procedures import Phases, Telling, of_station
from gateway.shedding.substation import PROTOCOL, Substation
from protocols.opcua.surface import Alarm

LOOK_S = 1.0
TELL_S = 0.1
"""After something has changed, so long until it is told: what comes together is told together."""
TOLD_AT_ONCE = 100
SLOW_EVERY = 5
"""Looks from one look at clock and certificate to the next."""
WAITING_AT_MOST = 5_000
"""Changes that wait to be told; of more the oldest are dropped, and counted."""
JOURNAL_LATE_S = 2.0
EXPIRES_SOON, EXPIRES_VERY_SOON = timedelta(days=30), timedelta(days=7)
_BREAKERS = {
    "breaker_failed": ("BreakerFailedAlarm", "did not do as told"),
    "breaker_unresolved": ("BreakerUnresolvedAlarm", "nobody knows what its command did"),
}
"""What the watch calls it → type of the alarm, and words."""
_LOST = ("silent", "down")
"""States of a link without a device; one that connects is what it was before."""


class Happenings:
    """See above. Made together with the backend, run as a task; may be run again after it failed."""

    def __init__(self, desk: Desk, backend: OperatorBackend) -> None:
        self._desk = desk
        self._backend = backend
        self._acts = Acts(desk)
        self._waiting: deque[Telling] = deque()
        self._dropped = 0
        self._awake = asyncio.Event()
        self._phases = self._phases_now()
        self._lost = {
            state.trouble.fields.get("Device", "") for state in backend.alarms.active("DeviceLostAlarm").values()
        }
        self._held: bool | None = None
        self._looks = 0
        self._stood: dict[str, dict[str, str]] = {}
        self._flush: asyncio.Future[None] | None = None
        self._flush_since = 0.0
        self._late = False
        backend.watch.listeners.append(self._station_changed)
        desk.engine.on_commit.append(self._committed)

    async def run(self) -> None:
        """Tell until cancelled. Errors: EngineStoppedError."""
        loop = asyncio.get_running_loop()
        if (server := self._backend.server) is not None:
            for number, alarm in enumerate(self._backend.alarms.retained()):
                server.alarm(alarm)
                if number % TOLD_AT_ONCE == 0:
                    await asyncio.sleep(0)
        next_look = loop.time()
        while True:
            if loop.time() >= next_look:
                next_look = loop.time() + LOOK_S
                self._look()
            await self._tell()
            try:
                async with asyncio.timeout(max(0.0, next_look - loop.time())):
                    await self._awake.wait()
                    await asyncio.sleep(TELL_S)
            except TimeoutError:
                pass
            self._awake.clear()

    async def _tell(self) -> None:
        """Tell what waits, and what people have done."""
        announcer = self._backend.announcer
        while self._waiting:
            one = self._waiting.popleft()
            announcer.tell(one.type, one.message, "", one.severity, **one.fields)
        if self._dropped:
            count, self._dropped = self._dropped, 0
            announcer.tell("EventsSuppressed", f"{count} changes came faster than they could be told", Count=count)
        for one in await self._acts.look():
            announcer.tell(one.type, one.message, "", one.severity, **one.fields)

    # What is committed

    def _phases_now(self) -> Phases | None:
        """The procedure that runs already: what it does is no news."""
        running = self._backend.watch.state.running
        instance = None if running is None else self._desk.engine.instances.get(running.instance)
        if not isinstance(instance, Orchestration):
            return None
        phases = Phases(instance.id)
        for _ in phases.look(_status(instance)):
            pass
        return phases

    def _put(self, telling: Telling) -> None:
        if len(self._waiting) >= WAITING_AT_MOST:
            self._waiting.popleft()
            self._dropped += 1
        self._waiting.append(telling)
        self._awake.set()

    def _station_changed(self, before: Substation, after: Substation) -> None:
        for one in of_station(before, after, self._desk.field.site.shedding.mode.value):
            self._put(one)

    def _committed(self, instance: Instance) -> None:
        if instance.name != PROTOCOL or not isinstance(instance, Orchestration) or instance.row is None:
            self._awake.set()  # an act has an effect, so a commit; its record is read a moment later
            return
        if self._phases is None or self._phases.instance != instance.id:
            running = self._backend.watch.state.running
            if running is None or running.instance != instance.id:
                return
            self._phases = Phases(instance.id)
        for one in self._phases.look(_status(instance)):
            self._put(one)

    # What is looked at

    def _look(self) -> None:
        """Once a second: events of links and holds, and all that is wrong now."""
        self._backend.announcer.look()
        self._backend.deeds.look()
        self._look_at_gate()
        self._look_at_journal()
        self._look_at_care()
        if self._desk.watch.ticks:  # before that nobody has looked, and what was wrong is not over for that
            self._look_at_breakers()
        self._look_at_links()
        self._stand_one("grid_stress", self._stress(), "GridStressAlarm")
        if self._looks % SLOW_EVERY == 0:
            self._stand_one("clock_unsynced", self._clock(), "ClockUnsyncedAlarm")
            self._stand_one("certificate_expires", self._certificate(), "CertificateExpiresAlarm")
        self._looks += 1

    def _look_at_breakers(self) -> None:
        for event, (type_name, words) in _BREAKERS.items():
            troubled = self._desk.watch.troubled(event)
            if self._stood.get(event) == troubled:
                continue
            keys = {f"{event}/{feeder}": what for feeder, what in troubled.items()}
            if self._backend.alarms.stand(type_name, keys, partial(_of_breaker, type_name, words)) == 0:
                self._stood[event] = troubled

    def _look_at_gate(self) -> None:
        held = self._desk.field.gate.held
        if self._held is not None and held != self._held:
            why = getattr(self._desk.field.gate, "reason", "") or self._backend.watch.state.last_note
            words = f"outputs are held: {why}" if held else f"outputs are released ({why})"
            self._put(Telling("HoldChanged", words, {"Held": held, "Reason": why}))
        self._held = held

    def _look_at_links(self) -> None:
        lost: dict[str, str] = {}
        for link in self._desk.field.driver.links():
            was = link.device in self._lost
            is_lost = link.state.value in _LOST or (was and link.state.value != "up")
            if is_lost != was:
                self._link_changed(link.device, link.detail, is_lost)
            if is_lost:
                lost[f"device_lost/{link.device}"] = ""
        details = {link.device: link.detail for link in self._desk.field.driver.links()} if lost else {}

        def make(key: str, occurrence: str) -> Trouble:
            device = key.partition("/")[2]
            words = f"device {device} does not answer: {details[device]}"
            return Trouble("DeviceLostAlarm", names.GATEWAY, words, occurrence, fields={"Device": device})

        self._backend.alarms.stand("DeviceLostAlarm", lost, make)

    def _link_changed(self, device: str, detail: str, lost: bool) -> None:
        fields = {"Device": device, "Reason": detail}
        if lost:
            self._lost.add(device)
            self._put(Telling("DeviceLost", f"device {device} does not answer: {detail}", fields))
        else:
            self._lost.discard(device)
            self._put(Telling("DeviceBack", f"device {device} answers again", fields))

    def _stand_one(self, key: str, trouble: Trouble | None, type_name: str) -> None:
        """The one condition of a type: there, or not."""
        there = {} if trouble is None else {key: trouble.occurrence}
        self._backend.alarms.stand(type_name, there, lambda *_: trouble or Trouble(type_name, "", ""))

    def _stress(self) -> Trouble | None:
        station = self._backend.watch.state
        words = f"the transformer is near its limit: armed at {station.load_pct:.1f} %"
        return Trouble("GridStressAlarm", names.STRESS, words) if station.stress else None

    def _clock(self) -> Trouble | None:
        words = "no time service disciplines the machine's clock: times of records may be off"
        unsynced = self._desk.health.synchronized() is False
        return Trouble("ClockUnsyncedAlarm", names.GATEWAY, words) if unsynced else None

    def _certificate(self) -> Trouble | None:
        server = self._backend.server
        expires_us = 0 if server is None else server.certificate_expires_us()
        expires = from_us(expires_us)
        left = expires - wall_now()
        if not expires_us or left > EXPIRES_SOON:
            return None
        over, soon = left <= timedelta(), left < EXPIRES_VERY_SOON
        words = (
            f"the OPC UA server's certificate {'has expired' if over else 'expires'} at {expires:%Y-%m-%d %H:%M} UTC"
        )
        occurrence = f"{expires:%Y-%m-%d} {'over' if over else 'very soon' if soon else 'soon'}"
        severity = 900 if soon else 0
        return Trouble("CertificateExpiresAlarm", names.GATEWAY, words, occurrence, severity)

    # The journal, which can't tell of its own trouble

    def _look_at_journal(self) -> None:
        """Is what was decided a while ago on disk by now? Late, that is told at once, without the disk."""
        now = asyncio.get_running_loop().time()
        if self._flush is None or self._flush.done():
            waited_s = 0.0
            self._flush, self._flush_since = self._desk.engine.on_disk(), now
            self._flush.add_done_callback(lambda done: done.cancelled() or done.exception())
        else:
            waited_s = now - self._flush_since
        late = waited_s > JOURNAL_LATE_S or self._desk.engine.failure is not None
        words = f"the journal is late: nothing got to the disk for {JOURNAL_LATE_S:g} s or more"
        if self._desk.engine.failure is not None:
            words = f"the journal has failed: {self._desk.engine.failure}"
        trouble = Trouble("JournalTroubleAlarm", names.GATEWAY, words)
        if late and not self._late and (server := self._backend.server) is not None:
            server.alarm(_uncommitted("journal_trouble", trouble, self._desk.engine.now_us()))
        self._late = late
        self._stand_one("journal_trouble", trouble if late else None, "JournalTroubleAlarm")

    def _look_at_care(self) -> None:
        """What is wrong with the journal's file, its disk, or its record-keeping, as who looks after it says."""
        care = self._desk.health.care
        if care is None:
            return
        for type_name in TYPES:
            found = {one.key: one for one in care.troubles if one.type == type_name}

            def make(key: str, occurrence: str, found: dict[str, CareTrouble] = found) -> Trouble:
                one = found[key]
                return Trouble(one.type, names.GATEWAY, one.message, occurrence, one.severity)

            self._backend.alarms.stand(type_name, {key: one.occurrence for key, one in found.items()}, make)


def _of_breaker(type_name: str, words: str, key: str, what: str) -> Trouble:
    feeder = key.partition("/")[2]
    message = f"breaker of {feeder}: {words}: {what}"
    return Trouble(type_name, names.feeder_key(feeder), message, what, fields={"Feeder": feeder})


def _uncommitted(key: str, trouble: Trouble, now_us: int) -> Alarm:
    severity = BY_NAME[trouble.type].severity
    return Alarm(key, trouble.type, trouble.source, trouble.message, severity, now_us, active=True, acked=False)


def _status(instance: Orchestration) -> Json:
    """The custom status of an orchestration's committed row."""
    return None if instance.row is None else unpack_plain(decode_state(instance.row.state).custom_status)
