"""Bad input of all kinds: each has an error that names the limit or the rule and the place, and hurts nobody else.

Every test in this folder ends the same way (fixture ``bad``): a bystander that was running before is told an event and ends
well, the engine has not failed, and an engine that starts from any prefix of what was committed reads it without complaint:
bad input must not lie in the journal either, where it would stop each start from now on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.unit.durable.bad_input.parts import (
    Bad,
    big_result,
    box,
    bystander,
    echo,
    odd_result,
    raises,
    raises_in_thread,
)


@pytest.fixture
async def bad(site: Any) -> AsyncIterator[Bad]:
    """See Bad."""
    registry = site.registry
    registry.orchestrator(bystander)
    registry.entity(box)
    for activity in (echo, odd_result, big_result, raises, raises_in_thread):
        registry.activity(activity)
    engine = await site.start()
    await engine.client.start_new("bystander", "bystander")
    bad = Bad(site, engine)
    yield bad
    await bad.check()
