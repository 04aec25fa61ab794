"""Events and alarms as OPC UA tells them.

An event is told once. An alarm is a condition: each change of its state is told as an event of its own, which carries the
condition's id (``Alarm/<key>``); ConditionRefresh tells the present state of all that people still have to see. Conditions
have no nodes (OPC UA part 9, 4.11, leaves that open): a client calls Acknowledge (i=9111) with the condition's id as the
object, as it is told in each of its events.

What must stay true: an EventId is made from what happened alone, so the same event has the same id when it is told live,
refreshed, read from history, or told again after a restart. Nobody acknowledges a state that they weren't told of.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

import structlog
from asyncua import ua

from protocols.opcua.calls import said
from protocols.opcua.filters import path_of
from protocols.opcua.space import Nodes
from protocols.opcua.surface import Alarm, Backend, Caller, Event, EventType, Status
from protocols.opcua.templates import Ids
from protocols.opcua.values import GOOD, STATUS, standard, status, to_moment, to_variant

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

MOST_ALARMS = 20_000
"""Alarms that are kept for ConditionRefresh and Acknowledge. Above: the one that changed longest ago is left out."""
KNOWN_EVENTS = 8
"""EventIds of one alarm that may be acknowledged: those of its latest states."""
LONGEST_COMMENT = 1000

_BASE = standard(ua.ObjectIds.BaseEventType)
_ABOVE_EVENT = frozenset((_BASE,))
_ABOVE_ALARM = frozenset(
    standard(number)
    for number in (
        ua.ObjectIds.BaseEventType,
        ua.ObjectIds.ConditionType,
        ua.ObjectIds.AcknowledgeableConditionType,
        ua.ObjectIds.AlarmConditionType,
    )
)
_NULL = ua.Variant(None, ua.VariantType.Null)
_NO_NODE = ua.Variant(ua.NodeId(), ua.VariantType.NodeId)
_PROCESS_CLASS = ua.Variant(standard(ua.ObjectIds.ProcessConditionClassType), ua.VariantType.NodeId)


class Occurrence:
    """Something that happened, as fields by browse path."""

    __slots__ = ("_fields", "_types", "type_name")

    def __init__(self, type_name: str, fields: dict[str, ua.Variant], types: frozenset[ua.NodeId]) -> None:
        self.type_name = type_name
        self._fields = fields
        self._types = types

    def value(self, path: str) -> object:
        """The value of a field; None when it hasn't got it."""
        found = self._fields.get(path)
        return None if found is None else found.Value

    def types(self) -> frozenset[ua.NodeId]:
        """Its type and all above it."""
        return self._types

    def to_event_fields(self, select_clauses: Sequence[ua.SimpleAttributeOperand]) -> list[ua.Variant]:
        """The fields that a client selected; null for those it hasn't got. The values are shared: never change them."""
        return [self._fields.get(path_of(clause), _NULL) for clause in select_clauses]

    @property
    def event_id(self) -> bytes:
        """Its EventId."""
        value = self._fields["EventId"].Value
        assert isinstance(value, bytes)
        return value


