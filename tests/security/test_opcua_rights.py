"""What a session may do once it is in: read what its role may read, call what its role may call, and change nothing."""

from __future__ import annotations

from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.uaerrors import (
    BadNothingToDo,
    BadServiceUnsupported,
    BadTooManyOperations,
    BadUserAccessDenied,
    UaStatusCodeError,
)
from opcua_house import FEEDERS, House, Peer, node, std

from protocols.opcua.surface import Doing

pytestmark = pytest.mark.asyncio(loop_scope="session")

Codes = ua.StatusCodes
WHY = ua.Variant("because", ua.VariantType.String)
OPEN = "Type/BreakerType/Open"


async def test_a_value_that_a_role_may_not_read_is_refused(house: House, alice: Peer) -> None:
    await alice.log_in("ola")
    kw, secret = await alice.read(node("Feeder/F1/Note"), node("Security/Secret"))
    assert kw.StatusCode.value != Codes.BadUserAccessDenied
    assert (secret.StatusCode.value, secret.Value.Value) == (Codes.BadUserAccessDenied, None)
    assert "Secret" in house.backend.told(Doing.READ_REFUSED)[0].detail
    (level,) = await alice.read(node("Security/Secret"), attribute=ua.AttributeIds.UserAccessLevel)
    assert level.Value.Value == 0


async def test_the_role_that_may_read_it_does(house: House, alice: Peer) -> None:
    await alice.log_in("sec")
    (secret,) = await alice.read(node("Security/Secret"))
    assert secret.StatusCode.value != Codes.BadUserAccessDenied
    assert house.backend.told(Doing.READ_REFUSED) == []


async def test_nobody_subscribes_to_what_they_may_not_read(house: House, alice: Peer) -> None:
    await alice.log_in("ola")
    number = await alice.subscribe()
    secret, fine = await alice.watch(number, node("Security/Secret"), node("Feeder/F1/Kw"))
    assert secret.StatusCode.value == Codes.BadUserAccessDenied
    assert fine.StatusCode.is_good()


async def test_nobody_reads_the_history_of_what_they_may_not_read(house: House, alice: Peer) -> None:
    await alice.log_in("ola")
    request = ua.HistoryReadRequest()
    request.Parameters.HistoryReadDetails = ua.ReadRawModifiedDetails()
    request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
    request.Parameters.NodesToRead = [
        ua.HistoryReadValueId(NodeId=node(each)) for each in ("Security/Secret", "Feeder/F1/Kw")
    ]
    secret, kw = (await alice.ask(request, ua.HistoryReadResponse)).Results
    assert secret.StatusCode.value == Codes.BadUserAccessDenied
    assert kw.StatusCode.value != Codes.BadUserAccessDenied


async def test_browsing_a_variable_that_may_not_be_read_is_refused(house: House, alice: Peer) -> None:
    await alice.log_in("ola")
    (result,) = (await alice.ask(browse("Security/Secret"), ua.BrowseResponse)).Results
    assert result.StatusCode.value == Codes.BadUserAccessDenied


async def test_nothing_can_be_written(house: House, alice: Peer) -> None:
    await alice.log_in("sec")
    request = ua.WriteRequest()
    for target in (
        node("Feeder/F1/Kw"),
        std(ua.ObjectIds.Server_ServiceLevel),
        std(ua.ObjectIds.Server_NamespaceArray),
    ):
        for attribute in (ua.AttributeIds.Value, ua.AttributeIds.DisplayName, ua.AttributeIds.UserAccessLevel):
            value = ua.WriteValue(NodeId=target, AttributeId=attribute, Value=ua.DataValue(ua.Variant(1.0)))
            request.Parameters.NodesToWrite.append(value)
    before = await alice.read(std(ua.ObjectIds.Server_NamespaceArray))
    results = (await alice.ask(request, ua.WriteResponse)).Results
    assert {each.value for each in results} == {Codes.BadNotWritable}
    assert (await alice.read(std(ua.ObjectIds.Server_NamespaceArray)))[0].Value == before[0].Value
    assert house.backend.told(Doing.CALL_REFUSED)


@pytest.mark.parametrize(
    ("request_type", "response_type"),
    [
        (ua.AddNodesRequest, ua.AddNodesResponse),
        (ua.DeleteNodesRequest, ua.DeleteNodesResponse),
        (ua.AddReferencesRequest, ua.AddReferencesResponse),
        (ua.DeleteReferencesRequest, ua.DeleteReferencesResponse),
    ],
)
async def test_the_address_space_can_t_be_changed(
    house: House, alice: Peer, request_type: Any, response_type: Any
) -> None:
    await alice.log_in("sec")
    with pytest.raises(BadUserAccessDenied):
        await alice.ask(request_type(), response_type)


