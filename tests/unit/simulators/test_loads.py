"""The load behind the feeders: follows the real day, drops with every opened breaker, comes back higher than it went."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from simulators.generate import Plan, generate
from simulators.loads import CarFleet, LoadModel, PoolPumps
from simulators.site import SimulatedSite, SiteError, read_site
from simulators.weather import LOCAL, read_weather


def at(hour: float, day: int = 16) -> float:
    return datetime(2014, 1, day, tzinfo=LOCAL).timestamp() + hour * 3600


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> SimulatedSite:
    folder: Path = tmp_path_factory.mktemp("site")
    generate(folder, Plan(rtus=12, breakers=50))
    return read_site(folder)


def model(site: SimulatedSite, hour: float) -> tuple[LoadModel, bytearray]:
    energised = bytearray(b"\1" * len(site.feeders))
    return LoadModel(site, read_weather(), energised, at(hour)), energised


def percent(loads: LoadModel, site: SimulatedSite) -> float:
    return 100 * loads.total_kw() / site.capacity_kw


def test_without_shedding_98_percent_is_crossed_in_the_afternoon_of_the_16th(site: SimulatedSite) -> None:
    loads, _ = model(site, 9.0)
    course = {}
    for step in range(1, 13 * 12):
        loads.advance(at(9.0 + step / 12), 30.0)
        course[9.0 + step / 12] = percent(loads, site)
    smooth = {hour: np.mean([p for h, p in course.items() if abs(h - hour) < 0.3]) for hour in course}
    crossed = min(hour for hour, p in smooth.items() if p >= 98)
    relieved = min(hour for hour, p in smooth.items() if hour > 16 and p < 95)
    assert 11.75 < crossed < 13.5
    assert 17.25 < relieved < 19.0
    assert max(smooth.values()) == pytest.approx(101.0, abs=1.5)
    assert all(p < 95 for hour, p in smooth.items() if hour > 19.5)


def test_the_undisturbed_load_follows_the_demand_curve(site: SimulatedSite) -> None:
    loads, _ = model(site, 10.0)
    for step in range(1, 16):
        loads.advance(at(10.0 + step / 2), 30.0)
        assert loads.total_kw() == pytest.approx(loads.curve_kw(loads.time_s), rel=0.03)


def test_a_dead_feeder_takes_nothing_and_the_sum_drops_by_its_load(site: SimulatedSite) -> None:
    loads, energised = model(site, 14.0)
    loads.advance(at(14.0) + 30, 30.0)
    before = loads.power_kw.copy()
    for index in range(0, 600, 3):
        energised[index] = 0
    loads.advance(at(14.0) + 60, 30.0)
    assert not loads.power_kw[0::3].any()
    assert loads.total_kw() == pytest.approx(before.sum() - before[0::3].sum(), rel=0.01)


def test_cold_load_pick_up_grows_with_the_outage(site: SimulatedSite) -> None:
    ratios = [cooling_rebound(site, minutes) for minutes in (1, 10, 20, 60)]
    assert ratios == sorted(ratios)
    assert ratios[0] < 1.25
    assert ratios[1] > 1.2
    assert 1.5 < ratios[3] < 2.5


def cooling_rebound(site: SimulatedSite, minutes: int) -> float:
    loads, energised = model(site, 13.0)
    before = loads.cooling_expected_kw(loads.weather.felt_at(loads.time_s))
    energised[:] = bytes(len(energised))
    now = at(13.0) + minutes * 60
    loads.advance(now, 30.0)
    assert loads.total_kw() == 0
    energised[:] = b"\1" * len(energised)
    peak = 0.0
    for step in range(1, 11):
        loads.advance(now + step * 30, 30.0)
        peak = max(peak, loads.cooling_kw())
    return peak / before


def test_the_rebound_fades(site: SimulatedSite) -> None:
    loads, energised = model(site, 12.0)
    energised[:] = bytes(len(energised))
    loads.advance(at(12.5), 30.0)
    energised[:] = b"\1" * len(energised)
    loads.advance(at(12.6), 30.0)
    assert percent(loads, site) > 110
    loads.advance(at(15.5), 30.0)
    assert percent(loads, site) < 106


def test_the_same_seed_gives_the_same_load(site: SimulatedSite) -> None:
    first, second = model(site, 12.0)[0], model(site, 12.0)[0]
    for loads in (first, second):
        loads.advance(at(12.2), 30.0)
    assert np.array_equal(first.power_kw, second.power_kw)


def test_less_than_a_step_waits_and_a_long_pause_is_skipped(site: SimulatedSite) -> None:
    loads, _ = model(site, 12.0)
    assert loads.advance(at(12.0) + 29, 30.0) == 0
    assert loads.advance(at(12.0) + 31, 30.0) == 1
    assert loads.advance(at(12.0, day=17) + 86400 * 30, 30.0) == 1
    assert loads.time_s == pytest.approx(at(12.0, day=17) + 86400 * 30)


def test_a_transformer_too_small_for_its_cars_is_refused(tmp_path: Path) -> None:
    generate(tmp_path, Plan(rtus=1, breakers=20))
    text = (tmp_path / "site.toml").read_text()
    (tmp_path / "site.toml").write_text(text.replace("capacity_kw = ", "capacity_kw = 0.1 # "))
    with pytest.raises(SiteError, match="cars and pumps alone"):
        model(read_site(tmp_path), 12.0)


def cars(daily_kwh: float = 14.4, arrival_h: float = 18.0) -> CarFleet:
    """One charger of 7.2 kW."""
    fleet = CarFleet(np.array([0]), np.array([7.2]), np.random.default_rng(1))
    fleet.arrival_s = np.array([arrival_h * 3600])
    fleet.daily_kwh = np.array([daily_kwh])
    return fleet


def test_a_car_charges_at_7_2_kw_until_its_energy_is_paid() -> None:
    fleet, on = cars(), np.array([True])
    fleet.settle(17.9 * 3600)
    taken = [float(fleet.step(t, t + 60, on)[0]) for t in np.arange(17.9 * 3600, 21 * 3600, 60)]
    assert max(taken) == pytest.approx(7.2)
    assert sum(taken) / 60 == pytest.approx(14.4)
    assert fleet.expected_kw(19.9 * 3600) == pytest.approx(7.2)
    assert fleet.expected_kw(20.1 * 3600) == 0


def test_energy_owed_outlives_an_outage() -> None:
    fleet, on, off = cars(), np.array([True]), np.array([False])
    fleet.settle(17.9 * 3600)
    taken = 0.0
    for t in np.arange(17.9 * 3600, 23 * 3600, 60):
        taken += float(fleet.step(t, t + 60, off if 18.5 * 3600 <= t < 20.5 * 3600 else on)[0]) / 60
    assert taken == pytest.approx(14.4)


def test_settled_cars_owe_what_is_left() -> None:
    fleet = cars()
    fleet.settle(19 * 3600)
    assert float(fleet.owed_kwh[0]) == pytest.approx(7.2)


def test_pool_pumps_run_in_their_window() -> None:
    pumps = PoolPumps(np.array([0]), np.array([1.5]), np.random.default_rng(1))
    pumps.start_s, pumps.length_s = np.array([9 * 3600.0]), np.array([6 * 3600.0])
    assert [float(pumps.at(h * 3600)[0]) for h in (8.9, 9.1, 14.9, 15.1)] == [0, 1.5, 1.5, 0]
