"""Requests about subscriptions, made by hand: all that can be asked of one, event items, ConditionRefresh."""

from __future__ import annotations

from typing import Any

from asyncua import ua
from opcua_house import Peer, std


def with_ids(request: Any, response: type[Any], **parameters: Any) -> tuple[Any, type[Any]]:
    """A request with these parameters, and what answers it."""
    for name, value in parameters.items():
        setattr(request.Parameters, name, value)
    return request, response


def requests_for(number: int, watched: ua.NodeId) -> list[tuple[Any, type[Any]]]:
    """Everything that can be asked of a subscription."""
    item = ua.MonitoredItemCreateRequest(
        ItemToMonitor=ua.ReadValueId(NodeId=watched, AttributeId=ua.AttributeIds.Value)
    )
    changed = ua.MonitoredItemModifyRequest(MonitoredItemId=1)
    both = ua.TimestampsToReturn.Both
    one = {"SubscriptionId": number}
    many = {"SubscriptionIds": [number]}
    return [
        with_ids(ua.DeleteSubscriptionsRequest(), ua.DeleteSubscriptionsResponse, **many),
        with_ids(ua.TransferSubscriptionsRequest(), ua.TransferSubscriptionsResponse, **many),
        with_ids(ua.SetPublishingModeRequest(), ua.SetPublishingModeResponse, PublishingEnabled=False, **many),
        with_ids(ua.ModifySubscriptionRequest(), ua.ModifySubscriptionResponse, **one),
        with_ids(
            ua.CreateMonitoredItemsRequest(),
            ua.CreateMonitoredItemsResponse,
            ItemsToCreate=[item],
            TimestampsToReturn=both,
            **one,
        ),
        with_ids(
            ua.ModifyMonitoredItemsRequest(),
            ua.ModifyMonitoredItemsResponse,
            ItemsToModify=[changed],
            TimestampsToReturn=both,
            **one,
        ),
        with_ids(ua.DeleteMonitoredItemsRequest(), ua.DeleteMonitoredItemsResponse, MonitoredItemIds=[1], **one),
        with_ids(ua.SetMonitoringModeRequest(), ua.SetMonitoringModeResponse, MonitoredItemIds=[1], **one),
        with_ids(ua.RepublishRequest(), ua.RepublishResponse, RetransmitSequenceNumber=1, **one),
    ]


def code_of(response: Any) -> int:
    """The code of the one operation in a response."""
    results = getattr(response, "Results", None) or response.Parameters.Results
    (result,) = results
    return int(getattr(result, "StatusCode", result).value)


def listen(number: int, place: ua.NodeId, clauses: int = 1) -> ua.CreateMonitoredItemsRequest:
    """An item for events, which selects their Message."""
    message = ua.SimpleAttributeOperand()
    message.TypeDefinitionId = std(ua.ObjectIds.BaseEventType)
    message.BrowsePath = [ua.QualifiedName("Message")]
    message.AttributeId = ua.AttributeIds.Value
    item = ua.MonitoredItemCreateRequest()
    item.ItemToMonitor = ua.ReadValueId(NodeId=place, AttributeId=ua.AttributeIds.EventNotifier)
    item.MonitoringMode = ua.MonitoringMode.Reporting
    item.RequestedParameters.QueueSize = 10
    item.RequestedParameters.Filter = ua.EventFilter(SelectClauses=[message] * clauses)
    request = ua.CreateMonitoredItemsRequest()
    request.Parameters.SubscriptionId = number
    request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
    request.Parameters.ItemsToCreate = [item]
    return request


SERVER = std(ua.ObjectIds.Server)


async def refresh(peer: Peer, number: int) -> int:
    """ConditionRefresh: its status."""
    request = ua.CallRequest()
    call = ua.CallMethodRequest(std(ua.ObjectIds.ConditionType), std(ua.ObjectIds.ConditionType_ConditionRefresh))
    call.InputArguments = [ua.Variant(number, ua.VariantType.UInt32)]
    request.Parameters.MethodsToCall = [call]
    return int((await peer.ask(request, ua.CallResponse)).Results[0].StatusCode.value)
