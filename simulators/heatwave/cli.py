"""Arguments, process life, the table at the end and the report of ``python -m simulators.heatwave``."""

from __future__ import annotations

import argparse
import asyncio
import csv
import shutil
import signal
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

from simulators.control import ControlError
from simulators.generate import generate
from simulators.heatwave.checks import Check, Verdict
from simulators.heatwave.operator import Console, OperatorError
from simulators.heatwave.play import Play
from simulators.heatwave.scenario import FAST, Scenario, free_port, plan
from simulators.heatwave.screen import DIM, GREEN, RED, YELLOW, Screen, clock
from simulators.heatwave.station import GatewayAway, GatewayRefused, ProcessEnded, Station, StoryError

PASSED, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130
WORDS = {Verdict.HOLDS: ("PASS", GREEN), Verdict.FAILS: ("FAIL", RED), Verdict.NOTE: ("note", YELLOW)}
REPORT_TIMEOUT_S = 60.0
MARKER = "site.toml"
GATEWAY_CERTIFICATE = "pki/own/cert.der"


def main(argv: list[str] | None = None) -> int:
    """Play; returns the exit code."""
    arguments = _parser().parse_args(argv)
    base = FAST if arguments.fast else Scenario()
    keys = ("rtus", "breakers", "opcua_rtus", "rate", "seed", "silent_while")
    given = {key: getattr(arguments, key) for key in keys}
    scenario = replace(base, **{key: value for key, value in given.items() if value is not None})
    try:
        return asyncio.run(_perform(scenario, arguments.dir.resolve()))
    except (OSError, ValueError) as error:
        print(f"heatwave: {error}", file=sys.stderr)
        return WRONG_USAGE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m simulators.heatwave",
        description="A heatwave on a simulated substation, played with the real gateway from end to end.",
    )
    parser.add_argument("--dir", type=Path, default=Path("run/heatwave"), help="folder, made anew (run/heatwave)")
    parser.add_argument("--fast", action="store_true", help="a small one in half a minute: 4 RTUs with 10 breakers")
    parser.add_argument("--rtus", type=_count, help="so many RTUs")
    parser.add_argument("--breakers", type=_count, help="so many breakers on each")
    parser.add_argument("--opcua-rtus", type=int, choices=range(121), metavar="N", help="so many RTUs on OPC UA (4)")
    parser.add_argument("--rate", type=float, help="grid seconds per second")
    parser.add_argument("--seed", type=int, help="another plant")
    parser.add_argument("--silent-while", choices=("stable", "restoring"), help="when an RTU falls silent (stable)")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 1000:
        raise argparse.ArgumentTypeError("1 to 1000")
    return number


def make_site(scenario: Scenario, folder: Path) -> tuple[frozenset[str], Console]:
    """Write the site into a folder that is made anew; the names of its critical feeders, and the operator's client.

    Only a folder that an earlier run has made is replaced. Raises OSError, ValueError.
    """
    if folder.exists():
        if any(folder.iterdir()) and not (folder / MARKER).exists():
            raise ValueError(f"{folder} is not empty and holds no site: choose another --dir")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    site = plan(scenario, free_port(scenario.rtus))
    generate(folder, site)
    assert site.operators is not None
    console = Console(folder / "console", *site.operators, folder / GATEWAY_CERTIFICATE)
    with (folder / "feeders.csv").open(encoding="utf-8", newline="") as file:
        return frozenset(row["name"] for row in csv.DictReader(file) if row["critical"] == "yes"), console


async def _perform(scenario: Scenario, folder: Path) -> int:
    """Play with both processes ended whatever happens, and a signal as an orderly end."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    signals: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        signals.append(number)
        if len(signals) == 1:
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop, number)
    screen = Screen(scenario.rate)
    critical, console = make_site(scenario, folder)
    station = Station(folder)
    try:
        return await _play(Play(scenario, station, screen, critical, console), station, screen)
    except asyncio.CancelledError:
        if not signals:
            raise
        task.uncancel()
        screen.event(f"{signals[0].name}: ends here", YELLOW)
        return INTERRUPTED
    except (StoryError, ProcessEnded, ControlError, GatewayAway, GatewayRefused, OperatorError) as error:
        screen.event(f"FAILED: {error}", RED)
        screen.title(f"The logs are in {folder}: simulator.log and gateway-*.log")
        return FAILED
    finally:
        await console.end()
        for line in await station.end():
            screen.event(line, DIM)


async def _play(play: Play, station: Station, screen: Screen) -> int:
    scenario = play.scenario
    screen.title(
        f"A heatwave in Victoria, 16 January 2014, on {scenario.feeders:,} simulated breakers at ×{scenario.rate:g}"
    )
    checks = await play.run()
    screen.clear()
    for line in verdicts(checks, screen):
        screen.plain(line)
    report = await write_report(station, checks)
    failed = sum(1 for one in checks if one.verdict is Verdict.FAILS)
    ending = f"{failed} of {len(checks)} checks FAILED" if failed else f"all {len(checks)} checks passed"
    screen.title(f"{ending}, {clock(screen.elapsed_s)} played")
    screen.title(f"Report:  {report}")
    screen.plain(f"Logs:    {station.folder}/simulator.log, gateway-1.log, gateway-2.log")
    return FAILED if failed else PASSED


def verdicts(checks: list[Check], screen: Screen) -> list[str]:
    """The table of checks, a line or more each."""
    width = max(len(one.name) for one in checks)
    columns = max(60, shutil.get_terminal_size((150, 24)).columns - 1)
    narrow = columns < width + 40
    indent = 8 if narrow else width + 10
    lines = ["", "What was checked:"]
    for one in checks:
        word, colour = WORDS[one.verdict]
        values = textwrap.wrap(one.value, columns - indent) or [""]
        first = "" if narrow else values.pop(0)
        lines.append(f"  {screen.paint(word, colour)}  {one.name:<{width}}  {first}".rstrip())
        lines += [" " * indent + more for more in values]
    return [*lines, ""]


async def write_report(station: Station, checks: list[Check]) -> Path:
    """Ask the gateway for its event report with these proofs in it; where it lies. Raises GatewayAway, GatewayRefused."""
    proofs = [{"name": one.name, "value": one.value, "verdict": one.verdict.value} for one in checks]
    told = await station.ask("report", {"proofs": proofs}, REPORT_TIMEOUT_S)
    path = station.folder / "report.html"
    path.write_text(str(told["html"]), encoding="utf-8")
    return path
