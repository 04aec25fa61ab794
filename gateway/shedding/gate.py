"""The output gate: while it is held, no command frame leaves, whoever asked for it.

The daemon starts with the gate held, reconciles the field, and releases it; when the journal fails, it holds it for
good. A command waits at the gate until its deadline at the latest, and is expired then. A crash here: the gate is held
again after the start.
"""

from __future__ import annotations

import asyncio
from typing import Protocol


class Gate(Protocol):
    """What the activities need of it."""

    @property
    def held(self) -> bool:
        """True while no output may be made."""

    async def wait_released(self, timeout_s: float) -> object:
        """Return once it is released, or after so many real seconds; ask ``held`` which."""


class OutputGate:
    """A gate for one event loop. reason: why it is held, for people."""

    def __init__(self, reason: str = "starting") -> None:
        self.reason = reason
        self._released = asyncio.Event()

    @property
    def held(self) -> bool:
        """True while no output may be made."""
        return not self._released.is_set()

    def hold(self, reason: str) -> None:
        """Let nothing out from now on."""
        self.reason = reason
        self._released.clear()

    def release(self) -> None:
        """Let commands out."""
        self.reason = ""
        self._released.set()

    async def wait_released(self, timeout_s: float) -> bool:
        """True once it is released, False after timeout_s."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._released.wait()
        except TimeoutError:
            return False
        return True
