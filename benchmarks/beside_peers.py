"""The engine beside other durable engines, case by case: one JSON line each, and one that compares them.

Cases: orchestrations of three steps one at a time, at most 100 at once, 1,000 at once; an event until its orchestration
goes on; 1,000 steps in parallel; operations of keyed entities; 2,000 timers due at one instant. All engines run the same
code (``peers/``), each in a process of its own with whatever servers it needs, on this machine alone.

The peers come with ``python -m benchmarks.peers.install`` (``make bench`` does it). One that isn't there, breaks or is not
done in time says so in its line, keeps the cases that it had done, and nothing else happens.

Fairness. The engine runs inside the process that asks. So do DBOS, unhinged and duroxide (whose core is compiled);
durabletask asks its backend through gRPC within one process; absurd asks PostgreSQL through a socket; Restate's server, the
process with the steps and the load share this machine and talk HTTP. absurd and unhinged poll. None is tuned: each runs as
its makers' first example does. durabletask keeps nothing, duroxide may lose what it acknowledged when the power fails.

CPU is that of all processes of an engine, flushes are those of the disk: they travel better between machines than rates.

usage: python benchmarks/beside_peers.py [--dir /var/tmp] [--peer NAME ...] [--case NAME ...] [--all]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.peers.measuring import CASES  # noqa: E402 - found only now
from benchmarks.summary import Row, at_least, at_most, costs  # noqa: E402

Figures = dict[str, float]
LIMIT_S = 150.0
GRACE_S = 20.0
SHORT = ("in_sequence", "hundred", "events")
"""Of peers that aren't durable, unless all is asked for."""
WITHOUT_TIMERS = tuple(name for name in CASES if name != "timers")


@dataclass(frozen=True, slots=True)
class Peer:
    """A module and how it is started. cases: those of a run that is not to take all day."""

    module: str
    env: Mapping[str, str] = field(default_factory=dict)
    durable: bool = True
    cases: Sequence[str] = WITHOUT_TIMERS


PEERS = {
    "restate (TypeScript)": Peer("benchmarks.peers.restate_http", {"RESTATE_SDK": "node"}, cases=CASES),
    "restate (Python)": Peer("benchmarks.peers.restate_http", cases=WITHOUT_TIMERS),
    "unhinged": Peer("benchmarks.peers.absurd_tasks", {"ABSURD": "unhinged"}),
    "absurd": Peer("benchmarks.peers.absurd_tasks"),
    "dbos": Peer("benchmarks.peers.dbos_sqlite"),
    "durabletask": Peer("benchmarks.peers.durabletask_memory", durable=False, cases=SHORT),
    "duroxide": Peer("benchmarks.peers.duroxide_sqlite", durable=False, cases=SHORT),
}
OWN = Peer("benchmarks.peers.own", cases=CASES)


@dataclass(slots=True)
class Found:
    """What a peer said. missing: why it said no more."""

    about: dict[str, str] = field(default_factory=dict)
    cases: dict[str, Figures] = field(default_factory=dict)
    missing: str = ""


def ask(peer: Peer, cases: Sequence[str], folder: Path) -> Found:
    """Run a peer in a process group of its own, and end that group when it is done or its time is up."""
    command = [sys.executable, "-m", peer.module, str(folder), *cases]
    environment = {**os.environ, **peer.env}
    found = Found()
    with (folder / "errors.txt").open("w+") as errors:
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        ) as process:
            try:
                said, _ = process.communicate(timeout=LIMIT_S)
            except subprocess.TimeoutExpired:
                process.terminate()  # it ends what it started
                said = _rest(process)
                found.missing = f"not done after {LIMIT_S:g} s"
        errors.seek(0)
        lines = errors.read().strip().splitlines()
    for line in said.splitlines():
        told = json.loads(line) if line.startswith("{") else {}
        if "case" in told:
            found.cases[told.pop("case")] = told
        elif told:
            found.about = told
    if process.returncode != 0 and not found.missing:
        found.missing = (lines or ["it said nothing"])[-1][:200]
    return found


def _rest(process: subprocess.Popen[str]) -> str:
    """What it said before its time was up; the whole group is killed when it doesn't end."""
    try:
        return process.communicate(timeout=GRACE_S)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()[0]


def rows(own: Mapping[str, Figures], peers: Mapping[str, Found]) -> list[Row]:
    """The engine beside each peer at each case."""
    table: list[Row] = []
    for name, found in peers.items():
        mark = name if PEERS[name].durable else f"{name} (not durable)"
        for case in (case for case in CASES if case in found.cases and case in own):
            table += beside(case, own[case], found.cases[case], mark)
    return table


