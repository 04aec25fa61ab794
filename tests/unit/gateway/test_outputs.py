"""When commands may leave after a start: only once the field is known, the time is right, and no person is needed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from config.models import AfterRestart
from gateway import outputs as outputs_module
from gateway.outputs import UNSYNCED, Outputs
from gateway.shedding.breaker_model import Phase
from gateway.shedding.entities import breaker_id
from gateway.shedding.states import breaker_state
from gateway.supervision import Supervision
from protocols.base import BreakerReading, Position, Quality
from tests.core_station import Station, make_site


def Wait(context):
    return (yield context.wait_for_external_event("Go"))


class Gateway:
    """A station before its outputs are let go."""

    def __init__(self, **gateway: Any) -> None:
        site = make_site(after_restart=AfterRestart.CONTINUE_IF_CLEAN)
        self.station = Station(replace(site, gateway=replace(site.gateway, **gateway)))
        self.station.programs.append(Wait)
        self.station.build()

    async def start(self) -> None:
        await self.station.start(release=False)
        self.supervision = Supervision(self.station.gate)
        self.outputs = Outputs(self.station.engine, self.station.field, self.station.gate, self.supervision)

    async def bring_up(self) -> str:
        found, held = await self.outputs.compare()
        self.outputs.begin(held)
        return found.sentence

    async def off_and_on(self) -> None:
        await self.station.power_cut()
        await self.start()


async def known_and_in_a_procedure() -> Gateway:
    """A gateway that was switched off while a procedure ran and A1 was open."""
    gateway = Gateway()
    await gateway.start()
    await gateway.bring_up()
    await gateway.station.client.start_new("Wait", "w")
    asked = {"request_id": "r", "actor": "ada", "reason": "x"}
    await gateway.station.client.call_entity(breaker_id("A1"), "open", asked)
    await gateway.off_and_on()
    return gateway


async def test_a_first_start_lets_outputs_go_once_the_field_was_read() -> None:
    gateway = Gateway()
    await gateway.start()
    assert gateway.station.gate.held
    assert "not been read yet" in gateway.outputs.why_not_released()
    assert await gateway.bring_up() == "0 breakers as last known; 6 seen for the first time"
    assert not gateway.station.gate.held
    assert gateway.outputs.why_not_released() == ""


async def test_a_procedure_goes_on_by_itself_where_all_is_as_it_was() -> None:
    gateway = await known_and_in_a_procedure()
    await gateway.bring_up()
    assert not gateway.station.gate.held


async def test_a_breaker_that_moved_meanwhile_holds_outputs_through_further_restarts_until_a_person_releases() -> None:
    gateway = await known_and_in_a_procedure()
    gateway.station.driver.breakers["A1"].position = Position.CLOSED
    await gateway.bring_up()
    reason = gateway.station.gate.reason
    assert (gateway.station.gate.held, "1 moved meanwhile (A1)" in reason) == (True, True), reason

    gateway.station.driver.breakers["A1"].position = Position.OPEN  # now it looks clean
    await gateway.station.engine.on_disk()
    await gateway.off_and_on()
    await gateway.bring_up()
    assert (gateway.station.gate.held, gateway.station.gate.reason) == (True, reason)

    assert gateway.outputs.release("ada") == "outputs are released"
    assert not gateway.station.gate.held


async def test_a_device_that_answers_at_the_second_try_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs_module, "LOOK_AGAIN_S", 0.001)
    gateway = await known_and_in_a_procedure()
    breakers, asked = gateway.station.driver.breakers, 0
    breakers["A1"].quality = breakers["A2"].quality = Quality.BAD
    look = gateway.station.driver.breaker

    def breaker(name: str) -> BreakerReading:
        nonlocal asked
        asked += 1
        if asked > 3 * len(breakers):
            breakers["A1"].quality = breakers["A2"].quality = Quality.GOOD
        return look(name)

    monkeypatch.setattr(gateway.station.driver, "breaker", breaker)
    await gateway.bring_up()
    assert not gateway.station.gate.held
    assert asked > 3 * len(breakers)


async def test_a_device_that_does_not_answer_is_given_up_and_holds_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs_module, "LOOK_AGAIN_S", 0.001)
    monkeypatch.setattr(outputs_module, "FIRST_SCAN_S", 0.05)
    gateway = await known_and_in_a_procedure()
    gateway.station.driver.breakers["A2"].quality = Quality.BAD
    await gateway.bring_up()
    assert (gateway.station.gate.held, "1 not readable (A2)" in gateway.station.gate.reason) == (True, True)


@pytest.mark.parametrize("moved", [False, True])
async def test_an_order_that_comes_while_devices_are_awaited_hides_nothing_of_what_was_found(
    monkeypatch: pytest.MonkeyPatch, moved: bool
) -> None:
    monkeypatch.setattr(outputs_module, "LOOK_AGAIN_S", 0.001)
    monkeypatch.setattr(outputs_module, "FIRST_SCAN_S", 0.3)
    gateway = await known_and_in_a_procedure()
    breakers, client = gateway.station.driver.breakers, gateway.station.client
    breakers["A2"].quality = Quality.BAD
    scan = gateway.station.driver.wait_first_scan

    async def order_meanwhile(timeout_s: float) -> bool:
        """Accepted before the field is read; what has moved is seen after that."""
        for name, operation in (("A2", "open"), ("A1", "close")):
            asked = {"request_id": f"late {name}", "actor": "ada", "reason": "x"}
            client.post_to_entity(breaker_id(name), operation, asked)
            await gateway.station.until(lambda name=name: not breaker_is_idle(gateway, name), "it is accepted")
        if moved:
            breakers["A1"].position = Position.CLOSED
        return await scan(timeout_s)

    monkeypatch.setattr(gateway.station.driver, "wait_first_scan", order_meanwhile)
    await gateway.bring_up()
    reason = gateway.station.gate.reason
    assert (gateway.station.gate.held, "1 not readable (A2)" in reason) == (True, True), reason
    assert ("1 moved meanwhile (A1)" in reason) is moved
    assert gateway.station.driver.writes == 1, "the one before the restart"


def breaker_is_idle(gateway: Gateway, name: str) -> bool:
    return breaker_state(gateway.station.client, name).phase is Phase.IDLE


async def test_nobody_waits_for_a_device_where_a_person_is_wanted_anyway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs_module, "FIRST_SCAN_S", 600.0)
    for held_before in (True, False):
        gateway = await known_and_in_a_procedure()
        breakers = gateway.station.driver.breakers
        breakers["A1"].position = Position.CLOSED
        if held_before:
            await gateway.bring_up()
            await gateway.station.engine.on_disk()
            breakers["A1"].position = Position.OPEN
            await gateway.off_and_on()
        breakers["A2"].quality = Quality.BAD
        async with asyncio.timeout(60):
            await gateway.bring_up()
        assert "1 moved meanwhile (A1)" in gateway.station.gate.reason


async def test_a_procedure_that_has_ended_meanwhile_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs_module, "LOOK_AGAIN_S", 0.001)
    monkeypatch.setattr(outputs_module, "FIRST_SCAN_S", 0.3)
    gateway = await known_and_in_a_procedure()
    gateway.station.driver.breakers["A2"].quality = Quality.BAD
    bringing = asyncio.create_task(gateway.bring_up())
    await gateway.station.client.terminate("w", "enough")
    await gateway.station.ended("w")
    await bringing
    assert not gateway.station.gate.held


async def test_outside_a_procedure_nobody_waits_for_a_device_that_does_not_answer() -> None:
    gateway = Gateway()
    await gateway.start()
    gateway.station.driver.breakers["A2"].quality = Quality.BAD
    async with asyncio.timeout(outputs_module.FIRST_SCAN_S / 2):
        await gateway.bring_up()
    assert not gateway.station.gate.held


async def test_nobody_releases_before_the_field_was_read_or_once_it_ends() -> None:
    gateway = Gateway()
    await gateway.start()
    assert "not been read yet" in gateway.outputs.release("ada")
    await gateway.bring_up()
    gateway.supervision.give_up("a defect")
    assert "stopping" in gateway.outputs.release("ada")
    assert gateway.station.gate.held


async def test_outputs_wait_for_the_time_where_the_site_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"synchronized": False}
    monkeypatch.setattr(outputs_module, "synchronized", lambda: known["synchronized"])
    monkeypatch.setattr(outputs_module, "CLOCK_CHECK_S", 0.001)
    gateway = Gateway(require_time_sync=True)
    await gateway.start()
    await gateway.bring_up()
    assert (gateway.station.gate.held, gateway.station.gate.reason) == (True, UNSYNCED)
    assert gateway.outputs.release("ada") == f"the hold is over, but {UNSYNCED}"
    known["synchronized"] = True
    async with asyncio.timeout(5):
        assert await gateway.station.gate.wait_released(5)
