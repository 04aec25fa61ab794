"""What operators hear of by themselves: a procedure from its start to its end, overrides, links, modes; and in a storm."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import msgspec
import pytest

from gateway.operator.announcer import EACH_SECOND, EVENTS, OF_ONE_TYPE
from gateway.operator.event_types import BY_NAME
from gateway.operator.happenings import WAITING_AT_MOST
from gateway.operator.procedures import Phases, Telling, fresh, of_station
from gateway.shedding.substation import Running, Substation
from protocols.base import LinkState
from protocols.opcua.surface import DataType, Status, Value
from tests.operator_house import OPERATOR, House

NAN = math.nan
FITS: dict[DataType, tuple[type, ...]] = {
    DataType.STRING: (str,),
    DataType.UINT32: (int,),
    DataType.DOUBLE: (float, int),
    DataType.BOOLEAN: (bool,),
}


@pytest.fixture
async def told(house: House) -> House:
    """It tells what happens."""
    house.happen()
    return house


async def shed(house: House) -> str:
    answer = await house.shed("StartShedding", NAN, ("Tier1",), "dispatch 17")
    await house.phase(str(answer.outputs[0]), "cooldown")
    return str(answer.outputs[0])


def kinds(house: House) -> list[str]:
    return [event.type for event in house.server.events]


async def test_a_procedure_from_its_start_to_its_end(told: House) -> None:
    instance = await shed(told)
    await told.shed("Override", "", "cancel-and-restore", "", "over", NAN)
    await told.ended(instance)
    await told.wait(lambda: told.server.told("ShedFinished"), "its end is told")
    started, finished = told.server.told("ShedStarted")[0], told.server.told("ShedFinished")[0]
    assert started.message == f"{instance} has started: dispatch 17"
    assert started.fields == {"InstanceId": instance, "Reason": "dispatch 17"}
    assert finished.message == f"{instance} has ended: restored; 3 feeders opened, 3 closed again"
    assert (finished.fields["Opened"], finished.fields["Closed"], finished.fields["StillShedKw"]) == (3, 3, 0.0)
    (tier,) = told.server.told("TierShed")
    assert (tier.fields["Tier"], tier.source) == ("Tier1", "LoadShedding")
    phases = [event.fields["Phase"] for event in told.server.told("PhaseChanged")]
    assert phases[0] == "shedding"
    assert phases[1] == "cooldown"
    assert phases[-1] == "restoring"
    order = kinds(told)
    assert order.index("ShedStarted") < order.index("TierShed") < order.index("ShedFinished")


async def test_an_override_is_told_when_it_is_raised_and_when_it_is_taken(told: House) -> None:
    instance = await shed(told)
    await told.shed("Override", "", "hold", "", "crew on site", NAN)
    await told.wait(lambda: told.server.told("OverrideRaised") and told.server.told("OverrideConsumed"), "both")
    who: dict[str, Value] = {
        "InstanceId": instance,
        "Decision": "hold",
        "Actor": "m.meier",
        "Role": "OPERATOR",
        "Reason": "crew on site",
    }
    (raised,), (taken,) = told.server.told("OverrideRaised"), told.server.told("OverrideConsumed")
    assert raised.fields == who
    assert taken.fields == {**who, "Step": "cooldown", "Outcome": "holds; timers are frozen"}


async def test_a_hold_whose_time_is_over_is_told(told: House) -> None:
    await shed(told)
    await told.shed("Override", "", "hold", "", "crew on site", 30.0)
    await told.play(lambda: told.server.told("OverrideExpired"), "its end")
    (expired,) = told.server.told("OverrideExpired")
    assert expired.fields["Outcome"] == "its time is over: goes on"
    assert expired.fields["Actor"] == "m.meier"


async def test_who_acts_is_told_whatever_way_they_come(told: House) -> None:
    from gateway.operations import handlers

    ask = handlers(told.desk)["breakers.block"]
    await ask({"feeder": "B1", "reason": "work on it", "actor": "k.kurz", "_peer": {"user": "root"}})
    await told.call(OPERATOR, "Feeder/Z9", "Block", "no such feeder")
    await told.call(OPERATOR, "Feeder/B1", "Unblock", "done")
    await told.wait(lambda: len(told.server.told("OperatorActed")) == 2, "both acts")
    first, second = told.server.told("OperatorActed")
    assert first.message == "k.kurz (root): breakers.block B1 (work on it)"
    assert first.fields["Refused"] is False
    assert (second.fields["Actor"], second.fields["Operation"]) == ("m.meier", "breakers.unblock")


async def test_mode_and_hold(told: House) -> None:
    await told.shed("SetMode", "monitor", "maintenance")
    await told.wait(lambda: told.server.told("ModeChanged"), "the mode")
    (mode,) = told.server.told("ModeChanged")
    assert mode.fields == {"Mode": "monitor", "Reason": "mode monitor set by m.meier: maintenance"}
    told.gate.hold("a test")
    told.happenings._look()
    await told.wait(lambda: told.server.told("HoldChanged"), "the hold")
    assert told.server.told("HoldChanged")[0].fields == {"Held": True, "Reason": "a test"}


async def test_a_link_that_is_lost_and_back(told: House) -> None:
    told.links["rtu"] = (LinkState.SILENT, "no answer within 1 s")
    told.happenings._look()
    told.links["rtu"] = (LinkState.UP, "")
    told.happenings._look()
    await told.wait(lambda: told.server.told("DeviceBack"), "both")
    (lost,) = told.server.told("DeviceLost")
    assert lost.message == "device rtu does not answer: no answer within 1 s"


async def test_every_event_is_on_disk_before_it_is_told_and_has_the_fields_of_its_type(told: House) -> None:
    instance = await shed(told)
    await told.shed("Override", "", "force-close", "A1", "why", NAN)
    told.store.hold()
    before = len(told.server.events)
    told.links["rtu"] = (LinkState.DOWN, "refused")
    told.happenings._look()
    await asyncio.sleep(0.3)
    assert len(told.server.events) == before
    told.store.let_go()
    await told.wait(lambda: told.server.told("DeviceLost"), "it is told then")
    kept = [msgspec.json.decode(r.payload) for r in told.store.records if r.instance == EVENTS]
    for event in told.server.events:
        assert {"type": event.type, "message": event.message}.items() <= next(
            one for one in kept if one["message"] == event.message
        ).items()
        kind = BY_NAME[event.type]
        assert set(event.fields) == {each.name for each in kind.fields}
        for each in kind.fields:
            assert isinstance(event.fields[each.name], FITS[each.type]), (event.type, each.name)
        assert 1 <= event.severity <= 1000
    assert instance


async def test_what_was_before_a_restart_is_no_news(house: House) -> None:
    await shed(house)
    await house.shed("Override", "", "skip", "A1", "before", NAN)
    await house.power_cut()
    await house.open()
    house.happen()
    await house.shed("Override", "", "skip", "A2", "after", NAN)
    await house.wait(lambda: house.server.told("OverrideConsumed"), "what is new")
    await house.shed("Override", "", "hold", "", "after", NAN)
    await house.wait(lambda: house.server.told("PhaseChanged"), "what is new")
    for gone in ("ShedStarted", "TierShed", "OperatorActed"):
        assert house.server.told(gone) == []
    assert [event.fields["Phase"] for event in house.server.told("PhaseChanged")] == ["held"]
    for kind in ("OverrideRaised", "OverrideConsumed"):
        await house.wait(lambda kind=kind: len(house.server.told(kind)) == 2, "both")
        assert [event.fields["Decision"] for event in house.server.told(kind)] == ["skip", "hold"]
        assert {event.fields["Reason"] for event in house.server.told(kind)} == {"after"}


async def test_an_idle_journal_is_neither_read_nor_written(told: House) -> None:
    told.happenings._look()
    await told.until(lambda: told.engine.idle, "all is on disk")
    await asyncio.sleep(0.25)
    asked, batches = told.log.asked, len(told.store.batches)
    for _ in range(5):
        told.watch.look()
        told.happenings._look()
        await told.happenings._tell()
        await asyncio.sleep(0.01)
    assert (told.log.asked, len(told.store.batches)) == (asked, batches)


async def test_a_storm_is_bounded_and_counted(house: House) -> None:
    quota = house.backend.announcer._quota
    now = [0.0]
    quota._monotonic, quota._until = lambda: now[0], 1.0
    for number in range(10_000):
        house.happenings._put(Telling("DeviceLost", f"device {number}", {"Device": str(number), "Reason": ""}))
    await house.happenings._tell()
    now[0] = 1.0
    house.backend.announcer.look()
    await house.engine.on_disk()
    assert len(house.server.told("DeviceLost")) == OF_ONE_TYPE
    counts = [int(str(event.fields["Count"])) for event in house.server.told("EventsSuppressed")]
    assert sum(counts) + OF_ONE_TYPE == 10_000
    assert len(house.server.events) <= EACH_SECOND
    assert max(counts) <= WAITING_AT_MOST


async def test_the_loop_of_it_ends_in_order(told: House) -> None:
    assert (await told.call(OPERATOR, "Feeder/B1", "Block", "why")).status is Status.OK
    await told.close()
    assert told.engine.failure is None


# The pure parts


def test_what_has_come_to_a_list_that_is_cut_at_its_beginning() -> None:
    a, b, c, d = ({"n": n} for n in range(4))
    assert fresh((), (a,)) == (a,)
    assert fresh((a, b), (a, b)) == ()
    assert fresh((a, b), (b, c, d)) == (c, d)
    assert fresh((a, b), (c, d)) == (c, d)


def told_of(before: Substation, after: Substation) -> list[str]:
    return [one.type for one in of_station(before, after, "armed")]


def test_one_procedure_may_follow_another_within_one_turn() -> None:
    one, two = Running("shed-1", 1, "a"), Running("shed-2", 2, "b")
    assert told_of(Substation(running=one), Substation(running=two)) == ["ShedFinished", "ShedStarted"]
    assert told_of(Substation(running=one), Substation(running=one)) == []


def test_phases_that_take_turns_around_the_limit_are_one() -> None:
    phases = Phases("shed-1")
    words: list[Any] = []
    for phase in ("shedding", "shedding", "watching", "stable", "watching", "held", "watching", "shedding"):
        words += [one.type for one in phases.look({"phase": phase, "tier": "T1", "sentence": phase})]
    assert words == ["TierShed", "PhaseChanged", *["PhaseChanged"] * 3, "TierShed", "PhaseChanged"]
    assert list(phases.look(None)) == []
