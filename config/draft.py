"""What the loader has read of a site so far: the cross-checks look at it before the frozen models are made of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from config.device_models import Device
from config.models import Feeder, Measurement, Restoration, Shedding, Tier, Transformer, Trigger
from config.points import Rows
from config.problems import Problems
from config.source import Document


@dataclass(slots=True)
class Draft:
    """What was read so far; None or an unreadable ``Rows`` where something was wrong already."""

    document: Document
    problems: Problems
    trigger: Trigger | None = None
    shedding: Shedding | None = None
    restoration: Restoration | None = None
    transformer: Transformer | None = None
    tiers: list[Tier] = field(default_factory=list)
    tier_lines: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Lines of a tier's name and of its rank."""
    tiers_readable: bool = True
    devices_file: str = ""
    feeders_file: str = ""
    measurements_file: str = ""
    device_rows: Rows = field(default_factory=Rows)
    feeder_rows: Rows = field(default_factory=Rows)
    measurement_rows: Rows = field(default_factory=Rows)
    devices: list[Device] = field(default_factory=list)
    feeders: list[Feeder] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
