"""Unknown names, wrong ids, texts that are none: refused where they are given, never journaled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.durable import (
    AlreadyExistsError,
    EntityId,
    EntityOperationError,
    NotFoundError,
    TaskFailedError,
)
from journal import Journal
from tests.unit.durable.bad_input.parts import BOX, ENTITY_CALLS, bystander


async def test_unknown_names_are_named_with_those_there_are(bad):
    with pytest.raises(NotFoundError, match="no orchestrator called 'nope'; there are: bystander"):
        await bad.client.start_new("nope")
    with pytest.raises(NotFoundError, match="no entity called 'nope'; there are: box"):
        await bad.client.call_entity(EntityId("nope", "k"), "get")
    with pytest.raises(NotFoundError, match="no entity called 'nope'"):
        await bad.client.signal_entity(EntityId("nope", "k"), "get")
    with pytest.raises(NotFoundError, match="no entity called 'nope'"):
        bad.client.post_to_entity(EntityId("nope", "k"), "get")
    for call in (bad.client.raise_event("nope", "go"), bad.client.terminate("nope", ""), bad.client.get_status("nope")):
        with pytest.raises(NotFoundError, match="no orchestration 'nope'"):
            await call
    for call in (bad.client.raise_event(str(BOX), "go"), bad.client.get_status(str(BOX))):
        with pytest.raises(NotFoundError):
            await call

    def code(context: Any) -> Any:
        context.signal_entity(EntityId("nope", "k"), "get")
        told = []
        for call in (
            lambda: context.call_activity("nope"),
            lambda: context.call_sub_orchestrator("nope"),
            lambda: context.call_entity(EntityId("nope", "k"), "get"),
            lambda: context.call_sub_orchestrator("bystander", None, "bystander"),
            lambda: context.call_sub_orchestrator("bystander", None, context.instance_id),
        ):
            try:
                yield call()
            except TaskFailedError as error:
                told.append(f"{error.details.kind}: {error}")
        return told

    told = (await bad.run(code)).output
    kinds = [line.split(":")[0] for line in told]
    assert kinds == ["NotFoundError"] * 3 + ["AlreadyExistsError"] * 2
    for line, words in zip(
        told,
        ("activity called 'nope'", "orchestrator called 'nope'", "entity called 'nope'", "'bystander'", "'code"),
        strict=True,
    ):
        assert words in line


BAD_IDS = [
    ("", ValueError, "1 to 256"),
    ("i" * 257, ValueError, "1 to 256"),
    ("@x", ValueError, "@"),
    ("a\nb", ValueError, "printable"),
    ("a\0", ValueError, "printable"),
    ("\ud800", ValueError, "printable"),
    (5, TypeError, "int"),
    (b"abc", TypeError, "bytes"),
]


@pytest.mark.parametrize(("wrong", "error", "rule"), BAD_IDS)
async def test_wrong_instance_ids(bad, wrong, error, rule):
    with pytest.raises(error, match=rule):
        await bad.client.start_new("bystander", wrong)

    def code(context: Any) -> Any:
        yield context.call_sub_orchestrator("bystander", None, wrong)

    if wrong != "":  # as None: the engine gives one
        await bad.fails(code, error.__name__, rule)


@pytest.mark.parametrize(
    ("name", "key", "rule"),
    [
        ("", "k", "name"),
        ("a@b", "k", "name"),
        ("box", "", "key"),
        ("box", "k" * 256, "256"),
        ("box", "a\nb", "printable"),
        ("box", "\ud800", "printable"),
        ("bo\x00x", "k", "printable"),
    ],
)
async def test_wrong_entity_ids(bad, name, key, rule):
    with pytest.raises(ValueError, match=rule):
        EntityId(name, key)


@pytest.mark.parametrize("text", ["", "box", "@box", "@@k", "@box@", "box@k", "@bo\nx@k"])
async def test_malformed_entity_ids(bad, text):
    with pytest.raises(ValueError, match="entity"):
        EntityId.parse(text)

    def code(context: Any) -> Any:
        yield context.call_entity(text, "get")

    status = await bad.run(code)
    assert status.runtime_status == "Failed"
    assert status.failure is not None
    assert "entity" in status.failure.message


BAD_NAMES = [
    ("", ValueError),
    ("n" * 257, ValueError),
    ("\ud800", ValueError),
    ("a\nb", ValueError),
    (5, TypeError),
    (None, TypeError),
]


@pytest.mark.parametrize(("name", "error"), BAD_NAMES)
async def test_wrong_names_of_events_and_operations(bad, name, error):
    for call in (
        bad.client.raise_event("bystander", name),
        bad.client.signal_entity(BOX, name),
        bad.client.call_entity(BOX, name),
    ):
        with pytest.raises(error):
            await call
    with pytest.raises(error):
        bad.client.post_to_entity(BOX, name)
    for wrong in (
        lambda context: context.wait_for_external_event(name),
        lambda context: context.call_entity(BOX, name),
        lambda context: context.signal_entity(BOX, name),
        lambda context: context.send_event("bystander", name),
        lambda context: context.call_activity(name),
        lambda context: context.call_sub_orchestrator(name),
    ):

        def code(context: Any, wrong: Callable[[Any], Any] = wrong) -> Any:
            yield wrong(context)

        status = await bad.run(code)
        assert status.failure is not None
        assert status.failure.kind in (error.__name__, "TaskFailedError")


async def test_reasons_and_people_are_words(bad):
    """What goes into the journal as it is must be what a later start can read."""
    bad.site.registry.orchestrator(bystander, "second")
    await bad.client.start_new("second", "second")
    for wrong in (5, "\ud800", ["x"]):
        for call in (
            bad.client.terminate("second", wrong),
            bad.client.terminate("second", "ok", wrong),
            bad.client.raise_event("second", "go", 1, wrong),
            bad.client.start_new("second", "third", None, wrong),
        ):
            with pytest.raises((TypeError, ValueError)):
                await call
    assert (await bad.client.get_status("second")).runtime_status == "Running"


@pytest.mark.parametrize("what", ENTITY_CALLS)
async def test_bad_calls_of_an_entity_fail_its_operation_only(bad, what):
    await bad.client.call_entity(BOX, "keep", "as it was")
    try:
        await asyncio.wait_for(bad.client.call_entity(BOX, "call", what), 2)
    except EntityOperationError:
        assert await bad.client.call_entity(BOX, "get") == "as it was"
    else:
        pytest.fail("it was taken")


async def test_a_live_id_is_not_taken_twice(bad):
    with pytest.raises(AlreadyExistsError, match="'bystander'"):
        await bad.client.start_new("bystander", "bystander")


async def test_ids_that_no_instance_can_have_are_not_found_on_a_real_journal(site, tmp_path: Path):
    site.registry.orchestrator(bystander)
    journal = await Journal.open(tmp_path / "journal.db")
    engine = await site.start(journal)
    client = engine.client
    await client.start_new("bystander", "b")
    for odd in ("\ud800", "", "\0", "x" * 1_000_000, 5, None):
        for ask in (
            client.get_status(odd),
            client.raise_event(odd, "go"),
            client.terminate(odd, "enough"),
            client.rewind(odd, "again"),
            client.restart(odd),
            client.purge_instance_history(odd),
            client.wait_for_completion(odd, 1),
        ):
            with pytest.raises((NotFoundError, ValueError)):
                await ask
    await client.raise_event("b", "go", 1)
    assert (await client.wait_for_completion("b", 5)).output == 1
    await engine.stop()
    await journal.close()
