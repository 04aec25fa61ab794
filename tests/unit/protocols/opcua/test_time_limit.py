"""A time limit holds also where a library cancels in its own way."""

from __future__ import annotations

import asyncio

import pytest

from protocols.opcua.time_limit import time_limit


class OwnKind(asyncio.CancelledError):
    """What wait_for2 raises when a cancellation meets an answer."""


async def answers_when_cancelled() -> None:
    try:
        await asyncio.sleep(60.0)
    except asyncio.CancelledError:
        raise OwnKind from None


async def test_whoever_exceeds_it_gets_a_time_out_and_is_not_cancelled() -> None:
    with pytest.raises(TimeoutError):
        async with time_limit(0.01):
            await answers_when_cancelled()
    with pytest.raises(TimeoutError):
        async with time_limit(0.01), time_limit(5.0):
            await answers_when_cancelled()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_whoever_is_cancelled_is_cancelled() -> None:
    async def limited() -> None:
        async with time_limit(60.0):
            await answers_when_cancelled()

    task = asyncio.create_task(limited())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_what_is_done_in_time_is_left_alone() -> None:
    async with time_limit(60.0):
        await asyncio.sleep(0)
    with pytest.raises(ValueError, match="own"):
        async with time_limit(60.0):
            raise ValueError("its own error")
