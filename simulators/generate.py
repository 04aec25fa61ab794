"""Writes a whole site into a folder: ``site.toml``, three CSV files and ``simulator.toml``, for any number of RTUs.

The same arguments and seed give the same files. The capacity of the transformer is set so that the reference peak of the
heatwave is ``peak_pct`` of it. Files that exist already are overwritten; nothing else in the folder is touched.

The last ``opcua_rtus`` RTUs speak OPC UA in place of Modbus. For them there are certificates (``devices/NAME.der``, which
the gateway pins), a file with the password that they ask for (``devices/password``) and, for the simulator alone, their
private keys (``simulator/NAME.key``): keys, certificates and password are made at random each time.

Point map of an RTU with n breakers (i = 0 … n-1):

    discrete inputs   2i closed (52a), 2i+1 open (52b), 2n+i local
    coils             2i open, 2i+1 close (pulses)
    input registers   i power (u16, 0.1 kW), n+i operation counter (u16)

Nodes of a feeder F on OPC UA, in namespace NAMESPACE: variables F/Pos (Int32: 0 intermediate, 1 open, 2 closed, 3 bad),
F/Loc (Boolean), F/OpCnt (UInt32), F/Kw (Double), and methods F/Open and F/Close of object F. Every second breaker of the
last RTU is select-before-operate: F/Select and F/Oper (true: close), F/Cancel.
"""

from __future__ import annotations

import csv
import os
import random
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from simulators.classes import load_class
from simulators.opcua import certificates
from simulators.site import DEFAULT_PEAK_PCT, KEY_FOLDER

SUBURBS = (
    "Brunswick", "Coburg", "Fitzroy", "Carlton", "Preston", "Reservoir", "Thornbury", "Northcote", "Kew", "Hawthorn",
    "Camberwell", "Richmond", "StKilda", "Caulfield", "Malvern", "Footscray", "Sunshine", "Essendon", "Keilor", "Altona",
)  # fmt: skip
NAMESPACE = "urn:gridlatch:simulator:rtu"
POLICIES = ("Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss")
RTU_USER, PASSWORD_FILE = "gateway", "devices/password"
TIERS = (
    ("Tier1", 1, "EV chargers and pool pumps"),
    ("Tier2", 2, "Comfort and commercial cooling"),
    ("Tier3", 3, "Residential"),
)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of feeder: how often it occurs, its size (kW: mean, spread), and its customers."""

    share: float
    load_class: str
    tier: str
    mean_kw: float
    spread_kw: float
    customers: tuple[int, int]
    critical: bool = False


KINDS = (
    Kind(0.10, "ev", "Tier1", 7.2, 0.0, (1, 1)),
    Kind(0.15, "pool", "Tier1", 1.4, 0.3, (1, 1)),
    Kind(0.35, "cooling", "Tier2", 15.0, 4.0, (1, 4)),
    Kind(0.25, "residential", "Tier3", 16.0, 4.0, (2, 6)),
    Kind(0.03, "hospital", "", 35.0, 8.0, (1, 1), critical=True),
    Kind(0.04, "pumping", "", 25.0, 6.0, (1, 1), critical=True),
    Kind(0.08, "industrial", "", 22.0, 7.0, (1, 3)),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to generate. rate None: a site in real time. origin: simulated time at wall_origin.

    opcua_rtus: how many of the RTUs speak OPC UA. operators: host and port of an OPC UA server for operators; None: none.

    Settings of the procedure are in engine time, as in site.toml; those of polls in real seconds.
    """

    rtus: int = 120
    breakers: int = 100
    opcua_rtus: int = 0
    operators: tuple[str, int] | None = None
    port: int = 15020
    first_host: str = "127.0.1.1"
    rate: float | None = None
    origin: datetime | None = None
    wall_origin: datetime | None = None
    seed: int = 1
    peak_pct: float = DEFAULT_PEAK_PCT
    name: str = "Heatwave"
    mode: str = "armed"
    arm_for_s: float = 60.0
    cooldown_s: float = 600.0
    check_s: float = 60.0
    command_deadline_s: float = 120.0
    stable_for_s: float = 900.0
    stage_wait_s: float = 300.0
    poll_fast_s: float = 1.0
    poll_slow_s: float = 2.0


DEFAULT_ORIGIN = datetime.fromisoformat("2014-01-16T12:00:00+11:00")


