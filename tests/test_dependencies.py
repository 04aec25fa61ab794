"""Who may import whom. The rules keep the engine free of breakers, the field free of the gateway, the journal opaque.

Two ways of looking: every import statement of every file (also those inside functions), and what a fresh process has
loaded after importing one package alone.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("gateway", "protocols", "journal", "config", "simulators")
COMPOSITION_ROOT = "gateway/daemon.py"
"""The one file that knows every part."""
OPENS_JOURNALS = {
    "gateway/offline.py",
    "gateway/housekeeping_offline.py",
    "gateway/evidence/reading.py",
    "gateway/evidence/verifying.py",
}
"""Beside it the files that open a journal, for commands that ask no daemon."""

# Modules of gateway.shedding that do I/O, wait, or log: the thin shell. All others there are pure.
SHEDDING_SHELL = {"activities.py", "field.py", "gate.py", "reconcile.py"}
# Modules of gateway.durable that are functions of (state, message, now) alone.
DURABLE_PURE = {
    "execution.py",
    "program.py",
    "locks.py",
    "retry.py",
    "rewound.py",
    "external.py",
    "lines.py",
    "replay.py",
    "entity.py",
    "tasks.py",
    "history.py",
    "identity.py",
    "preview.py",
    "rehearsal.py",
    "timeline.py",
    "waits.py",
}
_DOORS = {
    "operator": ("protocols.opcua.surface",),
    "operators.py": ("protocols.opcua",),
    "cli": ("protocols.opcua.pki", "protocols.opcua.users"),
}
"""What parts of the gateway know of OPC UA: the words of its surface, the files of certificates and users; and the one
file that puts the operators' side together."""
IMPURE = {"asyncio", "time", "random", "logging", "structlog", "threading", "socket", "os", "subprocess", "secrets"}


@dataclass(frozen=True)
class Import:
    """One imported module, and where."""

    file: str
    line: int
    module: str

    def under(self, *names: str) -> bool:
        """True if the module is one of these or inside one."""
        return any(self.module == name or self.module.startswith(name + ".") for name in names)

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def imports_of(source: str, file: str) -> Iterator[Import]:
    """Every module that a file imports; of ``from a import b`` both ``a`` and, in our packages, ``a.b``."""
    package = PurePosixPath(file).parent.parts
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield Import(file, node.lineno, name.name)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            for name in node.names:
                inner = f"{module}.{name.name}"
                is_module = (ROOT / (inner.replace(".", "/") + ".py")).exists() or (
                    ROOT / inner.replace(".", "/")
                ).is_dir()
                yield Import(file, node.lineno, inner if is_module else module)


def violations(source: str, file: str) -> list[str]:
    """What a file at this path may not import, each as a sentence."""
    return [f"{one}: {why}" for one in imports_of(source, file) for why in _broken_rules(one)]


def _broken_rules(one: Import) -> Iterator[str]:
    path = PurePosixPath(one.file)
    package = path.parts[0]
    ours = one.under(*PACKAGES)
    if package in ("journal", "protocols", "config", "simulators") and ours and not one.under(package):
        yield f"{package} stands alone"
    if package == "gateway" and one.under("simulators"):
        yield "the gateway never knows a simulator"
    if one.under("pymodbus", "asyncua") and package not in ("protocols", "simulators"):
        yield "protocol libraries stay under protocols/ and simulators/"
    if one.under("sqlite3", "aiosqlite") and package != "journal":
        yield "the database stays under journal/"
    if package == "gateway" and one.file != COMPOSITION_ROOT:
        yield from _broken_in_gateway(one, path, ours)


def _broken_in_gateway(one: Import, path: PurePosixPath, ours: bool) -> Iterator[str]:
    part = path.parts[1]
    if one.under("journal") and one.file not in OPENS_JOURNALS:
        yield "only the composition root knows the journal"
    if one.under("protocols") and not one.under("protocols.base", *_DOORS.get(part, ())):
        yield "only the composition root knows a driver; others know protocols.base"
    if part == "durable":
        if ours and not one.under("gateway.durable", "gateway.clock"):
            yield "the engine knows nothing of breakers, sockets or the journal"
        if not ours and one.module.split(".")[0] not in sys.stdlib_module_names | {"msgspec", "structlog"}:
            yield "the engine needs the standard library, msgspec and structlog only"
        if path.name in DURABLE_PURE and one.under(*IMPURE):
            yield "this module is pure: no I/O, no clock, no chance"
    if part == "shedding":
        allowed = ("gateway.shedding", "gateway.durable", "gateway.clock", "protocols.base", "config")
        if ours and not one.under(*allowed):
            yield "the application knows the engine, the clock, the driver's seam and the configuration"
        if path.name not in SHEDDING_SHELL and one.under(*IMPURE):
            yield "this module is pure: no I/O, no clock, no chance"
    if part in ("cli", "operator", "console") and one.under("protocols") and not one.under(*_DOORS.get(part, ())):
        yield "people's interfaces never know the field"


def files() -> list[Path]:
    return sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))


