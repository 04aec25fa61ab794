"""Reads the source of orchestrators and finds what replay can't bear.

Begins at an orchestrator and follows its calls into functions, and methods of classes, of the same file; never into
activities and entities, which may do all of it. Pure: nothing is imported or run.

A false alarm is worse than a miss, since it teaches people not to look. So it does not see: functions of other files;
methods of objects whose class it can't tell; sets that come out of attributes, parameters without annotation, or calls;
``getattr`` and ``eval``; variables of an enclosing function that are changed; global changes by a method that is not one
of a list, dict or set; texts that hold an address (``repr`` of an object). The guard at run time (``guard.py``) sees
some of these.
"""

from __future__ import annotations

import ast

from gateway.durable.determinism import rules
from gateway.durable.determinism.finding import Finding, allowed_at
from gateway.durable.determinism.roots import is_marked_other
from gateway.durable.determinism.rules import Rule, plain
from gateway.durable.determinism.scopes import Function, Scope, own_nodes
from gateway.durable.determinism.sets import ordered_uses
from gateway.durable.determinism.source import Place, Source

_CHANGES = {
    *("append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse", "appendleft", "popleft", "rotate"),
    *("add", "discard", "update", "setdefault", "popitem", "difference_update", "intersection_update"),
}
_HIGHER_ORDER = {"map", "filter", "sorted", "min", "max", "partial", "reduce"}


