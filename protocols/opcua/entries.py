"""What is kept of an object: a small record of its latest samples, its children, and who watches it.

A site's 12,000 breakers are as many of these, and nothing else (see ``space``). What must stay true: nothing but a watcher
that is really there keeps memory for itself.
"""

from __future__ import annotations

from collections.abc import Callable

from asyncua import ua
from asyncua.server.address_space import NodeData

from protocols.opcua.surface import Sample
from protocols.opcua.templates import Template

Watcher = Callable[[ua.DataValue], None]


class Watchers(dict[int, Watcher]):
    """Who watches one variable. It is in its entry's books only while somebody does."""

    __slots__ = ("_entry", "_index")

    def __init__(self, entry: Entry, index: int) -> None:
        super().__init__()
        self._entry = entry
        self._index = index

    def __setitem__(self, handle: int, watcher: Watcher) -> None:
        super().__setitem__(handle, watcher)
        self._entry.watch(self._index, self)

    def pop(self, handle: int, *default: object) -> Watcher:
        watcher = super().pop(handle, *default)
        if not self:
            self._entry.unwatch(self._index)
        return watcher


class Entry:
    """An object or a folder. samples: by index of its type's variables; watchers: of those that somebody watches."""

    __slots__ = ("children", "description", "key", "name", "parent", "samples", "template", "watchers")

    def __init__(self, key: str, name: str, parent: str, description: str, template: Template) -> None:
        self.key = key
        self.name = name
        self.parent = parent
        self.description = description
        self.template = template
        self.children: dict[str, Entry] | None = None
        self.samples: list[Sample | None] = [None] * len(template.variables)
        self.watchers: dict[int, Watchers] | None = None

    def watch(self, index: int, watchers: Watchers) -> None:
        """Somebody watches this variable."""
        if self.watchers is None:
            self.watchers = {}
        self.watchers[index] = watchers

    def unwatch(self, index: int) -> None:
        """Nobody watches this variable any more."""
        if self.watchers is not None:
            self.watchers.pop(index, None)
            if not self.watchers:
                self.watchers = None


class ObjectNode(NodeData):
    """An object's node; its references are put together when they are asked for."""

    def __init__(self, nodeid: ua.NodeId, references: Callable[[], list[ua.ReferenceDescription]]) -> None:
        self._references = references
        super().__init__(nodeid)

    @property
    def references(self) -> list[ua.ReferenceDescription]:
        """All of them, made anew."""
        return self._references()

    @references.setter
    def references(self, nothing: list[ua.ReferenceDescription]) -> None:
        """The library sets an empty list at the start; ours are never stored."""
