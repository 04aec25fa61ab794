"""What strangers and users do at the door: on record and told, each as long as it is no flood, then as a number."""

from __future__ import annotations

import pytest

from gateway.operator.deeds import ALL_MINUTE, EACH_MINUTE, MINUTE_S
from gateway.operator.event_types import BY_NAME, Group
from gateway.operator.quota import Quota
from protocols.opcua.surface import Caller, Deed, Doing
from tests.operator_house import House


def stranger(address: str = "10.9.9.9:4000", user: str = "admin") -> Caller:
    return Caller("", user, frozenset(), "", address)


@pytest.fixture
def clock(house: House) -> list[float]:
    """The door's clock, which stands."""
    now = [0.0]
    for quota in (house.backend.deeds._quota, house.backend.announcer._quota):
        quota._monotonic = lambda: now[0]
        quota._until = now[0] + quota._seconds
    return now


@pytest.mark.parametrize("doing", Doing)
async def test_each_kind_is_recorded_counted_and_told_to_security_alone(house: House, doing: Doing) -> None:
    house.backend.tell(Deed(doing, stranger(), "a sentence\n with \x00"))
    await house.engine.on_disk()
    (record,) = house.audit("opcua.")
    assert (record["op"], record["actor"], record["detail"]) == (
        f"opcua.{doing.value}",
        "admin",
        "a sentence? with ?",
    )
    assert record["peer"]["address"] == "10.9.9.9:4000"
    assert house.backend.counts[doing] == 1
    (event,) = house.server.events
    assert BY_NAME[event.type].group is Group.SECURITY
    assert (event.fields["User"], event.source) == ("admin", "Security")


async def test_a_flood_from_one_place_is_counted_and_hides_nobody_else(house: House, clock: list[float]) -> None:
    for _ in range(5_000):
        house.backend.tell(Deed(Doing.LOGIN_REFUSED, stranger(), "wrong password"))
        clock[0] += 0.001
    house.backend.tell(Deed(Doing.LOGIN_REFUSED, stranger("10.1.1.1:7"), "wrong password"))
    house.backend.tell(Deed(Doing.LOCKED_OUT, stranger(), "admin is locked out"))
    await house.engine.on_disk()
    refused = house.audit("opcua.login_refused")
    assert len(refused) == EACH_MINUTE + 1
    assert refused[-1]["peer"]["address"] == "10.1.1.1:7"
    assert house.audit("opcua.locked_out")
    assert house.backend.counts[Doing.LOGIN_REFUSED] == 5_001, "counted are all"
    clock[0] = MINUTE_S
    house.backend.deeds.look()
    await house.engine.on_disk()
    (flood,) = house.audit("opcua.flood")
    assert (flood["count"], flood["address"], flood["what"]) == (5_000 - EACH_MINUTE, "10.9.9.9", "login_refused")
    (told,) = house.server.told("DeedsSuppressed")
    assert told.fields == {"Count": 5_000 - EACH_MINUTE}


async def test_a_flood_from_everywhere_is_bounded_too(house: House, clock: list[float]) -> None:
    for number in range(20_000):
        address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}:1"
        house.backend.tell(Deed(Doing.ATTACK, stranger(address), "a guessed token"))
    await house.engine.on_disk()
    assert len(house.audit("opcua.")) == ALL_MINUTE
    clock[0] = MINUTE_S
    house.backend.deeds.look()
    await house.engine.on_disk()
    floods = house.audit("opcua.flood")
    assert sum(flood["count"] for flood in floods) == 20_000 - ALL_MINUTE
    assert len(floods) <= 1_001


async def test_the_next_minute_has_its_own_allowance(house: House, clock: list[float]) -> None:
    for _ in range(3):
        for _ in range(EACH_MINUTE):
            house.backend.tell(Deed(Doing.LOGIN_REFUSED, stranger(), "wrong password"))
        clock[0] += MINUTE_S
    await house.engine.on_disk()
    assert len(house.audit("opcua.login_refused")) == 3 * EACH_MINUTE
    assert house.audit("opcua.flood") == []


def test_an_allowance_of_one_kind_is_not_that_of_another() -> None:
    quota = Quota(2, 3, 1.0, lambda: 0.0)
    assert [quota.take("a", "x") for _ in range(3)] == [True, True, False]
    assert [quota.take("a", "y") for _ in range(2)] == [True, False], "all together have three"
