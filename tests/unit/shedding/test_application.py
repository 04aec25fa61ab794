"""Entities, activities and procedures together, on the real engine: what reaches the field, and what does not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from config.models import Mode
from gateway.clock import from_us
from gateway.durable import EntityId, EntityOperationError, OrchestrationRuntimeStatus
from gateway.shedding.breaker_model import CALLERS_LIMIT, Phase, Result
from gateway.shedding.entities import breaker_id, substation_id, transformer_id
from gateway.shedding.measuring import LoadWatch
from gateway.shedding.states import breaker_state
from protocols.base import LinkState, Position, Quality

from .conftest import Station, make_feeder, make_site

OVERRIDE = {"decision": "cancel", "actor": "m.meier", "role": "OPERATOR", "reason": "enough"}


def GridEmergencyProtocol(context):
    """A program in the dialect, as engineers write it."""
    grid = context.get_input()  # noqa: F841
    yield context.call_activity("SendDisconnectCommand", "Tier1")
    yield context.create_timer(context.current_utc_datetime + timedelta(minutes=5))
    override = yield context.wait_for_external_event("OperatorOverride", timeout=300)
    if override and override.get("cancel"):
        return {"status": "aborted"}
    yield context.call_activity("SendReconnectCommand", "Tier1")
    return {"status": "recovered"}


def Call(context):
    """Calls one activity with the input."""
    name, input_ = context.get_input()
    return (yield context.call_activity(name, input_))


async def run(station: Station, activity: str, input_: Any) -> Any:
    """The result of one activity."""
    instance = await station.client.start_new("Call", client_input=[activity, input_])
    status = await station.ended(instance)
    assert status.runtime_status is OrchestrationRuntimeStatus.Completed, status.failure
    return status.output


@pytest.fixture
async def station():
    """A station that runs, with two programs of its own."""
    one = Station(make_site())
    one.programs = [GridEmergencyProtocol, Call]
    one.build()
    await one.start()
    yield one
    await one.engine.stop(0.1)


def position(station: Station, feeder: str) -> str:
    """Where the breaker really is."""
    return station.driver.breakers[feeder].position.value


# --- mass commands ----------------------------------------------------------------------------------------------------


async def test_a_tier_means_its_sheddable_feeders(station):
    assert await run(station, "SendDisconnectCommand", "Tier1") == {"A1": "done", "A2": "done", "A3": "done"}
    assert [position(station, f) for f in ("A1", "A2", "A3", "H1", "B1")] == ["open"] * 3 + ["closed"] * 2


async def test_a_list_gives_the_outcome_of_each_and_critical_feeders_stay(station):
    station.driver.breakers["A2"].answers = ["fail"]
    station.driver.breakers["A3"].answers = ["offline"]
    outcomes = await run(station, "SendDisconnectCommand", ["A1", "A2", "A3", "H1", "N1"])
    assert outcomes == {"A1": "done", "A2": "failed", "A3": "not_sent", "H1": "refused", "N1": "refused"}
    assert position(station, "H1") == "closed"


async def test_force_does_not_open_a_critical_feeder_through_an_orchestration(station):
    assert await run(station, "SendDisconnectCommand", {"feeders": ["H1"], "force": True}) == {"H1": "refused"}


@pytest.mark.parametrize(
    ("input_", "words"),
    [
        ("Tier9", "unknown feeder or tier Tier9"),
        (["A1", "Z9"], "unknown feeder or tier Z9"),
        ({"tier": "Tier9"}, "unknown tier 'Tier9'; this site has Tier1, Tier2"),
        ({"feeder": "A1"}, "unknown field"),
        (7, "Expected"),
    ],
)
async def test_a_wrong_input_moves_nothing_and_is_a_clear_error(station, input_, words):
    instance = await station.client.start_new("Call", client_input=["SendDisconnectCommand", input_])
    status = await station.ended(instance)
    assert status.failure is not None
    assert words in status.failure.message
    assert station.driver.writes == 0


async def test_reconnecting_a_tier_leaves_alone_what_others_have_opened(station):
    station.driver.breakers["A3"].position = Position.OPEN
    await station.client.call_entity(breaker_id("A3"), "observe", {"position": "open", "quality": "good"})
    await run(station, "SendDisconnectCommand", ["A1"])
    outcomes = await run(station, "SendReconnectCommand", "Tier1")
    assert outcomes["A1"] == "done"
    assert "A3" not in outcomes
    assert [position(station, f) for f in ("A1", "A3")] == ["closed", "open"]


async def test_an_unknown_outcome_is_read_and_not_repeated(station):
    station.driver.breakers["A1"].answers = ["lose after"]
    assert await run(station, "SendDisconnectCommand", ["A1"]) == {"A1": "done"}
    assert station.driver.breakers["A1"].orders == [Position.OPEN]
    assert breaker_state(station.client, "A1").last.resolved


async def test_a_proven_miss_is_sent_once_more(station):
    await station.client.call_entity(
        breaker_id("A1"), "observe", {"position": "closed", "quality": "good", "local": False, "op_count": 0}
    )
    station.driver.breakers["A1"].answers = ["lose before"]
    assert await run(station, "SendDisconnectCommand", ["A1"]) == {"A1": "done"}
    assert station.driver.breakers["A1"].orders == [Position.OPEN, Position.OPEN]
    assert station.driver.breakers["A1"].op_count == 1


async def test_an_unreadable_breaker_is_unknown_after_the_deadline_and_resolves_later(station):
    breaker = station.driver.breakers["A1"]
    breaker.answers = ["lose after"]
    breaker.quality = Quality.BAD
    instance = await station.client.start_new("Call", client_input=["SendDisconnectCommand", ["A1"]])
    await station.until(lambda: breaker_state(station.client, "A1").phase is Phase.RESOLVING, "resolving")
    station.clock.advance(121)
    status = await station.ended(instance)
    assert status.output == {"A1": "unknown"}
    breaker.quality = Quality.GOOD
    await station.client.signal_entity(breaker_id("A1"), "observe", {"position": "open", "quality": "good"})
    await station.until(lambda: breaker_state(station.client, "A1").phase is Phase.IDLE, "resolved")
    assert breaker_state(station.client, "A1").shed is not None
    assert breaker.orders == [Position.OPEN]


async def test_many_breakers_are_commanded_at_once_but_bounded():
    names = [f"F{n:04}" for n in range(1500)]
    one = Station(make_site(make_feeder(name, "Tier1") for name in names))
    one.programs = [Call]
    one.build()
    await one.start()
    outcomes = await run(one, "SendDisconnectCommand", "Tier1")
    assert outcomes == dict.fromkeys(names, "done")
    assert 1 < one.driver.most_under_way <= 1024
    await one.engine.stop(0.1)


# --- gates ------------------------------------------------------------------------------------------------------------


async def test_in_mode_monitor_nothing_is_written(station):
    answer = await station.client.call_entity(
        substation_id(station.site), "set_mode", {"mode": "monitor", "actor": "m.meier", "reason": "test"}
    )
    assert answer == {"mode": "monitor"}
    await station.until(lambda: station.field.mode is Mode.MONITOR, "the field is told")
    assert await run(station, "SendDisconnectCommand", "Tier1") == dict.fromkeys(["A1", "A2", "A3"], "refused")
    assert station.driver.writes == 0


async def test_while_outputs_are_held_commands_wait_and_then_expire(station):
    station.gate.hold("test")
    instance = await station.client.start_new("Call", client_input=["SendDisconnectCommand", {"feeders": ["A1"]}])
    await station.until(lambda: breaker_state(station.client, "A1").phase is Phase.OPERATING, "intent")
    station.clock.advance(121)
    status = await station.ended(instance)
    assert status.output == {"A1": "expired"}
    assert station.driver.writes == 0


async def test_a_released_gate_lets_them_go(station):
    station.gate.hold("test")
    station.clock.real_seconds_until = lambda due_us: 60.0  # type: ignore[method-assign]
    instance = await station.client.start_new("Call", client_input=["SendDisconnectCommand", ["A1"]])
    await station.until(lambda: breaker_state(station.client, "A1").phase is Phase.OPERATING, "intent")
    assert station.driver.writes == 0
    station.gate.release()
    assert (await station.ended(instance)).output == {"A1": "done"}


# --- power cuts -------------------------------------------------------------------------------------------------------


async def test_a_power_cut_with_a_frame_under_way_operates_nothing_twice(station):
    for feeder in ("A1", "A2", "A3"):
        station.driver.breakers[feeder].answers = ["hang"]
    instance = await station.client.start_new("GridEmergencyProtocol", client_input={})
    await station.until(lambda: station.driver.writes == 3, "three frames on the wire")
    await station.power_cut()
    await station.start()
    await station.until(lambda: len(station.engine.timers), "the timer of the program")
    assert [station.driver.breakers[f].orders for f in ("A1", "A2", "A3")] == [[Position.OPEN]] * 3
    assert all(breaker_state(station.client, f).last.resolved for f in ("A1", "A2", "A3"))
    await station.client.raise_event(instance, "OperatorOverride", {"cancel": True})
    assert (await station.ended(instance)).output == {"status": "aborted"}


async def test_callers_of_processes_that_ended_take_nobodys_place(station):
    station.driver.breakers["A1"].answers = ["hang"]
    station.driver.breakers["A1"].quality = Quality.BAD  # its outcome can't be learnt yet
    instance = await station.client.start_new("Call", client_input=["SendDisconnectCommand", ["A1"]])
    await station.until(lambda: station.driver.writes == 1, "the frame is on the wire")

    def newest() -> str:
        command = breaker_state(station.client, "A1").command
        return command.tokens[-1] if command is not None and command.tokens else ""

    for _ in range(2 * CALLERS_LIMIT):
        before = newest()
        await station.power_cut()
        await station.start()
        await station.until(lambda before=before: newest() != before, "it has asked again, which is on disk")
    station.driver.breakers["A1"].quality = Quality.GOOD
    assert (await station.ended(instance)).output == {"A1": "done"}
    assert station.driver.breakers["A1"].orders == [Position.OPEN]


async def test_a_command_that_outlived_an_outage_is_expired_and_never_executed(station):
    commit = station.store.commit

    async def commit_and_lose_power(batch):
        await commit(batch)
        if batch.activities_added:
            station.store.hold()

    station.store.commit = commit_and_lose_power
    instance = await station.client.start_new("Call", client_input=["SendDisconnectCommand", "Tier1"])
    await station.until(lambda: station.store.pending_activities, "the command is on disk, nothing else is")
    await station.power_cut()
    station.clock.advance(8 * 3600)
    await station.start()
    assert (await station.ended(instance)).output == dict.fromkeys(["A1", "A2", "A3"], "expired")
    assert station.driver.writes == 0


async def test_a_signal_that_outlived_an_outage_moves_nothing(station):
    """Its time was long ago, whether it waited for that time or had been sent: an older command is never carried out."""
    order = {"request_id": "later-1", "actor": "a program"}
    at = from_us(station.clock.now_us()) + timedelta(minutes=1)
    await station.client.signal_entity(breaker_id("A1"), "open", order, signal_time=at)
    await station.power_cut()
    station.clock.advance(3600)
    await station.start()
    await station.until(lambda: breaker_state(station.client, "A1").last, "it was told")
    assert breaker_state(station.client, "A1").last.result is Result.EXPIRED
    assert station.driver.writes == 0
    at = from_us(station.clock.now_us()) + timedelta(minutes=1)
    await station.client.signal_entity(breaker_id("A2"), "open", {**order, "request_id": "later-2"}, signal_time=at)
    await station.play(lambda: position(station, "A2") == "open", "in its time it is carried out")


async def test_the_program_in_the_dialect_runs_as_it_stands(station):
    instance = await station.client.start_new("GridEmergencyProtocol", client_input={"grid": 1})
    await station.until(lambda: len(station.engine.timers) == 1, "five minutes")
    assert position(station, "A1") == "open"
    assert (await station.ended(instance)).output == {"status": "recovered"}
    assert position(station, "A1") == "closed"


def _due(station: Station) -> bool:
    following = station.engine.timers.next_due()
    return following is not None and following[0] <= station.clock.now_us()


# --- transformer, substation, procedure -------------------------------------------------------------------------------


async def stress(station: Station, on: bool = True, load_pct: float = 99.0) -> None:
    """The transformer's zone changes."""
    await station.client.call_entity(transformer_id(station.site), "observe", {"armed": on, "load_pct": load_pct})


