"""One command, from the check through the write to the verdict."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocols import commander as commands
from protocols.base import LinkState, Outcome, Position, Quality
from protocols.modbus.driver import ModbusDriver


def only_writes(answer):
    """A script that spoils the answers to writes and leaves reads alone."""
    return lambda request: answer(request) if request.code in (5, 6) else None


async def test_a_breaker_opens_and_is_read_back(site):
    s = await site()
    result = await s.operate()
    assert (result.outcome, result.position, result.sent) == (Outcome.DONE, Position.OPEN, True)
    assert [(w.code, w.address, w.value) for w in s.rtu.writes()] == [(5, 0, 0xFF00)]
    assert s.driver.breaker("R0-0").position is Position.OPEN
    assert s.driver.breaker("R0-1").position is Position.CLOSED
    result = await s.operate(target=Position.CLOSED)
    assert (result.outcome, s.rtu.writes()[-1].address) == (Outcome.DONE, 1)


@pytest.mark.parametrize(("bit", "value"), [(None, 1), (1, 2)])
async def test_a_command_may_be_a_holding_register(site, kit, bit, value):
    s = await site(breakers=1)
    driver = ModbusDriver(
        s.devices,
        [
            kit.Feeder(
                "F",
                "R0",
                kit.Points(
                    kit.Address("di", 0), kit.Address("di", 1), kit.Address("hr", 40, bit), kit.Address("hr", 41)
                ),
                0.1,
            )
        ],
        [],
    )
    driver.set_writes_enabled(True)
    await driver.start(kit.Listener())
    try:
        result = await driver.operate("F", Position.OPEN, 2.0)
    finally:
        await driver.stop()
    assert [(w.code, w.address, w.value) for w in s.rtu.writes()] == [(6, 40, value)]
    assert result.outcome is Outcome.FAILED


async def test_what_is_there_already_is_done_without_a_frame(site):
    s = await site()
    result = await s.operate(target=Position.CLOSED)
    assert (result.outcome, result.sent) == (Outcome.DONE, False)
    assert s.rtu.writes() == []


async def test_the_check_reads_what_is_there_now_not_what_was_polled(site):
    s = await site(poll_fast_s=30.0, poll_slow_s=30.0)
    s.rtu.set_local(0)
    result = await s.operate()
    assert (result.outcome, result.sent) == (Outcome.REFUSED, False)
    assert "local" in result.detail
    s.rtu.set_local(0, False)
    s.rtu.place(0, "open")
    assert (await s.operate()).sent is False
    assert s.rtu.writes() == []


@pytest.mark.parametrize("position", ["bad", "intermediate"])
async def test_never_on_an_uncertain_state(site, position):
    s = await site()
    s.rtu.place(0, position)
    result = await s.operate()
    assert (result.outcome, result.position, result.sent) == (Outcome.REFUSED, Position(position), False)
    assert s.rtu.writes() == []


async def test_a_status_that_cannot_be_read_means_not_sent(site):
    s = await site()
    s.rtu.script = lambda request: 4 if request.code == 2 else None
    result = await s.operate()
    assert (result.outcome, result.sent) == (Outcome.NOT_SENT, False)
    assert "exception 04" in result.detail
    assert s.rtu.writes() == []


async def test_monitor_mode_is_the_default_and_lets_no_write_leave(site, kit):
    s = await site()
    assert (await ModbusDriver(s.devices, [s.rtu.feeder(0, "R0")], []).operate("R0-0", Position.OPEN, 1.0)).detail == (
        "monitor only: no write leaves"
    )
    s.driver.set_writes_enabled(False)
    result = await s.operate()
    assert (result.outcome, result.sent) == (Outcome.REFUSED, False)
    s.driver.set_writes_enabled(True)

    async def hold_the_check(request):
        if request.code == 2:
            s.driver.set_writes_enabled(False)

    s.rtu.script = hold_the_check
    result = await s.operate()
    assert (result.outcome, result.sent) == (Outcome.REFUSED, False)
    assert s.rtu.writes() == []
    assert s.driver.counters()["R0"].commands_sent == 0


@pytest.mark.parametrize("code", [1, 2, 3, 4, 6, 8, 0x0A])
async def test_an_exception_refuses_the_command(site, code):
    s = await site()
    s.rtu.script = only_writes(lambda request: code)
    result = await s.operate()
    assert (result.outcome, result.sent) == (Outcome.REFUSED, True)
    assert f"exception {code:02X}" in result.detail
    assert len(s.rtu.writes()) == 1


async def test_an_acknowledge_is_watched_like_an_acceptance(site):
    s = await site(travel_s=0.3)

    def acknowledge(request):
        s.rtu.answer(request)
        return 5

    s.rtu.script = only_writes(acknowledge)
    assert (await s.operate()).outcome is Outcome.DONE
    s.rtu.script = only_writes(lambda request: 5)
    assert (await s.operate("R0-1")).outcome is Outcome.FAILED


async def test_a_stuck_breaker_fails_after_its_travel_time(site):
    s = await site(travel_s=0.3)
    s.rtu.stuck.add(0)
    started = time.monotonic()
    result = await s.operate()
    assert (result.outcome, result.position, result.sent) == (Outcome.FAILED, Position.CLOSED, True)
    assert time.monotonic() - started >= 0.3
    assert len(s.rtu.writes()) == 1


async def test_a_slow_breaker_is_waited_for(site):
    s = await site(travel_s=3.0)
    s.rtu.travel_s = 0.6
    assert (await s.operate()).outcome is Outcome.DONE


LOST_ANSWERS = {
    "silence": lambda s, kit: lambda request: b"",
    "closed": lambda s, kit: lambda request: "close",
    "another echo": lambda s, kit: lambda request: kit.frame(request, b"\x05\x00\x07\xff\x00"),
    "another value": lambda s, kit: lambda request: kit.frame(request, b"\x05" + request.body[:2] + b"\x00\x00"),
    "another function": lambda s, kit: lambda request: kit.frame(request, b"\x06" + request.body),
    "another transaction": lambda s, kit: lambda request: kit.frame(request, b"\x05" + request.body, tid=60000),
    "another unit": lambda s, kit: lambda request: kit.frame(request, b"\x05" + request.body, unit=7),
    "junk": lambda s, kit: lambda request: b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09",
    "gateway": lambda s, kit: lambda request: 0x0B,
}


@pytest.mark.parametrize(
    ("name", "moves"),
    [
        *((name, True) for name in LOST_ANSWERS),
        *((name, False) for name in ("silence", "closed", "another echo", "gateway")),
    ],
)
async def test_a_lost_answer_is_resolved_by_reading_and_never_by_sending_again(site, kit, name, moves):
    s = await site(travel_s=0.5, timeout_s=0.15)
    spoiled = LOST_ANSWERS[name](s, kit)

    def script(request):
        if moves:
            s.rtu.answer(request)
        return spoiled(request)

    s.rtu.script = only_writes(script)
    result = await s.operate()
    assert len(s.rtu.writes()) == 1
    assert result.sent
    if moves:
        assert (result.outcome, result.position) == (Outcome.DONE, Position.OPEN)
        assert "resolved by readback" in result.detail
    else:
        assert (result.outcome, result.position) == (Outcome.UNKNOWN, Position.CLOSED)
    s.rtu.script = lambda request: None
    assert (await s.operate("R0-1")).outcome is Outcome.DONE


async def test_a_device_that_dies_under_a_command_leaves_it_unknown(site):
    s = await site(travel_s=0.3, timeout_s=0.1)
    s.rtu.script = only_writes(lambda request: setattr(s.rtu, "script", lambda _: b"") or b"")
    result = await s.operate()
    assert (result.outcome, result.sent) == (Outcome.UNKNOWN, True)
    assert len(s.rtu.writes()) == 1


async def test_accepted_and_then_silent_is_unknown_not_failed(site):
    s = await site(travel_s=0.3, timeout_s=0.1)

    def accept_then_die(request):
        s.rtu.script = lambda _: b""
        return s.rtu.reply(request)

    s.rtu.script = only_writes(accept_then_die)
    result = await s.operate()
    assert (result.outcome, result.sent) == (Outcome.UNKNOWN, True)


async def test_a_late_answer_is_never_taken_for_another_command_s(site, kit):
    s = await site(timeout_s=0.1, travel_s=0.6)
    late = []

    async def delay(request):
        if request.code == 5 and not late:
            late.append(request)
            await asyncio.sleep(0.25)

    s.rtu.script = delay
    first, second = await asyncio.gather(s.operate("R0-0"), s.operate("R0-1"))
    assert {first.outcome, second.outcome} == {Outcome.DONE}
    assert sorted(w.address for w in s.rtu.writes()) == [0, 2]
    assert s.rtu.connections >= 2


async def test_a_link_that_is_down_means_not_sent_at_once(site, kit):
    s = await site()
    await s.rtu.stop()
    await kit.eventually(lambda: s.driver.link_of("R0-0").state is LinkState.DOWN)
    started = time.monotonic()
    result = await s.operate(timeout_s=30.0)
    assert (result.outcome, result.sent) == (Outcome.NOT_SENT, False)
    assert time.monotonic() - started < 5.0


async def test_a_silent_device_means_not_sent_within_its_time_outs(site):
    s = await site(timeout_s=0.1)
    s.rtu.script = lambda request: b""
    result = await s.operate(timeout_s=0.4)
    assert (result.outcome, result.sent) == (Outcome.NOT_SENT, False)
    assert s.rtu.writes() == []


async def test_a_command_that_waits_past_its_deadline_is_never_sent(site):
    s = await site(timeout_s=1.0)

    async def slow_check(request):
        if request.code == 2:
            await asyncio.sleep(0.3)

    s.rtu.script = slow_check
    result = await s.operate(timeout_s=0.1)
    assert (result.outcome, result.sent) == (Outcome.NOT_SENT, False)
    await asyncio.sleep(0.5)
    assert s.rtu.writes() == []


async def test_of_two_that_wait_only_the_one_in_time_is_sent(site):
    s = await site(timeout_s=1.0, poll_fast_s=30.0, poll_slow_s=30.0)

    async def slow_write(request):
        if request.code == 5:
            await asyncio.sleep(0.3)

    s.rtu.script = slow_write
    first, second = await asyncio.gather(s.operate("R0-0"), s.operate("R0-1", timeout_s=0.15))
    assert (first.outcome, second.outcome, second.sent) == (Outcome.DONE, Outcome.NOT_SENT, False)
    assert [w.address for w in s.rtu.writes()] == [0]


async def test_a_check_grown_old_is_made_again_before_the_write(site, monkeypatch):
    monkeypatch.setattr(commands, "CHECK_VALID_S", 0.1)
    s = await site(timeout_s=1.0, poll_fast_s=30.0, poll_slow_s=30.0)

    async def slow_write(request):
        if request.code == 5:
            s.rtu.set_local(1)
            await asyncio.sleep(0.2)

    s.rtu.script = slow_write
    first, second = await asyncio.gather(s.operate("R0-0"), s.operate("R0-1"))
    assert (first.outcome, second.outcome, second.sent) == (Outcome.DONE, Outcome.REFUSED, False)
    assert [w.address for w in s.rtu.writes()] == [0]


async def test_one_command_at_a_time_for_a_breaker(site):
    s = await site()
    s.rtu.travel_s = 0.2
    first = asyncio.create_task(s.operate())
    await asyncio.sleep(0.05)
    second = await s.operate(target=Position.CLOSED)
    assert (second.outcome, second.sent) == (Outcome.REFUSED, False)
    assert (await first).outcome is Outcome.DONE
    assert (await s.operate(target=Position.CLOSED)).outcome is Outcome.DONE
    assert len(s.rtu.writes()) == 2


async def test_many_breakers_of_one_device_share_the_check_and_the_readbacks(site):
    s = await site(breakers=100, poll_fast_s=30.0, poll_slow_s=30.0, travel_s=3.0)
    before = len(s.rtu.requests)
    results = await asyncio.gather(*(s.operate(f"R0-{i}") for i in range(100)))
    assert {result.outcome for result in results} == {Outcome.DONE}
    assert sorted(w.address for w in s.rtu.writes()) == list(range(0, 200, 2))
    assert len(s.rtu.requests) - before - 100 <= 6
    assert s.driver.counters()["R0"].commands_sent == 100


async def test_the_queue_of_commands_is_bounded(site, monkeypatch):
    monkeypatch.setattr(commands, "MAX_QUEUED", 3)
    s = await site(breakers=8)
    results = await asyncio.gather(*(s.operate(f"R0-{i}") for i in range(8)))
    assert [result.outcome for result in results].count(Outcome.DONE) == 3
    assert {result.detail for result in results if result.outcome is not Outcome.DONE} == {"queue full"}
    assert len(s.rtu.writes()) == 3


async def test_a_caller_that_goes_away_withdraws_what_has_not_left(site):
    s = await site(timeout_s=1.0)

    async def slow_check(request):
        if request.code == 2:
            await asyncio.sleep(0.1)

    s.rtu.script = slow_check
    task = asyncio.create_task(s.operate())
    await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0.3)
    assert s.rtu.writes() == []
    s.rtu.script = lambda request: None
    assert (await s.operate()).outcome is Outcome.DONE


async def test_a_caller_that_goes_away_after_the_frame_blocks_the_breaker_until_the_end_is_known(site, kit):
    s = await site()
    s.rtu.travel_s = 0.2
    task = asyncio.create_task(s.operate())
    await kit.eventually(s.rtu.writes)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (await s.operate(target=Position.CLOSED)).outcome is Outcome.REFUSED
    await kit.eventually(lambda: s.driver.breaker("R0-0").position is Position.OPEN)
    await asyncio.sleep(0.3)
    assert (await s.operate(target=Position.CLOSED)).outcome is Outcome.DONE


async def test_stop_ends_every_command(site, kit):
    s = await site(timeout_s=5.0)

    async def hang_on_write(request):
        if request.code == 5:
            await released.wait()

    released = asyncio.Event()
    s.rtu.script = hang_on_write
    tasks = [asyncio.create_task(s.operate(f"R0-{i}")) for i in range(3)]
    await kit.eventually(s.rtu.writes)
    await s.driver.stop()
    results = await asyncio.wait_for(asyncio.gather(*tasks), 2.0)
    assert sorted((result.outcome, result.sent) for result in results) == [
        (Outcome.NOT_SENT, False),
        (Outcome.NOT_SENT, False),
        (Outcome.UNKNOWN, True),
    ]
    assert (await s.operate("R0-3")).outcome is Outcome.NOT_SENT
    released.set()


async def test_unknown_names_and_targets_are_the_caller_s_mistake(site):
    s = await site()
    with pytest.raises(KeyError):
        await s.operate("nobody")
    with pytest.raises(ValueError, match="intermediate"):
        await s.operate(target=Position.INTERMEDIATE)


@given(
    st.lists(
        st.one_of(st.none(), st.just(b""), st.just("close"), st.integers(0, 255), st.binary(max_size=40)), max_size=8
    )
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_device_answers_a_command_has_one_end_and_the_device_is_served_on(kit, answers):
    async def story():
        rtu = kit.Rtu(2)
        await rtu.start()
        device = kit.Device("R0", rtu.host, rtu.port, timeout_s=0.05, poll_fast_s=0.05, backoff_min_s=0.01)
        driver = ModbusDriver([device], [rtu.feeder(i, "R0", travel_s=0.1) for i in range(2)], [])
        driver.set_writes_enabled(True)
        defects = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: defects.append(context))
        script = iter(answers)
        await driver.start(kit.Listener())
        await driver.wait_first_scan(5.0)

        def answer(request):
            made = next(script, None)
            return kit.frame(request, made) if isinstance(made, bytes) and 0 < len(made) < 20 else made

        rtu.script = answer
        try:
            result = await asyncio.wait_for(driver.operate("R0-0", Position.OPEN, 1.0), 5.0)
            sent = [w for w in rtu.writes() if w.address == 0]
            assert len(sent) == (1 if result.sent else 0)
            rtu.script = lambda request: None
            async with asyncio.timeout(5.0):
                while (await driver.read_breaker("R0-1", 1.0)).quality is not Quality.GOOD:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        finally:
            await driver.stop()
            await rtu.stop()
        assert defects == []

    asyncio.run(story())
