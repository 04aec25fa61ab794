"""Deliberate differences from azure-functions-durable 1.7.0 around the orchestrators: client, entities, names, parameters.

The SDK's client is asked with the host's answers put in; its entities run a batch as the host hands it over.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import gateway.durable as ours
from gateway.durable.testing import Workbench, play
from tests.conformance import v1_sdk
from tests.conformance.v1_sdk import df

PAGE = Path(__file__).parents[2] / "gateway" / "durable" / "guide" / "differences-from-azure.md"
INTERNAL = {"handle", "from_json", "to_json", "get_scheduler_id", "get_entity_id", "get_entity_id_url_path"}
"""How the SDK talks to its host."""

Answer = tuple[int, Any]


def v1_client(status: int, body: Any = None) -> Any:
    """The SDK's client; its host answers each request so."""
    urls = {"createNewInstancePostUri": "http://host/start", "terminatePostUri": "http://host/terminate"}
    client = df.DurableOrchestrationClient(
        json.dumps({"taskHubName": "h", "creationUrls": urls, "managementUrls": urls, "rpcBaseUrl": "http://host/"})
    )

    async def answers(*_: object, **__: object) -> Answer:
        return status, body

    client._get_async_request = client._post_async_request = client._delete_async_request = answers
    return client


def waits(context: ours.DurableOrchestrationContext) -> Iterator[object]:
    yield context.wait_for_external_event("go")


async def finished(bench: Workbench) -> str:
    run = await bench.start(waits)
    await bench.raise_event(run, "go")
    return run


def v1_output(orchestrator: Callable[[Any], Any]) -> Any:
    """What an orchestrator that waits for nothing gives with the SDK."""
    begun = {"EventId": -1, "IsPlayed": False, "Timestamp": "2026-01-14T08:00:00.000000Z"}
    history = [{"EventType": 12, **begun}, {"EventType": 0, "Name": "f", "Input": "null", "Version": None, **begun}]
    return v1_sdk.answer(orchestrator, "i", None, "null", history)["output"]


def our_failure(orchestrator: Callable[[Any], Any]) -> ours.FailureDetails:
    """Why it fails here."""

    async def story(bench: Workbench) -> ours.DurableOrchestrationStatus:
        return await bench.finish(await bench.start(orchestrator))

    failure = play(story).failure
    assert failure is not None
    return failure


# The client


def test_a_start_under_a_living_id_is_refused() -> None:
    assert "silently replaced" in " ".join(df.DurableOrchestrationClient.start_new.__doc__.split())
    assert asyncio.run(v1_client(202, {"id": "i"}).start_new("waits", "i")) == "i"

    async def story(bench: Workbench) -> None:
        run = await bench.start(waits)
        with pytest.raises(ours.AlreadyExistsError):
            await bench.start(waits, instance_id=run)

    play(story)


def test_the_status_of_an_unknown_instance_is_an_error() -> None:
    unknown = asyncio.run(v1_client(404, "no such instance").get_status("i"))
    assert (unknown.instance_id, unknown.runtime_status) == (None, None)

    async def story(bench: Workbench) -> None:
        with pytest.raises(ours.NotFoundError):
            await bench.status("i")

    play(story)


@pytest.mark.parametrize("order", ["terminate", "suspend", "resume"])
def test_an_order_to_one_that_has_finished_is_an_error(order: str) -> None:
    assert asyncio.run(getattr(v1_client(410), order)("i", "why")) is None

    async def story(bench: Workbench) -> None:
        run = await finished(bench)
        with pytest.raises(ours.GoneError):
            await getattr(bench.client, order)(run, "why")

    play(story)


def test_a_purge_of_what_is_unknown_or_runs_is_an_error() -> None:
    assert asyncio.run(v1_client(404).purge_instance_history("i")).instances_deleted == 0

    async def story(bench: Workbench) -> None:
        with pytest.raises(ours.NotFoundError):
            await bench.client.purge_instance_history("i")
        with pytest.raises(ours.WrongStatusError):
            await bench.client.purge_instance_history(await bench.start(waits))

    play(story)


# Entities


def half_a_change(context: Any) -> None:
    context.set_state("half a change")
    raise ValueError("the other half failed")


def test_a_failed_operation_changes_nothing() -> None:
    batch = [{"name": "op", "input": "null", "isSignal": False}]
    body = {"self": {"name": "e", "key": "k"}, "state": '"before"', "exists": True, "batch": batch}
    answer = json.loads(df.Entity.create(half_a_change)(json.dumps(body)))
    assert json.loads(answer["entityState"]) == "half a change"

    def entity(context: ours.DurableEntityContext) -> None:
        if context.operation_name == "set":
            context.set_state("before")
        else:
            half_a_change(context)

    async def story(bench: Workbench) -> object:
        bench.registry.entity(entity, "e")
        await bench.signal_entity(ours.EntityId("e", "k"), "set")
        await bench.signal_entity(ours.EntityId("e", "k"), "op")
        return await bench.entity_state(ours.EntityId("e", "k"))

    assert play(story) == "before"


# Values


def test_a_number_that_json_has_no_words_for_is_refused() -> None:
    def gives_nan(context: Any) -> float:
        return float("nan")

    assert math.isnan(v1_output(gives_nan))
    assert our_failure(gives_nan).kind == "NotSerializableError"


# Rules


def test_an_orchestrator_that_asks_the_clock_is_stopped() -> None:
    def asks(context: Any) -> str:
        return datetime.now(UTC).isoformat()

    assert isinstance(v1_output(asks), str)
    failure = our_failure(asks)
    assert failure.kind == "NondeterminismError"
    assert "write instead: context.current_utc_datetime" in failure.message


# Names and parameters


def parameters(function: Callable[..., object]) -> set[str]:
    return set(inspect.signature(function).parameters) - {"self"}


def of_the_sdk(member: object) -> bool:
    """True for methods and properties of the SDK for durable functions, not of what it is built on."""
    function = member.fget if isinstance(member, property) else member
    return str(getattr(function, "__module__", "")).startswith("azure.durable_functions")


def missing_here() -> Iterator[str]:
    """Each public name of v1, and each parameter, that is not here: ``name``, ``Class.method``, or ``parameter``."""
    public = {name for name in dir(df) if name[0].isupper()} & set(df.__all__)
    yield from public - set(dir(ours))
    for name in (*sorted(public), "DurableEntityContext"):
        here, there = getattr(ours, name, None), getattr(df, name)
        if here is None or not inspect.isclass(there):
            continue
        for member, value in inspect.getmembers(there):
            if member.startswith("_") or member in INTERNAL or not of_the_sdk(value):
                continue
            if not hasattr(here, member):
                yield member
            elif inspect.isfunction(value):
                yield from parameters(value) - parameters(getattr(here, member))


def test_every_name_and_parameter_of_v1_is_here_or_told_to_be_absent() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## Names and parameters")[2]
    missing = set(missing_here())
    assert {"expected_type", "create_check_status_response", "ManagedIdentityTokenSource"} <= missing
    assert {name for name in missing if f"`{name}`" not in section} == set()
