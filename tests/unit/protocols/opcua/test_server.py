"""The operators' server over a real socket, with asyncua's client: browsing, values, subscriptions, calls."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from asyncua import Client, ua
from asyncua.ua.ua_binary import struct_from_binary
from surface_house import House, house
from surface_site import BREAKER, T0, URI, Gateway, small_site

from protocols.opcua.surface import Answer, Change, Doing, Grade, Object, Sample, Status

pytestmark = pytest.mark.asyncio(loop_scope="module")
N = 2


@pytest.fixture(scope="module")
def gateway() -> Gateway:
    return Gateway()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with house(tmp_path_factory.mktemp("site"), small_site(), gateway) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(site: House) -> AsyncIterator[Client]:
    async with site.client() as made:
        yield made


class Heard:
    """What a subscription told, in order."""

    def __init__(self) -> None:
        self.values: list[tuple[str, object, str]] = []
        self.changed = asyncio.Event()

    def datachange_notification(self, node: object, value: object, data: object) -> None:
        told = data.monitored_item.Value  # type: ignore[attr-defined]
        self.values.append((node.nodeid.Identifier, value, told.StatusCode.name))  # type: ignore[attr-defined]
        self.changed.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.values) < count:
                self.changed.clear()
                await self.changed.wait()


def changed(site: House, variable: str, value: object, grade: Grade = Grade.GOOD, at: int = T0) -> None:
    site.server.change([Change("Feeder/F1", variable, Sample(value, grade, at))])  # type: ignore[arg-type]


async def call(client: Client, object: str, method: str, *arguments: ua.Variant) -> ua.CallMethodResult:
    """One call at the lowest level: nothing is checked or thrown away on the client's side."""
    request = ua.CallMethodRequest(
        ObjectId=ua.NodeId(object, N), MethodId=ua.NodeId(method, N), InputArguments=list(arguments)
    )
    return (await client.uaclient.call([request]))[0]


OPEN = "Type/BreakerType/Open"
WHY = ua.Variant("a fault", ua.VariantType.String)


async def test_the_namespace_is_found_by_its_name_and_a_feeder_by_its_path(client: Client) -> None:
    assert await client.get_namespace_index(URI) == N
    feeder = await client.nodes.objects.get_child([f"{N}:Feeders", f"{N}:1 to 200", f"{N}:F1"])
    assert feeder.nodeid == ua.NodeId("Feeder/F1", N)
    names = [(await each.read_browse_name()).Name for each in await feeder.get_variables()]
    assert names == [each.name for each in BREAKER.variables]
    methods = [each.nodeid for each in await feeder.get_methods()]
    assert methods == [ua.NodeId(OPEN, N), ua.NodeId("Type/BreakerType/Everything", N)]


async def test_a_value_is_read_as_it_was_told_with_quality_and_time(client: Client, site: House) -> None:
    kw = client.get_node(site.node_id("Feeder/F1/Kw"))
    changed(site, "Kw", 812.5)
    value = await kw.read_data_value()
    assert (value.Value.Value, value.StatusCode.name) == (812.5, "Good")
    assert value.SourceTimestamp == datetime.fromtimestamp(T0 / 1e6, UTC)
    changed(site, "Kw", 812.5, Grade.UNCERTAIN)
    assert (await kw.read_data_value(False)).StatusCode.name == "UncertainLastUsableValue"
    changed(site, "Kw", None, Grade.BAD)
    value = await kw.read_data_value(False)
    assert (value.Value.Value, value.StatusCode.name) == (None, "BadNotConnected")


async def test_what_was_never_told_waits_for_its_first_value(client: Client, site: House) -> None:
    value = await client.get_node(site.node_id("Feeder/F2/Pos")).read_data_value(False)
    assert value.StatusCode.name == "BadWaitingForInitialData"


async def test_arrays_texts_and_times(client: Client, site: House) -> None:
    for name, told, read in (
        ("Tiers", ("1", "2"), ["1", "2"]),
        ("Tiers", (), []),
        ("Reason", None, None),
        ("Reason", "Überlast", "Überlast"),
        ("MovedAt", T0, datetime.fromtimestamp(T0 / 1e6, UTC)),
        ("MovedAt", None, None),
        ("Pos", 2, 2),
    ):
        changed(site, name, told)
        assert await client.get_node(site.node_id(f"Feeder/F1/{name}")).read_value() == read, name


async def test_an_unknown_object_or_variable_is_a_key_error(site: House) -> None:
    for object, variable in (("Feeder/F9", "Kw"), ("Feeder/F1", "Nothing")):
        with pytest.raises(KeyError):
            site.server.change([Change(object, variable, Sample(1.0))])


