"""The operator's part, with a gateway's command line and a console that do as the test says."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from simulators.heatwave import station as told
from simulators.heatwave.operator import Console, Told
from simulators.heatwave.screen import Screen
from simulators.heatwave.shift import Shift
from simulators.heatwave.station import Station, StoryError

SAY = "import pathlib, sys; pathlib.Path('{log}').open('a').write(repr((sys.argv[1:3], sys.stdin.read())) + '\\n')"


@dataclass
class Seen:
    """A console that shows this."""

    sees: str = ""
    sessions: int = 0
    ordered: list[tuple[str, str]] = field(default_factory=list)

    async def override(self, decision: str, reason: str) -> Told:
        self.ordered.append((decision, reason))
        return Told("taken", True, "cooldown", "holds")


def shift(console: Any, folder: Path) -> tuple[Shift, io.StringIO]:
    said = io.StringIO()
    return Shift(console, Station(folder), Screen(60.0, said)), said


async def test_the_operator_gets_a_name_and_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The password goes through standard input, and is not told."""
    log = tmp_path / "log"
    monkeypatch.setattr(told, "gateway_command", lambda: [sys.executable, "-c", SAY.format(log=log)])
    console = Console(tmp_path / "console", "127.0.0.1", 1, tmp_path / "gateway.der")
    employing, said = shift(console, tmp_path)
    await employing.employ()
    assert log.read_text().splitlines() == [repr((["users", "add"], console.password)), repr((["certs", "trust"], ""))]
    assert console.certificate.exists()
    assert "users add shift.supervisor" in said.getvalue()
    assert console.password not in said.getvalue()


async def test_a_command_that_fails_ends_the_story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told, "gateway_command", lambda: [sys.executable, "-c", "import sys; sys.exit('no disk')"])
    console = Console(tmp_path / "console", "127.0.0.1", 1, tmp_path / "gateway.der")
    with pytest.raises(StoryError, match=r"gridlatch users add failed \(exit code 1\): no disk"):
        await shift(console, tmp_path)[0].employ()


def test_each_session_is_told_once(tmp_path: Path) -> None:
    console = Seen()
    watching, said = shift(console, tmp_path)
    for sees, sessions in (("", 0), ("no procedure", 1), ("no procedure", 1), ("", 1), ("4 kW shed; waits for x", 2)):
        console.sees, console.sessions = sees, sessions
        watching.tell()
    lines = said.getvalue().splitlines()
    assert len(lines) == 2
    assert "logged in" in lines[0]
    assert "back by itself (session 2)" in lines[1]
    assert lines[1].endswith("sees: 4 kW shed")


async def test_an_order_and_its_answer_are_told(tmp_path: Path) -> None:
    console, looks = Seen(), []

    async def look() -> None:
        looks.append(1)

    working, said = shift(console, tmp_path)
    await working.override("hold", "ambulance", look)
    assert console.ordered == [("hold", "ambulance")]
    assert looks
    assert "Override(hold, 'ambulance') by shift.supervisor over OPC UA" in said.getvalue()
    assert "the gateway answers: taken" in said.getvalue()
