"""ServerCapabilities and OperationLimits: what the standard's own nodes say of this server must be true."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from asyncua import ua

from protocols.opcua.hardening.errors import stamped_value, standard
from protocols.opcua.hardening.limits import Limits, ServerSettings
from protocols.opcua.hardening.space import Space

_Ids = ua.ObjectIds
_OPERATION = "Server_ServerCapabilities_OperationLimits_"


def show_capabilities(space: Space, limits: Limits, settings: ServerSettings, now: datetime) -> None:
    """Write the limits that hold into the nodes that tell clients of them; nodes that the standard set hasn't got are
    left out. 0 in an operation limit means "none" to clients, so what isn't offered says 1."""
    per_call = {
        "MaxNodesPerRead": limits.nodes_per_read,
        "MaxNodesPerWrite": limits.nodes_per_read,
        "MaxNodesPerMethodCall": limits.nodes_per_call,
        "MaxNodesPerBrowse": limits.nodes_per_browse,
        "MaxNodesPerRegisterNodes": limits.nodes_per_register,
        "MaxNodesPerTranslateBrowsePathsToNodeIds": limits.nodes_per_translate,
        "MaxNodesPerNodeManagement": 1,
        "MaxMonitoredItemsPerCall": limits.items_per_call,
        "MaxNodesPerHistoryReadData": limits.nodes_per_history,
        "MaxNodesPerHistoryReadEvents": limits.nodes_per_history,
        "MaxNodesPerHistoryUpdateData": 1,
        "MaxNodesPerHistoryUpdateEvents": 1,
    }
    for name, most in per_call.items():
        _put(space, now, _OPERATION + name, most, ua.VariantType.UInt32)
    whole = "Server_ServerCapabilities_"
    _put(space, now, whole + "MaxBrowseContinuationPoints", limits.continuation_points, ua.VariantType.UInt16)
    _put(space, now, whole + "MaxHistoryContinuationPoints", limits.continuation_points, ua.VariantType.UInt16)
    _put(space, now, whole + "MaxQueryContinuationPoints", 0, ua.VariantType.UInt16)
    _put(space, now, whole + "MinSupportedSampleRate", limits.publishing_interval_min_ms, ua.VariantType.Double)
    _put(space, now, whole + "MaxArrayLength", limits.elements, ua.VariantType.UInt32)
    _put(space, now, whole + "MaxStringLength", limits.message_after, ua.VariantType.UInt32)
    _put(space, now, whole + "MaxByteStringLength", limits.message_after, ua.VariantType.UInt32)
    _put(space, now, whole + "MaxSessions", settings.max_sessions, ua.VariantType.UInt32)
    _put(
        space,
        now,
        whole + "MaxSubscriptions",
        limits.subscriptions_per_session * settings.max_sessions,
        ua.VariantType.UInt32,
    )
    _put(space, now, whole + "MaxSubscriptionsPerSession", limits.subscriptions_per_session, ua.VariantType.UInt32)
    _put(space, now, whole + "MaxMonitoredItems", limits.items_total, ua.VariantType.UInt32)
    _put(space, now, whole + "MaxMonitoredItemsPerSubscription", limits.items_per_session, ua.VariantType.UInt32)
    _put(space, now, whole + "MaxMonitoredItemsQueueSize", limits.queue_per_item, ua.VariantType.UInt32)
    _put(space, now, whole + "MaxSelectClauseParameters", limits.select_clauses, ua.VariantType.UInt32)
    _put(space, now, whole + "MaxWhereClauseParameters", limits.filter_elements, ua.VariantType.UInt32)


def _put(space: Space, now: datetime, name: str, value: Any, kind: ua.VariantType) -> None:
    number = getattr(_Ids, name, None)
    node = standard(number) if number is not None else None
    if node is None or node not in space:
        return
    space.put(node, stamped_value(value, kind, now))
