"""Our objects in the address space: nodes that are made when somebody looks, and forgotten afterwards.

A site has some 12,000 breakers with 16 variables each. As nodes of the library that is a third of a gigabyte of objects
that nobody looks at, most of the time. Here an object is one small record (``Entry``): its key, its type, its latest
samples. ``Nodes`` is a mapping that answers the library's look-ups: what is in the plain dict underneath (OPC UA's own
nodes, our types) comes from there, and a node of an object is put together from its record and the attributes that all
objects of its type share. What lasts beyond a look-up lives in the record: samples, children, and who watches a variable.

What must stay true: a node looks the same each time; references between two nodes can be followed from both; who watches
a variable can stop watching, even when its object is gone meanwhile. Single-threaded: the event loop's. Nothing here
survives a crash or has to: the gateway describes all of it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from datetime import datetime

import structlog
from asyncua import ua
from asyncua.server.address_space import AttributeValue, NodeData

from protocols.opcua.entries import Entry, ObjectNode, Watchers
from protocols.opcua.services import Place
from protocols.opcua.surface import Folder, Object, Sample, Variable
from protocols.opcua.templates import Template, reference, shared
from protocols.opcua.values import stamped, standard, status, to_data_value

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

Plain = MutableMapping[ua.NodeId, NodeData]

_OBJECTS = standard(ua.ObjectIds.ObjectsFolder)
_SERVER = standard(ua.ObjectIds.Server)
_ORGANIZES = standard(ua.ObjectIds.Organizes)
_HAS_COMPONENT = standard(ua.ObjectIds.HasComponent)
_HAS_NOTIFIER = standard(ua.ObjectIds.HasNotifier)
GONE = stamped(ua.Variant(None, ua.VariantType.Null), status(ua.StatusCodes.BadNodeIdUnknown))
_DEFECT = status(ua.StatusCodes.BadInternalError)
_RESERVED = ("Type/", "Alarm/")
"""Keys that types and conditions have."""


class Nodes(MutableMapping[ua.NodeId, NodeData]):
    """What the library looks nodes up in. namespace: index of ours; templates: by the name of the type, "" for folders;
    now: the wall clock, for the server's time-stamps."""

    def __init__(self, namespace: int, templates: Mapping[str, Template], now: Callable[[], datetime]) -> None:
        self._plain: Plain = {}
        self._namespace = namespace
        self._templates = templates
        self._entries: dict[str, Entry] = {}
        self._wrong: set[str] = set()
        self._now = now

    def __getitem__(self, nodeid: ua.NodeId) -> NodeData:
        found = self._plain.get(nodeid)
        if found is not None:
            return found
        entry, index = self._find(nodeid)
        return self._object_node(entry) if index is None else self._variable_node(entry, index)

    def __setitem__(self, nodeid: ua.NodeId, node: NodeData) -> None:
        self._plain[nodeid] = node

    def __delitem__(self, nodeid: ua.NodeId) -> None:
        del self._plain[nodeid]

    def __contains__(self, nodeid: object) -> bool:
        if not isinstance(nodeid, ua.NodeId):
            return False
        if nodeid in self._plain:
            return True
        try:
            self._find(nodeid)
        except KeyError:
            return False
        return True

    def __iter__(self) -> Iterator[ua.NodeId]:
        """The nodes that are really there: the library walks over all of them for its own nodes only."""
        return iter(self._plain)

    def __len__(self) -> int:
        return len(self._plain)

    def attach(self, plain: Plain) -> Nodes:
        """Stand in front of what the library has so far; once."""
        self._plain = plain
        for entry in self._entries.values():
            if not entry.parent:
                self._hang_up(entry)
        return self

    # --- what the server asks and changes -------------------------------------------------------------------------

    def entry(self, key: str) -> Entry:
        """The object or folder of this key. Errors: KeyError."""
        return self._entries[key]

    def get_entry(self, nodeid: ua.NodeId) -> Entry | None:
        """The object or folder that this node is, if it is one."""
        if nodeid.NamespaceIndex != self._namespace or not isinstance(nodeid.Identifier, str):
            return None
        return self._entries.get(nodeid.Identifier)

    def place(self, nodeid: ua.NodeId) -> Place | None:
        """Where a node of ours belongs."""
        try:
            entry, index = self._find(nodeid)
        except KeyError:
            plain = nodeid.NamespaceIndex == self._namespace and nodeid in self._plain
            return Place("") if plain else None
        return Place(entry.template.name, "" if index is None else entry.template.variables[index].name)

    def variable(self, nodeid: ua.NodeId) -> tuple[Entry, Variable] | None:
        """The object and variable that this node is, if it is a variable of an object."""
        try:
            entry, index = self._find(nodeid)
        except KeyError:
            return None
        return None if index is None else (entry, entry.template.variables[index])

    def node_id(self, key: str) -> ua.NodeId:
        """The NodeId of an object, folder or variable of ours."""
        return ua.NodeId(ua.String(key), ua.Int16(self._namespace))

    def add(self, described: Iterable[Folder | Object]) -> None:
        """Put objects and folders below their parents. Errors: KeyError (unknown type or parent), ValueError (twice)."""
        for each in described:
            self._check_key(each.key)
            template = self._templates[each.type if isinstance(each, Object) else ""]
            entry = Entry(each.key, each.name, each.parent, each.description, template)
            if each.parent:
                parent = self._entries[each.parent]
                if parent.children is None:
                    parent.children = {}
                parent.children[each.key] = entry
            elif self._plain:
                self._hang_up(entry)
            self._entries[each.key] = entry

    def _check_key(self, key: str) -> None:
        if self.place(self.node_id(key)) is not None or key.startswith(_RESERVED):
            raise ValueError(f"there is a node {key} already")

    def remove(self, key: str) -> list[Entry]:
        """Take an object away, with all below it; gives those that somebody still watches. Unknown keys: nothing."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return []
        if entry.parent:
            parent = self._entries.get(entry.parent)
            if parent is not None and parent.children is not None:
                parent.children.pop(key, None)
        elif self._plain:
            target = self.node_id(key)
            for root in (_OBJECTS, _SERVER):
                node = self._plain[root]
                node.references[:] = [each for each in node.references if each.NodeId != target]
        watched = [] if entry.watchers is None else [entry]
        for child in list(entry.children or ()):
            watched.extend(self.remove(child))
        return watched

    def _hang_up(self, entry: Entry) -> None:
        # HasNotifier stands here alone: a second hierarchical reference between a folder and what is in it would show
        # everything twice to whoever browses. Events are seen at every folder above their source all the same.
        self._plain[_OBJECTS].references.append(self._to_entry(entry, _ORGANIZES, True))
        self._plain[_SERVER].references.append(self._to_entry(entry, _HAS_NOTIFIER, True))

    def above(self, entry: Entry) -> Iterator[ua.NodeId]:
        """The nodes that an event of this object is seen at: itself, what it stands below, the Server object."""
        here: Entry | None = entry
        while here is not None:
            yield self.node_id(here.key)
            here = self._entries.get(here.parent)
        yield _SERVER

    def data_value(self, entry: Entry, index: int) -> ua.DataValue:
        """The latest value of a variable, stamped with the server's time."""
        return self.shown(entry.samples[index], entry.template.variables[index])

    def shown(self, sample: Sample | None, variable: Variable) -> ua.DataValue:
        """A sample as it goes out. One that isn't what its variable declares is a defect of the gateway's: it goes out as
        BadInternalError and is logged, once for each variable."""
        now = self._now()
        try:
            return to_data_value(sample, variable, now)
        except (ValueError, OverflowError) as error:
            if variable.name not in self._wrong:
                self._wrong.add(variable.name)
                log.error("opcua_value_of_wrong_type", variable=variable.name, error=str(error))
            return stamped(ua.Variant(None, ua.VariantType.Null), _DEFECT, None, now)

    # --- nodes ----------------------------------------------------------------------------------------------------

    def _find(self, nodeid: ua.NodeId) -> tuple[Entry, int | None]:
        key = nodeid.Identifier
        if nodeid.NamespaceIndex != self._namespace or not isinstance(key, str):
            raise KeyError(nodeid)
        entry = self._entries.get(key)
        if entry is not None:
            return entry, None
        head, _, tail = key.rpartition("/")
        entry = self._entries[head]
        return entry, entry.template.index[tail]

    def _object_node(self, entry: Entry) -> NodeData:
        nodeid = self.node_id(entry.key)
        node = ObjectNode(nodeid, lambda: self._object_references(entry))
        node.attributes = {
            **entry.template.object_attributes,
            ua.AttributeIds.NodeId: shared(nodeid, ua.VariantType.NodeId),
            ua.AttributeIds.BrowseName: shared(self._browse_name(entry), ua.VariantType.QualifiedName),
            ua.AttributeIds.DisplayName: shared(ua.LocalizedText(entry.name), ua.VariantType.LocalizedText),
            ua.AttributeIds.Description: shared(ua.LocalizedText(entry.description), ua.VariantType.LocalizedText),
        }
        return node

    def _variable_node(self, entry: Entry, index: int) -> NodeData:
        variable = entry.template.variables[index]
        nodeid = self.node_id(f"{entry.key}/{variable.name}")
        node = ObjectNode(nodeid, lambda: self._variable_references(entry, index))
        value = AttributeValue(GONE)
        value.value_callback = lambda _node, _attribute: self.data_value(entry, index)
        known = entry.watchers.get(index) if entry.watchers is not None else None
        value.datachange_callbacks = Watchers(entry, index) if known is None else known
        node.attributes = {
            **entry.template.variable_attributes[index],
            ua.AttributeIds.NodeId: shared(nodeid, ua.VariantType.NodeId),
            ua.AttributeIds.Value: value,
        }
        return node

    def _browse_name(self, entry: Entry) -> ua.QualifiedName:
        return ua.QualifiedName(ua.String(entry.name), ua.UInt16(self._namespace))

    def _to_entry(self, entry: Entry, type: ua.NodeId, forward: bool) -> ua.ReferenceDescription:
        return reference(
            type,
            forward,
            self.node_id(entry.key),
            self._browse_name(entry),
            ua.NodeClass.Object,
            entry.template.type_node,
        )

    def _object_references(self, entry: Entry) -> list[ua.ReferenceDescription]:
        template = entry.template
        found = [template.to_type]
        parent = self._entries.get(entry.parent)
        if parent is not None:
            found.append(self._to_entry(parent, _HAS_COMPONENT if parent.template.name else _ORGANIZES, False))
        elif not entry.parent:
            for kind, root, text in ((_ORGANIZES, _OBJECTS, "Objects"), (_HAS_NOTIFIER, _SERVER, "Server")):
                qualified = ua.QualifiedName(ua.String(text), ua.UInt16(0))
                found.append(reference(kind, False, root, qualified, ua.NodeClass.Object, None))
        for variable, name, kind in zip(template.variables, template.names, template.variable_types, strict=True):
            nodeid = self.node_id(f"{entry.key}/{variable.name}")
            found.append(reference(_HAS_COMPONENT, True, nodeid, name, ua.NodeClass.Variable, kind))
        found.extend(template.to_methods)
        below = _HAS_COMPONENT if template.name else _ORGANIZES
        found.extend(self._to_entry(child, below, True) for child in (entry.children or {}).values())
        return found

    def _variable_references(self, entry: Entry, index: int) -> list[ua.ReferenceDescription]:
        return [*entry.template.to_variable_type[index], self._to_entry(entry, _HAS_COMPONENT, False)]
