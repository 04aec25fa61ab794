"""A network that fails while breakers are operated over it, and what must come of that.

Whatever is cut, stalled, delayed or lost: each command ends once, what it says is what the breaker counted by itself, and
nothing is sent again without an intent of its own. Who has no trouble goes on; once it is over all can be operated again.

The trouble itself is a ``Trouble``: a proxy that cuts at chosen bytes, or the kernel's packet filter.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from crash.invariant import TERMINAL, Command, Count, Story, violations
from station import Station, until

from gateway.control_client import ControlError

SETTLED_S = 60.0
LASTS_S = (0.3, 0.8, 1.5, 3.0)
"""So long troubles last."""
AFTER_S = 0.2
"""At most so long after the command it begins, where it does not begin before."""
LATE_S = 6.0
"""So long after the last trouble a kernel may still send again what a network lost: no command may arrive by that."""
MEANWHILE_S = 12.0
"""A command to a device without trouble is over within this time, whatever happens to the others."""


class Trouble(Protocol):
    """What can be done to the way to one device."""

    async def begin(self, device: str, dice: random.Random) -> float:
        """Begin trouble of a kind that the dice choose; for how many seconds it is to last."""

    async def end(self, device: str) -> None:
        """All is well again."""


@dataclass(slots=True)
class Seen:
    """What was seen of all devices together."""

    tries: int = 0
    commands: list[Command] = field(default_factory=list)
    intents: dict[str, Count] = field(default_factory=dict)
    expected: dict[str, Count] = field(default_factory=dict)
    slowest_well_s: float = 0.0
    wrong: list[str] = field(default_factory=list)


async def play(site: Station, trouble: Trouble, troubled: Sequence[str], tries: int, seed: int) -> Seen:
    """So many troubles on each of these devices, side by side, with commands in each; the others are operated meanwhile."""
    print(f"seed {seed}")
    await site.wait_links_up()  # a daemon serves before its last link is up
    feeders: dict[str, list[str]] = {}
    for one in await site.pages("breakers.list", "breakers"):
        if one["tier"] is not None:  # critical ones are opened only with force
            feeders.setdefault(str(one["device"]), []).append(str(one["feeder"]))
    seen = Seen()
    over = asyncio.Event()
    well = [
        asyncio.create_task(_operate_meanwhile(site, names, seen, over))
        for device, names in feeders.items()
        if device not in troubled
    ]
    await asyncio.gather(
        *(_trouble(site, trouble, d, feeders[d], tries, random.Random(f"{seed}:{d}"), seen) for d in troubled)
    )
    over.set()
    await asyncio.gather(*well)
    await site.wait_links_up()
    for device in troubled:
        name = feeders[device][0]
        told = await _command(site, name, seen)
        if told != "done":
            seen.wrong.append(f"{name}: {told}, though all is well again")
    await asyncio.sleep(LATE_S)
    async with site.simulator() as plant:
        counters = await plant.counters()
    story = Story(
        commands=seen.commands,
        intents=seen.intents,
        counted={n: Count(c.open_commands, c.close_commands, c.operations, c.position) for n, c in counters.items()},
        expected={name: seen.expected.get(name, Count(0, 0, 0, "closed")) for name in counters},
    )
    shown = {str(one["feeder"]): one["position"] for one in await site.pages("breakers.list", "breakers")}
    seen.wrong += violations(story)
    seen.wrong += [f"{n} is shown {shown[n]}, is {c.position}" for n, c in counters.items() if shown[n] != c.position]
    return seen


async def _trouble(
    site: Station, trouble: Trouble, device: str, names: list[str], tries: int, dice: random.Random, seen: Seen
) -> None:
    for _ in range(tries):
        await _answers(site, names[0])
        begun = asyncio.create_task(_begin(trouble, device, dice, dice.choice((0.0, dice.uniform(0.0, AFTER_S)))))
        await asyncio.sleep(AFTER_S / 2)
        seen.tries += 1
        going = [asyncio.create_task(_command(site, name, seen)) for name in dice.sample(names, 2)]
        lasts_s = await begun
        await asyncio.sleep(lasts_s)
        await trouble.end(device)
        await asyncio.gather(*going)


async def _answers(site: Station, name: str) -> None:
    """Each trouble begins where all is well."""

    async def up() -> bool:
        return (await site.ask("breakers.show", feeder=name))["link"] == "up"

    await until(up, f"the link of {name} is up", SETTLED_S)


async def _begin(trouble: Trouble, device: str, dice: random.Random, after_s: float) -> float:
    await asyncio.sleep(after_s)
    return await trouble.begin(device, dice)


async def _operate_meanwhile(site: Station, names: list[str], seen: Seen, over: asyncio.Event) -> None:
    number = 0
    while not over.is_set():
        name = names[number % len(names)]
        number += 1
        began = time.monotonic()
        told = await _command(site, name, seen)
        took_s = time.monotonic() - began
        seen.slowest_well_s = max(seen.slowest_well_s, took_s)
        if told != "done" or took_s > MEANWHILE_S:
            seen.wrong.append(f"{name} has no trouble of its own, but: {told} after {took_s:.1f} s")
        await asyncio.sleep(0.2)


async def _command(site: Station, name: str, seen: Seen) -> str:
    """Operate one breaker to where it is not; what was told of it at last. Keeps what it must have counted by then."""
    before = seen.expected.get(name, Count(0, 0, 0, "closed"))
    verb, target = ("open", "open") if before.position == "closed" else ("close", "closed")
    had = await _intents(site, name)
    outcomes: list[str] = []
    try:
        answer = await site.ask(f"breakers.{verb}", timeout_s=SETTLED_S, feeder=name, reason="test", wait_s=5.0)
        outcomes.append(str(answer["outcome"]))
        print(f"{name} {verb}: {answer['detail']}")
    except ControlError as error:
        outcomes.append("unknown")
        print(f"{name} {verb}: {error}")
    if outcomes[-1] not in TERMINAL:
        outcomes = ["unknown", await _settled(site, name)]
    intents = await _intents(site, name) - had
    done = int(outcomes[-1] == "done")
    opening = verb == "open"
    was = seen.intents.get(name, Count())
    seen.commands.append(Command(name, target, outcomes))
    seen.intents[name] = Count(was.opens + opening * intents, was.closes + (not opening) * intents)
    seen.expected[name] = Count(
        before.opens + (done if opening else 0),
        before.closes + (0 if opening else done),
        (before.operations or 0) + done,
        target if done else before.position,
    )
    return outcomes[-1]


async def _intents(site: Station, name: str) -> int:
    state = (await site.ask("breakers.show", feeder=name))["state"]
    assert isinstance(state, dict)
    return int(str(state.get("intents", 0)))


async def _settled(site: Station, name: str) -> str:
    word = ""

    async def ended() -> bool:
        nonlocal word
        rows = (await site.ask("breakers.list", prefix=name, limit=1))["breakers"]
        assert isinstance(rows, list)
        word = str(rows[0]["outcome"])
        return word in TERMINAL

    await until(ended, f"the outcome of {name}", SETTLED_S)
    return word
