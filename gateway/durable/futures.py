"""Completing futures that may have been given up by those who wait."""

from __future__ import annotations

import asyncio
from typing import TypeVar

T = TypeVar("T")


def set_result(future: asyncio.Future[T], value: T) -> None:
    """Complete it, unless nobody waits any more."""
    if not future.done():
        future.set_result(value)


def set_done(future: asyncio.Future[None]) -> None:
    """Complete it, unless nobody waits any more."""
    set_result(future, None)


def set_error(future: asyncio.Future[T], error: BaseException) -> None:
    """Let it fail; an error that nobody asks for is not worth a warning, since the engine tells of it by itself."""
    if not future.done():
        future.set_exception(error)
        future.exception()