def generate(folder: Path, plan: Plan) -> None:
    """Write the site. Raises ValueError for a plan that can't be, OSError if the folder can't be written."""
    if not 1 <= plan.rtus <= 10_000 or not 1 <= plan.breakers <= 1000:
        raise ValueError("1 to 10000 RTUs and 1 to 1000 breakers each")
    if not 0 <= plan.opcua_rtus <= plan.rtus:
        raise ValueError("at most all RTUs speak OPC UA")
    folder.mkdir(parents=True, exist_ok=True)
    feeders = list(_feeders(plan))
    peak_kw = sum(float(str(f["rated_kw"])) * load_class(str(f["load_class"])).coincidence for f in feeders)
    _csv(folder / "devices.csv", _devices(plan))
    if plan.opcua_rtus:
        _identities(folder, plan)
    _csv(folder / "feeders.csv", feeders)
    _csv(folder / "measurements.csv", _measurements())
    capacity_kw = round(peak_kw * 100.0 / plan.peak_pct, 1)
    (folder / "site.toml").write_text(_site_toml(plan, capacity_kw), encoding="utf-8")
    (folder / "simulator.toml").write_text(
        f"# Read by the simulator alone.\nseed = {plan.seed}\n\n[load]\npeak_pct = {plan.peak_pct}\n", encoding="utf-8"
    )


def start_clock(folder: Path) -> None:
    """Let the simulated clock of a generated site begin at its origin now. Raises OSError."""
    path = folder / "site.toml"
    line = f"wall_origin = {datetime.now(UTC).isoformat(timespec='milliseconds')}"
    path.write_text(re.sub(r"(?m)^wall_origin = .*$", line, path.read_text(encoding="utf-8")), encoding="utf-8")


def host(first_host: str, index: int) -> str:
    """The index-th address after first_host; last parts run from 1 to 250."""
    a, b, c, d = (int(part) for part in first_host.split("."))
    offset = d - 1 + index
    return f"{a}.{b}.{c + offset // 250}.{offset % 250 + 1}"


def _speaks_opcua(plan: Plan, rtu: int) -> bool:
    return rtu >= plan.rtus - plan.opcua_rtus


def _devices(plan: Plan) -> Iterable[dict[str, object]]:
    for i in range(plan.rtus + 1):
        name = f"RTU{i + 1:03d}" if i < plan.rtus else "TX"
        row: dict[str, object] = {"name": name, "host": host(plan.first_host, i), "port": plan.port, "unit": 1}
        if i < plan.rtus and _speaks_opcua(plan, i):
            row |= {
                "unit": "",
                "protocol": "opcua",
                "namespace": NAMESPACE,
                "server_cert": f"devices/{name}.der",
                "application_uri": f"urn:gridlatch:simulator:{name}",
                "policy": POLICIES[i % len(POLICIES)],
                "user": RTU_USER,
                "secret_file": PASSWORD_FILE,
            }
        yield row