async def substation(station: Station) -> dict[str, Any]:
    """The substation's state."""
    return await station.client.call_entity(substation_id(station.site), "get")


async def test_stress_starts_the_procedure_which_sheds_waits_and_restores(station):
    station.driver.load = 990.0
    await stress(station)
    running = (await substation(station))["running"]["instance"]
    assert running == "shed-Northgate-000001"
    cooldown = await station.phase(running, "cooldown")
    assert (cooldown["tier"], cooldown["shed_kw"], cooldown["waits_for"]) == ("Tier1", 40.0, "the load to settle")
    assert [position(station, f) for f in ("A1", "A2", "A3", "H1")] == ["open", "open", "closed", "closed"]
    station.driver.load = 700.0
    await stress(station, on=False, load_pct=70.0)
    ended = await station.ended(running)
    assert (ended.output["status"], ended.output["opened"], ended.output["closed"]) == ("restored", 2, 2)
    assert (await substation(station))["running"] is None
    assert {position(station, f) for f in station.driver.breakers} == {"closed"}


async def test_restoration_does_not_use_up_its_attempts_on_a_device_that_is_not_there(station):
    await run(station, "SendDisconnectCommand", {"feeders": ["A1"], "procedure": "p"})
    station.driver.link = LinkState.SILENT
    plan = await run(station, "PlanRestore", {"procedure": "p"})
    assert (plan["feeders"], plan["left"], plan["unresolved"], plan["troubled"]) == ([], 1, 1, ["A1"])
    station.driver.link = LinkState.UP
    assert [name for name, _ in (await run(station, "PlanRestore", {"procedure": "p"}))["feeders"]] == ["A1"]


