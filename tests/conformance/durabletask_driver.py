"""Plays the outside of a run on one engine, and says what came of it.

A script's deeds are done only when the program is seen to stand at the pause that they belong to: nothing here depends on
how fast anything is. Every wait has an end; what does not come in time is an outcome too ("stuck"), and no test hangs.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from tests.conformance.durabletask_interpreter import Stage
from tests.conformance.durabletask_programs import (
    Deed,
    Enter,
    Json,
    Patience,
    Pause,
    Raise,
    Resume,
    Run,
    Signal,
    Suspend,
    Terminate,
)

RUN_LIMIT_S = 40.0
SETTLE_LIMIT_S = 6.0
AT_ONCE = 12
LAST_LOOK_S = 0.3
SUSPENDED_S = 0.02
MOST_STUCK = 3
TERMINAL = ("Completed", "Failed", "Terminated")


@dataclass(frozen=True)
class Seen:
    """An orchestration as its client sees it. failure: kind, kind of what is behind it, fault."""

    status: str
    output: Json
    failure: list[str] | None
    custom: Json


class Host(Protocol):
    """An engine with its client. first_look_s: how long a turn takes there until it can be seen, more or less."""

    first_look_s: float

    async def start(self, instance: str, given: Json, version: str) -> None: ...
    async def status(self, instance: str) -> Seen | None: ...
    async def raise_event(self, instance: str, name: str, value: Json) -> None: ...
    async def suspend(self, instance: str) -> None: ...
    async def resume(self, instance: str) -> None: ...
    async def terminate(self, instance: str) -> None: ...
    async def rewind(self, instance: str) -> None: ...
    async def signal(self, entity: str, operation: str, argument: Json) -> None: ...
    async def entity(self, entity: str) -> Json: ...


class Stuck(Exception):
    """Something did not come in time."""


@dataclass
class Outcome:
    """What came of a run: all that both engines must agree on."""

    instances: dict[str, Json] = field(default_factory=dict)
    marks: list[Json] = field(default_factory=list)
    entities: dict[str, Json] = field(default_factory=dict)
    activities: dict[str, Json] = field(default_factory=dict)
    overlaps: list[str] = field(default_factory=list)
    stuck: str = ""


class Bell:
    """Wakes who waits for a run; it may be rung from any thread."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.rung: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def ring(self, run: str) -> None:
        """Something has happened to this run."""
        self.loop.call_soon_threadsafe(lambda: self.rung[run].set())

    async def wait(self, run: str, longest_s: float) -> bool:
        """Until the next ring, or so long. True when it rang."""
        try:
            async with asyncio.timeout(longest_s):
                await self.rung[run].wait()
        except TimeoutError:
            return False
        self.rung[run].clear()
        return True


