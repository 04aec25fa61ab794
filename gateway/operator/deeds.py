"""What people and programs do and try at the door, on record: log-ins, refusals, attacks; and how every call ended.

Each is a record of kind ``audit`` whose operation begins with ``opcua.``, with user, roles, session, certificate and
address. What must stay true: a flood from one place neither fills the journal nor hides what comes from elsewhere; what is
not recorded one by one is counted, and the number recorded within a minute. A crash here loses the numbers of the minute
under way, nothing else.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping

import structlog

from gateway.durable import Engine
from gateway.durable.codec import Json
from gateway.operator.announcer import Announcer
from gateway.operator.peers import host, peer, printable
from gateway.operator.quota import Quota
from protocols.opcua.surface import Caller, Deed, Doing

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

MINUTE_S = 60.0
EACH_MINUTE = 30
"""Records of one kind from one address within a minute."""
ALL_MINUTE = 600

_EVENTS: Mapping[Doing, str] = {
    Doing.LOGIN: "LoggedIn",
    Doing.LOGOUT: "LoggedOut",
    Doing.SESSION_EXPIRED: "LoggedOut",
    Doing.LOGIN_REFUSED: "LoginFailed",
    Doing.CERTIFICATE_REFUSED: "CertificateRefused",
    Doing.SESSION_REFUSED: "SessionRefused",
    Doing.CALL_REFUSED: "CallRefused",
    Doing.READ_REFUSED: "CallRefused",
    Doing.LOCKED_OUT: "LockedOut",
    Doing.ATTACK: "AttackSeen",
}
_GOOD = frozenset({Doing.LOGIN, Doing.LOGOUT, Doing.SESSION_EXPIRED})


class Deeds:
    """Keeps the record. counts: how often what was done since the start, also what is not recorded one by one.
    unrecorded: how often no record could be made."""

    def __init__(self, engine: Engine, announcer: Announcer, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[Doing] = Counter()
        self.unrecorded = 0
        self._engine = engine
        self._announcer = announcer
        self._quota = Quota(EACH_MINUTE, ALL_MINUTE, MINUTE_S, monotonic)

    def tell(self, deed: Deed) -> None:
        """Record what was done or tried, and tell of it."""
        self.counts[deed.doing] += 1
        self.look()
        caller, detail = deed.caller, printable(deed.detail)
        if not self._quota.take(host(caller.address), deed.doing.value):
            return
        told = peer(caller)
        write = log.info if deed.doing in _GOOD else log.warning
        write("opcua_" + deed.doing.value, user=told["user"], address=told["address"], detail=detail)
        self._record({"op": f"opcua.{deed.doing.value}", "actor": told["user"], "peer": told, "detail": detail})
        self._announcer.tell(
            _EVENTS[deed.doing],
            detail or f"{deed.doing.value} of {told['user'] or 'somebody without a name'} at {told['address']}",
            User=told["user"],
            Address=told["address"],
            Application=told["application"],
            Certificate=told["certificate"],
        )

    def call(self, caller: Caller, op: str, told: Mapping[str, Json], acted: bool) -> asyncio.Future[None] | None:
        """Record how a call ended; a future that is done when that is on disk.

        acted: it had an effect, so it is recorded whatever else happens. Of what was refused, a flood is counted; None
        for such a one.
        """
        self.look()
        if not acted and not self._quota.take(host(caller.address), op):
            return None
        return self._record({"op": op, **told})

    def look(self) -> None:
        """Record how much was not recorded; to be called now and then."""
        for (place, what), count in self._quota.over().items():
            detail = f"{count} more within a minute from {place or 'nowhere'}: {what}"
            log.warning("opcua_flood", address=place, what=what, count=count)
            flood: dict[str, Json] = {"op": "opcua.flood", "actor": "", "what": what, "count": count, "address": place}
            self._record({**flood, "detail": detail})
            self._announcer.tell("DeedsSuppressed", detail, Count=count)

    def _record(self, told: Mapping[str, Json]) -> asyncio.Future[None]:
        try:
            written = self._engine.record("", "audit", told)
        except (TypeError, ValueError, OverflowError) as error:  # what no JSON can hold: who asked is refused
            self.unrecorded += 1
            log.critical("audit_failed", op=told.get("op"), error=str(error))
            raise
        # A failed journal ends the daemon elsewhere.
        written.add_done_callback(lambda done: done.cancelled() or done.exception())
        return written
