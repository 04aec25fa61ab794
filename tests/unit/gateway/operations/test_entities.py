"""Entities as people see them: committed states, last operations, and a cleaning that is recorded."""

from __future__ import annotations

from gateway.control import Code
from tests.core_station import Station

from .conftest import Ask
from .test_operations import audit, refused


async def test_entities_come_in_pages_with_their_states(ask: Ask, station: Station) -> None:
    for feeder in ("A1", "A2"):
        await ask("breakers.block", feeder=feeder, reason="works")
    first = await ask("entities.list", name="breaker", limit=1)
    (one,) = first["entities"]
    assert (one["entity"], one["exists"], one["locked_by"]) == ("@breaker@A1", True, None)
    assert one["state"]["blocked"]["reason"] == "works"
    rest = await ask("entities.list", name="breaker", after=first["next"])
    assert ([one["entity"] for one in rest["entities"]], rest["next"]) == (["@breaker@A2"], None)


async def test_one_entity_with_its_last_operations(ask: Ask, station: Station) -> None:
    await ask("breakers.block", feeder="A1", reason="works")
    await ask("breakers.open", feeder="A1", reason="x")
    told = await ask("entities.show", entity="@breaker@A1")
    assert [one["operation"] for one in told["operations"]] == ["block", "open"]
    assert told["operations"][0]["failure"] is None
    assert told["state"]["blocked"]["actor"] == "scada"


async def test_what_is_no_entity_is_told_apart(ask: Ask) -> None:
    code, words = await refused(ask("entities.show", entity="A1"))
    assert (code, "write @name@key" in words) == (Code.BAD_REQUEST, True)
    assert (await refused(ask("entities.show", entity="@breaker@Z9")))[0] is Code.NOT_FOUND


async def test_a_cleaning_is_recorded_with_its_reason(ask: Ask, station: Station) -> None:
    assert await ask("entities.clean", reason="tidy", actor="ada") == {"removed": 0, "released": 0}
    record = audit(station)[-1]
    assert (record["op"], record["actor"], record["reason"]) == ("entities.clean", "ada (scada)", "tidy")
    assert (await refused(ask("entities.clean")))[0] is Code.BAD_REQUEST
