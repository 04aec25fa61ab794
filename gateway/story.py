"""The story of the last procedure, told from the journal and the trends: what the event report is made of.

The journal says what was decided and done, and by whom; the trends say how the load went. What must stay true: nothing is
told that is in neither; a power loss is known by its trace only (a start without an orderly stop before it), and is told
with the last moment of which the journal or the trends know.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo
from typing import Protocol

import msgspec

from gateway import __version__
from gateway.clock import local_zone
from gateway.durable import history as h
from gateway.durable.codec import Json, unpack_plain
from gateway.durable.identity import EntityId
from gateway.shedding.breaker_model import Breaker
from gateway.shedding.conduct import EVENT
from gateway.shedding.field import Field
from gateway.shedding.report import EventKind, Proof, ReportData, ReportEvent, Sample
from gateway.shedding.status import feeders
from gateway.shedding.substation import Substation, procedure_id
from gateway.story_feeders import outages, outcome, proofs, touched
from gateway.trend import TrendStore

MINUTE_US = 60_000_000
BEFORE_US = 60 * MINUTE_US
AFTER_US = 30 * MINUTE_US
WITHOUT_PROCEDURE_US = 240 * MINUTE_US
PAGE = 5_000
RECORDS_AT_MOST = 200_000
BY_HAND = {
    "breakers.open": "By hand: open",
    "breakers.close": "By hand: close",
    "breakers.block": "Block",
    "breakers.unblock": "Unblock",
    "instances.start": "By hand: start",
    "shed.started": "By hand: shed",
    "instances.terminate": "By hand: terminate",
    "mode": "Mode",
    "release": "Outputs released",
}
"""What operators did beside the procedure, in words."""

Record = tuple[int, str, str, int, bytes]


class Records(Protocol):
    """What is read of the journal."""

    async def records(
        self, after_seq: int, limit: int = 1_000, *, instance: str | None = None, kinds: Sequence[str] | None = None
    ) -> Sequence[Record]: ...


@dataclass(frozen=True, slots=True)
class Loss:
    """The gateway was cut off: the last record before, the next start, and when the field was read again."""

    last_seq: int
    last_us: int
    started_us: int
    back_us: int | None = None
    back: str = ""


@dataclass(slots=True)
class Found:
    """What the journal holds of the time in question."""

    procedures: list[str] = field(default_factory=list)
    events: list[ReportEvent] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    first_us: int = 0
    ended_us: int | None = None


async def read_all(
    journal: Records, *, instance: str | None = None, kinds: Sequence[str] | None = None
) -> list[Record]:
    """All records of an instance or of some kinds, in order, up to RECORDS_AT_MOST (the newest)."""
    found: list[Record] = []
    after = 0
    while True:
        page = await journal.records(after, PAGE, instance=instance, kinds=kinds)
        found += page
        if len(page) < PAGE:
            return found[-RECORDS_AT_MOST:]
        after = page[-1][0]
        await asyncio.sleep(0)


async def tell_story(
    journal: Records,
    trend: TrendStore,
    field: Field,
    station: Substation,
    states: dict[str, Breaker],
    head: str,
    now_us: int,
    given_proofs: Iterable[Proof] = (),
) -> ReportData:
    """The data of the report on the procedure that runs, or ran last.

    states: committed states of the breakers. head: hash of the journal's last batch. given_proofs: rows that the asker
    adds, such as what devices counted.
    """
    found = await _find(journal, field, station)
    if found.procedures:
        from_us = max(0, found.first_us - BEFORE_US)
        to_us = now_us if found.ended_us is None else min(now_us, found.ended_us + AFTER_US)
    else:
        from_us, to_us = now_us - WITHOUT_PROCEDURE_US, now_us
    samples = await asyncio.to_thread(trend.read, from_us, to_us)
    told = [*found.events, *_power_losses(found.losses, [s.time_us for s in samples])]
    events = sorted((e for e in told if from_us <= e.time_us <= to_us), key=lambda e: e.time_us)
    moved = {name: state for name, state in states.items() if touched(state, from_us)}
    site = field.site
    return ReportData(
        site=site.name,
        title=f"Load shedding at {site.name}",
        summary=_summary(station, found),
        tz=_zone(field),
        arm_pct=site.trigger.arm_pct,
        clear_pct=site.trigger.clear_pct,
        generated_us=now_us,
        samples=tuple(Sample(s.time_us, s.load_kw, s.capacity_kw, s.shed_kw, s.open_breakers) for s in samples),
        events=tuple(events),
        outcomes=tuple(outcome(field, name, state) for name, state in sorted(moved.items())),
        outages=tuple(o for name, state in moved.items() for o in outages(field, name, state, from_us)),
        proofs=(*proofs(states), *given_proofs),
        journal_head=head,
        config_sha256=site.sha256,
        versions=(("gridlatch", __version__),),
    )


def _zone(field: Field) -> tzinfo:
    """The zone in which people here read times: that of a simulated site's clock, else the machine's."""
    simulated = field.site.gateway.simulated_clock
    zone = None if simulated is None else simulated.origin.tzinfo
    return zone or local_zone()


def _summary(station: Substation, found: Found) -> str:
    if station.running is not None:
        return f"{station.running.instance} runs: {station.running.reason}."
    result = station.last_result
    if not found.procedures or result is None:
        return "No procedure has run."
    parts = [f"{found.procedures[-1]} ended: {result.get('status', 'unknown')}"]
    if "opened" in result:
        parts.append(f"{result['opened']} feeders were opened and {result['closed']} closed again")
    if result.get("peak_shed_kw"):
        parts.append(f"at most {float(str(result['peak_shed_kw'])) / 1000:.2f} MW were shed at once")
    failed = result.get("failed")
    if isinstance(failed, list) and failed:
        parts.append(f"{feeders(len(failed))} could not be opened: {', '.join(map(str, failed[:10]))}")
    left = result.get("not_closed")
    if isinstance(left, list) and left:
        parts.append(f"{feeders(len(left))} could not be closed: {', '.join(map(str, left[:10]))}")
    return "; ".join(parts) + "."


# Events


async def _find(journal: Records, field: Field, station: Substation) -> Found:
    found = Found()
    gateway = await read_all(journal, kinds=("gateway", "audit"))
    found.events += _gateway_events(gateway)
    found.events += await _station_events(journal, field)
    last = station.running.instance if station.running is not None else _last_ended(station, field)
    if last is not None:
        turns = await read_all(journal, instance=last, kinds=(h.TURN,))
        if turns:
            found.procedures.append(last)
            found.first_us = turns[0][3]
            found.ended_us = None if station.running is not None else turns[-1][3]
            found.events += _procedure_events(turns, _zone(field))
    found.losses = await _losses(journal, gateway)
    return found


def _last_ended(station: Substation, field: Field) -> str | None:
    if station.last_ended:
        return station.last_ended
    return procedure_id(field.site.name, station.started) if station.started else None


def _gateway_events(records: Sequence[Record]) -> Iterable[ReportEvent]:
    for _, _, kind, time_us, payload in records:
        told = msgspec.json.decode(payload)
        if kind == "audit":
            words = BY_HAND.get(told["op"])
            if words:
                what = told.get("feeder") or told.get("mode") or told.get("instance") or ""
                title = f"{words} {what}".strip()
                yield ReportEvent(time_us, EventKind.OTHER, title, told.get("actor", ""), told.get("reason", ""))
        elif told["event"] == "clock_stepped":
            yield ReportEvent(time_us, EventKind.ALARM, "Wall clock stepped", detail=f"by {told['step_s']} s")
        elif told["event"] == "reconciled" and told.get("in_procedure"):
            yield _back_event(time_us, told["sentence"])


def _back_event(time_us: int, sentence: str) -> ReportEvent:
    return ReportEvent(
        time_us, EventKind.RESTART, "Gateway is back; field reconciled", detail=sentence, label="restart"
    )


async def _losses(journal: Records, gateway: Sequence[Record]) -> list[Loss]:
    """Each start whose record before it is no orderly stop, and the field read again after it (in a procedure, that is
    told anyway)."""
    found: list[Loss] = []
    before: str | None = None
    lost = False
    for seq, _, kind, time_us, payload in gateway:
        if kind != "gateway":
            continue
        told = msgspec.json.decode(payload)
        event = told["event"]
        if event == "started" and before not in (None, "stopping"):
            last = await journal.records(seq - 2, 1)
            if last:
                found.append(Loss(last[0][0], last[0][3], time_us))
                lost = True
        elif event == "reconciled":
            if lost and not told.get("in_procedure"):
                found[-1] = replace(found[-1], back_us=time_us, back=told["sentence"])
            lost = False
        before = event
    return found


def _power_losses(losses: Sequence[Loss], sampled_us: Sequence[int]) -> Iterable[ReportEvent]:
    """sampled_us: times of the trend, rising. A quiet journal may be silent for hours; the trend then knows better."""
    for loss in losses:
        last_us = max([loss.last_us, *(at_us for at_us in sampled_us if at_us < loss.started_us)])
        detail = f"last record before it: {loss.last_seq}"
        title = "Gateway lost power or was killed"
        yield ReportEvent(last_us, EventKind.POWER_LOSS, title, detail=detail, label="no power")
        if loss.back_us is not None:
            yield _back_event(loss.back_us, loss.back)


async def _station_events(journal: Records, field: Field) -> list[ReportEvent]:
    found: list[ReportEvent] = []
    name = str(EntityId("substation", field.site.name))
    for _, _, _, time_us, payload in await read_all(journal, instance=name, kinds=(h.OPERATION,)):
        for operation in h.decode_entity_record(payload).operations:
            if operation.name == "stress" and operation.failure is None:
                told = unpack_plain(operation.input)
                kind = EventKind.ARMED if told["on"] else EventKind.CLEARED
                words = "Stress: armed" if told["on"] else "Stress has cleared"
                found.append(ReportEvent(time_us, kind, words, detail=f"loading {told['load_pct']:.1f} %"))
    return found


def _procedure_events(turns: Sequence[Record], zone: tzinfo) -> Iterable[ReportEvent]:
    """What the procedure said it was doing, once for each step, and what it was told."""
    step: tuple[str, str] | None = None
    begun: set[str] = set()
    for _, _, _, time_us, payload in turns:
        turn = h.decode_turn(payload)
        for event in turn.events:
            if isinstance(event, h.EventRaised) and event.name.lower() == EVENT.lower():
                yield _override_event(time_us, unpack_plain(event.data))
            elif isinstance(event, h.ExecutionCompleted):
                yield _finished_event(time_us, unpack_plain(event.result))
            elif isinstance(event, h.ExecutionFailed | h.ExecutionTerminated):
                yield ReportEvent(time_us, EventKind.ALARM, "Procedure ended from outside or failed", detail=str(event))
        status = unpack_plain(turn.custom_status)
        if isinstance(status, dict):
            now = _step_of(status)
            if now != step and now is not None:
                yield _step_event(time_us, status, begun, zone)
            step = now or step


def _step_of(status: dict[str, Json]) -> tuple[str, str] | None:
    """What makes a step another step: closing feeders again and again are so many stages."""
    phase = str(status.get("phase", ""))
    sentence = str(status.get("sentence", ""))
    if phase == "shedding":
        return phase, str(status.get("tier", ""))
    if phase == "restoring":
        return (phase, sentence) if sentence.startswith(("closes", "loading")) else None
    if phase in ("watching", "stable"):  # around the limit they take turns at every look: that is one step
        return "watching", ""
    return phase, str(status.get("until") or "") if phase == "cooldown" else ""


def _step_event(time_us: int, status: dict[str, Json], begun: set[str], zone: tzinfo) -> ReportEvent:
    """begun: tiers out by now; what is opened of one of them later is no further tier."""
    phase = str(status.get("phase", ""))
    tier = str(status.get("tier") or "")
    detail = _in_local_time(str(status.get("sentence", "")), zone)
    if phase == "shedding" and tier in begun:
        return ReportEvent(time_us, EventKind.OTHER, f"Shed more of {tier}", detail=detail)
    if phase == "shedding":
        begun.add(tier)
        return ReportEvent(time_us, EventKind.TIER_SHED, f"Shed {tier}", detail=detail, label=tier)
    if phase == "restoring":
        begun.clear()
        return ReportEvent(time_us, EventKind.RESTORE_STAGE, "Restoration stage", detail=detail)
    if phase == "cooldown":
        return ReportEvent(time_us, EventKind.COOLDOWN, f"Cooldown after {tier}", detail=detail)
    return ReportEvent(time_us, EventKind.OTHER, phase.capitalize(), detail=detail)


_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def _in_local_time(text: str, zone: tzinfo) -> str:
    """The same sentence with its UTC times as the clock on the wall shows them."""
    return _ISO.sub(lambda found: datetime.fromisoformat(found[0]).astimezone(zone).strftime("%H:%M:%S"), text)


def _override_event(time_us: int, told: Json) -> ReportEvent:
    if not isinstance(told, dict):
        return ReportEvent(time_us, EventKind.OVERRIDE, "Override (not understood)", detail=str(told)[:200])
    detail = ", ".join(map(str, told.get("feeders") or ()))
    actor, reason = str(told.get("actor", "")), str(told.get("reason", ""))
    return ReportEvent(time_us, EventKind.OVERRIDE, f"Override: {told.get('decision')}", actor, reason, detail)


def _finished_event(time_us: int, result: Json) -> ReportEvent:
    status = result.get("status", "") if isinstance(result, dict) else ""
    return ReportEvent(time_us, EventKind.FINISHED, f"Procedure finished: {status}")
