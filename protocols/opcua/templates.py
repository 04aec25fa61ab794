"""What the objects of one type share: attributes and references that are made once.

A ``Template`` stands for an ObjectType (or for plain folders). Sharing is safe because nobody may write an attribute of
ours, and because references and values are never changed after they were made.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from asyncua import ua
from asyncua.server.address_space import AttributeValue

from protocols.opcua.surface import DataType, Method, ObjectType, Variable
from protocols.opcua.values import WIRE, stamped, standard

Attributes = dict[ua.AttributeIds, AttributeValue]

SUBSCRIBE_TO_EVENTS, HISTORY_OF_EVENTS = 1, 4
READ, READ_HISTORY = 1, 4

_HAS_COMPONENT = standard(ua.ObjectIds.HasComponent)
_HAS_PROPERTY = standard(ua.ObjectIds.HasProperty)
_HAS_TYPE = standard(ua.ObjectIds.HasTypeDefinition)
_PROPERTY_TYPE = standard(ua.ObjectIds.PropertyType)
DATA_VARIABLE_TYPE = standard(ua.ObjectIds.BaseDataVariableType)
FOLDER_TYPE = standard(ua.ObjectIds.FolderType)
ANY_RANK_SCALAR, ONE_DIMENSION = -1, 1


def shared(value: object, type: ua.VariantType, array: bool = False) -> AttributeValue:
    """An attribute."""
    return AttributeValue(stamped(ua.Variant(value, type, is_array=array), ua.StatusCode()))


def reference(
    type: ua.NodeId,
    forward: bool,
    target: ua.NodeId,
    name: ua.QualifiedName,
    kind: ua.NodeClass,
    definition: ua.NodeId | None = None,
) -> ua.ReferenceDescription:
    """A reference. definition: the target's type, of objects and variables."""
    return ua.ReferenceDescription(
        ReferenceTypeId=type,
        IsForward=forward,
        NodeId=target,
        BrowseName=name,
        DisplayName=ua.LocalizedText(name.Name),
        NodeClass=kind,
        TypeDefinition=definition if definition is not None else ua.NodeId(),
    )


@dataclass(frozen=True, slots=True)
class Template:
    """All that the objects of one type have in common. name: of the type, empty for folders."""

    name: str
    type_node: ua.NodeId
    variables: tuple[Variable, ...]
    methods: dict[str, Method]
    index: dict[str, int]
    names: tuple[ua.QualifiedName, ...]
    variable_types: tuple[ua.NodeId, ...]
    object_attributes: Attributes
    variable_attributes: tuple[Attributes, ...]
    to_type: ua.ReferenceDescription
    to_variable_type: tuple[tuple[ua.ReferenceDescription, ...], ...]
    to_methods: tuple[ua.ReferenceDescription, ...]
    method_nodes: dict[ua.NodeId, Method] = field(default_factory=dict)


class Ids:
    """NodeIds and names in our namespace."""

    def __init__(self, namespace: int) -> None:
        self.namespace = namespace

    def node(self, key: str) -> ua.NodeId:
        """``s=key`` of ours."""
        return ua.NodeId(ua.String(key), ua.Int16(self.namespace))

    def name(self, text: str) -> ua.QualifiedName:
        """A browse name of ours."""
        return ua.QualifiedName(ua.String(text), ua.UInt16(self.namespace))

    def data_type(self, type: DataType) -> ua.NodeId:
        """The DataType that is declared."""
        return self.node("Type/Dbpos") if type is DataType.DBPOS else WIRE[type].data_type


def object_attributes() -> Attributes:
    """What all objects and folders of ours have in common."""
    return {
        ua.AttributeIds.NodeClass: shared(ua.NodeClass.Object, ua.VariantType.Int32),
        ua.AttributeIds.WriteMask: shared(0, ua.VariantType.UInt32),
        ua.AttributeIds.UserWriteMask: shared(0, ua.VariantType.UInt32),
        ua.AttributeIds.EventNotifier: shared(SUBSCRIBE_TO_EVENTS, ua.VariantType.Byte),
    }


