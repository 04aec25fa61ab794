"""Argument parsing and process life of ``python -m simulators`` (see ``__main__``)."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from simulators.client import SimulatorClient
from simulators.control import ControlError, ControlServer
from simulators.faults import FaultError, read_scenario
from simulators.generate import DEFAULT_ORIGIN, Plan, generate
from simulators.simulation import Simulation, StartError
from simulators.site import DEFAULT_PEAK_PCT, ClockLine, SimulatedSite, SiteError, read_site


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        match arguments.command:
            case "site":
                return _site(arguments)
            case "run":
                return asyncio.run(_run(arguments))
            case _:
                return asyncio.run(_ctl(arguments))
    except (SiteError, FaultError, ValueError) as error:
        print(f"simulators: {error}", file=sys.stderr)
        return 2
    except (StartError, ControlError, OSError) as error:
        print(f"simulators: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m simulators", description="Simulated substation hardware.")
    commands = parser.add_subparsers(dest="command", required=True)

    site = commands.add_parser("site", help="write a site")
    site.add_argument("folder", type=Path, help="where to; files of a site that are there are replaced")
    site.add_argument("--rtus", type=int, default=120, help="number of RTUs (120)")
    site.add_argument("--breakers", type=int, default=100, help="breakers of each RTU (100)")
    site.add_argument("--opcua-rtus", type=int, default=0, help="so many of the RTUs, the last ones, speak OPC UA (0)")
    site.add_argument("--operators", type=_endpoint, help="HOST:PORT of an OPC UA server for operators (none)")
    site.add_argument("--port", type=int, default=15020, help="TCP port of all devices (15020)")
    site.add_argument("--first-host", default="127.0.1.1", help="address of the first RTU; the others follow")
    site.add_argument("--seed", type=int, default=1, help="another number, another plant")
    site.add_argument("--peak-pct", type=float, default=DEFAULT_PEAK_PCT, help="peak load, percent of capacity")
    site.add_argument("--name", default="Heatwave")
    site.add_argument("--mode", choices=("armed", "monitor"), default="armed")
    site.add_argument("--arm-for-s", type=float, default=60.0)
    site.add_argument("--cooldown-s", type=float, default=600.0)
    _clock_arguments(site)

    run = commands.add_parser("run", help="simulate a site")
    run.add_argument("--site", type=Path, required=True, help="folder of the site")
    run.add_argument("--control", "--port-control", type=Path, help="Unix socket (default: simulator.sock in the site)")
    run.add_argument("--faults", type=Path, help="scenario file")
    _clock_arguments(run)

    ctl = commands.add_parser("ctl", help="talk to a running simulator")
    ctl.add_argument("socket", type=Path)
    ctl.add_argument("op", help="state, links, counters, commands, breaker, fault, clear, trip or reset")
    ctl.add_argument("arguments", nargs="*", metavar="key=value", help="such as kind=stuck target=F001-007")
    return parser


def _clock_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=float, help="simulated seconds per second")
    parser.add_argument(
        "--origin", type=_moment, help=f"simulated time at the wall origin ({DEFAULT_ORIGIN.isoformat()})"
    )
    parser.add_argument("--wall-origin", type=_moment, help="wall time of the origin (default: now)")


def _endpoint(text: str) -> tuple[str, int]:
    address, _, port = text.rpartition(":")
    return address, int(port)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _site(arguments: argparse.Namespace) -> int:
    plan = Plan(
        rtus=arguments.rtus,
        breakers=arguments.breakers,
        opcua_rtus=arguments.opcua_rtus,
        operators=arguments.operators,
        port=arguments.port,
        first_host=arguments.first_host,
        rate=arguments.rate,
        origin=arguments.origin,
        wall_origin=arguments.wall_origin,
        seed=arguments.seed,
        peak_pct=arguments.peak_pct,
        name=arguments.name,
        mode=arguments.mode,
        arm_for_s=arguments.arm_for_s,
        cooldown_s=arguments.cooldown_s,
    )
    generate(arguments.folder, plan)
    print(f"{plan.rtus} RTUs with {plan.breakers} breakers each: {arguments.folder}")
    return 0


def _clock_line(arguments: argparse.Namespace, site: SimulatedSite) -> ClockLine | None:
    """The site's line, each part of it replaced by what the command line says."""
    if arguments.rate is None and arguments.origin is None and arguments.wall_origin is None:
        return site.clock
    base = site.clock or ClockLine(1.0, DEFAULT_ORIGIN, datetime.now(UTC))
    rate = base.rate if arguments.rate is None else arguments.rate
    if not rate > 0:
        raise ValueError(f"--rate must be above 0, not {rate}")
    return ClockLine(rate, arguments.origin or base.origin, arguments.wall_origin or base.wall_origin)


async def _run(arguments: argparse.Namespace) -> int:
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # what it would complain of is done on purpose
    site = read_site(arguments.site)
    simulation = Simulation(site, _clock_line(arguments, site))
    scenario = read_scenario(arguments.faults, simulation.plant) if arguments.faults else []
    control = ControlServer(simulation, arguments.control or site.path / "simulator.sock")
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with simulation:
        for at_s, faults in scenario:
            simulation.faults.plan(at_s, faults)
        await control.start()
        ready = {"event": "ready", "pid": os.getpid(), "devices": len(site.devices), "feeders": len(site.feeders)}
        print(json.dumps({**ready, "control": str(control.path)}), flush=True)
        await stopped.wait()
        await control.stop()
    return 0


async def _ctl(arguments: argparse.Namespace) -> int:
    pairs = [text.partition("=") for text in arguments.arguments]
    if wrong := [key for key, equals, _ in pairs if not equals or not key]:
        raise ValueError(f"arguments are written as key=value, not {wrong[0]!r}")
    client = SimulatorClient(arguments.socket)
    await client.connect(timeout_s=1.0)
    reply = await client.request(arguments.op, **{key: _value(text) for key, _, text in pairs})
    print(json.dumps(reply, indent=1, ensure_ascii=False))
    await client.close()
    return 0


def _value(text: str) -> object:
    """Numbers, true, false and null as such, anything else as text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
