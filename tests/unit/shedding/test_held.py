"""While outputs are held, a procedure stands still: nothing is planned from breakers that nobody has read."""

from __future__ import annotations

import asyncio

from config.models import Mode
from gateway.shedding.activities import load_mode
from gateway.shedding.entities import breaker_id
from gateway.shedding.substation import PROTOCOL

from .conftest import Station, make_site


async def test_a_procedure_whose_cooldown_ended_while_the_box_was_off_plans_only_once_outputs_are_released():
    station = Station(make_site())
    await station.start()
    station.driver.load = 990.0
    await station.client.start_new(PROTOCOL, "p", {"reason": "test"})
    await station.phase("p", "cooldown")
    moved = station.driver.writes
    await station.power_cut()
    station.clock.advance(3600)  # the cooldown's end passes in the dark
    await station.start(release=False)
    await station.until(lambda: len(station.engine.timers) == 0, "the timer fires at once")
    await asyncio.sleep(0.05)
    held = (await station.client.get_status("p")).custom_status
    assert held["phase"] == "cooldown", "it went on although outputs are held"
    assert station.driver.writes == moved
    station.gate.release()
    await station.until(lambda: station.driver.writes > moved, "then it goes on to the next tier")
    await station.engine.stop(0.1)


async def test_a_command_that_comes_while_the_gateway_starts_waits_for_the_mode_and_is_not_refused():
    station = Station(make_site())
    await station.start(release=False)
    station.field.mode = Mode.MONITOR  # nobody has read yet what the substation's mode is
    asking = asyncio.ensure_future(station.client.call_entity(breaker_id("A1"), "open", {"request_id": "r"}))
    await station.until(lambda: station.engine.activities.running, "the command is at the gate")
    await load_mode(station.field, station.client)
    station.gate.release()
    assert (await asking)["outcome"] == "done"
    await station.engine.stop(0.1)
