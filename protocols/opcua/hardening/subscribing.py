"""The services that make, change and end subscriptions and monitored items. Each finds what is the session's own; what is
another's gives BadSubscriptionIdInvalid, like what isn't there, and is told as an attack."""

from __future__ import annotations

import math
from typing import Any

from asyncua import ua
from asyncua.ua import uaprotocol_auto

from protocols.opcua.hardening import publisher
from protocols.opcua.hardening.attributes import times_of
from protocols.opcua.hardening.core import Core, Request, count
from protocols.opcua.hardening.errors import UaStatusCodeError, bad, fault
from protocols.opcua.hardening.session import Session
from protocols.opcua.hardening.subscription import Item, Subscription


async def create_subscription(core: Core, request: Request, parameters: Any) -> Any:
    """A new subscription of this session."""
    session = request.session
    if len(session.subscriptions) >= core.limits.subscriptions_per_session:
        raise fault(ua.StatusCodes.BadTooManySubscriptions)
    core.subscription_counter += 1
    subscription = Subscription(core.subscription_counter, session, core.limits, core.backlog)
    subscription.revise(parameters)
    subscription.enabled = bool(parameters.PublishingEnabled)
    session.subscriptions[subscription.id] = subscription
    core.subscriptions[subscription.id] = session
    publisher.start(core, subscription)
    response = ua.CreateSubscriptionResponse()
    response.Parameters.SubscriptionId = subscription.id
    response.Parameters.RevisedPublishingInterval = subscription.interval_ms
    response.Parameters.RevisedLifetimeCount = subscription.lifetime
    response.Parameters.RevisedMaxKeepAliveCount = subscription.keep_alive
    return response


def own(core: Core, session: Session, subscription_id: int, what: str) -> Subscription:
    """The session's subscription. Errors: BadSubscriptionIdInvalid."""
    subscription = session.subscriptions.get(subscription_id)
    if subscription is None:
        core.foreign(session, subscription_id, what)
        raise fault(ua.StatusCodes.BadSubscriptionIdInvalid)
    return subscription


async def modify_subscription(core: Core, request: Request, parameters: Any) -> Any:
    """Other intervals and counts."""
    subscription = own(core, request.session, parameters.SubscriptionId, "changing")
    subscription.revise(parameters)
    if subscription.timer is not None:
        subscription.timer.cancel()
    publisher.start(core, subscription)
    response = ua.ModifySubscriptionResponse()
    response.Parameters.RevisedPublishingInterval = subscription.interval_ms
    response.Parameters.RevisedLifetimeCount = subscription.lifetime
    response.Parameters.RevisedMaxKeepAliveCount = subscription.keep_alive
    return response


async def set_publishing_mode(core: Core, request: Request, parameters: Any) -> Any:
    """Publishing on or off."""
    response = ua.SetPublishingModeResponse()
    results = []
    for subscription_id in count(parameters.SubscriptionIds, core.limits.nodes_per_read):
        subscription = request.session.subscriptions.get(subscription_id)
        if subscription is None:
            core.foreign(request.session, subscription_id, "switching")
            results.append(bad(ua.StatusCodes.BadSubscriptionIdInvalid))
        else:
            subscription.enabled = bool(parameters.PublishingEnabled)
            results.append(ua.StatusCode())
    response.Parameters.Results = results
    return response


async def delete_subscriptions(core: Core, request: Request, parameters: Any) -> Any:
    """End subscriptions of this session."""
    response = ua.DeleteSubscriptionsResponse()
    session = request.session
    for subscription_id in count(parameters.SubscriptionIds, core.limits.nodes_per_read):
        subscription = session.subscriptions.get(subscription_id)
        if subscription is None:
            core.foreign(session, subscription_id, "deleting")
            response.Results.append(bad(ua.StatusCodes.BadSubscriptionIdInvalid))
        else:
            publisher.drop(core, subscription)
            response.Results.append(ua.StatusCode())
    return response


