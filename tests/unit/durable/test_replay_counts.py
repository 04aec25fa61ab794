"""How often an instance was replayed is in its row, outlives a restart, and is said when it is often."""

from __future__ import annotations

import structlog

from gateway.durable import orchestrations


def waits(context):
    got = []
    while (word := (yield context.wait_for_external_event("go"))) != "end":
        got.append(word)
    return got


async def test_the_count_is_written_with_the_turn_after_a_replay_and_goes_on_after_a_restart(site):
    site.registry.orchestrator(waits)
    engine = await site.start()
    await engine.client.start_new("waits", "i")
    await engine.client.raise_event("i", "go", 1)
    await engine.on_disk()
    assert (await engine.client.get_status("i")).replays == 0
    for restarts in (1, 2, 3):
        await site.kill(engine)
        engine = await site.start()
        assert (await engine.client.get_status("i")).replays == restarts - 1, "nothing is replayed before it is needed"
        await engine.client.raise_event("i", "go", restarts)
        await engine.client.raise_event("i", "go", restarts)
        await engine.on_disk()
        await _replayed(engine, restarts)
    await engine.client.raise_event("i", "go", "end")
    ended = await engine.client.wait_for_completion("i", 5)
    assert (ended.replays, ended.output) == (3, [1, 1, 1, 2, 2, 3, 3])


async def _replayed(engine, times):
    while (await engine.client.get_status("i")).replays < times:
        await engine.on_disk()


async def test_one_that_is_replayed_again_and_again_is_said(site, monkeypatch):
    monkeypatch.setattr(orchestrations, "REPLAYS_ALARM", 2)
    site.registry.orchestrator(waits)
    engine = await site.start(max_live=1)
    for name in ("i", "j"):
        await engine.client.start_new("waits", name)
    with structlog.testing.capture_logs() as lines:
        for round_ in range(4):
            for name in ("i", "j"):  # there is room for one: each word of the other sends this one to the disk
                await engine.client.raise_event(name, "go", round_)
                while len(_heard(engine, name)) <= round_:
                    await engine.on_disk()
        for name in ("i", "j"):
            await engine.client.raise_event(name, "go", "end")
            await engine.client.wait_for_completion(name, 5)
    said = [(line["instance"], line["replays"]) for line in lines if line["event"] == "replayed_often"]
    assert {instance for instance, _ in said} == {"i", "j"}
    assert {replays for _, replays in said} <= {3, 5}, "above the limit, then at each so many more"


def _heard(engine, name):
    instance = engine.instances[name]
    return [record for record in engine.store.records if record.instance == name and b"EventRaised" in record.payload][
        : 99 if instance.row else 0
    ]
