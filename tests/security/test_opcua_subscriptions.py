"""Subscriptions: each is its session's own; what waits is bounded; what a client asked for is what it gets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.uaerrors import (
    BadEventFilterInvalid,
    BadMessageNotAvailable,
    BadNoSubscription,
    BadSessionClosed,
    BadTooManyPublishRequests,
    BadTooManySubscriptions,
    UaStatusCodeError,
)
from opcua_asks import SERVER, code_of, listen, refresh, requests_for, with_ids
from opcua_house import House, Peer, node, until

from protocols.opcua.surface import Alarm, Change, Doing, Event, Sample

pytestmark = pytest.mark.asyncio(loop_scope="session")

Codes = ua.StatusCodes
KW = node("Feeder/F1/Kw")


def set_kw(house: House, value: float, feeder: int = 1) -> None:
    """A breaker's power changes."""
    house.server.change([Change(f"Feeder/F{feeder}", "Kw", Sample(value))])


def values(result: Any) -> list[tuple[int, Any]]:
    """(client handle, value) of each change in a publish result."""
    return [
        (item.ClientHandle, item.Value.Value.Value)
        for data in result.NotificationMessage.NotificationData or ()
        if isinstance(data, ua.DataChangeNotification)
        for item in data.MonitoredItems
    ]


@pytest.mark.parametrize("which", range(9))
async def test_anothers_subscription_is_not_there(house: House, alice: Peer, mallory: Peer, which: int) -> None:
    """asyncua let any session delete, take over and change any other's subscriptions."""
    await alice.log_in("ola")
    await mallory.log_in("vera")
    set_kw(house, 1.0)
    number = await alice.subscribe(KW)
    await alice.publish()
    request, response = requests_for(number, KW)[which]
    try:
        code = code_of(await mallory.ask(request, response))
    except UaStatusCodeError as error:
        code = error.code
    assert code == Codes.BadSubscriptionIdInvalid
    (deed,) = house.backend.told(Doing.ATTACK)
    assert deed.caller.user == "vera"
    assert f"subscription {number}" in deed.detail
    set_kw(house, 2.0)
    assert values(await alice.publish()) == [(0, 2.0)], "the owner's goes on as before"


async def test_anothers_messages_are_not_acknowledged(house: House, alice: Peer, mallory: Peer) -> None:
    await alice.log_in("ola")
    await mallory.log_in("vera")
    set_kw(house, 3.0)
    number = await alice.subscribe(KW)
    sequence = (await alice.publish()).NotificationMessage.SequenceNumber
    await mallory.subscribe(KW)
    result = await mallory.publish((number, sequence))
    assert [each.value for each in result.Results] == [Codes.BadSubscriptionIdInvalid]
    request, response = with_ids(
        ua.RepublishRequest(), ua.RepublishResponse, SubscriptionId=number, RetransmitSequenceNumber=sequence
    )
    assert (await alice.ask(request, response)).NotificationMessage.SequenceNumber == sequence


async def test_nobody_s_news_goes_to_another_session(house: House, alice: Peer, mallory: Peer) -> None:
    await alice.log_in("ola")
    await mallory.log_in("vera")
    await alice.subscribe(KW)
    with pytest.raises(BadNoSubscription):
        await mallory.publish()


async def test_a_message_is_repeated_until_it_is_acknowledged(house: House, alice: Peer) -> None:
    await alice.log_in()
    set_kw(house, 4.0)
    number = await alice.subscribe(KW)
    first = (await alice.publish()).NotificationMessage
    request, response = with_ids(
        ua.RepublishRequest(),
        ua.RepublishResponse,
        SubscriptionId=number,
        RetransmitSequenceNumber=first.SequenceNumber,
    )
    again = (await alice.ask(request, response)).NotificationMessage
    assert again == first
    set_kw(house, 5.0)
    result = await alice.publish((number, first.SequenceNumber), (number, 999))
    assert [each.value for each in result.Results] == [0, Codes.BadSequenceNumberUnknown]
    with pytest.raises(BadMessageNotAvailable):
        await alice.ask(request, response)


