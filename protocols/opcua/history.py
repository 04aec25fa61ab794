"""HistoryRead: past values of variables that keep a history, and past events, page by page. HistoryUpdate is not offered.

Raw values (ReadRawModifiedDetails) of variables with ``history``, and events (ReadEventDetails) at the Server object.
Modified, processed and at-time history is answered with BadHistoryOperationUnsupported; bounding values aren't made up
(ReturnBounds changes nothing).

What must stay true: a page holds at most ``MOST_VALUES`` or ``MOST_EVENTS``; where there is more, the client gets a
continuation point, which works for its own session alone, once, and until it is released; a session holds at most
``MOST_POINTS`` of them (a new one takes the oldest one's place). Start after end, or no start at all, means newest first.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace

import structlog
from asyncua import ua
from asyncua.ua.uaerrors import UaStatusCodeError

from protocols.opcua.events import Occurrences
from protocols.opcua.filters import Filter, check_filter
from protocols.opcua.space import Nodes
from protocols.opcua.surface import Backend, Caller, EventPage, HistoryPage, Variable
from protocols.opcua.values import GOOD, fault, stamped, standard, status, to_data_value, to_us

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

MOST_VALUES = 2_000
MOST_EVENTS = 500
MOST_POINTS = 20
MOST_NODES = 100
_PAGES_PER_REQUEST = 20
"""Pages of events that are looked through for one answer, when a filter lets few of them pass."""

_SERVER = standard(ua.ObjectIds.Server)
_BEGINNING_US = to_us(ua.get_win_epoch()) + 86_400_000_000
_END_US = 253_370_764_800_000_000
"""9999: what clients say when they mean "up to now"."""


@dataclass(frozen=True, slots=True)
class _Span:
    """What is still to be read. number: how many the client wants in one answer, 0 for as many as there are; once: it
    wants no more than one answer (it gave one end and a number); after: where the gateway goes on."""

    start_us: int
    end_us: int
    newest_first: bool
    number: int
    once: bool = False
    after: str = ""

    def page(self, most: int) -> int:
        """How many to give in one answer."""
        return min(self.number, most) if self.number else most

    def rest(self, page: HistoryPage | EventPage, given: int) -> _Span | None:
        """What is left after a page; None when that was all."""
        if not page.next or (self.once and given >= self.number):
            return None
        return replace(self, after=page.next, number=self.number - given if self.once else self.number)


@dataclass(frozen=True, slots=True)
class _Asked:
    """One node's request, as it can go on later. variable: None for events."""

    node: ua.NodeId
    key: str
    variable: Variable | None
    span: _Span
    select: tuple[ua.SimpleAttributeOperand, ...] = ()
    where: Filter | None = None


def capabilities() -> dict[ua.NodeId, ua.DataValue]:
    """What the standard nodes below HistoryServerCapabilities say of this server."""
    shown: dict[int, ua.Variant] = {
        ua.ObjectIds.HistoryServerCapabilities_AccessHistoryDataCapability: ua.Variant(True, ua.VariantType.Boolean),
        ua.ObjectIds.HistoryServerCapabilities_AccessHistoryEventsCapability: ua.Variant(True, ua.VariantType.Boolean),
        ua.ObjectIds.HistoryServerCapabilities_MaxReturnDataValues: ua.Variant(MOST_VALUES, ua.VariantType.UInt32),
        ua.ObjectIds.HistoryServerCapabilities_MaxReturnEventValues: ua.Variant(MOST_EVENTS, ua.VariantType.UInt32),
    }
    refused = ("InsertData", "ReplaceData", "UpdateData", "DeleteRaw", "DeleteAtTime", "InsertEvent", "ReplaceEvent")
    for name in (*refused, "UpdateEvent", "DeleteEvent", "InsertAnnotation"):
        number = getattr(ua.ObjectIds, f"HistoryServerCapabilities_{name}Capability")
        shown[number] = ua.Variant(False, ua.VariantType.Boolean)
    return {standard(number): stamped(value, GOOD) for number, value in shown.items()}


