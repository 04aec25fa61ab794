"""What is wrong with the journal and its disk is an alarm like any other, and the signed head is a value to read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gateway.housekeeping_heads import SentHead
from gateway.housekeeping_troubles import DISK, INTEGRITY, TYPES, CareTrouble
from gateway.operator.deeds import Deeds
from gateway.operator.event_types import BY_NAME
from gateway.operator.station_values import gateway
from protocols.opcua.surface import Deed, Doing, Grade
from tests.operator_house import OPERATOR, House

LINE = "gridlatch-head-1 batch=7"


@pytest.fixture
def care(house: House) -> Any:
    """Somebody looks after the journal."""
    made: Any = SimpleNamespace(
        troubles=(), warnings=list, told=dict, heads=SimpleNamespace(sent=SentHead(7, 70, "ab" * 32, LINE, "noon"))
    )
    house.desk.health.care = made
    return made


async def look(house: House) -> None:
    """One look at all, told to its end."""
    house.happenings._look()
    await house.happenings._tell()
    await house.until(lambda: house.engine.idle, "all is on disk")


def test_every_type_of_trouble_is_an_alarm_that_is_declared() -> None:
    assert all(BY_NAME[name].alarm for name in TYPES)


async def test_a_trouble_comes_gets_worse_and_goes(house: House, care: Any) -> None:
    care.troubles = (CareTrouble("disk_space", DISK, "80 % are used", "watch", 500),)
    await look(house)
    alarm = house.server.stands("disk_space")
    assert alarm is not None
    assert (alarm.type, alarm.source, alarm.message, alarm.severity, alarm.active) == (
        DISK,
        "Gateway",
        "80 % are used",
        500,
        True,
    )
    assert (await house.call(OPERATOR, "Gateway", "Acknowledge", "disk_space", "ordered a larger card")).message
    care.troubles = (CareTrouble("disk_space", DISK, "95 % are used", "full", 900),)
    await look(house)
    alarm = house.server.stands("disk_space")
    assert alarm is not None
    assert (alarm.message, alarm.severity, alarm.acked) == ("95 % are used", 900, False), "worse is another trouble"
    care.troubles = ()
    await look(house)
    alarm = house.server.stands("disk_space")
    assert alarm is not None
    assert (alarm.active, alarm.retain) == (False, True), "over, and not seen by anybody yet"


async def test_troubles_of_one_type_stand_side_by_side_with_the_severity_of_their_type(house: House, care: Any) -> None:
    care.troubles = (
        CareTrouble("journal_loss", INTEGRITY, "anna accepted a loss"),
        CareTrouble("journal_integrity", INTEGRITY, "row 7"),
    )
    await look(house)
    await look(house)
    found = {alarm.key: alarm.severity for alarm in house.backend.alarms.retained()}
    assert {key: found[key] for key in ("journal_loss", "journal_integrity")} == {
        "journal_loss": 900,
        "journal_integrity": 900,
    }
    assert len([alarm for alarm in house.server.alarms if alarm.key == "journal_loss"]) == 1, "told once"


async def test_the_signed_head_can_be_read(house: House, care: Any) -> None:
    values = gateway(house.desk, house.desk.station())
    assert [values[name].value for name in ("HeadBatch", "HeadHash", "HeadSignature")] == [7, "ab" * 32, LINE]
    care.heads.sent = None
    values = gateway(house.desk, house.desk.station())
    assert [values[name].grade for name in ("HeadBatch", "HeadHash", "HeadSignature")] == [Grade.BAD] * 3


async def test_what_can_not_be_recorded_is_counted_and_not_passed_over(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("no JSON can hold this")

    monkeypatch.setattr(house.engine, "record", broken)
    deeds = Deeds(house.engine, house.backend.announcer)
    with pytest.raises(ValueError, match="no JSON"):
        deeds.tell(Deed(Doing.LOGIN, OPERATOR, ""))
    assert deeds.unrecorded == 1