def beside(case: str, own: Figures, other: Figures, name: str) -> list[Row]:
    """One case of one peer: its rate or time, and its CPU and flushes where many operations share them."""
    per_s, p50, p99 = (own["per_s"], other["per_s"]), "p50_ms", "p99_ms"
    match case:
        case "in_sequence":
            made = [at_most(f"3 steps, one at a time: p50, beside {name}", own[p50], "ms", None, other.get(p50))]
        case "hundred" | "thousand":
            many = "100" if case == "hundred" else "1,000"
            made = [at_least(f"3 steps, {many} at once, beside {name}", per_s[0], "/s", None, per_s[1])]
        case "events":
            made = [
                at_most(f"event until it is acted on: p50, beside {name}", own[p50], "ms", None, other.get(p50)),
                at_most(f"event until it is acted on: p99, beside {name}", own[p99], "ms", None, other.get(p99)),
            ]
        case "fan_out":
            return [at_most(f"1,000 steps in parallel, beside {name}", own["seconds"], "s", None, other["seconds"])]
        case "entities":
            made = [at_least(f"entity operations, beside {name}", per_s[0], "/s", None, per_s[1])]
        case _:
            made = [
                at_most(f"2,000 timers due at once, late: p50, beside {name}", own[p50], "ms", None, other.get(p50)),
                at_most(f"2,000 timers due at once, late: p99, beside {name}", own[p99], "ms", None, other.get(p99)),
            ]
    made[0].update(costs(own, other))
    return made


def targets(own: Mapping[str, Figures], peers: Mapping[str, Found]) -> list[Row]:
    """What was promised beside the best durable peer of this run, and beside Restate."""
    durable = {name: found.cases for name, found in peers.items() if PEERS[name].durable}
    table = []
    for case, what in (("thousand", "3 steps, 1,000 at once"), ("hundred", "3 steps, 100 at once")):
        rates = {name: cases[case]["per_s"] for name, cases in durable.items() if case in cases}
        if rates and case in own:
            best = max(rates, key=rates.__getitem__)
            table.append(at_least(f"{what}: best durable ({best})", own[case]["per_s"], "/s", 14.0, rates[best]))
    times = {name: cases["in_sequence"]["p50_ms"] for name, cases in durable.items() if "in_sequence" in cases}
    if times and "in_sequence" in own:
        best = min(times, key=times.__getitem__)
        what = f"3 steps, one at a time: p50, best durable ({best})"
        table.append(at_most(what, own["in_sequence"]["p50_ms"], "ms", 0.25, times[best]))
    rates = {
        name: cases["entities"]["per_s"]
        for name, cases in durable.items()
        if name.startswith("restate") and "entities" in cases
    }
    if rates and "entities" in own:
        best = max(rates, key=rates.__getitem__)
        what = f"entity operations: the faster Restate ({best})"
        table.append(at_least(what, own["entities"]["per_s"], "/s", 45.0, rates[best]))
    return table


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", default="/var/tmp", help="where the journals are put: the disk that is measured")
    parser.add_argument("--peer", nargs="*", choices=list(PEERS), default=list(PEERS), metavar="NAME")
    parser.add_argument("--case", nargs="*", choices=CASES, default=CASES, metavar="NAME")
    parser.add_argument("--all", action="store_true", help="every case of every peer: ten minutes")
    arguments = parser.parse_args()
    found = {}
    for name in ("this", *arguments.peer):
        peer = OWN if name == "this" else PEERS[name]
        asked = [case for case in arguments.case if arguments.all or case in peer.cases]
        with tempfile.TemporaryDirectory(dir=arguments.dir, ignore_cleanup_errors=True) as folder:
            found[name] = ask(peer, asked, Path(folder))
        told = {**found[name].about, **({"missing": found[name].missing} if found[name].missing else {})}
        print(json.dumps({"bench": "peers", "engine": name, **told, **found[name].cases}), flush=True)
    own = found.pop("this").cases
    notes = [f"{name}: {one.missing}" for name, one in found.items() if one.missing]
    notes += [f"{name} {one.about['version']}: {one.about['durability']}" for name, one in found.items() if one.about]
    table = [*targets(own, found), *rows(own, found)]
    print(json.dumps({"bench": "peers", "case": "beside", "table": table, "notes": notes}), flush=True)


if __name__ == "__main__":
    main()