async def test_a_value_of_another_type_than_declared_spoils_nothing_but_itself(client: Client, site: House) -> None:
    changed(site, "Loc", True)
    heard = Heard()
    subscription = await client.create_subscription(50, heard)
    nodes = [client.get_node(site.node_id(f"Feeder/F1/{name}")) for name in ("OpCnt", "Loc")]
    await subscription.subscribe_data_change(nodes)
    await heard.until(2)
    changed(site, "OpCnt", "many")
    await heard.until(3)
    assert heard.values[-1] == ("Feeder/F1/OpCnt", None, "BadInternalError")
    assert await nodes[1].read_value() is True
    changed(site, "OpCnt", 3)
    await heard.until(4)
    assert heard.values[-1][1:] == (3, "Good")
    await subscription.delete()


async def test_nobody_writes(client: Client, site: House) -> None:
    with pytest.raises(ua.UaStatusCodeError):
        await client.get_node(site.node_id("Feeder/F1/Kw")).write_value(1.0)


async def test_every_change_reaches_who_subscribed_in_order_and_only_changes_do(client: Client, site: House) -> None:
    changed(site, "Kw", 1.0)
    changed(site, "Loc", False)
    heard = Heard()
    subscription = await client.create_subscription(50, heard)
    nodes = [client.get_node(site.node_id(f"Feeder/F1/{name}")) for name in ("Kw", "Loc")]
    await subscription.subscribe_data_change(nodes, queuesize=20)
    await heard.until(2)
    heard.values.clear()
    for load in (2.0, 2.0, 3.0):
        changed(site, "Kw", load)
    changed(site, "Loc", True)
    changed(site, "Kw", 3.0, Grade.UNCERTAIN)
    await heard.until(4)
    kw = [(value, status) for name, value, status in heard.values if name.endswith("Kw")]
    assert kw == [(2.0, "Good"), (3.0, "Good"), (3.0, "UncertainLastUsableValue")]
    await subscription.delete()


async def test_objects_come_and_go_at_run_time(client: Client, site: House) -> None:
    status = client.get_node(site.node_id("Orchestration/shed-1/Status"))
    with pytest.raises(ua.uaerrors.BadNodeIdUnknown):
        await status.read_value()
    site.server.add([Object("Orchestration/shed-1", "shed-1", "Orchestrations", "OrchestrationType")])
    site.server.change([Change("Orchestration/shed-1", "Status", Sample("running", time_us=T0))])
    folder = client.get_node(site.node_id("Orchestrations"))
    assert [each.nodeid.Identifier for each in await folder.get_children()] == ["Orchestration/shed-1"]
    heard = Heard()
    subscription = await client.create_subscription(50, heard)
    handle = await subscription.subscribe_data_change(status)
    await heard.until(1)
    site.server.remove(["Orchestration/shed-1", "Orchestration/never-there"])
    await heard.until(2)
    assert [state for _, _, state in heard.values] == ["Good", "BadNodeIdUnknown"]
    assert await folder.get_children() == []
    await subscription.unsubscribe(handle)
    site.server.add([Object("Orchestration/shed-1", "shed-1", "Orchestrations", "OrchestrationType")])
    site.server.remove(["Orchestration/shed-1"])
    await subscription.delete()


async def test_a_call_reaches_the_gateway_with_who_it_is_and_brings_its_answer_back(
    client: Client, site: House, gateway: Gateway
) -> None:
    feeder = client.get_node(site.node_id("Feeder/F1"))
    outputs = await feeder.call_method(site.node_id(OPEN), WHY)
    assert outputs == ["It is open.", "opened", 1]
    assert gateway.calls[-1] == ("Feeder/F1", "BreakerType", "Open", ("a fault",))
    caller = gateway.callers[-1]
    assert (caller.user, caller.roles) == ("anna", frozenset({"OPERATOR"}))


async def test_each_kind_of_argument_arrives_as_it_was_given(client: Client, gateway: Gateway) -> None:
    gateway.answer = Answer(Status.OK, "Taken.")
    arguments = (
        ua.Variant(True, ua.VariantType.Boolean),
        ua.Variant(-1, ua.VariantType.Int32),
        ua.Variant(1, ua.VariantType.UInt32),
        ua.Variant(2**40, ua.VariantType.Int64),
        ua.Variant(math.nan, ua.VariantType.Double),
        ua.Variant(None, ua.VariantType.String),
        ua.Variant(datetime.fromtimestamp(T0 / 1e6, UTC), ua.VariantType.DateTime),
        ua.Variant(2, ua.VariantType.Int32),
        ua.Variant(["1", "2"], ua.VariantType.String),
    )
    result = await call(client, "Feeder/F2", "Type/BreakerType/Everything", *arguments)
    assert (result.StatusCode.name, result.OutputArguments[0].Value) == ("Good", "Taken.")
    inputs = gateway.calls[-1][3]
    assert math.isnan(inputs[4])  # type: ignore[arg-type]
    assert (*inputs[:4], *inputs[5:]) == (True, -1, 1, 2**40, "", T0, 2, ["1", "2"])


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (Status.BAD_ARGUMENT, "BadInvalidArgument"),
        (Status.OUT_OF_RANGE, "BadOutOfRange"),
        (Status.NOT_FOUND, "BadNotFound"),
        (Status.REFUSED, "BadInvalidState"),
        (Status.DENIED, "BadUserAccessDenied"),
        (Status.TOO_LARGE, "BadEncodingLimitsExceeded"),
        (Status.TIMEOUT, "BadTimeout"),
        (Status.UNAVAILABLE, "BadOutOfService"),
        (Status.TOO_MANY, "BadTooManyOperations"),
        (Status.INTERNAL, "BadInternalError"),
    ],
)
async def test_each_status_has_its_code_and_the_sentence_comes_with_it(
    client: Client, gateway: Gateway, status: Status, code: str
) -> None:
    gateway.answer = Answer(status, f"It is {status.value}.")
    result = await call(client, "Feeder/F1", OPEN, WHY)
    assert result.StatusCode.name == code
    assert result.OutputArguments[0].Value == f"It is {status.value}."


