"""The types of our namespace, as nodes: made once, at the start, by the library's own node management.

For each ObjectType its variables (with units) and methods (with their arguments) as instance declarations; for each
EventType its fields; the enumeration Dbpos. Everything has a name for good: ``Type/BreakerType/Pos``.
What must stay true: browse names are ours, but for those that OPC UA itself gives (InputArguments, EnumStrings ...).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from asyncua import ua
from asyncua.server.address_space import AddressSpace

from protocols.opcua.surface import Argument, DataType, EventType, Method, ObjectType, Surface, Variable
from protocols.opcua.templates import ANY_RANK_SCALAR, DATA_VARIABLE_TYPE, ONE_DIMENSION, READ, Ids, shared
from protocols.opcua.values import DBPOS_NAMES, WIRE, standard

_HAS_SUBTYPE = standard(ua.ObjectIds.HasSubtype)
_HAS_COMPONENT = standard(ua.ObjectIds.HasComponent)
_HAS_PROPERTY = standard(ua.ObjectIds.HasProperty)
_HAS_RULE = standard(ua.ObjectIds.HasModellingRule)
_MANDATORY = standard(ua.ObjectIds.ModellingRule_Mandatory)
_PROPERTY_TYPE = standard(ua.ObjectIds.PropertyType)

UNECE = "http://www.opcfoundation.org/UA/units/un/cefact"
_UNIT_CODES = {
    "kW": "KWT", "MW": "MAW", "W": "WTT", "%": "P1", "s": "SEC", "ms": "C26", "min": "MIN", "h": "HUR", "°C": "CEL",
    "A": "AMP", "V": "VLT", "kV": "KVT", "Hz": "HTZ", "kVA": "KVA", "MVA": "MVA", "kvar": "KVR",
}  # fmt: skip
MESSAGE = Argument("Message", DataType.STRING, "How it ended, as a sentence.")
"""The first output of every method."""


class NodeManagement(Protocol):
    """The library's service that adds nodes."""

    def add_nodes(self, addnodeitems: list[ua.AddNodesItem]) -> list[ua.AddNodesResult]:
        """Add nodes with the reference from their parent."""

    def add_references(self, refs: list[ua.AddReferencesItem]) -> list[ua.StatusCode]:
        """Add references, one way each."""


