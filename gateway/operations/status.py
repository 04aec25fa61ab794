"""Operations that tell how things are: the whole at one glance, and what waits for its time. Committed state only."""

from __future__ import annotations

import heapq
import os

import msgspec

from gateway import __version__
from gateway.clock import iso
from gateway.durable.codec import Json
from gateway.durable.instances import Orchestration
from gateway.operations.arguments import Arguments, limit
from gateway.operations.desk import Desk
from gateway.operations.station import stands_still
from gateway.shedding.measuring import read_load
from gateway.shedding.substation import Substation
from protocols.base import LinkState

REPLAYED_SHOWN = 5
LINKS_SHOWN = 50
"""Links in trouble that are named."""


async def status(desk: Desk, _: Arguments) -> Json:
    """All at one glance."""
    site, health, station = desk.field.site, desk.health, desk.station()
    now_us = desk.engine.now_us()
    due = desk.engine.timers.next_due()
    return {
        "site": site.name,
        "version": __version__,
        "mode": (station.mode or site.shedding.mode).value,
        "held": held(desk, station),
        "operators": health.operators(),
        "journal": _journal(desk),
        "transformer": _transformer(desk),
        "procedure": procedure(desk, station),
        "breakers": desk.watch.picture.counts,
        "shed_kw": round(desk.watch.picture.shed_kw, 1),
        "links": links(desk),
        "next_timer": None if due is None else _timer(due[1], due[2], due[0], now_us),
        "engine": _engine(desk),
        "clock": {
            "now": iso(now_us),
            "rate": desk.clock.rate,
            "wall_step_s": round(desk.clock.wall_step_s(), 3),
            "synchronized": health.synchronized(),
        },
        "note": station.last_note,
        "overrides": list(station.consumed),
        "last_result": station.last_result,
        "started": iso(health.started_us),
        "pid": os.getpid(),
        "config_sha256": site.sha256,
        "warnings": warnings(desk, station),
    }


async def timers(desk: Desk, args: Arguments) -> Json:
    """Pending durable timers, the next first."""
    now_us = desk.engine.now_us()
    pending = sorted((due_us, instance, task_id) for instance, task_id, due_us in desk.engine.timers.pending())
    return {
        "timers": [_timer(instance, task_id, due_us, now_us) for due_us, instance, task_id in pending[: limit(args)]],
        "total": len(pending),
    }


def warnings(desk: Desk, station: Substation) -> list[str]:
    """What a person should see to, one sentence each."""
    own = desk.health.warnings()
    care = desk.health.care
    journal = [] if care is None else care.warnings()
    return [*_stands_still(desk, station), *journal, *desk.field.site.warnings, *own]


def _stands_still(desk: Desk, station: Substation) -> list[str]:
    """A procedure that does nothing keeps the station all the same: nothing is shed or given back; people must know."""
    running = station.running
    why = "" if running is None else stands_still(desk.engine, running.instance)
    return [f"{running.instance} {why}: meanwhile nothing is shed or given back"] if running and why else []


def held(desk: Desk, station: Substation) -> dict[str, Json]:
    """Whether commands are held back (``held``), and why (``why``)."""
    gate = desk.field.gate
    why = getattr(gate, "reason", "") if gate.held else station.held
    return {"held": gate.held or bool(station.held), "why": why}


def _journal(desk: Desk) -> dict[str, Json]:
    seq, batch, head = desk.health.head()
    told: dict[str, Json] = {"seq": seq, "batch": batch, "hash": head, "records": seq, "path": desk.health.journal_path}
    care = desk.health.care
    return told if care is None else told | care.told()


def _transformer(desk: Desk) -> dict[str, Json]:
    load = read_load(desk.field)
    return {
        "name": desk.field.site.transformer.name,
        "load_kw": round(load.kw, 1) if load.good else None,
        "capacity_kw": load.capacity_kw,
        "percent": round(load.percent, 2) if load.good else None,
        "quality": "good" if load.good else "bad",
        "zone": desk.watch.load.state.zone.value,
    }


def procedure(desk: Desk, station: Substation) -> Json:
    """The procedure that has the station, with its committed custom status."""
    if station.running is None:
        return None
    instance = desk.engine.instances.get(station.running.instance)
    if not isinstance(instance, Orchestration) or instance.row is None:
        return None
    told = msgspec.json.decode(instance.row.state).get("custom_status")
    known = told if isinstance(told, dict) else {}
    return {"instance": instance.id, "name": instance.name, "status": instance.row.status, **known}


def links(desk: Desk) -> dict[str, Json]:
    """Links to devices by state, and those in trouble."""
    found = desk.field.driver.links()
    count = {state.value: sum(1 for link in found if link.state is state) for state in LinkState}
    troubled = [
        {"device": link.device, "state": link.state.value, "detail": link.detail}
        for link in found
        if link.state is not LinkState.UP
    ]
    return {"total": len(found), **count, "troubled": troubled[:LINKS_SHOWN]}


def _engine(desk: Desk) -> dict[str, Json]:
    engine = desk.engine
    return {
        "instances": len(engine.instances),
        "turns": engine.counters.turns,
        "queued": engine.activities.queued,
        "replays": engine.counters.replays,
        "replayed_most": _replayed_most(desk),
        "pending_activities": engine.activities.running + engine.activities.queued,
    }


def _replayed_most(desk: Desk) -> list[Json]:
    """Live orchestrations that were replayed most often: a high value means too small a cache, or a process that dies."""
    live = (one for one in desk.engine.instances.values() if isinstance(one, Orchestration) and one.replays)
    most = heapq.nlargest(REPLAYED_SHOWN, live, key=lambda one: one.replays)
    return [{"instance": one.id, "name": one.name, "replays": one.replays} for one in most]


def _timer(instance: str, task_id: int, due_us: int, now_us: int) -> dict[str, Json]:
    remaining_s = max(0.0, (due_us - now_us) / 1e6)
    return {"instance": instance, "task_id": task_id, "due": iso(due_us), "remaining_s": round(remaining_s, 1)}
