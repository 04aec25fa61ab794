"""Starting the load-shedding procedure by a person's order: so many kW, or all of some tiers, and the order said back.

What must stay true: an order that can't be understood, that asks for more than the transformer carries, or that comes
while a procedure has the station or outputs are held, starts nothing and is answered with a sentence; one that is
accepted is on disk, with the start of its procedure, before it is answered. A crash in between leaves both or neither.
"""

from __future__ import annotations

import math

from config.models import Mode
from gateway.control import Code, ControlError
from gateway.durable.codec import Json
from gateway.operations.arguments import Arguments, text, who
from gateway.operations.desk import Desk
from gateway.shedding.entities import substation_id
from gateway.shedding.status import feeders
from protocols.base import Position, Quality

TIERS_AT_MOST = 1_000


async def start(desk: Desk, args: Arguments) -> Json:
    """Start the procedure: ``target_kw`` or ``tiers``, and ``reason``. sentence: the order, repeated back."""
    reason = text(args, "reason")
    target_kw, tiers = _target(desk, args), _tiers(desk, args)
    if (target_kw is None) == (tiers is None):
        raise ControlError(Code.BAD_REQUEST, "give either a target or tiers: one of both, and not both")
    order: dict[str, Json] = {"target_kw": target_kw} if tiers is None else {"tiers": tiers}
    async with desk.audited(args, "shed.start", reason=reason, **order):
        _check_free(desk)
        told = await desk.engine.client.call_entity(
            substation_id(desk.field.site), "start", {"actor": who(args), "reason": reason, **order}, operator=True
        )
        if not told["started"]:
            raise ControlError(Code.REFUSED, f"{told['reason']}: override it, or wait until it has ended")
    # What was asked for is on record ahead of this; only now it has a name, by which it is found again.
    done = {"op": "shed.started", "actor": who(args), "instance": told["instance"], "reason": reason, **order}
    await desk.engine.record("", "audit", done)
    mode = desk.station().mode or desk.field.site.shedding.mode
    sentence = f"{told['instance']} is to shed {_repeated(desk, target_kw, tiers)}"
    if mode is Mode.MONITOR:
        sentence += "; the mode is monitor: it says what it would shed, switches nothing, and ends"
    return {"instance": told["instance"], "mode": mode.value, "sentence": sentence}


def _target(desk: Desk, args: Arguments) -> float | None:
    value = args.get("target_kw")
    if value is None:
        return None
    capacity_kw = desk.field.site.transformer.capacity_kw
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ControlError(Code.BAD_REQUEST, "target_kw must be a number")
    if not 0 < value <= capacity_kw:
        most = f"{capacity_kw / 1000:g} MW, the capacity of the transformer"
        raise ControlError(Code.BAD_REQUEST, f"a target is above 0 and at most {most}, not {value / 1000:g} MW")
    return float(value)


def _tiers(desk: Desk, args: Arguments) -> list[str] | None:
    """The tiers that are meant, in the order in which tiers are shed."""
    given = args.get("tiers")
    if given is None:
        return None
    known = [tier.name for tier in sorted(desk.field.site.tiers, key=lambda tier: tier.rank)]
    if not isinstance(given, list) or not 0 < len(given) <= TIERS_AT_MOST:
        raise ControlError(Code.BAD_REQUEST, f"tiers is a list of names out of {', '.join(known)}")
    for name in given:
        if name not in known:
            raise ControlError(Code.NOT_FOUND, f"this site has no tier {str(name)[:60]!r}; it has {', '.join(known)}")
    return [name for name in known if name in given]


def _check_free(desk: Desk) -> None:
    """Errors: ControlError (``refused``)."""
    station, gate = desk.station(), desk.field.gate
    if station.running is not None:
        name = station.running.instance
        raise ControlError(Code.REFUSED, f"{name} has the station: override it, or wait until it has ended")
    if station.held or gate.held:
        why = station.held or getattr(gate, "reason", "") or "the gateway is starting"
        raise ControlError(Code.REFUSED, f"outputs are held, so nothing can be shed: {why}")


def _repeated(desk: Desk, target_kw: float | None, tiers: list[str] | None) -> str:
    """The order in words, with what the site could give now."""
    names = tiers or [tier.name for tier in sorted(desk.field.site.tiers, key=lambda tier: tier.rank)]
    closed = [feeder for name in names for feeder in _closed(desk, name)]
    there_kw = sum(desk.field.load_kw(feeder) for feeder in closed)
    words = f"{feeders(len(closed))} with {there_kw / 1000:.2f} MW can be shed now"
    if target_kw is None:
        return f"all of {', '.join(names)}: {words}"
    short = f", {(target_kw - there_kw) / 1000:.2f} MW too few" if there_kw < target_kw else ""
    return f"{target_kw / 1000:g} MW, tier by tier in the order {', '.join(names)}: {words}{short}"


def _closed(desk: Desk, tier: str) -> list[str]:
    readings = ((feeder.name, desk.field.driver.breaker(feeder.name)) for feeder in desk.field.in_tier(tier))
    return [name for name, r in readings if r.position is Position.CLOSED and r.quality is Quality.GOOD]
