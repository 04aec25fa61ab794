"""Scenario files and timed faults."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from simulators.breakers import BreakerFault
from simulators.faults import FaultError, FaultRequest, read_scenario
from simulators.simulation import Simulation


def scenario(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "faults.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_scenario_is_read_with_times_and_values(simulation: Simulation, tmp_path: Path) -> None:
    path = scenario(
        tmp_path,
        """
        [[fault]]
        kind = "slow"
        feeder = "F001-001"
        value = 2.5
        at_s = 3
        for_s = 4
        [[fault]]
        kind = "malformed"
        device = "RTU002"
        how = "short"
        """,
    )
    assert read_scenario(path, simulation.plant) == [
        (3.0, [FaultRequest("slow", "F001-001", 2.5, None, 4.0)]),
        (0.0, [FaultRequest("malformed", "RTU002", None, "short", None)]),
    ]


def test_picks_come_from_the_seed_and_the_tier(simulation: Simulation, tmp_path: Path) -> None:
    text = 'seed = {}\n[[fault]]\nkind = "stuck"\npick = 3\ntier = "Tier2"\n'
    first = read_scenario(scenario(tmp_path, text.format(1)), simulation.plant)
    again = read_scenario(scenario(tmp_path, text.format(1)), simulation.plant)
    others = [read_scenario(scenario(tmp_path, text.format(seed)), simulation.plant) for seed in range(2, 6)]
    assert first == again
    assert any(other != first for other in others)
    tiers = {feeder.name: feeder.tier for feeder in simulation.site.feeders}
    assert [tiers[request.target] for request in first[0][1]] == ["Tier2"] * 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[fault]]\nfeeder = 'F001-001'", "fault 1: 'kind'"),
        ("[[fault]]\nkind = 'stuck'\nfeeder = 'F001-001'\nat = 3", "unknown key at"),
        ("[[fault]]\nkind = 'stuck'\nfeeder = 'F001-001'\nat_s = 'soon'", "could not convert"),
        ("fault = 3", "written as"),
        ("[[fault", "faults.toml"),
    ],
)
def test_a_bad_scenario_is_refused_with_its_place(
    simulation: Simulation, tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(FaultError, match=message):
        read_scenario(scenario(tmp_path, text), simulation.plant)


async def test_planned_faults_come_at_their_time_and_go_after_it(simulation: Simulation, until: Any) -> None:
    breaker = simulation.plant.switchgear.by_name["F001-001"]
    simulation.faults.plan(0.02, [FaultRequest("stuck", "F001-001", for_s=0.02)])
    assert BreakerFault.STUCK not in breaker.faults

    async def stuck() -> bool:
        return BreakerFault.STUCK in breaker.faults

    async def free() -> bool:
        return BreakerFault.STUCK not in breaker.faults

    await until(stuck)
    await until(free)


async def test_a_fault_put_on_again_lasts_its_new_time(simulation: Simulation) -> None:
    breaker = simulation.plant.switchgear.by_name["F001-001"]
    simulation.faults.apply(FaultRequest("stuck", "F001-001", for_s=0.01))
    simulation.faults.apply(FaultRequest("stuck", "F001-001"))
    await asyncio.sleep(0.05)
    assert BreakerFault.STUCK in breaker.faults


async def test_a_plan_with_an_impossible_fault_is_refused_whole(simulation: Simulation) -> None:
    with pytest.raises(FaultError, match="no feeder is named"):
        simulation.faults.plan(0.0, [FaultRequest("stuck", "F001-001"), FaultRequest("stuck", "nobody")])
    await asyncio.sleep(0.01)
    assert not simulation.plant.switchgear.by_name["F001-001"].faults


def test_clearing_one_kind_leaves_the_others(simulation: Simulation) -> None:
    breaker = simulation.plant.switchgear.by_name["F001-001"]
    simulation.faults.apply(FaultRequest("stuck", "F001-001"))
    simulation.faults.apply(FaultRequest("local", "F001-001"))
    simulation.faults.clear("F001-001", "stuck")
    assert set(breaker.faults) == {BreakerFault.LOCAL}
    with pytest.raises(FaultError, match="no feeder or device"):
        simulation.faults.clear("nobody")
    with pytest.raises(FaultError, match="that can be cleared"):
        simulation.faults.clear("F001-001", "trip")
