"""What the Modbus driver costs with nothing above it: one JSON line a case.

The simulated substation runs in another process, on loopback only: 120 RTUs x 100 breakers on 127.0.1.x. Cases:

* ``first_scan``: from ``start`` until every device was read.
* ``steady_polling``: CPU of this process, percent of one core, while every breaker is polled each second.
* ``mass_operate``: all breakers are opened at once, then closed: each is checked, written once and read back. This is
  the bare driver's figure that the whole gateway is compared with. Reads and writes a breaker are counted.

usage: python benchmarks/field_modbus.py [--rtus 120] [--breakers 100] [--seconds 20] [--profile]
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import cProfile
import json
import pstats
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from config.loader import load_site  # noqa: E402
from config.models import Site  # noqa: E402
from protocols.base import BreakerReading, LinkStatus, Position  # noqa: E402
from protocols.modbus.driver import ModbusDriver  # noqa: E402

PORT = 25020


class Listener:
    """Counts what the driver tells."""

    def __init__(self) -> None:
        self.changes = 0

    def breakers_changed(self, changes: list[tuple[str, BreakerReading]]) -> None:
        """See FieldListener."""
        self.changes += len(changes)

    def link_changed(self, status: LinkStatus) -> None:
        """See FieldListener."""


@contextlib.contextmanager
def simulator(folder: Path, rtus: int, breakers: int) -> Iterator[None]:
    """The substation in its own process, ended with this block."""
    module = [sys.executable, "-m", "simulators"]
    shape = ["--rtus", str(rtus), "--breakers", str(breakers), "--port", str(PORT)]
    subprocess.run([*module, "site", str(folder), *shape], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    process = subprocess.Popen([*module, "run", "--site", str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise SystemExit("the simulator did not start")
        yield
    finally:
        process.terminate()
        process.wait(10)


def tell(case: str, **figures: object) -> None:
    """One JSON line."""
    print(json.dumps({"bench": "field_modbus", "case": case, **figures}), flush=True)


def requests(driver: ModbusDriver) -> tuple[int, int, int]:
    """Requests, commands and failures so far."""
    totals = driver.counters().values()
    return (
        sum(total.requests for total in totals),
        sum(total.commands_sent for total in totals),
        sum(total.timeouts + total.malformed + total.exceptions for total in totals),
    )


async def mass(driver: ModbusDriver, target: Position) -> None:
    """Operate every breaker at once and tell how long each took."""
    loop = asyncio.get_running_loop()
    names = list(driver.feeders())
    before, cpu, started = requests(driver), time.process_time(), loop.time()
    ends: list[float] = []

    async def one(name: str) -> str:
        result = await driver.operate(name, target, 60.0)
        ends.append(loop.time() - started)
        return str(result.outcome)

    outcomes = collections.Counter(await asyncio.gather(*(one(name) for name in names)))
    wall, used = loop.time() - started, time.process_time() - cpu
    after = requests(driver)
    ends.sort()
    tell(
        "mass_operate",
        target=str(target),
        breakers=len(names),
        outcomes=dict(outcomes),
        wall_s=round(wall, 3),
        p50_s=round(ends[len(ends) // 2], 3),
        cpu_s=round(used, 3),
        cpu_us_a_breaker=round(used / len(names) * 1e6, 1),
        writes=after[1] - before[1],
        reads=after[0] - before[0] - (after[1] - before[1]),
        failures=after[2] - before[2],
    )


async def steady(driver: ModbusDriver, listener: Listener, seconds: float) -> None:
    """Do nothing but poll."""
    await asyncio.sleep(2.0)
    before, changes = requests(driver), listener.changes
    cpu, started = time.process_time(), time.monotonic()
    await asyncio.sleep(seconds)
    used, wall = time.process_time() - cpu, time.monotonic() - started
    asked = requests(driver)[0] - before[0]
    tell(
        "steady_polling",
        breakers=len(list(driver.feeders())),
        seconds=round(wall, 1),
        cpu_pct_of_a_core=round(100 * used / wall, 2),
        requests_per_s=round(asked / wall, 1),
        cpu_us_a_request=round(used / max(1, asked) * 1e6, 1),
        changes=listener.changes - changes,
        failures=requests(driver)[2] - before[2],
    )


async def run(site: Site, seconds: float) -> None:
    """All cases."""
    listener = Listener()
    driver = ModbusDriver(site.devices, site.feeders, site.measurements)
    driver.set_writes_enabled(True)
    cpu, started = time.process_time(), time.monotonic()
    await driver.start(listener)
    try:
        await driver.wait_first_scan(30.0)
        tell(
            "first_scan",
            devices=len(site.devices),
            wall_s=round(time.monotonic() - started, 3),
            cpu_s=round(time.process_time() - cpu, 3),
            up=sum(status.state == "up" for status in driver.links()),
        )
        await steady(driver, listener, seconds)
        await mass(driver, Position.OPEN)
        await mass(driver, Position.CLOSED)
    finally:
        await driver.stop()


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rtus", type=int, default=120)
    parser.add_argument("--breakers", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the steady case")
    parser.add_argument("--profile", action="store_true", help="print where the time went, to standard error")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, simulator(Path(folder), arguments.rtus, arguments.breakers):
        site = load_site(Path(folder) / "site.toml")
        if not arguments.profile:
            asyncio.run(run(site, arguments.seconds))
            return
        profile = cProfile.Profile()
        profile.runcall(asyncio.run, run(site, arguments.seconds))
        pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(30)


if __name__ == "__main__":
    main()