class Types:
    """Makes the nodes of a surface's types."""

    def __init__(self, management: NodeManagement, space: AddressSpace, ids: Ids) -> None:
        self._management = management
        self._space = space
        self._ids = ids

    def build(self, surface: Surface) -> None:
        """All of them. Errors: UaStatusCodeError when the library refuses one (a name twice)."""
        self._dbpos()
        for each in surface.types:
            self._object_type(each)
        for event in surface.event_types:
            self._event_type(event)

    def _dbpos(self) -> None:
        key = "Type/Dbpos"
        fields = [
            ua.EnumField(Value=ua.Int64(value), DisplayName=ua.LocalizedText(name), Name=ua.String(name))
            for value, name in enumerate(DBPOS_NAMES)
        ]
        attributes = ua.DataTypeAttributes(IsAbstract=False)
        attributes.DisplayName = ua.LocalizedText("Dbpos")
        attributes.Description = ua.LocalizedText("Double point position of IEC 61850: what the two contacts say.")
        self._add(key, standard(ua.ObjectIds.Enumeration), _HAS_SUBTYPE, "Dbpos", ua.NodeClass.DataType, attributes)
        names = ua.Variant([ua.LocalizedText(name) for name in DBPOS_NAMES], ua.VariantType.LocalizedText)
        self._property(key, "EnumStrings", names, standard(ua.ObjectIds.LocalizedText))
        definition = shared(ua.EnumDefinition(Fields=fields), ua.VariantType.ExtensionObject)
        self._space[self._ids.node(key)].attributes[ua.AttributeIds.DataTypeDefinition] = definition

    def _object_type(self, declared: ObjectType) -> None:
        key = f"Type/{declared.name}"
        self._type(key, declared.name, declared.description, standard(ua.ObjectIds.BaseObjectType))
        for variable in declared.variables:
            self._variable(key, variable, _HAS_COMPONENT, DATA_VARIABLE_TYPE)
        for method in declared.methods:
            self._method(key, method)

    def _event_type(self, declared: EventType) -> None:
        key = f"Type/{declared.name}"
        above = ua.ObjectIds.AlarmConditionType if declared.alarm else ua.ObjectIds.BaseEventType
        self._type(key, declared.name, declared.description, standard(above))
        for variable in declared.fields:
            self._variable(key, variable, _HAS_PROPERTY, _PROPERTY_TYPE)

    def _type(self, key: str, name: str, description: str, above: ua.NodeId) -> None:
        attributes = ua.ObjectTypeAttributes(IsAbstract=False)
        attributes.DisplayName = ua.LocalizedText(name)
        attributes.Description = ua.LocalizedText(description)
        self._add(key, above, _HAS_SUBTYPE, name, ua.NodeClass.ObjectType, attributes)

    def _variable(self, parent: str, variable: Variable, by: ua.NodeId, definition: ua.NodeId) -> None:
        key = f"{parent}/{variable.name}"
        wire = WIRE[variable.type]
        null = (
            ua.Variant(None, wire.variant, is_array=True) if variable.array else ua.Variant(None, ua.VariantType.Null)
        )
        attributes = ua.VariableAttributes()
        attributes.DisplayName = ua.LocalizedText(variable.name)
        attributes.Description = ua.LocalizedText(variable.description)
        attributes.Value = null
        attributes.DataType = self._ids.data_type(variable.type)
        attributes.ValueRank = ua.Int32(ONE_DIMENSION if variable.array else ANY_RANK_SCALAR)
        attributes.AccessLevel = attributes.UserAccessLevel = ua.Byte(READ)
        self._add(key, self._ids.node(parent), by, variable.name, ua.NodeClass.Variable, attributes, definition)
        self._mandatory(key)
        if variable.unit:
            self._property(key, "EngineeringUnits", _unit(variable.unit), standard(ua.ObjectIds.EUInformation))

    def _method(self, parent: str, method: Method) -> None:
        key = f"{parent}/{method.name}"
        attributes = ua.MethodAttributes()
        attributes.DisplayName = ua.LocalizedText(method.name)
        attributes.Description = ua.LocalizedText(method.description)
        attributes.Executable = attributes.UserExecutable = True
        self._add(key, self._ids.node(parent), _HAS_COMPONENT, method.name, ua.NodeClass.Method, attributes)
        self._mandatory(key)
        if method.inputs:
            self._arguments(key, "InputArguments", method.inputs)
        self._arguments(key, "OutputArguments", (MESSAGE, *method.outputs))

    def _arguments(self, method: str, name: str, arguments: Sequence[Argument]) -> None:
        declared = [
            ua.Argument(
                Name=ua.String(each.name),
                DataType=self._ids.data_type(each.type),
                ValueRank=ua.Int32(ONE_DIMENSION if each.array else ANY_RANK_SCALAR),
                ArrayDimensions=[ua.UInt32(0)] if each.array else [],
                Description=ua.LocalizedText(each.description),
            )
            for each in arguments
        ]
        value = ua.Variant(declared, ua.VariantType.ExtensionObject, is_array=True)
        self._property(method, name, value, standard(ua.ObjectIds.Argument))

    def _property(self, parent: str, name: str, value: ua.Variant, data_type: ua.NodeId) -> None:
        attributes = ua.VariableAttributes()
        attributes.DisplayName = ua.LocalizedText(name)
        attributes.Value = value
        attributes.DataType = data_type
        attributes.ValueRank = ua.Int32(ONE_DIMENSION if value.is_array else ANY_RANK_SCALAR)
        attributes.AccessLevel = attributes.UserAccessLevel = ua.Byte(READ)
        key = f"{parent}/{name}"
        above = self._ids.node(parent)
        self._add(key, above, _HAS_PROPERTY, name, ua.NodeClass.Variable, attributes, _PROPERTY_TYPE, ours=False)

    def _add(
        self,
        key: str,
        parent: ua.NodeId,
        by: ua.NodeId,
        name: str,
        kind: ua.NodeClass,
        attributes: object,
        definition: ua.NodeId | None = None,
        ours: bool = True,
    ) -> None:
        item = ua.AddNodesItem()
        item.RequestedNewNodeId = self._ids.node(key)
        item.ParentNodeId = parent
        item.ReferenceTypeId = by
        item.BrowseName = self._ids.name(name) if ours else ua.QualifiedName(ua.String(name), ua.UInt16(0))
        item.NodeClass = kind
        item.NodeAttributes = attributes
        if definition is not None:
            item.TypeDefinition = definition
        self._management.add_nodes([item])[0].StatusCode.check()

    def _mandatory(self, key: str) -> None:
        item = ua.AddReferencesItem()
        item.SourceNodeId = self._ids.node(key)
        item.ReferenceTypeId = _HAS_RULE
        item.IsForward = True
        item.TargetNodeId = _MANDATORY
        item.TargetNodeClass = ua.NodeClass.Object
        self._management.add_references([item])[0].check()


def _unit(unit: str) -> ua.Variant:
    """EUInformation; its number is the code of UN/CEFACT's recommendation 20, byte by byte (-1: it has none)."""
    code = _UNIT_CODES.get(unit)
    number = int.from_bytes(code.encode("ascii"), "big") if code is not None else -1
    information = ua.EUInformation(
        NamespaceUri=ua.String(UNECE), UnitId=ua.Int32(number), DisplayName=ua.LocalizedText(unit)
    )
    return ua.Variant(information, ua.VariantType.ExtensionObject)