def test_every_file_keeps_the_rules() -> None:
    found = [line for file in files() for line in violations(file.read_text(), file.relative_to(ROOT).as_posix())]
    assert not found, "\n" + "\n".join(found)


def test_the_rules_are_about_files_that_exist() -> None:
    for name in SHEDDING_SHELL:
        assert (ROOT / "gateway" / "shedding" / name).is_file(), name
    for name in DURABLE_PURE:
        assert (ROOT / "gateway" / "durable" / name).is_file(), name


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("journal/writer.py", "import gateway.clock"),
        ("journal/writer.py", "from config import Site"),
        ("protocols/modbus/driver.py", "def late():\n    from config.models import Site"),
        ("config/loader.py", "from protocols import base"),
        ("gateway/durable/engine.py", "from gateway.shedding import breaker"),
        ("gateway/durable/engine.py", "from ..shedding.breaker import transition"),
        ("gateway/durable/engine.py", "import protocols.base"),
        ("gateway/durable/engine.py", "import aiosqlite"),
        ("gateway/durable/engine.py", "import numpy"),
        ("gateway/durable/replay.py", "import asyncio"),
        ("gateway/durable/replay.py", "from time import monotonic"),
        ("gateway/shedding/planner.py", "import random"),
        ("gateway/shedding/planner.py", "from protocols.modbus.driver import ModbusDriver"),
        ("gateway/shedding/activities.py", "from protocols import link"),
        ("gateway/shedding/activities.py", "from gateway.control import ControlServer"),
        ("gateway/cli/text.py", "import protocols.base"),
        ("gateway/cli/histories.py", "from journal import JournalFile"),
        ("gateway/offline.py", "import sqlite3"),
        ("gateway/control.py", "import journal"),
        ("gateway/control.py", "import pymodbus"),
        ("gateway/daemon.py", "import simulators.cli"),
        ("gateway/daemon.py", "import sqlite3"),
        ("simulators/cli.py", "from gateway.clock import to_us"),
        ("simulators/cli.py", "from protocols.modbus import client"),
    ],
)
def test_a_broken_rule_is_named_with_file_and_line(file: str, source: str) -> None:
    found = violations(source, file)
    assert found
    assert found[0].startswith(f"{file}:{source.count(chr(10)) + 1} imports ")


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("gateway/daemon.py", "from protocols.modbus.driver import ModbusDriver\nimport journal"),
        ("gateway/shedding/planner.py", "from config.models import Site\nfrom protocols.base import Position"),
        ("gateway/durable/engine.py", "import asyncio, msgspec\nfrom gateway.clock import Clock"),
        ("protocols/modbus/client.py", "import pymodbus\nfrom protocols.link import Link"),
        ("journal/thread.py", "import sqlite3, aiosqlite"),
        ("gateway/offline.py", "from journal import JournalFile"),
    ],
)
def test_what_the_rules_allow_passes(file: str, source: str) -> None:
    assert violations(source, file) == []


LOAD = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, sys.argv[1] + "."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(*sorted(sys.modules))
"""


@pytest.mark.parametrize(
    ("package", "must_not_load"),
    [
        ("journal", ("gateway", "protocols", "config", "simulators", "pymodbus")),
        ("protocols", ("gateway", "journal", "config", "simulators", "sqlite3", "aiosqlite")),
        ("config", ("gateway", "journal", "protocols", "simulators", "sqlite3", "pymodbus")),
        (
            "gateway.durable",
            (
                "gateway.shedding",
                "gateway.control",
                "journal",
                "protocols",
                "config",
                "simulators",
                "sqlite3",
                "pymodbus",
            ),
        ),
        ("gateway.shedding", ("journal", "protocols.modbus", "protocols.link", "simulators", "sqlite3", "pymodbus")),
        ("simulators", ("gateway", "protocols", "journal", "config", "sqlite3")),
    ],
)
def test_each_package_can_be_imported_alone(package: str, must_not_load: tuple[str, ...]) -> None:
    result = subprocess.run(
        [sys.executable, "-c", LOAD, package], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    loaded = set(result.stdout.split())
    assert package in loaded
    assert not loaded & set(must_not_load)


CLOCKS = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today", "date.today"}


def wall_clock_calls(source: str, file: str) -> list[str]:
    """Each place where the wall clock is asked."""
    return [
        f"{file}:{node.lineno} asks {asked}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name | ast.Attribute)
        and (asked := f"{getattr(node.value, 'id', getattr(node.value, 'attr', ''))}.{node.attr}") in CLOCKS
    ]


def test_nothing_but_the_clock_asks_for_the_time() -> None:
    found = []
    for file in files():
        name = file.relative_to(ROOT).as_posix()
        if name != "gateway/clock.py" and not name.startswith("simulators/"):
            found += wall_clock_calls(file.read_text(), name)
    assert not found, "\n" + "\n".join(found)
    assert wall_clock_calls("import datetime\nx = datetime.datetime.now()", "f.py") == ["f.py:2 asks datetime.now"]
