"""Address spaces of simulated RTUs: the few standard nodes that an embedded device has, and its own.

asyncua's ways take 2 s and 60 MB for its standard address space of 6,000 nodes, and milliseconds for each node more. A
device of the smaller profiles has some dozens of them; these are put straight into the table that asyncua reads. Nodes
that nobody can tell apart (access levels, classes) share one object.

What must stay true: ns=0 ids are those of the standard; the device's namespace has the index that it is given, with
strangers before it, so that a client that relies on an index finds nothing.
"""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from typing import Final, cast

from asyncua import ua
from asyncua.server.address_space import AddressSpace, AttributeValue, NodeData

from simulators.opcua.points import Node
from simulators.opcua.rtu import GOOD, Kind, Method, Rtu, Variable

MOST_NODES: Final = 200
"""In one request, as a small device has it: one with more is refused."""
STANDARD: Final = "http://opcfoundation.org/UA/"
STRANGER: Final = "urn:gridlatch:simulator:firmware"
"""Namespaces that come with a restart, so that the device's own gets another index."""

_OBJECT, _VARIABLE, _METHOD = ua.NodeClass.Object, ua.NodeClass.Variable, ua.NodeClass.Method
_TYPES: Final = {
    Kind.BOOLEAN: (ua.ObjectIds.Boolean, ua.VariantType.Boolean),
    Kind.INT32: (ua.ObjectIds.Int32, ua.VariantType.Int32),
    Kind.UINT32: (ua.ObjectIds.UInt32, ua.VariantType.UInt32),
    Kind.DOUBLE: (ua.ObjectIds.Double, ua.VariantType.Double),
}
_READ: Final = 0x01
_READ_WRITE: Final = 0x03


@functools.cache
def std(number: int) -> ua.NodeId:
    """A node of the standard."""
    return ua.NodeId(ua.Int32(number), ua.Int16(0))


def status_code(code: int) -> ua.StatusCode:
    """A status code."""
    return ua.StatusCode(ua.UInt32(code))


def sample(value: ua.Variant, at: datetime, status: int = GOOD) -> ua.DataValue:
    """A value of this moment."""
    stamp = cast(ua.DateTime, at)
    return ua.DataValue(value, status_code(status), SourceTimestamp=stamp, ServerTimestamp=stamp)


def _attribute(value: object, kind: ua.VariantType) -> AttributeValue:
    return AttributeValue(ua.DataValue(ua.Variant(value, kind), status_code(GOOD)))


_CLASSES: Final = {one: _attribute(int(one), ua.VariantType.Int32) for one in ua.NodeClass}
_LEVELS: Final = {level: _attribute(level, ua.VariantType.Byte) for level in (_READ, _READ_WRITE)}
_SCALAR: Final = _attribute(-1, ua.VariantType.Int32)
_ARRAY: Final = _attribute(1, ua.VariantType.Int32)
_NO: Final = _attribute(False, ua.VariantType.Boolean)
_YES: Final = _attribute(True, ua.VariantType.Boolean)
_ZERO: Final = _attribute(0, ua.VariantType.Byte)
_NO_MASK: Final = _attribute(0, ua.VariantType.UInt32)
_NOW_AND_THEN: Final = _attribute(0.0, ua.VariantType.Double)