async def test_a_client_that_asks_for_diagnostics_gets_the_sentence_there_as_well(
    client: Client, gateway: Gateway
) -> None:
    gateway.answer = Answer(Status.REFUSED, "It is blocked.")
    request = ua.CallRequest()
    request.RequestHeader.ReturnDiagnostics = 0x80
    request.Parameters.MethodsToCall = [ua.CallMethodRequest(ua.NodeId("Feeder/F1", N), ua.NodeId(OPEN, N), [WHY])]
    response = struct_from_binary(ua.CallResponse, await client.uaclient.protocol.send_request(request))
    assert response.Results[0].StatusCode.name == "BadInvalidState"
    assert [each.AdditionalInfo for each in response.DiagnosticInfos] == ["It is blocked."]


async def test_wrong_calls_never_reach_the_gateway(client: Client, gateway: Gateway) -> None:
    gateway.answer = Answer(Status.OK, "yes", ("opened", 1))
    gateway.refused_calls = {"Everything"}
    before = len(gateway.calls)
    gateway.deeds.clear()
    number = ua.Variant(1, ua.VariantType.Int64)
    for object, method, arguments, code in (
        ("Feeder/F9", OPEN, (WHY,), "BadNodeIdUnknown"),
        ("Gateway", OPEN, (WHY,), "BadMethodInvalid"),
        ("Feeders", OPEN, (WHY,), "BadMethodInvalid"),
        ("Feeder/F1", "Type/BreakerType/Close", (WHY,), "BadMethodInvalid"),
        ("Feeder/F1", "Feeder/F1/Open", (WHY,), "BadMethodInvalid"),
        ("Feeder/F1", OPEN, (), "BadArgumentsMissing"),
        ("Feeder/F1", OPEN, (WHY, WHY), "BadTooManyArguments"),
        ("Feeder/F1", OPEN, (number,), "BadInvalidArgument"),
        ("Feeder/F1", "Type/BreakerType/Everything", (), "BadUserAccessDenied"),
    ):
        result = await call(client, object, method, *arguments)
        assert result.StatusCode.name == code, (object, method)
        assert result.OutputArguments[0].Value, "a sentence comes with it"
        if code == "BadInvalidArgument":
            assert [each.name for each in result.InputArgumentResults] == ["BadTypeMismatch"]
    assert len(gateway.calls) == before
    gateway.refused_calls = set()
    assert [each.doing for each in gateway.deeds] == [Doing.CALL_REFUSED] * 9, "but the gateway is told of each"
    assert {each.caller.user for each in gateway.deeds} == {"anna"}


async def test_a_defect_behind_a_call_is_said_and_the_session_goes_on(client: Client, gateway: Gateway) -> None:
    gateway.error = RuntimeError("secret inside")
    result = await call(client, "Feeder/F1", OPEN, WHY)
    gateway.error = None
    assert result.StatusCode.name == "BadInternalError"
    assert "secret" not in result.OutputArguments[0].Value
    assert (await call(client, "Feeder/F1", OPEN, WHY)).StatusCode.is_good()


async def test_who_may_not_read_a_variable_does_not_subscribe_to_it_either(
    client: Client, site: House, gateway: Gateway
) -> None:
    gateway.unreadable = {"Reason"}
    reason = client.get_node(site.node_id("Feeder/F1/Reason"))
    with pytest.raises(ua.uaerrors.BadUserAccessDenied):
        await reason.read_value()
    subscription = await client.create_subscription(50, Heard())
    with pytest.raises(ua.uaerrors.BadUserAccessDenied):
        await subscription.subscribe_data_change(reason)
    await subscription.delete()
    gateway.unreadable = set()


async def test_the_gateway_sees_who_is_there(client: Client, site: House) -> None:
    sessions = site.server.sessions()
    assert [each.caller.user for each in sessions] == ["anna"]
    assert site.server.certificate_expires_us() > T0