async def test_the_cooldown_survives_a_power_cut(station):
    station.driver.load = 990.0
    await stress(station)
    running = (await substation(station))["running"]["instance"]
    before = await station.phase(running, "cooldown")
    station.clock.advance(200)
    await station.power_cut()
    await station.start()
    assert (await station.phase(running, "cooldown"))["until"] == before["until"]
    station.driver.load = 700.0
    station.clock.advance(399)
    assert not _due(station)
    station.clock.advance(1)
    await station.phase(running, "stable")
    assert station.driver.writes == 2


async def test_a_cancelled_procedure_is_not_started_again_by_the_same_stress(station):
    station.driver.load = 990.0
    await stress(station)
    running = (await substation(station))["running"]["instance"]
    await station.phase(running, "cooldown")
    await station.client.raise_event(running, "OperatorOverride", OVERRIDE)
    assert (await station.ended(running)).output["status"] == "cancelled"
    await station.client.signal_entity(substation_id(station.site), "evaluate")
    after = await substation(station)
    assert after["running"] is None
    assert "until it has cleared or someone releases" in after["last_note"]
    assert [c["decision"] for c in after["consumed"]] == ["cancel"]
    await stress(station, on=False)
    await stress(station)
    assert (await substation(station))["running"]["instance"] == "shed-Northgate-000002"


