"""The examples of the guide: each does what it says, and a crash at any commit changes nothing of that.

A story drives one example and gives what must come out: its output, what was called (in order, or sorted where the steps
run side by side), and at what time. It is run without a crash, then with the power failing before and after each commit.
"""

from __future__ import annotations

import ast
import importlib
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest

import gateway.durable as df
from gateway.durable.determinism import check_file
from gateway.durable.testing import Workbench, survives_every_crash

PACKAGE = "gateway.durable.guide.examples"
FOLDER = Path(df.__file__).parent / "guide" / "examples"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))
MINUTE = timedelta(minutes=1)
START = datetime(2026, 1, 14, 8, tzinfo=UTC)


def example(name: str) -> ModuleType:
    return importlib.import_module(f"{PACKAGE}.{name}")


def names(bench: Workbench) -> list[str]:
    return [name for name, _ in bench.called]


async def outcome_of(story, at_least: int = 3):
    survived = await survives_every_crash(story)
    assert survived.boundaries >= at_least
    return survived.outcome


def test_no_example_does_what_replay_can_not_bear():
    for name in NAMES:
        found = check_file(FOLDER / f"{name}.py")
        assert found, f"no orchestrator in {name}"
        assert not [finding for findings in found.values() for finding in findings], name


def test_each_example_is_short_and_needs_the_engine_only():
    stories = {name for name in globals() if name.startswith("test_")}
    for name in NAMES:
        source = (FOLDER / f"{name}.py").read_text()
        imported = {
            alias.name if isinstance(node, ast.Import) else node.module
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        assert {one for one in imported if one.split(".")[0] not in sys.stdlib_module_names} == {"gateway.durable"}
        assert len(source.splitlines()) <= 80, name
        assert ast.get_docstring(ast.parse(source)), name
        assert any(story.startswith(f"test_{name}") for story in stories), f"no story of {name}"


async def test_function_chaining():
    async def story(bench):
        bench.add(example("function_chaining"))
        output = await bench.run("isolate_feeder", "7B")
        return output, bench.called

    opened = {"feeder": "7B", "position": "open"}
    assert await outcome_of(story) == (
        "7B: open, 0 V, earthed",
        [
            ("open_breaker", "7B"),
            ("prove_dead", opened),
            ("close_earthing_switch", {**opened, "volts": 0}),
            ("hang_tag", {**opened, "volts": 0, "earthed": True}),
        ],
    )


async def test_function_chaining_stops_at_the_step_that_fails():
    async def story(bench):
        bench.add(example("function_chaining"))
        bench.stub("open_breaker", {"feeder": "7B", "position": "closed"})
        status = await bench.finish(await bench.start("isolate_feeder", "7B"))
        return status.runtime_status, status.failure.message, names(bench)

    status, why, called = await outcome_of(story)
    assert (status, called) == ("Failed", ["open_breaker", "prove_dead"])
    assert "7B is not open" in why


async def test_fan_out_fan_in():
    async def story(bench):
        bench.add(example("fan_out_fan_in"))
        return await bench.run("survey_busbar", "B1"), sorted(bench.called)

    output, called = await outcome_of(story)
    assert output == {"total_kw": 240.5, "heaviest": "B1-1"}
    assert called == [("list_feeders", "B1")] + [("read_load_kw", f"B1-{n}") for n in (1, 2, 3)]


async def test_fan_out_fan_in_waits_for_all_even_if_one_fails():
    slowest = 9 * MINUTE

    async def story(bench):
        bench.add(example("fan_out_fan_in"))
        bench.stub("read_load_kw", fails=OSError("no answer"), times=1)
        bench.stub("read_load_kw", 1.0, takes=slowest)
        status = await bench.finish(await bench.start("survey_busbar", "B1"))
        return status.failure.is_caused_by(OSError), bench.clock.now - START >= slowest

    assert await outcome_of(story) == (True, True)


async def test_human_interaction():
    order = {"feeder": "7B", "target": "open"}

    async def both_agree(bench):
        bench.add(example("human_interaction"))
        run = await bench.start("approve_switching", order)
        await bench.advance(30 * MINUTE)
        await bench.raise_event(run, "DispatcherAgrees", {"agrees": True, "name": "Meier"})
        await bench.advance(29 * MINUTE)
        await bench.raise_event(run, "CrewAgrees", {"agrees": True, "name": "Novak"})
        return await bench.output(run), bench.called, len(bench.store.pending_timers)

    assert await outcome_of(both_agree, 6) == (
        {"status": "done", "outcome": "7B open", "agreed": ["Meier", "Novak"]},
        [("ask_for_word", "DispatcherAgrees"), ("ask_for_word", "CrewAgrees"), ("operate", order)],
        0,
    )


async def test_human_interaction_ends_an_hour_after_its_start_or_with_a_no():
    async def the_hour_passes(bench):
        bench.add(example("human_interaction"))
        run = await bench.start("approve_switching", {"feeder": "7B", "target": "open"})
        await bench.advance(50 * MINUTE)
        await bench.raise_event(run, "DispatcherAgrees", {"agrees": True, "name": "Meier"})
        return await bench.output(run), bench.clock.now - START, "operate" in names(bench)

    lapsed = {"status": "lapsed", "agreed": ["Meier"], "missing": "CrewAgrees"}
    assert await outcome_of(the_hour_passes) == (lapsed, 60 * MINUTE, False)

    async def refused(bench):
        bench.add(example("human_interaction"))
        run = await bench.start("approve_switching", {"feeder": "7B", "target": "open"})
        await bench.raise_event(run, "DispatcherAgrees", {"agrees": False, "name": "Meier"})
        return await bench.output(run), bench.clock.now - START, len(bench.store.pending_timers)

    assert await outcome_of(refused) == ({"status": "refused", "by": "Meier"}, timedelta(0), 0)


async def test_monitor_loop_until_it_is_cool():
    async def story(bench):
        bench.add(example("monitor_loop"))
        bench.stub("read_oil_temperature", 90.0, times=3)
        bench.stub("read_oil_temperature", 69.0, times=1)
        until = (START + 120 * MINUTE).isoformat()
        order = {"transformer": "T1", "below_c": 70.0, "until": until}
        return await bench.run("watch_until_cool", order), names(bench)

    output, called = await outcome_of(story, 8)
    assert output == {"cool": True, "at": "2026-01-14T08:30:00+00:00"}
    assert called == ["read_oil_temperature"] * 4


async def test_monitor_loop_gives_up_at_its_time():
    async def story(bench):
        bench.add(example("monitor_loop"))
        bench.stub("read_oil_temperature", 90.0)
        order = {"transformer": "T1", "below_c": 70.0, "until": (START + 25 * MINUTE).isoformat()}
        return await bench.run("watch_until_cool", order), bench.called[-1], bench.clock.now - START

    alarm = ("raise_alarm", "T1 is still too hot")
    assert await outcome_of(story) == ({"cool": False}, alarm, 30 * MINUTE)


async def test_monitor_loop_for_ever_keeps_a_short_history():
    async def story(bench):
        bench.add(example("monitor_loop"))
        bench.stub("read_oil_temperature", 60.0, times=2)
        bench.stub("read_oil_temperature", 96.0, times=1)
        bench.stub("read_oil_temperature", 61.0)
        first = {"transformer": "T1", "alarm_c": 95.0, "rounds": 0, "highest_c": 0.0}
        run = await bench.start("watch_for_ever", first)
        await bench.advance(25 * MINUTE)
        status = await bench.client.get_status(run, show_history=True)
        await bench.raise_event(run, "Stop")
        return status.custom_status, len(status.history) <= 3, await bench.output(run), names(bench)

    status, short, output, called = await outcome_of(story, 8)
    assert status == {"rounds": 3, "highest_c": 96.0}
    assert short, "of this round alone"
    assert output == {"rounds": 3, "highest_c": 96.0}
    assert called == ["read_oil_temperature"] * 3 + ["raise_alarm"]


async def test_counter_entity():
    async def story(bench):
        bench.add(example("counter_entity"))
        first = await bench.run("count_operations", "7B")
        await bench.call_entity(df.EntityId("wear", "7B"), "inspected", "Novak")
        await bench.signal_entity(df.EntityId("operations", "7B"), "reset")
        with pytest.raises(df.EntityOperationError, match="a counter can't paint"):
            await bench.call_entity(df.EntityId("operations", "7B"), "paint")
        return first, await bench.run("count_operations", "7B"), await bench.run("count_operations", "7A")

    once = {"total": 4, "since_inspection": {"count": 3, "inspected_by": None}, "refused": 1}
    again = {**once, "since_inspection": {"count": 3, "inspected_by": "Novak"}}
    assert await outcome_of(story, 6) == (once, again, once)


async def test_sub_orchestration():
    async def story(bench):
        bench.add(example("sub_orchestration"))
        orders = {"B1": {"feeders": ["B1-1", "B1-2"], "kw": 150.0}, "B2": {"feeders": ["B2-1"], "kw": 100.0}}
        run = await bench.start("relieve_station", orders)
        output = await bench.output(run)
        children = [await bench.status(f"{run}:{number:04x}") for number in (1, 2)]
        told = [(child.name, child.parent_instance_id, child.runtime_status.value) for child in children]
        return output, told, sorted(bench.called)

    output, children, called = await outcome_of(story)
    assert output == {"B1": 200.0, "B2": "only 60.0 of 100.0 kW"}
    parent = "relieve_station-1"
    assert children == [("relieve_busbar", parent, "Completed"), ("relieve_busbar", parent, "Failed")]
    assert called == [("open_feeder", name) for name in ("B1-1", "B1-2", "B2-1")]


async def test_custom_status():
    async def story(bench):
        bench.add(example("custom_status"))
        run = await bench.start("restore_in_stages", ["7A", "7B"])
        seen = [(await bench.status(run)).custom_status]
        await bench.advance(3 * MINUTE)
        seen.append((await bench.status(run)).custom_status)
        output = await bench.output(run)
        seen.append((await bench.status(run)).custom_status)
        return output, seen, bench.called

    output, seen, called = await outcome_of(story)
    assert output == "restored"
    assert seen == [
        {"closed": 0, "of": 2, "next": "7A", "at": "2026-01-14T08:02+00:00"},
        {"closed": 1, "of": 2, "next": "7B", "at": "2026-01-14T08:04+00:00"},
        {"closed": 2, "of": 2},
    ]
    assert called == [("close_feeder", "7A"), ("close_feeder", "7B")]


async def test_argument_serialisation():
    module = example("argument_serialisation")

    async def story(bench):
        bench.add(module)
        order = module.SwitchingOrder("open", ["7A", "hospital", "7B"])
        output = await bench.run("plan_switching", order)
        (call,) = bench.calls if len(bench.calls) == 1 else bench.calls[-1:]
        return output, type(call.input), call.input.feeders

    output, kind, given = await outcome_of(story, 2)
    assert output == {"target": "open", "feeders": ["7A", "7B"], "struck_out": 1}
    assert (kind, given) == (module.SwitchingOrder, ["7A", "hospital", "7B"])


async def test_versioning():
    async def story(bench):
        bench.add(example("versioning"))
        old = await bench.start("relieve", version="1")
        new = await bench.start("relieve")
        branched = await bench.start("relieve_and_restore", version="1")
        outputs = [await bench.output(run) for run in (old, new, branched, await bench.start("relieve_and_restore"))]
        by_run: dict[str, list[str]] = {}
        for call in bench.calls:
            if not call.again:
                by_run.setdefault(call.instance_id, []).append(call.name)
        return outputs, by_run

    outputs, called = await outcome_of(story)
    assert outputs == [200.0, 200.0, {"kw": 200.0, "version": "1"}, {"kw": 200.0, "version": ""}]
    assert called == {
        "relieve-1": ["shed"],
        "relieve-2": ["shed", "tell_dispatcher"],
        "relieve_and_restore-3": ["shed"],
        "relieve_and_restore-4": ["shed", "tell_dispatcher"],
    }


async def test_critical_section():
    """Two transfers between the same feeders, in opposite directions; the second comes while the switch still moves."""
    first, second = df.EntityId("feeder", "7A"), df.EntityId("feeder", "7B")

    async def story(bench):
        bench.add(example("critical_section"))
        switch = bench.stub("operate_tie_switch", takes=MINUTE)
        await bench.call_entity(first, "add", 90.0)
        await bench.call_entity(second, "add", 50.0)
        there = await bench.start("transfer_load", {"from": "7A", "to": "7B", "kw": 80.0})
        back = await bench.start("transfer_load", {"from": "7B", "to": "7A", "kw": 20.0})
        asked_meanwhile = len(switch.inputs)
        moved = await bench.output(there), await bench.output(back)
        return asked_meanwhile, moved, await bench.call_entity(first, "get"), await bench.call_entity(second, "get")

    assert await outcome_of(story, 8) == (1, (50.0, 20.0), 60.0, 80.0)


async def test_critical_section_is_left_when_a_step_in_it_fails():
    first, second = df.EntityId("feeder", "7A"), df.EntityId("feeder", "7B")

    async def story(bench):
        bench.add(example("critical_section"))
        await bench.call_entity(first, "add", 10.0)
        status = await bench.finish(await bench.start("transfer_load", {"from": "7A", "to": "7B", "kw": 20.0}))
        return status.runtime_status, await bench.call_entity(first, "get"), await bench.call_entity(second, "get")

    assert await outcome_of(story) == ("Failed", 10.0, 0.0)


async def test_retry():
    async def third_time(bench):
        bench.add(example("retry"))
        relay = bench.stub("read_relay", 0.91, fails=[OSError("no answer"), TimeoutError("slow")])
        output = await bench.run("read_power_factor", "R1")
        return output, sorted({(call.attempt, (call.at - START).seconds) for call in relay.calls})

    assert await outcome_of(third_time) == ({"value": 0.91, "measured": True}, [(1, 0), (2, 5), (3, 15)])


async def test_retry_gives_up_and_asks_elsewhere():
    async def never(bench):
        bench.add(example("retry"))
        bench.stub("read_relay", fails=ConnectionError("link down"))
        return await bench.run("read_power_factor", "R1"), names(bench), bench.clock.now - START

    called = ["read_relay"] * 4 + ["last_known_value"]
    assert await outcome_of(never) == ({"value": 0.95, "measured": False}, called, timedelta(seconds=30))

    async def wrong_name(bench):
        bench.add(example("retry"))
        bench.stub("read_relay", fails=KeyError("R9"))
        return (await bench.finish(await bench.start("read_power_factor", "R9"))).runtime_status

    assert await outcome_of(wrong_name) == "Failed"


async def test_event_aggregator():
    feeder = df.EntityId("demand", "7B")

    async def story(bench):
        bench.add(example("event_aggregator"))
        await bench.signal_entity(feeder, "limit", 100.0)
        for readings in ([80.0, 100.0], [], [120.0, 130.0, 110.0], [90.0]):
            for kw in readings:
                await bench.signal_entity(feeder, "reading", kw)
                await bench.advance(MINUTE)
            await bench.advance(15 * MINUTE)
        return await bench.call_entity(feeder, "get"), bench.called

    means, called = await outcome_of(story, 10)
    assert means == [90.0, 120.0, 90.0]
    assert called == [("shed_part", {"feeder": "7B", "mean_kw": 120.0})]


async def test_event_aggregator_keeps_the_last_windows_only():
    async with Workbench(example("event_aggregator")) as bench:
        feeder = df.EntityId("demand", "7B")
        for kw in range(10):
            await bench.signal_entity(feeder, "reading", float(kw))
            await bench.advance(15 * MINUTE)
        assert await bench.call_entity(feeder, "get") == [6.0, 7.0, 8.0, 9.0]


async def test_saga():
    async def well(bench):
        bench.add(example("saga"))
        return await bench.run("feed_from_other_side", "B1"), names(bench)

    assert await outcome_of(well) == (
        {"status": "fed from the other side"},
        ["close_coupler", "open_incomer", "set_relay_group"],
    )


async def test_saga_undoes_what_was_done_backwards():
    async def ill(bench):
        bench.add(example("saga"))
        bench.stub("set_relay_group", fails=RuntimeError("the relay refuses"))
        bench.stub("close_incomer", fails=2)
        return await bench.run("feed_from_other_side", "B1"), bench.called

    assert await outcome_of(ill) == (
        {"status": "as before", "why": "the relay refuses"},
        [
            ("close_coupler", "B1"),
            ("open_incomer", "B1"),
            ("set_relay_group", ["B1", "coupled"]),
            ("close_incomer", "B1"),
            ("close_incomer", "B1"),
            ("close_incomer", "B1"),
            ("open_coupler", "B1"),
        ],
    )