def variable_attributes(variable: Variable, ids: Ids) -> Attributes:
    """What one variable has in common over all objects of its type."""
    access = READ | (READ_HISTORY if variable.history else 0)
    attributes = {
        ua.AttributeIds.NodeClass: shared(ua.NodeClass.Variable, ua.VariantType.Int32),
        ua.AttributeIds.BrowseName: shared(ids.name(variable.name), ua.VariantType.QualifiedName),
        ua.AttributeIds.DisplayName: shared(ua.LocalizedText(variable.name), ua.VariantType.LocalizedText),
        ua.AttributeIds.Description: shared(ua.LocalizedText(variable.description), ua.VariantType.LocalizedText),
        ua.AttributeIds.WriteMask: shared(0, ua.VariantType.UInt32),
        ua.AttributeIds.UserWriteMask: shared(0, ua.VariantType.UInt32),
        ua.AttributeIds.DataType: shared(ids.data_type(variable.type), ua.VariantType.NodeId),
        ua.AttributeIds.ValueRank: shared(ONE_DIMENSION if variable.array else ANY_RANK_SCALAR, ua.VariantType.Int32),
        ua.AttributeIds.AccessLevel: shared(access, ua.VariantType.Byte),
        ua.AttributeIds.UserAccessLevel: shared(access, ua.VariantType.Byte),
        ua.AttributeIds.MinimumSamplingInterval: shared(0.0, ua.VariantType.Double),
        ua.AttributeIds.Historizing: shared(variable.history, ua.VariantType.Boolean),
    }
    if variable.array:
        attributes[ua.AttributeIds.ArrayDimensions] = shared([0], ua.VariantType.UInt32, array=True)
    return attributes


def make_template(declared: ObjectType, ids: Ids) -> Template:
    """The template of an object type of ours, whose nodes are ``Type/<name>`` and below."""
    node = ids.node(f"Type/{declared.name}")
    methods = {method.name: ids.node(f"Type/{declared.name}/{method.name}") for method in declared.methods}
    return Template(
        name=declared.name,
        type_node=node,
        variables=declared.variables,
        methods={method.name: method for method in declared.methods},
        index={variable.name: index for index, variable in enumerate(declared.variables)},
        names=tuple(ids.name(variable.name) for variable in declared.variables),
        variable_types=tuple(DATA_VARIABLE_TYPE for _ in declared.variables),
        object_attributes=object_attributes(),
        variable_attributes=tuple(variable_attributes(variable, ids) for variable in declared.variables),
        to_type=reference(_HAS_TYPE, True, node, ids.name(declared.name), ua.NodeClass.ObjectType),
        to_variable_type=tuple(_to_variable_type(declared.name, variable, ids) for variable in declared.variables),
        to_methods=tuple(
            reference(_HAS_COMPONENT, True, methods[method.name], ids.name(method.name), ua.NodeClass.Method)
            for method in declared.methods
        ),
        method_nodes={methods[method.name]: method for method in declared.methods},
    )


def folder_template() -> Template:
    """The template of folders."""
    name = ua.QualifiedName(ua.String("FolderType"), ua.UInt16(0))
    return Template(
        name="",
        type_node=FOLDER_TYPE,
        variables=(),
        methods={},
        index={},
        names=(),
        variable_types=(),
        object_attributes=object_attributes(),
        variable_attributes=(),
        to_type=reference(_HAS_TYPE, True, FOLDER_TYPE, name, ua.NodeClass.ObjectType),
        to_variable_type=(),
        to_methods=(),
    )


def _to_variable_type(type_name: str, variable: Variable, ids: Ids) -> tuple[ua.ReferenceDescription, ...]:
    name = ua.QualifiedName(ua.String("BaseDataVariableType"), ua.UInt16(0))
    found = [reference(_HAS_TYPE, True, DATA_VARIABLE_TYPE, name, ua.NodeClass.VariableType)]
    if variable.unit:
        units = ids.node(f"Type/{type_name}/{variable.name}/EngineeringUnits")
        name = ua.QualifiedName(ua.String("EngineeringUnits"), ua.UInt16(0))
        found.append(reference(_HAS_PROPERTY, True, units, name, ua.NodeClass.Variable, _PROPERTY_TYPE))
    return tuple(found)