async def test_one_procedure_at_a_time(station):
    station.driver.load = 990.0
    await stress(station)
    second = await station.client.start_new("LoadSheddingProtocol", client_input={"reason": "by hand"})
    ended = await station.ended(second)
    assert ended.output == {"status": "refused", "reason": "shed-Northgate-000001 runs already"}
    told = await station.client.call_entity(substation_id(station.site), "start", {"actor": "dispatch"})
    assert told == {"started": False, "reason": "shed-Northgate-000001 runs already"}


async def test_a_dispatchers_order_starts_a_procedure(station):
    told = await station.client.call_entity(
        substation_id(station.site), "start", {"actor": "dispatch", "reason": "order 7", "target_kw": 30.0}
    )
    assert told["started"]
    cooldown = await station.phase(told["instance"], "cooldown")
    assert (cooldown["target_kw"], cooldown["shed_kw"]) == (30.0, 40.0)


@pytest.mark.parametrize(
    ("operation", "input_", "words"),
    [
        ("start", {"target_kw": 5}, "needs an actor"),
        ("start", {"actor": "x", "target_kw": -5}, "must be above 0"),
        ("start", {"actor": "x", "tiers": ["Tier9"]}, "unknown tier Tier9"),
        ("set_mode", {"mode": "loud", "actor": "x"}, "mode"),
        ("set_mode", {"mode": "armed"}, "actor"),
        ("explode", None, "no operation 'explode'"),
    ],
)
async def test_what_the_substation_does_not_understand_is_said(station, operation, input_, words):
    with pytest.raises(EntityOperationError, match=words):
        await station.client.call_entity(substation_id(station.site), operation, input_)


