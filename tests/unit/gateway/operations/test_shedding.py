"""A procedure that a person has ordered: who ordered it is found again by its name."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.control import Code, ControlError
from gateway.operations import Desk, shedding
from gateway.operations.desk import handler
from tests.core_station import Station


@pytest.fixture
def order(station: Station, desk: Desk) -> Any:
    """Give an order, as user ola."""

    async def give(**args: Any) -> Any:
        return await handler(desk, shedding.start)({**args, "_peer": {"user": "ola"}})

    return give


async def test_the_timeline_tells_who_ordered_it(order: Any, ask: Any, station: Station) -> None:
    told = await order(tiers=["Tier1"], reason="dispatch 17")
    await station.phase(told["instance"], "cooldown")
    timeline = await ask("instances.timeline", instance=told["instance"])
    assert (timeline["started_by"]["actor"], timeline["started_by"]["tiers"]) == ("ola", ["Tier1"])


@pytest.mark.parametrize(
    "args",
    [
        {"reason": "why"},
        {"reason": "why", "target_kw": 10, "tiers": ["Tier1"]},
        {"reason": "why", "target_kw": True},
        {"reason": "why", "target_kw": float("nan")},
        {"reason": "why", "target_kw": 1e9},
        {"reason": "why", "tiers": []},
        {"reason": "why", "tiers": "Tier1"},
        {"reason": "", "tiers": ["Tier1"]},
    ],
)
async def test_an_order_that_can_not_be_understood_starts_nothing(order: Any, args: Any, station: Station) -> None:
    with pytest.raises(ControlError) as refused:
        await order(**args)
    assert refused.value.code is Code.BAD_REQUEST
    assert not any(record.instance.startswith("shed-") for record in station.store.records)
