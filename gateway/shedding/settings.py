"""What a procedure needs of the site, read once at its start and part of its history from then on."""

from __future__ import annotations

import msgspec

from config.models import Site


class ProcedureSettings(msgspec.Struct, frozen=True):
    """Times in seconds of engine time, tiers in the order of their rank; the rest as in ``config.models``."""

    station: str
    tiers: list[str]
    cooldown_s: float
    target_pct: float
    arm_pct: float
    clear_pct: float
    check_s: float
    block_size: int
    command_deadline_s: float
    max_shed_s: float
    stable_for_s: float
    stage_wait_s: float
    abort_pct: float
    bad_measurement: str
    config_sha256: str


def settings_of(site: Site) -> ProcedureSettings:
    """The settings that hold now."""
    return ProcedureSettings(
        station=site.name,
        tiers=[tier.name for tier in sorted(site.tiers, key=lambda tier: tier.rank)],
        cooldown_s=site.shedding.cooldown_s,
        target_pct=site.shedding.target_pct,
        arm_pct=site.trigger.arm_pct,
        clear_pct=site.trigger.clear_pct,
        check_s=site.shedding.check_s,
        block_size=site.shedding.block_size,
        command_deadline_s=site.shedding.command_deadline_s,
        max_shed_s=site.shedding.max_shed_s,
        stable_for_s=site.restoration.stable_for_s,
        stage_wait_s=site.restoration.stage_wait_s,
        abort_pct=site.restoration.abort_pct,
        bad_measurement=site.transformer.bad_measurement.value,
        config_sha256=site.sha256,
    )