async def test_nothing_starts_in_mode_monitor_nor_while_held_nor_over_the_cap():
    one = Station(make_site(mode=Mode.MONITOR, max_sheds_per_hour=1))
    await one.start()
    station_id = substation_id(one.site)
    await stress(one)
    assert "nothing is started in mode monitor" in (await substation(one))["last_note"]
    await one.client.call_entity(station_id, "hold", {"reason": "2 breakers moved"})
    await one.client.call_entity(station_id, "set_mode", {"mode": "armed", "actor": "m.meier"})
    assert "held: 2 breakers moved" in (await substation(one))["last_note"]
    await one.client.call_entity(station_id, "release", {"actor": "m.meier"})
    first = (await substation(one))["running"]["instance"]
    await one.until(lambda: b"phase" in bytes(one.engine.instances[first].custom_status), "it has the station")
    await one.client.call_entity(station_id, "finished", {"instance": first, "result": {"status": "restored"}})
    assert "the cap of this site" in (await substation(one))["last_note"]
    one.clock.advance(3601)
    await one.client.signal_entity(station_id, "evaluate")
    assert (await substation(one))["running"]["instance"] != first
    await one.engine.stop(0.1)


async def test_monitor_mode_by_hand_plans_and_writes_nothing(station):
    station.driver.load = 990.0
    await station.client.call_entity(substation_id(station.site), "set_mode", {"mode": "monitor", "actor": "m.meier"})
    instance = await station.client.start_new("LoadSheddingProtocol")
    ended = await station.ended(instance)
    assert ended.output["status"] == "monitored"
    assert ended.output["would_shed"] == [
        {"tier": "Tier1", "feeders": 2, "kw": 40.0, "skipped": {"critical": 1}},
    ]
    assert station.driver.writes == 0


async def test_the_watch_tells_changes_only(station):
    watch = LoadWatch(station.field, armed=False)
    station.driver.load = 985.0
    assert watch.look() is None
    station.clock.advance(61)
    told = watch.look()
    assert told is not None
    assert (told.armed, told.measured) == (True, True)
    assert watch.look() is None
    station.driver.load = None
    told = watch.look()
    assert told is not None
    assert (told.armed, told.measured) == (True, False)
    await station.client.call_entity(transformer_id(station.site), "observe", msgspec.to_builtins(told))


async def test_unknown_entities_and_feeders_are_clear_errors(station):
    with pytest.raises(EntityOperationError, match="no feeder 'Z9'"):
        await station.client.call_entity(EntityId("breaker", "Z9"), "observe", {"position": "open", "quality": "good"})
