"""What a name means at a place in a source file: an import, a local variable, a function of the same file.

Nothing is imported or run: all of it comes from the syntax tree. Where a name could mean two things, it means nothing
here, so that a rule stays silent. Pure.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator

from gateway.durable.determinism.rules import CONSTRUCTORS, SHARED_CONSTRUCTORS

Function = ast.FunctionDef | ast.AsyncFunctionDef
_SCOPES = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda
_MUTABLE_CALLS = {"list", "dict", "set", "defaultdict", "deque", "Counter", "OrderedDict", "bytearray"}


def own_nodes(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """All nodes of these statements, not those inside nested functions and classes (lambdas and comprehensions, yes)."""
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            waiting.extend(ast.iter_child_nodes(node))


def _stored(node: ast.AST) -> Iterator[str]:
    """Names that this one node binds."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            yield name
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.MatchMapping(rest=str(name)):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.arg(arg=name):
            yield name
        case _:
            return


class Scope:
    """The names of one function, or of the module (``outer`` is None).

    bound: names bound here other than by an import. values: what each was assigned, None for what can't be told.
    functions, classes: those defined here. annotations: of parameters and variables.
    """

    def __init__(self, body: list[ast.stmt], outer: Scope | None, arguments: ast.arguments | None = None) -> None:
        self.outer = outer
        self.imports: dict[str, str] = {}
        self.bound: set[str] = set()
        self.values: dict[str, list[ast.expr | None]] = {}
        self.functions: dict[str, Function] = {}
        self.classes: dict[str, ast.ClassDef] = {}
        self.annotations: dict[str, ast.expr] = {}
        self.globals: set[str] = set()
        if arguments is not None:
            self._take_arguments(arguments)
        simple: set[int] = set()
        for node in own_nodes(body):
            self._take(node, simple)
        self.bound -= self.globals

    def _take_arguments(self, arguments: ast.arguments) -> None:
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        for one in every:
            if one is not None:
                self.bound.add(one.arg)
                self.values.setdefault(one.arg, []).append(None)
                if one.annotation is not None:
                    self.annotations[one.arg] = one.annotation

    def _take(self, node: ast.AST, simple: set[int]) -> None:
        match node:
            case ast.Import(names=imported):
                for one in imported:
                    first = one.name.partition(".")[0]
                    self.imports[one.asname or first] = one.name if one.asname else first
                return
            case ast.ImportFrom(names=imported):
                module = "." * node.level + (node.module or "")
                for one in imported:
                    self.imports[one.asname or one.name] = f"{module}.{one.name}"
                return
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                self.globals.update(names)
                return
            case ast.Assign(targets=[ast.Name(id=name) as target], value=value):
                self._value(name, value, target, simple)
            case ast.AnnAssign(target=ast.Name(id=name) as target, value=value):
                self.annotations[name] = node.annotation
                if value is not None:
                    self._value(name, value, target, simple)
            case ast.NamedExpr(target=ast.Name(id=name) as target, value=value):
                self._value(name, value, target, simple)
            case ast.withitem(context_expr=value, optional_vars=ast.Name(id=name) as target):
                self._value(name, value, target, simple)
            case ast.AugAssign(target=ast.Name() as target, op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor()):
                simple.add(id(target))  # a set stays one
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                self.functions[name] = node
            case ast.ClassDef(name=name):
                self.classes[name] = node
            case _:
                pass
        for name in _stored(node):
            self.bound.add(name)
            if id(node) not in simple and not isinstance(node, _SCOPES):
                self.values.setdefault(name, []).append(None)

    def _value(self, name: str, value: ast.expr, target: ast.Name, simple: set[int]) -> None:
        # The target's own node comes later, since a parent comes before its children.
        simple.add(id(target))
        self.values.setdefault(name, []).append(value)

    @property
    def is_module(self) -> bool:
        """True for the outermost scope."""
        return self.outer is None

    def find(self, name: str) -> Scope | None:
        """The scope in which this name is bound; None: a builtin, or unknown."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.globals and scope.outer is not None:
                while scope.outer is not None and name not in scope.outer.bound:
                    scope = scope.outer
                return scope.outer
            if name in scope.bound or name in scope.imports:
                return scope
            scope = scope.outer
        return None

    # What an expression names

    def dotted(self, node: ast.expr, depth: int = 0) -> str:
        """The dotted name of what this expression is, with all aliases resolved; empty when that can't be told."""
        match node:
            case ast.Name(id=name):
                return self._dotted_name(name, depth)
            case ast.Attribute(value=value, attr=attr):
                owner = self.dotted(value, depth)
                return f"{owner}.{attr}" if owner else ""
            case ast.Call(func=func):
                made = self.dotted(func, depth)
                return _class_of(made) if made in CONSTRUCTORS else ""
            case ast.BinOp(left=left, op=ast.Div()):
                made = self.dotted(left, depth)
                return made if made == "pathlib.Path" else ""
            case ast.Await(value=value):
                return self.dotted(value, depth)
            case _:
                return ""

    def _dotted_name(self, name: str, depth: int) -> str:
        scope = self.find(name)
        if scope is None:
            return f"builtins.{name}" if hasattr(builtins, name) else ""
        if name in scope.imports:
            return scope.imports[name] if name not in scope.bound else ""
        values = scope.values.get(name, [])
        if len(values) != 1 or values[0] is None or depth > 4:
            return ""
        value = values[0]
        if isinstance(value, ast.Call) and scope.is_module:
            made = scope.dotted(value.func, depth + 1)
            return _class_of(made) if made in SHARED_CONSTRUCTORS else ""
        made = scope.dotted(value, depth + 1)
        return made if isinstance(value, ast.Name | ast.Attribute | ast.Call | ast.BinOp) else ""

    def shared_mutable(self, name: str) -> bool:
        """True for a list, dict, set or object that lives in the module."""
        scope = self.find(name)
        if scope is None or not scope.is_module or name not in scope.bound:
            return False
        return any(_is_mutable(value) for value in scope.values.get(name, []))


def _class_of(made: str) -> str:
    if made == "pathlib.PosixPath":
        return "pathlib.Path"
    return "random" if made in ("random.Random", "random.SystemRandom") else made


def _is_mutable(value: ast.expr | None) -> bool:
    match value:
        case ast.List() | ast.Dict() | ast.Set() | ast.ListComp() | ast.DictComp() | ast.SetComp():
            return True
        case ast.Call(func=ast.Name(id=name)) | ast.Call(func=ast.Attribute(attr=name)):
            return name in _MUTABLE_CALLS
        case _:
            return False
