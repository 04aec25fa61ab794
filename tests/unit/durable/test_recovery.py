"""A crash at every commit boundary: a fresh engine finishes what is left, with the same outcome."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from gateway.clock import SystemClock
from gateway.durable import Engine, EntityId, NotFoundError, Registry, TaskFailedError
from gateway.durable import history as h
from gateway.durable.codec import Raw, encode
from gateway.durable.entity import OperationRequest
from gateway.durable.instances import Orchestration, OrchestrationRuntimeStatus
from gateway.durable.mailbox import encode_content
from gateway.durable.store import ActivityRow, Batch, MessageRow
from gateway.durable.testing import MemoryStore
from journal import Journal

DEVICE = EntityId("device", "d1")


def procedure(context):
    """All kinds of steps; interrupted commands are resolved by looking."""
    opened = context.call_activity("look", "a")
    answer = yield context.call_entity(DEVICE, "operate", "open")
    seen = yield opened
    yield context.create_timer(timedelta(seconds=5))
    events = []
    for _ in range(2):
        events.append((yield context.wait_for_external_event("go")))
    child = yield context.call_sub_orchestrator("child", 20)
    try:
        command = yield context.call_activity("command", "c")
    except TaskFailedError as error:
        command = "interrupted" if error.details.kind == "ActivityInterrupted" else error.details.kind
    total = yield context.call_entity(DEVICE, "count")
    return {"answer": answer, "seen": seen, "events": events, "child": child, "total": total, "command": command}


def child(context):
    first = yield context.call_activity("look", context.get_input())
    if context.get_input() == 20:
        context.continue_as_new(21)
    return first


def device(context: Any) -> None:
    state = context.get_state(lambda: {"done": 0})
    match context.operation_name:
        case "operate":
            context.call_activity("look", "device", on_result="operated", context=context.defer_result())
        case "operated":
            given = context.get_input()
            context.set_state({"done": state["done"] + 1})
            context.resolve(given["context"], given["result"])
        case "count":
            context.set_result(state["done"])


EXPECTED = {
    "answer": "saw device",
    "seen": "saw a",
    "events": [1, 2],
    "child": "saw 21",
    "total": 1,
}


def register(registry: Any, executed: list[str]) -> None:
    async def look(what: object) -> str:
        return f"saw {what}"

    async def command(what: str, context: Any) -> str:
        executed.append(context.operation_id)
        return "operated"

    registry.activity(look)
    registry.activity(command, at_most_once=True)
    registry.orchestrator(procedure)
    registry.orchestrator(child)
    registry.entity(device)


async def drive(engine: Engine, timeout_s: float = 30.0) -> Any:
    """Start it if it never started, raise the events that are not in the journal yet, wait for the end."""
    try:
        status = await engine.client.get_status("p")
        alive = status.runtime_status.value in ("Pending", "Running")
    except NotFoundError:
        if "p" not in engine.instances:
            await engine.client.start_new("procedure", "p")
        alive = True
    if alive:
        for number in (1, 2):
            if number not in await _events(engine):
                await engine.client.raise_event("p", "go", number)
    return (await engine.client.wait_for_completion("p", timeout_s)).output


async def _events(engine: Engine) -> list[int]:
    """Those that are journaled, or wait in the mailbox."""
    found = [m.content.data for m in engine.instances["p"].mailbox.mails if isinstance(m.content, h.EventRaised)]
    for row in await engine.store.history("p", 1):
        if row[2] == h.TURN:
            found += [e.data for e in h.decode_turn(row[4]).events if isinstance(e, h.EventRaised)]
    return [int(bytes(data)) for data in found]


async def test_every_prefix_of_a_run_is_finished_with_the_same_outcome(site):
    executed: list[str] = []
    register(site.registry, executed)
    first = await site.start()
    assert await drive(first) == {**EXPECTED, "command": "operated"}
    await first.on_disk()
    batches = list(site.store.batches)
    assert len(batches) > 6
    interrupted = 0
    for survived in range(len(batches) + 1):
        executed.clear()
        store = MemoryStore.after(batches[:survived])
        under_way = [key for key, row in store.pending_activities.items() if b'"command"' in row.payload]
        engine = await site.start(store)
        output = await drive(engine)
        interrupted += output["command"] == "interrupted"
        assert output["command"] == ("interrupted" if under_way else "operated")
        assert {k: v for k, v in output.items() if k != "command"} == EXPECTED, f"after {survived} batches"
        assert max(Counter(executed).values(), default=0) <= 1
        assert not (under_way and executed), "an activity that may run once was started again"
        await engine.on_disk()
        assert not store.pending_activities
        assert not store.pending_timers
        assert not store.messages
        await engine.stop()
    assert interrupted


async def test_the_same_on_the_real_journal(site, tmp_path: Path, wait_until):
    executed: list[str] = []
    register(site.registry, executed)
    journal = await Journal.open(tmp_path / "journal.db")
    fast, site.clock = site.clock, SystemClock(rate=10.0)  # its timer is to be seen running, on a busy machine, too
    engine = await site.start(journal)
    await engine.client.start_new("procedure", "p")
    await engine.client.raise_event("p", "go", 1)
    await wait_until(lambda: len(engine.timers) == 1)
    await engine.stop()
    site.clock = fast
    await journal.close()
    journal = await Journal.open(tmp_path / "journal.db")
    again = await site.start(journal)
    assert await drive(again) == {**EXPECTED, "command": "operated"}
    assert again.counters.replays == 1
    await again.stop()
    assert (await journal.verify()).ok
    await journal.close()


async def test_a_start_after_continue_as_new_comes_before_mail_with_lower_numbers(site):
    def rounds(context):
        if context.get_input() == "second":
            return (yield context.wait_for_external_event("go"))
        context.continue_as_new("second")
        return None

    site.registry.orchestrator(rounds)
    batch = Batch()
    started = h.ExecutionStarted("rounds", Raw(encode("second")), first_task=7, execution=2)
    for number, content in ((5, h.EventRaised("go", Raw(b'"kept"'))), (9, started)):
        batch.add_message(MessageRow(number, "i", encode_content(content)))
    engine = await site.start(MemoryStore.after([_with_row(batch)]))
    assert (await engine.client.wait_for_completion("i", 5)).output == "kept"


def _with_row(batch: Batch) -> Batch:
    instance = Orchestration("i", "rounds", 1)
    instance.status = OrchestrationRuntimeStatus.Running
    batch.instances["i"] = instance.to_row()
    return batch


async def test_mail_of_an_entity_that_is_not_registered_stays_in_the_journal(site):
    batch = Batch()
    batch.add_message(MessageRow(1, "@gone@x", encode_content(OperationRequest("add"))))
    batch.add_activity(ActivityRow("@gone@x", 3, b'{"name":"look"}'))
    register(site.registry, [])
    engine = await site.start(MemoryStore.after([batch]))
    await engine.on_disk()
    await asyncio.sleep(0.01)
    assert list(site.store.messages) == [1]
    assert list(site.store.pending_activities) == [("@gone@x", 3)]


async def test_a_client_of_an_earlier_process_is_not_answered_but_its_operation_is_done(site, wait_until):
    gate = asyncio.Event()

    async def look(what: object) -> str:
        await gate.wait()
        return f"saw {what}"

    site.registry.activity(look)
    site.registry.entity(device)
    engine = await site.start()
    call = asyncio.ensure_future(engine.client.call_entity(DEVICE, "operate", "open"))
    await wait_until(lambda: engine.activities.running == 1)
    await site.kill(engine)
    with pytest.raises(Exception, match="killed"):
        await call
    gate.set()
    again = await site.start()
    await wait_until(lambda: bytes(again.client.read_entity_raw(DEVICE) or b"") == b'{"done":1}')
    assert await again.client.call_entity(DEVICE, "count") == 1


async def test_an_activity_that_nobody_waits_for_is_run_after_a_crash_all_the_same(site, wait_until):
    done: list[str] = []

    async def tell(what: str) -> None:
        done.append(what)

    def forgets(context):
        context.call_activity("tell", "the utility")
        return "done"
        yield

    site.registry.activity(tell)
    site.registry.orchestrator(forgets)
    engine = await site.start()
    await engine.client.start_new("forgets", "i")
    await engine.client.wait_for_completion("i", 5)
    batches = [b for b in site.store.batches if b.activities_added]
    upto = site.store.batches.index(batches[0]) + 1
    await wait_until(lambda: bool(done))
    done.clear()
    again = await site.start(MemoryStore.after(site.store.batches[:upto]))
    await wait_until(lambda: bool(done))
    await again.on_disk()
    assert done == ["the utility"]
    assert not site.store.pending_activities


async def test_code_that_changed_under_a_running_orchestration_is_said_even_if_it_decides_the_same(site):
    def before(context):
        return (yield context.wait_for_external_event("go"))

    def after(context):
        went = yield context.wait_for_external_event("go")
        return [went]

    site.registry.orchestrator(before, "wait")
    engine = await site.start()
    for instance in ("a", "b"):
        await engine.client.start_new("wait", instance)
    await site.kill(engine)
    site.registry = Registry()
    site.registry.orchestrator(after, "wait")
    with structlog.testing.capture_logs() as lines:
        engine = await site.start()
        await engine.client.raise_event("a", "go", 1)
        ended = await engine.client.wait_for_completion("a", 5)
    assert ended.output == [1]
    assert [line["instance"] for line in lines if line["event"] == "code_changed"] == ["a"]
