"""The three entities of the application: breaker, transformer, substation. Thin shells around pure modules.

Each shell decodes the message, steps the pure core, and gives the engine what came out. What must stay true: nothing is
decided here. An operation is atomic: on an exception its state, its signals and its activities are as if they had
never been, and the caller gets the error.

Operations
==========
``@breaker@FEEDER``: open, close, withdraw, observe, resolve, block, unblock, reset, get (see ``breaker_model``).
``@transformer@NAME``: observe (``Loading``), get.
``@substation@SITE``: set_mode, start, claim, finished, hold, release, stress, evaluate, consumed, get.

A crash here: the engine brings each entity back as it was after its last journaled operation.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import msgspec
from msgspec.structs import replace

from config.models import Mode, Site
from gateway.durable.entity import DurableEntityContext
from gateway.durable.identity import EntityId
from gateway.shedding import substation as core
from gateway.shedding.breaker import transition
from gateway.shedding.breaker_events import DEFERRED, classify
from gateway.shedding.breaker_model import (
    MESSAGES,
    TEXT_LIMIT,
    Answer,
    Breaker,
    Ended,
    IntentContext,
    Message,
    Operate,
    Read,
    Rules,
    Switch,
)
from protocols.base import Position

BREAKER = "breaker"
TRANSFORMER = "transformer"
SUBSTATION = "substation"

_NEW_BREAKER = Breaker()
_GONE = Rules(critical=True, sheddable=False, max_operations_per_hour=0, command_deadline_us=0, max_repeats=0)
"""Rules of a feeder that the site has no more: a command that was under way ends, and nothing is sent again."""
_RESULTS = frozenset({"command_result", "readback_result"})
_DECODERS: dict[str, msgspec.json.Decoder[Message]] = {
    name: msgspec.json.Decoder(kind) for name, kind in MESSAGES.items()
}


@functools.lru_cache(maxsize=100_000)
def breaker_id(feeder: str) -> EntityId:
    """The entity of a feeder's breaker."""
    return EntityId(BREAKER, feeder)


def substation_id(site: Site) -> EntityId:
    """The entity of the site's substation."""
    return EntityId(SUBSTATION, site.name)


def transformer_id(site: Site) -> EntityId:
    """The entity of the site's transformer."""
    return EntityId(TRANSFORMER, site.transformer.name)


def answer(ended: Ended, position: Position) -> dict[str, object]:
    """What a caller of ``open`` or ``close`` is told."""
    return {
        "outcome": ended.result,
        "detail": ended.detail,
        "request_id": ended.request_id,
        "target": ended.target,
        "position": position,
        "intent": ended.intent,
        "resolved": ended.resolved,
        "at_us": ended.at_us,
    }


def breaker_entity(rules_of: Callable[[str], Rules | None]) -> Callable[[DurableEntityContext], object]:
    """The breaker entity of a site.

    rules_of: the site's rules for a feeder, None when the site has no such feeder. Its operations fail then, save the
    outcome of a command that was under way: were it lost, the breaker would be busy for ever once it is back.
    """

    def breaker(context: DurableEntityContext) -> object:
        state: Breaker = context.get_state() or _NEW_BREAKER
        operation = context.operation_name
        if operation == "get":
            return state
        decoder = _DECODERS.get(operation)
        if decoder is None:
            raise ValueError(f"a breaker has no operation {operation!r}; it has {', '.join(MESSAGES)}, get")
        rules = rules_of(context.entity_key) or (_GONE if operation in _RESULTS else None)
        if rules is None:
            raise LookupError(f"this site has no feeder {context.entity_key!r}")
        message = decoder.decode(context.get_raw_input())
        if isinstance(message, Switch) and not message.deadline_us:
            # From when it was sent: a signal that waited for the power to come back is an old command.
            message = replace(message, deadline_us=context.sent_us + rules.command_deadline_us)
        state = _with_callers_who_wait(context, state)
        meaning = classify(state, rules, operation, message, context.now_us)
        token = context.defer_result() if meaning.event in DEFERRED else None
        after, effects = transition(state, rules, message, meaning, context.now_us, token)
        result: dict[str, object] | None = None
        feeder = context.entity_key
        for effect in effects:
            match effect:
                case Operate():
                    _operate(context, feeder, effect)
                case Read():
                    _read(context, feeder, effect)
                case Answer(()):
                    result = answer(effect.ended, effect.position)
                case Answer():
                    told = answer(effect.ended, effect.position)
                    for waiting in effect.tokens:
                        context.resolve(waiting, told)
        if after is not state:
            context.set_state(after)
        return result

    return breaker