_I: Final = ua.ObjectIds
_REFERENCE, _OBJECT_TYPE, _VARIABLE_TYPE = (
    ua.NodeClass.ReferenceType,
    ua.NodeClass.ObjectType,
    ua.NodeClass.VariableType,
)
_STANDARD: Final[tuple[tuple[int, str, ua.NodeClass, int | None], ...]] = (
    (_I.RootFolder, "Root", _OBJECT, None),
    (_I.References, "References", _REFERENCE, None),
    (_I.HierarchicalReferences, "HierarchicalReferences", _REFERENCE, _I.References),
    (_I.Organizes, "Organizes", _REFERENCE, _I.HierarchicalReferences),
    (_I.HasChild, "HasChild", _REFERENCE, _I.HierarchicalReferences),
    (_I.Aggregates, "Aggregates", _REFERENCE, _I.HasChild),
    (_I.HasComponent, "HasComponent", _REFERENCE, _I.Aggregates),
    (_I.HasProperty, "HasProperty", _REFERENCE, _I.Aggregates),
    (_I.BaseObjectType, "BaseObjectType", _OBJECT_TYPE, None),
    (_I.FolderType, "FolderType", _OBJECT_TYPE, _I.BaseObjectType),
    (_I.BaseVariableType, "BaseVariableType", _VARIABLE_TYPE, None),
    (_I.BaseDataVariableType, "BaseDataVariableType", _VARIABLE_TYPE, _I.BaseVariableType),
    (_I.PropertyType, "PropertyType", _VARIABLE_TYPE, _I.BaseVariableType),
)
_LIMITS: Final = _I.Server_ServerCapabilities_OperationLimits
_MOST_READ: Final = _I.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead
_MOST_ITEMS: Final = _I.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall
_SERVER: Final = (
    (_I.Server_NamespaceArray, "NamespaceArray", _I.Server, _I.String),
    (_I.Server_ServerArray, "ServerArray", _I.Server, _I.String),
    (_I.Server_ServiceLevel, "ServiceLevel", _I.Server, _I.Byte),
    (_MOST_READ, "MaxNodesPerRead", _LIMITS, _I.UInt32),
    (_MOST_ITEMS, "MaxMonitoredItemsPerCall", _LIMITS, _I.UInt32),
    (_I.Server_ServerStatus, "ServerStatus", _I.Server, _I.ServerStatusDataType),
    (_I.Server_ServerStatus_State, "State", _I.Server_ServerStatus, _I.ServerState),
    (_I.Server_ServerStatus_StartTime, "StartTime", _I.Server_ServerStatus, _I.UtcTime),
    (_I.Server_ServerStatus_CurrentTime, "CurrentTime", _I.Server_ServerStatus, _I.UtcTime),
)


