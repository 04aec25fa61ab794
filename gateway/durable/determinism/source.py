"""One parsed source file: its functions, and which of them are orchestrators. Pure."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.durable.determinism.roots import handed_over, is_orchestrator
from gateway.durable.determinism.scopes import Function, Scope


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A function, the scope in which it is defined, and its class if it is a method."""

    function: Function
    outer: Scope
    cls: ast.ClassDef | None = None

    @property
    def name(self) -> str:
        """As people write it."""
        return self.function.name if self.cls is None else f"{self.cls.name}.{self.function.name}"


class Source:
    """One parsed file. Errors: SyntaxError, ValueError for a text that is no Python."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.lines = text.splitlines()
        self.tree = ast.parse(text, file)
        self.scope = Scope(self.tree.body, None)
        self._scopes: dict[int, Scope] = {}

    def orchestrators(self) -> list[Place]:
        """All orchestrators. A class that is made with the context of one belongs to it as a whole."""
        handed = handed_over(self.tree)
        every = list(self.functions())
        found = [one for one in every if is_orchestrator(one.function, handed)]
        classes = [one.cls for one in found if one.function.name == "__init__" and one.cls is not None]
        return [one for one in every if one in found or one.cls in classes]

    def functions(self) -> Iterator[Place]:
        """All functions, in the order of the file."""
        waiting: list[tuple[ast.AST, Scope, ast.ClassDef | None]] = [(self.tree, self.scope, None)]
        while waiting:
            node, outer, cls = waiting.pop()
            inner = cls
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield Place(node, outer, cls)
                outer, inner = self.scope_of(node, outer), None
            elif isinstance(node, ast.ClassDef):
                inner = node
            waiting.extend((child, outer, inner) for child in reversed(list(ast.iter_child_nodes(node))))

    def scope_of(self, node: Function, outer: Scope) -> Scope:
        """The scope inside this function, which is defined in ``outer``."""
        if id(node) not in self._scopes:
            self._scopes[id(node)] = Scope(node.body, outer, node.args)
        return self._scopes[id(node)]