def _with_callers_who_wait(context: DurableEntityContext, state: Breaker) -> Breaker:
    """Without the callers whose process has ended: they must not take the places of those who ask again."""
    command = state.command
    if command is None:
        return state
    waiting = tuple([token for token in command.tokens if context.waits(token)])
    return state if waiting == command.tokens else replace(state, command=replace(command, tokens=waiting))


def _operate(context: DurableEntityContext, feeder: str, effect: Operate) -> None:
    context.call_activity(
        "OperateBreaker",
        {
            "feeder": feeder,
            "target": effect.target,
            "deadline_us": effect.deadline_us,
            "intent": effect.intent,
        },
        on_result="command_result",
        context=IntentContext(effect.intent),
    )


def _read(context: DurableEntityContext, feeder: str, effect: Read) -> None:
    context.call_activity(
        "ReadBreaker",
        {
            "feeder": feeder,
            "target": effect.target,
            "give_up_us": effect.give_up_us,
            "intent": effect.intent,
        },
        on_result="readback_result",
        context=IntentContext(effect.intent, effect.read),
    )


def transformer_entity(station: Callable[[], EntityId]) -> Callable[[DurableEntityContext], object]:
    """The transformer entity; station: the substation that it tells of stress."""

    def transformer(context: DurableEntityContext) -> object:
        state: core.Transformer = context.get_state() or core.Transformer()
        if context.operation_name == "get":
            return state
        if context.operation_name != "observe":
            raise ValueError(f"a transformer has no operation {context.operation_name!r}; it has observe, get")
        told = msgspec.json.decode(context.get_raw_input(), type=core.Loading)
        changed = told.armed != state.armed
        since_us = context.now_us if changed else state.since_us
        context.set_state(core.Transformer(told.armed, told.measured, told.load_pct, since_us))
        if changed:
            context.signal_entity(station(), "stress", {"on": told.armed, "load_pct": told.load_pct})
        return None

    return transformer


class _Order(msgspec.Struct, frozen=True):
    """Input of the substation's operations; each uses some of these."""

    actor: str = ""
    reason: str = ""
    mode: Mode | None = None
    instance: str = ""
    on: bool = False
    load_pct: float = 0.0
    target_kw: float | None = None
    tiers: list[str] | None = None
    result: dict[str, object] = {}
    record: dict[str, object] = {}


def substation_entity(site: Callable[[], Site]) -> Callable[[DurableEntityContext], object]:
    """The substation entity; site: as it is configured now."""

    def substation(context: DurableEntityContext) -> object:
        state: core.Substation = context.get_state() or core.Substation()
        operation = _SUBSTATION.get(context.operation_name)
        if operation is None:
            raise ValueError(
                f"a substation has no operation {context.operation_name!r}; it has {', '.join(_SUBSTATION)}"
            )
        order = _Order()
        if context.operation_name != "mode_applied":
            order = msgspec.json.decode(context.get_raw_input(), type=_Order | None) or order
        after, result = operation(context, site(), state, order)
        after, start = core.evaluate(
            after,
            site().shedding.mode,
            site().name,
            site().shedding.max_sheds_per_hour,
            context.now_us,
        )
        if start is not None:
            context.start_new(core.PROTOCOL, start.input, start.instance)
        if after is not state:
            context.set_state(after)
        return result

    return substation


_Operation = Callable[[DurableEntityContext, Site, core.Substation, _Order], tuple[core.Substation, object]]