async def test_messages_hold_as_many_notifications_as_the_client_wants(house: House, alice: Peer) -> None:
    """asyncua ignored it."""
    await alice.log_in()
    house.server.change([Change(f"Feeder/F{n}", "Kw", Sample(6.0 + n)) for n in range(30)])
    await alice.subscribe(*[node(f"Feeder/F{n}/Kw") for n in range(30)], MaxNotificationsPerPublish=12)
    results = [await alice.publish() for _ in range(3)]
    assert [len(values(each)) for each in results] == [12, 12, 6]
    assert [each.MoreNotifications for each in results] == [True, True, False]
    assert {each for result in results for each in values(result)} == {(n, 6.0 + n) for n in range(30)}
    assert [each.NotificationMessage.SequenceNumber for each in results] == [1, 2, 3]


async def test_a_queue_that_overflows_says_so(house: House, alice: Peer) -> None:
    await alice.log_in()
    set_kw(house, 0.5)
    number = await alice.subscribe()
    await alice.watch(number, KW, queue=3)
    await alice.publish()
    for value in (10.0, 11.0, 12.0, 13.0, 14.0):
        set_kw(house, value)
        await asyncio.sleep(0)
    result = await alice.publish()
    items = result.NotificationMessage.NotificationData[0].MonitoredItems
    assert [each.Value.Value.Value for each in items] == [12.0, 13.0, 14.0]
    assert [bool(each.Value.StatusCode.value & 0x80) for each in items] == [True, False, False]


async def test_a_queue_is_no_longer_than_the_server_allows(house: House, alice: Peer) -> None:
    await alice.log_in()
    (result,) = await alice.watch(await alice.subscribe(), KW, queue=4_000_000_000)
    assert result.RevisedQueueSize == house.server._door._limits.queue_per_item


@pytest.mark.parametrize("interval", [0.0, -5.0, 1e-9, float("nan"), float("inf"), 1e300])
async def test_no_interval_makes_the_loop_spin_or_sleep_for_ever(house: House, alice: Peer, interval: float) -> None:
    """asyncua took any: 0.000001 ms kept a whole core busy."""
    await alice.log_in()
    request = ua.CreateSubscriptionRequest()
    request.Parameters.RequestedPublishingInterval = interval
    request.Parameters.RequestedLifetimeCount = 4_000_000_000
    request.Parameters.RequestedMaxKeepAliveCount = 4_000_000_000
    revised = (await alice.ask(request, ua.CreateSubscriptionResponse)).Parameters
    assert 50 <= revised.RevisedPublishingInterval <= 60_000
    assert revised.RevisedLifetimeCount * revised.RevisedPublishingInterval <= 3 * 1000 * 60_000
    assert revised.RevisedLifetimeCount >= 3 * revised.RevisedMaxKeepAliveCount


async def test_subscriptions_of_a_session_are_limited(alice: Peer) -> None:
    await alice.log_in()
    for _ in range(4):
        await alice.subscribe()
    with pytest.raises(BadTooManySubscriptions):
        await alice.subscribe()


async def test_monitored_items_of_a_session_are_limited(house: House, alice: Peer) -> None:
    await alice.log_in()
    number = await alice.subscribe()
    for _ in range(2):
        assert all(each.StatusCode.is_good() for each in await alice.watch(number, *[KW] * 100))
    (late,) = await alice.watch(number, KW)
    assert late.StatusCode.value == Codes.BadTooManyMonitoredItems
    assert house.server.sessions()[0].items == 200
    request, response = with_ids(
        ua.DeleteMonitoredItemsRequest(), ua.DeleteMonitoredItemsResponse, SubscriptionId=number, MonitoredItemIds=[1]
    )
    await alice.ask(request, response)
    (fits,) = await alice.watch(number, KW)
    assert fits.StatusCode.is_good()


