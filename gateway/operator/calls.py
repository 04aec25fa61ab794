"""What operators' methods do: each is carried out by the operation of the same meaning (``gateway.operations``).

A method here makes an operation's arguments of a client's, and the client's answer of the operation's result. What must
stay true: nothing is decided here that the command line would decide otherwise; every end of a call has a status and a
sentence; Good is said only of what was done. An operation answers when its effect is on disk, so a crash leaves an
answered call done, and one without an answer to be looked up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from gateway.control import Code, ControlError
from gateway.durable.codec import Json
from gateway.operations import breakers, instances, shedding, station
from gateway.operations.desk import Desk, Operation, handler
from gateway.operator import inputs, names
from gateway.operator.alarms import ALARM, KEY_AT_MOST, Alarms, Seen, alarm_id
from gateway.operator.breaker_values import dbpos
from gateway.operator.roles import Role, may_see
from gateway.operator.station_watch import StationWatch
from gateway.shedding.conduct import EVENT
from protocols.opcua.surface import Answer, Status, Value

SWITCH_S = 20.0
"""How long Open and Close wait for the outcome."""
TAKEN_S = 2.0
"""How long Override waits for the step that takes it."""

STATUS: Mapping[Code, Status] = {
    Code.BAD_REQUEST: Status.BAD_ARGUMENT,
    Code.NOT_FOUND: Status.NOT_FOUND,
    Code.GONE: Status.REFUSED,
    Code.EXISTS: Status.REFUSED,
    Code.REFUSED: Status.REFUSED,
    Code.UNKNOWN_OUTCOME: Status.TIMEOUT,
    Code.TOO_LARGE: Status.TOO_LARGE,
    Code.UNAVAILABLE: Status.UNAVAILABLE,
    Code.INTERNAL: Status.INTERNAL,
}


@dataclass(frozen=True, slots=True)
class Call:
    """One call. peer: who asks, as records name them. inputs: as the client sent them, in the order declared."""

    peer: dict[str, Json]
    roles: frozenset[Role]
    key: str
    inputs: tuple[Value, ...]

    def args(self, **more: Json) -> dict[str, Json]:
        """Arguments of an operation."""
        return {"_peer": self.peer, **more}

    @property
    def user(self) -> str:
        """Who asks."""
        return str(self.peer["user"])


Method = Callable[[Call], Awaitable[Answer]]


class Calls:
    """All methods, by type of object and name."""

    def __init__(self, desk: Desk, watch: StationWatch, alarms: Alarms) -> None:
        self._desk = desk
        self._watch = watch
        self._alarms = alarms
        shed, breaker = names.SHEDDING_TYPE, names.BREAKER_TYPE
        self.methods: Mapping[tuple[str, str], Method] = {
            (shed, "StartShedding"): self._start,
            (shed, "Override"): self._override,
            (shed, "SetMode"): self._set_mode,
            (shed, "Release"): self._release,
            (shed, "RaiseEvent"): self._raise_event,
            (shed, "Suspend"): self._instance(instances.suspend, "is suspended: it stands still until it is resumed"),
            (shed, "Resume"): self._instance(instances.resume, "goes on"),
            (shed, "Terminate"): self._instance(instances.terminate, "is terminated; breakers stay as they are"),
            (breaker, "Open"): self._switch("open"),
            (breaker, "Close"): self._switch("close"),
            (breaker, "Block"): self._note("block"),
            (breaker, "Unblock"): self._note("unblock"),
            (names.GATEWAY_TYPE, "Acknowledge"): self._acknowledge,
        }

    async def _ask(self, operation: Operation, args: dict[str, Json]) -> Json:
        return await handler(self._desk, operation)(args)

    async def _start(self, call: Call) -> Answer:
        target_mw = inputs.number(call.inputs[0], "TargetMW")
        tiers = inputs.texts(call.inputs[1], "Tiers")
        reason = inputs.text(call.inputs[2], "Reason")
        capacity_mw = self._desk.field.site.transformer.capacity_kw / 1000
        if target_mw is not None and not 0 < target_mw <= capacity_mw:
            words = f"TargetMW must be above 0 and at most {capacity_mw:g}, the capacity in MW; it is {target_mw:g}"
            return Answer(Status.OUT_OF_RANGE, words)
        order = call.args(
            reason=reason,
            target_kw=None if target_mw is None else target_mw * 1000,
            tiers=tiers or None,
        )
        told = await self._ask(shedding.start, order)
        return Answer(Status.OK, told["sentence"], (told["instance"],))

    async def _override(self, call: Call) -> Answer:
        instance = inputs.optional(call.inputs[0], "InstanceId")
        decision = inputs.text(call.inputs[1], "Decision")
        feeder = inputs.optional(call.inputs[2], "Feeder")
        reason = inputs.text(call.inputs[3], "Reason")
        expires_s = inputs.number(call.inputs[4], "ExpiresS") or 0.0
        if not 0 <= expires_s <= station.EXPIRY_AT_MOST_S:
            words = f"ExpiresS must be from 0 (never) to {station.EXPIRY_AT_MOST_S:g} seconds; it is {expires_s:g}"
            return Answer(Status.OUT_OF_RANGE, words)
        order = call.args(
            instance=instance or None,
            decision=decision,
            feeder=feeder or None,
            reason=reason,
            expires_s=expires_s or None,
        )
        told = await self._ask(station.override, order)
        taken = await self._watch.taken(told["instance"], told["id"], TAKEN_S)
        if taken is None:
            words = f"accepted by {told['instance']}, not consumed yet: an event tells when a step has taken it"
            return Answer(Status.OK, words, (False, "", ""))
        step, outcome = str(taken.get("step", "")), str(taken.get("outcome", ""))
        words = f"{told['instance']} took it in step {step}: {outcome}"
        return Answer(Status.OK, words, (True, step, outcome))

    async def _set_mode(self, call: Call) -> Answer:
        mode, reason = inputs.text(call.inputs[0], "Mode"), inputs.text(call.inputs[1], "Reason")
        told = await self._ask(station.set_mode, call.args(mode=mode.lower(), reason=reason))
        return Answer(Status.OK, told["detail"])

    async def _release(self, call: Call) -> Answer:
        reason = inputs.text(call.inputs[0], "Reason")
        told = await self._ask(station.release, call.args(reason=reason))
        return Answer(Status.OK, told["detail"])

    async def _raise_event(self, call: Call) -> Answer:
        instance, event = inputs.text(call.inputs[0], "InstanceId"), inputs.text(call.inputs[1], "Event")
        if event.lower() == EVENT.lower():
            # It would go around what Override checks, and name whom it likes.
            return Answer(Status.REFUSED, f"{EVENT} is what the method Override sends: use that")
        data = inputs.data(call.inputs[2], "DataJson")
        await self._ask(instances.raise_event, call.args(instance=instance, event=event, data=data))
        return Answer(Status.OK, f"{event} was raised for {instance}")

    def _instance(self, operation: Operation, done: str) -> Method:
        async def run(call: Call) -> Answer:
            instance, reason = inputs.text(call.inputs[0], "InstanceId"), inputs.text(call.inputs[1], "Reason")
            await self._ask(operation, call.args(instance=instance, reason=reason))
            return Answer(Status.OK, f"{instance} {done}")

        return run

    def _switch(self, verb: str) -> Method:
        operation = breakers.switch(verb)

        async def run(call: Call) -> Answer:
            reason = inputs.text(call.inputs[0], "Reason")
            told = await self._ask(operation, call.args(feeder=_feeder(call), reason=reason, wait_s=SWITCH_S))
            outcome, detail = str(told["outcome"]), str(told["detail"])
            words = f"{verb} {told['feeder']}: {outcome}" + (f", {detail}" if detail else "")
            position = dbpos(str(told["position"]))
            if position is None:  # it was not read for this; what the last scan says, or that nobody knows
                position = dbpos(self._desk.field.driver.breaker(str(told["feeder"])).position.value)
            outputs = outcome, _NOBODY_KNOWS if position is None else position
            return Answer(_OUTCOMES.get(outcome, Status.REFUSED), words, outputs)

        return run

    def _note(self, verb: str) -> Method:
        operation = breakers.note(verb)

        async def run(call: Call) -> Answer:
            reason = inputs.text(call.inputs[0], "Reason")
            told = await self._ask(operation, call.args(feeder=_feeder(call), reason=reason))
            return Answer(Status.OK, told["detail"])

        return run

    async def _acknowledge(self, call: Call) -> Answer:
        key = inputs.text(call.inputs[0], "AlarmKey", KEY_AT_MOST)
        comment = inputs.optional(call.inputs[1], "Comment")
        if key not in self._alarms or not may_see(call.roles, self._alarms[key].trouble.type):
            return Answer(Status.NOT_FOUND, f"there is no alarm {key!r}")
        if self._alarms[key].acked:
            return _seen_already(key, self._alarms[key].acked_by)

        async def acknowledge(desk: Desk, args: dict[str, Json]) -> Json:
            async with desk.audited(args, f"{ALARM}.acknowledge", alarm=key, reason=comment):
                seen = Seen(call.user, comment)
                return await desk.engine.client.call_entity(alarm_id(key), "acknowledge", seen, operator=True)

        told = await self._ask(acknowledge, call.args())
        if not told["seen"]:
            return _seen_already(key, told["by"])
        return Answer(Status.OK, f"{key} is acknowledged by {call.user}")


_NOBODY_KNOWS = 3
"""Position of a breaker that was never read, in an answer: the "bad" of IEC 61850."""
_OUTCOMES: Mapping[str, Status] = {"done": Status.OK, "unknown": Status.TIMEOUT}
"""Outcome of a command → status; any other one means that it was not done."""


def _seen_already(key: str, by: str) -> Answer:
    return Answer(Status.REFUSED, f"{key} was acknowledged by {by} already")


def _feeder(call: Call) -> str:
    try:
        return names.feeder_of(call.key)
    except ValueError:
        raise ControlError(Code.NOT_FOUND, f"{call.key[:80]!r} is no breaker") from None
