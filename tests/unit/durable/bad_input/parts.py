"""What bad input is made of, and the one who runs it beside a bystander."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.durable import (
    DurableOrchestrationStatus,
    Engine,
    EntityId,
)
from gateway.durable.codec import MAX_PAYLOAD_BYTES

BOX = EntityId("box", "b")
BIG = "x" * MAX_PAYLOAD_BYTES
LIMIT = str(MAX_PAYLOAD_BYTES)


class Odd:
    """A value that JSON has no word for."""


class Mute(Exception):
    """An exception that can't say what is wrong."""

    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


class Bare(BaseException):
    """As some libraries signal: no Exception at all."""


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def chain(length: int) -> Exception:
    """An exception with so many causes behind it."""
    error = Exception("the first")
    for number in range(length):
        error, error.__cause__ = ValueError(f"number {number}"), error
    return error


def ring() -> Exception:
    """Two exceptions that are the cause of each other."""
    one, two = ValueError("one"), KeyError("two")
    one.__cause__, two.__cause__ = two, one
    return one


class Bad:
    """Runs bad code and bad calls on an engine, beside a bystander."""

    def __init__(self, site: Any, engine: Engine) -> None:
        self.site = site
        self.engine = engine
        self.client = engine.client

    async def run(self, code: Callable[[Any], Any], value: Any = None) -> DurableOrchestrationStatus:
        """The end of an orchestration of this code."""
        name = f"code{len(self.site.registry._orchestrators)}"
        self.site.registry.orchestrator(code, name)
        await self.client.start_new(name, name, value)
        return await self.client.wait_for_completion(name, 10)

    async def fails(self, code: Callable[[Any], Any], kind: str, *words: str, value: Any = None) -> str:
        """It fails with this kind of error, whose message holds these words."""
        status = await self.run(code, value)
        assert status.runtime_status == "Failed", status.output
        assert status.failure is not None
        assert status.failure.kind == kind, status.failure
        for word in words:
            assert word in status.failure.message, status.failure.message[:500]
        return status.failure.message

    async def check(self) -> None:
        """The bystander and the journal took no harm."""
        assert self.engine.failure is None
        await self.client.raise_event("bystander", "go", 1)
        assert (await self.client.wait_for_completion("bystander", 5)).output == 1
        await self.engine.on_disk()
        batches = self.site.store.batches
        for upto in {len(batches), len(batches) // 2, *range(min(len(batches), 20))}:
            fresh = Engine(type(self.site.store).after(batches[:upto]), self.site.registry, self.site.clock)
            await fresh.recover()
        again = await self.site.start(type(self.site.store).after(batches))
        await asyncio.sleep(0.01)
        await again.on_disk()
        assert again.failure is None


def bystander(context: Any) -> Any:
    return (yield context.wait_for_external_event("go"))


def box(context: Any) -> None:
    value = context.get_input()
    match context.operation_name:
        case "keep":
            context.set_state(value)
        case "odd state":
            context.set_state(Odd())
        case "big state":
            context.set_state(BIG)
        case "odd answer":
            context.set_state("changed")
            context.set_result(Odd())
        case "big answer":
            context.set_state("changed")
            context.set_result(BIG)
        case "raise":
            context.set_state("changed")
            raise RAISED[value]
        case "raise bare":
            raise Bare("bare")
        case "call":
            context.set_state("changed")
            ENTITY_CALLS[value](context)
        case "get":
            context.set_result(context.get_state())
        case other:
            raise AttributeError(f"no {other}")


RAISED: dict[str, BaseException] = {
    "mute": Mute(),
    "surrogate": ValueError("\ud800"),
    "endless": ValueError("y" * 50_000_000),
    "a thousand causes": chain(2000),
    "a ring of causes": ring(),
    "SystemExit": SystemExit(3),
    "GeneratorExit": GeneratorExit(),
    "no Exception": Bare("bare"),
    "StopIteration": StopIteration(4),
    "CancelledError": asyncio.CancelledError(),
}

ENTITY_CALLS: dict[str, Callable[[Any], Any]] = {
    "an error as the message of a rejection": lambda c: c.reject(c.defer_result(), ValueError("no")),
    "an operation without a name": lambda c: c.signal_entity(BOX, ""),
    "an operation that is no text": lambda c: c.signal_entity(BOX, 5),
    "an operation that is no Unicode": lambda c: c.signal_entity(BOX, "\ud800"),
    "an activity that takes its result nowhere": lambda c: c.call_activity("echo", on_result=None),
    "an activity whose name is no Unicode": lambda c: c.call_activity("\ud800", on_result="get"),
    "a start under the id of an entity": lambda c: c.start_new("bystander", None, "@x"),
    "a start of nothing": lambda c: c.start_new(None),
    "a signal with a big input": lambda c: c.signal_entity(BOX, "get", BIG),
}


async def echo(value: Any) -> Any:
    return value


async def odd_result() -> Any:
    return Odd()


async def big_result() -> Any:
    return BIG


async def raises(what: str) -> None:
    raise RAISED[what]


def raises_in_thread(what: str) -> None:
    raise RAISED[what]
