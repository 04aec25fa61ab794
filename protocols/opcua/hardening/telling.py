"""What is told to the gateway of people at the door, so that a flood at the door is no flood in the journal.

Log-ins and log-outs are told one by one (sessions bound them). Refusals are told one by one up to a number for each
address and for all; what is beyond is counted and told as one sum when the window ends.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import structlog

from protocols.opcua.hardening.limits import Limits
from protocols.opcua.surface import Backend, Caller, Deed, Doing

_log = structlog.get_logger(__name__)
_ALWAYS = frozenset({Doing.LOGIN, Doing.LOGOUT, Doing.SESSION_EXPIRED})
_DETAIL = 500


def printable(text: str | None, longest: int = 100) -> str:
    """A stranger's text as it may stand in a record: short, on one line, nothing that steers a terminal."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in (text or "")[: longest + 1])
    return shown if len(shown) <= longest else shown[:longest] + "…"


class Telling:
    """The way from the door to ``Backend.tell``."""

    def __init__(self, backend: Backend, limits: Limits, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._backend = backend
        self._limits = limits
        self._monotonic = monotonic
        self._window_ends = 0.0
        self._by_host: dict[str, int] = {}
        self._told = 0
        self._untold = 0
        self._last_untold: Deed | None = None

    def tell(self, doing: Doing, caller: Caller, detail: str) -> None:
        """Tell it, or count it."""
        deed = Deed(doing, caller, printable(detail, _DETAIL))
        if doing in _ALWAYS:
            self._pass(deed)
            return
        self.roll()
        host = caller.address.rpartition(":")[0]
        of_host = self._by_host.get(host, 0)
        if of_host < self._limits.tells_per_address and self._told < self._limits.tells:
            self._by_host[host] = of_host + 1  # at most ``tells`` hosts in a window
            self._told += 1
            self._pass(deed)
        else:
            self._untold += 1
            self._last_untold = deed

    def roll(self) -> None:
        """Begin a new window if the last one is over, and tell what was only counted in it."""
        now = self._monotonic()
        if now < self._window_ends:
            return
        self._window_ends = now + self._limits.tell_window_s
        count, last = self._untold, self._last_untold
        self._by_host.clear()
        self._told = self._untold = 0
        self._last_untold = None
        if last is not None:
            sentence = (
                f"{count} more refusals within {self._limits.tell_window_s:g} s, not recorded one by one; the last: "
            )
            self._pass(dataclasses.replace(last, detail=sentence + last.detail))

    def _pass(self, deed: Deed) -> None:
        try:
            self._backend.tell(deed)
        except Exception:  # noqa: BLE001 - the door goes on, whatever becomes of the record; the gateway alarms its own troubles
            _log.exception("a deed at the OPC UA door could not be recorded", doing=deed.doing.value)
