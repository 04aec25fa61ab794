"""Which functions of a source file are orchestrators: the same ones that the registry would take, and those that tests
and v1 programs hand over by a call. Pure.
"""

from __future__ import annotations

import ast

from gateway.durable.determinism.scopes import Function, own_nodes

_MARKS = {"orchestrator", "orchestration_trigger"}
_OTHERS = {
    *("activity", "activity_trigger", "entity", "entity_trigger", "durable_client_input", "route", "timer_trigger"),
    *("contextmanager", "asynccontextmanager", "fixture"),
}
_CONTEXT = "DurableOrchestrationContext"
_ONLY_ORCHESTRATIONS = {"create_timer", "call_sub_orchestrator", "wait_for_external_event", "task_all", "task_any"}


def is_marked_other(function: Function) -> bool:
    """True for an activity, an entity, and what else may do as it likes."""
    return bool(_marks(function) & _OTHERS)


def is_orchestrator(function: Function, handed: set[str]) -> bool:
    """True for an orchestrator, and for a helper that says that it takes the context of one.

    handed: names that the file registers by a call (``handed_over``).
    """
    marks = _marks(function)
    if marks & _OTHERS:
        return False
    if marks & _MARKS or function.name in handed:
        return True
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    if any(one.annotation is not None and _CONTEXT in ast.unparse(one.annotation) for one in every):
        return True
    if [one.arg for one in every] != ["context"] or arguments.vararg or arguments.kwarg:
        return False
    nodes = list(own_nodes(function.body))
    if any(isinstance(node, ast.Yield | ast.YieldFrom) for node in nodes):
        return True
    wants = isinstance(function, ast.AsyncFunctionDef)
    return wants and any(isinstance(node, ast.Attribute) and node.attr in _ONLY_ORCHESTRATIONS for node in nodes)


def _marks(function: Function) -> set[str]:
    found = set()
    for decorator in function.decorator_list:
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(target, ast.Attribute):
            found.add(target.attr)
        elif isinstance(target, ast.Name):
            found.add(target.id)
    return found


def handed_over(tree: ast.Module) -> set[str]:
    """Names that some call registers: ``registry.orchestrator(f)``, ``df.Orchestrator.create(f)``."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="orchestrator" | "add_orchestrator"), args=[ast.Name(id=name), *_]):
                found.add(name)
            case ast.Call(
                func=ast.Attribute(value=ast.Attribute(attr="Orchestrator"), attr="create"), args=[ast.Name(id=name)]
            ):
                found.add(name)
            case _:
                pass
    return found