class Occurrences:
    """Makes events out of what the gateway tells. Errors: KeyError for a type that wasn't declared, ValueError for a
    field of another type than declared."""

    def __init__(self, event_types: Iterable[EventType], ids: Ids, nodes: Nodes, now: Callable[[], datetime]) -> None:
        self._now = now
        self._declared = {each.name: each for each in event_types}
        self._ids = ids
        self._nodes = nodes

    def alarm_id(self, key: str) -> ua.NodeId:
        """The condition's id."""
        return self._ids.node(f"Alarm/{key}")

    def alarm_key(self, condition: ua.NodeId) -> str | None:
        """The alarm whose condition's id this is, if it looks like one."""
        name = condition.Identifier
        if condition.NamespaceIndex != self._ids.namespace or not isinstance(name, str):
            return None
        return name.removeprefix("Alarm/") if name.startswith("Alarm/") else None

    def seen_at(self, source: str) -> list[ua.NodeId]:
        """The nodes at which an event of this object is seen; the Server object always."""
        entry = self._nodes.get_entry(self._ids.node(source))
        return list(self._nodes.above(entry)) if entry is not None else [standard(ua.ObjectIds.Server)]

    def of_event(self, event: Event) -> Occurrence:
        """An event."""
        declared = self._declared[event.type]
        fields = self._common(event, _event_id(event, ()))
        fields.update(_own(declared, event.fields))
        return Occurrence(event.type, fields, _ABOVE_EVENT | {self._ids.node(f"Type/{event.type}")})

    def of_alarm(self, alarm: Alarm) -> Occurrence:
        """The state of an alarm, as the event that tells of it."""
        declared = self._declared[alarm.type]
        fields = self._common(alarm, _event_id(alarm, (alarm.key, alarm.active, alarm.acked, alarm.acked_by)))
        fields.update(_condition(alarm))
        fields["NodeId"] = ua.Variant(self.alarm_id(alarm.key), ua.VariantType.NodeId)
        fields.update(_own(declared, alarm.fields))
        return Occurrence(alarm.type, fields, _ABOVE_ALARM | {self._ids.node(f"Type/{alarm.type}")})

    def refresh_started(self) -> Occurrence:
        """What stands before the alarms of a ConditionRefresh."""
        return self._system(ua.ObjectIds.RefreshStartEventType, "ConditionRefresh begins.")

    def refresh_ended(self) -> Occurrence:
        """What stands after them."""
        return self._system(ua.ObjectIds.RefreshEndEventType, "ConditionRefresh has ended.")

    def _system(self, type_number: int, message: str) -> Occurrence:
        """An event of the server's own, on its own account."""
        kind = standard(type_number)
        now = ua.Variant(self._now(), ua.VariantType.DateTime)
        fields = {
            "EventId": ua.Variant(secrets.token_bytes(16), ua.VariantType.ByteString),
            "EventType": ua.Variant(kind, ua.VariantType.NodeId),
            "SourceNode": ua.Variant(standard(ua.ObjectIds.Server), ua.VariantType.NodeId),
            "SourceName": ua.Variant("Server", ua.VariantType.String),
            "Time": now,
            "ReceiveTime": now,
            "Message": _text(message),
            "Severity": ua.Variant(1, ua.VariantType.UInt16),
        }
        return Occurrence("", fields, frozenset((_BASE, standard(ua.ObjectIds.SystemEventType), kind)))

    def _common(self, told: Event | Alarm, event_id: bytes) -> dict[str, ua.Variant]:
        entry = self._nodes.get_entry(self._ids.node(told.source))
        name = entry.name if entry is not None else told.source.rpartition("/")[2]
        moment = to_moment(told.time_us)
        return {
            "EventId": ua.Variant(event_id, ua.VariantType.ByteString),
            "EventType": ua.Variant(self._ids.node(f"Type/{told.type}"), ua.VariantType.NodeId),
            "SourceNode": ua.Variant(self._ids.node(told.source), ua.VariantType.NodeId),
            "SourceName": ua.Variant(name, ua.VariantType.String),
            "Time": moment,
            "ReceiveTime": moment,
            "Message": ua.Variant(ua.LocalizedText(told.message), ua.VariantType.LocalizedText),
            "Severity": ua.Variant(min(max(told.severity, 1), 1000), ua.VariantType.UInt16),
        }


def _own(declared: EventType, given: Mapping[str, object]) -> dict[str, ua.Variant]:
    fields = {}
    for variable in declared.fields:
        if variable.name in given:
            fields[variable.name] = to_variant(given[variable.name], variable.type, variable.array)  # type: ignore[arg-type]
    return fields


