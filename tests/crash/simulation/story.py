"""One seed, one story: a station, hours in which everything goes wrong, then a night in which it has to come right again.

Liveness is part of the story: once all is mended and people have said "give back", every procedure ends, every command has
its outcome and every feeder is closed or named within ``CALM_H`` virtual hours.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from crash.simulation.checks import breaker_state, judge
from crash.simulation.disk import Journal
from crash.simulation.gateway_process import CollectEvents, Gate
from crash.simulation.loop import Stalled
from crash.simulation.people import COLLECTOR, Mishaps, Operator
from crash.simulation.rtu import SimBreaker
from crash.simulation.station import Plan, plan_of
from crash.simulation.world import World

from gateway.durable.instances import Orchestration
from gateway.shedding.breaker_model import Phase
from gateway.shedding.entities import breaker_id
from protocols.base import Position

CALM_H = 14.0
LOOK_S = 180.0
PATIENT_LOOKS = 160
"""After eight hours people stop waiting for headroom that the largest feeder may never find, and close it by force."""
PEOPLE = 3


@dataclass(frozen=True, slots=True)
class Told:
    """What became of a story. hours: virtual; seconds: of this machine's processor."""

    seed: int
    hours: float
    seconds: float
    steps: int
    hash: str
    violations: list[str]
    counts: Counter[str]
    lines: list[str]


def tell(
    seed: int,
    journal_of: type[Journal] = Journal,
    gate_of: type[Gate] = Gate,
    plan: Callable[[random.Random], Plan] = plan_of,
) -> Told:
    """Tell the story of a seed."""
    began = time.process_time()
    world = World(seed, journal_of, gate_of, plan)
    people = [Operator(world, f"op{number}") for number in range(PEOPLE)]
    loop = world.loop
    wrong: list[str]
    with world.in_place():
        try:
            taken = loop.run_until_complete(_story(world, people))
            wrong = judge(world, people, taken)
        except Stalled as error:
            wrong = [*world.wrong, str(error)]
        finally:
            world.over = True
            loop.bury()
    counts = world.counts
    for rtu in world.rtus:
        counts.update({f"device: {act}": number for act, number in rtu.acts.items()})
    counts["loop: stalls"], counts["loop: tasks change places"] = loop.stalls, loop.swaps
    hours = (loop.time() - 1000.0) / 3600
    seconds = time.process_time() - began
    return Told(seed, hours, seconds, loop.steps, world.story_hash, wrong, counts, world.lines)


async def _story(world: World, people: list[Operator]) -> list[tuple[str, int]]:
    mishaps = Mishaps(world)
    loop = world.loop
    world.boot()
    power = loop.create_task(mishaps.power())
    await _collector(world)
    work = [loop.create_task(mishaps.faults()), loop.create_task(mishaps.crashes())]
    work += [loop.create_task(person.work()) for person in people]
    await world.pause(world.plan.hours * 3600)
    _mend(world)
    for one in work:
        one.cancel()
    await _calm(world)
    taken = await _collected(world, people)
    await _name_what_is_left(world)
    power.cancel()
    world.kill("the story is over")
    return taken


async def _collector(world: World) -> None:
    """Somebody starts the procedure that collects numbered events."""
    while True:
        await world.pause(3.0)
        process = world.process
        if process is not None and process.handlers:
            start = partial(process.engine.client.start_new, CollectEvents.__name__, COLLECTOR, [])
            try:
                await process.ask(start)
            except ConnectionError:
                continue
            return


def _mend(world: World) -> None:
    """No more faults: devices answer, contacts are good, switches stand at remote."""
    world.note("mended")
    world.faults = False
    world.synced = True
    world.trigger = ""
    world.loop.steps_left = -1
    for rtu in world.rtus:
        rtu.state, rtu.slow_s = "up", 0.0
    if world.process is not None:
        world.process.journal.fails = 0.0


def _repair(breaker: SimBreaker) -> None:
    breaker.local = False
    if breaker.position not in (Position.OPEN, Position.CLOSED):
        breaker.position, breaker.by = Position.OPEN, "hand"


async def _calm(world: World) -> None:
    """People let everything go on and give back, until nothing is left to be done."""
    person = Operator(world, "mender")
    until = world.now() + CALM_H * 3600
    looks = 0
    await world.pause(700.0)  # what is on its way arrives
    for breaker in world.breakers.values():
        _repair(breaker)
    while world.now() < until:
        await world.pause(LOOK_S)
        process = world.process
        if process is None or not process.ready:
            continue
        looks += 1
        if process.gate.held:
            await person.order("release")
        station = process.desk.station()
        if station.held:
            await person.order("release")
        if station.mode is not None and station.mode.value == "monitor":
            await person.order("armed")
        if station.running is not None:
            live = process.engine.instances.get(station.running.instance)
            if isinstance(live, Orchestration) and live.suspended:
                await person.order("go on")
            if looks % 5 == 1:
                await person.order("cancel-and-restore")
            if looks > PATIENT_LOOKS:
                await _take_over(world, person)
        for name in world.breakers:
            state = breaker_state(world.disk, name)
            if state is not None and state.blocked is not None:
                await person.order("unblock", feeder=name)
            if state is not None and state.locked_out and process is world.process:
                seen_to = {"actor": "mender", "reason": "seen to"}
                await process.ask(partial(process.engine.client.signal_entity, breaker_id(name), "reset", seen_to))
        if _done(world):
            return
    world.violated(f"{CALM_H:g} h after all was mended it has not come right: {_what_is_left(world)}")


async def _take_over(world: World, person: Operator) -> None:
    """A feeder whose load after the outage would not fit stays off until a person decides: the status says so."""
    for name, breaker in world.breakers.items():
        if breaker.position is Position.OPEN:
            await person.order("force-close", feeder=name)


def _done(world: World) -> bool:
    process = world.process
    if process is None or process.desk.station().running is not None:
        return False
    if any(isinstance(one, Orchestration) and one.id != COLLECTOR for one in process.engine.instances.values()):
        return False
    states = [breaker_state(world.disk, name) for name in world.breakers]
    return all(state is not None and state.phase is Phase.IDLE for state in states)


def _what_is_left(world: World) -> str:
    process = world.process
    if process is None:
        return "no process"
    live = [
        (one.id, one.custom_status)
        for one in process.engine.instances.values()
        if isinstance(one, Orchestration) and one.id != COLLECTOR
    ]
    phases = {name: state.phase for name in world.breakers if (state := breaker_state(world.disk, name)) is not None}
    odd = {name: phase.value for name, phase in phases.items() if phase is not Phase.IDLE}
    return f"{process.desk.station().running} {live} {odd}"[:900]


async def _collected(world: World, people: list[Operator]) -> list[tuple[str, int]]:
    """What the collecting procedure has taken, in its order."""
    process = world.process
    assert process is not None
    client = process.engine.client
    await process.ask(lambda: client.raise_event(COLLECTOR, "Number", {"number": -1}))
    status: Any = await process.ask(lambda: client.wait_for_completion(COLLECTOR))
    if not isinstance(status.output, list):
        world.violated(f"the collecting procedure has {status.runtime_status}: {status.failure}")
        return []
    return [(sender, number) for sender, number in status.output]


async def _name_what_is_left(world: World) -> None:
    """A last start: what is still in trouble is said again."""
    process = world.process
    assert process is not None
    process.supervision.stop.set()
    await world.pause(120.0)
