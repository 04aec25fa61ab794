"""The decorators of the v2 programming model of Azure Functions: ``DFApp`` and ``Blueprint``.

    app = df.DFApp()

    @app.orchestration_trigger(context_name="context")
    def shed(context):
        yield context.call_activity(disconnect, "F12")

    @app.activity_trigger(input_name="feeder")
    def disconnect(feeder: str) -> str: ...

An app collects declarations; a registry takes them over when it is given the module that holds the app
(``Registry.add_module``), or the app itself (``add_to``). What must stay true: a declaration that can't work is refused
when its module is loaded, with the function's name and line; nothing starts on half an app. The decorators return the
function as it is: it can be called in tests, and be named to ``call_activity`` and the like as an object. A crash here:
nothing is kept, a start declares all anew.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, TypeVar

import msgspec

from gateway.durable.codec import Json

if TYPE_CHECKING:
    from gateway.durable.activities import ActivityContext
    from gateway.durable.registry import Registry

F = TypeVar("F", bound=Callable[..., object])

KIND = "durable_kind"
"""Attribute of a function that is marked as an orchestrator, an activity or an entity."""
DECLARED = "durable_declared"
"""Attribute of a function that an app or a blueprint holds."""
_CONTEXT = "context"


@dataclass(slots=True)
class _Declaration:
    """What the decorators of one function have said so far. parameter: of the context, or of the activity's input."""

    function: Callable[..., object]
    name: str | None = None
    trigger: str = ""
    trigger_name: str | None = None
    parameter: str = ""
    client: str = ""
    version: str = ""
    at_most_once: bool = False
    timeout_s: float | None = None
    state_type: type[msgspec.Struct] | None = None
    lockable: bool = True

    @property
    def registered_name(self) -> str:
        return self.trigger_name or self.name or self.function.__name__

    def refuse(self, why: str) -> TypeError:
        """The error of a declaration that can't work."""
        code = getattr(self.function, "__code__", None)
        where = f" ({code.co_filename}:{code.co_firstlineno})" if code is not None else ""
        return TypeError(f"{self.function.__name__}{where}: {why}")


class Blueprint:
    """A part of an app: declares functions, which run once an app holds it (``register_functions``); one that no app holds
    is taken by itself from a site's module.

    http_auth_level: taken for compatibility; there is nothing that it could protect here.
    """

    def __init__(self, http_auth_level: object = None) -> None:
        self.held = False
        self._declarations: dict[Callable[..., object], _Declaration] = {}

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"{type(self).__name__} has no {name!r}: there are orchestration_trigger, activity_trigger, entity_trigger, "
            "durable_client_input and function_name; what HTTP requests or a schedule start elsewhere is started by a "
            "client, an entity or the command line here"
        )

    def function_name(self, name: str) -> Callable[[F], F]:
        """Register the function under this name instead of its own."""

        def declare(declared: _Declaration) -> None:
            declared.name = name

        return self._decorator(declare)

    def orchestration_trigger(
        self, context_name: str, orchestration: str | None = None, *, version: str = ""
    ) -> Callable[[F], F]:
        """An orchestrator. context_name: its parameter; orchestration: its name, unless it is the function's.

        version: one of several that stand side by side (not in Azure). Errors: TypeError.
        """

        def declare(declared: _Declaration) -> None:
            self._trigger(declared, "orchestration_trigger", context_name, orchestration)
            declared.version = version

        return self._decorator(declare)

    def activity_trigger(
        self,
        input_name: str,
        activity: str | None = None,
        *,
        at_most_once: bool = False,
        timeout_s: float | None = None,
    ) -> Callable[[F], F]:
        """An activity. input_name: its parameter; activity: its name, unless it is the function's. A parameter ``context``
        is given the activity's context.

        at_most_once, timeout_s: see ``Registry.activity`` (not in Azure). Errors: TypeError.
        """

        def declare(declared: _Declaration) -> None:
            self._trigger(declared, "activity_trigger", input_name, activity)
            declared.at_most_once, declared.timeout_s = at_most_once, timeout_s

        return self._decorator(declare)

    def entity_trigger(
        self,
        context_name: str,
        entity_name: str | None = None,
        *,
        state_type: type[msgspec.Struct] | None = None,
        lockable: bool = True,
    ) -> Callable[[F], F]:
        """An entity, a function or a class. context_name: its parameter; entity_name: its name, unless it is the
        function's.

        state_type, lockable: see ``Registry.entity`` (not in Azure). Errors: TypeError.
        """

        def declare(declared: _Declaration) -> None:
            self._trigger(declared, "entity_trigger", context_name, entity_name)
            declared.state_type, declared.lockable = state_type, lockable

        return self._decorator(declare)

    def durable_client_input(
        self, client_name: str, task_hub: str | None = None, connection_name: str | None = None
    ) -> Callable[[F], F]:
        """The activity is given a client under this keyword.

        task_hub, connection_name: taken for compatibility; there is one engine. Errors: TypeError.
        """

        def declare(declared: _Declaration) -> None:
            self._needs(declared, "client_name", client_name)
            declared.client = client_name

        return self._decorator(declare)

    def _decorator(self, declare: Callable[[_Declaration], None]) -> Callable[[F], F]:
        def decorate(function: F) -> F:
            if not callable(function):
                raise TypeError(f"an app's decorators take a function, not {function!r}")
            declared = self._declarations.get(function) or _Declaration(function)
            declare(declared)
            self._declarations[function] = declared
            setattr(function, DECLARED, True)
            setattr(function, "durable_name", declared.registered_name)  # noqa: B010 - an attribute that functions don't have
            return function

        return decorate

    def _trigger(self, declared: _Declaration, trigger: str, parameter: str, name: str | None) -> None:
        if declared.trigger:
            raise declared.refuse(f"{trigger}: it has a trigger already, {declared.trigger}")
        if trigger != "activity_trigger" and inspect.iscoroutinefunction(declared.function):
            raise declared.refuse(f"{trigger}: it must not be async; what takes time belongs into an activity")
        self._needs(declared, "input_name" if trigger == "activity_trigger" else "context_name", parameter)
        declared.trigger, declared.parameter, declared.trigger_name = trigger, parameter, name

    def _needs(self, declared: _Declaration, what: str, parameter: str) -> None:
        if inspect.isclass(declared.function):
            return
        parameters = inspect.signature(declared.function).parameters
        if parameter not in parameters:
            has = ", ".join(parameters) or "none"
            raise declared.refuse(f"{what} is {parameter!r}, which is none of its parameters ({has})")

    def add_to(self, registry: Registry) -> list[str]:
        """Register all that was declared; their names, sorted. Once for each registry.

        Errors: TypeError for a declaration that can't work, AlreadyExistsError for a name that is taken.
        """
        if not registry.take(self):
            return []
        return sorted(_register(registry, declared) for declared in self._declarations.values())


