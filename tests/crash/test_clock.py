"""The wall clock is set forward and back, by seconds, hours and years, while the daemon runs and while it is down.

A running timer is immune; a step is told; across a restart a due time is a wall time again, and time never runs back behind
the journal. No command is sent twice, none after its deadline. The clock is libfaketime's: it lies to the daemon alone, and
only about the wall clock.

(It can't do it for ``time.sleep`` of a thread, whose deadlines it moves with the wall clock: the watch over steps that take
too long, which sleeps so, spins or ends under it. Nothing else that these tests need sleeps so.)
"""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from crash.figures import figure
from crash.kills import Plan, play
from station import SMALL, Station, small_station, until

LIBRARY = next(iter(Path("/usr/lib").glob("**/faketime/libfaketimeMT.so.1")), None)
pytestmark = pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not installed (Debian: faketime)")

HOUR_S, YEAR_S = 3_600.0, 31_557_600.0
STEPS_S = tuple(sign * step for sign in (1, -1) for step in (2.0, 90.0, HOUR_S, 30 * HOUR_S, YEAR_S, 10 * YEAR_S))
NAP_S = 3.0
LATE_S = 45.0
"""A timer may be so late on a busy machine; a step that moved it would make it hours late, or early."""


class WallClock:
    """The clock that the daemon is shown."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._path = folder / "wall-clock"
        self.off_s = 0.0
        self.steps = 0
        self.step(0.0)

    def step(self, by_s: float) -> None:
        """Set it forward or back."""
        self.off_s += by_s
        self.steps += bool(by_s)
        new = self._path.with_suffix(".new")
        new.write_text(f"{self.off_s:+.3f}\n")
        new.rename(self._path)

    def step_somewhere(self, dice: random.Random) -> None:
        """Any step, but not out of the years that computers know."""
        there = [step for step in STEPS_S if abs(self.off_s + step) < 11 * YEAR_S]
        self.step(dice.choice(there))

    def environment(self, *, lie_about_all: bool = False) -> dict[str, str]:
        """lie_about_all: steps move the monotonic clocks as well."""
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            "FAKETIME_NO_CACHE": "1",
            **({} if lie_about_all else {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}),
        }


@pytest.fixture
def wall(tmp_path: Path) -> WallClock:
    return WallClock(tmp_path)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Station]:
    async with small_station(tmp_path / "site", 15410, "127.0.76.1", programs='["clock_procedures.py"]') as made:
        shutil.copy(Path(__file__).parent / "clock_procedures.py", made.folder)
        yield made


async def _nap(site: Station, name: str, nap_s: float) -> float:
    """Real seconds from the start of a timer to its end."""
    began = time.monotonic()
    await site.ask("instances.start", name="Nap", instance=name, input=nap_s)
    await _wait_over(site, name, nap_s + LATE_S)
    return time.monotonic() - began


async def _wait_over(site: Station, name: str, timeout_s: float) -> None:
    async def over() -> bool:
        return (await site.ask("instances.show", instance=name))["status"] == "Completed"

    await until(over, f"the end of {name}", timeout_s)


async def _naps_through_steps(site: Station, wall: WallClock) -> list[float]:
    """One timer for each step, which comes while all of them run: how long each took."""
    naps = [asyncio.create_task(_nap(site, f"nap-{n}", NAP_S)) for n in range(len(STEPS_S))]
    await asyncio.sleep(0.5)
    for step_s in STEPS_S:
        wall.step(step_s)
        await asyncio.sleep(1.5 / len(STEPS_S))
    return list(await asyncio.gather(*naps))


async def test_a_running_timer_is_not_moved_by_any_step_and_the_step_is_told(site: Station, wall: WallClock) -> None:
    began = time.monotonic()
    site.start_daemon(**wall.environment())
    await site.wait_serving()
    took = await _naps_through_steps(site, wall)
    wrong = [f"a timer of {NAP_S} s took {one:.1f} s" for one in took if not NAP_S - 0.05 <= one <= NAP_S + LATE_S]
    wall.step(HOUR_S)  # whatever the sum of the others was

    async def told() -> bool:
        return "the wall clock was stepped" in str((await site.ask("status"))["warnings"])

    await until(told, "the step is told")
    assert '"clock_stepped"' in site.said()
    assert "clock_stepped" in (await site.cli("audit", "list")).out
    assert site.stop_daemon() == 0
    figure("clock, running timers", wall.steps, len(wrong), None, time.monotonic() - began)
    assert wrong == []


async def test_a_step_of_the_clock_that_timers_run_by_is_found_out(site: Station, wall: WallClock) -> None:
    """The control: the lie does reach the daemon, and the measurement sees a timer that it moved."""
    site.start_daemon(**wall.environment(lie_about_all=True))
    await site.wait_serving()
    began = time.monotonic()
    await site.ask("instances.start", name="Nap", instance="nap", input=NAP_S)

    async def runs() -> object:
        return (await site.ask("timers"))["timers"]

    await until(runs, "the timer runs")
    wall.step(HOUR_S)  # while no request is on its way: its time-out would be moved as well
    await _wait_over(site, "nap", NAP_S + LATE_S)
    took_s = time.monotonic() - began
    figure("clock, control", 1, 0, None, took_s, f"a timer of {NAP_S:g} s took {took_s:.1f} s")
    assert took_s < NAP_S - 0.05


async def test_a_due_time_is_a_wall_time_after_a_restart_and_time_never_runs_back(
    site: Station, wall: WallClock
) -> None:
    site.start_daemon(**wall.environment())
    await site.wait_serving()
    await site.ask("instances.start", name="Nap", instance="long", input=1_800)
    await site.ask("instances.start", name="Nap", instance="longer", input=5 * 3_600)
    site.kill_daemon()
    wall.step(HOUR_S)
    site.start_daemon(**wall.environment())
    await site.wait_serving()
    await _wait_over(site, "long", LATE_S)
    assert (await site.ask("instances.show", instance="longer"))["status"] == "Running"
    site.kill_daemon()
    wall.step(-10 * YEAR_S)  # before all that the journal has seen
    site.start_daemon(**wall.environment())
    await site.wait_serving()
    assert await _nap(site, "after", 1.0) >= 0.95
    assert (await site.ask("instances.show", instance="longer"))["status"] == "Running"
    site.kill_daemon()
    wall.step(10 * YEAR_S + 5 * HOUR_S)
    site.start_daemon(**wall.environment())
    await site.wait_serving()
    await _wait_over(site, "longer", LATE_S)


async def test_a_command_outlives_a_step_while_it_waits_but_not_a_restart_after_its_deadline(
    site: Station, wall: WallClock
) -> None:
    async with site.simulator() as plant:
        site.start_daemon(**wall.environment())
        await site.wait_serving()
        await site.wait_links_up()
        await plant.fault("slow", "F001-001", value=0.5)
        going = asyncio.create_task(site.ask("breakers.open", feeder="F001-001", reason="test"))
        await asyncio.sleep(0.2)
        wall.step(10 * YEAR_S)
        assert (await going)["outcome"] == "done"
        wall.step(-10 * YEAR_S)
        await plant.fault("silent", "RTU002")
        shed = {"feeders": ["F002-001", "F002-002"], "deadline_s": 600}
        await site.ask("instances.start", name="Shed", instance="shed", input=shed)
        await asyncio.sleep(0.3)
        site.kill_daemon()
        wall.step(HOUR_S)
        await plant.clear("RTU002")
        site.start_daemon(**wall.environment())
        await site.wait_serving()
        await _wait_over(site, "shed", LATE_S)
        outcomes = (await site.ask("instances.show", instance="shed"))["output"]
        counters = await plant.counters()
        for name in shed["feeders"]:
            assert counters[name].open_commands == 0, outcomes
        assert isinstance(outcomes, dict)
        assert "done" not in outcomes.values()
        assert counters["F001-001"].open_commands == 1


STEPPED = Plan(
    kills=4,
    cycles=3,
    rtus=5,
    breakers=20,
    block=10,
    up_s=1.2,
    port=15414,
    host="127.0.76.11",
    settings={**SMALL, "command_deadline_s": "3000.0"},
    travel_s=2.5,
    ends=frozenset({"failed", "not_sent", "expired", "refused"}),
)


async def _kill_and_step(folder: Path, plan: Plan) -> None:
    wall = WallClock(folder)
    plan = replace(plan, environment=wall.environment(), disturb=wall.step_somewhere)
    came = await play(folder, plan, random.randrange(2**32))
    figure("clock, kills and steps", wall.steps, len(came.wrong), came.seed, came.seconds)
    assert came.wrong == []


async def test_commands_through_kills_and_steps(tmp_path: Path) -> None:
    """The form for every run."""
    await _kill_and_step(tmp_path, STEPPED)


@pytest.mark.soak
async def test_commands_through_kills_and_steps_for_long(tmp_path: Path) -> None:
    """The long form."""
    for turn in range(100):
        await _kill_and_step(tmp_path / str(turn), STEPPED)
