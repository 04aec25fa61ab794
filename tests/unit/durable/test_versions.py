"""Versions of an orchestrator, side by side: an instance keeps the one that it started with."""

from __future__ import annotations

import types
from datetime import timedelta

import pytest

from gateway.durable import AlreadyExistsError, EntityId, NotFoundError, Registry, TaskFailedError, orchestrator
from gateway.durable.registry import natural


def one(context):
    yield context.wait_for_external_event("go")
    return ["one", context.version]


def two(context):
    yield context.create_timer(timedelta(milliseconds=1))
    yield context.wait_for_external_event("go")
    return ["two", context.version]


def any_version(context):
    yield context.wait_for_external_event("go")
    return ["any", context.version]


def register(registry: Registry, *versions: str) -> None:
    code = {"1.9": one, "1.10": two, "": any_version}
    for version in versions:
        registry.orchestrator(code[version], "shed", version)


async def outcome(engine, instance: str):
    await engine.client.raise_event(instance, "go")
    return (await engine.client.wait_for_completion(instance, 5)).output


def test_versions_are_ordered_as_people_do():
    assert sorted(["10", "2.1", "1.10", "", "2.0.1", "1.9", "2.0-rc", "1"], key=natural) == [
        *("", "1", "1.9", "1.10", "2.0-rc", "2.0.1", "2.1", "10")
    ]


async def test_a_start_takes_the_highest_version_the_named_one_or_the_default(site):
    register(site.registry, "1.10", "1.9")
    assert site.registry.versions("shed") == ["1.9", "1.10"]
    engine = await site.start()
    await engine.client.start_new("shed", "highest")
    await engine.client.start_new("shed", "named", version="1.9")
    site.registry.set_default_version("shed", "1.9")
    await engine.client.start_new("shed", "default")
    assert await outcome(engine, "highest") == ["two", "1.10"]
    assert await outcome(engine, "named") == ["one", "1.9"]
    assert await outcome(engine, "default") == ["one", "1.9"]
    with pytest.raises(NotFoundError, match=r"no version '7' of the orchestrator 'shed'; there are: 1\.9, 1\.10"):
        await engine.client.start_new("shed", version="7")
    with pytest.raises(NotFoundError):
        site.registry.set_default_version("shed", "7")


async def test_code_without_a_version_serves_those_that_have_none_of_their_own(site):
    register(site.registry, "", "1.9")
    engine = await site.start()
    await engine.client.start_new("shed", "old", version="0.5")
    await engine.client.start_new("shed", "own", version="1.9")
    assert await outcome(engine, "old") == ["any", "0.5"]
    assert await outcome(engine, "own") == ["one", "1.9"]


async def test_an_instance_keeps_its_version_over_a_restart_and_a_newer_release(site, wait_until):
    register(site.registry, "1.9")
    engine = await site.start()
    await engine.client.start_new("shed", "i")
    await wait_until(lambda: engine.instances["i"].execution is not None)
    await engine.on_disk()
    await site.kill(engine)
    site.registry = Registry()
    register(site.registry, "1.9", "1.10")
    again = await site.start()
    assert await outcome(again, "i") == ["one", "1.9"]
    await again.client.start_new("shed", "j")
    assert await outcome(again, "j") == ["two", "1.10"]


async def test_an_instance_whose_version_is_gone_waits_until_its_code_is_back(site, wait_until):
    register(site.registry, "1.9")
    engine = await site.start()
    await engine.client.start_new("shed", "i")
    await wait_until(lambda: engine.instances["i"].execution is not None)
    await engine.on_disk()
    await site.kill(engine)
    site.registry = Registry()
    register(site.registry, "1.10")
    without = await site.start()
    await without.client.raise_event("i", "go")
    await wait_until(lambda: without.instances["i"].stuck != "")
    assert "no version '1.9'" in without.instances["i"].stuck
    assert (await without.client.get_status("i")).runtime_status == "Running"
    await site.kill(without)
    site.registry = Registry()
    register(site.registry, "1.9", "1.10")
    again = await site.start()
    assert (await again.client.wait_for_completion("i", 5)).output == ["one", "1.9"]


async def test_continue_as_new_keeps_the_version_when_a_newer_one_is_there(site):
    def rounds(context):
        yield context.create_timer(timedelta(milliseconds=1))
        if context.get_input() == 2:
            return ["old", context.version]
        context.continue_as_new(2)
        return None

    def newer(context):
        return "newer"

    site.registry.orchestrator(rounds, "rounds", "1")
    site.registry.orchestrator(newer, "rounds", "2")
    engine = await site.start()
    await engine.client.start_new("rounds", "i", 1, version="1")
    assert (await engine.client.wait_for_completion("i", 5)).output == ["old", "1"]


async def test_a_sub_orchestration_may_name_its_version(site):
    def parent(context):
        tasks = [context.call_sub_orchestrator("below", version=v) for v in ("1.9", None)]
        found = yield context.task_all(tasks)
        try:
            yield context.call_sub_orchestrator("below", version="7")
        except TaskFailedError as error:
            found.append(error.details.kind)
        return found

    def below(context):
        return context.version

    site.registry.orchestrator(parent)
    site.registry.orchestrator(below, "below", "1.9")
    site.registry.orchestrator(below, "below", "1.10")
    engine = await site.start()
    await engine.client.start_new("parent", "i")
    assert (await engine.client.wait_for_completion("i", 5)).output == ["1.9", "1.10", "NotFoundError"]


def test_a_version_is_registered_once_and_a_module_may_offer_several():
    registry = Registry()
    register(registry, "1.9")
    with pytest.raises(AlreadyExistsError, match=r"'shed' already of version '1\.9'"):
        register(registry, "1.9")
    module = types.ModuleType("programs")
    for name, version in (("shed_1", "1"), ("shed_2", "2")):

        @orchestrator(name="Shed", version=version)
        def run(context):
            yield

        run.__module__ = "programs"
        setattr(module, name, run)
    assert registry.add_module(module) == ["Shed"]
    assert registry.versions("Shed") == ["1", "2"]


async def test_an_entity_starts_the_highest_version(site, wait_until):
    def starter(context):
        context.start_new("shed", instance_id="started")

    register(site.registry, "1.9", "1.10")
    site.registry.entity(starter)
    engine = await site.start()
    await engine.client.call_entity(EntityId("starter", "a"), "go")
    await wait_until(lambda: "started" in engine.instances)
    assert await outcome(engine, "started") == ["two", "1.10"]
