"""The OPC UA server for operators: a gateway's ``Surface`` as an address space, its values, calls, events and history.

How it fits together: ``hardening`` is the door (connections, certificates, log-in, sessions, subscriptions, limits);
``types`` and ``space`` make the nodes; ``calls``, ``events`` and ``history`` answer what sessions ask; ``outbox`` tells
subscribers of what changed. This module puts them together and is what a gateway holds (``surface.Server``).

What must stay true: values, events and answers are sent as they are given; who reads after a change sees it at once, who
subscribed is told in the order in which things happened. Everything here runs on the event loop; ``start`` builds the
address space before it listens, so that nobody waits for it later. On a crash nothing is lost: the gateway describes all
of it again at the next start, and clients come back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial

from asyncua import ua

from protocols.opcua.calls import Calls, said
from protocols.opcua.entries import Watcher
from protocols.opcua.events import Alarms, Occurrence, Occurrences
from protocols.opcua.filters import Filter, check_filter
from protocols.opcua.hardening import HardenedServer, Limits, ServerSettings
from protocols.opcua.history import History, capabilities
from protocols.opcua.outbox import Outbox
from protocols.opcua.pki import Pki
from protocols.opcua.services import Place
from protocols.opcua.space import GONE, Nodes
from protocols.opcua.surface import (
    Alarm,
    Backend,
    Caller,
    Change,
    Event,
    Object,
    Sample,
    SessionInfo,
    Surface,
    Variable,
)
from protocols.opcua.templates import (
    HISTORY_OF_EVENTS,
    SUBSCRIBE_TO_EVENTS,
    Ids,
    folder_template,
    make_template,
    shared,
)
from protocols.opcua.types import Types
from protocols.opcua.users import Doorman
from protocols.opcua.values import standard, to_us

__all__ = ["Limits", "OperatorServer", "ServerSettings"]

OUR_NAMESPACE = 2
"""0 is OPC UA's, 1 the server's own; ours is the first after these. Clients look it up by its URI all the same."""


class OperatorServer:
    """The running server; satisfies ``surface.Server``, and ``services.Services`` towards the door.

    All that tells something (``change``, ``add``, ``alarm`` ...) may be called before ``start``, too: nobody is there yet.
    """

    def __init__(
        self,
        settings: ServerSettings,
        pki: Pki,
        doorman: Doorman,
        surface: Surface,
        backend: Backend,
        limits: Limits | None = None,
        *,
        now: Callable[[], datetime],
    ) -> None:
        """now: the wall clock (UTC), for certificates and the server's time-stamps. Errors: ValueError or KeyError for a
        surface that doesn't fit together."""
        self._surface = surface
        self._door = HardenedServer(settings, pki, doorman, backend, self, limits, now=now)
        self._outbox = Outbox()
        ids = Ids(OUR_NAMESPACE)
        templates = {each.name: make_template(each, ids) for each in surface.types}
        templates[""] = folder_template()
        self._ids = ids
        self._nodes = Nodes(ids.namespace, templates, now)
        self._nodes.add(surface.folders)
        self._nodes.add(surface.objects)
        self._occurrences = Occurrences(surface.event_types, ids, self._nodes, now)
        self._alarms = Alarms(self._occurrences, backend)
        self._calls = Calls(self._nodes, backend, self, self._door.tell)
        self._history = History(self._nodes, self._occurrences, backend)

    async def start(self) -> None:
        """Build the address space, then listen. Errors: OSError when the port is taken."""
        await self._door.init()
        index = await self._door.register_namespace(self._surface.namespace)
        if index != OUR_NAMESPACE:
            raise RuntimeError(f"our namespace has index {index}, not {OUR_NAMESPACE}: the library registered others")
        space = self._door.space
        Types(self._door.iserver.node_mgt_service, space, self._ids).build(self._surface)
        events = shared(SUBSCRIBE_TO_EVENTS | HISTORY_OF_EVENTS, ua.VariantType.Byte)
        space[standard(ua.ObjectIds.Server)].attributes[ua.AttributeIds.EventNotifier] = events
        for node, value in capabilities().items():
            space.put(node, value)
        space.overlay(self._nodes.attach)
        self._outbox.open()
        await self._door.start()

    async def stop(self) -> None:
        """Close every session and connection; nothing is told any more."""
        self._outbox.close()
        await self._door.stop()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._door.port

    # --- surface.Server -------------------------------------------------------------------------------------------

    def change(self, changes: Iterable[Change]) -> None:
        """These values are so from now on: whoever reads sees them at once, who subscribed is told in turn. Takes 1 to 5 µs
        for each, so give no more than some thousand at a time. Errors: KeyError for an unknown object or variable (those
        before it have been taken)."""
        for each in changes:
            entry = self._nodes.entry(each.object)
            index = entry.template.index[each.variable]
            if entry.samples[index] == each.sample:
                continue
            entry.samples[index] = each.sample
            if entry.watchers is not None and index in entry.watchers:
                watchers = tuple(entry.watchers[index].values())
                variable = entry.template.variables[index]
                self._outbox.change((entry, index), partial(self._tell, watchers, each.sample, variable))

    def add(self, objects: Sequence[Object]) -> None:
        """These objects have come. Errors: KeyError (unknown type or parent), ValueError (the key is there already); those
        before it have been taken."""
        self._nodes.add(objects)

    def remove(self, keys: Sequence[str]) -> None:
        """These objects are gone, and all below them; who watches them is told BadNodeIdUnknown, and has to subscribe anew
        should the same key come back. Unknown keys: nothing."""
        for key in keys:
            for entry in self._nodes.remove(key):
                for index, watchers in (entry.watchers or {}).items():
                    self._outbox.change((entry, index), partial(_tell_gone, tuple(watchers.values())))

    def event(self, event: Event) -> None:
        """Send an event to those who subscribed. Errors: KeyError (unknown type), ValueError (a field of another type)."""
        self._emit(self._occurrences.of_event(event), event.source)

    def alarm(self, alarm: Alarm) -> None:
        """An alarm came, changed or went. Errors: as ``event``."""
        self._emit(self._alarms.changed(alarm), alarm.source)

    def sessions(self) -> list[SessionInfo]:
        """Who is there now."""
        return self._door.sessions()

    def certificate_expires_us(self) -> int:
        """When the server's own certificate expires (µs since 1970): the one that clients are shown."""
        return to_us(self._door.expires)

    # --- services.Services: what sessions ask ---------------------------------------------------------------------

    def place(self, node: ua.NodeId) -> Place | None:
        """Where a node of ours belongs."""
        return self._nodes.place(node)

    async def call(self, caller: Caller, session: ua.NodeId, request: ua.CallMethodRequest) -> ua.CallMethodResult:
        """One method call."""
        return await self._calls.call(caller, session, request)

    async def history_read(
        self, caller: Caller, session: ua.NodeId, parameters: ua.HistoryReadParameters
    ) -> list[ua.HistoryReadResult]:
        """Past values and events."""
        return await self._history.read(caller, session, parameters)

    def where(self, filter: object) -> Filter:
        """Check an event filter."""
        return check_filter(filter)

    def session_closed(self, session: ua.NodeId) -> None:
        """A session is gone."""
        self._history.forget(session)

    # --- calls.Conditions -----------------------------------------------------------------------------------------

    async def acknowledge(
        self, caller: Caller, condition: ua.NodeId, event: bytes, comment: str
    ) -> ua.CallMethodResult:
        """The standard method Acknowledge."""
        return await self._alarms.acknowledge(caller, condition, event, comment)

    async def refresh(
        self, caller: Caller, session: ua.NodeId, subscription: int, item: int | None
    ) -> ua.CallMethodResult:
        """The standard methods ConditionRefresh and ConditionRefresh2."""
        events = [(each, each.type_name) for each in self._alarms.retained()]
        start, end = self._occurrences.refresh_started(), self._occurrences.refresh_ended()
        code = await self._door.refresh(session, subscription, item, [(start, ""), *events, (end, "")])
        return said(code, "All alarms that are not settled follow." if code.is_good() else "It can't be done now.")

    # --- telling --------------------------------------------------------------------------------------------------

    def _emit(self, occurrence: Occurrence, source: str) -> None:
        seen_at = self._occurrences.seen_at(source)
        self._outbox.event(partial(self._door.emit, occurrence, seen_at, occurrence.type_name))

    def _tell(self, watchers: tuple[Watcher, ...], sample: Sample, variable: Variable) -> None:
        """Those who watched when it changed; who came later has read the newer value already."""
        value = self._nodes.shown(sample, variable)
        for watcher in watchers:
            watcher(value)


def _tell_gone(watchers: tuple[Watcher, ...]) -> None:
    for watcher in watchers:
        watcher(GONE)
