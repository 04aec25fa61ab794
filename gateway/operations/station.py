"""Operations on the station as a whole: override the procedure that runs, set the mode, let outputs go."""

from __future__ import annotations

import uuid
from datetime import timedelta

from config.models import Mode
from gateway.clock import from_us
from gateway.control import Code, ControlError
from gateway.durable import Engine
from gateway.durable.codec import Json
from gateway.durable.instances import Orchestration
from gateway.operations.arguments import Arguments, optional, role_of, seconds, text, who
from gateway.operations.desk import Desk
from gateway.shedding.activities import load_mode
from gateway.shedding.conduct import EVENT
from gateway.shedding.entities import substation_id
from gateway.shedding.override import OverrideError, check

EXPIRY_AT_MOST_S = 7 * 86_400.0


async def override(desk: Desk, args: Arguments) -> Json:
    """Tell the running procedure what an operator decides."""
    running = desk.station().running
    instance = optional(args, "instance") or (running.instance if running else None)
    if instance is None:
        raise ControlError(Code.REFUSED, "no procedure runs, so there is nothing to override")
    if why := stands_still(desk.engine, instance):
        # It would be kept, and obeyed whenever it goes on: not what a person means who decides now.
        raise ControlError(Code.REFUSED, f"{instance} {why} and hears nothing; breakers can be operated one by one")
    data = _decided(desk, args)
    async with desk.audited(args, "override", instance=instance, **data):
        await desk.engine.client.raise_event(instance, EVENT, data, raised_by=who(args))
    detail = f"{data['decision']} was given to {instance}; its status tells which step takes it"
    return {"accepted": True, "instance": instance, "id": data["id"], "detail": detail}


def stands_still(engine: Engine, instance: str) -> str:
    """Why this orchestration does nothing now, and what to do about it, as a clause; empty if it goes on."""
    live = engine.instances.get(instance)
    if not isinstance(live, Orchestration) or live.terminal:
        return ""
    if live.suspended:
        return "is suspended (resume or terminate it)"
    return f"can't run (terminate it, or start with the right code: {live.stuck})" if live.stuck else ""


def _decided(desk: Desk, args: Arguments) -> dict[str, Json]:
    """The event's data, checked as the procedure will check it."""
    data: dict[str, Json] = {
        "decision": text(args, "decision"),
        "actor": who(args),
        "reason": text(args, "reason"),
        "id": uuid.uuid4().hex,
    }
    if role := role_of(args):
        data["role"] = role
    if args.get("feeder"):
        data["feeders"] = [desk.feeder(args)]
    now_us = desk.engine.now_us()
    if args.get("expires_s") is not None:
        expires_s = seconds(args, "expires_s", 0.0, 0.0, EXPIRY_AT_MOST_S)
        data["expires"] = (from_us(now_us) + timedelta(seconds=expires_s)).isoformat()
    try:
        check(data, now_us)
    except OverrideError as error:
        raise ControlError(Code.BAD_REQUEST, str(error)) from None
    return data


async def set_mode(desk: Desk, args: Arguments) -> Json:
    """Monitor or armed."""
    wanted, reason = text(args, "mode"), text(args, "reason")
    if wanted not in tuple(Mode):
        raise ControlError(Code.BAD_REQUEST, f"unknown mode {wanted[:60]!r}; write one of {', '.join(Mode)}")
    told = {"mode": wanted, "actor": who(args), "reason": reason}
    async with desk.audited(args, "mode", mode=wanted, reason=reason):
        await desk.engine.client.call_entity(substation_id(desk.field.site), "set_mode", told, operator=True)
        # Who is told "monitor" relies on it: from here on no write leaves.
        mode = await load_mode(desk.field, desk.engine.client)
    return {"mode": mode.value, "detail": f"mode is {mode.value}"}


async def release(desk: Desk, args: Arguments) -> Json:
    """Let outputs go after a hold."""
    reason = text(args, "reason")
    if why := desk.health.why_not_released():
        raise ControlError(Code.REFUSED, why)
    told = {"actor": who(args), "reason": reason}
    async with desk.audited(args, "release", reason=reason):
        await desk.engine.client.call_entity(substation_id(desk.field.site), "release", told, operator=True)
    return {"detail": desk.health.release(who(args))}
