"""``kill -9`` of the whole daemon in the middle of mass shedding, again and again, and what the breakers say of it.

The breakers count for themselves in another process; the journal is asked only for what it promised. The same story can be
told wrong on purpose: with ``forget`` a killed daemon finds its journal as it was some kills before, as if a disk had lost
what it had confirmed. The checker must see that.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from crash.invariant import Count, Story, violations
from station import Station, station

from gateway.control_client import ControlError, DaemonUnreachable, JsonValue
from journal import verify_file
from simulators.client import Counters

SETTINGS = {
    "max_operations_per_hour": "1000",
    "command_deadline_s": "3000.0",
    "after_restart": '"continue"',
    "programs": '["crash_procedures.py"]',
    "arm_pct": "199.0",
    "log_level": '"warning"',
}
Told = Mapping[tuple[int, str, str], str]
"""Outcomes that were not ``done``: of which cycle, activity and feeder."""


@dataclass(frozen=True)
class Plan:
    """cycles: at most so many times is everything opened and closed; none begins after the last kill. rtus, breakers: the
    station's size. block: feeders of one activity. up_s: the longest time between two kills."""

    kills: int
    cycles: int
    rtus: int
    breakers: int
    block: int
    up_s: float
    port: int
    host: str
    settings: Mapping[str, str] = field(default_factory=dict)
    travel_s: float | None = None
    forget: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    disturb: Callable[[random.Random], None] = lambda dice: None
    """Called while the daemon runs, and between a kill and the start after it."""
    ends: frozenset[str] = frozenset({"failed"})
    """Outcomes that may come instead of done and have moved nothing. Unknown may come as well: moved or not, but once."""


@dataclass(frozen=True)
class Came:
    """What came of it. odd: commands that ended as failed, by proof; wrong: violations."""

    kills: int
    commands: int
    acknowledged: int
    odd: int
    wrong: list[str]
    seed: int
    seconds: float