async def transfer_subscriptions(core: Core, request: Request, parameters: Any) -> Any:
    """A subscription stays with the session that made it: there is none to be had from others."""
    response = ua.TransferSubscriptionsResponse()
    results = []
    for subscription_id in count(parameters.SubscriptionIds, core.limits.nodes_per_read):
        core.foreign(request.session, subscription_id, "taking over")
        results.append(ua.TransferResult(StatusCode=bad(ua.StatusCodes.BadSubscriptionIdInvalid)))
    response.Parameters.Results = results
    return response


async def create_items(core: Core, request: Request, parameters: Any) -> Any:
    """Watch values and events."""
    session = request.session
    subscription = own(core, session, parameters.SubscriptionId, "adding items")
    times = times_of(parameters.TimestampsToReturn)
    response = ua.CreateMonitoredItemsResponse()
    for index, wanted in enumerate(count(parameters.ItemsToCreate, core.limits.items_per_call)):
        result = ua.MonitoredItemCreateResult()
        try:
            item = _create(core, session, subscription, wanted, times)
            result.MonitoredItemId = item.id
            result.RevisedSamplingInterval = subscription.interval_ms
            result.RevisedQueueSize = item.size
        except UaStatusCodeError as error:
            result.StatusCode = bad(error.code)
        response.Results.append(result)
        await core.slice(index)
        if subscription.closed:
            raise fault(ua.StatusCodes.BadSubscriptionIdInvalid)
    return response


def _create(
    core: Core, session: Session, subscription: Subscription, wanted: Any, times: ua.TimestampsToReturn
) -> Item:
    limits = core.limits
    if session.items >= limits.items_per_session or core.items >= limits.items_total:
        raise fault(ua.StatusCodes.BadTooManyMonitoredItems)
    place = wanted.ItemToMonitor
    node = core.space.get(place.NodeId)
    if node is None:
        raise fault(ua.StatusCodes.BadNodeIdUnknown)
    if place.AttributeId not in node.attributes:
        raise fault(ua.StatusCodes.BadAttributeIdInvalid)
    if place.IndexRange:
        raise fault(ua.StatusCodes.BadIndexRangeInvalid)
    if place.DataEncoding is not None and place.DataEncoding.Name not in (None, "", "Default Binary"):
        raise fault(ua.StatusCodes.BadDataEncodingInvalid)
    item = subscription.new_item(place.NodeId, times)
    item.attribute = place.AttributeId
    if place.AttributeId == ua.AttributeIds.EventNotifier:
        _configure(core, item, wanted.RequestedParameters, True)
        _for_events(core, subscription, item)
    else:
        if place.AttributeId == ua.AttributeIds.Value and not core.may_read(session, place.NodeId):
            raise fault(ua.StatusCodes.BadUserAccessDenied)
        _configure(core, item, wanted.RequestedParameters, False)
        item.end = core.space.watch_cell(node.attributes[place.AttributeId], item.put)
    item.mode = _mode(wanted.MonitoringMode)
    subscription.add(item)
    core.items += 1
    if item.where is None:
        item.put(core.space.shown(node.attributes[place.AttributeId], place.NodeId, place.AttributeId))
    return item


def _mode(mode: Any) -> ua.MonitoringMode:
    try:
        return ua.MonitoringMode(mode)
    except ValueError as error:
        raise fault(ua.StatusCodes.BadMonitoringModeInvalid) from error


def _for_events(core: Core, subscription: Subscription, item: Item) -> None:
    notifier = core.space.read_attribute_value(item.node, ua.AttributeIds.EventNotifier).Value
    value = notifier.Value if notifier is not None else 0
    if not isinstance(value, int) or not value & 1:
        raise fault(ua.StatusCodes.BadNotSupported)
    subscription.event_items[item.id] = item


def _configure(core: Core, item: Item, parameters: Any, events: bool) -> None:
    """Take the filter and the queue of a create or modify request."""
    wanted = parameters.Filter
    empty = wanted is None or (isinstance(wanted, ua.ExtensionObject) and wanted.TypeId.is_null())
    if events:
        _event_filter(core, item, None if empty else wanted)
    elif empty:
        item.trigger, item.deadband = ua.DataChangeTrigger.StatusValue, 0.0
    elif isinstance(wanted, uaprotocol_auto.DataChangeFilter):
        _data_filter(item, wanted)
    else:
        raise fault(ua.StatusCodes.BadMonitoredItemFilterUnsupported)
    most = core.limits.queue_per_item * (10 if events else 1)
    asked = int(parameters.QueueSize)
    item.size = min(max(asked, 1), most) if asked or not events else most
    item.discard_oldest = bool(parameters.DiscardOldest)
    item.handle = int(parameters.ClientHandle)
    while len(item.queue) > item.size:
        item.pop()


