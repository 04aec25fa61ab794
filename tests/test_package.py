"""The wheel is whole: built from the sources alone and installed into an empty environment, ``gridlatch`` works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("gateway", "protocols", "journal", "config", "simulators")
NOT_SHIPPED = {"__pycache__", ".mypy_cache"}


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in an environment that knows nothing of this repository."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    result = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, cwd=cwd, env=environment, timeout=300, check=False
    )
    assert result.returncode == 0, f"{command}\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}"
    return result


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: a build leaves folders behind, and left-overs must not help it."""
    folder = tmp_path_factory.mktemp("build")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns(*NOT_SHIPPED))
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source, cwd=folder)
    (built,) = folder.glob("gridlatch-*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of a new virtual environment that holds the wheel and what it depends on."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder / "venv", with_pip=True)
    run(folder / "venv" / "bin" / "python", "-m", "pip", "install", "--quiet", wheel, cwd=folder)
    return folder / "venv" / "bin"


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    source = wheel.parent / "source"
    files = (file.relative_to(source) for name in PACKAGES for file in (source / name).rglob("*") if file.is_file())
    assert held == {file.as_posix() for file in files}


def test_data_is_there_in_all_its_kinds(wheel: Path) -> None:
    kinds = {Path(name).suffix for name in zipfile.ZipFile(wheel).namelist()}
    assert {".sql", ".md", ".csv", ".toml", ".py", ".typed"} <= kinds


def test_it_says_what_it_is(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    text = archive.read(metadata).decode()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for line in ("Name: gridlatch", f"Version: {version}", "License-Expression: Apache-2.0", "Requires-Python: >=3.11"):
        assert line in text.splitlines()
    assert any(name.endswith("/licenses/LICENSE") for name in archive.namelist())


def test_the_command_works_far_from_the_repository(environment: Path, tmp_path: Path) -> None:
    version = run(environment / "gridlatch", "--version", cwd=tmp_path).stdout
    assert version.split() == ["gridlatch", tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]]
    where = run(environment / "python", "-c", "import config; print(config.__path__[0])", cwd=tmp_path).stdout.strip()
    assert not where.startswith(str(ROOT))
    with tempfile.TemporaryDirectory() as short:  # a Unix socket's path is short, and pytest's folders are deep
        site = shutil.copytree(Path(where) / "examples" / "substation", Path(short) / "site")
        checked = run(environment / "gridlatch", "check", site, cwd=tmp_path)
    assert "the configuration is in order" in checked.stdout


def test_every_module_of_the_daemon_loads_with_the_declared_dependencies_alone(
    environment: Path, tmp_path: Path
) -> None:
    code = (
        "import importlib, pkgutil\n"
        "for name in ('gateway', 'protocols', 'journal', 'config'):\n"
        "    package = importlib.import_module(name)\n"
        "    for module in pkgutil.walk_packages(package.__path__, name + '.'):\n"
        "        module.name.endswith('__main__') or importlib.import_module(module.name)\n"
    )
    run(environment / "python", "-c", code, cwd=tmp_path)
