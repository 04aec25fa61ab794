"""Operations on orchestrations: list, show, start, raise an event, terminate."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable

import msgspec

from gateway.control import Code, ControlError
from gateway.durable import DurableOrchestrationStatus, OrchestrationRuntimeStatus
from gateway.durable.codec import Json
from gateway.durable.exported import recorded
from gateway.durable.instances import ORCHESTRATION
from gateway.durable.store import InstanceRow
from gateway.operations.arguments import Arguments, limit, moment, optional, text, who
from gateway.operations.desk import Desk
from gateway.shedding.entities import substation_id
from gateway.shedding.substation import PROTOCOL

PAGE = 1_000


async def show_list(desk: Desk, args: Arguments) -> Json:
    """A page of orchestrations."""
    most = limit(args)
    found = await desk.engine.client.get_status_by(
        moment(args, "since"),
        moment(args, "until"),
        runtime_status=_statuses(args),
        name=optional(args, "name"),
        instance_id_prefix=optional(args, "prefix"),
        limit=most,
        after=optional(args, "after"),
    )
    return {
        "instances": [_instance(one) for one in found],
        "next": found[-1].instance_id if len(found) == most else None,
    }


def _statuses(args: Arguments) -> list[OrchestrationRuntimeStatus] | None:
    wanted = args.get("status")
    try:
        return None if wanted is None else [OrchestrationRuntimeStatus(str(wanted))]
    except ValueError:
        known = ", ".join(OrchestrationRuntimeStatus)
        raise ControlError(Code.BAD_REQUEST, f"unknown status {wanted!r}; write one of {known}") from None


async def show_one(desk: Desk, args: Arguments) -> Json:
    """One orchestration, with its input and output, and its history where that is asked for."""
    one = await desk.engine.client.get_status(
        text(args, "instance"), show_history=bool(args.get("history")), show_input=True
    )
    shown = {**_instance(one), "input": one.input_, "output": one.output}
    if one.failure is not None:
        shown["failure"] = msgspec.to_builtins(one.failure)
    if one.history is not None:
        shown["history"] = one.history
    return shown


async def export(desk: Desk, args: Arguments) -> Json:
    """One orchestration with the recorded turns of its present execution, for a replay elsewhere."""
    instance = text(args, "instance")
    row = await desk.engine.store.instance(instance)
    if row is None or row[1] != ORCHESTRATION:
        raise ControlError(Code.NOT_FOUND, f"there is no orchestration {instance!r}")
    records = await desk.engine.store.history(instance, row[7]) if row[7] else []
    return recorded(InstanceRow(*row), records)


async def start(desk: Desk, args: Arguments) -> Json:
    """Start an orchestration."""
    name, wanted, version = text(args, "name"), optional(args, "instance"), optional(args, "version")
    instance = uuid.uuid4().hex if wanted is None else wanted
    async with desk.audited(args, "instances.start", instance=instance, name=name):
        await desk.engine.client.start_new(name, instance, args.get("input"), version)
    return {"instance": instance}


async def raise_event(desk: Desk, args: Arguments) -> Json:
    """Raise an event."""
    instance, event = text(args, "instance"), text(args, "event")
    async with desk.audited(args, "instances.raise", instance=instance, event=event):
        await desk.engine.client.raise_event(instance, event, args.get("data"), raised_by=who(args))
    return {"accepted": True}


async def terminate(desk: Desk, args: Arguments) -> Json:
    """End an orchestration from outside; the substation is told when it had the station."""
    instance, reason = text(args, "instance"), text(args, "reason")
    async with desk.audited(args, "instances.terminate", instance=instance, reason=reason):
        await desk.engine.client.terminate(instance, reason, raised_by=who(args))
    ended = {"instance": instance, "result": {"status": "terminated", "reason": reason}}
    await desk.engine.client.signal_entity(substation_id(desk.field.site), "finished", ended)
    return {"accepted": True}


async def suspend(desk: Desk, args: Arguments) -> Json:
    """Let an orchestration stand still."""
    instance, reason = text(args, "instance"), text(args, "reason")
    async with desk.audited(args, "instances.suspend", instance=instance, reason=reason):
        await desk.engine.client.suspend(instance, reason, raised_by=who(args))
    return {"accepted": True}


async def resume(desk: Desk, args: Arguments) -> Json:
    """Let a suspended orchestration go on."""
    instance, reason = text(args, "instance"), text(args, "reason")
    async with desk.audited(args, "instances.resume", instance=instance, reason=reason):
        await desk.engine.client.resume(instance, reason, raised_by=who(args))
    return {"accepted": True}


async def rewind(desk: Desk, args: Arguments) -> Json:
    """Take a failed orchestration back to before its failure; a procedure has to have the station for that."""
    instance, reason = text(args, "instance"), text(args, "reason")
    async with desk.audited(args, "instances.rewind", instance=instance, reason=reason):
        give_back = await _claim_again(desk, instance)
        try:
            await desk.engine.client.rewind(instance, reason, raised_by=who(args))
        except BaseException:
            await give_back()
            raise
    return {"accepted": True}


async def restart(desk: Desk, args: Arguments) -> Json:
    """Start an orchestration anew with its input; same_id: under its own id, once it has finished."""
    instance, reason = text(args, "instance"), text(args, "reason")
    async with desk.audited(args, "instances.restart", instance=instance, reason=reason):
        if (await desk.engine.client.get_status(instance)).name == PROTOCOL:
            why = "what it knew of the station is old: it starts by itself under stress, or by instances start"
            raise ControlError(Code.REFUSED, f"a {PROTOCOL} is not restarted; {why} {PROTOCOL}")
        new = await desk.engine.client.restart(instance, not args.get("same_id"))
    done = {"op": "instances.restarted", "actor": who(args), "instance": instance, "new": new, "reason": reason}
    await desk.engine.record("", "audit", done)
    return {"instance": new}


async def purge(desk: Desk, args: Arguments) -> Json:
    """Remove a finished orchestration, or all that were created in a span of time; their records stay in the log."""
    instance, reason = optional(args, "instance"), text(args, "reason")
    since, until, statuses = moment(args, "since"), moment(args, "until"), _statuses(args)
    if instance is not None:
        async with desk.audited(args, "instances.purge", instance=instance, reason=reason):
            done = await desk.engine.client.purge_instance_history(instance, raised_by=who(args))
    else:
        span: dict[str, Json] = {key: args.get(key) for key in ("since", "until", "status")}
        async with desk.audited(args, "instances.purge", reason=reason, **span):
            done = await desk.engine.client.purge_instance_history_by(since, until, statuses, raised_by=who(args))
    return {"purged": done.instances_deleted}


async def _claim_again(desk: Desk, instance: str) -> Callable[[], Awaitable[None]]:
    """The station for a procedure that has failed and so has given it back, and goes on when this instance is rewound; what
    undoes that.

    Errors: ControlError (``refused``) while another one has it: there are never two.
    """
    station = substation_id(desk.field.site)
    claimed: list[str] = []

    async def give_back() -> None:
        for procedure in claimed:
            ended = {"instance": procedure, "result": {"status": "failed", "reason": "it could not be rewound"}}
            await desk.engine.client.signal_entity(station, "finished", ended)

    for procedure in await _failed_procedures(desk, instance):
        told = await desk.engine.client.call_entity(station, "claim", {"instance": procedure}, operator=True)
        if not told["granted"]:
            await give_back()
            raise ControlError(Code.REFUSED, f"{procedure} can't have the station again: {told['reason']}")
        claimed.append(procedure)
    return give_back


async def _failed_procedures(desk: Desk, instance: str) -> list[str]:
    """The procedures that a rewind of this instance brings back: itself, and what failed below it."""
    store = desk.engine.store
    found: list[str] = []
    after: str | None = None
    while True:
        failed = [OrchestrationRuntimeStatus.Failed.value]
        page = await store.instances(kind=ORCHESTRATION, name=PROTOCOL, statuses=failed, limit=PAGE, after=after)
        for one in page:
            above: InstanceRow | None = InstanceRow(*one)
            while above is not None and above.instance != instance:
                parent = await store.instance(above.parent) if above.parent else None
                above = None if parent is None else InstanceRow(*parent)
            if above is not None:
                found.append(one[0])
        if len(page) < PAGE:
            return found
        after = page[-1][0]


def _instance(one: DurableOrchestrationStatus) -> dict[str, Json]:
    return {
        "instance": one.instance_id,
        "name": one.name,
        "status": one.runtime_status.value,
        "created": one.created_time.isoformat(),
        "updated": one.last_updated_time.isoformat(),
        "custom_status": one.custom_status,
        "replays": one.replays,
    }
