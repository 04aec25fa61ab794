"""Which request is served by whom, as one table. What isn't in it gives BadServiceUnsupported (RegisterServer, for one:
this is no discovery server, and nobody is introduced here)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from asyncua import ua

from protocols.opcua.hardening import attributes, entry, publisher, subscribing, view
from protocols.opcua.hardening.core import Handler
from protocols.opcua.hardening.limits import Limits

Ids = ua.ObjectIds


@dataclass(frozen=True, slots=True)
class Service:
    """One of three: open to everybody on an open channel; entry, with the session's token; handler, for those within.

    most: how many entries it takes; count_at: where the number of entries stands in the encoded parameters, so that a
    request with too many is refused undecoded (None: not at a fixed place). slow: served beside the requests that follow;
    breaks_off: such a one ends with its session.
    """

    parameters: type[Any]
    handler: Handler | None = None
    open: Callable[..., Any] | None = None
    activates: bool = False
    closes: bool = False
    count_at: int | None = None
    most: Callable[[Limits], int] | None = None
    slow: bool = False
    breaks_off: bool = False


SERVICES: dict[int, Service] = {
    Ids.GetEndpointsRequest_Encoding_DefaultBinary: Service(ua.GetEndpointsParameters, open=entry.get_endpoints),
    Ids.FindServersRequest_Encoding_DefaultBinary: Service(ua.FindServersParameters, open=entry.find_servers),
    Ids.CreateSessionRequest_Encoding_DefaultBinary: Service(ua.CreateSessionParameters, open=entry.create_session),
    Ids.ActivateSessionRequest_Encoding_DefaultBinary: Service(ua.ActivateSessionParameters, activates=True),
    Ids.CloseSessionRequest_Encoding_DefaultBinary: Service(ua.CloseSessionRequest, closes=True),
    Ids.ReadRequest_Encoding_DefaultBinary: Service(
        ua.ReadParameters, attributes.read, count_at=12, most=lambda limits: limits.nodes_per_read
    ),
    Ids.WriteRequest_Encoding_DefaultBinary: Service(
        ua.WriteParameters, attributes.write, count_at=0, most=lambda limits: limits.nodes_per_read
    ),
    Ids.HistoryReadRequest_Encoding_DefaultBinary: Service(
        ua.HistoryReadParameters, attributes.history_read, slow=True, breaks_off=True
    ),
    Ids.HistoryUpdateRequest_Encoding_DefaultBinary: Service(ua.HistoryUpdateParameters, attributes.never),
    Ids.AddNodesRequest_Encoding_DefaultBinary: Service(ua.AddNodesParameters, attributes.never),
    Ids.DeleteNodesRequest_Encoding_DefaultBinary: Service(ua.DeleteNodesParameters, attributes.never),
    Ids.AddReferencesRequest_Encoding_DefaultBinary: Service(ua.AddReferencesParameters, attributes.never),
    Ids.DeleteReferencesRequest_Encoding_DefaultBinary: Service(ua.DeleteReferencesParameters, attributes.never),
    Ids.CallRequest_Encoding_DefaultBinary: Service(
        ua.CallParameters, attributes.call, count_at=0, most=lambda limits: limits.nodes_per_call, slow=True
    ),
    Ids.BrowseRequest_Encoding_DefaultBinary: Service(ua.BrowseParameters, view.browse),
    Ids.BrowseNextRequest_Encoding_DefaultBinary: Service(
        ua.BrowseNextParameters, view.browse_next, count_at=1, most=lambda limits: limits.nodes_per_browse
    ),
    Ids.TranslateBrowsePathsToNodeIdsRequest_Encoding_DefaultBinary: Service(
        ua.TranslateBrowsePathsToNodeIdsParameters,
        view.translate,
        count_at=0,
        most=lambda limits: limits.nodes_per_translate,
    ),
    Ids.RegisterNodesRequest_Encoding_DefaultBinary: Service(
        ua.RegisterNodesParameters, view.register, count_at=0, most=lambda limits: limits.nodes_per_register
    ),
    Ids.UnregisterNodesRequest_Encoding_DefaultBinary: Service(
        ua.UnregisterNodesParameters, view.unregister, count_at=0, most=lambda limits: limits.nodes_per_register
    ),
    Ids.CreateSubscriptionRequest_Encoding_DefaultBinary: Service(
        ua.CreateSubscriptionParameters, subscribing.create_subscription
    ),
    Ids.ModifySubscriptionRequest_Encoding_DefaultBinary: Service(
        ua.ModifySubscriptionParameters, subscribing.modify_subscription
    ),
    Ids.SetPublishingModeRequest_Encoding_DefaultBinary: Service(
        ua.SetPublishingModeParameters,
        subscribing.set_publishing_mode,
        count_at=1,
        most=lambda limits: limits.nodes_per_read,
    ),
    Ids.DeleteSubscriptionsRequest_Encoding_DefaultBinary: Service(
        ua.DeleteSubscriptionsParameters,
        subscribing.delete_subscriptions,
        count_at=0,
        most=lambda limits: limits.nodes_per_read,
    ),
    Ids.TransferSubscriptionsRequest_Encoding_DefaultBinary: Service(
        ua.TransferSubscriptionsParameters,
        subscribing.transfer_subscriptions,
        count_at=0,
        most=lambda limits: limits.nodes_per_read,
    ),
    Ids.CreateMonitoredItemsRequest_Encoding_DefaultBinary: Service(
        ua.CreateMonitoredItemsParameters,
        subscribing.create_items,
        count_at=8,
        most=lambda limits: limits.items_per_call,
    ),
    Ids.ModifyMonitoredItemsRequest_Encoding_DefaultBinary: Service(
        ua.ModifyMonitoredItemsParameters,
        subscribing.modify_items,
        count_at=8,
        most=lambda limits: limits.items_per_call,
    ),
    Ids.DeleteMonitoredItemsRequest_Encoding_DefaultBinary: Service(
        ua.DeleteMonitoredItemsParameters,
        subscribing.delete_items,
        count_at=4,
        most=lambda limits: limits.items_per_session,
    ),
    Ids.SetMonitoringModeRequest_Encoding_DefaultBinary: Service(
        ua.SetMonitoringModeParameters,
        subscribing.set_monitoring_mode,
        count_at=8,
        most=lambda limits: limits.items_per_session,
    ),
    Ids.PublishRequest_Encoding_DefaultBinary: Service(
        ua.PublishParameters, publisher.publish, count_at=0, most=lambda limits: limits.nodes_per_read
    ),
    Ids.RepublishRequest_Encoding_DefaultBinary: Service(ua.RepublishParameters, publisher.republish),
}