async def test_no_server_registers_here(alice: Peer) -> None:
    await alice.log_in("sec")
    for request, response in (
        (ua.RegisterServerRequest(), ua.RegisterServerResponse),
        (ua.RegisterServer2Request(), ua.RegisterServer2Response),
        (ua.QueryFirstRequest(), ua.QueryFirstResponse),
        (ua.SetTriggeringRequest(), ua.SetTriggeringResponse),
    ):
        with pytest.raises(BadServiceUnsupported):
            await alice.ask(request, response)


async def test_a_role_that_may_not_call_calls_nothing(house: House, mallory: Peer) -> None:
    await mallory.log_in("vera")
    result = await mallory.open_breaker()
    assert result.StatusCode.value == Codes.BadUserAccessDenied
    assert house.backend.calls == []


@pytest.mark.parametrize(
    ("target", "method"),
    [
        ("Security", OPEN),
        ("Folder/Feeders", OPEN),
        ("Type/BreakerType", OPEN),
        ("Feeder/F1/Kw", OPEN),
        ("Feeder/F9999", OPEN),
        ("Feeder/F1", "Type/SecurityType/Wipe"),
        ("Feeder/F1", "Feeder/F1/Kw"),
        ("Feeder/F1", "Feeder/F1"),
        ("Feeder/F1", "nothing"),
        ("", ""),
    ],
)
async def test_a_method_is_called_on_its_own_objects_alone(house: House, alice: Peer, target: str, method: str) -> None:
    await alice.log_in("ola")
    result = await alice.call(target, method, WHY)
    assert result.StatusCode.is_bad()
    assert house.backend.calls == []


STRING, DOUBLE = ua.VariantType.String, ua.VariantType.Double


@pytest.mark.parametrize(
    ("inputs", "code"),
    [
        ((), Codes.BadArgumentsMissing),
        ((WHY, WHY), Codes.BadTooManyArguments),
        ((ua.Variant(1.5, DOUBLE),), Codes.BadInvalidArgument),
        ((ua.Variant(None, ua.VariantType.Null),), None),
        ((ua.Variant(["a"], STRING),), Codes.BadInvalidArgument),
        ((ua.Variant(b"a", ua.VariantType.ByteString),), Codes.BadInvalidArgument),
        ((ua.Variant(ua.Argument()),), Codes.BadInvalidArgument),
    ],
)
async def test_arguments_are_checked_for_number_and_type(
    house: House, alice: Peer, inputs: tuple[ua.Variant, ...], code: int | None
) -> None:
    await alice.log_in("ola")
    result = await alice.call("Feeder/F1", OPEN, *inputs)
    if code is not None:
        assert result.StatusCode.value == code
        assert house.backend.calls == []


async def test_an_error_inside_shows_no_inside(house: House, alice: Peer) -> None:
    await alice.log_in("ola")
    house.backend.fail = RuntimeError("at /srv/secret/path.py: password=hunter2")
    result = await alice.open_breaker()
    assert result.StatusCode.value == Codes.BadInternalError
    assert "hunter2" not in repr(result)
    assert "path" not in repr(result)
    house.backend.fail = None
    assert (await alice.open_breaker()).StatusCode.is_good()


