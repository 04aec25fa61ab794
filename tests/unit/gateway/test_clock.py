"""Engine time: anchored, step-proof, never backwards, at the site's rate."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from gateway import clock as clock_module
from gateway.clock import ManualClock, SystemClock, from_us, iso, synchronized, to_us


class FakeTime:
    """Wall clock and time since boot, as the test says."""

    CLOCK_BOOTTIME = time.CLOCK_BOOTTIME

    def __init__(self) -> None:
        self.wall_ns = 1_768_377_600_000_000_000
        self.boot_ns = 5_000_000_000

    def time_ns(self) -> int:
        return self.wall_ns

    def clock_gettime_ns(self, _: int) -> int:
        return self.boot_ns

    def pass_s(self, seconds: float) -> None:
        self.wall_ns += int(seconds * 1e9)
        self.boot_ns += int(seconds * 1e9)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr(clock_module, "time", fake)
    return fake


def test_a_step_of_the_wall_clock_moves_no_timer_but_is_told(fake):
    clock = SystemClock()
    started = clock.now_us()
    due = started + 10_000_000
    fake.pass_s(4)
    fake.wall_ns -= 3_600_000_000_000
    assert clock.now_us() == started + 4_000_000
    assert clock.real_seconds_until(due) == pytest.approx(6.0)
    assert clock.wall_step_s() == pytest.approx(-3600.0)


def test_it_starts_no_earlier_than_the_journal(fake):
    ahead = fake.wall_ns // 1000 + 60_000_000
    assert SystemClock(not_before_us=ahead).now_us() == ahead


def test_a_simulated_site_finds_its_time_again_after_a_restart(fake):
    origin, wall = 1_389_600_000_000_000, fake.wall_ns // 1000
    line = {"rate": 60.0, "origin_us": origin, "wall_origin_us": wall}
    clock = SystemClock(**line)
    fake.pass_s(2)
    assert clock.now_us() == origin + 120_000_000
    assert clock.real_seconds_until(origin + 180_000_000) == pytest.approx(1.0)
    assert SystemClock(**line).now_us() == clock.now_us()


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_a_rate_must_be_above_zero(rate):
    with pytest.raises(ValueError, match="rate"):
        SystemClock(rate=rate)


def test_times_convert_exactly():
    moment = datetime(2026, 1, 14, 8, 0, 0, 123_456, tzinfo=UTC)
    assert from_us(to_us(moment)) == moment
    assert to_us(moment.replace(tzinfo=None)) == to_us(moment)
    assert iso(to_us(moment)) == "2026-01-14T08:00:00.123Z"


def test_a_manual_clock_stands_until_told():
    clock = ManualClock(0)
    assert clock.real_seconds_until(1_000_000) > 0
    clock.advance(1)
    assert clock.now_us() == 1_000_000
    assert clock.real_seconds_until(1_000_000) == 0


def test_the_kernel_says_whether_time_is_synchronised():
    assert synchronized() in (True, False, None)
