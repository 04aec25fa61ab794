"""The tables of ``site.toml``: which keys each may have, which values, and what is the default.

    [site] name
    [gateway] state_dir = "state", socket = "state/gridlatch.sock", socket_mode = "0660", require_time_sync = true,
        log_level = "info", log_format = "json", max_turns_pending = 10000, programs = [],
        http_hosts = []
    [gateway.simulated_clock] rate, origin, wall_origin           left out: engine time is wall time
    [journal] keep_days = 90, archive_dir (the folder archive in state_dir), disk_budget_mb = 0 (no limit of its own),
        integrity_check_at = "03:30" (UTC), head_every_s = 600
    [operators] host, port = 4840, application_uri (urn:gridlatch:NAME), pki_dir = "pki", users_file = "users.toml",
        anonymous_read = false, max_sessions = 50, idle_timeout_s = 600, lock_out_after = 5, lock_out_s = 300
                                                                  left out: no OPC UA server
    [opcua_client] pki_dir = "pki", application_uri (that of [operators], or urn:gridlatch:NAME)
                                                                  who the gateway is towards devices that speak OPC UA
    [transformer] name, capacity_kw, load, ambient (optional), bad_measurement = "stop" or "hold"
    [trigger] [shedding] [restoration]                            as in the models; shedding.mode is required
    [[tier]] name, rank, description = ""
    [files] devices = "devices.csv", feeders = "feeders.csv", measurements = "measurements.csv"
    [device_defaults]                                             any setting of a device, for all of them

``programs`` are names of Python modules, or paths of .py files; ``http_hosts`` are ``host:port``. Paths are relative to
the site's folder.
What must stay true: a key that is not in here is an error, never ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from config.kinds import Choice, FileMode, Flag, Kind, Moment, Number, Text, TimeOfDay, Uri, Words
from config.models import AfterRestart, BadMeasurement, Mode
from config.problems import Problems, Wrong, unknown
from config.source import Document, KeyPath

WEEK_S = 7 * 86400.0
PERCENT = Number(0, 200, "percent", above=True)
SECONDS = Number(0, WEEK_S, "seconds", above=True)
KILOWATTS = Number(0, 10_000_000, "kW", above=True)

SITE: Mapping[str, Kind] = {"name": Text()}
GATEWAY: Mapping[str, Kind] = {
    "state_dir": Text(limit=4096),
    "socket": Text(limit=4096),
    "socket_mode": FileMode(),
    "require_time_sync": Flag(),
    "log_level": Choice(("debug", "info", "warning", "error")),
    "log_format": Choice(("json", "console")),
    "max_turns_pending": Number(1, 50_000, "turns", whole=True),  # a batch holds 100,000 records
    "programs": Words(),
    "http_hosts": Words(),
}
SIMULATED_CLOCK: Mapping[str, Kind] = {
    "rate": Number(0, 100_000, "engine seconds per second", above=True),
    "origin": Moment(),
    "wall_origin": Moment(),
}
JOURNAL: Mapping[str, Kind] = {
    "keep_days": Number(0, 36_500, "days", whole=True),
    "archive_dir": Text(limit=4096),
    "disk_budget_mb": Number(0, 100_000_000, "MB", whole=True),
    "integrity_check_at": TimeOfDay(),
    "head_every_s": Number(10, 86400, "seconds"),
}
OPERATORS: Mapping[str, Kind] = {
    "host": Text(limit=253),
    "port": Number(1, 65535, whole=True),
    "application_uri": Uri(),
    "pki_dir": Text(limit=4096),
    "users_file": Text(limit=4096),
    "anonymous_read": Flag(),
    "max_sessions": Number(1, 200, "sessions", whole=True),
    "idle_timeout_s": Number(10, 86400, "seconds"),
    "lock_out_after": Number(1, 100, "failed log-ins", whole=True),
    "lock_out_s": Number(1, WEEK_S, "seconds"),
}
OPCUA_CLIENT: Mapping[str, Kind] = {"pki_dir": Text(limit=4096), "application_uri": Uri()}
TRANSFORMER: Mapping[str, Kind] = {
    "name": Text(),
    "capacity_kw": KILOWATTS,
    "load": Text(),
    "ambient": Text(),
    "bad_measurement": Choice(BadMeasurement),
}
TRIGGER: Mapping[str, Kind] = {
    "arm_pct": PERCENT,
    "arm_for_s": SECONDS,
    "clear_pct": PERCENT,
    "clear_for_s": SECONDS,
}
SHEDDING: Mapping[str, Kind] = {
    "mode": Choice(Mode),
    "cooldown_s": SECONDS,
    "target_pct": PERCENT,
    "check_s": SECONDS,
    "block_size": Number(1, 100_000, "feeders", whole=True),
    "command_deadline_s": SECONDS,
    "max_operations_per_hour": Number(1, 1000, "operations", whole=True),
    "late_move_s": SECONDS,
    "min_off_s": SECONDS,
    "max_sheds_per_hour": Number(1, 1000, "sheds", whole=True),
    "max_shed_s": SECONDS,
    "after_restart": Choice(AfterRestart),
}
RESTORATION: Mapping[str, Kind] = {
    "stable_for_s": SECONDS,
    "limit_pct": PERCENT,
    "stage_pct": PERCENT,
    "stage_wait_s": SECONDS,
    "abort_pct": PERCENT,
}
TIER: Mapping[str, Kind] = {
    "name": Text(),
    "rank": Number(1, 1000, whole=True),
    "description": Text(limit=200, empty=True),
}
FILES: Mapping[str, Kind] = {
    "devices": Text(limit=4096),
    "feeders": Text(limit=4096),
    "measurements": Text(limit=4096),
}
DEVICE_SETTINGS: Mapping[str, Kind] = {
    "timeout_s": Number(0, 60, "seconds", above=True),
    "poll_fast_s": Number(0, 3600, "seconds", above=True),
    "poll_slow_s": Number(0, 3600, "seconds", above=True),
    "backoff_min_s": Number(0, 3600, "seconds", above=True),
    "backoff_max_s": Number(0, 3600, "seconds", above=True),
    "max_block_registers": Number(1, 125, "registers", whole=True),
    "max_block_bits": Number(1, 2000, "bits", whole=True),
    "max_gap": Number(0, 2000, "points", whole=True),
    "stale_after_s": Number(0, 86400, "seconds", above=True),
}
TOP_LEVEL = (
    "site", "gateway", "journal", "operators", "opcua_client", "transformer", "trigger", "shedding", "restoration", "tier",
    "files", "device_defaults",
)  # fmt: skip

T = TypeVar("T")


def read_table(
    document: Document,
    path: KeyPath,
    kinds: Mapping[str, Kind],
    problems: Problems,
    *,
    required: tuple[str, ...] = (),
    tables_inside: tuple[str, ...] = (),
) -> dict[str, object]:
    """The good values of one table; notes unknown keys, wrong values and required keys that are missing."""
    table: object = document.data
    for part in path:
        if isinstance(part, int):
            table = table[part] if isinstance(table, list) else None
        else:
            table = table.get(part) if isinstance(table, Mapping) else None
    shown = ".".join(part for part in path if isinstance(part, str))
    line = document.line(*path)
    if table is None:
        if required:
            wanted = ", ".join(required)
            problems.add(document.file, line, f"the table [{shown}] is missing", f"[{shown}] with the keys {wanted}")
        return {}
    if not isinstance(table, Mapping):
        problems.add(document.file, line, f"{shown!r} must be a table", f"[{shown}] on a line of its own, keys below")
        return {}
    values: dict[str, object] = {}
    for key, value in table.items():
        if key in tables_inside:
            continue
        at = document.line(*path, key)
        kind = kinds.get(key)
        if kind is None:
            wanted = unknown(key, (*kinds, *tables_inside))
            problems.add(document.file, at, f"unknown key {key[:60]!r} in [{shown}]", wanted)
            continue
        try:
            values[key] = kind.of_value(value)
        except Wrong as wrong:
            problems.add(document.file, at, f"[{shown}] {key}: {wrong.what}", f"{key} = {wrong.write_instead}")
    for key in required:
        if key not in table:
            problems.add(document.file, line, f"[{shown}] has no {key!r}", f"{key} = ... in [{shown}]")
    return values


def read_top_level(document: Document, problems: Problems) -> None:
    """Note tables and keys that ``site.toml`` doesn't have."""
    for key in document.data:
        if key not in TOP_LEVEL:
            line = document.line(key)
            problems.add(document.file, line, f"unknown table or key {key[:60]!r}", unknown(key, TOP_LEVEL))


def build(model: Callable[..., T], values: Mapping[str, object], required: tuple[str, ...] = ()) -> T | None:
    """The model of checked values, defaults filled in; None if a required one was wrong or missing."""
    if any(key not in values for key in required):
        return None
    return model(**values)
