"""What a client does to finished orchestrations and to entities: restart, purge, list, clean."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from gateway.durable import (
    AlreadyExistsError,
    Engine,
    EntityId,
    NotFoundError,
    OrchestrationRuntimeStatus,
    Registry,
    WrongStatusError,
)
from gateway.durable import history as h
from gateway.durable.activities import ActivityContext
from gateway.durable.testing import MemoryStore
from journal import Journal

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
SHELF = EntityId("shelf", "a")


def waits(context):
    given = context.get_input()
    if given == "fail":
        raise ValueError(given)
    return [given, (yield context.wait_for_external_event("go")), context.version]


def shelf(context):
    match context.operation_name:
        case "put":
            context.set_state(context.get_input())
        case "drop":
            context.destruct_on_exit()
        case "hold":
            context.set_state(context.defer_result())
        case "answer":
            context.resolve(context.get_state(), "at last")


def register(registry: Registry) -> None:
    registry.orchestrator(waits, "waits", "1")
    registry.entity(shelf)


async def finish(engine: Engine, *instances: str) -> None:
    for instance in instances:
        await engine.client.raise_event(instance, "go", 1)
        await engine.client.wait_for_completion(instance, 5)
    await engine.on_disk()


@pytest.fixture
async def engine(site) -> Engine:
    register(site.registry)
    return await site.start()


# Restart


async def test_a_restart_takes_the_same_input_and_version_under_a_new_id_or_the_same(site, engine):
    client = engine.client
    await client.start_new("waits", "i", "seven")
    site.registry.orchestrator(waits, "waits", "2")
    copy = await client.restart("i")
    with pytest.raises(AlreadyExistsError, match="'i' is running already"):
        await client.restart("i", restart_with_new_instance_id=False)
    await finish(engine, "i", copy)
    assert await client.restart("i", False) == "i"
    await finish(engine, "i")
    for instance in ("i", copy):
        assert (await client.get_status(instance)).output == ["seven", 1, "1"]
    with pytest.raises(NotFoundError):
        await client.restart("nobody")
    with pytest.raises(NotFoundError):
        await client.restart(str(SHELF))


async def test_a_restart_takes_the_input_of_the_present_execution_also_of_a_rewound_one(site, engine):
    async def step(number: int) -> int:
        if number == 2 and not fixed:
            raise ValueError
        return number

    def rounds(context):
        given = context.get_input()
        yield context.call_activity("step", given)
        if given == 1:
            context.continue_as_new(2)
        return given

    fixed: list[bool] = []
    site.registry.activity(step)
    site.registry.orchestrator(rounds)
    await engine.client.start_new("rounds", "i", 1)
    assert (await engine.client.wait_for_completion("i", 5)).failure is not None
    fixed.append(True)
    await engine.client.rewind("i", "")
    await engine.client.wait_for_completion("i", 5)
    copy = await engine.client.restart("i")
    status = await engine.client.wait_for_completion(copy, 5)
    assert status.output == 2
    assert (await engine.client.get_status(copy, show_input=True)).input_ == 2


async def test_what_was_just_started_can_be_restarted(site):
    register(site.registry)
    engine = await site.start()
    await engine.client.start_new("waits", "i", "seven")
    copy = await engine.client.restart("i")
    assert (await engine.client.get_status(copy, show_input=True)).name == "waits"
    await finish(engine, copy)
    assert (await engine.client.get_status(copy)).output[0] == "seven"


# Purge


async def test_a_purge_removes_the_row_and_leaves_the_records(site, engine):
    client = engine.client
    await client.start_new("waits", "i", 7)
    with pytest.raises(WrongStatusError, match="i is Running: only a finished"):
        await client.purge_instance_history("i")
    await finish(engine, "i")
    records = len([r for r in site.store.records if r.instance == "i"])
    assert (await client.purge_instance_history("i", "Eva")).instances_deleted == 1
    with pytest.raises(NotFoundError):
        await client.get_status("i")
    with pytest.raises(NotFoundError):
        await client.raise_event("i", "go")
    with pytest.raises(NotFoundError):
        await client.purge_instance_history("i")
    with pytest.raises(NotFoundError):
        await client.purge_instance_history(str(SHELF))
    left = [r for r in site.store.records if r.instance == "i"]
    assert len(left) == records + 1
    assert left[-1].kind == "purged"
    assert b'"Eva"' in left[-1].payload
    await client.start_new("waits", "i", 8)
    await finish(engine, "i")
    assert (await client.get_status("i")).output[0] == 8


async def test_a_purge_right_after_the_end_finds_the_outcome_on_disk(site, engine):
    await engine.client.start_new("waits", "i")
    site.store.hold()
    purging = asyncio.create_task(engine.client.terminate("i", "enough"))
    await asyncio.sleep(0.01)
    assert engine.instances["i"].terminal
    purge = asyncio.create_task(engine.client.purge_instance_history("i"))
    await asyncio.sleep(0.01)
    assert not purge.done()
    site.store.let_go()
    await purging
    assert (await purge).instances_deleted == 1
    assert "i" not in site.store.rows
    assert "i" not in engine.instances


async def test_purge_by_time_and_status_leaves_the_rest(site, engine):
    client = engine.client
    for number in range(3):
        await client.start_new("waits", f"done-{number}")
    await finish(engine, *(f"done-{number}" for number in range(3)))
    await client.start_new("waits", "failed", "fail")
    await client.wait_for_completion("failed", 5)
    await client.start_new("waits", "alive")
    created = (await client.get_status("done-1")).created_time
    with pytest.raises(ValueError, match="created_time_from is required"):
        await client.purge_instance_history_by()
    with pytest.raises(ValueError, match="not those that are Running"):
        await client.purge_instance_history_by(LONG_AGO, None, [OrchestrationRuntimeStatus.Running])
    failed_only = await client.purge_instance_history_by(LONG_AGO, None, [OrchestrationRuntimeStatus.Failed])
    assert failed_only.instances_deleted == 1
    early = await client.purge_instance_history_by(LONG_AGO, created)
    assert early.instances_deleted == 2
    assert sorted(site.store.rows) == ["alive", "done-2"]
    assert (await client.purge_instance_history_by(created + timedelta(days=900))).instances_deleted == 0
    assert (await client.purge_instance_history_by(LONG_AGO)).instances_deleted == 1
    assert sorted(site.store.rows) == ["alive"]


async def test_a_purge_of_many_goes_page_by_page(site, engine, monkeypatch):
    monkeypatch.setattr("gateway.durable.housekeeping.PAGE", 3)
    for number in range(8):
        await engine.client.start_new("waits", f"f{number}", "fail")
        await engine.client.wait_for_completion(f"f{number}", 5)
    before = len(site.store.batches)
    assert (await engine.client.purge_instance_history_by(LONG_AGO)).instances_deleted == 8
    removed = [len(batch.instances_removed) for batch in site.store.batches[before:]]
    assert [n for n in removed if n] == [3, 3, 2]


async def test_what_is_still_under_way_keeps_its_orchestration(site, engine, wait_until):
    gate = asyncio.Event()

    async def slow(_: object) -> None:
        await gate.wait()

    def forgets(context):
        context.call_activity("slow")
        return "done"

    site.registry.activity(slow)
    site.registry.orchestrator(forgets)
    await engine.client.start_new("forgets", "i")
    await engine.client.wait_for_completion("i", 5)
    with pytest.raises(WrongStatusError, match="an activity of it has no result yet"):
        await engine.client.purge_instance_history("i")
    assert (await engine.client.purge_instance_history_by(LONG_AGO)).instances_deleted == 0
    gate.set()
    await wait_until(lambda: not engine.activities.running)
    assert (await engine.client.purge_instance_history("i")).instances_deleted == 1


async def test_a_question_that_still_waits_keeps_its_orchestration(site, engine, wait_until):
    def locks(context):
        with (yield context.lock_entities([SHELF])):
            yield context.wait_for_external_event("go")

    def asks(context):
        yield context.call_entity(SHELF, "put", 1)

    site.registry.orchestrator(locks)
    site.registry.orchestrator(asks)
    entity = engine.ledger.entity(SHELF)
    await engine.client.start_new("locks", "owner")
    await wait_until(lambda: entity.core.lock is not None)
    await engine.client.start_new("asks", "i")
    await wait_until(lambda: entity.mailbox.waiting == 1)
    await engine.client.terminate("i", "enough")
    await engine.client.wait_for_completion("i", 5)
    with pytest.raises(WrongStatusError, match="a message of it to @shelf@a has not been handled"):
        await engine.client.purge_instance_history("i")
    await finish(engine, "owner")
    assert (await engine.client.purge_instance_history("i")).instances_deleted == 1


async def test_an_answer_to_a_purged_one_never_reaches_its_successor(site, engine, wait_until):
    def parent(context):
        context.call_entity(SHELF, "hold")
        context.call_sub_orchestrator("waits", "left", instance_id="child")
        return "did not wait"

    def successor(context):
        tasks = [context.wait_for_external_event("x"), context.call_activity("never"), context.call_activity("never")]
        return (yield context.task_any(tasks)).name

    async def never(_: object) -> None:
        await asyncio.Event().wait()

    site.registry.activity(never)
    site.registry.orchestrator(parent)
    site.registry.orchestrator(successor)
    await engine.client.start_new("parent", "i")
    await engine.client.wait_for_completion("i", 5)
    await wait_until(lambda: engine.instances[str(SHELF)].core.waiting != {})
    await engine.client.purge_instance_history("i")
    await engine.client.start_new("successor", "i")
    await engine.client.call_entity(SHELF, "answer")
    await finish(engine, "child")
    assert (await engine.client.get_status("child")).parent_instance_id is None
    await asyncio.sleep(0.01)
    assert (await engine.client.get_status("i")).runtime_status == "Running"
    heard = [
        e for r in site.store.records if r.instance == "i" and r.kind == h.TURN for e in h.decode_turn(r.payload).events
    ]
    assert not [e for e in heard if isinstance(e, h.EntityOperationCompleted | h.SubOrchestrationInstanceCompleted)]
    await engine.client.terminate("i", "")


async def test_the_successor_of_a_purged_one_uses_none_of_its_operation_ids(site, engine, monkeypatch):
    seen: list[str] = []

    def note(_: object, context: ActivityContext) -> None:
        seen.append(context.operation_id)

    def parent(context):
        yield context.call_activity("note")
        yield context.call_sub_orchestrator("child", instance_id=context.get_input())

    def child(context):
        yield context.call_activity("note")

    site.registry.activity(note)
    site.registry.orchestrator(parent)
    site.registry.orchestrator(child)
    for older in (False, True):
        if older:  # a version before this one did not say which ids were used
            monkeypatch.setattr("gateway.durable.housekeeping._purged", lambda _: SimpleNamespace(next_task=0))
        for named in (None, "kid"):
            await engine.client.start_new("parent", "night", named)
            await engine.client.wait_for_completion("night", 5)
            await engine.client.purge_instance_history_by(LONG_AGO)
    assert len(seen) == len(set(seen)) == 8, seen


async def test_a_crash_leaves_a_purge_whole_or_undone(site, engine):
    for name in ("i", "j"):
        await engine.client.start_new("waits", name)
    await finish(engine, "i", "j")
    before = len(site.store.batches)
    await engine.client.purge_instance_history_by(LONG_AGO)
    batches = list(site.store.batches)
    for survived in range(before, len(batches) + 1):
        again = await site.start(MemoryStore.after(batches[:survived]))
        assert sorted(site.store.rows) == (["i", "j"] if survived < len(batches) else [])
        await again.client.start_new("waits", "i", survived)
        await finish(again, "i")
        assert (await again.client.get_status("i")).output[0] == survived
        await again.stop()


async def test_purge_and_rewind_on_the_real_journal(site, tmp_path: Path):
    broken = [True]

    async def step(what: str) -> str:
        if broken:
            raise ValueError(what)
        return what

    def shed(context):
        return (yield context.call_activity("step", "a"))

    register(site.registry)
    site.registry.activity(step)
    site.registry.orchestrator(shed)
    journal = await Journal.open(tmp_path / "journal.db")
    engine = await site.start(journal)
    await engine.client.start_new("shed", "i")
    await engine.client.wait_for_completion("i", 5)
    broken.clear()
    await engine.client.rewind("i", "repaired")
    assert (await engine.client.wait_for_completion("i", 5)).output == "a"
    assert (await engine.client.purge_instance_history("i")).instances_deleted == 1
    assert (await journal.instance("i")) is None
    kinds = [record[2] for record in await journal.history("i", 1)]
    assert kinds[-1] == "purged"
    assert kinds.count(h.TURN) == 4
    await engine.client.start_new("shed", "i")
    assert (await engine.client.wait_for_completion("i", 5)).output == "a"
    await engine.stop()
    assert (await journal.verify()).ok
    await journal.close()


# Queries


async def test_orchestrations_are_found_by_time_status_name_and_page_by_page(site, engine):
    client = engine.client
    for name in ("a-1", "a-2", "b-1"):
        await client.start_new("waits", name)
    await client.terminate("a-2", "enough")
    await client.wait_for_completion("a-2", 5)
    running = [OrchestrationRuntimeStatus.Running]

    async def ids(**query):
        return [status.instance_id for status in await client.get_status_by(**query)]

    assert await ids() == ["a-1", "a-2", "b-1"]
    assert await ids(instance_id_prefix="a-") == ["a-1", "a-2"]
    assert await ids(instance_id_prefix="a-", runtime_status=running) == ["a-1"]
    assert await ids(limit=2) == ["a-1", "a-2"]
    assert await ids(limit=2, after="a-2") == ["b-1"]
    assert await ids(name="other") == []
    created = (await client.get_status("a-2")).created_time
    assert await ids(created_time_from=created) == ["a-2", "b-1"]
    assert await ids(created_time_to=created) == ["a-1", "a-2"]


# Entities


async def put(engine: Engine, key: str, value: object, name: str = "shelf") -> None:
    await engine.client.call_entity(EntityId(name, key), "put", value)


async def test_entities_are_listed_by_name_time_and_page_by_page(site, engine, monkeypatch):
    monkeypatch.setattr("gateway.durable.queries.PAGE", 2)
    site.registry.entity(shelf, "shop")
    client = engine.client
    for key in "abc":
        await put(engine, key, {"of": key})
    await put(engine, "x", 1, "shop")
    await client.call_entity(EntityId("shelf", "b"), "drop")
    await asyncio.sleep(0.002)

    async def keys(*arguments, **query):
        return [status.entity_id.key for status in await client.list_entities(*arguments, **query)]

    assert await keys() == ["a", "c", "x"]
    assert await keys("SHELF") == ["a", "c"]
    assert await keys("sh", limit=2) == ["a", "c"]
    assert await keys("sh", limit=2, after="@shelf@c") == ["x"]
    assert await keys(include_transient=True) == ["a", "b", "c", "x"]
    found = (await client.list_entities("shop"))[0]
    assert (found.state, found.exists, found.locked_by, found.waiting) == (1, True, "", 0)
    assert (await client.list_entities("shop", include_state=False))[0].state is None
    await put(engine, "c", 2)
    last = (await client.list_entities(after="@shelf@b", limit=1))[0].last_modified_time
    assert await keys(last_modified_from=last) == ["c"]
    assert await keys(last_modified_to=found.last_modified_time) == ["a", "x"]


async def test_cleaning_removes_only_entities_that_nothing_is_known_of(site, engine, wait_until):
    client = engine.client
    for key in ("kept", "empty", "held", "later"):
        await put(engine, key, 1)
    for key in ("empty", "later"):
        await client.call_entity(EntityId("shelf", key), "drop")
    await client.signal_entity(EntityId("shelf", "later"), "put", 5, engine_time(engine) + timedelta(hours=5))
    waiting = asyncio.create_task(client.call_entity(EntityId("shelf", "held"), "hold"))
    await wait_until(lambda: engine.instances["@shelf@held"].core.waiting != {})
    result = await client.clean_entity_storage()
    assert (result.empty_entities_removed, result.orphaned_locks_released) == (1, 0)
    assert sorted(site.store.rows) == ["@shelf@held", "@shelf@kept", "@shelf@later"]
    assert "@shelf@empty" not in engine.instances
    assert site.store.records[-1].kind == "purged"
    await client.call_entity(EntityId("shelf", "held"), "answer")
    assert await waiting == "at last"
    await client.call_entity(EntityId("shelf", "held"), "drop")
    assert (await client.clean_entity_storage()).empty_entities_removed == 0, "its next id must not be an old one"
    await put(engine, "empty", "anew")
    assert (await client.read_entity_state(EntityId("shelf", "empty"))).entity_state == "anew"
    await site.kill(engine)
    again = await site.start()
    assert (await again.client.read_entity_state(EntityId("shelf", "empty"))).entity_state == "anew"


def engine_time(engine: Engine) -> datetime:
    return datetime.fromtimestamp(engine.now_us() / 1e6, UTC)


async def test_a_lock_whose_owner_is_gone_is_released(site, engine, wait_until):
    def locks(context):
        with (yield context.lock_entities([SHELF])):
            yield context.wait_for_external_event("go")

    site.registry.orchestrator(locks)
    await engine.client.start_new("locks", "i")
    entity = engine.ledger.entity(SHELF)
    await wait_until(lambda: entity.core.lock is not None)
    assert (await engine.client.clean_entity_storage()).orphaned_locks_released == 0
    entity.core.lock = ("somebody who is gone", 3)
    blocked = asyncio.create_task(put(engine, SHELF.key, 1))
    await asyncio.sleep(0.005)
    assert not blocked.done()
    assert (await engine.client.clean_entity_storage(release_orphaned_locks=False)).orphaned_locks_released == 0
    assert (await engine.client.clean_entity_storage()).orphaned_locks_released == 1
    await blocked
    assert (await engine.client.list_entities())[0].state == 1
