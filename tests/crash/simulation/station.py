"""The stations of the stories: 10 to 40 breakers, their points, their load, and settings that vary with the seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from crash.simulation.rtu import COUNTERS_AT, LOAD_AT

from config.device_models import Address, BreakerPoints, Device, Table
from config.models import (
    AfterRestart,
    BadMeasurement,
    Feeder,
    Gateway,
    JournalCare,
    Measurement,
    Mode,
    Restoration,
    Shedding,
    Site,
    Tier,
    Transformer,
    Trigger,
)

BEGIN = datetime(2026, 1, 14, 6, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a seed decides before the story begins. Hours of virtual time."""

    hours: float
    """So long things go wrong; then all is mended."""
    fault_every_s: float
    order_every_s: float
    crash_every_s: float
    look_s: float
    commit_fails: float
    peak_pct: float


def plan_of(chance: random.Random) -> Plan:
    """Some stories are short and stormy, some long and quiet."""
    hours, calm = chance.choices(((3.0, 1.0), (8.0, 2.0), (30.0, 10.0)), (35, 35, 30))[0]
    return Plan(
        hours=hours,
        fault_every_s=calm * chance.choice((150.0, 400.0, 1500.0)),
        order_every_s=calm * chance.choice((200.0, 600.0, 1500.0)),
        crash_every_s=calm * chance.choice((300.0, 900.0, 3000.0)),
        look_s=chance.choice((5.0, 15.0, 30.0)) if calm < 10 else 60.0,
        commit_fails=chance.choice((0.0, 0.0, 0.0005, 0.004)),
        peak_pct=chance.uniform(96.0, 135.0),
    )


def make_site(chance: random.Random) -> Site:
    """A station of this seed."""
    devices_number = chance.choice((1, 1, 2, 2, 3))
    number = chance.randrange(10, 41)
    poll_s = chance.choice((15.0, 45.0, 90.0))
    devices = tuple(
        Device(
            f"rtu{place}",
            f"sim{place}",
            502,
            1,
            timeout_s=chance.choice((0.5, 1.0, 2.0)),
            poll_fast_s=poll_s,
            poll_slow_s=2 * poll_s,
            backoff_min_s=0.5,
            backoff_max_s=20.0,
            stale_after_s=3 * poll_s,
        )
        for place in range(devices_number)
    )
    tiers = (Tier("Tier1", 1, ""), Tier("Tier2", 2, ""), Tier("Tier3", 3, ""))
    travel_s = chance.choice((0.5, 1.0, 3.0))
    feeders = []
    for n in range(number):
        place = n // devices_number
        kind = "critical" if n % 9 == 4 else "none" if n % 9 == 7 else "shed"
        feeders.append(
            Feeder(
                name=f"F{n:02d}",
                device=f"rtu{n % devices_number}",
                points=BreakerPoints(
                    pos_closed=Address(Table.HOLDING, place, 0),
                    pos_open=Address(Table.HOLDING, place, 1),
                    open_cmd=Address(Table.COIL, 2 * place),
                    close_cmd=Address(Table.COIL, 2 * place + 1),
                    local=Address(Table.HOLDING, place, 2),
                    op_count=None if n % 11 == 5 else Address(Table.HOLDING, COUNTERS_AT + place),
                ),
                tier=None if kind == "none" else f"Tier{1 + n % 3}",
                critical=kind == "critical",
                sheddable=kind == "shed",
                ufls_stage=None,
                rated_kw=float(chance.choice((10, 20, 20, 40, 80))),
                group="",
                customers=1,
                load_class="home",
                travel_s=travel_s,
                line=n,
            )
        )
    total_kw = sum(feeder.rated_kw for feeder in feeders)
    return Site(
        name="Northgate",
        path=Path("/etc/gridlatch"),
        sha256="00",
        gateway=Gateway(Path("/s"), Path("/s/s"), 0o600, chance.random() < 0.3, "info", "json", 20_000, None, ()),
        transformer=Transformer("T1", total_kw, "load", None, chance.choice(list(BadMeasurement))),
        trigger=Trigger(arm_for_s=60.0, clear_for_s=300.0),
        tiers=tiers,
        shedding=Shedding(
            Mode.ARMED,
            cooldown_s=chance.choice((120.0, 300.0, 600.0)),
            check_s=chance.choice((60.0, 120.0)),
            block_size=chance.choice((2, 5, 100)),
            command_deadline_s=chance.choice((20.0, 60.0, 120.0)),
            max_operations_per_hour=chance.choice((6, 12)),
            # Who moves late is recognised by its counter: that has to be read in time, as a site's settings must see to.
            late_move_s=max(60.0, 6 * poll_s),
            min_off_s=chance.choice((60.0, 300.0, 900.0)),
            max_shed_s=chance.choice((3600.0, 14400.0)),
            after_restart=chance.choice(list(AfterRestart)),
        ),
        restoration=Restoration(
            stable_for_s=chance.choice((120.0, 600.0)),
            stage_pct=chance.choice((5.0, 20.0)),
            stage_wait_s=chance.choice((60.0, 300.0)),
        ),
        devices=devices,
        measurements=(Measurement("load", "rtu0", Address(Table.HOLDING, LOAD_AT, scale=0.1), "kW", 3 * poll_s),),
        feeders=tuple(feeders),
        warnings=(),
        journal=JournalCare(Path("/s/archive"), 90, 0, (BEGIN + timedelta(hours=1)).time(), 600.0),
    )