class Space:
    """Puts nodes into the address space of one server."""

    def __init__(self, aspace: AddressSpace) -> None:
        self._aspace = aspace
        self._known: dict[ua.NodeId, tuple[ua.NodeClass, ua.QualifiedName, int | None]] = {}

    def standard(self, application_uri: str, namespaces: list[str]) -> None:
        """The standard's nodes that clients ask for, and what browsers need to show the tree."""
        ids = ua.ObjectIds
        for number, word, node_class, above in _STANDARD:
            parent = None if above is None else (std(above), ids.HasSubtype)
            self._node(std(number), node_class, ua.QualifiedName(word, ua.UInt16(0)), parent)
        for number, word in ((ids.ObjectsFolder, "Objects"), (ids.TypesFolder, "Types"), (ids.ViewsFolder, "Views")):
            self.folder(std(number), ua.QualifiedName(word, ua.UInt16(0)), std(ids.RootFolder))
        objects = (std(ids.ObjectsFolder), ids.Organizes)
        name = ua.QualifiedName("Server", ua.UInt16(0))
        server = self._node(std(ids.Server), _OBJECT, name, objects, ids.BaseObjectType)
        server.attributes[ua.AttributeIds.EventNotifier] = _ZERO
        status = ua.ServerStatusDataType(State=ua.ServerState.Running)
        status.StartTime = status.CurrentTime = cast(ua.DateTime, datetime.now(UTC))
        strings, moment = ua.VariantType.String, ua.VariantType.DateTime
        values = {
            ids.Server_NamespaceArray: ua.Variant(namespaces, strings),
            ids.Server_ServerArray: ua.Variant([application_uri], strings),
            ids.Server_ServiceLevel: ua.Variant(255, ua.VariantType.Byte),
            _MOST_READ: ua.Variant(MOST_NODES, ua.VariantType.UInt32),
            _MOST_ITEMS: ua.Variant(MOST_NODES, ua.VariantType.UInt32),
            ids.Server_ServerStatus: ua.Variant(status, ua.VariantType.ExtensionObject),
            ids.Server_ServerStatus_State: ua.Variant(int(status.State), ua.VariantType.Int32),
            ids.Server_ServerStatus_StartTime: ua.Variant(status.StartTime, moment),
            ids.Server_ServerStatus_CurrentTime: ua.Variant(status.CurrentTime, moment),
        }
        for number, word, over in (
            (ids.Server_ServerCapabilities, "ServerCapabilities", ids.Server),
            (_LIMITS, "OperationLimits", ids.Server_ServerCapabilities),
        ):
            name = ua.QualifiedName(word, ua.UInt16(0))
            self._node(std(number), _OBJECT, name, (std(over), ids.HasComponent), ids.BaseObjectType)
        for number, word, above, data_type in _SERVER:
            name = ua.QualifiedName(word, ua.UInt16(0))
            self._variable(std(number), name, std(above), std(data_type), values[number])

    def folder(self, node: ua.NodeId, name: ua.QualifiedName, parent: ua.NodeId) -> None:
        """A folder."""
        made = self._node(node, _OBJECT, name, (parent, ua.ObjectIds.Organizes), ua.ObjectIds.FolderType)
        made.attributes[ua.AttributeIds.EventNotifier] = _ZERO

    def device(self, rtu: Rtu, indices: dict[str, int]) -> dict[ua.NodeId, Node]:
        """The device's own nodes below a folder with its name; what is found under each id."""
        own = indices[""]
        top = ua.NodeId(ua.String(rtu.name), ua.Int16(own))
        self.folder(top, ua.QualifiedName(rtu.name, ua.UInt16(own)), std(ua.ObjectIds.ObjectsFolder))
        for holder in dict.fromkeys(method.object for method in rtu.methods.values()):
            node = node_id(holder, indices)
            if node not in self._aspace:
                below, kind = (top, ua.ObjectIds.Organizes), ua.ObjectIds.BaseObjectType
                made = self._node(node, _OBJECT, _name(holder, own), below, kind)
                made.attributes[ua.AttributeIds.EventNotifier] = _ZERO
        for method in rtu.methods.values():
            self._method(method, indices)
        found = {}
        for variable in rtu.variables.values():
            node = node_id(variable.node, indices)
            found[node] = variable.node
            self._variable(
                node,
                _name(variable.node, own),
                self._parent(variable.node, indices, top),
                std(_TYPES[variable.kind][0]),
                None,
                writable=variable.writable,
            ).attributes[ua.AttributeIds.Value] = AttributeValue(data_value(variable))
        return found

    def _parent(self, node: Node, indices: dict[str, int], top: ua.NodeId) -> ua.NodeId:
        if node.kind == "s" and "/" in node.identifier:
            holder = node_id(Node(node.namespace, "s", node.identifier.rpartition("/")[0]), indices)
            if holder in self._aspace:
                return holder
        return top

    def _method(self, method: Method, indices: dict[str, int]) -> None:
        node, holder = node_id(method.node, indices), node_id(method.object, indices)
        if node in self._aspace:  # shared by several objects
            self._refer(self._aspace[holder], ua.ObjectIds.HasComponent, node)
            return
        made = self._node(node, _METHOD, _name(method.node, indices[""]), (holder, ua.ObjectIds.HasComponent))
        made.attributes[ua.AttributeIds.Executable] = _YES
        made.attributes[ua.AttributeIds.UserExecutable] = _YES
        if method.argument is None:
            return
        argument = ua.Argument(Name="value", DataType=std(_TYPES[method.argument][0]), ValueRank=-1)
        inputs = ua.NodeId(ua.String(f"{method.node.identifier}/InputArguments"), ua.Int16(indices[""]))
        variant = ua.Variant([argument], ua.VariantType.ExtensionObject)
        name = ua.QualifiedName("InputArguments", ua.UInt16(0))
        self._variable(inputs, name, node, std(ua.ObjectIds.Argument), variant, ua.ObjectIds.HasProperty)

    def _variable(
        self,
        node: ua.NodeId,
        name: ua.QualifiedName,
        parent: ua.NodeId,
        data_type: ua.NodeId,
        value: ua.Variant | None,
        reference: int = ua.ObjectIds.HasComponent,
        *,
        writable: bool = False,
    ) -> NodeData:
        is_property = reference == ua.ObjectIds.HasProperty
        kind = ua.ObjectIds.PropertyType if is_property else ua.ObjectIds.BaseDataVariableType
        made = self._node(node, _VARIABLE, name, (parent, reference), kind)
        level = _LEVELS[_READ_WRITE if writable else _READ]
        made.attributes.update(
            {
                ua.AttributeIds.DataType: _attribute(data_type, ua.VariantType.NodeId),
                ua.AttributeIds.ValueRank: _ARRAY if value is not None and isinstance(value.Value, list) else _SCALAR,
                ua.AttributeIds.AccessLevel: level,
                ua.AttributeIds.UserAccessLevel: level,
                ua.AttributeIds.MinimumSamplingInterval: _NOW_AND_THEN,
                ua.AttributeIds.Historizing: _NO,
            }
        )
        if value is not None:
            made.attributes[ua.AttributeIds.Value] = AttributeValue(sample(value, datetime.now(UTC)))
        return made

    def _node(
        self,
        node: ua.NodeId,
        node_class: ua.NodeClass,
        name: ua.QualifiedName,
        parent: tuple[ua.NodeId, int] | None = None,
        kind: int | None = None,
    ) -> NodeData:
        made = NodeData(node)
        made.attributes = {
            ua.AttributeIds.NodeId: _attribute(node, ua.VariantType.NodeId),
            ua.AttributeIds.NodeClass: _CLASSES[node_class],
            ua.AttributeIds.BrowseName: _attribute(name, ua.VariantType.QualifiedName),
            ua.AttributeIds.DisplayName: _attribute(ua.LocalizedText(name.Name), ua.VariantType.LocalizedText),
            ua.AttributeIds.WriteMask: _NO_MASK,
            ua.AttributeIds.UserWriteMask: _NO_MASK,
        }
        self._aspace[node] = made
        self._known[node] = (node_class, name, kind)
        if parent is not None:
            self._refer(self._aspace[parent[0]], parent[1], node)
            self._refer(made, parent[1], parent[0], forward=False)
        if kind is not None:
            self._refer(made, ua.ObjectIds.HasTypeDefinition, std(kind))
        return made

    def _refer(self, source: NodeData, kind: int, target: ua.NodeId, *, forward: bool = True) -> None:
        description = ua.ReferenceDescription(ReferenceTypeId=std(kind), IsForward=forward, NodeId=target)
        found = self._known.get(target)
        if found is not None:
            description.NodeClass, description.BrowseName, of = found
            description.DisplayName = ua.LocalizedText(description.BrowseName.Name)
            description.TypeDefinition = std(of) if of is not None else ua.NodeId()
        source.references.append(description)


