"""Which expressions are sets, as far as the source tells: their order is another one in each process.

Strings are hashed with a secret that each process draws anew, so a loop over a set of names may open feeders in one
order before a restart and ask for another one at replay. A set of whole numbers keeps its order, and so does a dict.
Pure.
"""

from __future__ import annotations

import ast
import re

from gateway.durable.determinism.scopes import Scope

_SET_TYPES = {"set", "frozenset", "Set", "FrozenSet", "AbstractSet", "MutableSet"}
_OF_NUMBERS = re.compile(r"\[(int|bool)\]")
_SET_METHODS = {"union", "intersection", "difference", "symmetric_difference", "copy"}
_OPERATORS = ast.BitOr | ast.BitAnd | ast.Sub | ast.BitXor

# What takes the elements in their order; every other function that takes a set (sorted, len, sum, …) may.
_IN_ORDER = {
    "builtins.list",
    "builtins.tuple",
    "builtins.enumerate",
    "builtins.iter",
    "builtins.zip",
    "builtins.map",
    "builtins.filter",
    "builtins.reversed",
    "builtins.next",
    "itertools.chain",
    "itertools.islice",
    "itertools.cycle",
    "itertools.batched",
    "collections.deque",
    "functools.reduce",
}
_WHATEVER_ORDER = {
    f"builtins.{name}" for name in ("sorted", "set", "frozenset", "len", "any", "all", "sum", "min", "max")
}
_TASKS = {"task_all", "task_any"}


def is_set(node: ast.expr, scope: Scope, depth: int = 0) -> bool:
    """True if this is a set for certain."""
    if depth > 5:
        return False
    match node:
        case ast.Set(elts=elements):
            if len(elements) == 1 and not isinstance(elements[0], ast.Starred):
                return False
            return not all(isinstance(one, ast.Constant) and type(one.value) in (int, bool) for one in elements)
        case ast.SetComp():
            return True
        case ast.Call(func=ast.Attribute(value=owner, attr=attr)) if attr in _SET_METHODS:
            return is_set(owner, scope, depth + 1)
        case ast.Call(func=func, args=arguments):
            return scope.dotted(func) in ("builtins.set", "builtins.frozenset") and bool(arguments)
        case ast.BinOp(left=left, op=op, right=right) if isinstance(op, _OPERATORS):
            sides = (left, right)
            return any(is_set(side, scope, depth + 1) for side in sides) or any(_is_keys(side) for side in sides)
        case ast.IfExp(body=body, orelse=orelse):
            return is_set(body, scope, depth + 1) or is_set(orelse, scope, depth + 1)
        case ast.NamedExpr(value=value):
            return is_set(value, scope, depth + 1)
        case ast.Name(id=name):
            return _is_set_name(name, scope, depth)
        case _:
            return False


def _is_keys(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("keys", "items")


def _is_set_name(name: str, scope: Scope, depth: int) -> bool:
    home = scope.find(name)
    if home is None or name not in home.bound:
        return False
    annotation = home.annotations.get(name)
    values = home.values.get(name, [])
    if annotation is not None and _says_set(annotation):
        return _OF_NUMBERS.search(ast.unparse(annotation)) is None
    if not values or any(value is None for value in values):
        return False
    known = [is_set(value, home, depth + 1) or _empty_set(value, home) for value in values if value is not None]
    return all(known)


def _empty_set(node: ast.expr, scope: Scope) -> bool:
    # Filled later, with what can't be told: names, most likely.
    return isinstance(node, ast.Call) and not node.args and scope.dotted(node.func) == "builtins.set"


def _says_set(annotation: ast.expr) -> bool:
    match annotation:
        case ast.Constant(value=str(text)):
            return text.partition("[")[0].rpartition(".")[2] in _SET_TYPES
        case ast.Subscript(value=value):
            return _says_set(value)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in _SET_TYPES
        case _:
            return False


def ordered_uses(node: ast.AST, scope: Scope, harmless: set[int]) -> list[ast.expr]:
    """Sets whose order this node takes over. harmless: ids of nodes whose result has no order; added to as found."""
    match node:
        case ast.Set(elts=elements):
            harmless.update(id(one) for one in elements)
            return []
        case ast.For(iter=taken) | ast.YieldFrom(value=taken) | ast.Starred(value=taken):
            return [] if id(node) in harmless else _sets([taken], scope)
        case ast.ListComp(generators=loops) | ast.GeneratorExp(generators=loops) | ast.DictComp(generators=loops):
            return [] if id(node) in harmless else _sets([loop.iter for loop in loops], scope)
        case ast.Assign(targets=[ast.Tuple() | ast.List()], value=value):
            return _sets([value], scope)
        case ast.Call():
            return _in_call(node, scope, harmless)
        case _:
            return []


def _in_call(node: ast.Call, scope: Scope, harmless: set[int]) -> list[ast.expr]:
    name = scope.dotted(node.func)
    if name in _WHATEVER_ORDER:
        harmless.update(id(one) for one in node.args)
        return []
    if isinstance(node.func, ast.Attribute):
        if node.func.attr == "pop" and not node.args:
            return _sets([node.func.value], scope)
        if node.func.attr in _TASKS or node.func.attr == "join":
            return _sets(node.args, scope)
        if node.func.attr in _SET_METHODS or node.func.attr in ("update", "difference_update", "issubset"):
            harmless.update(id(one) for one in node.args)
    if name == "builtins.next" or name not in _IN_ORDER:
        return []
    return [] if id(node) in harmless else _sets(node.args, scope)


def _sets(nodes: list[ast.expr], scope: Scope) -> list[ast.expr]:
    return [node for node in nodes if is_set(node, scope)]
