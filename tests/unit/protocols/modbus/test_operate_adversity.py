"""Between the check and the frame: a busy line, a link that breaks, a mode or a switch that changes; stale counters."""

from __future__ import annotations

import asyncio

from protocols.base import Outcome, Position


class BusyLine:
    """An RTU that keeps the next poll of loads waiting, so that a checked command waits behind it."""

    def __init__(self, rtu) -> None:
        self.rtu = rtu
        self.waiting = asyncio.Event()
        self.go_on = asyncio.Event()
        self.answer: object = None
        self.checked = False
        rtu.script = self.script

    def script(self, request):
        if request.code == 4 and self.checked and not self.waiting.is_set():
            self.waiting.set()
            return self.late(request)
        return None

    async def late(self, request):
        await self.go_on.wait()
        return self.answer


async def checked_and_waiting(site, monkeypatch):
    """A command has passed its check and waits for the line, on which a poll is under way."""
    s = await site(timeout_s=2.0, poll_fast_s=5.0, poll_slow_s=5.0)
    device = s.driver._devices["R0"]
    commander = s.driver._commanders["R0"]
    line = BusyLine(s.rtu)
    write = commander._write
    slow = device._plan.slow or device._plan.fast

    async def busy_then_write(request):
        line.checked = True
        poll = asyncio.ensure_future(device.scan([slow[-1]], 2))
        await line.waiting.wait()
        await write(request)
        await poll

    monkeypatch.setattr(commander, "_write", busy_then_write)
    command = asyncio.ensure_future(s.operate(timeout_s=4.0))
    await line.waiting.wait()
    await asyncio.sleep(0.02)
    assert not s.rtu.writes()
    return s, line, command


async def test_the_line_as_such_lets_the_command_leave(site, monkeypatch):
    _, line, command = await checked_and_waiting(site, monkeypatch)
    line.go_on.set()
    assert (await command).outcome is Outcome.DONE


async def test_once_monitor_was_said_no_checked_command_leaves(site, monkeypatch):
    s, line, command = await checked_and_waiting(site, monkeypatch)
    s.driver.set_writes_enabled(False)
    line.go_on.set()
    result = await command
    assert (result.outcome, result.sent, s.rtu.writes()) == (Outcome.REFUSED, False, [])


async def test_a_command_that_waits_while_the_link_breaks_is_checked_again_on_the_new_one(site, monkeypatch):
    s, line, command = await checked_and_waiting(site, monkeypatch)
    s.rtu.set_local(0)
    line.answer = "close"
    line.go_on.set()
    result = await command
    assert (result.outcome, result.sent, s.rtu.writes()) == (Outcome.REFUSED, False, [])
    assert "local" in result.detail


async def test_a_readback_brings_a_counter_that_is_as_new_as_the_position(site):
    s = await site(poll_slow_s=60.0, prepare=lambda rtu: rtu.registers[4].__setitem__(0, 7))
    await asyncio.sleep(0.05)
    assert (await s.driver.read_breaker("R0-0", 1.0)).op_count == 7
    s.rtu.registers[4][0] = 9  # it opened and closed again: proof that it did move
    assert (await s.driver.read_breaker("R0-0", 1.0)).op_count == 9


async def test_a_counter_that_can_not_be_read_now_is_no_counter(site):
    s = await site(poll_slow_s=60.0)
    s.rtu.script = lambda request: 4 if request.code == 4 else None
    reading = await s.driver.read_breaker("R0-0", 1.0)
    assert (reading.position, reading.op_count) == (Position.CLOSED, None)


async def test_who_commanded_is_told_the_counter_that_came_after_the_end_position(site):
    s = await site(poll_slow_s=60.0, prepare=lambda rtu: rtu.registers[4].__setitem__(0, 7))
    result = await s.operate()
    assert (result.outcome, result.op_count) == (Outcome.DONE, 8)
    codes = [request.code for request in s.rtu.requests]
    assert codes[codes.index(5) + 1 :].count(4) == 1, "one read of counters, whatever the number of readback scans"


async def test_a_lost_counter_changes_no_verdict(site):
    s = await site(poll_slow_s=60.0)
    s.rtu.script = lambda request: "close" if request.code == 4 else None
    result = await s.operate()
    assert (result.outcome, result.position, result.sent) == (Outcome.DONE, Position.OPEN, True)
    assert result.op_count is None


async def test_a_driver_that_is_stopped_while_a_counter_is_read_still_says_that_it_is_done(site):
    s = await site(timeout_s=30.0, poll_slow_s=60.0)
    asked = asyncio.Event()

    def silent_on_counters(request) -> bytes | None:
        if request.code != 4 or 5 not in [earlier.code for earlier in s.rtu.requests]:
            return None
        asked.set()
        return b""

    s.rtu.script = silent_on_counters
    command = asyncio.ensure_future(s.operate(timeout_s=60.0))
    async with asyncio.timeout(30):
        await asked.wait()
    await s.driver.stop()
    assert ((await command).outcome, (await command).op_count) == (Outcome.DONE, None)


async def test_a_counter_that_never_came_is_not_asked_for(site):
    def refusing(rtu):
        rtu.script = lambda request: 4 if request.code == 4 else None

    s = await site(poll_slow_s=60.0, prepare=refusing)
    asked = sum(request.code == 4 for request in s.rtu.requests)
    result = await s.operate()
    assert (result.outcome, result.op_count) == (Outcome.DONE, None)
    assert sum(request.code == 4 for request in s.rtu.requests) == asked


async def test_a_command_that_failed_brings_no_counter(site):
    s = await site(poll_slow_s=60.0, travel_s=0.1)
    s.rtu.stuck.add(0)
    result = await s.operate()
    assert (result.outcome, result.op_count) == (Outcome.FAILED, None)
