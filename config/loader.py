"""From a site's folder to a ``Site``, or to every error at once.

The order: ``site.toml``, the CSV files that it names, the cross-checks, and only then, if nothing is wrong, the frozen
models. What must stay true: ``load_site`` returns a site that passed every check or raises ``ConfigErrors``; whatever
the files hold, it raises nothing else. It changes nothing, so a crash in here loses nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from config import tables
from config.checks import check
from config.draft import Draft
from config.kinds import Kind
from config.models import (
    Gateway,
    JournalCare,
    OpcUaClient,
    Operators,
    Restoration,
    Shedding,
    SimulatedClock,
    Site,
    Tier,
    Transformer,
    Trigger,
)
from config.points import read_devices, read_feeders, read_measurements
from config.problems import ConfigErrors, Problems
from config.source import Document, Files, read_toml
from config.tables import build, read_table

SITE_FILE = "site.toml"
GATEWAY_DEFAULTS: Mapping[str, object] = {
    "state_dir": "state",
    "socket": "state/gridlatch.sock",
    "socket_mode": 0o660,
    "require_time_sync": True,
    "log_level": "info",
    "log_format": "json",
    "max_turns_pending": 10_000,
    "programs": (),
    "http_hosts": (),
}
OPERATORS_DEFAULTS: Mapping[str, object] = {"port": 4840, "pki_dir": "pki", "users_file": "users.toml"}
FILE_DEFAULTS = {"devices": "devices.csv", "feeders": "feeders.csv", "measurements": "measurements.csv"}
# sun_path of Linux holds 108 bytes with the NUL at its end.
LONGEST_SOCKET_PATH = 107
LEAST_BUDGET_MB = 256
"""Trends take up to 64 MB, the write-ahead log as much: with less the budget would be used up by what can't be moved."""
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_HOST_AND_PORT = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?:([0-9]{1,5})", re.ASCII)
MOST_TIERS = 1000


def load_site(path: Path) -> Site:
    """Read and check a site.

    path: the folder that holds ``site.toml``, or that file itself. Raises ``ConfigErrors`` with all that is wrong.
    """
    return _open(path).load()


def load_operators(path: Path) -> Operators | None:
    """The table [operators] of a site alone, as ``load_site`` reads it; None if there is none.

    Certificates and users are looked after also while the rest of a site is being changed. Raises ``ConfigErrors``.
    """
    loader = _open(path)
    site = read_table(loader.document, ("site",), tables.SITE, loader.problems)
    operators = loader.operators(str(site.get("name", "")))
    if loader.problems.found:
        raise ConfigErrors(loader.problems.found)
    return operators


def _open(path: Path) -> _Loader:
    path = Path(path)
    file = path / SITE_FILE if os.path.isdir(path) else path
    problems = Problems()
    files = Files(problems)
    text = files.read(file, str(file), 1)
    document = read_toml(str(file), text, problems) if text is not None else None
    if document is None:
        raise ConfigErrors(problems.found)
    return _Loader(document, file.absolute(), problems, files)


