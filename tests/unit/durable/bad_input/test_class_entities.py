"""Operations that a class-based entity does not offer."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.durable import (
    EntityId,
    EntityOperationError,
)
from tests.unit.durable.bad_input.parts import Odd


class Safe:
    """Its attributes are its state."""

    def __init__(self) -> None:
        self.things: list[Any] = []

    def put(self, thing: Any) -> int:
        self.things.append(thing)
        return len(self.things)

    def lose(self) -> None:
        self.things.append(Odd())

    def _secret(self) -> str:
        return "never"


@pytest.mark.parametrize("operation", ["_secret", "__init__", "__class__", "__dict__", "things", "nothing", "lose"])
async def test_operations_that_a_class_does_not_offer(bad, operation):
    bad.site.registry.entity(Safe)
    safe = EntityId("safe", "s")
    assert await bad.client.call_entity(safe, "put", 1) == 1
    with pytest.raises(EntityOperationError, match="safe"):
        await bad.client.call_entity(safe, operation)
    assert (await bad.client.read_entity_state(safe)).entity_state == {"things": [1]}
    assert await bad.client.call_entity(safe, "put", 2) == 2
