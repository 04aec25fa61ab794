"""What operators' methods do, seen from both ends: what the caller is answered, and what became of the gateway."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from gateway.shedding.gate import OutputGate
from protocols.base import Position
from protocols.opcua.surface import Status
from tests.operator_house import ENGINEER, OPERATOR, House

NAN = math.nan


async def shedding(house: House) -> str:
    """A procedure that has opened Tier1 and waits; its id."""
    answer = await house.shed("StartShedding", NAN, ("Tier1",), "dispatch 17")
    assert answer.status is Status.OK, answer.message
    (instance,) = answer.outputs
    await house.phase(str(instance), "cooldown")
    return str(instance)


def opened(house: House) -> set[str]:
    return {name for name, breaker in house.driver.breakers.items() if breaker.position is Position.OPEN}


class TestStartShedding:
    async def test_a_tier_is_shed_and_the_order_said_back(self, house: House) -> None:
        answer = await house.shed("StartShedding", NAN, ("Tier1",), "dispatch 17")
        assert answer.status is Status.OK
        assert answer.outputs == ("shed-Northgate-000001",)
        assert answer.message == (
            "shed-Northgate-000001 is to shed all of Tier1: 3 feeders with 0.06 MW can be shed now"
        )
        await house.until(lambda: opened(house) == {"A1", "A2", "A3"}, "Tier1 is open")

    async def test_a_target_is_met_tier_by_tier(self, house: House) -> None:
        answer = await house.shed("StartShedding", 0.03, (), "dispatch 18")
        assert answer.status is Status.OK
        assert "is to shed 0.03 MW, tier by tier in the order Tier1, Tier2: 4 feeders" in answer.message
        await house.until(lambda: len(opened(house)) == 2, "as many as it takes")

    async def test_what_the_site_can_not_give_is_said(self, house: House) -> None:
        answer = await house.shed("StartShedding", 0.5, None, "dispatch 19")
        assert answer.message.endswith("4 feeders with 0.08 MW can be shed now, 0.42 MW too few")

    async def test_tiers_are_shed_in_the_order_of_their_rank(self, house: House) -> None:
        answer = await house.shed("StartShedding", NAN, ("Tier2", "Tier1", "Tier2"), "dispatch 20")
        assert "all of Tier1, Tier2:" in answer.message

    async def test_one_of_both_is_given_never_both(self, house: House) -> None:
        for target, tiers in ((NAN, ()), (0.1, ("Tier1",))):
            answer = await house.shed("StartShedding", target, tiers, "why")
            assert (answer.status, answer.outputs) == (Status.BAD_ARGUMENT, ())
            assert "one of both" in answer.message

    async def test_a_target_stays_within_what_the_transformer_carries(self, house: House) -> None:
        for target in (0.0, -1.0, 1.001):
            answer = await house.shed("StartShedding", target, (), "why")
            assert answer.status is Status.OUT_OF_RANGE
            assert "at most 1, the capacity in MW" in answer.message
        assert (await house.shed("StartShedding", math.inf, (), "why")).status is Status.BAD_ARGUMENT

    async def test_a_tier_has_to_be_there(self, house: House) -> None:
        answer = await house.shed("StartShedding", NAN, ("Tier1", "Tier9"), "why")
        assert answer.status is Status.NOT_FOUND
        assert answer.message == "this site has no tier 'Tier9'; it has Tier1, Tier2"

    async def test_nothing_is_started_without_a_reason(self, house: House) -> None:
        for reason in ("", "  ", None, "x" * 401, "two\nlines", "\ud800"):
            answer = await house.shed("StartShedding", NAN, ("Tier1",), reason)
            assert answer.status is Status.BAD_ARGUMENT
            assert answer.message.startswith("Reason ")
        assert house.desk.station().started == 0

    async def test_one_procedure_at_a_time(self, house: House) -> None:
        first = await shedding(house)
        answer = await house.shed("StartShedding", NAN, ("Tier2",), "more")
        assert answer.status is Status.REFUSED
        assert answer.message == f"{first} has the station: override it, or wait until it has ended"

    async def test_of_two_at_once_one_has_the_station(self, house: House) -> None:
        orders = [house.shed("StartShedding", NAN, ("Tier1",), "now") for _ in range(2)]
        answers = await asyncio.gather(*orders)
        assert sorted(answer.status.value for answer in answers) == ["ok", "refused"]

    async def test_in_mode_monitor_it_says_so(self, house: House) -> None:
        await house.shed("SetMode", "monitor", "tests")
        answer = await house.shed("StartShedding", NAN, ("Tier1",), "drill")
        assert answer.status is Status.OK
        assert answer.message.endswith("the mode is monitor: it says what it would shed, switches nothing, and ends")
        assert (await house.ended(str(answer.outputs[0]))).output["status"] == "monitored"
        assert house.driver.writes == 0

    async def test_while_outputs_are_held_nothing_is_started(self, house: House) -> None:
        assert isinstance(house.gate, OutputGate)
        house.gate.hold("after a restart")
        answer = await house.shed("StartShedding", NAN, ("Tier1",), "now")
        assert answer.status is Status.REFUSED
        assert answer.message == "outputs are held, so nothing can be shed: after a restart"


class TestOverride:
    async def test_it_is_told_which_step_took_it(self, house: House) -> None:
        instance = await shedding(house)
        answer = await house.shed("Override", "", "hold", "", "crew on site", NAN)
        assert answer.status is Status.OK
        assert answer.outputs == (True, "cooldown", "holds; timers are frozen")
        assert answer.message == f"{instance} took it in step cooldown: holds; timers are frozen"
        (record,) = house.desk.station().consumed
        assert (record["actor"], record["role"], record["reason"]) == ("m.meier", "OPERATOR", "crew on site")

    async def test_it_is_not_answered_before_it_is_on_disk(self, house: House) -> None:
        instance = await shedding(house)
        house.store.hold()
        asked = asyncio.create_task(house.shed("Override", instance, "hold", "", "crew", 0.0))
        await asyncio.sleep(0.02)
        assert not asked.done()
        house.store.let_go()
        answer = await asked
        assert answer.status is Status.OK

    async def test_one_that_nobody_takes_says_that_an_event_will_tell(self, house: House, monkeypatch: Any) -> None:
        monkeypatch.setattr("gateway.operator.calls.TAKEN_S", 0.05)

        def Deaf(context: Any) -> Any:
            yield context.wait_for_external_event("Never")

        house.engine.registry.orchestrator(Deaf)
        await house.client.start_new("Deaf", "deaf-1")
        answer = await house.shed("Override", "deaf-1", "hold", "", "crew", NAN)
        assert answer.status is Status.OK
        assert answer.outputs == (False, "", "")
        assert answer.message == "accepted by deaf-1, not consumed yet: an event tells when a step has taken it"

    async def test_a_feeder_is_forced_and_its_outcome_told(self, house: House) -> None:
        await shedding(house)
        answer = await house.shed("Override", "", "force-close", "A2", "lift with people", NAN)
        assert answer.outputs == (True, "cooldown", "1 done")
        assert house.driver.breakers["A2"].position is Position.CLOSED

    async def test_without_a_procedure_there_is_nothing_to_override(self, house: House) -> None:
        answer = await house.shed("Override", "", "cancel", "", "why", NAN)
        assert answer.status is Status.REFUSED
        assert answer.message == "no procedure runs, so there is nothing to override"

    async def test_a_wrong_one_changes_nothing_and_says_what_to_write(self, house: House) -> None:
        await shedding(house)
        for inputs, status, words in (
            (("", "explode", "", "why", NAN), Status.BAD_ARGUMENT, "unknown decision 'explode'; write one of"),
            (("", "force-open", "", "why", NAN), Status.BAD_ARGUMENT, "force-open needs feeders"),
            (("", "hold", "A1", "why", NAN), Status.BAD_ARGUMENT, "takes no feeders"),
            (("", "skip", "Z9", "why", NAN), Status.NOT_FOUND, "no feeder 'Z9'"),
            (("", "hold", "", "why", -1.0), Status.OUT_OF_RANGE, "ExpiresS must be from 0"),
            (("", "hold", "", "why", 1e9), Status.OUT_OF_RANGE, "ExpiresS must be from 0"),
            (("nobody", "hold", "", "why", NAN), Status.NOT_FOUND, "no orchestration 'nobody'"),
            (("", "hold", "", "", NAN), Status.BAD_ARGUMENT, "Reason is missing"),
        ):
            answer = await house.shed("Override", *inputs)
            assert (answer.status, words in answer.message) == (status, True), answer
        assert house.desk.station().consumed == ()


class TestBreakers:
    async def test_open_waits_for_the_readback(self, house: House) -> None:
        answer = await house.call(OPERATOR, "Feeder/B1", "Open", "fire brigade")
        assert (answer.status, answer.outputs) == (Status.OK, ("done", 1))
        assert answer.message == "open B1: done, read back"
        assert house.driver.breakers["B1"].position is Position.OPEN
        assert (await house.call(OPERATOR, "Feeder/B1", "Close", "over")).outputs == ("done", 2)

    async def test_good_is_said_only_of_what_was_done(self, house: House) -> None:
        house.driver.breakers["B1"].answers = ["fail"]
        failed = await house.call(OPERATOR, "Feeder/B1", "Open", "why")
        assert (failed.status, failed.outputs[0]) == (Status.REFUSED, "failed")
        house.driver.breakers["N1"].answers = ["offline"]
        unsent = await house.call(OPERATOR, "Feeder/N1", "Open", "why")
        assert (unsent.status, unsent.outputs[0]) == (Status.REFUSED, "not_sent")

    async def test_an_outcome_that_does_not_come_is_unknown(self, house: House, monkeypatch: Any) -> None:
        monkeypatch.setattr("gateway.operator.calls.SWITCH_S", 0.1)
        house.driver.breakers["B1"].answers = ["hang"]
        answer = await house.call(OPERATOR, "Feeder/B1", "Open", "why")
        assert (answer.status, answer.outputs) == (Status.TIMEOUT, ("unknown", 1))
        assert "the breaker's status tells how it ends" in answer.message

    async def test_a_blocked_breaker_is_left_alone_until_it_is_unblocked(self, house: House) -> None:
        assert (await house.call(OPERATOR, "Feeder/B1", "Block", "work on it")).status is Status.OK
        refused = await house.call(OPERATOR, "Feeder/B1", "Open", "why")
        assert refused.status is Status.REFUSED
        assert "blocked by m.meier: work on it" in refused.message
        assert (await house.call(OPERATOR, "Feeder/B1", "Unblock", "done")).message == "B1 is not blocked any more"
        assert house.driver.writes == 0

    async def test_a_critical_feeder_is_not_opened(self, house: House) -> None:
        answer = await house.call(OPERATOR, "Feeder/H1", "Open", "why")
        assert answer.status is Status.REFUSED
        assert house.driver.breakers["H1"].orders == []

    async def test_a_breaker_that_is_not_there(self, house: House) -> None:
        for key in ("Feeder/Z9", "Feeder/", "Foo"):
            answer = await house.call(OPERATOR, key, "Open", "why")
            assert answer.status in (Status.NOT_FOUND, Status.BAD_ARGUMENT), answer


class TestOrchestrations:
    async def test_an_event_reaches_its_orchestration(self, house: House) -> None:
        def Wait(context: Any) -> Any:
            return (yield context.wait_for_external_event("Go"))

        house.engine.registry.orchestrator(Wait)
        await house.client.start_new("Wait", "w-1")
        answer = await house.shed("RaiseEvent", "w-1", "Go", '{"mw": [1, 2.5]}')
        assert (answer.status, answer.message) == (Status.OK, "Go was raised for w-1")
        assert (await house.ended("w-1")).output == {"mw": [1, 2.5]}
        gone = await house.shed("RaiseEvent", "w-1", "Go", "")
        assert gone.status is Status.REFUSED

    async def test_an_override_does_not_come_by_the_back_door(self, house: House) -> None:
        instance = await shedding(house)
        forged = '{"decision": "cancel", "actor": "the boss"}'
        for name in ("OperatorOverride", "operatoroverride", " OPERATOROVERRIDE "):
            answer = await house.shed("RaiseEvent", instance, name, forged, caller=ENGINEER)
            assert answer.status is Status.REFUSED
            assert "Override" in answer.message
        assert house.desk.station().running is not None

    async def test_data_has_to_be_json_of_a_bounded_size(self, house: House) -> None:
        for text, status in (
            ("{", Status.BAD_ARGUMENT),
            ("[" * 60_000, Status.BAD_ARGUMENT),
            ("\ud800", Status.BAD_ARGUMENT),
            ('"' + "x" * 65_536 + '"', Status.TOO_LARGE),
        ):
            answer = await house.shed("RaiseEvent", "w-1", "Go", text)
            assert answer.status is status, answer

    async def test_suspend_resume_terminate(self, house: House) -> None:
        instance = await shedding(house)
        assert (await house.shed("Suspend", instance, "look", caller=ENGINEER)).status is Status.OK
        refused = await house.shed("Override", "", "cancel", "", "why", NAN)
        assert "is suspended (resume or terminate it)" in refused.message
        assert (await house.shed("Resume", instance, "go", caller=ENGINEER)).status is Status.OK
        assert (await house.shed("Terminate", instance, "enough", caller=ENGINEER)).status is Status.OK
        await house.until(lambda: house.desk.station().running is None, "the station is free")
        again = await house.shed("Terminate", instance, "enough", caller=ENGINEER)
        assert again.status is Status.REFUSED


class TestStation:
    async def test_the_mode_is_set_and_said(self, house: House) -> None:
        answer = await house.shed("SetMode", "Monitor", "tests", caller=ENGINEER)
        assert (answer.status, answer.message) == (Status.OK, "mode is monitor")
        assert not house.driver.writes_enabled
        wrong = await house.shed("SetMode", "off", "tests")
        assert (wrong.status, "monitor, armed" in wrong.message) == (Status.BAD_ARGUMENT, True)

    async def test_outputs_are_let_go_in_this_person_s_name(self, house: House) -> None:
        assert (await house.shed("Release", "seen to it")).message == "freed by m.meier"
