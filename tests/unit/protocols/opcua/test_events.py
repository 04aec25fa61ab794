"""Events, alarms and their history over a real socket, with asyncua's client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from asyncua import Client, ua
from surface_house import House, house
from surface_site import T0, Gateway, failed, shed, small_site

from protocols.opcua.surface import Answer, Sample, Status

pytestmark = pytest.mark.asyncio(loop_scope="module")
N = 2
SECOND = 1_000_000
SHED_TYPE = ua.NodeId("Type/ShedEventType", N)
ALARM_TYPE = ua.NodeId("Type/BreakerFailedAlarmType", N)
ACKNOWLEDGE = ua.NodeId(ua.ObjectIds.AcknowledgeableConditionType_Acknowledge)
REFRESH = ua.NodeId(ua.ObjectIds.ConditionType_ConditionRefresh)
CONDITION_TYPE = ua.NodeId(ua.ObjectIds.ConditionType)
SERVER = ua.NodeId(ua.ObjectIds.Server)
STANDARD = ("EventId", "EventType", "SourceNode", "SourceName", "Time", "ReceiveTime", "Message", "Severity")
CONDITION = ("Retain", "ActiveState/Id", "AckedState/Id", "ConditionName", "EnabledState/Id", "Comment", "ClientUserId")


@pytest.fixture(scope="module")
def gateway() -> Gateway:
    return Gateway()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with house(tmp_path_factory.mktemp("site"), small_site(), gateway, "127.0.62.2") as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(site: House) -> AsyncIterator[Client]:
    async with site.client() as made:
        yield made


def clause(path: str) -> ua.SimpleAttributeOperand:
    names = [ua.QualifiedName(name, N if name in ("Tier", "Feeder") else 0) for name in path.split("/")]
    return ua.SimpleAttributeOperand(ua.NodeId(ua.ObjectIds.BaseEventType), names, ua.AttributeIds.Value)


def event_filter(paths: tuple[str, ...], *where: ua.ContentFilterElement) -> ua.EventFilter:
    condition_id = ua.SimpleAttributeOperand(CONDITION_TYPE, [], ua.AttributeIds.NodeId)
    clauses = [*(clause(path) for path in paths), condition_id]
    return ua.EventFilter(SelectClauses=clauses, WhereClause=ua.ContentFilter(Elements=list(where)))


class Heard:
    """Events as a subscription tells them: dictionaries of fields."""

    def __init__(self) -> None:
        self.events: list[dict[str, object]] = []
        self.changed = asyncio.Event()

    def event_notification(self, event: object) -> None:
        fields = event.get_event_props_as_fields_dict()  # type: ignore[attr-defined]
        self.events.append({name: variant.Value for name, variant in fields.items()})
        self.changed.set()

    async def until(self, count: int) -> list[dict[str, object]]:
        async with asyncio.timeout(10):
            while len(self.events) < count:
                self.changed.clear()
                await self.changed.wait()
        return self.events


@pytest_asyncio.fixture(loop_scope="module")
async def listen(client: Client):  # type: ignore[no-untyped-def]
    """Subscribe to events at a node: gives what is heard, and the subscription."""
    subscriptions = []

    async def start(at: ua.NodeId = SERVER, *where: ua.ContentFilterElement) -> Heard:
        heard = Heard()
        subscription = await client.create_subscription(50, heard)
        subscriptions.append(subscription)
        wanted = event_filter((*STANDARD, *CONDITION, "Tier", "Feeder"), *where)
        await subscription.subscribe_events(at, evfilter=wanted)
        heard.subscription = subscription  # type: ignore[attr-defined]
        return heard

    yield start
    for each in subscriptions:
        await each.delete()


async def test_an_event_carries_the_standard_fields_and_its_own(site: House, listen) -> None:  # type: ignore[no-untyped-def]
    heard = await listen()
    site.server.event(shed("2", source="Feeder/F1"))
    (event,) = await heard.until(1)
    assert event["EventType"] == SHED_TYPE
    assert (event["SourceNode"], event["SourceName"]) == (site.node_id("Feeder/F1"), "F1")
    assert event["Time"] == datetime.fromtimestamp(T0 / 1e6, UTC)
    assert (event["Message"].Text, event["Severity"], event["Tier"]) == ("tier 2 is being shed", 500, "2")
    assert len(event["EventId"]) == 16
    assert event["Retain"] is None, "an event is no condition"


async def test_an_event_is_heard_at_its_source_at_what_that_stands_below_and_at_the_server_and_nowhere_else(
    site: House,
    listen,  # type: ignore[no-untyped-def]
) -> None:
    near = [await listen(site.node_id(key)) for key in ("Feeder/F1", "Feeders/1", "Feeders")] + [await listen()]
    far = [await listen(site.node_id(key)) for key in ("Feeder/F2", "Gateway", "Orchestrations")]
    site.server.event(shed("1", source="Feeder/F1"))
    for heard in near:
        assert len(await heard.until(1)) == 1
    site.server.event(shed("9", source="Gone/Long/Ago"))
    assert len(await near[-1].until(2)) == 2
    assert [each.events for each in far] == [[], [], []]
    assert len(near[0].events) == 1


async def test_a_client_chooses_by_type_and_severity(site: House, listen) -> None:  # type: ignore[no-untyped-def]
    of_type = ua.ContentFilterElement(
        FilterOperator=ua.FilterOperator.OfType,
        FilterOperands=[ua.LiteralOperand(Value=ua.Variant(ua.NodeId(ua.ObjectIds.AlarmConditionType)))],
    )
    severe = ua.ContentFilterElement(
        FilterOperator=ua.FilterOperator.GreaterThanOrEqual,
        FilterOperands=[clause("Severity"), ua.LiteralOperand(Value=ua.Variant(600, ua.VariantType.UInt16))],
    )
    alarms, urgent, everything = await listen(SERVER, of_type), await listen(SERVER, severe), await listen()
    site.server.event(shed("1"))
    site.server.alarm(failed("F1"))
    site.server.alarm(failed("F1", active=False, acked=True))
    await everything.until(3)
    for heard in (alarms, urgent):
        assert [each["EventType"] for each in await heard.until(2)] == [ALARM_TYPE, ALARM_TYPE]


async def test_a_filter_that_can_not_be_worked_out_is_refused(client: Client) -> None:
    subscription = await client.create_subscription(50, Heard())
    bad = ua.ContentFilterElement(FilterOperator=ua.FilterOperator.Not, FilterOperands=[ua.ElementOperand(Index=0)])
    with pytest.raises(ua.UaStatusCodeError):
        await subscription.subscribe_events(ua.ObjectIds.Server, evfilter=event_filter(STANDARD, bad))
    await subscription.delete()


async def test_the_librarys_own_filter_with_all_fields_of_a_type_works(client: Client, site: House) -> None:
    heard = Heard()
    subscription = await client.create_subscription(50, heard)
    await subscription.subscribe_alarms_and_conditions(ua.ObjectIds.Server, ALARM_TYPE)
    site.server.event(shed("1"))
    site.server.alarm(failed("F2", at=T0 + SECOND))
    (event,) = await heard.until(1)
    assert (event["Feeder"], event["ActiveState/Id"], event["NodeId"]) == (
        "F2",
        True,
        site.node_id("Alarm/breaker_failed/F2"),
    )
    site.server.alarm(failed("F2", False, True, T0 + 2 * SECOND))
    await subscription.delete()


async def acknowledge(
    client: Client, condition: object, event_id: object, comment: str = "seen"
) -> ua.CallMethodResult:
    request = ua.CallMethodRequest(
        ObjectId=condition,
        MethodId=ACKNOWLEDGE,
        InputArguments=[
            ua.Variant(event_id, ua.VariantType.ByteString),
            ua.Variant(ua.LocalizedText(comment), ua.VariantType.LocalizedText),
        ],
    )
    return (await client.uaclient.call([request]))[0]


async def test_an_alarm_is_a_condition_that_is_acknowledged_by_the_id_of_its_event(
    client: Client,
    site: House,
    gateway: Gateway,
    listen,  # type: ignore[no-untyped-def]
) -> None:
    heard = await listen()
    site.server.alarm(failed("F1", at=T0 + 10 * SECOND))
    (raised,) = await heard.until(1)
    assert (raised["ActiveState/Id"], raised["AckedState/Id"], raised["Retain"]) == (True, False, True)
    condition = raised["NodeId"]
    assert condition == site.node_id("Alarm/breaker_failed/F1")

    for wrong_condition, event, code in (
        (site.node_id("Alarm/breaker_failed/F9"), raised["EventId"], "BadNodeIdUnknown"),
        (site.node_id("Feeder/F1"), raised["EventId"], "BadNodeIdUnknown"),
        (condition, b"0" * 16, "BadEventIdUnknown"),
    ):
        assert (await acknowledge(client, wrong_condition, event)).StatusCode.name == code
    assert gateway.acknowledged == []

    assert (await acknowledge(client, condition, raised["EventId"], "looked at it")).StatusCode.is_good()
    assert gateway.acknowledged == [("anna", "breaker_failed/F1", "looked at it")]
    site.server.alarm(failed("F1", acked=True, by="anna", at=T0 + 11 * SECOND))
    acked = (await heard.until(2))[1]
    assert (acked["AckedState/Id"], acked["Retain"], acked["ClientUserId"]) == (True, True, "anna")
    again = await acknowledge(client, condition, acked["EventId"])
    assert again.StatusCode.name == "BadConditionBranchAlreadyAcked"

    site.server.alarm(failed("F1", False, True, T0 + 12 * SECOND))
    over = (await heard.until(3))[2]
    assert (over["ActiveState/Id"], over["Retain"]) == (False, False)
    assert (await acknowledge(client, condition, over["EventId"])).StatusCode.name == "BadNodeIdUnknown"


async def test_the_gateways_refusal_of_an_acknowledgement_is_what_the_client_gets(
    client: Client,
    site: House,
    gateway: Gateway,
    listen,  # type: ignore[no-untyped-def]
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def denied(*_: object) -> Answer:
        return Answer(Status.DENIED, "vera may only look.")

    monkeypatch.setattr(gateway, "acknowledge", denied)
    heard = await listen()
    site.server.alarm(failed("F1", at=T0 + 20 * SECOND))
    (raised,) = await heard.until(1)
    result = await acknowledge(client, raised["NodeId"], raised["EventId"])
    assert (result.StatusCode.name, result.OutputArguments[0].Value) == ("BadUserAccessDenied", "vera may only look.")
    site.server.alarm(failed("F1", False, True, T0 + 21 * SECOND))


async def test_a_refresh_tells_what_is_not_settled_between_its_start_and_end(
    client: Client,
    site: House,
    listen,  # type: ignore[no-untyped-def]
) -> None:
    site.server.alarm(failed("F1", at=T0 + 30 * SECOND))
    site.server.alarm(failed("F2", active=False, at=T0 + 31 * SECOND))
    await asyncio.sleep(0.05)
    heard, other = await listen(), await listen()
    subscription = heard.subscription.subscription_id
    argument = ua.Variant(subscription, ua.VariantType.UInt32)
    result = (await client.uaclient.call([ua.CallMethodRequest(CONDITION_TYPE, REFRESH, [argument])]))[0]
    assert result.StatusCode.is_good()
    events = await heard.until(4)
    assert [each["EventType"] for each in (events[0], events[-1])] == [
        ua.NodeId(ua.ObjectIds.RefreshStartEventType),
        ua.NodeId(ua.ObjectIds.RefreshEndEventType),
    ]
    assert [(each["Feeder"], each["Retain"]) for each in events[1:-1]] == [("F1", True), ("F2", True)]
    assert (await acknowledge(client, events[1]["NodeId"], events[1]["EventId"])).StatusCode.is_good()
    assert other.events == [], "a refresh is for the subscription that asked"
    result = (await client.uaclient.call([ua.CallMethodRequest(CONDITION_TYPE, REFRESH, [argument])]))[0]
    assert result.StatusCode.name == "BadRefreshInProgress"
    for feeder in ("F1", "F2"):
        site.server.alarm(failed(feeder, False, True, T0 + 33 * SECOND))


async def test_a_refresh_of_more_alarms_than_fit_into_the_clients_queue_loses_none(client: Client, site: House) -> None:
    for number in range(300):
        site.server.alarm(failed(f"X{number}", at=T0 + number))
    await asyncio.sleep(1.0)  # a refresh is answered once a second
    heard = Heard()
    subscription = await client.create_subscription(50, heard)
    await subscription.subscribe_events(SERVER, evfilter=event_filter(("Feeder",)), queuesize=50)
    argument = ua.Variant(subscription.subscription_id, ua.VariantType.UInt32)
    result = (await client.uaclient.call([ua.CallMethodRequest(CONDITION_TYPE, REFRESH, [argument])]))[0]
    assert result.StatusCode.is_good()
    events = await heard.until(302)
    assert [each["Feeder"] for each in events[1:-1]] == [f"X{number}" for number in range(300)]
    for number in range(300):
        site.server.alarm(failed(f"X{number}", False, True, at=T0 + 1000))
    await subscription.delete()


async def test_nobody_refreshes_another_sessions_subscription(
    client: Client,
    site: House,
    listen,  # type: ignore[no-untyped-def]
) -> None:
    heard = await listen()
    argument = ua.Variant(heard.subscription.subscription_id, ua.VariantType.UInt32)
    async with site.client("vera") as vera:
        result = (await vera.uaclient.call([ua.CallMethodRequest(CONDITION_TYPE, REFRESH, [argument])]))[0]
    assert result.StatusCode.name == "BadSubscriptionIdInvalid"


async def test_who_may_not_see_a_type_of_events_hears_none(
    site: House,
    gateway: Gateway,
    listen,  # type: ignore[no-untyped-def]
) -> None:
    heard = await listen()
    gateway.unseen = {"ShedEventType"}
    site.server.event(shed("1"))
    await asyncio.sleep(0.05)
    gateway.unseen = set()
    site.server.event(shed("2"))
    assert [each["Tier"] for each in await heard.until(1)] == ["2"]


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(T0 / 1e6, UTC) + timedelta(seconds=seconds)


async def test_past_values_are_read_forwards_and_backwards(client: Client, site: House, gateway: Gateway) -> None:
    gateway.past = [Sample(float(n), time_us=T0 + n * SECOND) for n in range(10)]
    kw = client.get_node(site.node_id("Feeder/F1/Kw"))
    assert [each.Value.Value for each in await kw.read_raw_history(at(2), at(5))] == [2.0, 3.0, 4.0, 5.0]
    assert [each.Value.Value for each in await kw.read_raw_history(at(5), at(2))] == [5.0, 4.0, 3.0, 2.0]
    assert [each.Value.Value for each in await kw.read_raw_history(at(4), None, 3)] == [4.0, 5.0, 6.0]
    assert [each.Value.Value for each in await kw.read_raw_history(None, at(4), 3)] == [4.0, 3.0, 2.0]
    (value,) = await kw.read_raw_history(at(7), at(7))
    assert (value.StatusCode.name, value.SourceTimestamp) == ("Good", at(7))


async def test_long_histories_come_in_pages_whose_points_work_once_and_for_their_session_alone(
    client: Client, site: House, gateway: Gateway
) -> None:
    gateway.past = [Sample(float(n), time_us=T0 + n * SECOND) for n in range(4500)]
    kw = client.get_node(site.node_id("Feeder/F1/Kw"))
    assert len(await kw.read_raw_history(at(0), at(5000))) == 4500

    details = ua.ReadRawModifiedDetails(False, at(0), at(5000), 10, False)
    first = await kw.history_read(details)
    assert len(first.HistoryData.DataValues) == 10
    point = first.ContinuationPoint
    async with site.client("vera") as vera:
        stolen = await vera.get_node(kw.nodeid).history_read(details, point)
        assert stolen.StatusCode.name == "BadContinuationPointInvalid"
    second = await kw.history_read(details, point)
    assert second.HistoryData.DataValues[0].Value.Value == 10.0
    assert (await kw.history_read(details, point)).StatusCode.name == "BadContinuationPointInvalid"

    for _ in range(25):
        assert (await kw.history_read(details)).StatusCode.is_good(), "old points make room"
    release = ua.HistoryReadParameters(details, ua.TimestampsToReturn.Both, True, [])
    last = await kw.history_read(details)
    release.NodesToRead.append(ua.HistoryReadValueId(kw.nodeid, "", ContinuationPoint=last.ContinuationPoint))
    (released,) = await client.uaclient.history_read(release)
    assert released.StatusCode.is_good()
    assert (await kw.history_read(details, last.ContinuationPoint)).StatusCode.name == "BadContinuationPointInvalid"


async def test_what_has_no_history_or_may_not_be_read_says_so(client: Client, site: House, gateway: Gateway) -> None:
    details = ua.ReadRawModifiedDetails(False, at(0), at(10), 0, False)
    for key, code in (
        ("Feeder/F1/Loc", "BadHistoryOperationUnsupported"),
        ("Feeder/F1", "BadHistoryOperationUnsupported"),
        ("Feeder/F9/Kw", "BadNodeIdUnknown"),
    ):
        assert (await client.get_node(site.node_id(key)).history_read(details)).StatusCode.name == code
    kw = client.get_node(site.node_id("Feeder/F1/Kw"))
    modified = ua.ReadRawModifiedDetails(True, at(0), at(10), 0, False)
    assert (await kw.history_read(modified)).StatusCode.name == "BadHistoryOperationUnsupported"
    nothing = ua.ReadRawModifiedDetails(False, ua.get_win_epoch(), at(10), 0, False)
    assert (await kw.history_read(nothing)).StatusCode.name == "BadInvalidTimestampArgument"
    gateway.unreadable = {"Kw"}
    assert (await kw.history_read(details)).StatusCode.name == "BadUserAccessDenied"
    gateway.unreadable = set()


async def test_the_server_says_what_history_it_offers(client: Client) -> None:
    for name, value in (("AccessHistoryData", True), ("AccessHistoryEvents", True), ("UpdateData", False)):
        number = getattr(ua.ObjectIds, f"HistoryServerCapabilities_{name}Capability")
        assert await client.get_node(ua.NodeId(number)).read_value() is value
    assert {
        ua.EventNotifier.SubscribeToEvents,
        ua.EventNotifier.HistoryRead,
    } == await client.nodes.server.read_event_notifier()


async def test_past_events_are_read_at_the_server_with_the_same_ids_as_they_were_told_with(
    client: Client,
    site: House,
    gateway: Gateway,
    listen,  # type: ignore[no-untyped-def]
) -> None:
    heard = await listen()
    gateway.past_events = [shed(str(n % 3), T0 + n * SECOND) for n in range(30)]
    site.server.event(gateway.past_events[4])
    (live,) = await heard.until(1)
    is_one = ua.ContentFilterElement(
        FilterOperator=ua.FilterOperator.Equals,
        FilterOperands=[clause("Tier"), ua.LiteralOperand(Value=ua.Variant("1", ua.VariantType.String))],
    )
    details = ua.ReadEventDetails(0, at(0), at(100), event_filter(("EventId", "Tier"), is_one))
    result = await client.nodes.server.history_read_events(details)
    found = [[field.Value for field in each.EventFields] for each in result.HistoryData.Events]
    assert [tier for _, tier, _ in found] == ["1"] * 10
    assert live["EventId"] in [event_id for event_id, _, _ in found]
    assert len(await client.nodes.server.read_event_history(at(0), at(100), 5, SHED_TYPE)) == 5
    elsewhere = await client.get_node(site.node_id("Feeder/F1")).history_read_events(details)
    assert elsewhere.StatusCode.name == "BadHistoryOperationUnsupported"
    gateway.unseen = {"ShedEventType"}
    assert (await client.nodes.server.history_read_events(details)).HistoryData.Events in ([], None)
    gateway.unseen = set()
