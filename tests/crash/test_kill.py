"""``kill -9`` of the whole daemon in the middle of mass shedding, again and again.

The invariant: no breaker operated twice, none forgotten, no acknowledged event lost or taken twice. The breakers count
for themselves in another process; the journal is asked only for what it promised.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from station import Station, station

from gateway.control_client import ControlError, DaemonUnreachable
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
BLOCK = 2000


async def test_kills_in_the_middle_of_mass_shedding(tmp_path: Path) -> None:
    """The form for every run: 12,000 breakers, few kills."""
    await _kill_and_check(tmp_path, rtus=120, kills=12, cycles=1, seed=random.randrange(2**32), port=15220)


@pytest.mark.soak
async def test_a_hundred_kills(tmp_path: Path) -> None:
    """The long form: 12,000 breakers, 100 kills."""
    await _kill_and_check(tmp_path, rtus=120, kills=100, cycles=6, seed=random.randrange(2**32), port=15220)


async def _kill_and_check(tmp_path: Path, rtus: int, kills: int, cycles: int, seed: int, port: int) -> None:
    print(f"seed {seed}")
    dice = random.Random(seed)
    async with station(tmp_path / "site", rtus, 100, port, "127.0.3.1", SETTINGS) as site:
        shutil.copy(Path(__file__).parent / "crash_procedures.py", site.folder)
        site.start_daemon()
        await site.wait_serving()
        feeders = await site.pages("breakers.list", "breakers")
        names = [str(f["feeder"]) for f in feeders if f["tier"] is not None]
        blocks = [names[i : i + BLOCK] for i in range(0, len(names), BLOCK)]
        await site.ask("instances.start", name="OperateAll", instance="all", input={"cycles": cycles, "blocks": blocks})
        await site.ask("instances.start", name="CollectEvents", instance="events")
        acknowledged: list[int] = []
        numbers = itertools.count(1)
        pace_s = 2.0
        while site.kills < kills and not await _finished(site):
            await _raise_events_for(site, acknowledged, numbers, dice.uniform(0.0, pace_s))
            site.kill_daemon()
            site.start_daemon()
            if dice.random() < 0.2:  # also while it starts
                await asyncio.sleep(dice.uniform(0.0, 1.0))
                site.kill_daemon()
                site.start_daemon()
            await site.wait_serving()
        await _wait_finished(site, timeout_s=60.0 * cycles)
        await _raise_events_for(site, acknowledged, numbers, 0.2)
        await site.ask("instances.raise", instance="events", event="Number", data={"number": -1})
        collected = msgspec.convert((await site.ask("instances.show", instance="events"))["output"], list[int])
        output = (await site.ask("instances.show", instance="all"))["output"]
        odd = msgspec.convert(output, list[tuple[int, str, str, str]])
        print(f"{site.kills} kills, {len(names)} breakers, {cycles} cycles, {len(acknowledged)} events acknowledged")
        await _check(site, names, cycles, odd, acknowledged, collected)
        assert site.stop_daemon() == 0
        result = verify_file(site.folder / "state" / "journal.db")
        assert result.ok, result.reason


async def _finished(site: Station) -> bool:
    return (await site.ask("instances.show", instance="all"))["status"] == "Completed"


async def _wait_finished(site: Station, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not await _finished(site):
        assert time.monotonic() < deadline, f"not finished: {await site.ask('instances.show', instance='all')}"
        await asyncio.sleep(0.3)


async def _raise_events_for(site: Station, acknowledged: list[int], numbers: Iterator[int], span_s: float) -> None:
    """Raise numbered events; one counts as acknowledged once the daemon has answered."""
    end = time.monotonic() + span_s
    while (left_s := end - time.monotonic()) > 0:
        number = next(numbers)  # never twice: one that was not acknowledged may have been taken all the same
        with contextlib.suppress(DaemonUnreachable, ControlError, TimeoutError):
            event = site.ask("instances.raise", instance="events", event="Number", data={"number": number})
            await asyncio.wait_for(event, left_s)
            acknowledged.append(number)
        await asyncio.sleep(0.02)


async def _check(
    site: Station,
    names: list[str],
    cycles: int,
    odd: list[tuple[int, str, str, str]],
    acknowledged: list[int],
    collected: list[int],
) -> None:
    async with site.simulator() as simulator:
        counters = await simulator.counters()
    told = {(cycle, activity, name): word for cycle, activity, name, word in odd}
    # A command that was cut off again and again may end as failed, but only by proof: then it never moved anything.
    assert set(told.values()) <= {"failed"}, f"outcomes that are none: {odd[:5]} of {len(odd)}"
    print(f"{len(odd)} of {2 * cycles * len(names)} commands were cut off until they counted as failed")
    own = set(names)
    wrong = {name: one for name, one in counters.items() if _counted(one) != _expected(name, own, cycles, told)}
    assert not wrong, f"{len(wrong)} breakers moved other than was told: {dict(list(wrong.items())[:5])}"
    assert len(collected) == len(set(collected)), "an event was taken twice"
    assert [n for n in acknowledged if n not in set(collected)] == [], "an acknowledged event was lost"
    assert collected == sorted(collected), "events came out of order"


def _counted(one: Counters) -> tuple[int, int, int, str]:
    return one.open_commands, one.close_commands, one.operations, one.position


def _expected(
    name: str, names: set[str], cycles: int, told: dict[tuple[int, str, str], str]
) -> tuple[int, int, int, str]:
    """What a breaker must have counted if each outcome that was told is true: one frame for each movement, no other."""
    opens = closes = 0
    position = "closed"
    for cycle in range(cycles if name in names else 0):
        if (cycle, "SendDisconnectCommand", name) not in told and position == "closed":
            opens, position = opens + 1, "open"
        if (cycle, "SendReconnectCommand", name) not in told and position == "open":
            closes, position = closes + 1, "closed"
    return opens, closes, opens + closes, position