def _identities(folder: Path, plan: Plan) -> None:
    for i in range(plan.rtus - plan.opcua_rtus, plan.rtus):
        name = f"RTU{i + 1:03d}"
        made = certificates.fresh(name, f"urn:gridlatch:simulator:{name}", host(plan.first_host, i))
        certificates.write(made, folder / "devices" / f"{name}.der", folder / KEY_FOLDER / f"{name}.key")
    password = folder / PASSWORD_FILE
    password.unlink(missing_ok=True)
    with os.fdopen(os.open(password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(18))


def _measurements() -> Iterable[dict[str, object]]:
    row = {"device": "TX", "stale_after_s": 15}
    yield {"name": "load_kw", "address": "ir:0:u32*0.1", "unit": "kW", **row}
    for number, name in ((2, "ambient_c"), (3, "oil_c"), (4, "hotspot_c")):
        yield {"name": name, "address": f"ir:{number}:s16*0.1", "unit": "°C", **row}


def _feeders(plan: Plan) -> Iterable[dict[str, object]]:
    rng = random.Random(f"{plan.seed}:feeders")
    kinds = _deal(plan.rtus * plan.breakers, rng)
    n = plan.breakers
    for index, kind in enumerate(kinds):
        rtu, i = divmod(index, n)
        low = kind.mean_kw - 2 * kind.spread_kw
        rated_kw = kind.mean_kw if not kind.spread_kw else max(low, rng.gauss(kind.mean_kw, kind.spread_kw))
        yield {
            "name": f"F{rtu + 1:03d}-{i + 1:03d}",
            "device": f"RTU{rtu + 1:03d}",
            "tier": kind.tier,
            "critical": "yes" if kind.critical else "no",
            "sheddable": "yes" if kind.tier else "no",
            "ufls_stage": "1" if kind.load_class == "industrial" and rng.random() < 0.25 else "",
            "rated_kw": f"{rated_kw:.1f}",
            "group": SUBURBS[rtu * len(SUBURBS) // plan.rtus],
            "customers": rng.randint(*kind.customers),
            "load_class": kind.load_class,
            "travel_s": 3,
            **(_nodes(plan, rtu, i) if _speaks_opcua(plan, rtu) else _registers(n, i)),
        }


def _registers(n: int, i: int) -> dict[str, object]:
    return {
        "pos_closed": f"di:{2 * i}",
        "pos_open": f"di:{2 * i + 1}",
        "open_cmd": f"coil:{2 * i}",
        "close_cmd": f"coil:{2 * i + 1}",
        "local": f"di:{2 * n + i}",
        "op_count": f"ir:{n + i}",
        "power_kw": f"ir:{i}:u16*0.1",
    }


def _nodes(plan: Plan, rtu: int, i: int) -> dict[str, object]:
    name = f"s=F{rtu + 1:03d}-{i + 1:03d}"
    shown: dict[str, object] = {
        "pos_closed": f"{name}/Pos==2",
        "pos_open": f"{name}/Pos==1",
        "local": f"{name}/Loc",
        "op_count": f"{name}/OpCnt",
        "power_kw": f"{name}/Kw",
    }
    if rtu < plan.rtus - 1 or i % 2 == 0:
        return shown | {"open_cmd": f"{name}->{name}/Open()", "close_cmd": f"{name}->{name}/Close()"}
    return shown | {
        "open_cmd": f"{name}->{name}/Oper(false)",
        "close_cmd": f"{name}->{name}/Oper(true)",
        "select_open": f"{name}->{name}/Select(false)",
        "select_close": f"{name}->{name}/Select(true)",
        "cancel": f"{name}->{name}/Cancel()",
    }


def _deal(count: int, rng: random.Random) -> list[Kind]:
    """Kinds in their shares, to the nearest whole feeder, shuffled."""
    kinds: list[Kind] = []
    total = 0.0
    for kind in KINDS:
        total += kind.share
        kinds += [kind] * (round(total * count) - len(kinds))
    rng.shuffle(kinds)
    return kinds


def _csv(path: Path, rows: Iterable[dict[str, object]]) -> None:
    rows = list(rows)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _site_toml(plan: Plan, capacity_kw: float) -> str:
    template = (Path(__file__).parent / "data" / "site.toml.template").read_text(encoding="utf-8")
    tiers = "\n".join(
        f'[[tier]]\nname = "{name}"\nrank = {rank}\ndescription = "{text}"\n' for name, rank, text in TIERS
    )
    return template.format(
        name=plan.name,
        clock=_clock_toml(plan),
        operators=_operators_toml(plan),
        capacity_kw=capacity_kw,
        arm_for_s=plan.arm_for_s,
        cooldown_s=plan.cooldown_s,
        check_s=plan.check_s,
        command_deadline_s=plan.command_deadline_s,
        stable_for_s=plan.stable_for_s,
        stage_wait_s=plan.stage_wait_s,
        poll_fast_s=plan.poll_fast_s,
        poll_slow_s=plan.poll_slow_s,
        mode=plan.mode,
        tiers=tiers,
    )


def _operators_toml(plan: Plan) -> str:
    if plan.operators is None:
        return ""
    address, port = plan.operators
    return f'\n[operators]\nhost = "{address}"\nport = {port}\n'


def _clock_toml(plan: Plan) -> str:
    if plan.rate is None:
        return ""
    origin = plan.origin or DEFAULT_ORIGIN
    wall_origin = plan.wall_origin or datetime.now(UTC)
    return (
        f"\n[gateway.simulated_clock]\nrate = {float(plan.rate)}\n"
        f"origin = {origin.isoformat()}\nwall_origin = {wall_origin.isoformat(timespec='milliseconds')}\n"
    )
