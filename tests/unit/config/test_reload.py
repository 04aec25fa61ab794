"""What may change at SIGHUP, and what is said to need a restart."""

from __future__ import annotations

import pytest

from config import restart_needed


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("site.toml", "arm_pct = 98.0", "arm_pct = 97.5"),
        ("site.toml", "cooldown_s = 600.0", "cooldown_s = 300.0"),
        ("site.toml", "stage_wait_s = 300.0", "stage_wait_s = 600.0"),
        ("site.toml", 'log_level = "info"', 'log_level = "debug"'),
        ("site.toml", "keep_days = 90", "keep_days = 30"),
        ("site.toml", "EV chargers and pool pumps", "EV chargers"),
        ("feeders.csv", "F02,rtu1,tier1,no", "F02,rtu1,tier2,no"),
        ("feeders.csv", "F02,rtu1,tier1,no,yes", "F02,rtu1,,yes,no"),
        ("feeders.csv", "260,north,35,ev_charging", "280,east,36,mixed"),
        ("feeders.csv", "# rtu2 is an older relay", "\n\n# moved down by two lines"),
    ],
)
def test_these_are_taken_over_while_running(site, file: str, old: str, new: str) -> None:
    before = site.load()
    site.replace(file, old, new)
    after = site.load()
    assert after != before
    assert restart_needed(before, after) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("site.toml", 'name = "Riverside"', 'name = "Hillside"', "site.name changed"),
        ("site.toml", 'mode = "monitor" ', 'mode = "armed" ', "shedding.mode changed"),
        ("site.toml", "max_turns_pending = 10000", "max_turns_pending = 1", "gateway.max_turns_pending changed"),
        ("site.toml", "capacity_kw = 6000.0", "capacity_kw = 6100", "transformer.capacity_kw changed"),
        ("site.toml", "rank = 3", "rank = 4", "tiers changed: tier3"),
        ("devices.csv", "192.0.2.11", "192.0.2.13", "devices changed: rtu1"),
        ("feeders.csv", "coil:2,coil:3", "coil:90,coil:3", "feeders changed: F02"),
        ("feeders.csv", "F05,rtu1", "F05b,rtu1", "feeders added: F05b"),
        ("measurements.csv", "kW,5", "kW,6", "measurements changed: t1_load"),
    ],
)
def test_these_need_a_restart(site, file: str, old: str, new: str, said: str) -> None:
    before = site.load()
    site.replace(file, old, new)
    assert said in restart_needed(before, site.load())


def test_long_lists_are_cut(site) -> None:
    before = site.load()
    text = (site.path / "feeders.csv").read_text()
    (site.path / "feeders.csv").write_text(text.replace("\nF", "\nG"))
    assert restart_needed(before, site.load()) == [
        "feeders added: G01, G02, G03, G04, G05 and 7 more",
        "feeders removed: F01, F02, F03, F04, F05 and 7 more",
    ]