def _get(_: DurableEntityContext, site: Site, state: core.Substation, order: _Order) -> tuple[core.Substation, object]:
    return state, msgspec.structs.asdict(replace(state, mode=state.mode or site.shedding.mode))


def _evaluate(
    _: DurableEntityContext, site: Site, state: core.Substation, order: _Order
) -> tuple[core.Substation, object]:
    return state, None


def _stress(
    _: DurableEntityContext, site: Site, state: core.Substation, order: _Order
) -> tuple[core.Substation, object]:
    return core.stress(state, order.on, order.load_pct), None


def _set_mode(
    context: DurableEntityContext, site: Site, state: core.Substation, order: _Order
) -> tuple[core.Substation, object]:
    """The mode is the entity's; the field is told by an activity, after this is on disk."""
    if order.mode is None or not order.actor:
        raise ValueError("set_mode needs mode (monitor or armed) and actor")
    context.call_activity("ApplyMode", None, on_result="mode_applied")
    note = f"mode {order.mode} set by {order.actor}: {order.reason}"[:TEXT_LIMIT]
    return replace(state, mode=order.mode, last_note=note, quiet=""), {"mode": order.mode.value}


def _start(
    context: DurableEntityContext, site: Site, state: core.Substation, order: _Order
) -> tuple[core.Substation, object]:
    """A person starts a procedure: with a target in kW, with tiers, or with neither (until the load is normal)."""
    if not order.actor:
        raise ValueError("start needs an actor")
    unknown = [t for t in order.tiers or [] if t not in {tier.name for tier in site.tiers}]
    if unknown:
        raise ValueError(f"unknown tier {', '.join(unknown)}; this site has {', '.join(t.name for t in site.tiers)}")
    if order.target_kw is not None and not 0 < order.target_kw < 1e9:
        raise ValueError(f"target_kw must be above 0, not {order.target_kw}")
    if state.running is not None:
        return state, {"started": False, "reason": f"{state.running.instance} runs already"}
    wish: dict[str, object] = {"reason": order.reason or "started by hand", "actor": order.actor}
    if order.target_kw is not None:
        wish["target_kw"] = order.target_kw
    if order.tiers:
        wish["tiers"] = list(order.tiers)
    after, start = core.start(state, site.name, wish, context.now_us)
    if start is None:
        return after, {"started": False, "reason": "not now"}
    context.start_new(core.PROTOCOL, start.input, start.instance)
    return after, {"started": True, "instance": start.instance}


def _claim(
    context: DurableEntityContext, site: Site, state: core.Substation, order: _Order
) -> tuple[core.Substation, object]:
    after, why = core.claim(state, order.instance, context.now_us)
    mode = after.mode or site.shedding.mode
    return after, {"granted": not why, "reason": why, "mode": mode.value}


def _finished(
    _: DurableEntityContext, site: Site, state: core.Substation, order: _Order
) -> tuple[core.Substation, object]:
    return core.finished(state, order.instance, order.result), None


def _hold(_: DurableEntityContext, site: Site, state: core.Substation, order: _Order) -> tuple[core.Substation, object]:
    return replace(state, held=order.reason[:TEXT_LIMIT] or "held"), None


def _release(
    _: DurableEntityContext, site: Site, state: core.Substation, order: _Order
) -> tuple[core.Substation, object]:
    note = f"released by {order.actor}: {order.reason}"[:TEXT_LIMIT]
    return replace(state, held="", quiet="", last_note=note), None


def _consumed(
    _: DurableEntityContext, site: Site, state: core.Substation, order: _Order
) -> tuple[core.Substation, object]:
    return core.consume(state, order.record), None


_SUBSTATION: Mapping[str, _Operation] = {
    "get": _get,
    "evaluate": _evaluate,
    "mode_applied": _evaluate,
    "stress": _stress,
    "set_mode": _set_mode,
    "start": _start,
    "claim": _claim,
    "finished": _finished,
    "hold": _hold,
    "release": _release,
    "consumed": _consumed,
}
