"""What operators find: every name in its place, described, and no folder that is too large to browse."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from gateway.operator.names import feeder_key, feeder_of
from gateway.operator.surface_model import FOLDER_AT_MOST, build_surface
from protocols.opcua.surface import DataType, Surface
from tests.core_station import make_feeder, make_site

NAMES = {
    "GatewayType": (
        "Health HealthSentence Mode Held HeldWhy ClockSynchronised WallStep JournalSeq JournalBatch JournalHead "
        "HeadBatch HeadHash HeadSignature Site Version ConfigHash Started Warnings DevicesTotal DevicesUp DevicesTroubled"
    ),
    "GridStressType": "Transformer LoadKw CapacityKw Percent Quality Zone Armed Since HotSpot Ambient",
    "LoadSheddingType": (
        "Running Instance Status Since Cause Phase Tier WaitsFor Until Sentence ShedKw ShedMW TargetMW ShortfallMW "
        "FeedersShed Overrides LastNote LastEnded LastResult Tiers BreakersTotal BreakersClosed BreakersOpen "
        "BreakersIntermediate BreakersBad BreakersUnknown BreakersFailed BreakersUnresolved BreakersBlocked BreakersLocal"
    ),
    "SecurityType": "Sessions Users FailedLogins RefusedCertificates RefusedCalls Attacks CertificateExpires",
    "BreakerType": (
        "Pos Commanded Quality Age Loc BlkOpn BlkCls OpCnt Tier MW Outcome Reason Critical Sheddable Device Intents "
        "LockedOut"
    ),
    "OrchestrationsType": "Live Shown",
    "OrchestrationType": "Name Status CustomStatus Started Updated Version Parent",
    "TimersType": "Pending Shown",
    "TimerType": "Instance Due Remaining",
}
METHODS = {
    ("LoadSheddingType", "StartShedding"): (["TargetMW", "Tiers", "Reason"], ["InstanceId"]),
    ("LoadSheddingType", "Override"): (
        ["InstanceId", "Decision", "Feeder", "Reason", "ExpiresS"],
        ["Consumed", "Step", "Outcome"],
    ),
    ("LoadSheddingType", "SetMode"): (["Mode", "Reason"], []),
    ("LoadSheddingType", "Release"): (["Reason"], []),
    ("LoadSheddingType", "RaiseEvent"): (["InstanceId", "Event", "DataJson"], []),
    ("LoadSheddingType", "Suspend"): (["InstanceId", "Reason"], []),
    ("LoadSheddingType", "Resume"): (["InstanceId", "Reason"], []),
    ("LoadSheddingType", "Terminate"): (["InstanceId", "Reason"], []),
    ("BreakerType", "Open"): (["Reason"], ["Outcome", "Position"]),
    ("BreakerType", "Close"): (["Reason"], ["Outcome", "Position"]),
    ("BreakerType", "Block"): (["Reason"], []),
    ("BreakerType", "Unblock"): (["Reason"], []),
    ("GatewayType", "Acknowledge"): (["AlarmKey", "Comment"], []),
}


@pytest.fixture
def surface() -> Surface:
    return build_surface(make_site())


def test_clients_find_every_variable_under_the_name_that_they_know(surface: Surface) -> None:
    found = {one.name: [variable.name for variable in one.variables] for one in surface.types}
    assert found == {name: names.split() for name, names in NAMES.items()}


def test_clients_find_every_method_with_the_arguments_that_they_know(surface: Surface) -> None:
    found = {
        (one.name, method.name): ([a.name for a in method.inputs], [a.name for a in method.outputs])
        for one in surface.types
        for method in one.methods
    }
    assert found == METHODS


def test_everything_is_described_and_every_quantity_has_its_unit(surface: Surface) -> None:
    for kind in surface.types:
        for one in (kind, *kind.variables, *kind.methods):
            assert one.description.rstrip().endswith((".", "...")), one
        for method in kind.methods:
            assert all(argument.description for argument in (*method.inputs, *method.outputs)), method
        for variable in kind.variables:
            assert (variable.unit != "") == (variable.type is DataType.DOUBLE), variable


def test_the_objects_of_the_gateway_stand_at_the_top(surface: Surface) -> None:
    top = {one.key: one.type for one in surface.objects if not one.parent}
    assert top == {
        "Gateway": "GatewayType",
        "GridStress": "GridStressType",
        "LoadShedding": "LoadSheddingType",
        "Security": "SecurityType",
        "Orchestrations": "OrchestrationsType",
        "Timers": "TimersType",
    }


def test_each_breaker_is_there_once_under_its_device(surface: Surface) -> None:
    breakers = [one for one in surface.objects if one.type == "BreakerType"]
    assert [feeder_of(one.key) for one in breakers] == ["A1", "A2", "A3", "B1", "H1", "N1"]
    assert {one.parent for one in breakers} == {"Folder/Device/rtu"}
    with pytest.raises(ValueError, match="is no breaker"):
        feeder_of("Gateway")


@pytest.mark.parametrize(
    ("devices", "each"), [(1, 12_000), (120, 100), (1_200, 10), (1, 200), (1, 201), (201, 1)], ids=str
)
def test_no_folder_has_more_children_than_a_client_should_browse(devices: int, each: int) -> None:
    site = make_site()
    feeders = tuple(
        replace(make_feeder(f"F{d:04}-{n:05}", None), device=f"rtu {d}") for d in range(devices) for n in range(each)
    )
    made = tuple(replace(site.devices[0], name=f"rtu {d}") for d in range(devices))
    surface = build_surface(replace(site, feeders=feeders, devices=made))
    children = Counter(one.parent for one in (*surface.folders, *surface.objects))
    assert max(count for parent, count in children.items() if parent) <= FOLDER_AT_MOST
    keys = [one.key for one in (*surface.folders, *surface.objects)]
    assert len(set(keys)) == len(keys)
    assert all(parent in keys for parent in children if parent)
    assert {one.key for one in surface.objects} >= {feeder_key(feeder.name) for feeder in feeders}


def test_parents_come_before_their_children_so_that_a_server_can_build_in_this_order(surface: Surface) -> None:
    known = {""}
    for one in (*surface.folders, *surface.objects):
        assert one.parent in known, one
        known.add(one.key)


def test_a_restart_gives_the_same_surface() -> None:
    assert build_surface(make_site()) == build_surface(make_site())