class _Walk:
    """One orchestrator with all that it calls."""

    def __init__(self, source: Source, orchestrator: str) -> None:
        self.findings: set[Finding] = set()
        self._source = source
        self._orchestrator = orchestrator
        self._seen: set[tuple[int, bool]] = set()
        self._scope = source.scope
        self._place: Place | None = None
        self._harmless: set[int] = set()
        self._identities: set[int] = set()
        self._steps = False
        self._delegates = False

    def enter(self, place: Place, steps: bool) -> None:
        """Look through one function. steps: what it yields goes to the engine."""
        function = place.function
        if (id(function), steps) in self._seen or is_marked_other(function):
            return
        self._seen.add((id(function), steps))
        before = self._scope, self._place, self._steps
        self._scope, self._place, self._steps = self._source.scope_of(function, place.outer), place, steps
        if isinstance(function, ast.AsyncFunctionDef):
            self._note(function, rules.ASYNC, function.name)
        self._global_changes(function)
        for statement in function.body:
            self._visit(statement)
        self._scope, self._place, self._steps = before

    def _note(self, node: ast.stmt | ast.expr, rule: Rule, name: str) -> None:
        last = node.end_lineno if isinstance(node, ast.expr) and node.end_lineno else node.lineno
        for line in (node.lineno, last):
            if rule.id in allowed_at(self._source.lines, line):
                return
        place = (self._source.file, node.lineno, node.col_offset + 1)
        self.findings.add(Finding(*place, rule.id, rule.words(name), rule.instead, self._orchestrator))

    def _quiet(self, node: ast.AST) -> None:
        """``id(x)`` that only tells one object from another is the same in each process."""
        used: list[ast.expr | None] = []
        match node:
            case ast.Subscript(slice=key):
                used.append(key)
            case ast.Compare(left=left, comparators=others):
                used += [left, *others]
            case ast.Dict(keys=keys):
                used += keys
            case ast.Set(elts=elements):
                used += elements
            case ast.SetComp(elt=element) | ast.DictComp(key=element):
                used.append(element)
            case ast.Call(func=ast.Attribute(attr="add" | "discard" | "remove" | "get" | "pop"), args=arguments):
                used += arguments
            case _:
                return
        self._identities.update(id(one) for one in used if one is not None)

    # One node after the other

    def _visit(self, node: ast.AST) -> None:
        for taken in ordered_uses(node, self._scope, self._harmless):
            self._note(taken, rules.SET_ORDER, f"the set {_short(taken)}")
        self._quiet(node)
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() | ast.Global() | ast.Nonlocal():
                return  # looked through when it is called
            case ast.AnnAssign():
                self._assigned(node.target)
                if node.value is not None:
                    self._visit(node.value)
                return
            case ast.If(test=test) if _only_live(test):
                self._only_live(node)
                return
            case ast.Call():
                self._call(node)
                return
            case ast.Attribute(ctx=ast.Load()) | ast.Name(ctx=ast.Load()):
                if self._named(node):
                    return
            case ast.Await() | ast.AsyncFor() | ast.AsyncWith():
                self._note(node, rules.ASYNC, "await" if isinstance(node, ast.Await) else "what waits here")
            case ast.Yield(value=value) if value is not None and self._steps:
                self._yielded(value)
            case ast.YieldFrom(value=value):
                self._delegates = self._steps
                self._visit(value)
                self._delegates = False
                return
            case ast.Subscript(ctx=ast.Store() | ast.Del()) | ast.Attribute(ctx=ast.Store() | ast.Del()):
                self._assigned(node)
            case ast.AugAssign(target=target):
                self._assigned(target)
            case _:
                pass
        for child in ast.iter_child_nodes(node):
            self._visit(child)

    def _only_live(self, node: ast.If) -> None:
        # What is said only if the turn is no replay, as v1 teaches it, is said once.
        before = set(self.findings)
        for statement in node.body:
            self._visit(statement)
        self.findings = before | {one for one in self.findings - before if one.rule != rules.LOG.id}
        for statement in node.orelse:
            self._visit(statement)

    def _named(self, node: ast.Name | ast.Attribute) -> bool:
        """True if this is a name that breaks a rule (and has been told)."""
        if isinstance(node, ast.Name):
            home = self._scope.find(node.id)
            if home is not None and not home.is_module and node.id not in home.imports:
                return False  # a local alias: told where it was made
        name = self._scope.dotted(node)
        rule = rules.rule_of(name) if name else None
        if rule is None:
            return False
        self._note(node, rule, plain(name))
        return True

    def _call(self, node: ast.Call) -> None:
        name = self._scope.dotted(node.func)
        local = isinstance(node.func, ast.Name) and self._is_local(node.func.id)
        rule = rules.rule_of_call(name, len(node.args) + len(node.keywords)) if name and not local else None
        if rule is not None:
            if name != "builtins.id" or id(node) not in self._identities:
                self._note(node, rule, plain(name))
        else:
            self._changes(node.func)
            self._follow(node.func)
            self._visit(node.func)
            if isinstance(node.func, ast.Name | ast.Attribute) and _last(node.func) in _HIGHER_ORDER:
                for argument in (*node.args, *(one.value for one in node.keywords)):
                    self._follow(argument)
        for argument in (*node.args, *(one.value for one in node.keywords)):
            self._visit(argument)

    def _is_local(self, name: str) -> bool:
        home = self._scope.find(name)
        return home is not None and not home.is_module and name not in home.imports

    def _yielded(self, value: ast.expr) -> None:
        foreign = isinstance(value, ast.List | ast.Tuple | ast.Dict | ast.JoinedStr | ast.ListComp) or (
            isinstance(value, ast.Constant) and value.value is not None
        )
        if isinstance(value, ast.Call):
            name = self._scope.dotted(value.func)
            made = self._function(value.func)
            foreign = name.startswith("asyncio.") or (
                made is not None and isinstance(made.function, ast.AsyncFunctionDef)
            )
            foreign = foreign and rules.rule_of_call(name, 1) is None
        if foreign:
            self._note(value, rules.FOREIGN, _short(value))

    # Into what it calls

    def _follow(self, func: ast.expr) -> None:
        called = self._function(func)
        if called is not None and not isinstance(called.function, ast.AsyncFunctionDef):
            steps, self._delegates = self._delegates, False
            self.enter(called, steps)

    def _function(self, func: ast.expr) -> Place | None:
        match func:
            case ast.Name(id=name):
                home = self._scope.find(name)
                if home is None or name in home.values or name in home.imports:
                    return None
                if name in home.functions:
                    return Place(home.functions[name], home)
                if name in home.classes:
                    cls = home.classes[name]
                    return _method(cls, home, "__init__") or _method(cls, home, "__post_init__")
            case ast.Attribute(value=ast.Name(id=owner), attr=attr):
                if owner == "self" and self._place is not None and self._place.cls is not None:
                    return _method(self._place.cls, self._place.outer, attr)
                return self._method_of(owner, attr)
            case _:
                pass
        return None

    def _method_of(self, name: str, method: str) -> Place | None:
        """The method of an object that this variable holds, if its class stands in this file."""
        home = self._scope.find(name)
        if home is None:
            return None
        values = home.values.get(name, [])
        made: ast.expr | None = home.annotations.get(name)
        if made is None and len(values) == 1 and isinstance(values[0], ast.Call):
            made = values[0].func
        if not isinstance(made, ast.Name):
            return None
        where = self._scope.find(made.id)
        return None if where is None or made.id not in where.classes else _method(where.classes[made.id], where, method)

    # Changes of what is global

    def _global_changes(self, function: Function) -> None:
        names = {name for node in own_nodes(function.body) if isinstance(node, ast.Global) for name in node.names}
        for node in own_nodes(function.body):
            if isinstance(node, ast.Name) and node.id in names and not isinstance(node.ctx, ast.Load):
                self._note(node, rules.GLOBAL, f"the change of the global {node.id}")

    def _changes(self, func: ast.expr) -> None:
        match func:
            case ast.Attribute(value=ast.Name(id=name), attr=attr) if attr in _CHANGES:
                if self._scope.shared_mutable(name):
                    self._note(func, rules.GLOBAL, f"the change of the global {name}")
            case _:
                return

    def _assigned(self, target: ast.expr) -> None:
        base = target
        while isinstance(base, ast.Subscript | ast.Attribute):
            base = base.value
        if base is target or not isinstance(base, ast.Name):
            return
        home = self._scope.find(base.id)
        if home is not None and home.is_module:
            self._note(target, rules.GLOBAL, f"the change of the global {base.id}")


def _method(cls: ast.ClassDef, home: Scope, name: str) -> Place | None:
    for node in cls.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            return Place(node, home, cls)
    return None


def _only_live(test: ast.expr) -> bool:
    match test:
        case ast.UnaryOp(op=ast.Not(), operand=ast.Attribute(attr="is_replaying")):
            return True
        case ast.BoolOp(op=ast.And(), values=values):
            return any(_only_live(value) for value in values)
        case _:
            return False


def _last(func: ast.Name | ast.Attribute) -> str:
    return func.id if isinstance(func, ast.Name) else func.attr


def _short(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 40 else text[:37] + "..."


def check(source: Source, place: Place) -> list[Finding]:
    """What this orchestrator does that replay can't bear, in the order of the lines."""
    walk = _Walk(source, place.name)
    walk.enter(place, steps=True)
    return sorted(walk.findings)
