"""The activities that command the field: mass commands to breakers, and the one frame that a breaker entity asks for.

``SendDisconnectCommand`` and ``SendReconnectCommand`` are what orchestrators call. Their input is a tier's name, a
feeder's name, a list of feeders, or an object with ``feeders`` (or ``tier``) and any of ``actor``, ``reason``,
``deadline_us``, ``deadline_s``, ``procedure``, ``force``. Their result tells for each feeder the outcome: done,
refused, failed, expired or unknown. They ask the breaker entities, never the driver.

``OperateBreaker`` runs at most once for an intent; ``ReadBreaker`` may run as often as it likes.

What must stay true: no frame leaves in mode monitor, while outputs are held, or after its deadline; a critical feeder
is never opened by an orchestration; a command that comes again after a restart has the same request id and is
answered, not repeated.

A crash here: the mass commands are run again with the same ``operation_id``, of which the request ids are made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import msgspec

from config.models import Mode
from gateway.clock import to_us
from gateway.durable.activities import ActivityContext
from gateway.durable.client import DurableOrchestrationClient
from gateway.durable.errors import EntityOperationError
from gateway.shedding.breaker_model import Breaker, OperateAnswer, ReadAnswer, Result
from gateway.shedding.entities import breaker_id, substation_id
from gateway.shedding.field import Field
from gateway.shedding.states import breaker_state
from protocols.base import BreakerReading, Outcome, Position, Quality

MAX_COMMANDS_UNDER_WAY = 1024
"""Breakers that one mass command has under way at once; the others wait in order."""
BEGUN_AT_ONCE = 50
"""Commands that are begun without letting others run: a millisecond or two."""
READ_AT_ONCE = 500
"""Breaker states that are read without letting others run."""
READ_PAUSE_S = 0.2
READ_PAUSE_MAX_S = 5.0
"""Real seconds between two readbacks of a breaker whose outcome is unknown: doubled each time up to the second."""

Outcomes = dict[str, str]


class MassCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Input of a mass command in its long form. deadline_s: engine seconds from the turn that
    decided it; deadline_us outranks it."""

    feeders: list[str] = []
    tier: str = ""
    actor: str = ""
    reason: str = ""
    deadline_us: int = 0
    deadline_s: float = 0.0
    procedure: str = ""
    force: bool = False


class OperateOrder(msgspec.Struct, frozen=True):
    """Input of OperateBreaker."""

    feeder: str
    target: Position
    deadline_us: int
    intent: int


class ReadOrder(msgspec.Struct, frozen=True):
    """Input of ReadBreaker."""

    feeder: str
    target: Position
    give_up_us: int
    intent: int


