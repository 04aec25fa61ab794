"""The address space: asyncua's, with writes that take effect at once and watchers that are plain functions.

asyncua's own copies the value for each watcher and awaits each of them; with 12,000 subscribed values this was half of
all time. Here a value is an immutable DataValue that everybody shares: **who writes a value never changes it later**.
Nodes are asyncua's ``NodeData``; a value that changes sits in a ``Cell`` (or asyncua's ``AttributeValue``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, MutableMapping

from asyncua import ua
from asyncua.server.address_space import AddressSpace, AttributeValue, NodeData

from protocols.opcua.hardening.errors import bad, standard

Watcher = Callable[[ua.DataValue], None]

_Nodes = MutableMapping[ua.NodeId, NodeData]
_NO_WATCHERS: dict[int, Watcher] = {}


class Cell:
    """One value and who watches it: what asyncua's ``AttributeValue`` is, at a quarter of its size."""

    __slots__ = ("datachange_callbacks", "value")
    value_callback = None
    value_setter = None

    def __init__(self, value: ua.DataValue) -> None:
        self.value = value
        self.datachange_callbacks = _NO_WATCHERS


class Space(AddressSpace):
    """The address space of a hardened server."""

    def __init__(self) -> None:
        super().__init__()
        self._watch_counter = 0
        self._subtypes: dict[ua.NodeId, frozenset[ua.NodeId]] = {}

    def overlay(self, make: Callable[[_Nodes], _Nodes]) -> None:
        """Look nodes up in what ``make`` gives from now on; it gets what was looked up in before. A node that is made at
        each look-up is fine: whoever watches a value keeps its cell."""
        self._nodes = make(self._nodes)  # type: ignore[assignment]

    # -- values

    def put(self, node: ua.NodeId, value: ua.DataValue) -> None:
        """The Value of this node is so from now on; watchers are told at once. Errors: KeyError."""
        self.put_cell(self._nodes[node].attributes[ua.AttributeIds.Value], value)

    @staticmethod
    def put_cell(cell: Cell | AttributeValue, value: ua.DataValue) -> None:
        """``put`` for one who kept the cell."""
        cell.value = value
        if cell.datachange_callbacks:
            for watcher in tuple(cell.datachange_callbacks.values()):
                watcher(value)

    async def write_attribute_value(
        self, nodeid: ua.NodeId, attr: ua.AttributeIds, value: ua.DataValue
    ) -> ua.StatusCode:
        """asyncua's way in, for its own nodes (server status, namespaces)."""
        node = self._nodes.get(nodeid)
        if node is None:
            return bad(ua.StatusCodes.BadNodeIdUnknown)
        cell = node.attributes.get(attr)
        if cell is None:
            return bad(ua.StatusCodes.BadAttributeIdInvalid)
        if value.StatusCode is not None and value.StatusCode.is_bad():
            value = dataclasses.replace(value, Value=ua.Variant(None, ua.VariantType.Null))
        elif not self._is_expected_variant_type(value, cell, node):
            return bad(ua.StatusCodes.BadTypeMismatch)
        self.put_cell(cell, value)
        return ua.StatusCode()

    @staticmethod
    def shown(cell: Cell | AttributeValue, node: ua.NodeId, attr: ua.AttributeIds) -> ua.DataValue:
        """What a cell of this node has now."""
        if cell.value_callback is not None:
            return cell.value_callback(node, attr)
        return (
            cell.value if cell.value is not None else ua.DataValue(StatusCode=bad(ua.StatusCodes.BadAttributeIdInvalid))
        )

    def watch(self, node: ua.NodeId, attr: ua.AttributeIds, watcher: Watcher) -> Callable[[], None]:
        """Call watcher at each new value. Gives what ends it. Errors: KeyError."""
        return self.watch_cell(self._nodes[node].attributes[attr], watcher)

    def watch_cell(self, cell: Cell | AttributeValue, watcher: Watcher) -> Callable[[], None]:
        """``watch`` for one who has the cell. The mapping of watchers is the one that it has now, also if the cell itself
        is made anew at each look."""
        if cell.datachange_callbacks is _NO_WATCHERS:
            cell.datachange_callbacks = {}
        self._watch_counter += 1
        key = -self._watch_counter
        watchers = cell.datachange_callbacks
        watchers[key] = watcher

        def end() -> None:
            watchers.pop(key, None)
            if not watchers and isinstance(cell, Cell):
                cell.datachange_callbacks = _NO_WATCHERS

        return end

    def remove(self, node: ua.NodeId) -> None:
        """Take a node away; watchers see BadNodeIdUnknown. References to it are the caller's business. Unknown: nothing."""
        data: NodeData | None = self._nodes.pop(node, None)
        if data is None:
            return
        cell = data.attributes.get(ua.AttributeIds.Value)
        if cell is not None and cell.datachange_callbacks:
            self.put_cell(cell, ua.DataValue(StatusCode=bad(ua.StatusCodes.BadNodeIdUnknown)))

    # -- types of references

    def reference_types(self, base: ua.NodeId) -> frozenset[ua.NodeId]:
        """A reference type and all its subtypes; kept, since these don't change while the server runs."""
        found = self._subtypes.get(base)
        if found is None:
            found = frozenset(self._walk(base, standard(ua.ObjectIds.HasSubtype)))
            if len(self._subtypes) < 1000:
                self._subtypes[base] = found
        return found

    def subtypes(self, base: ua.NodeId) -> frozenset[ua.NodeId]:
        """A type (of objects, variables, events) and all its subtypes."""
        return self.reference_types(base)

    def _walk(self, start: ua.NodeId, by: ua.NodeId) -> Iterator[ua.NodeId]:
        seen = {start}
        todo = [start]
        while todo:
            node = todo.pop()
            yield node
            data = self._nodes.get(node)
            for reference in data.references if data is not None else ():
                if reference.IsForward and reference.ReferenceTypeId == by and reference.NodeId not in seen:
                    seen.add(reference.NodeId)
                    todo.append(reference.NodeId)