class Player:
    """One run on one engine."""

    def __init__(self, host: Host, stage: Stage, bell: Bell, name: str, run: Run) -> None:
        self.host = host
        self.stage = stage
        self.bell = bell
        self.name = name
        self.run = run
        self.outcome = Outcome()
        self.scripts: dict[int, tuple[Deed, ...]] = {
            part.mark: part.script for part in run.steps() if isinstance(part, Pause | Patience)
        }
        stage.runs[name] = run

    def instances(self) -> list[str]:
        """Root and rivals, and all that may have been started under a known name."""
        rivals = [f"{self.name}-rival{n}" for n, _ in enumerate(self.run.rivals)]
        return [f"{self.name}-root", *rivals, *(f"{self.name}-{named}" for named in self.run.instances)]

    async def play(self, limit_s: float = RUN_LIMIT_S) -> Outcome:
        """Start, do what the scripts say, wait for the ends."""
        try:
            async with asyncio.timeout(limit_s):
                await self._play()
        except TimeoutError:
            self.outcome.stuck = f"after {limit_s:.0f} s: {await self.host.status(f'{self.name}-root')}"
        except Exception as error:  # noqa: BLE001 - whatever an engine refuses to do is its outcome, for comparison
            self.outcome.stuck = repr(error)
        return self.outcome

    async def _play(self) -> None:
        given = {"run": self.name, "ref": 0, "round": 0, "said": [], "lane": "root"}
        root, *_ = self.instances()
        async with asyncio.TaskGroup() as starts:
            starts.create_task(self.host.start(root, given, self.run.version))
            for number, ref in enumerate(self.run.rivals):
                rival = given | {"ref": ref, "lane": f"rival{number}"}
                starts.create_task(self.host.start(f"{self.name}-rival{number}", rival, ""))
        nap_s = self.host.first_look_s
        rewinds = self.run.rewinds
        while True:
            seen = await self._look(root)
            if seen.status == "Failed" and rewinds:
                rewinds -= 1
                self.outcome.marks.append(["rewound", seen.failure])
                await self.host.rewind(root)
                continue
            if seen.status in TERMINAL:
                break
            mark = seen.custom.get("at") if isinstance(seen.custom, dict) else None
            if mark is not None and mark not in self.outcome.marks and self.scripts[mark]:
                self.outcome.marks.append(mark)
                for deed in self.scripts[mark]:
                    await self._do(root, deed)
                continue
            # It rings when the code gets there, which is shortly before anybody can see it.
            rang = await self.bell.wait(self.name, nap_s)
            nap_s = self.host.first_look_s if rang else min(2 * nap_s, LAST_LOOK_S)
        for instance in self.instances():
            await self._finish(instance)

    async def _look(self, instance: str) -> Seen:
        seen = await self.host.status(instance)
        assert seen is not None, f"{instance} was started but is not there"
        return seen

    async def _do(self, root: str, deed: Deed) -> None:
        host = self.host
        match deed:
            case Raise(name, value):
                await host.raise_event(root, name, value)
            case Suspend():
                await host.suspend(root)
                while (await self._look(root)).status != "Suspended":  # noqa: ASYNC110 - nobody tells that it is
                    await asyncio.sleep(0.004)
            case Resume():
                await asyncio.sleep(SUSPENDED_S)
                seen = await self._look(root)
                self.outcome.marks.append(["still", seen.status, seen.custom])
                await host.resume(root)
            case Terminate():
                await host.terminate(root)
            case Enter(ref, named):
                given = {"run": self.name, "ref": ref, "round": 0, "said": [], "lane": named}
                await host.start(f"{self.name}-{named}", given, "")
            case Signal(entity, operation, argument):
                kind, key = entity.split(":")
                order = {"from": "client", "value": argument}
                own = self.stage.touch(self.name, f"{kind}:{self.name}-{key}")
                await host.signal(own, operation, order)

    async def _finish(self, instance: str) -> None:
        """Wait for the end of one that there is."""
        while True:
            seen = await self.host.status(instance)
            if seen is None or seen.status in TERMINAL:
                break
            await asyncio.sleep(0.02)
        short = instance.removeprefix(self.name)
        self.outcome.instances[short] = None if seen is None else [seen.status, seen.output, seen.failure, seen.custom]

    async def settle(self) -> None:
        """What else the run has left behind, as of now."""
        notes = self.stage.notes[self.name]
        self.outcome.activities = notes.by_lane()
        self.outcome.overlaps = notes.overlaps()
        prefix = f":{self.name}-"
        self.outcome.entities = {
            entity.replace(prefix, ":"): await self.host.entity(entity)
            for entity in sorted(self.stage.touched[self.name])
        }
        for short in list(self.outcome.instances):
            await self._refresh(short)

    async def _refresh(self, short: str) -> None:
        # Nobody may have been started yet when it was first looked for.
        if self.outcome.instances[short] is None:
            seen = await self.host.status(f"{self.name}{short}")
            if seen is not None and seen.status in TERMINAL:
                self.outcome.instances[short] = [seen.status, seen.output, seen.failure, seen.custom]


Named: TypeAlias = Sequence[tuple[str, Run]]


async def play_all(
    host: Host, stage: Stage, bell: Bell, runs: Named, limit_s: float = RUN_LIMIT_S
) -> dict[str, Player]:
    """Play many runs, some at a time; no more once a few have got stuck."""
    players = {name: Player(host, stage, bell, name, run) for name, run in runs}
    places = asyncio.Semaphore(AT_ONCE)

    async def one(player: Player) -> None:
        async with places:
            if sum(bool(p.outcome.stuck) for p in players.values()) < MOST_STUCK:
                await player.play(limit_s)
            else:
                player.outcome.stuck = "not played any more"

    async with asyncio.TaskGroup() as group:
        for player in players.values():
            group.create_task(one(player))
    return players


def differences(ours: Outcome, theirs: Outcome) -> list[str]:
    """Where two outcomes differ, one line each."""
    found = []
    for part in ("stuck", "marks", "instances", "entities", "activities", "overlaps"):
        a, b = getattr(ours, part), getattr(theirs, part)
        if part == "stuck" and (a or b):
            found.append(f"stuck: ours {a or 'no'}, theirs {b or 'no'}")
        elif a != b and isinstance(a, dict):
            for key in sorted(a.keys() | b.keys()):
                if a.get(key) != b.get(key):
                    found.append(f"{part} {key}:\n    ours   {a.get(key)}\n    theirs {b.get(key)}")
        elif a != b:
            found.append(f"{part}:\n    ours   {a}\n    theirs {b}")
    return found


async def agree(ours: Player, theirs: Player, limit_s: float = SETTLE_LIMIT_S) -> list[str]:
    """The differences of two plays of one run, once neither has anything under way any more."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + limit_s
    while True:
        await ours.settle()
        await theirs.settle()
        found = differences(ours.outcome, theirs.outcome)
        if not found or loop.time() > give_up or ours.outcome.stuck or theirs.outcome.stuck:
            return found
        await asyncio.sleep(0.1)