def _event_filter(core: Core, item: Item, wanted: Any) -> None:
    if not isinstance(wanted, ua.EventFilter):
        raise fault(ua.StatusCodes.BadEventFilterInvalid)
    select = wanted.SelectClauses or []
    where = wanted.WhereClause.Elements or [] if wanted.WhereClause is not None else []
    if not select or len(select) > core.limits.select_clauses or len(where) > core.limits.filter_elements:
        raise fault(ua.StatusCodes.BadEventFilterInvalid)
    item.where = core.services.where(wanted)
    item.select = tuple(select)


def _data_filter(item: Item, wanted: Any) -> None:
    if wanted.DeadbandType not in (ua.DeadbandType.None_, ua.DeadbandType.Absolute):
        raise fault(ua.StatusCodes.BadMonitoredItemFilterUnsupported)
    deadband = float(wanted.DeadbandValue) if wanted.DeadbandType == ua.DeadbandType.Absolute else 0.0
    if not math.isfinite(deadband) or deadband < 0:
        raise fault(ua.StatusCodes.BadDeadbandFilterInvalid)
    try:
        item.trigger = ua.DataChangeTrigger(wanted.Trigger)
    except ValueError as error:
        raise fault(ua.StatusCodes.BadMonitoredItemFilterInvalid) from error
    item.deadband = deadband


async def modify_items(core: Core, request: Request, parameters: Any) -> Any:
    """Other filters and queues."""
    subscription = own(core, request.session, parameters.SubscriptionId, "changing items")
    times = times_of(parameters.TimestampsToReturn)
    response = ua.ModifyMonitoredItemsResponse()
    for index, wanted in enumerate(count(parameters.ItemsToModify, core.limits.items_per_call)):
        result = ua.MonitoredItemModifyResult()
        item = subscription.items.get(wanted.MonitoredItemId)
        try:
            if item is None:
                raise fault(ua.StatusCodes.BadMonitoredItemIdInvalid)
            _configure(core, item, wanted.RequestedParameters, item.where is not None)
            item.times = times
            result.RevisedSamplingInterval = subscription.interval_ms
            result.RevisedQueueSize = item.size
        except UaStatusCodeError as error:
            result.StatusCode = bad(error.code)
        response.Results.append(result)
        await core.slice(index)
    return response


async def delete_items(core: Core, request: Request, parameters: Any) -> Any:
    """Watch no longer."""
    subscription = own(core, request.session, parameters.SubscriptionId, "deleting items")
    response = ua.DeleteMonitoredItemsResponse()
    for index, item_id in enumerate(count(parameters.MonitoredItemIds, core.limits.items_per_session)):
        if subscription.remove(item_id):
            core.items -= 1
            response.Results.append(ua.StatusCode())
        else:
            response.Results.append(bad(ua.StatusCodes.BadMonitoredItemIdInvalid))
        await core.slice(index)
    return response


async def set_monitoring_mode(core: Core, request: Request, parameters: Any) -> Any:
    """Disabled, sampling or reporting."""
    subscription = own(core, request.session, parameters.SubscriptionId, "switching items")
    mode = _mode(parameters.MonitoringMode)
    response = ua.SetMonitoringModeResponse()
    results = []
    for index, item_id in enumerate(count(parameters.MonitoredItemIds, core.limits.items_per_session)):
        item = subscription.items.get(item_id)
        if item is None:
            results.append(bad(ua.StatusCodes.BadMonitoredItemIdInvalid))
        else:
            was_off = item.mode == ua.MonitoringMode.Disabled
            subscription.set_mode(item, mode)
            if was_off and mode != ua.MonitoringMode.Disabled and item.where is None:
                item.put(core.space.read_attribute_value(item.node, item.attribute))
            results.append(ua.StatusCode())
        await core.slice(index)
    response.Parameters.Results = results
    return response
