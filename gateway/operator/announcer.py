"""Events on their way to operators: into the journal first, then out; in a storm some are counted instead of told.

The journal keeps each event that was told, as a record of kind ``event`` under a name of its own (``EVENTS``): that is
the history of events. What must stay true: an event is on disk before anybody hears of it; at most ``EACH_SECOND`` are
told within a second, and the others are counted in one event. A crash here: an event that was not on disk is not told
any more; what it told of is in the journal by itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

import msgspec

from gateway.durable import Engine
from gateway.operator.event_types import BY_NAME
from gateway.operator.quota import Quota
from protocols.opcua.surface import Event, Server, Value

EVENTS = "@events"
"""Instance of the records: no orchestration and no entity can have this id."""
EVENT = "event"
EACH_SECOND = 50
OF_ONE_TYPE = 30


class EventRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event as it is journaled; its time is the record's."""

    type: str
    source: str
    message: str
    severity: int
    fields: dict[str, Value] = {}


class Announcer:
    """Tells events. server: None until there is one; then events are kept in the journal only."""

    def __init__(self, engine: Engine, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.server: Server | None = None
        self._engine = engine
        self._quota = Quota(OF_ONE_TYPE, EACH_SECOND, 1.0, monotonic)

    def tell(self, type_name: str, message: str, source: str = "", severity: int = 0, **fields: Value) -> None:
        """Tell of an event of this type; source and severity are those of the type unless given."""
        self.look()
        if self._quota.take("", type_name):
            self._tell(type_name, message, source, severity, fields)

    def look(self) -> None:
        """Tell how many were not told; to be called now and then."""
        for (_, type_name), count in self._quota.over().items():
            words = f"{count} more events of type {type_name} within a second: the journal tells what happened"
            self._tell("EventsSuppressed", words, "", 0, {"Count": count})

    def _tell(self, type_name: str, message: str, source: str, severity: int, fields: dict[str, Value]) -> None:
        kind = BY_NAME[type_name]
        record = EventRecord(type_name, source or kind.source, message, severity or kind.severity, fields)
        written = self._engine.record(EVENTS, EVENT, record)
        event = Event(type_name, record.source, message, record.severity, self._engine.now_us(), fields)
        written.add_done_callback(partial(self._written, event))

    def _written(self, event: Event, written: asyncio.Future[None]) -> None:
        if written.cancelled() or written.exception() is not None or self.server is None:
            return  # the journal has failed: the daemon ends and says so
        self.server.event(event)
