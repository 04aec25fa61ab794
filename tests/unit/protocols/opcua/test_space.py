"""Our objects look like nodes to the library, and last only as records."""

from __future__ import annotations

import asyncio

import pytest
from asyncua import Node, ua
from asyncua.server.internal_server import InternalServer
from surface_site import BREAKER, T0, URI, small_site

from gateway.clock import wall_now
from protocols.opcua.services import Place
from protocols.opcua.space import Nodes
from protocols.opcua.surface import Folder, Object, Sample
from protocols.opcua.templates import Ids, folder_template, make_template
from protocols.opcua.types import Types

N = 2


def built() -> Nodes:
    ids = Ids(N)
    surface = small_site()
    nodes = Nodes(
        N, {each.name: make_template(each, ids) for each in surface.types} | {"": folder_template()}, wall_now
    )
    nodes.add(surface.folders)
    nodes.add(surface.objects)
    return nodes


async def made() -> InternalServer:
    server = InternalServer()
    await server.init()
    await Node(server.isession, ua.NodeId(ua.ObjectIds.Server_NamespaceArray)).write_value(
        ["http://opcfoundation.org/UA/", "urn:us", URI]
    )
    Types(server.node_mgt_service, server.aspace, Ids(N)).build(small_site())
    server.aspace._nodes = built().attach(server.aspace._nodes)
    return server


@pytest.fixture(scope="module")
def library() -> InternalServer:
    """The library's own server, without sockets, with our nodes in it."""
    return asyncio.run(made())


def node(library: InternalServer, key: str) -> Node:
    return Node(library.isession, ua.NodeId(key, N))


async def names(parent: Node, *how: object) -> list[str]:
    return [(await child.read_browse_name()).to_string() for child in await parent.get_children(*how)]


async def test_objects_are_found_by_browsing_from_the_top(library: InternalServer) -> None:
    objects = Node(library.isession, ua.NodeId(ua.ObjectIds.ObjectsFolder))
    assert {"2:Feeders", "2:Orchestrations", "2:Gateway"} <= set(await names(objects))
    feeder = await objects.get_child(["2:Feeders", "2:1 to 200", "2:F1"])
    assert feeder.nodeid == ua.NodeId("Feeder/F1", N)
    variables = [f"2:{each.name}" for each in BREAKER.variables]
    assert await names(feeder) == [*variables, "2:Open", "2:Everything"]


async def test_every_reference_can_be_followed_back(library: InternalServer) -> None:
    keys = ("Feeders", "Feeders/1", "Feeder/F1", "Feeder/F1/Kw", "Gateway", "Gateway/Mode", "Orchestrations")
    for key in keys:
        for up in await node(library, key).get_references(direction=ua.BrowseDirection.Inverse):
            back = await Node(library.isession, up.NodeId).get_references(up.ReferenceTypeId)
            assert ua.NodeId(key, N) in [each.NodeId for each in back if each.IsForward], (key, up)
    for key in ("Feeders", "Feeders/1", "Feeder/F1"):
        for down in await node(library, key).get_references(ua.ObjectIds.HierarchicalReferences):
            if down.IsForward and down.NodeClass != ua.NodeClass.Method:
                back = await Node(library.isession, down.NodeId).get_references(direction=ua.BrowseDirection.Inverse)
                assert ua.NodeId(key, N) in [each.NodeId for each in back]


async def test_an_instance_has_its_types_own_method_node(library: InternalServer) -> None:
    method = await node(library, "Feeder/F2").get_child("2:Open")
    assert method.nodeid == ua.NodeId("Type/BreakerType/Open", N)
    inputs, outputs = [
        await (await method.get_child(name)).read_value() for name in ("0:InputArguments", "0:OutputArguments")
    ]
    assert [each.Name for each in inputs] == ["Reason"]
    assert [each.Name for each in outputs] == ["Message", "Outcome", "Position"]
    assert outputs[2].DataType == ua.NodeId("Type/Dbpos", N)


async def test_the_type_definition_declares_what_its_instances_have(library: InternalServer) -> None:
    type_node = node(library, "Type/BreakerType")
    assert await node(library, "Feeder/F1").read_type_definition() == type_node.nodeid
    assert await names(type_node) == await names(node(library, "Feeder/F1"))
    for child in await type_node.get_children():
        rules = await child.get_referenced_nodes(ua.ObjectIds.HasModellingRule)
        assert [each.nodeid for each in rules] == [ua.NodeId(ua.ObjectIds.ModellingRule_Mandatory)]
        same = node(library, f"Feeder/F1/{(await child.read_browse_name()).Name}")
        if await child.read_node_class() == ua.NodeClass.Variable:
            assert await same.read_data_type() == await child.read_data_type()
            assert await same.read_value_rank() == await child.read_value_rank()


async def test_positions_are_an_enumeration_with_names(library: InternalServer) -> None:
    dbpos = node(library, "Type/Dbpos")
    texts = await (await dbpos.get_child("0:EnumStrings")).read_value()
    assert [each.Text for each in texts] == ["intermediate", "open", "closed", "bad"]
    definition = await dbpos.read_data_type_definition()
    assert [(each.Name, each.Value) for each in definition.Fields][1:3] == [("open", 1), ("closed", 2)]


