"""The operator's part of the story: employed on the box, seen coming and going, and what they order.

What must stay true: a word of theirs goes to the gateway by OPC UA and by no other way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from simulators.heatwave.operator import NAME, ROLE, Console
from simulators.heatwave.screen import BOLD, Screen
from simulators.heatwave.station import Station, StoryError

LOOK_S = 0.25


class Shift:
    """One operator at one console."""

    def __init__(self, console: Console, station: Station, screen: Screen) -> None:
        self._console = console
        self._station = station
        self._screen = screen
        self._sessions_told = 0

    async def employ(self) -> None:
        """Give the operator a name and trust their console, on the gateway's own command line. Raises StoryError."""
        self._console.make_certificate()
        await self._administer("users", "add", NAME, "--role", ROLE, "--password-stdin", given=self._console.password)
        await self._administer("certs", "trust", str(self._console.certificate))
        self._screen.event(f"on the box: gridlatch users add {NAME} --role {ROLE}; gridlatch certs trust console.der")

    async def _administer(self, *arguments: str, given: str = "") -> None:
        code, said = await self._station.command_line(*arguments, given=given)
        if code != 0:
            raise StoryError(f"gridlatch {' '.join(arguments[:2])} failed (exit code {code}): {said}")

    def tell(self) -> None:
        """Tell of a session that has come since."""
        console = self._console
        if not console.sees or console.sessions == self._sessions_told:
            return
        self._sessions_told = console.sessions
        again = f"is back by itself (session {console.sessions})" if console.sessions > 1 else "logged in"
        seen = console.sees.partition("; waits for")[0]
        self._screen.event(f"operator: {NAME} {again}, OPC UA signed and encrypted; sees: {seen}", BOLD)

    async def override(self, decision: str, reason: str, look: Callable[[], Awaitable[object]]) -> None:
        """Order this, and look on until it is answered. Raises OperatorError."""
        self._screen.event(f"operator: LoadShedding.Override({decision}, '{reason}') by {NAME} over OPC UA", BOLD)
        asking = asyncio.ensure_future(self._console.override(decision, reason))
        try:
            while not asking.done():
                await look()
                await asyncio.wait({asking}, timeout=LOOK_S)
            told = await asking
        finally:
            asking.cancel()
        self._screen.event(f"the gateway answers: {told.message}")
