"""What a session that came through the door may ask for: the seam between the door (``hardening``) and what is behind it.

The door knows connections, certificates, sessions and limits; it finds out who is calling and hands requests on by
``Services``. What is behind it knows objects, methods, alarms and history. Neither looks into the other.

What must stay true: nothing here is called for a session that isn't activated, and ``caller`` is the session's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from asyncua import ua

from protocols.opcua.surface import Caller


@dataclass(frozen=True, slots=True)
class Place:
    """What a node of ours belongs to, for the question whether somebody may read it.

    type: name of the object type, empty for folders and types. variable: its name, empty for the object itself.
    """

    type: str
    variable: str = ""


class Where(Protocol):
    """The condition of an event filter."""

    def eval(self, event: object) -> bool:
        """Whether the event is wanted. Never raises."""


class Services(Protocol):
    """What is behind the door."""

    def place(self, node: ua.NodeId) -> Place | None:
        """Where a node of our namespace belongs; None for nodes that aren't ours or aren't there."""

    async def call(self, caller: Caller, session: ua.NodeId, request: ua.CallMethodRequest) -> ua.CallMethodResult:
        """One method call: relation, number and types of arguments, ``may_call``, then the gateway. Never raises for bad
        input. Every result has the Message as its first output, whatever its status."""

    async def history_read(
        self, caller: Caller, session: ua.NodeId, parameters: ua.HistoryReadParameters
    ) -> list[ua.HistoryReadResult]:
        """Past values and events; asks ``may_read`` and ``may_see_events``. Errors: UaStatusCodeError (all of it)."""

    def where(self, filter: object) -> Where:
        """Check an event filter when a monitored item for events is made or changed; what it gives takes the place of the
        library's evaluator, which knows neither subtypes nor missing fields. Errors: UaStatusCodeError (too large,
        operators that aren't supported, no filter at all)."""

    def session_closed(self, session: ua.NodeId) -> None:
        """A session is gone: its continuation points are released."""