class CommandActivities:
    """The activities bound to one field."""

    def __init__(self, field: Field) -> None:
        self._field = field

    async def send_disconnect(self, input_: object, context: ActivityContext) -> Outcomes:
        """Open breakers; the outcome of each. A tier means its sheddable feeders."""
        order = await self._order(input_, context)
        feeders = [f.name for f in self._field.in_tier(order.tier)] if order.tier else order.feeders
        return await self._command("open", feeders, order, context)

    async def send_reconnect(self, input_: object, context: ActivityContext) -> Outcomes:
        """Close breakers; the outcome of each. A tier means those of its feeders that a procedure has opened."""
        order = await self._order(input_, context)
        if not order.tier:
            return await self._command("close", order.feeders, order, context)
        # Also those that must not be shed any more: a site may have changed since they were.
        names = [f.name for f in self._field.site.feeders if f.tier == order.tier]
        states = await breaker_states(context.client, names)
        may_be_shed = {f.name for f in self._field.in_tier(order.tier)}
        settled = [n for n in names if states[n].position is Position.CLOSED and states[n].command is None]
        closed = [n for n in settled if n in may_be_shed]
        # Whoever else has opened a feeder had a reason of their own: it stays open.
        shed = [n for n in names if states[n].shed is not None or (states[n].command is not None and n in may_be_shed)]
        outcomes = {n: (Result.DONE if states[n].quality is Quality.GOOD else Result.UNKNOWN).value for n in closed}
        return outcomes | await self._command("close", shed, order, context)

    async def _order(self, value: object, context: ActivityContext) -> MassCommand:
        field = self._field
        match value:
            case str():
                order = MassCommand(tier=value) if value in field.tiers else MassCommand(feeders=[value])
            case list():
                order = MassCommand(feeders=msgspec.convert(value, list[str]))
            case _:
                order = msgspec.convert(value, MassCommand)
        if order.tier and order.tier not in field.tiers:
            raise ValueError(f"unknown tier {order.tier!r}; this site has {', '.join(sorted(field.tiers))}")
        unknown = [name for name in order.feeders if name not in field.feeders]
        if unknown:
            raise ValueError(f"unknown feeder or tier {', '.join(unknown[:5])} ({len(unknown)} in all)")
        deadline_s = order.deadline_s or field.site.shedding.command_deadline_s
        return msgspec.structs.replace(
            order,
            feeders=list(dict.fromkeys(order.feeders)),
            actor=order.actor or context.instance_id,
            procedure=order.procedure or context.instance_id,
            deadline_us=order.deadline_us or await self._scheduled_us(context) + int(deadline_s * 1e6),
        )

    async def _scheduled_us(self, context: ActivityContext) -> int:
        """When this command was decided: the last turn of its orchestration, at the latest.

        Not now: a command that is run again after an outage would get a fresh deadline and outlive its reason.
        """
        status = await context.client.get_status(context.instance_id)
        return min(to_us(status.last_updated_time), self._field.clock.now_us())

    async def _command(
        self, operation: str, feeders: Sequence[str], order: MassCommand, context: ActivityContext
    ) -> Outcomes:
        outcomes: Outcomes = {}
        waiting = iter(feeders)

        async def work() -> None:
            for feeder in waiting:
                outcomes[feeder] = await self._one(operation, feeder, order, context)

        async with asyncio.TaskGroup() as group:
            for number in range(min(len(feeders), MAX_COMMANDS_UNDER_WAY)):
                if number % BEGUN_AT_ONCE == 0:
                    await asyncio.sleep(0)
                group.create_task(work())
        return {feeder: outcomes[feeder] for feeder in feeders}

    async def _one(self, operation: str, feeder: str, order: MassCommand, context: ActivityContext) -> str:
        message = {
            "request_id": f"{context.operation_id}/{feeder}",
            "actor": order.actor,
            "reason": order.reason,
            "deadline_us": order.deadline_us,
            "force": order.force,
            "procedure": order.procedure,
            "kw": round(self._field.load_kw(feeder), 3) if operation == "open" else 0.0,
        }
        try:
            told = await context.client.call_entity(breaker_id(feeder), operation, message)
        except EntityOperationError:
            # The operation was rolled back, so nothing was sent; the journal holds why.
            return Result.FAILED.value
        return str(told["outcome"])

    async def operate_breaker(self, input_: object, context: ActivityContext) -> OperateAnswer:
        """Put one command on the wire. Runs at most once for its intent."""
        order = msgspec.convert(input_, OperateOrder)
        field = self._field
        if order.feeder not in field.feeders:
            return _nothing_sent(Outcome.REFUSED, f"this site has no feeder {order.feeder} any more")
        # First the gate, then the mode: while the gateway starts, the mode is not known yet and reads as monitor.
        waited = field.gate.held
        while field.gate.held and field.clock.now_us() < order.deadline_us:
            await field.gate.wait_released(field.clock.real_seconds_until(order.deadline_us))
        if field.clock.now_us() >= order.deadline_us or field.gate.held:
            held = " while outputs were held" if field.gate.held else ""
            return _nothing_sent(Outcome.NOT_SENT, f"its deadline passed{held}", expired=True)
        if waited and not _wanted(context.client, order):
            return _nothing_sent(Outcome.NOT_SENT, "it was withdrawn while outputs were held")
        if field.mode is not Mode.ARMED:
            return _nothing_sent(Outcome.REFUSED, "the substation is in mode monitor: nothing is written")
        left_s = field.clock.real_seconds_until(order.deadline_us)
        end = await field.driver.operate(order.feeder, order.target, left_s)
        expired = end.outcome is Outcome.NOT_SENT and field.clock.now_us() >= order.deadline_us
        return OperateAnswer(end.outcome, end.position, end.detail, end.sent, expired, end.op_count)

    async def read_breaker(self, input_: object) -> ReadAnswer:
        """Read until the breaker is in the target position, or any travel of the last command is certainly over.

        Gives up at give_up_us, not before one try after the travel time. Travel counts from the start of this activity,
        in real seconds: the command was sent earlier than that.
        """
        order = msgspec.convert(input_, ReadOrder)
        field = self._field
        feeder = field.feeders.get(order.feeder)
        if feeder is None:
            raise LookupError(f"this site has no feeder {order.feeder!r}")
        timeout_s = field.devices[feeder.device].timeout_s
        loop = asyncio.get_running_loop()
        settled_at = loop.time() + 2 * feeder.travel_s + timeout_s
        pause_s = READ_PAUSE_S
        while True:
            asked_at = loop.time()
            reading = await field.driver.read_breaker(order.feeder, timeout_s)
            settled = asked_at >= settled_at
            good = reading.quality is Quality.GOOD and reading.position is not Position.UNKNOWN
            if good and (settled or reading.position is order.target):
                return _read_answer(reading, settled)
            if settled and field.clock.now_us() >= order.give_up_us:
                return _read_answer(reading, settled)
            left_s = settled_at - loop.time()
            await asyncio.sleep(min(pause_s, left_s) if left_s > 0 else pause_s)
            pause_s = min(2 * pause_s, READ_PAUSE_MAX_S)

    async def apply_mode(self, _: object, context: ActivityContext) -> dict[str, object]:
        """Take the mode of the substation entity over to the last gate before the wire."""
        return {"mode": (await load_mode(self._field, context.client)).value}


async def load_mode(field: Field, client: DurableOrchestrationClient) -> Mode:
    """Read the mode of the substation entity into the field; the site's own while nobody has set one."""
    state = await client.call_entity(substation_id(field.site), "get", None)
    field.mode = Mode(state["mode"])
    return field.mode


async def breaker_states(client: DurableOrchestrationClient, feeders: Iterable[str]) -> dict[str, Breaker]:
    """The committed states of many breakers, by feeder; lets others run now and then, so that nobody waits for it."""
    states: dict[str, Breaker] = {}
    for number, feeder in enumerate(feeders, start=1):
        states[feeder] = breaker_state(client, feeder)
        if number % READ_AT_ONCE == 0:
            await asyncio.sleep(0)
    return states


def _wanted(client: DurableOrchestrationClient, order: OperateOrder) -> bool:
    """Whether the intent still stands; asked after a wait, for meanwhile its procedure may have ended."""
    command = breaker_state(client, order.feeder).command
    return command is not None and command.intent == order.intent and command.wanted


def _nothing_sent(outcome: Outcome, detail: str, expired: bool = False) -> OperateAnswer:
    return OperateAnswer(outcome, Position.UNKNOWN, detail, sent=False, expired=expired)


def _read_answer(reading: BreakerReading, settled: bool) -> ReadAnswer:
    return ReadAnswer(reading.position, reading.quality, settled, reading.local, reading.op_count)