def _name(node: Node, index: int) -> ua.QualifiedName:
    return ua.QualifiedName(node.identifier.rpartition("/")[2], ua.UInt16(index))


def node_id(node: Node, indices: dict[str, int]) -> ua.NodeId:
    """The id on the wire; indices: namespace → index, with the empty one for the device's own."""
    index = indices[node.namespace]
    return ua.NodeId.from_string(f"ns={index};{node.kind}={node.identifier}")


def data_value(variable: Variable) -> ua.DataValue:
    """What a client reads of a variable."""
    at = datetime.fromtimestamp(variable.source_us / 1e6, UTC)
    variant = ua.Variant(variable.value, _TYPES[variable.kind][1])
    if status_code(variable.status).is_bad():
        variant = ua.Variant(None, ua.VariantType.Null)
    return sample(variant, at, variable.status)


def indices_of(rtu: Rtu, uri: str, strangers: int) -> tuple[list[str], dict[str, int]]:
    """The namespaces of a run, and where each is; strangers come before the device's own, and so move it."""
    nodes = [*rtu.variables, *(node for key in rtu.methods for node in key)]
    others = sorted({node.namespace for node in nodes if node.namespace and node.namespace != rtu.namespace})
    namespaces = [STANDARD, uri, *(f"{STRANGER}:{number}" for number in range(strangers)), rtu.namespace, *others]
    indices = {namespace: index for index, namespace in enumerate(namespaces)}
    return namespaces, indices | {"": indices[rtu.namespace]}
