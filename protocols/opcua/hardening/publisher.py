"""Publish: when a subscription has something to say and its session has a Publish request waiting, they meet here.

A subscription's timer looks once an interval. With news (or a keep-alive due) and a request it sends, at its turn at the
gate; without a request it is noted as late and is served by the next one. Publish requests that nobody serves in time
time out, and only so many wait.
"""

from __future__ import annotations

import asyncio
from typing import Any

from asyncua import ua

from protocols.opcua.hardening.core import Core, Request
from protocols.opcua.hardening.errors import bad, fault
from protocols.opcua.hardening.session import PublishRequest, Session
from protocols.opcua.hardening.subscription import Subscription


def start(core: Core, subscription: Subscription) -> None:
    """Begin to look at the subscription once an interval."""
    subscription.served_at = asyncio.get_running_loop().time()
    _later(core, subscription)


def _later(core: Core, subscription: Subscription) -> None:
    delay = subscription.interval_ms / 1000
    subscription.timer = asyncio.get_running_loop().call_later(delay, _tick, core, subscription)


def _tick(core: Core, subscription: Subscription) -> None:
    if subscription.closed:
        return
    _later(core, subscription)
    _time_out(core, subscription.session)
    waited = asyncio.get_running_loop().time() - subscription.served_at
    if waited > subscription.lifetime * subscription.interval_ms / 1000:
        _expire(core, subscription)
        return
    subscription.quiet_cycles += 1
    if subscription.first or subscription.has_news or subscription.quiet_cycles >= subscription.keep_alive:
        core.gate.soon(lambda: _serve(core, subscription))


def _expire(core: Core, subscription: Subscription) -> None:
    """Nobody asked for its news for a lifetime: it ends, and the client is told with its next Publish."""
    message = ua.NotificationMessage()
    message.SequenceNumber = subscription.sequence
    message.NotificationData.append(ua.StatusChangeNotification(Status=bad(ua.StatusCodes.BadTimeout)))
    subscription.session.endings.append(ua.PublishResult(SubscriptionId=subscription.id, NotificationMessage=message))
    drop(core, subscription)


def drop(core: Core, subscription: Subscription) -> None:
    """End a subscription."""
    session = subscription.session
    core.items -= len(subscription.items)
    subscription.close()
    session.subscriptions.pop(subscription.id, None)
    session.late.pop(subscription.id, None)
    core.subscriptions.pop(subscription.id, None)
    if not session.subscriptions:
        abandon(core, session, ua.StatusCodes.BadNoSubscription)


def abandon(core: Core, session: Session, code: int) -> None:
    """Answer every Publish request that waits with this code: nothing will come any more."""
    while session.publishing:
        _fault(core, session, session.publishing.popleft(), code)


def _time_out(core: Core, session: Session) -> None:
    """Publish requests whose time is over get BadTimeout."""
    now = asyncio.get_running_loop().time()
    for _ in range(len(session.publishing)):
        request = session.publishing.popleft()
        if request.gives_up and request.gives_up < now:
            _fault(core, session, request, ua.StatusCodes.BadTimeout)
        else:
            session.publishing.append(request)


def _fault(core: Core, session: Session, request: PublishRequest, code: int) -> None:
    response = ua.ServiceFault()
    response.ResponseHeader.ServiceResult = bad(code)
    _send(core, session, response, request)


def _send(core: Core, session: Session, response: Any, request: PublishRequest) -> None:
    send = core.sending.get(session.id)
    if send is not None:
        send(response, request.handle, request.request_id)


def _serve(core: Core, subscription: Subscription) -> None:
    """Send one message, if there is a request for it."""
    session = subscription.session
    if subscription.closed or not session.active:
        return
    due = subscription.first or subscription.has_news or subscription.quiet_cycles >= subscription.keep_alive
    if not due:
        return
    if not session.publishing:
        session.late[subscription.id] = None
        return
    session.late.pop(subscription.id, None)
    request = session.publishing.popleft()
    message, more = subscription.message(core.now())
    subscription.first = False
    subscription.quiet_cycles = 0
    subscription.served_at = asyncio.get_running_loop().time()
    result = ua.PublishResult()
    result.SubscriptionId = subscription.id
    result.NotificationMessage = message
    result.AvailableSequenceNumbers = list(subscription.sent)
    result.MoreNotifications = more
    result.Results = request.results
    response = ua.PublishResponse()
    response.Parameters = result
    _send(core, session, response, request)
    if more:
        core.gate.soon(lambda: _serve(core, subscription))


async def publish(core: Core, request: Request, parameters: Any) -> Any:
    """A Publish request: acknowledges, then waits for news. The answer comes by ``_serve``."""
    session = request.session
    acknowledged = parameters.SubscriptionAcknowledgements or []
    if len(acknowledged) > core.limits.nodes_per_read:
        raise fault(ua.StatusCodes.BadTooManyOperations)
    results = [_acknowledge(core, session, entry) for entry in acknowledged]
    waiting = PublishRequest(request.handle, request.request_id, results, request.gives_up)
    if session.endings:
        ended = session.endings.popleft()
        ended.Results = results
        response = ua.PublishResponse()
        response.Parameters = ended
        return response
    if not session.subscriptions:
        raise fault(ua.StatusCodes.BadNoSubscription)
    _time_out(core, session)
    if len(session.publishing) >= core.limits.publish_requests:
        _fault(core, session, session.publishing.popleft(), ua.StatusCodes.BadTooManyPublishRequests)
    session.publishing.append(waiting)
    while session.late and session.publishing:
        late = session.subscriptions.get(next(iter(session.late)))
        if late is None:
            session.late.pop(next(iter(session.late)))
            continue
        del session.late[late.id]
        _serve(core, late)
    return None


def _acknowledge(core: Core, session: Session, entry: Any) -> ua.StatusCode:
    subscription = session.subscriptions.get(entry.SubscriptionId)
    if subscription is None:
        core.foreign(session, entry.SubscriptionId, "acknowledging messages")
        return bad(ua.StatusCodes.BadSubscriptionIdInvalid)
    if subscription.sent.pop(entry.SequenceNumber, None) is None:
        return bad(ua.StatusCodes.BadSequenceNumberUnknown)
    return ua.StatusCode()


async def republish(core: Core, request: Request, parameters: Any) -> Any:
    """A message once more."""
    subscription = request.session.subscriptions.get(parameters.SubscriptionId)
    if subscription is None:
        core.foreign(request.session, parameters.SubscriptionId, "repeating messages")
        raise fault(ua.StatusCodes.BadSubscriptionIdInvalid)
    message = subscription.sent.get(parameters.RetransmitSequenceNumber)
    if message is None:
        raise fault(ua.StatusCodes.BadMessageNotAvailable)
    response = ua.RepublishResponse()
    response.NotificationMessage = message
    return response