async def test_a_backend_that_can_t_record_stops_nobody(house: House, alice: Peer, monkeypatch: Any) -> None:
    def full(deed: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(house.backend, "tell", full)
    await alice.log_in("ola")
    assert (await alice.open_breaker()).StatusCode.is_good()


async def test_an_answer_that_can_t_be_encoded_costs_itself_alone(house: House, alice: Peer, monkeypatch: Any) -> None:
    async def wrong(*_: Any) -> ua.CallMethodResult:
        return ua.CallMethodResult(OutputArguments=[ua.Variant("text", ua.VariantType.Double)])

    await alice.log_in("ola")
    with monkeypatch.context() as patch:
        patch.setattr(house.server._calls, "call", wrong)
        with pytest.raises(UaStatusCodeError):
            await alice.open_breaker()
    assert (await alice.open_breaker()).StatusCode.is_good()


def browse(start: str, most: int = 0) -> ua.BrowseRequest:
    """A Browse of one node, forward, everything."""
    request = ua.BrowseRequest()
    request.Parameters.RequestedMaxReferencesPerNode = most
    wanted = ua.BrowseDescription(NodeId=node(start), BrowseDirection=ua.BrowseDirection.Forward)
    wanted.ReferenceTypeId = std(ua.ObjectIds.HierarchicalReferences)
    wanted.IncludeSubtypes = True
    wanted.ResultMask = 0x3F
    request.Parameters.NodesToBrowse = [wanted]
    return request


def more(point: bytes, release: bool = False) -> ua.BrowseNextRequest:
    """A BrowseNext."""
    request = ua.BrowseNextRequest()
    request.Parameters.ContinuationPoints = [point]
    request.Parameters.ReleaseContinuationPoints = release
    return request


async def test_browse_goes_on_with_browse_next(house: House, alice: Peer) -> None:
    await alice.log_in("vera")
    (result,) = (await alice.ask(browse("Folder/Feeders", 25), ua.BrowseResponse)).Results
    names = [each.BrowseName.Name for each in result.References]
    while result.ContinuationPoint:
        (result,) = (await alice.ask(more(result.ContinuationPoint), ua.BrowseNextResponse)).Parameters.Results
        assert len(result.References) <= 25
        names += [each.BrowseName.Name for each in result.References]
    assert names == [f"F{number}" for number in range(FEEDERS)]


async def test_a_continuation_point_is_its_sessions_own_and_used_once(house: House, alice: Peer, mallory: Peer) -> None:
    await alice.log_in("vera")
    await mallory.log_in("ola")
    (result,) = (await alice.ask(browse("Folder/Feeders", 25), ua.BrowseResponse)).Results
    point = result.ContinuationPoint
    (stolen,) = (await mallory.ask(more(point), ua.BrowseNextResponse)).Parameters.Results
    assert stolen.StatusCode.value == Codes.BadContinuationPointInvalid
    (released,) = (await alice.ask(more(point, release=True), ua.BrowseNextResponse)).Parameters.Results
    assert released.StatusCode.is_good()
    (again,) = (await alice.ask(more(point), ua.BrowseNextResponse)).Parameters.Results
    assert again.StatusCode.value == Codes.BadContinuationPointInvalid


async def test_continuation_points_are_limited(house: House, alice: Peer) -> None:
    await alice.log_in("vera")
    codes = []
    for _ in range(4):
        (result,) = (await alice.ask(browse("Folder/Feeders", 1), ua.BrowseResponse)).Results
        codes.append(result.StatusCode.value)
    assert codes == [0, 0, 0, Codes.BadNoContinuationPoints]


async def test_too_many_nodes_are_refused(house: House, alice: Peer) -> None:
    await alice.log_in("vera")
    assert len(await alice.read(*[node("Feeder/F1/Kw")] * 100)) == 100
    with pytest.raises(BadTooManyOperations):
        await alice.read(*[node("Feeder/F1/Kw")] * 101)
    request = browse("Folder/Feeders")
    request.Parameters.NodesToBrowse *= 501
    with pytest.raises(BadTooManyOperations):
        await alice.ask(request, ua.BrowseResponse)
    request.Parameters.NodesToBrowse = []
    with pytest.raises(BadNothingToDo):
        await alice.ask(request, ua.BrowseResponse)


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("OperationLimits_MaxNodesPerRead", 100),
        ("OperationLimits_MaxMonitoredItemsPerCall", 100),
        ("OperationLimits_MaxNodesPerMethodCall", 100),
        ("MaxBrowseContinuationPoints", 3),
    ],
)
async def test_what_the_server_says_of_its_limits_is_true(house: House, alice: Peer, name: str, limit: int) -> None:
    await alice.log_in("vera")
    number = getattr(ua.ObjectIds, f"Server_ServerCapabilities_{name}")
    assert (await alice.read(std(number)))[0].Value.Value == limit


async def test_odd_reads_get_their_codes(house: House, alice: Peer) -> None:
    await alice.log_in("vera")
    request = ua.ReadRequest()
    request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
    array = std(ua.ObjectIds.Server_NamespaceArray)
    value = ua.AttributeIds.Value
    request.Parameters.NodesToRead = [
        ua.ReadValueId(NodeId=node("nowhere"), AttributeId=value),
        ua.ReadValueId(NodeId=array, AttributeId=ua.AttributeIds.EventNotifier),
        ua.ReadValueId(NodeId=array, AttributeId=value, IndexRange="1"),
        ua.ReadValueId(NodeId=array, AttributeId=value, IndexRange="0:99999"),
        ua.ReadValueId(NodeId=array, AttributeId=value, IndexRange="77"),
        ua.ReadValueId(NodeId=array, AttributeId=value, IndexRange="2:1"),
        ua.ReadValueId(NodeId=array, AttributeId=value, IndexRange="x"),
        ua.ReadValueId(NodeId=array, AttributeId=value, DataEncoding=ua.QualifiedName("Default XML")),
    ]
    results = (await alice.ask(request, ua.ReadResponse)).Results
    codes = [each.StatusCode.value for each in results]
    assert codes == [
        Codes.BadNodeIdUnknown,
        Codes.BadAttributeIdInvalid,
        0,
        0,
        Codes.BadIndexRangeNoData,
        Codes.BadIndexRangeInvalid,
        Codes.BadIndexRangeInvalid,
        Codes.BadDataEncodingInvalid,
    ]
    assert results[2].Value.Value == [house.own.uri]
    assert len(results[3].Value.Value) == 3
