"""Which alarms are kept, by which ids they are acknowledged, and what an event's id is made from."""

from __future__ import annotations

import dataclasses

import pytest
from asyncua import ua
from surface_site import ANNA, T0, Gateway, failed, shed, small_site

from gateway.clock import wall_now
from protocols.opcua.events import Alarms, Occurrences
from protocols.opcua.space import Nodes
from protocols.opcua.templates import Ids, folder_template, make_template

IDS = Ids(2)


@pytest.fixture
def occurrences() -> Occurrences:
    surface = small_site()
    nodes = Nodes(
        2, {each.name: make_template(each, IDS) for each in surface.types} | {"": folder_template()}, wall_now
    )
    nodes.add(surface.folders)
    nodes.add(surface.objects)
    return Occurrences(surface.event_types, IDS, nodes, wall_now)


def test_what_happened_is_its_id(occurrences: Occurrences) -> None:
    first = occurrences.of_event(shed("1")).event_id
    assert first == occurrences.of_event(shed("1")).event_id
    others = (shed("2"), shed("1", T0 + 1), shed("1", source="Feeder/F1"), dataclasses.replace(shed("1"), severity=501))
    assert first not in [occurrences.of_event(each).event_id for each in others]
    alarm = occurrences.of_alarm(failed("F1")).event_id
    assert alarm != occurrences.of_alarm(failed("F1", acked=True)).event_id


def test_an_undeclared_type_or_a_field_of_another_type_is_a_mistake_of_the_gateways(occurrences: Occurrences) -> None:
    with pytest.raises(KeyError):
        occurrences.of_event(dataclasses.replace(shed("1"), type="NoSuchType"))
    with pytest.raises(ValueError, match="String"):
        occurrences.of_event(dataclasses.replace(shed("1"), fields={"Tier": 1}))


def test_a_time_that_is_not_known_is_null_and_severity_stays_within_1_and_1000(occurrences: Occurrences) -> None:
    event = occurrences.of_event(dataclasses.replace(shed("1"), time_us=0, severity=5000))
    assert event.value("Time") is None
    assert event.value("Severity") == 1000


async def test_an_alarm_is_kept_while_people_have_to_see_it(occurrences: Occurrences) -> None:
    alarms = Alarms(occurrences, Gateway())
    alarms.changed(failed("F1"))
    alarms.changed(failed("F1", active=False))
    assert [each.value("ActiveState/Id") for each in alarms.retained()] == [False]
    alarms.changed(failed("F1", active=False, acked=True))
    assert alarms.retained() == []


async def test_any_of_its_latest_states_may_be_acknowledged_but_no_older_one(occurrences: Occurrences) -> None:
    gateway = Gateway()
    alarms = Alarms(occurrences, gateway)
    told = [alarms.changed(failed("F1", active=n % 2 == 0, at=T0 + n)).event_id for n in range(12)]
    condition = IDS.node("Alarm/breaker_failed/F1")
    assert (await alarms.acknowledge(ANNA, condition, told[11], "")).StatusCode.is_good()
    assert (await alarms.acknowledge(ANNA, condition, told[4], "")).StatusCode.is_good()
    assert (await alarms.acknowledge(ANNA, condition, told[3], "")).StatusCode.name == "BadEventIdUnknown"
    assert len(gateway.acknowledged) == 2
    too_long = await alarms.acknowledge(ANNA, condition, told[11], "x" * 1001)
    assert too_long.StatusCode.name == "BadEncodingLimitsExceeded"


async def test_when_there_are_too_many_the_one_that_changed_longest_ago_is_left_out(occurrences: Occurrences) -> None:
    alarms = Alarms(occurrences, Gateway(), most=2)
    for feeder in ("F1", "F2", "F1", "F3"):
        alarms.changed(failed(feeder))
    assert [each.value("Feeder") for each in alarms.retained()] == ["F1", "F3"]


async def test_a_defect_behind_an_acknowledgement_is_said(
    occurrences: Occurrences, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = Gateway()

    async def broken(*_: object) -> None:
        raise RuntimeError("secret inside")

    monkeypatch.setattr(gateway, "acknowledge", broken)
    alarms = Alarms(occurrences, gateway)
    event = alarms.changed(failed("F1")).event_id
    result = await alarms.acknowledge(ANNA, IDS.node("Alarm/breaker_failed/F1"), event, "")
    assert result.StatusCode.name == "BadInternalError"
    assert "secret" not in result.OutputArguments[0].Value


def test_fields_that_were_not_asked_for_or_are_not_there_are_null(occurrences: Occurrences) -> None:
    clauses = [
        ua.SimpleAttributeOperand(BrowsePath=[ua.QualifiedName(name)], AttributeId=ua.AttributeIds.Value)
        for name in ("Tier", "Nothing", "Severity")
    ]
    fields = occurrences.of_event(shed("1")).to_event_fields(clauses)
    assert [each.Value for each in fields] == ["1", None, 500]
