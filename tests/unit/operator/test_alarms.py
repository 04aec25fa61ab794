"""Alarms: they come with the trouble, go when it is over and somebody has seen it, and outlive a restart."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from gateway.operator.alarms import A_LOOK, Trouble
from protocols.base import LinkState
from protocols.opcua.surface import Status
from tests.core_station import make_feeder, make_site
from tests.operator_house import ENGINEER, OPERATOR, SECADM, VIEWER, House

KEY = "breaker_failed/B1"


async def fail(house: House, feeder: str = "B1") -> None:
    """This breaker does not open."""
    house.driver.breakers[feeder].answers = ["fail"]
    await house.call(OPERATOR, f"Feeder/{feeder}", "Open", "why")


async def look(house: House) -> None:
    """One look at all, told to its end."""
    house.watch.look()
    house.happenings._look()
    await house.happenings._tell()
    await house.until(lambda: house.engine.idle, "all is on disk")


async def test_it_comes_is_seen_and_goes(house: House) -> None:
    await fail(house)
    await look(house)
    alarm = house.server.stands(KEY)
    assert alarm is not None
    assert (alarm.type, alarm.source, alarm.severity) == ("BreakerFailedAlarm", "Feeder/B1", 700)
    assert (alarm.active, alarm.acked, alarm.fields) == (True, False, {"Feeder": "B1"})
    assert "did not move" in alarm.message

    answer = await house.call(OPERATOR, "Gateway", "Acknowledge", KEY, "crew is on its way")
    assert (answer.status, answer.message) == (Status.OK, f"{KEY} is acknowledged by m.meier")
    alarm = house.server.stands(KEY)
    assert alarm is not None
    assert (alarm.acked, alarm.acked_by, alarm.comment, alarm.retain) == (True, "m.meier", "crew is on its way", True)
    again = await house.call(OPERATOR, "Gateway", "Acknowledge", KEY, "")
    assert (again.status, again.message) == (Status.REFUSED, f"{KEY} was acknowledged by m.meier already")

    await house.call(OPERATOR, "Feeder/B1", "Open", "repaired")
    await look(house)
    alarm = house.server.stands(KEY)
    assert alarm is not None
    assert (alarm.active, alarm.retain) == (False, False)


async def test_who_saw_it_is_on_record(house: House) -> None:
    await fail(house)
    await look(house)
    await house.backend.acknowledge(OPERATOR, KEY, "by the standard method")
    (asked,) = house.audit("alarm.acknowledge")
    assert (asked["actor"], asked["alarm"], asked["reason"]) == ("m.meier", KEY, "by the standard method")
    assert house.audit("opcua.GatewayType.Acknowledge")[0]["status"] == "ok"


async def test_trouble_that_is_over_stays_until_somebody_has_seen_it(house: House) -> None:
    await fail(house)
    await look(house)
    await house.call(OPERATOR, "Feeder/B1", "Open", "again")
    await look(house)
    alarm = house.server.stands(KEY)
    assert alarm is not None
    assert (alarm.active, alarm.acked, alarm.retain) == (False, False, True)
    await house.backend.acknowledge(OPERATOR, KEY, "")
    alarm = house.server.stands(KEY)
    assert alarm is not None
    assert not alarm.retain


async def test_another_failure_of_the_same_breaker_has_been_seen_by_nobody(house: House) -> None:
    await fail(house)
    await look(house)
    await house.backend.acknowledge(OPERATOR, KEY, "seen")
    await look(house)
    assert house.backend.alarms[KEY].acked, "the same one stays seen"
    await fail(house)
    await look(house)
    assert not house.backend.alarms[KEY].acked


async def test_it_outlives_a_restart_with_who_has_seen_it(house: House) -> None:
    await fail(house)
    await fail(house, "A1")
    house.links["rtu"] = (LinkState.SILENT, "no answer within 1 s")
    await look(house)
    await house.backend.acknowledge(OPERATOR, KEY, "crew is on its way")
    await house.backend.acknowledge(OPERATOR, "device_lost/rtu", "known")
    await house.power_cut()
    house.links["rtu"] = (LinkState.CONNECTING, "connecting")
    await house.open()
    assert {alarm.key for alarm in house.backend.alarms.retained()} == {KEY, "breaker_failed/A1", "device_lost/rtu"}

    house.happenings._look()  # nobody has looked at the breakers yet, and no link has come up
    await house.until(lambda: house.engine.idle, "all is on disk")
    for _ in range(2):
        await look(house)
    state = house.backend.alarms[KEY]
    assert (state.active, state.acked, state.acked_by, state.comment) == (True, True, "m.meier", "crew is on its way")
    assert house.backend.alarms["device_lost/rtu"].acked
    assert not house.backend.alarms["breaker_failed/A1"].acked
    assert house.server.told("DeviceLost") == [], "it was lost before"


async def test_all_that_stands_is_told_at_the_start(house: House) -> None:
    await fail(house)
    await look(house)
    await house.power_cut()
    await house.open()
    house.happen()
    await house.wait(lambda: house.server.stands(KEY), "the alarm is told")


async def test_one_may_acknowledge_only_what_one_may_see(house: House) -> None:
    await fail(house)
    house.synchronized = False
    await look(house)
    assert (await house.backend.acknowledge(VIEWER, KEY, "")).status is Status.DENIED
    hidden = await house.backend.acknowledge(SECADM, KEY, "")
    assert (hidden.status, hidden.message) == (Status.NOT_FOUND, f"there is no alarm '{KEY}'")
    assert (await house.backend.acknowledge(SECADM, "clock_unsynced", "known")).status is Status.OK
    assert (await house.backend.acknowledge(ENGINEER, KEY, "")).status is Status.OK


async def test_wrong_keys_and_comments(house: House) -> None:
    for key, comment in (("", ""), ("nothing", ""), ("x" * 300, ""), (KEY, "x" * 401), ("a\nb", "")):
        answer = await house.backend.acknowledge(OPERATOR, key, comment)
        assert answer.status in (Status.NOT_FOUND, Status.BAD_ARGUMENT)


async def test_lost_links_stress_clock_and_certificate(house: House) -> None:
    house.links["rtu"] = (LinkState.DOWN, "refused")
    house.synchronized = False
    house.server.expires_us = int((time.time() + 86_400) * 1e6)
    await house.client.call_entity(_substation(house), "stress", {"on": True, "load_pct": 99.0})
    await look(house)
    active = {alarm.type for alarm in house.backend.alarms.retained() if alarm.active}
    assert active == {"DeviceLostAlarm", "ClockUnsyncedAlarm", "CertificateExpiresAlarm", "GridStressAlarm"}
    (certificate,) = house.backend.alarms.active("CertificateExpiresAlarm").values()
    assert certificate.trouble.severity == 900

    house.links["rtu"] = (LinkState.UP, "")
    house.synchronized = None
    await house.client.call_entity(_substation(house), "stress", {"on": False, "load_pct": 80.0})
    house.server.expires_us += 60 * 86_400 * 1_000_000
    house.happenings._looks = 0
    await look(house)
    assert [alarm for alarm in house.backend.alarms.retained() if alarm.active] == []


def _substation(house: House) -> Any:
    from gateway.shedding.entities import substation_id

    return substation_id(house.site)


async def test_a_link_that_flaps_while_lost_is_one_trouble(house: House) -> None:
    for state, detail in ((LinkState.DOWN, "refused"), (LinkState.CONNECTING, ""), (LinkState.SILENT, "no answer")) * 3:
        house.links["rtu"] = (state, detail)
        await look(house)
    assert len(house.server.told("DeviceLost")) == 1
    assert len([alarm for alarm in house.server.alarms if alarm.key == "device_lost/rtu"]) == 1
    house.links["rtu"] = (LinkState.UP, "")
    await look(house)
    assert len(house.server.told("DeviceBack")) == 1


class TestJournal:
    async def test_a_late_one_is_told_without_the_disk(self, house: House, monkeypatch: Any) -> None:
        monkeypatch.setattr("gateway.operator.happenings.JOURNAL_LATE_S", 0.02)
        house.store.hold()
        house.engine.record("", "audit", {"op": "x"})
        house.happenings._look_at_journal()
        await house.wait(lambda: house.happenings._look_at_journal() or house.server.alarms, "the alarm")
        alarm = house.server.stands("journal_trouble")
        assert alarm is not None
        assert (alarm.active, alarm.severity, alarm.source) == (True, 900, "Gateway")
        house.store.let_go()
        await house.until(lambda: house.engine.idle, "the disk has caught up")
        house.happenings._look_at_journal()
        house.happenings._look_at_journal()
        await house.until(lambda: house.engine.idle, "all is on disk")
        alarm = house.server.stands("journal_trouble")
        assert alarm is not None
        assert (alarm.active, alarm.acked) == (False, False), "it is over, and nobody has seen it"

    async def test_a_failed_one_is_told_while_there_is_time(self, house: House) -> None:
        house.store.lose_power()
        house.engine.record("", "audit", {"op": "x"})
        await house.wait(lambda: house.engine.failure, "the engine has failed")
        house.happenings._look()
        alarm = house.server.stands("journal_trouble")
        assert alarm is not None
        assert "has failed" in alarm.message


async def test_a_storm_comes_bit_by_bit_and_is_counted(tmp_path: Path) -> None:
    names = [f"F{number:05}" for number in range(12_000)]
    house = House(make_site([make_feeder("F00000", "Tier1")]), tmp_path)
    await house.open()
    try:
        troubles = {f"breaker_failed/{name}": name for name in names}

        def make(key: str, what: str) -> Trouble:
            return Trouble("BreakerFailedAlarm", f"Feeder/{what}", "x", what)

        house.backend.alarms.stand("BreakerFailedAlarm", troubles, make)
        await house.until(lambda: house.engine.idle, "all is on disk")
        assert len(house.server.alarms) == A_LOOK
        (more,) = house.server.told("EventsSuppressed")
        assert (more.fields["Count"], more.severity) == (12_000 - A_LOOK, 700)
        for _ in range(59):
            house.backend.alarms.stand("BreakerFailedAlarm", troubles, make)
            await house.until(lambda: house.engine.idle, "all is on disk")
        assert len(list(house.backend.alarms.retained())) == 12_000
        assert len(house.server.told("EventsSuppressed")) == 1
    finally:
        await house.close()
