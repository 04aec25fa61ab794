"""The screen: events once and for good, a panel that is drawn over, plain lines elsewhere."""

from __future__ import annotations

import io
from datetime import datetime, timedelta, timezone

import pytest

from simulators.heatwave.screen import BAR_CELLS, Screen, bar, clock, scale, step, timer
from simulators.heatwave.view import Gateway, Plant, View

NOON = datetime(2014, 1, 16, 12, 0, tzinfo=timezone(timedelta(hours=11)))
PLANT = Plant(NOON, 96_400.0, 100_000.0, 96.4, 41.0, 12_000, 1_500, 1_500, 1_500)


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def gateway(**changes: object) -> Gateway:
    """The gateway in a cooldown with eight minutes left."""
    fields: dict[str, object] = {
        "now": NOON, "measured_pct": 96.4, "zone": "armed", "instance": "shed-1", "phase": "cooldown", "tier": "Tier1",
        "sentence": "2510 kW of Tier1 shed; waits for the load to settle until 12:08", "until": NOON + timedelta(minutes=8),
        "shed_kw": 2510.0, "total": 12_000, "open": 1_500, "failed": 1, "unresolved": 0, "links_up": 120,
        "links_total": 121, "troubled": ("RTU007",), "held": "",
    }  # fmt: skip
    return Gateway(**{**fields, **changes})  # type: ignore[arg-type]


def test_elsewhere_there_are_plain_lines_now_and_then() -> None:
    """No control characters; a second view right after the first is not shown."""
    out = io.StringIO()
    screen = Screen(60.0, out)
    screen.show(View(PLANT, gateway()))
    screen.show(View(PLANT, gateway()))
    assert out.getvalue().count("\n") == 1
    assert "\x1b" not in out.getvalue()
    for words in ("96.4 %", "cooldown Tier1", "2.51 MW shed", "1,500 of 12,000 open", "120/121 links", "8:00 left"):
        assert words in out.getvalue()


def test_on_a_terminal_the_panel_is_drawn_over_and_events_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before an event is written the panel is taken away by exactly its height."""
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    screen = Screen(60.0, out)
    screen.show(View(PLANT, gateway()))
    height = out.getvalue().count("\n")
    screen.event("something happened")
    assert f"\x1b[{height}A\x1b[J" in out.getvalue()
    assert out.getvalue().endswith("something happened\n")


@pytest.mark.parametrize(
    "view", [View(PLANT, gateway()), View(PLANT, None), View(PLANT, gateway(phase="", until=None))]
)
def test_every_panel_has_the_same_height_and_fits(monkeypatch: pytest.MonkeyPatch, view: View) -> None:
    """Dark or not: the same number of lines, none wider than the terminal."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "70")
    out = Terminal()
    Screen(60.0, out).show(view)
    lines = out.getvalue().splitlines()
    assert len(lines) == 7
    assert max(map(len, lines)) <= 69


def test_a_long_event_is_wrapped_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal; the lines below the first begin where its text does."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "70")
    out = Terminal()
    Screen(60.0, out).event("word " * 20)
    first, second = out.getvalue().splitlines()
    assert max(len(first), len(second)) <= 69
    assert second.index("word") == first.index("word")


def test_the_dark_gateway_is_told_with_what_the_breakers_do() -> None:
    """Nobody knows but the plant itself."""
    out = io.StringIO()
    Screen(60.0, out).show(View(PLANT, None))
    assert "gateway dark" in out.getvalue()
    assert "1500 breakers open" in out.getvalue()


def test_bar_and_scale() -> None:
    """Empty at the left end, full at the right; the marks stand where the bar reaches."""
    assert bar(80.0).count("█") == 0
    assert bar(120.0).count("█") == BAR_CELLS
    assert bar(98.0).count("█") == scale().index("┴98")
    assert bar(95.0).count("█") == scale().index("┴95")


def test_words() -> None:
    """Step, timer, clock."""
    assert step(gateway()) == "cooldown Tier1: 2510 kW of Tier1 shed"
    assert step(gateway(held="after a restart")) == "outputs held: after a restart"
    assert step(gateway(phase="", zone="arming")) == "watches the load (arming)"
    assert timer(View(PLANT, gateway()), 60.0) == "until 12:08:00, 8:00 left (8 s here): waits for the load to settle"
    assert timer(View(PLANT, None), 60.0) == "none runs"
    assert clock(-3.0) == "0:00"
    assert clock(605.9) == "10:05"
