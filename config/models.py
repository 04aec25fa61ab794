"""Frozen models of a site: what the loader makes of TOML and CSV, and all that other packages read of it.

Units are part of each name (``_s`` seconds of engine time unless said, ``_kw`` kilowatts, ``_pct`` percent). Nothing in
here does I/O or checks: that is the loader's.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime, time
from pathlib import Path

from config.device_models import Address, BreakerPoints, Device, NodeBreakerPoints, NodePoint


@dataclass(frozen=True, slots=True)
class Feeder:
    """One feeder circuit and its breaker; its points are of the kind that its device speaks.

    tier: name of its tier, None for one that no tier sheds. critical: never shed (hospital, pump, gas). ufls_stage:
    armed in an under-frequency relay. rated_kw: used where power is not measured. load_class is a word for reports.
    travel_s: real seconds within which the end position must be read back.
    """

    name: str
    device: str
    points: BreakerPoints | NodeBreakerPoints
    tier: str | None
    critical: bool
    sheddable: bool
    ufls_stage: int | None
    rated_kw: float
    group: str
    customers: int
    load_class: str
    travel_s: float
    line: int


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measured value that is not a breaker's, such as the load of the transformer."""

    name: str
    device: str
    address: Address | NodePoint
    unit: str
    stale_after_s: float


class BadMeasurement(enum.StrEnum):
    """What an armed substation does when the load can't be measured: stop shedding, or hold what is shed."""

    STOP = "stop"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class Transformer:
    """The watched transformer. load and ambient name measurements (kW, °C)."""

    name: str
    capacity_kw: float
    load: str
    ambient: str | None
    bad_measurement: BadMeasurement


@dataclass(frozen=True, slots=True)
class Trigger:
    """Arm at ``arm_pct`` of capacity for ``arm_for_s``, clear at ``clear_pct`` for ``clear_for_s``."""

    arm_pct: float = 98.0
    arm_for_s: float = 60.0
    clear_pct: float = 95.0
    clear_for_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Tier:
    """One tier of feeders; tiers are shed in the order of their rank (1 first)."""

    name: str
    rank: int
    description: str


class AfterRestart(enum.StrEnum):
    """What happens after a restart inside a shed, once every breaker was read."""

    CONTINUE = "continue"
    CONTINUE_IF_CLEAN = "continue_if_clean"
    WAIT_FOR_OPERATOR = "wait_for_operator"


class Mode(enum.StrEnum):
    """MONITOR computes and logs and writes nothing to the field; ARMED acts."""

    MONITOR = "monitor"
    ARMED = "armed"


@dataclass(frozen=True, slots=True)
class Shedding:
    """The procedure's settings. Times are engine time.

    cooldown_s: wait after a tier before the next. target_pct: shed until the predicted loading is at most this.
    block_size: feeders operated in one step. command_deadline_s: a command older than this is never executed.
    max_operations_per_hour: of one breaker. late_move_s: a breaker that opens so soon after its opening failed has obeyed
    late, and is closed again with the others. after_restart: policy.
    """

    mode: Mode
    cooldown_s: float = 600.0
    target_pct: float = 95.0
    check_s: float = 60.0
    block_size: int = 400
    command_deadline_s: float = 120.0
    max_operations_per_hour: int = 6
    late_move_s: float = 60.0
    min_off_s: float = 900.0
    max_sheds_per_hour: int = 6
    max_shed_s: float = 14400.0
    after_restart: AfterRestart = AfterRestart.CONTINUE_IF_CLEAN


@dataclass(frozen=True, slots=True)
class Restoration:
    """Restoration in stages, each gated on measured headroom.

    stable_for_s: loading at or below the trigger's clear_pct this long before the first stage. limit_pct: predicted
    loading incl. cold-load pick-up must stay under it. stage_pct: largest stage, percent of capacity. stage_wait_s:
    wait after each stage. abort_pct: measured loading at which the last stage is opened again.
    """

    stable_for_s: float = 900.0
    limit_pct: float = 95.0
    stage_pct: float = 3.0
    stage_wait_s: float = 300.0
    abort_pct: float = 98.0


@dataclass(frozen=True, slots=True)
class SimulatedClock:
    """Engine time = origin + rate × (wall time − wall_origin). Only for simulated sites."""

    rate: float
    origin: datetime
    wall_origin: datetime


@dataclass(frozen=True, slots=True)
class Gateway:
    """The daemon's own settings. Paths are absolute. require_time_sync: start procedures only with a synced clock.
    http_hosts: whom orchestrations may call by ``call_http``, as ``host:port``, lower case."""

    state_dir: Path
    socket: Path
    socket_mode: int
    require_time_sync: bool
    log_level: str
    log_format: str
    max_turns_pending: int
    simulated_clock: SimulatedClock | None
    programs: tuple[str, ...]
    http_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JournalCare:
    """How the daemon looks after its journal. archive_dir is absolute.

    keep_days: days of engine time that records stay in the journal; older ones go to an archive file in archive_dir, once
    nothing that lives needs them; 0: only when somebody asks for it. disk_budget_mb: what journal, archives and trends may
    take together, in 2^20 bytes; 0: the file system alone is the limit. integrity_check_at: time of day, UTC.
    head_every_s: real seconds from one signed head that is sent out to the next.
    """

    archive_dir: Path
    keep_days: int = 90
    disk_budget_mb: int = 0
    integrity_check_at: time = time(3, 30)
    head_every_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Operators:
    """The OPC UA server for operators; a site without this table has none. Paths are absolute.

    pki_dir: own certificate and key, trusted, issuers, rejected. users_file: made by ``gridlatch users add``.
    anonymous_read: let clients without a user look (never act). idle_timeout_s: longest session time-out that a client
    gets; a session that asks for nothing so long ends. lock_out_after: failed log-ins of one user within lock_out_s that
    lock this user out for lock_out_s.
    """

    host: str
    port: int
    application_uri: str
    pki_dir: Path
    users_file: Path
    anonymous_read: bool = False
    max_sessions: int = 50
    idle_timeout_s: float = 600.0
    lock_out_after: int = 5
    lock_out_s: float = 300.0


@dataclass(frozen=True, slots=True)
class OpcUaClient:
    """Who the gateway is towards OPC UA devices: its certificate in pki_dir (absolute), made at the first start."""

    pki_dir: Path
    application_uri: str


@dataclass(frozen=True, slots=True)
class Site:
    """All of a site. sha256 is the hash over every file that was read; warnings are sentences for people.

    opcua_client is there if a device speaks OPC UA.
    """

    name: str
    path: Path
    sha256: str
    gateway: Gateway
    transformer: Transformer
    trigger: Trigger
    tiers: tuple[Tier, ...]
    shedding: Shedding
    restoration: Restoration
    devices: tuple[Device, ...]
    measurements: tuple[Measurement, ...]
    feeders: tuple[Feeder, ...]
    warnings: tuple[str, ...]
    journal: JournalCare
    operators: Operators | None = None
    opcua_client: OpcUaClient | None = None
