"""Committed states of breaker entities, typed, for planners and reports."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec

from gateway.durable.client import DurableOrchestrationClient
from gateway.shedding.breaker_model import Breaker
from gateway.shedding.entities import breaker_id

READ_AT_ONCE = 500

_NEW = Breaker()
_decode = msgspec.json.Decoder(Breaker).decode


def breaker_state(client: DurableOrchestrationClient, feeder: str) -> Breaker:
    """The committed state of one breaker; that of a new one when it has no entity yet."""
    raw = client.read_entity_raw(breaker_id(feeder))
    return _NEW if raw is None else _decode(raw)


async def breaker_states(client: DurableOrchestrationClient, feeders: Iterable[str]) -> dict[str, Breaker]:
    """The committed states of many breakers, by feeder; lets others run now and then, so that nobody waits for it."""
    states: dict[str, Breaker] = {}
    for number, feeder in enumerate(feeders, start=1):
        states[feeder] = breaker_state(client, feeder)
        if number % READ_AT_ONCE == 0:
            await asyncio.sleep(0)
    return states
