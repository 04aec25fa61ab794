"""What people see: on a terminal a panel that is redrawn below a growing list of events, elsewhere plain lines.

What must stay true: an event is printed once and stays; the panel never scrolls, so its lines are cut to the width.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import time
from datetime import datetime
from typing import TextIO

from simulators.heatwave.view import Gateway, View
from simulators.weather import LOCAL

PLAIN_EVERY_S = 4.0
REDRAW_EVERY_S = 0.2
BAR_FROM_PCT, BAR_TO_PCT, BAR_CELLS = 85.0, 101.0, 48
LIMIT_PCT = 98.0
MARKS = (95.0, LIMIT_PCT)
BOLD, DIM, RED, YELLOW, GREEN, PLAIN = "1", "2", "31", "33", "32", ""


class Screen:
    """Draws views and events. rate: grid seconds per second."""

    def __init__(self, rate: float, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._rate = rate
        self.tty = self._stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._colours = self.tty and "NO_COLOR" not in os.environ
        self._began = time.monotonic()
        self._drawn = 0
        self._shown_at = -1e9
        self._now: datetime | None = None

    @property
    def elapsed_s(self) -> float:
        """Real seconds since the beginning."""
        return time.monotonic() - self._began

    def paint(self, text: str, colour: str) -> str:
        """Text in a colour, where there are colours."""
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colours and colour else text

    def title(self, text: str) -> None:
        """A line of its own, not an event."""
        self._write(self.paint(text, BOLD) + "\n")

    def plain(self, text: str) -> None:
        """A line of its own without emphasis."""
        self._write(text + "\n")

    def event(self, text: str, colour: str = PLAIN) -> None:
        """Say what happened, with the grid's time and the seconds since the beginning."""
        grid = self._now.astimezone(LOCAL).strftime("%H:%M:%S") if self._now else "        "
        stamp = f"{clock(self.elapsed_s)}  {grid}  "
        lines = textwrap.wrap(text, max(40, self._width() - len(stamp))) if self.tty else [text]
        shown = f"\n{' ' * len(stamp)}".join(self.paint(line, colour) for line in lines)
        self._write(f"{self.paint(stamp, DIM)}{shown}\n")

    def show(self, view: View) -> None:
        """Show a view: redraw the panel, or now and then a plain line."""
        self._now = view.plant.now
        now = time.monotonic()
        if now - self._shown_at < (REDRAW_EVERY_S if self.tty else PLAIN_EVERY_S):
            return
        self._shown_at = now
        if not self.tty:
            self._stream.write(f"{clock(self.elapsed_s)}  {plain_line(view, self._rate)}\n")
            self._stream.flush()
            return
        width = self._width()
        lines = [self.paint(text[:width], colour) for text, colour in self._panel(view)]
        self._write("".join(line + "\n" for line in lines), panel=len(lines))

    @staticmethod
    def _width() -> int:
        return max(40, shutil.get_terminal_size().columns - 1)

    def clear(self) -> None:
        """Take the panel away."""
        self._write("")

    def _write(self, text: str, panel: int = 0) -> None:
        if self._drawn:
            # The return first: a key that was pressed meanwhile (^C) has moved the cursor.
            self._stream.write(f"\r\x1b[{self._drawn}A\x1b[J")
        self._stream.write(text)
        self._stream.flush()
        self._drawn = panel
        if not panel:
            self._shown_at = -1e9 if self.tty else self._shown_at

    def _panel(self, view: View) -> list[tuple[str, str]]:
        plant, gateway = view.plant, view.gateway
        when = plant.now.astimezone(LOCAL).strftime("%d %b %Y %H:%M:%S")
        lines = [
            ("─" * 100, DIM),
            (f"{when}   ×{self._rate:g}   {plant.ambient_c:.0f} °C outside   {clock(self.elapsed_s)} played", DIM),
            (
                f"load     {bar(plant.load_pct)}  {plant.load_pct:5.1f} % of {plant.capacity_kw / 1000:.1f} MW",
                load_colour(plant.load_pct),
            ),
            (f"         {scale()}", DIM),
        ]
        if gateway is None:
            stay = f"{plant.open:,} breakers stay open by themselves, " if plant.open else ""
            dark = f"gateway  NO POWER: {stay}nobody watches the load"
            return [*lines, (dark, RED), ("", PLAIN), ("", PLAIN)]
        facts = f"breakers {known_open(gateway)} of {plant.feeders:,} open   {gateway.shed_kw / 1000:.2f} MW shed"
        facts += f"   links {gateway.links_up} of {gateway.links_total} up"
        if gateway.failed or gateway.unresolved:
            facts += f"   {gateway.failed} failed, {gateway.unresolved} unresolved"
        return [
            *lines,
            (facts, PLAIN),
            (f"gateway  {step(gateway)}", BOLD),
            (f"timer    {timer(view, self._rate)}", PLAIN),
        ]


def plain_line(view: View, rate: float) -> str:
    """All of a view in one line."""
    plant, gateway = view.plant, view.gateway
    text = f"{plant.now.astimezone(LOCAL):%H:%M:%S}  load {plant.load_pct:5.1f} % of {plant.capacity_kw / 1000:.1f} MW"
    if gateway is None:
        return f"{text} | gateway dark | {plant.open} breakers open"
    text += (
        f" | {step(gateway)} | {gateway.shed_kw / 1000:.2f} MW shed | {known_open(gateway)} of {plant.feeders:,} open"
    )
    return f"{text} | {gateway.links_up}/{gateway.links_total} links | {timer(view, rate)}"


def known_open(gateway: Gateway) -> str:
    """Open breakers as the gateway knows them; it may not know them yet."""
    return f"{gateway.open:,}" if gateway.total else "?"


def step(gateway: Gateway) -> str:
    """Phase and tier in a few words."""
    if gateway.held:
        return f"outputs held: {gateway.held}"
    if not gateway.phase:
        return f"watches the load ({gateway.zone})"
    return f"{gateway.phase} {gateway.tier}: {gateway.sentence.partition('; waits for')[0]}"


def timer(view: View, rate: float) -> str:
    """What the gateway waits for, and how long still."""
    if view.gateway is None or view.gateway.until is None:
        return "none runs"
    until = view.gateway.until.astimezone(LOCAL).strftime("%H:%M:%S")
    _, _, waits_for = view.gateway.sentence.partition("; waits for ")
    what = waits_for.partition(" until ")[0] or "its end"
    return f"until {until}, {clock(view.left_s)} left ({view.left_s / rate:.0f} s here): waits for {what}"


def bar(percent: float) -> str:
    """Load as a bar from BAR_FROM_PCT to BAR_TO_PCT."""
    filled = _cell(percent)
    return "".join("█" if cell < filled else "░" for cell in range(BAR_CELLS))


def scale() -> str:
    """The marks below the bar."""
    cells = [" "] * (BAR_CELLS + 6)
    for percent, text in ((BAR_FROM_PCT, f"{BAR_FROM_PCT:.0f} %"), *((mark, f"┴{mark:.0f}") for mark in MARKS)):
        for offset, letter in enumerate(text):
            cells[_cell(percent) + offset] = letter
    return "".join(cells).rstrip()


def _cell(percent: float) -> int:
    share = (percent - BAR_FROM_PCT) / (BAR_TO_PCT - BAR_FROM_PCT)
    return min(BAR_CELLS, max(0, round(share * BAR_CELLS)))


def load_colour(percent: float) -> str:
    """Red at the limit, yellow near it."""
    return RED if percent >= LIMIT_PCT else YELLOW if percent >= MARKS[0] else GREEN


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    return f"{minutes}:{rest:02d}"
