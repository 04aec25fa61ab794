"""One command, from the check to the readback, against an RTU that behaves."""

import asyncio

from protocols.base import LinkState, Outcome, Position, Quality


async def test_a_breaker_opens_and_is_read_back(site):
    s = await site()
    result = await s.operate()
    assert (result.outcome, result.position, result.sent) == (Outcome.DONE, Position.OPEN, True)
    assert [(w.code, w.address, w.value) for w in s.rtu.writes()] == [(5, 0, 0xFF00)]
    assert s.driver.breaker("R0-0").position is Position.OPEN
    assert s.driver.breaker("R0-1").position is Position.CLOSED


async def test_many_breakers_of_one_device_share_the_check_and_the_readbacks(site):
    s = await site(breakers=100, poll_fast_s=30.0, poll_slow_s=30.0)
    before = len(s.rtu.requests)
    results = await asyncio.gather(*(s.operate(f"R0-{i}") for i in range(100)))
    assert {r.outcome for r in results} == {Outcome.DONE}
    assert len(s.rtu.writes()) == 100
    assert len({w.address for w in s.rtu.writes()}) == 100
    reads = len(s.rtu.requests) - before - 100
    assert reads <= 6


async def test_the_image_after_the_first_scan(site):
    s = await site()
    s.rtu.registers[4][1002] = 0xFFFF - 99  # -10.0 kW
    reading = s.driver.breaker("R0-2")
    assert (reading.position, reading.quality, reading.local) == (Position.CLOSED, Quality.GOOD, False)
    assert reading.op_count == 0
    assert s.driver.link_of("R0-2").state is LinkState.UP
    await asyncio.sleep(0.5)
    assert abs(s.driver.breaker("R0-2").power_kw + 10.0) < 1e-9
