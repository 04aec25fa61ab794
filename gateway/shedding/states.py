"""The committed state of a breaker entity, typed, for planners and reports."""

from __future__ import annotations

import msgspec

from gateway.durable.client import DurableOrchestrationClient
from gateway.shedding.breaker_model import Breaker
from gateway.shedding.entities import breaker_id

_NEW = Breaker()
_decode = msgspec.json.Decoder(Breaker).decode


def breaker_state(client: DurableOrchestrationClient, feeder: str) -> Breaker:
    """The committed state of one breaker; that of a new one when it has no entity yet."""
    raw = client.read_entity_raw(breaker_id(feeder))
    return _NEW if raw is None else _decode(raw)
