"""Oil and hot spot against golden values of the standard's equations."""

from __future__ import annotations

import pytest

from simulators.transformer import ONAF, ONAN_DISTRIBUTION, Transformer, ageing_factor, ageing_rate


def test_at_rated_load_it_rests_at_the_sum_of_the_rises() -> None:
    assert Transformer(ONAF, 1.0, 20.0).oil_c == pytest.approx(72.0)
    assert Transformer(ONAF, 1.0, 20.0).hot_spot_c == pytest.approx(98.0)
    assert Transformer(ONAN_DISTRIBUTION, 1.0, 20.0).hot_spot_c == pytest.approx(98.0)


def test_ten_minutes_at_1_2_per_unit_on_a_hot_day() -> None:
    transformer = Transformer(ONAF, 0.98, 40.0)
    assert transformer.hot_spot_c == pytest.approx(115.9, abs=0.05)
    transformer.step(600.0, 1.2, 40.0)
    assert transformer.hot_spot_c == pytest.approx(124.8, abs=0.05)


def test_the_length_of_a_step_does_not_matter() -> None:
    long, short = Transformer(ONAF, 0.5, 30.0), Transformer(ONAF, 0.5, 30.0)
    long.step(3600.0, 1.1, 35.0)
    for _ in range(360):
        short.step(10.0, 1.1, 35.0)
    assert short.hot_spot_c == pytest.approx(long.hot_spot_c, abs=1e-9)


def test_the_hot_spot_overshoots_where_oil_lags_and_settles_in_the_end() -> None:
    transformer = Transformer(ONAF, 0.5, 20.0)
    start = transformer.hot_spot_c
    transformer.step(1800.0, 1.0, 20.0)
    assert start < transformer.hot_spot_c
    assert transformer.hot_spot_c - transformer.oil_c > 26.0
    transformer.step(7 * 86400.0, 1.0, 20.0)
    assert transformer.hot_spot_c == pytest.approx(98.0, abs=1e-6)


@pytest.mark.parametrize(
    ("hot_spot_c", "rate", "factor"),
    [(80, 0.125, 0.036), (98, 1, 0.282), (110, 4, 1.0), (122, 16, 3.29), (140, 128, 17.2)],
)
def test_ageing(hot_spot_c: float, rate: float, factor: float) -> None:
    assert ageing_rate(hot_spot_c) == pytest.approx(rate)
    assert ageing_factor(hot_spot_c) == pytest.approx(factor, rel=0.02)


def test_an_hour_at_98_degrees_takes_an_hour_of_life() -> None:
    transformer = Transformer(ONAF, 1.0, 20.0)
    transformer.step(3600.0, 1.0, 20.0)
    assert transformer.life_used_h == pytest.approx(1.0)