async def test_units_are_told(library: InternalServer) -> None:
    unit = await (await node(library, "Feeder/F1/Kw").get_child("0:EngineeringUnits")).read_value()
    assert (unit.DisplayName.Text, unit.UnitId) == ("kW", 0x4B5754)


async def test_every_attribute_that_a_variable_must_have_is_there(library: InternalServer) -> None:
    mandatory = ("NodeId", "NodeClass", "BrowseName", "DisplayName", "Value", "DataType", "ValueRank", "AccessLevel")
    for name in (*mandatory, "UserAccessLevel", "Historizing"):
        value = library.aspace.read_attribute_value(ua.NodeId("Feeder/F1/Kw", N), ua.AttributeIds[name])
        assert value.StatusCode.value in (0, ua.StatusCodes.BadWaitingForInitialData), name
    history = library.aspace.read_attribute_value(ua.NodeId("Feeder/F1/Kw", N), ua.AttributeIds.AccessLevel)
    assert history.Value.Value == 0b101
    none = library.aspace.read_attribute_value(ua.NodeId("Feeder/F1/Loc", N), ua.AttributeIds.AccessLevel)
    assert none.Value.Value == 0b001


def test_a_place_says_type_and_variable() -> None:
    nodes = built()
    assert nodes.place(ua.NodeId("Feeder/F1/Kw", N)) == Place("BreakerType", "Kw")
    assert nodes.place(ua.NodeId("Feeder/F1", N)) == Place("BreakerType")
    assert nodes.place(ua.NodeId("Feeders", N)) == Place("")
    for other in (
        ua.NodeId("Feeder/F9/Kw", N),
        ua.NodeId("Feeder/F1/No", N),
        ua.NodeId(85, 0),
        ua.NodeId("Feeder/F1", 1),
    ):
        assert nodes.place(other) is None


def test_who_watches_a_variable_is_in_the_record_for_as_long_as_it_watches() -> None:
    nodes = built()
    kw = ua.NodeId("Feeder/F1/Kw", N)
    entry = nodes.entry("Feeder/F1")
    cell = nodes[kw].attributes[ua.AttributeIds.Value]
    assert entry.watchers is None, "a look leaves nothing behind"
    cell.datachange_callbacks[1] = print
    nodes[kw].attributes[ua.AttributeIds.Value].datachange_callbacks[2] = repr
    assert entry.watchers is not None
    assert dict(entry.watchers[1]) == {1: print, 2: repr}
    nodes[kw].attributes[ua.AttributeIds.Value].datachange_callbacks.pop(1)
    cell.datachange_callbacks.pop(2)
    assert entry.watchers is None


def test_an_object_that_goes_takes_all_below_it_along_and_tells_who_is_still_watched() -> None:
    nodes = built()
    nodes.add([Folder("Orchestrations/old", "old", "Orchestrations")])
    nodes.add([Object("Orchestration/1", "1", "Orchestrations/old", "OrchestrationType")])
    status = ua.NodeId("Orchestration/1/Status", N)
    callbacks = nodes[status].attributes[ua.AttributeIds.Value].datachange_callbacks
    callbacks[1] = print
    watched = nodes.remove("Orchestrations/old")
    assert [each.key for each in watched] == ["Orchestration/1"]
    assert status not in nodes
    assert ua.NodeId("Orchestrations/old", N) not in nodes
    assert [each.NodeId.Identifier for each in nodes[ua.NodeId("Orchestrations", N)].references if each.IsForward] == [
        int(ua.ObjectIds.FolderType)
    ]
    callbacks.pop(1)
    assert watched[0].watchers is None
    assert nodes.remove("Orchestrations/old") == []


def test_what_does_not_fit_together_is_refused() -> None:
    nodes = built()
    for described, error in (
        (Object("Feeder/F1", "F1", "Feeders/1", "BreakerType"), ValueError),
        (Object("Feeder/F1/Kw", "F1", "Feeders/1", "BreakerType"), ValueError),
        (Object("Type/X", "X", "Feeders/1", "BreakerType"), ValueError),
        (Object("Feeder/F9", "F9", "Nowhere", "BreakerType"), KeyError),
        (Object("Feeder/F9", "F9", "Feeders/1", "NoType"), KeyError),
    ):
        with pytest.raises(error):
            nodes.add([described])
    assert ua.NodeId("Feeder/F9", N) not in nodes


def test_a_read_gives_the_latest_sample() -> None:
    nodes = built()
    nodes.entry("Feeder/F1").samples[1] = Sample(12.5, time_us=T0)
    cell = nodes[ua.NodeId("Feeder/F1/Kw", N)].attributes[ua.AttributeIds.Value]
    assert cell.value_callback is not None
    assert cell.value_callback(ua.NodeId(), ua.AttributeIds.Value).Value.Value == 12.5
