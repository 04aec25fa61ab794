"""The same story with the power failing at each commit in turn: it must end as if it had not.

At each commit in both ways: right before it, when all that came before has had its effects and this is lost; and right
after it, when it is on disk and nothing of it has happened yet.

What must stay true: each boundary that the story without a crash has is tried, and each try begins anew. A crash here: two
for each commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from gateway.durable.testing.workbench import Workbench

T = TypeVar("T")
Story = Callable[[Workbench], Awaitable[T]]


@dataclass(frozen=True, slots=True)
class Survived(Generic[T]):
    """What every run of a story came to. boundaries: how many commits the power failed at."""

    outcome: T
    boundaries: int


def play(story: Story[T]) -> T:
    """Run a story on a workbench of its own, for tests that are not async; what it gives."""

    async def played() -> T:
        async with Workbench() as bench:
            return await story(bench)

    return asyncio.run(played())


async def survives_every_crash(story: Story[T], in_a_row: int = 1) -> Survived[T]:
    """Run a story without a crash, then with the power failing at each of its commits, right before it and right after it.

    story: prepares the bench that it is given (parts, stubs), drives it, and gives what must come out the same each time.
    in_a_row: how often the power fails: the processes that start again lose it at their first commit, but for the last.
    Errors: AssertionError with the commit, both outcomes and what the journal tells; those of the story.
    """
    async with Workbench() as bench:
        expected = await story(bench)
        commits = len(bench.store.batches)
    for number in range(1, commits + 1):
        for when in ("before", "after"):
            before, after = (number, None) if when == "before" else (None, number)
            async with Workbench(
                power_fails_before=before, power_fails_after=after, power_fails_times=in_a_row
            ) as bench:
                outcome = await story(bench)
                told = "\n".join(f"    {line}" for line in bench.story)
            assert outcome == expected, (
                f"with a crash {when} commit {number} of {commits} it comes to {outcome!r}, without one to {expected!r}\n"
                f"{told}"
            )
    return Survived(expected, commits)
