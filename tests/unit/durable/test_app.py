"""The decorators of the v2 programming model: apps and blueprints, and what they refuse."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path

import azure.durable_functions as azure
import pytest

import gateway.durable as df
from gateway.durable import AlreadyExistsError, EntityId, Registry

ABSENT = {"ManagedIdentityTokenSource", "DurableFunctionsCompatibilityWarning", "openai_agents"}


def module_of(**names: object) -> types.ModuleType:
    module = types.ModuleType("programs")
    vars(module).update(names)
    return module


def test_every_public_name_of_azure_is_here_or_said_to_be_absent():
    assert set(azure.__all__) - set(df.__all__) <= ABSENT
    for name in set(azure.__all__) & set(df.__all__):
        assert getattr(df, name) is not None
    assert all(f"``{name}``" in (df.__doc__ or "") for name in ABSENT)


async def test_an_app_runs_all_its_functions_under_their_declared_names(site):
    app = df.DFApp()

    @app.orchestration_trigger(context_name="ctx", orchestration="Shed")
    def shed_orchestrator(ctx):
        doubled = yield ctx.call_activity(double, 4)
        added = yield ctx.call_entity(EntityId("tally", "a"), "add", doubled)
        below = yield ctx.call_sub_orchestrator(helper, added)
        started = yield ctx.call_activity("Starter", "later")
        return [below, started]

    @app.function_name(name="Helper")
    @app.orchestration_trigger(context_name="context")
    def helper(context):
        return context.get_input() + 1

    @app.activity_trigger(input_name="number")
    def double(number: int, factor: int = 2) -> int:
        return number * factor

    @app.entity_trigger(context_name="context", entity_name="Tally")
    def counts(context):
        context.set_state((context.get_state() or 0) + context.get_input())
        context.set_result(context.get_state())

    @app.activity_trigger(input_name="instance", activity="Starter")
    @app.durable_client_input(client_name="starter")
    async def start(instance: str, starter: df.DurableOrchestrationClient, context) -> list:
        return [await starter.start_new(helper, instance, 41), context.operation_id]

    offered = site.registry.add_module(module_of(app=app, shed_orchestrator=shed_orchestrator, helper=helper))
    assert offered == ["Helper", "Shed", "Starter", "Tally", "double"]
    assert double(3) == 6
    engine = await site.start()
    await engine.client.start_new(shed_orchestrator, "i")
    status = await engine.client.wait_for_completion("i", 5)
    assert status.output == [9, ["later", "i:4"]]
    assert status.name == "Shed"
    assert (await engine.client.wait_for_completion("later", 5)).output == 42


def blueprint_with(name: str) -> df.Blueprint:
    blueprint = df.Blueprint()

    @blueprint.activity_trigger(input_name="what", activity=name)
    def act(what: object) -> object:
        return what

    return blueprint


def test_a_blueprint_is_registered_through_its_app_and_else_by_itself():
    app, held, alone = df.DFApp(), blueprint_with("held"), blueprint_with("alone")
    app.register_functions(held)
    registry = Registry()
    assert registry.add_module(module_of(held=held, alone=alone)) == ["alone"]
    assert registry.add_module(module_of(app=app, held=held, alone=alone)) == ["held"]
    assert registry.names()["activities"] == ["alone", "held"]
    with pytest.raises(TypeError, match="takes a Blueprint"):
        app.register_functions(df.DFApp())


def test_an_app_that_is_imported_by_another_module_is_registered_once():
    app = df.DFApp()
    app.register_functions(blueprint_with("act"))
    registry = Registry()
    assert registry.add_module(module_of(app=app)) == ["act"]
    assert registry.add_module(module_of(imported=app)) == []
    with pytest.raises(AlreadyExistsError):
        registry.add_module(module_of(other=blueprint_with("act")))


def test_versions_stand_side_by_side_in_an_app():
    app = df.DFApp()

    @app.orchestration_trigger("context", "Shed", version="1")
    def first(context):
        yield

    @app.orchestration_trigger("context", "Shed", version="2")
    def second(context):
        yield

    registry = Registry()
    app.add_to(registry)
    assert registry.versions("Shed") == ["1", "2"]


def test_a_declaration_that_can_not_work_is_refused_with_name_and_line():
    app = df.DFApp()

    def orchestrates(context):
        yield

    def acts(value, other):
        return value

    async def waits(context):
        return None

    here = rf"\({Path(__file__)}:\d+\)"
    with pytest.raises(TypeError, match=rf"orchestrates {here}: context_name is 'ctx', which is none .*\(context\)"):
        app.orchestration_trigger("ctx")(orchestrates)
    with pytest.raises(TypeError, match=r"acts .*input_name is 'name'"):
        app.activity_trigger("name")(acts)
    with pytest.raises(TypeError, match=r"acts .*client_name is 'client'"):
        app.durable_client_input("client")(acts)
    with pytest.raises(TypeError, match=r"waits .*must not be async"):
        app.orchestration_trigger("context")(waits)
    app.entity_trigger("context")(orchestrates)
    with pytest.raises(TypeError, match="has a trigger already, entity_trigger"):
        app.orchestration_trigger("context")(orchestrates)


def test_a_trigger_that_does_not_exist_here_is_told_as_such():
    with pytest.raises(
        AttributeError, match=r"DFApp has no 'route': there are orchestration_trigger, .*started by a client"
    ):
        df.DFApp().route(route="start")
    assert not hasattr(df.Blueprint(), "timer_trigger")


def test_what_only_the_whole_declaration_shows_is_refused_when_the_module_is_loaded():
    def acts(value, other):
        return value

    def orchestrates(context):
        yield

    unknown, without, wrong = df.DFApp(), df.DFApp(), df.DFApp()
    unknown.activity_trigger("value")(acts)
    without.function_name("x")(acts)
    wrong.orchestration_trigger("context")(wrong.durable_client_input("context")(orchestrates))
    for app, words in (
        (unknown, "nothing is known of its parameter 'other'"),
        (without, "it has no trigger"),
        (wrong, "durable_client_input belongs to an activity"),
    ):
        with pytest.raises(TypeError, match=words):
            Registry().add_module(module_of(app=app))


def test_what_the_first_programming_model_makes_is_taken_once(tmp_path, monkeypatch):
    (tmp_path / "first_model.py").write_text(
        "import gateway.durable as df\n"
        "def orchestrator_function(context):\n    yield\n"
        "def keeps(context):\n    pass\n"
        "main = df.Orchestrator.create(orchestrator_function)\nother = df.Entity.create(keeps)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        registry = Registry()
        assert registry.add_module(importlib.import_module("first_model")) == ["keeps", "orchestrator_function"]
        assert registry.names()["entities"] == ["keeps"]
    finally:
        sys.modules.pop("first_model", None)