async def play(folder: Path, plan: Plan, seed: int) -> Came:
    """Operate every breaker in turns while the daemon is killed; then ask the field."""
    print(f"seed {seed}")
    began = time.monotonic()
    dice = random.Random(seed)
    settings = {**SETTINGS, **plan.settings}
    async with station(
        folder / "site", plan.rtus, plan.breakers, plan.port, plan.host, settings, travel_s=plan.travel_s
    ) as site:
        shutil.copy(Path(__file__).parent / "crash_procedures.py", site.folder)
        site.start_daemon(**plan.environment)
        await site.wait_serving()
        feeders = await site.pages("breakers.list", "breakers")
        names = [str(f["feeder"]) for f in feeders if f["tier"] is not None]
        blocks = [names[i : i + plan.block] for i in range(0, len(names), plan.block)]
        await site.ask("instances.start", name="CollectEvents", instance="events")
        cycles = 0
        acknowledged: list[int] = []
        given: list[int] = []
        numbers = itertools.count(1)
        while site.kills < plan.kills:
            if cycles == 0 or await _finished(site, cycles):
                if cycles == plan.cycles:
                    break
                cycles += 1
                await site.ask("instances.start", name="OperateAll", instance=f"all-{cycles}", input={"blocks": blocks})
            await _raise_events_for(site, given, acknowledged, numbers, dice.uniform(0.0, plan.up_s) / 2)
            plan.disturb(dice)
            await _raise_events_for(site, given, acknowledged, numbers, dice.uniform(0.0, plan.up_s) / 2)
            site.kill_daemon()
            plan.disturb(dice)
            if plan.forget:
                _forget(site.folder, site.kills == plan.kills // 2, site.kills == plan.kills)
            site.start_daemon(**plan.environment)
            if not plan.forget and dice.random() < 0.2:  # also while it starts
                await asyncio.sleep(dice.uniform(0.0, 1.0))
                site.kill_daemon()
                site.start_daemon(**plan.environment)
            await site.wait_serving()
        for cycle in range(1, cycles + 1):  # one that had ended may have been forgotten, and go on
            await _wait_finished(site, cycle, timeout_s=180.0)
        await _raise_events_for(site, given, acknowledged, numbers, 0.2)
        await site.ask("instances.raise", instance="events", event="Number", data={"number": -1})
        collected = msgspec.convert((await site.ask("instances.show", instance="events"))["output"], list[int])
        told, wrong = {}, []
        for cycle in range(1, cycles + 1):
            if (ended := await _show(site, cycle)) is None:
                wrong.append(f"the procedure of cycle {cycle} was acknowledged, and is gone")
                continue
            for activity, name, word in msgspec.convert(ended["output"], list[tuple[str, str, str]]):
                told[cycle, activity, name] = word
        shown = {str(one["feeder"]): one["position"] for one in await site.pages("breakers.list", "breakers")}
        async with site.simulator() as simulator:
            counters = await simulator.counters()
        # A command that was cut off again and again may end as failed, but only by proof: then it never moved anything.
        none = {key: word for key, word in told.items() if word not in plan.ends | {"unknown"}}
        wrong += [f"outcomes that are none: {list(none.items())[:5]}"] if none else []
        wrong += [f"{n} is shown {shown[n]}, is {c.position}" for n, c in counters.items() if shown[n] != c.position]
        wrong += violations(
            Story(
                given=[("harness", number) for number in given],
                acknowledged=[("harness", number) for number in acknowledged],
                taken=[("harness", number) for number in collected],
                counted={name: _counted(one) for name, one in counters.items()},
                expected={
                    name: _expected(name, cycles if name in names else 0, told, _counted(one))
                    for name, one in counters.items()
                },
            )
        )
        assert site.stop_daemon() == 0
        result = verify_file(site.folder / "state" / "journal.db")
        wrong += [] if result.ok else [f"the chain: {result.reason}"]
        commands = 2 * cycles * len(names)
        return Came(site.kills, commands, len(acknowledged), len(told), wrong, seed, time.monotonic() - began)


def _forget(folder: Path, keep: bool, put_back: bool) -> None:
    """The disk that confirmed and lost: the state of one kill is found again after a later one."""
    state, kept = folder / "state", folder / "state-as-it-was"
    if keep:
        shutil.copytree(state, kept)
    elif put_back:
        shutil.rmtree(state)
        shutil.copytree(kept, state)


async def _finished(site: Station, cycle: int) -> bool:
    """Also when it is not there any more, which is a violation of its own."""
    shown = await _show(site, cycle)
    return shown is None or shown["status"] == "Completed"


async def _show(site: Station, cycle: int) -> Mapping[str, JsonValue] | None:
    try:
        return await site.ask("instances.show", instance=f"all-{cycle}")
    except ControlError as error:
        if error.code != "not_found":
            raise
        return None


async def _wait_finished(site: Station, cycle: int, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not await _finished(site, cycle):
        assert time.monotonic() < deadline, f"not finished: {await _show(site, cycle)}"
        await asyncio.sleep(0.3)


async def _raise_events_for(
    site: Station, given: list[int], acknowledged: list[int], numbers: Iterator[int], span_s: float
) -> None:
    """Raise numbered events; one counts as acknowledged once the daemon has answered."""
    end = time.monotonic() + span_s
    while (left_s := end - time.monotonic()) > 0:
        number = next(numbers)  # never twice: one that was not acknowledged may have been taken all the same
        given.append(number)
        with contextlib.suppress(DaemonUnreachable, ControlError, TimeoutError):
            event = site.ask("instances.raise", instance="events", event="Number", data={"number": number})
            await asyncio.wait_for(event, left_s)
            acknowledged.append(number)
        await asyncio.sleep(0.02)


def _counted(one: Counters) -> Count:
    return Count(one.open_commands, one.close_commands, one.operations, one.position)


def _expected(name: str, cycles: int, told: Told, counted: Count) -> Count:
    """What a breaker must have counted if each outcome that was told is true: one frame for each movement, no other.

    Whether a command of unknown outcome moved it, the breaker says: what it counted must be one of the ways there are.
    """
    ways = {(0, 0)}
    for cycle in range(1, cycles + 1):
        for activity, opening in (("SendDisconnectCommand", True), ("SendReconnectCommand", False)):
            word = told.get((cycle, activity, name), "done")
            moved = {(o + 1, c) if opening else (o, c + 1) for o, c in ways if (o == c) is opening}
            stayed = {(o, c) for o, c in ways if (o == c) is not opening or word != "done"}
            ways = stayed | moved if word in ("done", "unknown") else ways
    counts = [Count(o, c, o + c, "closed" if o == c else "open") for o, c in sorted(ways)]
    return counted if counted in counts else counts[0]