def _condition(alarm: Alarm) -> dict[str, ua.Variant]:
    moment = to_moment(alarm.time_us)
    severity = ua.Variant(min(max(alarm.severity, 1), 1000), ua.VariantType.UInt16)
    return {
        "ConditionName": ua.Variant(alarm.key, ua.VariantType.String),
        "ConditionClassId": _PROCESS_CLASS,
        "ConditionClassName": _text("ProcessConditionClassType"),
        "BranchId": _NO_NODE,
        "Retain": ua.Variant(alarm.retain, ua.VariantType.Boolean),
        "EnabledState": _text("Enabled"),
        "EnabledState/Id": ua.Variant(True, ua.VariantType.Boolean),
        "Quality": ua.Variant(GOOD, ua.VariantType.StatusCode),
        "Quality/SourceTimestamp": moment,
        "LastSeverity": severity,
        "LastSeverity/SourceTimestamp": moment,
        "Comment": _text(alarm.comment),
        "Comment/SourceTimestamp": moment,
        "ClientUserId": ua.Variant(alarm.acked_by, ua.VariantType.String),
        "AckedState": _text("Acknowledged" if alarm.acked else "Unacknowledged"),
        "AckedState/Id": ua.Variant(alarm.acked, ua.VariantType.Boolean),
        "ActiveState": _text("Active" if alarm.active else "Inactive"),
        "ActiveState/Id": ua.Variant(alarm.active, ua.VariantType.Boolean),
        "InputNode": _NO_NODE,
        "SuppressedOrShelved": ua.Variant(False, ua.VariantType.Boolean),
    }


def _text(text: str) -> ua.Variant:
    return ua.Variant(ua.LocalizedText(text), ua.VariantType.LocalizedText)


def _event_id(told: Event | Alarm, state: tuple[object, ...]) -> bytes:
    fields = sorted((name, repr(value)) for name, value in told.fields.items())
    said_of_it = repr((told.type, told.source, told.message, told.severity, told.time_us, state, fields))
    return hashlib.blake2b(said_of_it.encode(), digest_size=16).digest()


class Alarms:
    """The alarms that people have to see, for ConditionRefresh and Acknowledge."""

    def __init__(self, occurrences: Occurrences, backend: Backend, most: int = MOST_ALARMS) -> None:
        self._occurrences = occurrences
        self._backend = backend
        self._most = most
        self._alarms: dict[str, tuple[Alarm, Occurrence, tuple[bytes, ...]]] = {}
        self._told_full = False

    def __len__(self) -> int:
        """How many people have to see."""
        return len(self._alarms)

    def changed(self, alarm: Alarm) -> Occurrence:
        """An alarm came, changed or went; what is to be told of it. Errors: as ``Occurrences``."""
        occurrence = self._occurrences.of_alarm(alarm)
        _, _, known = self._alarms.pop(alarm.key, (alarm, occurrence, ()))
        if alarm.retain:
            recent = (*(each for each in known if each != occurrence.event_id), occurrence.event_id)
            self._alarms[alarm.key] = (alarm, occurrence, recent[-KNOWN_EVENTS:])
        if len(self._alarms) > self._most:
            del self._alarms[next(iter(self._alarms))]
            if not self._told_full:
                self._told_full = True
                log.error("opcua_alarms_full", most=self._most)
        return occurrence

    def retained(self) -> list[Occurrence]:
        """The present state of all of them, in the order of their latest changes."""
        return [occurrence for _, occurrence, _ in self._alarms.values()]

    async def acknowledge(
        self, caller: Caller, condition: ua.NodeId, event: bytes, comment: str
    ) -> ua.CallMethodResult:
        """Acknowledge, for ``Calls``."""
        key = self._occurrences.alarm_key(condition)
        found = self._alarms.get(key) if key is not None else None
        if key is None or found is None:
            return said(status(ua.StatusCodes.BadNodeIdUnknown), "There is no such alarm, or it is over.")
        alarm, _, known = found
        if event not in known:
            return said(status(ua.StatusCodes.BadEventIdUnknown), "The alarm's state is another one by now.")
        if alarm.acked:
            by = f" by {alarm.acked_by}" if alarm.acked_by else ""
            return said(status(ua.StatusCodes.BadConditionBranchAlreadyAcked), f"It was acknowledged{by} already.")
        if len(comment) > LONGEST_COMMENT:
            return said(STATUS[Status.TOO_LARGE], f"A comment has at most {LONGEST_COMMENT} characters.")
        try:
            answer = await self._backend.acknowledge(caller, key, comment)
        except Exception:
            log.exception("opcua_acknowledge_failed", alarm=key)
            return said(STATUS[Status.INTERNAL], "The gateway failed to carry this out; its log says why.")
        return said(STATUS[answer.status], answer.message)