class DFApp(Blueprint):
    """The functions of a site's module, and the blueprints that it holds."""

    def __init__(self, http_auth_level: object = None) -> None:
        super().__init__(http_auth_level)
        self._blueprints: list[Blueprint] = []

    def register_functions(self, function_container: Blueprint) -> None:
        """Hold this blueprint: its functions are registered with those of the app.

        Errors: TypeError for anything else.
        """
        if not isinstance(function_container, Blueprint) or isinstance(function_container, DFApp):
            raise TypeError(f"register_functions takes a Blueprint, not {function_container!r}")
        function_container.held = True
        self._blueprints.append(function_container)

    register_blueprint = register_functions

    def add_to(self, registry: Registry) -> list[str]:
        """As for a blueprint, with all blueprints that the app holds."""
        names = super().add_to(registry)
        for blueprint in self._blueprints:
            names += blueprint.add_to(registry)
        return sorted(names)


class Orchestrator:
    """The v1 programming model's ``main = df.Orchestrator.create(function)``: marks the function, as ``@orchestrator``."""

    @staticmethod
    def create(fn: F) -> F:
        """The function, marked as an orchestrator; its name is its own."""
        setattr(fn, KIND, "orchestrator")
        return fn


class Entity:
    """The v1 programming model's ``main = df.Entity.create(function)``: marks the function, as ``@entity``."""

    @staticmethod
    def create(fn: F) -> F:
        """The function, marked as an entity; its name is its own."""
        setattr(fn, KIND, "entity")
        return fn


def _register(registry: Registry, declared: _Declaration) -> str:
    function, name = declared.function, declared.registered_name
    if declared.client and declared.trigger != "activity_trigger":
        raise declared.refuse("durable_client_input belongs to an activity (activity_trigger)")
    match declared.trigger:
        case "orchestration_trigger":
            _only(declared, {declared.parameter})
            registry.orchestrator(function, name, declared.version)
        case "activity_trigger":
            _only(declared, {declared.parameter, declared.client, _CONTEXT})
            registry.activity(_activity(declared), name, declared.at_most_once, declared.timeout_s)
        case "entity_trigger":
            if not inspect.isclass(function):
                _only(declared, {declared.parameter})
            registry.entity(function, name, declared.state_type, declared.lockable)
        case _:
            raise declared.refuse("it has no trigger: orchestration_trigger, activity_trigger or entity_trigger")
    return name


def _only(declared: _Declaration, known: set[str]) -> None:
    for name, parameter in inspect.signature(declared.function).parameters.items():
        variable = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if name not in known and parameter.default is parameter.empty and not variable:
            raise declared.refuse(f"nothing is known of its parameter {name!r}")


def _activity(declared: _Declaration) -> Callable[..., object]:
    """The function as a registry takes it: of (input, context), by the names that it was declared with."""
    function, given, client = declared.function, declared.parameter, declared.client
    wants_context = _CONTEXT in inspect.signature(function).parameters and _CONTEXT not in (given, client)

    def arguments(value: Json, context: ActivityContext) -> dict[str, Json]:
        named: dict[str, Json] = {given: value}
        if client:
            named[client] = context.client
        if wants_context:
            named[_CONTEXT] = context
        return named

    if inspect.iscoroutinefunction(function):

        async def run_on_loop(value: Json, context: ActivityContext) -> Json:
            return await function(**arguments(value, context))

        run_on_loop.__module__ = function.__module__
        return run_on_loop

    def run(value: Json, context: ActivityContext) -> Json:
        return function(**arguments(value, context))

    run.__module__ = function.__module__
    return run
