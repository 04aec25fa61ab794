"""Objects of an author's classes that can't be written or read."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.durable import (
    EntityOperationError,
    NotSerializableError,
)
from tests.unit.durable.bad_input.parts import BOX, RAISED, Odd


class Fragile:
    """Its JSON form can be written or read, or not."""

    def __init__(self, how: str) -> None:
        self.how = how

    @staticmethod
    def to_json(fragile: Fragile) -> Any:
        if fragile.how == "writes badly":
            raise RAISED["mute"]
        return Odd() if fragile.how == "writes odd things" else fragile.how

    @staticmethod
    def from_json(data: Any) -> Fragile:
        if data != "well":
            raise RAISED["no Exception" if data == "reads worse" else "mute"]
        return Fragile(data)


@pytest.mark.parametrize("how", ["writes badly", "writes odd things"])
async def test_objects_that_cannot_be_written(bad, how):
    def gives(context: Any) -> Any:
        return Fragile(how)

    def hands_over(context: Any) -> Any:
        yield context.call_activity("echo", Fragile(how))

    await bad.fails(gives, "NotSerializableError", "the output of code")
    await bad.fails(hands_over, "NotSerializableError", "the input of activity echo")
    with pytest.raises(NotSerializableError, match="the data of event go"):
        await bad.client.raise_event("bystander", "go", Fragile(how))
    with pytest.raises(NotSerializableError, match="the input of keep on @box@b"):
        await bad.client.call_entity(BOX, "keep", Fragile(how))


@pytest.mark.parametrize("how", ["reads badly", "reads worse"])
async def test_objects_that_cannot_be_read(bad, how):
    def reads_input(context: Any) -> Any:
        return context.get_input()

    def reads_event(context: Any) -> Any:
        return (yield context.wait_for_external_event("thing"))

    def reads_result(context: Any) -> Any:
        return (yield context.call_entity(BOX, "get"))

    with pytest.raises(EntityOperationError, match=r"Fragile\.from_json raised"):
        await bad.client.call_entity(BOX, "keep", Fragile(how))
    await bad.fails(reads_input, "NotSerializableError", "Fragile.from_json raised", value=Fragile(how))
    bad.site.registry.orchestrator(reads_event)
    await bad.client.start_new("reads_event", "e")
    await bad.client.raise_event("e", "thing", Fragile(how))
    failed = await bad.client.wait_for_completion("e", 5)
    assert failed.failure is not None
    assert "Fragile.from_json raised" in failed.failure.message
    assert (await bad.run(reads_result)).output is None