async def test_publish_requests_that_wait_are_limited(house: House, alice: Peer) -> None:
    await alice.log_in()
    await alice.subscribe()
    await alice.publish()
    flood = [asyncio.ensure_future(alice.publish()) for _ in range(8)]
    await until(lambda: sum(each.done() for each in flood) == 3)
    for each in flood[:3]:
        with pytest.raises(BadTooManyPublishRequests):
            await each
    await alice.ask(ua.CloseSessionRequest(), ua.CloseSessionResponse)
    for each in flood[3:]:
        with pytest.raises((BadNoSubscription, BadSessionClosed)):
            await each


async def test_a_subscription_that_nobody_listens_to_ends(house: House, alice: Peer) -> None:
    await alice.log_in()
    number = await alice.subscribe(KW, RequestedLifetimeCount=3, RequestedMaxKeepAliveCount=1)
    await until(lambda: house.server.sessions()[0].subscriptions == 0)
    assert house.server.sessions()[0].items == 0
    result = await alice.publish()
    assert result.SubscriptionId == number
    (ending,) = result.NotificationMessage.NotificationData
    assert ending.Status.value == Codes.BadTimeout


async def test_nothing_of_a_session_is_left_when_it_is_gone(house: House, alice: Peer) -> None:
    await alice.log_in()
    await alice.subscribe(*[node(f"Feeder/F{n}/Kw") for n in range(50)])
    alice.close()
    await house.settled()
    core = house.server._door._core
    assert (core.items, core.subscriptions, core.sessions, core.backlog.waiting) == (0, {}, {}, 0)
    assert all(entry.watchers is None for entry in house.server._nodes._entries.values())
    set_kw(house, 77.0)


def messages(result: Any) -> list[str]:
    """The Messages of the events in a publish result."""
    data = result.NotificationMessage.NotificationData or ()
    return [each.EventFields[0].Value.Text for part in data for each in getattr(part, "Events", ())]


async def test_an_event_that_a_role_may_not_see_is_not_sent(house: House, alice: Peer, mallory: Peer) -> None:
    for peer, user in ((alice, "sec"), (mallory, "ola")):
        await peer.log_in(user)
        await peer.ask(listen(await peer.subscribe(), SERVER), ua.CreateMonitoredItemsResponse)
        await peer.publish()
    for kind, text in (("SecretEvent", "hush"), ("ShedStarted", "begins")):
        house.server.event(Event(kind, "Feeder/F1", text, 500, 1_700_000_000_000_000))
    assert messages(await alice.publish()) == ["hush", "begins"]
    assert messages(await mallory.publish()) == ["begins"]


async def test_event_filters_are_limited(alice: Peer) -> None:
    await alice.log_in()
    number = await alice.subscribe()
    for clauses in (0, 101):
        response = await alice.ask(listen(number, SERVER, clauses), ua.CreateMonitoredItemsResponse)
        assert response.Results[0].StatusCode.value == BadEventFilterInvalid.code
    response = await alice.ask(listen(number, KW), ua.CreateMonitoredItemsResponse)
    assert response.Results[0].StatusCode.is_bad()


async def test_condition_refresh_is_for_ones_own_subscription_and_now_and_then(
    house: House, alice: Peer, mallory: Peer
) -> None:
    await alice.log_in("ola")
    await mallory.log_in("vera")
    number = await alice.subscribe()
    await alice.ask(listen(number, SERVER), ua.CreateMonitoredItemsResponse)
    await alice.publish()
    house.server.alarm(Alarm("lost/1", "Lost", "Feeder/F1", "lost it", 700, 1_700_000_000_000_000, True, False))
    assert messages(await alice.publish()) == ["lost it"]
    assert await refresh(mallory, number) == Codes.BadSubscriptionIdInvalid
    assert house.backend.told(Doing.ATTACK)[0].caller.user == "vera"
    codes = [await refresh(alice, number) for _ in range(20)]
    assert codes == [0] + [Codes.BadRefreshInProgress] * 19
    assert messages(await alice.publish()).count("lost it") == 1
