"""The same story with the power failing after each commit in turn: it must end as if it had not.

What must stay true: each boundary that the story without a crash has is tried, and each try begins anew. A crash here: one
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
    """What every run of a story came to. boundaries: how many commits the power failed after."""

    outcome: T
    boundaries: int


def play(story: Story[T]) -> T:
    """Run a story on a workbench of its own, for tests that are not async; what it gives."""

    async def played() -> T:
        async with Workbench() as bench:
            return await story(bench)

    return asyncio.run(played())


async def survives_every_crash(story: Story[T]) -> Survived[T]:
    """Run a story without a crash, then once for each of its commits with the power failing right after that commit.

    story: prepares the bench that it is given (parts, stubs), drives it, and gives what must come out the same each time.
    Errors: AssertionError with the commit, both outcomes and what the journal tells; those of the story.
    """
    async with Workbench() as bench:
        expected = await story(bench)
        commits = len(bench.store.batches)
    tried = 0
    for number in range(1, commits + 1):
        async with Workbench(power_fails_after=number) as bench:
            outcome = await story(bench)
            tried += bench.crashes
            told = "\n".join(f"    {line}" for line in bench.story)
        assert outcome == expected, (
            f"with a crash after commit {number} of {commits} it comes to {outcome!r}, without one to {expected!r}\n{told}"
        )
    return Survived(expected, tried)
