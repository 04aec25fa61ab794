"""The whole gateway operating 12,000 breakers, beside the bare driver doing the same: one JSON line a case.

Simulator and daemon are real processes on loopback: 120 RTUs x 100 breakers, all of them sheddable. Each round: the
daemon opens all breakers (``mass_shed``), closes them while events are raised (``event_latency``), is killed and started
again (``restart``) and stopped; then the bare driver, in this process, does the same on the same simulator. Both check
each breaker, write once and read back; both must have moved each breaker exactly once, by the breakers' own counters.

* ``mass_shed``: from the start of the orchestration until its outcome is seen on disk: every position read back and
  journaled. All breakers are commanded at once, in three mass commands; the bare driver is given all at once.
* ``event_latency``: an event is raised through the control socket while all breakers are being closed. An orchestration
  waits for it and starts an activity that takes the time. Reacted - asked includes socket, audit record and two commits.
* ``steady``: nothing happens; every breaker is polled each second. Bytes to the disk are the kernel's, of the process.
* ``memory`` and ``restart``: from the kill until the socket answers, and until the field is read and reconciled.

``others_cores`` says how much of the machine somebody else used meanwhile: figures with much of it are noise.

usage: python benchmarks/mass_shed.py [--rounds 3] [--rtus 120] [--breakers 100] [--seconds 30] [--dir /var/tmp] [--keep]
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import csv
import itertools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.processes import Usage, machine_busy_s, usage  # noqa: E402
from benchmarks.summary import at_most, percentile  # noqa: E402
from config.loader import load_site  # noqa: E402
from gateway.control_client import ControlError, DaemonUnreachable, JsonValue, call  # noqa: E402
from protocols.base import BreakerReading, LinkStatus, Position  # noqa: E402
from protocols.modbus.driver import ModbusDriver  # noqa: E402
from simulators.client import SimulatorClient  # noqa: E402

PORT = 15420
FIRST_HOST = "127.0.20.1"
BLOCK = 4000
"""Three mass commands at once have 3,072 breakers under way: fewer than the 4,096 activities that may run at a time."""
EVENT_EVERY_S = 0.02
LOOK_S = 0.02
END_LOOK_S = 0.1
"""Between two looks whether a mass command has ended: each has the daemon read all names out of its journal, 2 ms."""
START_WITHIN_S = 90.0
MASS_WITHIN_S = 180.0
SETTINGS = {
    "max_operations_per_hour": "1000",
    "command_deadline_s": "3000.0",
    "after_restart": '"continue"',
    "programs": '["mass_procedures.py"]',
    "arm_pct": "199.0",
    "log_level": '"warning"',
    "poll_fast_s": "1.0",
    "poll_slow_s": "2.0",
}


@dataclass(frozen=True, slots=True)
class Mass:
    """All breakers moved once. cpu_s: of the daemon, or of this process for the bare driver."""

    wall_s: float
    cpu_s: float
    simulator_cpu_s: float
    others_cores: float
    outcomes: dict[str, int]
    flushes: int = 0
    records: int = 0
    write_bytes: int = 0


@dataclass(slots=True)
class Found:
    """What all rounds together found."""

    sheds: list[Mass] = field(default_factory=list)
    closes: list[Mass] = field(default_factory=list)
    bare: list[Mass] = field(default_factory=list)
    bare_closes: list[Mass] = field(default_factory=list)
    accepted_ms: list[float] = field(default_factory=list)
    reacted_ms: list[float] = field(default_factory=list)
    answered_ms: list[float] = field(default_factory=list)
    serving_s: list[float] = field(default_factory=list)
    reconciled_s: list[float] = field(default_factory=list)
    rss_start_mb: list[float] = field(default_factory=list)
    rss_shed_mb: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)


def write_site(folder: Path, rtus: int, breakers: int) -> None:
    """Generate a site in which every breaker may be shed."""
    shape = ["--rtus", str(rtus), "--breakers", str(breakers), "--port", str(PORT), "--first-host", FIRST_HOST]
    command = [sys.executable, "-m", "simulators", "site", str(folder), *shape]
    subprocess.run(command, cwd=HERE.parent, check=True, stdout=subprocess.DEVNULL)
    toml = folder / "site.toml"
    lines = toml.read_text().splitlines()
    keys = [line.split("=")[0].strip() for line in lines]
    for key, value in SETTINGS.items():
        lines[keys.index(key)] = f"{key} = {value}"
    toml.write_text("\n".join(lines) + "\n")
    with (folder / "feeders.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row.update(tier=row["tier"] or "Tier3", critical="no", sheddable="yes")
    with (folder / "feeders.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    shutil.copy(HERE / "mass_procedures.py", folder)


class Rig:
    """The site's folder and its two processes; each is ended by its own pid."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._socket = folder / "gridlatch.sock"
        self._log = (folder / "log").open("ab")
        self._daemon: subprocess.Popen[bytes] | None = None
        self.simulator = self._spawn("simulators", "run", "--site", str(folder))

    def _spawn(self, *module: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", *module], cwd=HERE.parent, stdout=self._log, stderr=self._log)

    @property
    def daemon_pid(self) -> int:
        """The daemon's process."""
        assert self._daemon is not None
        return self._daemon.pid

    async def start_daemon(self) -> tuple[float, float]:
        """Start it; seconds until its socket answers, and until it has read and reconciled the field."""
        began = time.monotonic()
        self._daemon = self._spawn("gateway.cli", "run", str(self.folder))
        serving_s = 0.0
        while True:
            if self._daemon.poll() is not None or time.monotonic() > began + START_WITHIN_S:
                raise SystemExit(f"the daemon does not serve; see {self.folder}/log (--keep keeps it)")
            with contextlib.suppress(DaemonUnreachable, ControlError):
                status = await self.ask("status")
                serving_s = serving_s or time.monotonic() - began
                if status["breakers"]:
                    return serving_s, time.monotonic() - began
            await asyncio.sleep(LOOK_S)

    def end_daemon(self, how: signal.Signals) -> None:
        """Send it a signal and wait for its end."""
        assert self._daemon is not None
        self._daemon.send_signal(how)
        self._daemon.wait(60)

    def end(self) -> None:
        """End what is left."""
        for process in (self._daemon, self.simulator):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        self._log.close()

    async def ask(self, op: str, **args: JsonValue) -> dict[str, JsonValue]:
        """One operation of the control socket."""
        result = await asyncio.to_thread(call, self._socket, op, args, 60.0)
        assert isinstance(result, dict)
        return result

    async def journal(self) -> tuple[int, int]:
        """Batches and records so far."""
        journal = (await self.ask("status"))["journal"]
        assert isinstance(journal, dict)
        return int(str(journal["batch"])), int(str(journal["seq"]))

    async def settle(self) -> None:
        """Wait until nothing is written any more for a while: what a start or a mass command leaves behind is done."""
        before = (-1, -1)
        deadline = time.monotonic() + 60.0
        while (now := await self.journal()) != before:
            if time.monotonic() > deadline:
                raise SystemExit("the daemon does not come to rest")
            before = now
            await asyncio.sleep(1.5)


class Meter:
    """CPU of one process and of the simulator, and how busy everybody else was, from its making on."""

    def __init__(self, pid: int, simulator: int) -> None:
        self._pids = (pid, simulator)
        self._usage = self._read()
        self._own_cpu_s = time.process_time()
        self._busy_s = machine_busy_s()
        self.began = time.monotonic()

    def _read(self) -> tuple[Usage, Usage]:
        return usage(self._pids[0]), usage(self._pids[1])

    def mass(self, outcomes: dict[str, int], flushes: int = 0, records: int = 0) -> Mass:
        """What was used since."""
        wall_s = time.monotonic() - self.began
        busy_s = machine_busy_s() - self._busy_s
        now = self._read()
        cpu_s, simulator_s = (after.cpu_s - before.cpu_s for before, after in zip(self._usage, now, strict=True))
        own_s = 0.0 if self._pids[0] == os.getpid() else time.process_time() - self._own_cpu_s
        others = max(0.0, busy_s - cpu_s - simulator_s - own_s) / wall_s
        written = now[0].write_bytes - self._usage[0].write_bytes
        return Mass(wall_s, cpu_s, simulator_s, others, outcomes, flushes, records, written)


async def operate_all(rig: Rig, activity: str, names: list[str], instance: str) -> Mass:
    """One orchestration that commands all breakers, until its outcome is on disk."""
    blocks = [names[i : i + BLOCK] for i in range(0, len(names), BLOCK)]
    batches, records = await rig.journal()
    meter = Meter(rig.daemon_pid, rig.simulator.pid)
    order: dict[str, JsonValue] = {"activity": activity, "blocks": blocks}
    await rig.ask("instances.start", name="OperateMany", instance=instance, input=order)
    while True:
        shown = await rig.ask("instances.show", instance=instance)
        if shown["status"] == "Completed":
            break
        if shown["status"] != "Running" and shown["status"] != "Pending":
            raise SystemExit(f"the mass command did not complete: {shown}")
        if time.monotonic() > meter.began + MASS_WITHIN_S:
            raise SystemExit(f"the mass command takes more than {MASS_WITHIN_S:g} s")
        await asyncio.sleep(END_LOOK_S)
    mass = meter.mass({})
    outcomes = shown["output"]
    assert isinstance(outcomes, dict)
    after = await rig.journal()
    counts = {word: int(str(count)) for word, count in outcomes.items()}
    return Mass(
        mass.wall_s,
        mass.cpu_s,
        mass.simulator_cpu_s,
        mass.others_cores,
        counts,
        after[0] - batches,
        after[1] - records,
        mass.write_bytes,
    )


async def raise_events(rig: Rig, instance: str, numbers: Iterator[int], found: Found) -> None:
    """Raise events until cancelled; then their latencies are in ``found``."""
    asked: dict[int, float] = {}
    answered: dict[int, float] = {}
    try:
        while True:
            number = next(numbers)
            asked[number] = time.monotonic()
            await rig.ask("instances.raise", instance=instance, event="Ping", data={"number": number})
            answered[number] = time.monotonic()
            await asyncio.sleep(EVENT_EVERY_S)
    finally:
        await asyncio.sleep(1.0)
        for line in (rig.folder / "stamps").read_text().splitlines():
            number, at_s = int(line.split()[0]), float(line.split()[1])
            if number in answered:
                found.reacted_ms.append((at_s - asked[number]) * 1e3)
                found.accepted_ms.append(max(0.0, at_s - answered[number]) * 1e3)
                found.answered_ms.append((answered[number] - asked[number]) * 1e3)
                del answered[number]
        if answered:
            raise SystemExit(f"{len(answered)} events were acknowledged and nobody reacted")


class _Listener:
    def breakers_changed(self, changes: list[tuple[str, BreakerReading]]) -> None:
        """See FieldListener."""

    def link_changed(self, status: LinkStatus) -> None:
        """See FieldListener."""


async def bare(rig: Rig, found: Found) -> None:
    """The driver alone: open all, close all."""
    site = load_site(rig.folder / "site.toml")
    driver = ModbusDriver(site.devices, site.feeders, site.measurements)
    driver.set_writes_enabled(True)
    await driver.start(_Listener())
    try:
        await driver.wait_first_scan(30.0)
        for target, masses in ((Position.OPEN, found.bare), (Position.CLOSED, found.bare_closes)):
            await asyncio.sleep(1.0)
            meter = Meter(os.getpid(), rig.simulator.pid)
            ends = await asyncio.gather(*(driver.operate(name, target, 60.0) for name in driver.feeders()))
            masses.append(meter.mass(dict(collections.Counter(str(end.outcome) for end in ends))))
    finally:
        await driver.stop()


async def check_counters(rig: Rig, breakers: int, times: int) -> None:
    """By their own counters each breaker was opened and closed so many times, and stands closed."""
    async with SimulatorClient(rig.folder / "simulator.sock") as simulator:
        counters = await simulator.counters()
    wanted = (times, times, 2 * times, "closed")
    wrong = [n for n, c in counters.items() if (c.open_commands, c.close_commands, c.operations, c.position) != wanted]
    if wrong or len(counters) != breakers:
        raise SystemExit(f"{len(wrong)} of {len(counters)} breakers moved other than commanded: {wrong[:5]}")


async def one_round(rig: Rig, number: int, events: Iterator[int], found: Found) -> None:
    """See the head of this file."""
    await rig.start_daemon()
    await rig.settle()
    found.rss_start_mb.append(usage(rig.daemon_pid).rss_mb)
    names = [feeder.name for feeder in load_site(rig.folder / "site.toml").feeders]
    found.sheds.append(await operate_all(rig, "SendDisconnectCommand", names, f"open-{number}"))
    await rig.settle()
    found.rss_shed_mb.append(usage(rig.daemon_pid).rss_mb)
    (rig.folder / "stamps").write_text("")
    await rig.ask("instances.start", name="React", instance=f"react-{number}")
    raising = asyncio.create_task(raise_events(rig, f"react-{number}", events, found))
    found.closes.append(await operate_all(rig, "SendReconnectCommand", names, f"close-{number}"))
    raising.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await raising
    await rig.ask("instances.raise", instance=f"react-{number}", event="Ping", data={"number": -1})
    await rig.settle()
    found.peak_mb.append(usage(rig.daemon_pid).peak_mb)
    rig.end_daemon(signal.SIGKILL)
    serving_s, reconciled_s = await rig.start_daemon()
    found.serving_s.append(serving_s)
    found.reconciled_s.append(reconciled_s)


async def steady(rig: Rig, seconds: float) -> dict[str, object]:
    """Nothing but polls: CPU and bytes to the disk."""
    await rig.settle()
    trend = rig.folder / "state" / "trend.csv"
    batches, _ = await rig.journal()
    trend_bytes = trend.stat().st_size
    meter = Meter(rig.daemon_pid, rig.simulator.pid)
    await asyncio.sleep(seconds)
    used = meter.mass({})
    trend_grew = trend.stat().st_size - trend_bytes
    flushes = (await rig.journal())[0] - batches
    cpu_pct = 100 * used.cpu_s / used.wall_s
    hours = used.wall_s / 3600
    written_mb_h = used.write_bytes / hours / 1e6
    return {
        "seconds": round(used.wall_s, 1),
        "cpu_pct_of_a_core": round(cpu_pct, 1),
        "simulator_cpu_pct": round(100 * used.simulator_cpu_s / used.wall_s, 1),
        "written_mb_per_h": round(written_mb_h, 3),
        "trend_mb_per_h": round(trend_grew / hours / 1e6, 3),
        "flushes_per_h": round(flushes / hours),
        "others_cores": round(used.others_cores, 2),
        "table": [
            at_most("steady polling, CPU", cpu_pct, "% of a core", 50.0),
            at_most("idle daemon, to the disk", written_mb_h, "MB/h", 1.0),
        ],
    }


def tell(case: str, **figures: object) -> None:
    """One JSON line."""
    print(json.dumps({"bench": "mass_shed", "case": case, **figures}), flush=True)


def _masses(masses: list[Mass], breakers: int) -> dict[str, object]:
    per = 1e6 / breakers
    return {
        "wall_s": [round(mass.wall_s, 2) for mass in masses],
        "cpu_s": [round(mass.cpu_s, 2) for mass in masses],
        "cpu_us_a_breaker": round(statistics.median(mass.cpu_s for mass in masses) * per),
        "simulator_cpu_s": [round(mass.simulator_cpu_s, 2) for mass in masses],
        "others_cores": [round(mass.others_cores, 2) for mass in masses],
        "outcomes": dict(sum((collections.Counter(mass.outcomes) for mass in masses), collections.Counter())),
    }


def _journaled(masses: list[Mass], breakers: int) -> dict[str, object]:
    return {
        "flushes_a_breaker": round(statistics.median(mass.flushes for mass in masses) / breakers, 4),
        "records_a_breaker": round(statistics.median(mass.records for mass in masses) / breakers, 2),
        "bytes_written_a_breaker": round(statistics.median(mass.write_bytes for mass in masses) / breakers),
    }


def tell_all(found: Found, breakers: int, idle: dict[str, object]) -> None:
    """All cases."""
    for case, ours, alone in (("mass_shed", found.sheds, found.bare), ("mass_close", found.closes, found.bare_closes)):
        engine_s, bare_s = (statistics.median(mass.wall_s for mass in masses) for masses in (ours, alone))
        engine_cpu_s, bare_cpu_s = (statistics.median(mass.cpu_s for mass in masses) for masses in (ours, alone))
        row = at_most("12,000 breakers" if breakers == 12_000 else f"{breakers} breakers", engine_s, "s", 2.0, bare_s)
        row["what"] = f"{row['what']} {'opened' if case == 'mass_shed' else 'closed, with events'}"
        tell(
            case,
            breakers=breakers,
            engine=_masses(ours, breakers) | _journaled(ours, breakers),
            bare=_masses(alone, breakers),
            wall_ratio=round(engine_s / bare_s, 2),
            cpu_ratio=round(engine_cpu_s / bare_cpu_s, 2),
            table=[row],
        )
    tell("steady", breakers=breakers, **idle)
    peak_mb = max(found.peak_mb)
    tell(
        "memory",
        rss_start_mb=[round(mb) for mb in found.rss_start_mb],
        rss_shed_mb=[round(mb) for mb in found.rss_shed_mb],
        peak_mb=round(peak_mb),
        table=[at_most("memory at most", peak_mb, "MB", 500.0)],
    )
    tell(
        "restart",
        serving_s=[round(s, 2) for s in found.serving_s],
        reconciled_s=[round(s, 2) for s in found.reconciled_s],
        table=[at_most("kill -9 until reconciled", statistics.median(found.reconciled_s), "s", None)],
    )
    latency: dict[str, object] = {"events": len(found.reacted_ms)}
    for name, values in (
        ("asked_to_answered_ms", found.answered_ms),
        ("asked_to_reacted_ms", found.reacted_ms),
        ("answered_to_reacted_ms", found.accepted_ms),
    ):
        latency[name] = {f"p{p}": round(percentile(values, p), 1) for p in (50, 99, 100)}
    p99_ms = percentile(found.accepted_ms, 99)
    asked_ms = percentile(found.reacted_ms, 99)
    rows = [at_most("event accepted → reacted, p99", p99_ms, "ms", 100.0)]
    rows.append(at_most("event asked → reacted, p99", asked_ms, "ms", None))
    tell("event_latency", **latency, table=rows)


async def run(folder: Path, arguments: argparse.Namespace) -> None:
    """All rounds."""
    breakers = arguments.rtus * arguments.breakers
    write_site(folder, arguments.rtus, arguments.breakers)
    rig, found, events = Rig(folder), Found(), itertools.count(1)
    idle: dict[str, object] = {}
    try:
        for number in range(1, arguments.rounds + 1):
            await one_round(rig, number, events, found)
            if number == arguments.rounds:
                idle = await steady(rig, arguments.seconds)
            rig.end_daemon(signal.SIGTERM)
            await bare(rig, found)
            await check_counters(rig, breakers, 2 * number)
    finally:
        rig.end()
    tell_all(found, breakers, idle)


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rtus", type=int, default=120)
    parser.add_argument("--breakers", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=30.0, help="length of the steady case")
    parser.add_argument("--dir", type=Path, default=Path("/var/tmp"), help="a folder on the disk to measure")
    parser.add_argument("--keep", action="store_true", help="leave the site's folder where it is")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=arguments.dir, prefix="mass_shed."))
    try:
        asyncio.run(run(folder, arguments))
    finally:
        if arguments.keep:
            print(f"left in {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
