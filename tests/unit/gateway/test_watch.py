"""The watch beside the engine: whom it tells, and when it keeps silent so that an idle journal stays idle."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from gateway.clock import SystemClock
from gateway.durable.codec import Raw
from gateway.durable.entity import EntityCore, EntitySnapshot
from gateway.durable.identity import EntityId
from gateway.durable.instances import EntityInstance
from gateway.shedding.substation import Running, Substation
from gateway.watch import EVALUATE_EVERY, Watch

SITE = SimpleNamespace(name="North", transformer=SimpleNamespace(name="TX"))


def watch_over(state: Substation | None, told: list[tuple[str, str]]) -> Watch:
    instances = {}
    if state is not None:
        me = EntityId("substation", "North")
        core = EntityCore(me, lambda _: None, Substation, EntitySnapshot(Raw(msgspec.json.encode(state))))
        instances[str(me)] = EntityInstance(str(me), "substation", 0, core)
    client = SimpleNamespace(post_to_entity=lambda entity, operation, _: told.append((str(entity), operation)))
    parts: Any = SimpleNamespace(
        instances=instances, client=client, site=SITE, clock=SystemClock(), on_commit=[], get=lambda _: None
    )
    return Watch(parts, parts, parts, parts, parts, armed=False)


RUNNING = Running("shed-North-000001", 1, "loading")


@pytest.mark.parametrize(
    ("state", "asked"),
    [
        (None, False),
        (Substation(), False),
        (Substation(stress=True, running=RUNNING), False),
        (Substation(stress=True), True),
    ],
    ids=["no substation yet", "no stress", "a procedure runs", "stress and nothing runs"],
)
async def test_the_substation_is_asked_again_only_where_that_could_start_something(
    state: Substation | None, asked: bool
) -> None:
    told: list[tuple[str, str]] = []
    watch = watch_over(state, told)
    for watch.ticks in range(1, 2 * EVALUATE_EVERY + 1):
        watch._tell()
    assert told == [("@substation@North", "evaluate")] * (2 if asked else 0)
