"""The scenario: when the story begins, and what is written for it."""

from __future__ import annotations

import socket
from datetime import timedelta
from pathlib import Path

import pytest

from config.loader import load_operators
from simulators.heatwave import scenario as told
from simulators.heatwave.cli import make_site
from simulators.heatwave.scenario import ARM_PCT, FAST, FIRST_HOST, Scenario, crossing, free_port, plan
from simulators.site import read_site
from simulators.weather import REFERENCE_PEAK, read_weather


@pytest.mark.parametrize("peak_pct", [98.7, 99.2, 103.0])
def test_the_crossing_is_the_first_minute_at_the_limit(peak_pct: float) -> None:
    """At that minute the curve is at the limit, a minute before it is not; never after the peak."""
    weather = read_weather()
    peak_gw = weather.demand_at(REFERENCE_PEAK.timestamp())
    moment = crossing(peak_pct, weather)
    assert moment <= REFERENCE_PEAK
    assert peak_pct * weather.demand_at(moment.timestamp()) / peak_gw >= ARM_PCT
    assert peak_pct * weather.demand_at(moment.timestamp() - 60) / peak_gw < ARM_PCT


def test_a_peak_below_the_limit_is_refused() -> None:
    """There would be no story."""
    with pytest.raises(ValueError, match="never reaches"):
        crossing(97.0, read_weather())


def test_the_story_begins_before_the_limit_and_commands_have_real_time() -> None:
    """lead_s before the crossing; the deadline of a command grows with the rate."""
    scenario = Scenario(rate=100.0)
    made = plan(scenario, 1234)
    assert made.origin == crossing(scenario.peak_pct, read_weather()) - timedelta(seconds=scenario.lead_s)
    assert made.command_deadline_s == 100.0 * scenario.deadline_s


def test_some_of_the_rtus_speak_opc_ua() -> None:
    """Never more than there are; operators have an address of their own behind the devices'."""
    assert plan(Scenario(rtus=2, opcua_rtus=4), 1234).opcua_rtus == 2
    assert plan(Scenario(rtus=3), 1234).operators == ("127.0.41.5", 1234)


def test_a_port_that_is_taken_is_passed_over() -> None:
    """The next one is taken."""
    with socket.socket() as taken:
        first = free_port(3)
        taken.bind((FIRST_HOST, first))
        taken.listen()
        assert free_port(3) != first


def test_no_free_port_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not looked for for ever."""
    monkeypatch.setattr(told, "PORTS_TRIED", 0)
    with pytest.raises(OSError, match="no port"):
        free_port(3)


def test_the_site_is_made_anew_and_critical_feeders_are_known(tmp_path: Path) -> None:
    """What an earlier run left is gone; the site can be read."""
    folder = tmp_path / "run"
    make_site(FAST, folder)
    (folder / "old.log").write_text("yesterday")
    critical, console = make_site(FAST, folder)
    assert not (folder / "old.log").exists()
    assert len(read_site(folder).feeders) == FAST.feeders
    assert critical
    assert critical < {feeder.name for feeder in read_site(folder).feeders}
    assert load_operators(folder).port == console.port


def test_a_folder_with_other_things_is_not_touched(tmp_path: Path) -> None:
    """No site in it: it is somebody's."""
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="choose another"):
        make_site(FAST, tmp_path)
    assert (tmp_path / "thesis.txt").exists()