class _Loader:
    """One run over one site."""

    def __init__(self, document: Document, file: Path, problems: Problems, files: Files) -> None:
        self.document, self.file, self.problems, self.files = document, file, problems, files
        self.draft = Draft(document, problems)

    def load(self) -> Site:
        """Everything in order; the cross-checks run also if something was wrong before."""
        draft, document = self.draft, self.document
        tables.read_top_level(document, self.problems)
        site = read_table(document, ("site",), tables.SITE, self.problems, required=("name",))
        gateway = self._gateway()
        journal = self._journal(gateway)
        operators = self.operators(str(site.get("name", "")))
        draft.transformer = self._transformer()
        draft.trigger = build(Trigger, self._table("trigger", tables.TRIGGER))
        draft.shedding = build(Shedding, self._table("shedding", tables.SHEDDING, "mode"), ("mode",))
        draft.restoration = build(Restoration, self._table("restoration", tables.RESTORATION))
        self._tiers()
        self._points()
        opcua_client = self._opcua_client(str(site.get("name", "")), operators)
        check(draft)
        if self.problems.found or not (gateway and journal and draft.transformer and draft.trigger and draft.shedding):
            raise ConfigErrors(self.problems.found)
        assert draft.restoration is not None, "a table without problems builds"
        return Site(
            name=str(site["name"]),
            path=self.file.parent,
            sha256=self.files.sha256(),
            gateway=gateway,
            transformer=draft.transformer,
            trigger=draft.trigger,
            tiers=tuple(sorted(draft.tiers, key=lambda tier: tier.rank)),
            shedding=draft.shedding,
            restoration=draft.restoration,
            devices=tuple(draft.devices),
            measurements=tuple(draft.measurements),
            feeders=tuple(draft.feeders),
            warnings=tuple(self.problems.warnings),
            journal=journal,
            operators=operators,
            opcua_client=opcua_client,
        )

    def _table(self, name: str, kinds: Mapping[str, Kind], *required: str) -> dict[str, object]:
        return read_table(self.document, (name,), kinds, self.problems, required=required)

    def _transformer(self) -> Transformer | None:
        required = ("name", "capacity_kw", "load", "bad_measurement")
        values = self._table("transformer", tables.TRANSFORMER, *required)
        return build(Transformer, {"ambient": None, **values}, required)

    def _gateway(self) -> Gateway | None:
        before = len(self.problems.found)
        given = read_table(
            self.document, ("gateway",), tables.GATEWAY, self.problems, tables_inside=("simulated_clock",)
        )
        clock = self._simulated_clock()
        values = {**GATEWAY_DEFAULTS, **given}
        state_dir = self._absolute(str(values["state_dir"]))
        socket = self._absolute(str(values["socket"]))
        if len(os.fsencode(socket)) > LONGEST_SOCKET_PATH:
            what = f"the path of the socket has {len(os.fsencode(socket))} bytes: {socket}"
            shorter = f'socket = "/run/gridlatch/..." with at most {LONGEST_SOCKET_PATH} bytes'
            self.problems.add(self.document.file, self.document.line("gateway", "socket"), what, shorter)
        programs = self._programs(values["programs"])
        hosts = self._http_hosts(values["http_hosts"])
        if len(self.problems.found) > before:
            return None
        return build(
            Gateway,
            {**values, "state_dir": state_dir, "socket": socket, "programs": programs}
            | {"http_hosts": hosts, "simulated_clock": clock},
        )

    def _journal(self, gateway: Gateway | None) -> JournalCare | None:
        """The table [journal]; None while the folder of the journal is not known."""
        document, problems = self.document, self.problems
        given = self._table("journal", tables.JOURNAL)
        budget = given.get("disk_budget_mb", 0)
        if isinstance(budget, int) and 0 < budget < LEAST_BUDGET_MB:
            what = (
                f"[journal] disk_budget_mb = {budget}: trends and the journal's write-ahead log alone may take 128 MB"
            )
            line = document.line("journal", "disk_budget_mb")
            problems.add(document.file, line, what, f"disk_budget_mb = {LEAST_BUDGET_MB} or more, or 0 for no budget")
        if gateway is None:
            return None
        folder = given.get("archive_dir")
        archive_dir = gateway.state_dir / "archive" if folder is None else self._absolute(str(folder))
        if archive_dir == gateway.state_dir:
            what = "[journal] archive_dir is state_dir itself: archives need a folder of their own"
            line = document.line("journal", "archive_dir")
            problems.add(document.file, line, what, f'archive_dir = "{folder}/archive"')
        return build(JournalCare, {**given, "archive_dir": archive_dir})

    def operators(self, site: str) -> Operators | None:
        """The table [operators]. site: the site's name, which the application's URI is made of unless it is given."""
        if "operators" not in self.document.data:
            return None
        given = self._table("operators", tables.OPERATORS, "host")
        values = {**OPERATORS_DEFAULTS, "application_uri": _application_uri(site), **given}
        paths = {key: self._absolute(str(values[key])) for key in ("pki_dir", "users_file")}
        return build(Operators, {**values, **paths}, ("host",)) if "host" in given else None

    def _opcua_client(self, site: str, operators: Operators | None) -> OpcUaClient | None:
        """Who the gateway is towards devices; None for a site without such devices."""
        table = "opcua_client"
        given = self._table(table, tables.OPCUA_CLIENT)
        if all(device.opcua is None for device in self.draft.devices):
            if table in self.document.data and self.draft.device_rows.readable:
                sentence = f"[{table}] is of no use: no device speaks OPC UA"
                self.problems.warn(self.document.file, self.document.line(table), sentence)
            return None
        pki_dir = self._absolute(str(given.get("pki_dir", OPERATORS_DEFAULTS["pki_dir"])))
        shared = operators.application_uri if operators is not None else _application_uri(site)
        uri = str(given.get("application_uri", shared))
        if operators is not None and operators.pki_dir == pki_dir and uri != shared:
            what = f"[{table}] application_uri is not that of [operators], and one certificate in {pki_dir} stands for both"
            line = self.document.line(table, "application_uri")
            self.problems.add(self.document.file, line, what, f'application_uri = "{shared}", or a pki_dir of its own')
        return OpcUaClient(pki_dir, uri)

    def _simulated_clock(self) -> SimulatedClock | None:
        inside = self.document.data.get("gateway")
        if not isinstance(inside, Mapping) or "simulated_clock" not in inside:
            return None
        path, required = ("gateway", "simulated_clock"), ("rate", "origin", "wall_origin")
        values = read_table(self.document, path, tables.SIMULATED_CLOCK, self.problems, required=required)
        return build(SimulatedClock, values, required)

    def _programs(self, given: object) -> tuple[str, ...]:
        programs = []
        for program in given if isinstance(given, tuple) else ():
            line = self.document.line("gateway", "programs")
            if program.endswith(".py"):
                path = self._absolute(program)
                if not os.path.isfile(path):
                    what = f"programs: there is no file {path}"
                    self.problems.add(self.document.file, line, what, "the path of a .py file, or a module's name")
                programs.append(str(path))
            elif _MODULE.fullmatch(program) is None:
                what = f"programs: {program[:60]!r} is neither a module's name nor a .py file"
                self.problems.add(self.document.file, line, what, '"my_procedures" or "procedures/heat.py"')
            else:
                programs.append(program)
        return tuple(programs)

    def _http_hosts(self, given: object) -> tuple[str, ...]:
        hosts = tuple(host.lower() for host in given) if isinstance(given, tuple) else ()
        for host in hosts:
            found = _HOST_AND_PORT.fullmatch(host)
            if found is None or not 1 <= int(found[1]) <= 65535:
                line = self.document.line("gateway", "http_hosts")
                what = f"http_hosts: {host[:60]!r} is no host with its port"
                self.problems.add(self.document.file, line, what, '"scada.example:443" or "10.0.0.7:8080"')
        return hosts

    def _tiers(self) -> None:
        document, problems, draft = self.document, self.problems, self.draft
        entries = document.data.get("tier")
        if not isinstance(entries, list) or not entries or len(entries) > MOST_TIERS:
            what = f"there must be 1 to {MOST_TIERS} tiers"
            problems.add(
                document.file, document.line("tier"), what, "[[tier]] with the keys name and rank, for each tier"
            )
            draft.tiers_readable = False
            return
        for index in range(len(entries)):
            path = ("tier", index)
            values = read_table(document, path, tables.TIER, problems, required=("name", "rank"))
            line = document.line(*path, "name")
            name = values.get("name")
            if not isinstance(name, str):
                draft.tiers_readable = False
                continue
            if name in draft.tier_lines:
                what = f"tier {name!r} stands already in line {draft.tier_lines[name][0]}"
                problems.add(document.file, line, what, "a name that is used once")
                # What was meant by the second one isn't known, so of unknown tiers nothing can be said.
                draft.tiers_readable = False
                continue
            draft.tier_lines[name] = line, document.line(*path, "rank")
            tier = build(Tier, {"description": "", **values}, ("name", "rank"))
            if tier:
                draft.tiers.append(tier)

    def _points(self) -> None:
        draft, problems = self.draft, self.problems
        names = {**FILE_DEFAULTS, **read_table(self.document, ("files",), tables.FILES, problems)}
        defaults = read_table(self.document, ("device_defaults",), tables.DEVICE_SETTINGS, problems)
        draft.devices_file, text = self._read(str(names["devices"]), "devices")
        if text is not None:
            draft.device_rows, draft.devices = read_devices(
                draft.devices_file, text, defaults, problems, self.files, self.file.parent
            )
        speaks = {device.name: device.protocol for device in draft.devices}
        draft.feeders_file, text = self._read(str(names["feeders"]), "feeders")
        if text is not None:
            draft.feeder_rows, draft.feeders = read_feeders(draft.feeders_file, text, speaks, problems)
        draft.measurements_file, text = self._read(str(names["measurements"]), "measurements")
        if text is not None:
            draft.measurement_rows, draft.measurements = read_measurements(
                draft.measurements_file, text, speaks, problems
            )

    def _read(self, name: str, key: str) -> tuple[str, str | None]:
        path = Path(self.document.file).parent / name
        return str(path), self.files.read(path, self.document.file, self.document.line("files", key))

    def _absolute(self, name: str) -> Path:
        return Path(os.path.normpath(self.file.parent / name))


def _application_uri(site: str) -> str:
    """What the gateway of a site is called where nothing else is said."""
    return f"urn:gridlatch:{re.sub(r'[^A-Za-z0-9_.-]+', '-', site)}"
