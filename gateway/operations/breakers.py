"""Operations on breakers: list, show, switch, block. What is shown of a position is what was read, never what was asked."""

from __future__ import annotations

import asyncio
import uuid

import msgspec

from gateway.control import Code, ControlError
from gateway.durable.codec import Json
from gateway.operations.arguments import Arguments, limit, optional, seconds, text, who
from gateway.operations.desk import Desk, Operation, unknown_feeder
from gateway.shedding.breaker_model import Breaker, Phase
from gateway.shedding.entities import breaker_id

WAIT_S = 30.0
WAIT_AT_MOST_S = 300.0
"""How long who switches a breaker waits for its outcome."""


async def show_list(desk: Desk, args: Arguments) -> Json:
    """A page of breakers, in the order of the point list."""
    most = limit(args)
    after, prefix = optional(args, "after"), optional(args, "prefix") or ""
    wanted = {key: optional(args, key) for key in ("position", "tier", "outcome")}
    if after is not None and after not in desk.field.feeders:
        raise unknown_feeder(after)
    if wanted["tier"] is not None and wanted["tier"] not in desk.field.tiers:
        known = ", ".join(sorted(desk.field.tiers))
        raise ControlError(Code.NOT_FOUND, f"this site has no tier {wanted['tier']!r}; it has {known}")
    passed = after is None
    found: list[dict[str, Json]] = []
    for name in desk.field.feeders:
        if not passed:
            passed = name == after
            continue
        if not name.startswith(prefix):
            continue
        shown = _breaker(desk, name, _state(desk, name))
        if all(word in (None, shown[key]) for key, word in wanted.items()):
            found.append(shown)
            if len(found) == most:
                break
    return {"breakers": found, "next": found[-1]["feeder"] if len(found) == most else None}


async def show_one(desk: Desk, args: Arguments) -> Json:
    """One breaker, with all that is known."""
    name = desk.feeder(args)
    feeder = desk.field.feeders[name]
    state = _state(desk, name)
    return {
        **_breaker(desk, name, state),
        "critical": feeder.critical,
        "sheddable": feeder.sheddable,
        "ufls_stage": feeder.ufls_stage,
        "group": feeder.group,
        "customers": feeder.customers,
        "rated_kw": feeder.rated_kw,
        "link": desk.field.driver.link_of(name).state.value,
        "state": msgspec.to_builtins(state),
    }


def switch(operation: str) -> Operation:
    """Open or close one breaker, and wait for what became of it."""

    async def run(desk: Desk, args: Arguments) -> Json:
        name, reason = desk.feeder(args), text(args, "reason")
        wait_s = seconds(args, "wait_s", WAIT_S, 0.1, WAIT_AT_MOST_S)
        request = f"operator/{uuid.uuid4().hex}"  # stands in the audit record and in the breaker's state
        force = bool(args.get("force"))
        message = {"request_id": request, "actor": who(args), "reason": reason, "force": force}
        insists: dict[str, Json] = {"force": True} if force else {}
        asked = desk.audited(args, f"breakers.{operation}", feeder=name, reason=reason, request_id=request, **insists)
        try:
            async with asked, asyncio.timeout(wait_s):
                told = await desk.engine.client.call_entity(breaker_id(name), operation, message, operator=True)
        except TimeoutError:
            detail = f"no outcome within {wait_s:g} s; the breaker's status tells how it ends"
            return {"feeder": name, "outcome": "unknown", "position": "unknown", "detail": detail}
        return {"feeder": name, **{key: told[key] for key in ("outcome", "position", "detail")}}

    return run


def note(operation: str) -> Operation:
    """Block one breaker for remote operation, or let it be operated again."""

    async def run(desk: Desk, args: Arguments) -> Json:
        name, reason = desk.feeder(args), text(args, "reason")
        told = {"actor": who(args), "reason": reason}
        async with desk.audited(args, f"breakers.{operation}", feeder=name, reason=reason):
            await desk.engine.client.call_entity(breaker_id(name), operation, told, operator=True)
        blocked = operation == "block"
        words = "blocked: nobody can operate it remotely" if blocked else "not blocked any more"
        return {"feeder": name, "blocked": blocked, "detail": f"{name} is {words}"}

    return run


def _state(desk: Desk, name: str) -> Breaker:
    return desk.watch.committed(name) or Breaker()


def _breaker(desk: Desk, name: str, state: Breaker) -> dict[str, Json]:
    reading = desk.field.driver.breaker(name)
    feeder = desk.field.feeders[name]
    age_s = asyncio.get_running_loop().time() - reading.read_at if reading.read_at else None
    return {
        "feeder": name,
        "tier": feeder.tier,
        "position": reading.position.value,
        "commanded": None if state.commanded is None else state.commanded.value,
        "quality": reading.quality.value,
        "age_s": None if age_s is None else round(age_s, 2),
        "local": reading.local,
        "blocked": state.blocked is not None,
        "outcome": _outcome(state),
        "power_kw": None if reading.power_kw is None else round(reading.power_kw, 3),
        "op_count": reading.op_count,
        "device": feeder.device,
        "intents": state.intents,
    }


def _outcome(state: Breaker) -> str | None:
    """How the last command ended, or where it is; None if there was none."""
    match state.phase:
        case Phase.IDLE:
            return state.recent[-1].result.value if state.recent else None
        case Phase.OPERATING:
            return "operating"
        case _:
            return "unknown"
