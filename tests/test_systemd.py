"""The unit is understood whole by systemd, is as closed as it was, and says what the daemon relies upon."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "systemd"
UNIT = FOLDER / "gridlatch.service"
WORST_SCORE = 12
"""Exposure in tenths, as systemd-analyze counts it (100 is an unprotected service)."""

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="SKIPPED: systemd-analyze is not on this machine, so the unit file is not checked here",
)


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, check=False)


def copy_of_unit(folder: Path, *, with_serial_lines: bool = False, change: tuple[str, str] = ("", "")) -> Path:
    """A copy whose program exists on this machine, for verify wants to see it."""
    text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text(), flags=re.MULTILINE)
    text = text.replace("Documentation=file:///usr/share/doc/gridlatch/README.md\n", "")
    copy = folder / UNIT.name
    copy.write_text(text.replace(*change) if change[0] else text)
    if with_serial_lines:
        drop_ins = folder / "gridlatch.service.d"
        drop_ins.mkdir()
        shutil.copy(FOLDER / "optional" / "serial.conf", drop_ins)
    return copy


def verify(unit: Path) -> str:
    """What systemd has to say against a unit. Its exit code alone overlooks unknown keys."""
    result = run("systemd-analyze", "verify", "--man=no", unit)
    return result.stderr + (f"exit code {result.returncode}" if result.returncode else "")


@needs_systemd
class TestUnit:
    @pytest.mark.parametrize("with_serial_lines", [False, True])
    def test_systemd_understands_every_line(self, tmp_path: Path, with_serial_lines: bool) -> None:
        assert verify(copy_of_unit(tmp_path, with_serial_lines=with_serial_lines)) == ""

    def test_a_misspelled_key_would_be_seen(self, tmp_path: Path) -> None:
        assert "WatchdogSecs" in verify(copy_of_unit(tmp_path, change=("WatchdogSec=", "WatchdogSecs=")))

    def test_it_may_do_no_more_than_it_must(self) -> None:
        result = run("systemd-analyze", "security", "--offline=true", f"--threshold={WORST_SCORE}", UNIT)
        assert result.returncode == 0, result.stdout[-200:] + result.stderr

    def test_an_unprotected_unit_would_fail_that_check(self, tmp_path: Path) -> None:
        unit = copy_of_unit(tmp_path, change=("ProtectSystem=strict", "ProtectSystem=no"))
        assert run("systemd-analyze", "security", "--offline=true", f"--threshold={WORST_SCORE}", unit).returncode != 0


def settings() -> dict[str, str]:
    lines = (
        line.partition("=")[::2] for line in UNIT.read_text().splitlines() if "=" in line and not line.startswith("#")
    )
    return dict(lines)


def test_it_comes_back_from_anything_but_a_wrong_configuration() -> None:
    said = settings()
    assert said["Restart"] == "always"
    assert said["StartLimitIntervalSec"] == "0"
    assert said["RestartPreventExitStatus"] == "2 4"
    assert float(said["RestartSec"]) <= 2


def test_a_hung_daemon_is_found_and_a_stopping_one_may_drain() -> None:
    said = settings()
    assert said["Type"] == "notify"
    assert said["WatchdogSec"] == "15"
    assert said["KillMode"] == "mixed"
    assert said["ExecReload"].endswith("kill -HUP $MAINPID")


def test_it_does_not_wait_for_a_clock_that_may_never_come() -> None:
    said = settings()
    assert "time-sync.target" not in said.get("After", "") + said.get("Wants", "") + said.get("Requires", "")


def test_its_state_is_its_own_and_it_sees_who_speaks_at_its_socket() -> None:
    said = settings()
    assert said["StateDirectoryMode"] == "0700"
    # With a user namespace of its own every other user would be "nobody" in the records.
    assert said["PrivateUsers"] == "no"


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="SKIPPED: systemd-sysusers is not on this machine")
def test_the_user_is_created_as_written(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    result = run("systemd-sysusers", "--dry-run", f"--root={tmp_path}", "--inline", *_entries())
    assert result.returncode == 0, result.stderr
    assert "Creating user 'gridlatch'" in result.stdout + result.stderr


def _entries() -> list[str]:
    lines = (FOLDER / "sysusers.d" / "gridlatch.conf").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.skipif(shutil.which("systemd-tmpfiles") is None, reason="SKIPPED: systemd-tmpfiles is not on this machine")
def test_the_folder_of_the_site_is_created_as_written(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    conf = (FOLDER / "tmpfiles.d" / "gridlatch.conf").read_text()
    # The user need not exist on the machine that runs the tests.
    (tmp_path / "gridlatch.conf").write_text(conf.replace("root gridlatch", "- -"))
    result = run("systemd-tmpfiles", "--create", f"--root={tmp_path}", tmp_path / "gridlatch.conf")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "etc" / "gridlatch").stat().st_mode & 0o777 == 0o750
