"""A wall clock that was stepped is told once, in the journal and as a warning."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from gateway.clock_check import ClockCheck
from tests.core_station import Station, make_site


@pytest.mark.parametrize(("step_s", "told"), [(0.9, False), (-0.9, False), (1.0, True), (-3600.0, True)])
async def test_a_step_is_told_once(step_s: float, told: bool) -> None:
    station = Station(make_site())
    await station.start()
    clock: Any = SimpleNamespace(wall_step_s=lambda: step_s)
    check = ClockCheck(station.engine, clock)
    check.look()
    check.look()
    await station.engine.on_disk()
    records = [msgspec.json.decode(record.payload) for record in station.store.records]
    assert [record["event"] for record in records] == (["clock_stepped"] if told else [])
    assert check.warning == (
        f"the wall clock was stepped by {step_s:.1f} s; running timers are not moved" if told else ""
    )
    await station.engine.stop(0.1)