class History:
    """Answers HistoryRead requests."""

    def __init__(self, nodes: Nodes, occurrences: Occurrences, backend: Backend) -> None:
        self._nodes = nodes
        self._occurrences = occurrences
        self._backend = backend
        self._points: dict[ua.NodeId, dict[bytes, _Asked]] = {}

    def forget(self, session: ua.NodeId) -> None:
        """A session is gone: so are its continuation points."""
        self._points.pop(session, None)

    async def read(
        self, caller: Caller, session: ua.NodeId, parameters: ua.HistoryReadParameters
    ) -> list[ua.HistoryReadResult]:
        """A request. Errors: UaStatusCodeError for all of it; what is wrong with one node is said in its result."""
        if not parameters.NodesToRead:
            raise fault(ua.StatusCodes.BadNothingToDo)
        if len(parameters.NodesToRead) > MOST_NODES:
            raise fault(ua.StatusCodes.BadTooManyOperations)
        return [await self._node(caller, session, parameters, each) for each in parameters.NodesToRead]

    async def _node(
        self, caller: Caller, session: ua.NodeId, parameters: ua.HistoryReadParameters, node: ua.HistoryReadValueId
    ) -> ua.HistoryReadResult:
        try:
            point = bytes(node.ContinuationPoint) if node.ContinuationPoint else b""
            if point:
                asked = self._points.get(session, {}).pop(point, None)
                if asked is None or asked.node != node.NodeId:
                    raise fault(ua.StatusCodes.BadContinuationPointInvalid)
                if parameters.ReleaseContinuationPoints:
                    return _result(GOOD)
            elif parameters.ReleaseContinuationPoints:
                raise fault(ua.StatusCodes.BadContinuationPointInvalid)
            else:
                asked = self._ask(node.NodeId, parameters.HistoryReadDetails)
            return await self._answer(caller, session, asked)
        except UaStatusCodeError as error:
            return _result(status(error.code))
        except Exception:
            log.exception("opcua_history_failed", node=str(node.NodeId))
            return _result(status(ua.StatusCodes.BadInternalError))

    def _ask(self, node: ua.NodeId, details: object) -> _Asked:
        """What is asked for. Errors: UaStatusCodeError."""
        if isinstance(details, ua.ReadRawModifiedDetails):
            if details.IsReadModified:
                raise fault(ua.StatusCodes.BadHistoryOperationUnsupported)
            found = self._nodes.variable(node)
            if found is None:
                known = self._nodes.place(node) is not None
                raise fault(ua.StatusCodes.BadHistoryOperationUnsupported if known else ua.StatusCodes.BadNodeIdUnknown)
            entry, variable = found
            if not variable.history:
                raise fault(ua.StatusCodes.BadHistoryOperationUnsupported)
            return _Asked(node, entry.key, variable, _span(details))
        if isinstance(details, ua.ReadEventDetails):
            if node != _SERVER:
                raise fault(ua.StatusCodes.BadHistoryOperationUnsupported)
            where = check_filter(details.Filter)
            return _Asked(node, "", None, _span(details), tuple(details.Filter.SelectClauses), where)
        raise fault(ua.StatusCodes.BadHistoryOperationUnsupported)

    async def _answer(self, caller: Caller, session: ua.NodeId, asked: _Asked) -> ua.HistoryReadResult:
        if asked.variable is not None:
            found = self._nodes.variable(asked.node)
            if found is None:
                raise fault(ua.StatusCodes.BadNodeIdUnknown)
            if not self._backend.may_read(caller, found[0].template.name, asked.variable.name):
                raise fault(ua.StatusCodes.BadUserAccessDenied)
            data, rest = await self._values(asked, asked.variable)
        else:
            data, rest = await self._events(caller, asked)
        return _result(GOOD, data, None if rest is None else self._keep(session, replace(asked, span=rest)))

    def _keep(self, session: ua.NodeId, asked: _Asked) -> bytes:
        """A continuation point; the session's oldest one makes room for it (OPC UA part 4, 7.9)."""
        points = self._points.setdefault(session, {})
        if len(points) >= MOST_POINTS:
            del points[next(iter(points))]
        point = secrets.token_bytes(16)
        points[point] = asked
        return point

    async def _values(self, asked: _Asked, variable: Variable) -> tuple[object, _Span | None]:
        span = asked.span
        limit = span.page(MOST_VALUES)
        page = await self._backend.history(
            asked.key, variable.name, span.start_us, span.end_us, limit, span.after, span.newest_first
        )
        samples = page.samples[:limit]
        data = ua.HistoryData(DataValues=[to_data_value(each, variable) for each in samples])
        return data, span.rest(page, len(samples))

    async def _events(self, caller: Caller, asked: _Asked) -> tuple[object, _Span | None]:
        """Events that this caller may see and the filter lets pass; a page without any is answered after some looking,
        with a continuation point."""
        span = asked.span
        wanted = span.page(MOST_EVENTS)
        lists: list[ua.HistoryEventFieldList] = []
        for _ in range(_PAGES_PER_REQUEST):
            page = await self._backend.event_history(
                span.start_us, span.end_us, wanted - len(lists), span.after, span.newest_first
            )
            before = len(lists)
            lists.extend(self._fitting(caller, asked, page))
            rest = span.rest(page, len(lists) - before)
            if rest is None or len(lists) >= wanted:
                return ua.HistoryEvent(Events=lists), rest
            span = rest
        return ua.HistoryEvent(Events=lists), span

    def _fitting(self, caller: Caller, asked: _Asked, page: EventPage) -> Iterator[ua.HistoryEventFieldList]:
        for event in page.events:
            if self._backend.may_see_events(caller, event.type):
                occurrence = self._occurrences.of_event(event)
                if asked.where is None or asked.where.eval(occurrence):
                    yield ua.HistoryEventFieldList(EventFields=occurrence.to_event_fields(asked.select))


def _span(details: ua.ReadRawModifiedDetails | ua.ReadEventDetails) -> _Span:
    """Two of start, end and number have to be given. Errors: UaStatusCodeError."""
    start_us, end_us = to_us(details.StartTime), to_us(details.EndTime)
    number = int(details.NumValuesPerNode)
    has_start, has_end = start_us > _BEGINNING_US, _BEGINNING_US < end_us < _END_US
    if has_start + has_end + (number > 0) < 2:
        raise fault(ua.StatusCodes.BadInvalidTimestampArgument)
    if has_start and has_end:
        return _Span(min(start_us, end_us), max(start_us, end_us), start_us > end_us, number)
    if has_start:
        return _Span(start_us, _END_US, False, number, once=True)
    return _Span(_BEGINNING_US, end_us, True, number, once=True)


def _result(code: ua.StatusCode, data: object = None, point: bytes | None = None) -> ua.HistoryReadResult:
    result = ua.HistoryReadResult()
    result.StatusCode = code
    if data is not None:
        result.HistoryData = data
    result.ContinuationPoint = point
    return result
