"""The link: who goes first, what happens when nobody answers, and how it comes back. No sockets here."""

from __future__ import annotations

import asyncio
import time

import pytest

from protocols.base import LinkState
from protocols.errors import (
    ConnectionLost,
    DeviceRefused,
    Expired,
    FieldError,
    InvalidRequest,
    LinkDown,
    MalformedReply,
    NoReply,
    ReplyTimeout,
)
from protocols.link import MAX_WAITING, BackOff, Link, Priority, end, spawn


class Peer:
    """A device to connect to: refuses while ``away``."""

    def __init__(self) -> None:
        self.away = False
        self.attempts: list[float] = []
        self.open = 0
        self.lose = lambda reason: None

    async def connect(self, on_lost):
        self.attempts.append(time.monotonic())
        if self.away:
            raise LinkDown("refused")
        self.lose = on_lost
        self.open += 1
        return self

    def close(self) -> None:
        self.open -= 1


@pytest.fixture
async def linked():
    peer, states, links = Peer(), [], []

    def make(min_s=0.01, max_s=0.05):
        link = Link("R0", peer.connect, BackOff(min_s, max_s), states.append, lambda: None, time.monotonic, lambda: 1.0)
        links.append(link)
        return link, peer, states

    yield make
    for link in links:
        await link.stop()


async def ok(connection):
    return "ok"


def failing(error):
    async def action(connection):
        raise error

    return action


def test_back_off_doubles_up_to_its_maximum_with_jitter():
    back_off = BackOff(0.2, 10.0)
    assert [back_off.delay_s(n, 1.0) for n in (1, 2, 3, 6, 7, 8, 1000)] == [0.2, 0.4, 0.8, 6.4, 10.0, 10.0, 10.0]
    assert back_off.delay_s(1, 0.0) == 0.1
    assert back_off.delay_s(1000, 0.0) == 5.0


async def test_operate_goes_before_readback_before_poll(linked):
    link, _, _ = linked()
    order = []

    def named(name):
        async def action(connection):
            order.append(name)

        return action

    link.start()
    waits = [
        link.submit(Priority.POLL, named("poll 1")),
        link.submit(Priority.POLL, named("poll 2")),
        link.submit(Priority.READBACK, named("readback")),
        link.submit(Priority.OPERATE, named("operate")),
    ]
    await asyncio.gather(*waits)
    assert order == ["operate", "readback", "poll 1", "poll 2"]


async def test_one_request_at_a_time(linked):
    link, _, _ = linked()
    running = most = 0

    async def action(connection):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1

    link.start()
    await asyncio.gather(*(link.submit(Priority.POLL, action) for _ in range(5)))
    assert most == 1


async def test_a_first_connection_that_fails_is_tried_again_until_it_works(linked):
    link, peer, states = linked()
    peer.away = True
    link.start()
    await asyncio.sleep(0.1)
    assert len(peer.attempts) >= 3
    assert link.status.state is LinkState.DOWN
    with pytest.raises(LinkDown):
        await link.submit(Priority.OPERATE, ok)
    peer.away = False
    await asyncio.sleep(0.1)
    assert await link.submit(Priority.OPERATE, ok) == "ok"
    assert [status.state for status in states][-2:] == [LinkState.DOWN, LinkState.UP]


async def test_a_hiccup_loses_only_the_request_that_was_under_way(linked):
    link, peer, states = linked()
    link.start()
    await link.submit(Priority.POLL, ok)
    lost = link.submit(Priority.OPERATE, failing(ReplyTimeout("silence")))
    kept = link.submit(Priority.OPERATE, ok)
    with pytest.raises(ReplyTimeout):
        await lost
    assert await kept == "ok"
    assert link.epoch == 2
    assert link.counters.timeouts == 1
    assert link.counters.reconnects == 1
    assert LinkState.SILENT not in [status.state for status in states]
    assert peer.open == 1


async def test_two_failures_in_a_row_mean_silent_and_waiting_requests_fail(linked):
    link, _, _ = linked(min_s=0.05)
    link.start()
    waits = [link.submit(Priority.POLL, failing(ReplyTimeout("silence"))) for _ in range(2)]
    waiting = link.submit(Priority.POLL, ok)
    done = await asyncio.gather(*waits, waiting, return_exceptions=True)
    assert [type(error) for error in done] == [ReplyTimeout, ReplyTimeout, LinkDown]
    assert link.status.state is LinkState.SILENT
    assert link.status.detail == "silence"


async def test_an_exception_answer_is_a_sign_of_life(linked):
    link, _, _ = linked()
    link.start()
    with pytest.raises(DeviceRefused):
        await link.submit(Priority.POLL, failing(DeviceRefused(2)))
    assert link.status.state is LinkState.UP
    assert link.epoch == 1
    assert link.counters.exceptions == 1


async def test_a_malformed_answer_ends_the_connection(linked):
    link, _, _ = linked()
    link.start()
    await link.submit(Priority.POLL, ok)
    with pytest.raises(MalformedReply):
        await link.submit(Priority.POLL, failing(MalformedReply("junk")))
    await link.submit(Priority.POLL, ok)
    assert link.epoch == 2
    assert link.counters.malformed == 1


async def test_a_mistake_of_ours_leaves_the_link_alone(linked):
    link, _, _ = linked()
    link.start()
    with pytest.raises(InvalidRequest):
        await link.submit(Priority.POLL, failing(InvalidRequest("address")))
    await link.submit(Priority.POLL, ok)
    assert link.epoch == 1


async def test_a_defect_in_an_action_goes_to_its_caller_and_the_link_lives_on(linked):
    link, _, _ = linked()
    link.start()
    with pytest.raises(NoReply, match="ZeroDivisionError"):
        await link.submit(Priority.POLL, failing(ZeroDivisionError()))
    assert await link.submit(Priority.POLL, ok) == "ok"


async def test_a_cancellation_that_nobody_asked_for_ends_the_connection_and_not_the_link(linked):
    link, peer, _ = linked()
    link.start()
    with pytest.raises(ConnectionLost):
        await link.submit(Priority.POLL, failing(asyncio.CancelledError()))
    assert await link.submit(Priority.POLL, ok) == "ok"
    assert len(peer.attempts) == 2


async def test_a_request_past_its_deadline_never_starts(linked):
    link, _, _ = linked()
    started = []

    async def slow(connection):
        await asyncio.sleep(0.05)

    async def late(connection):
        started.append(connection)

    link.start()
    first = link.submit(Priority.OPERATE, slow)
    second = link.submit(Priority.OPERATE, late, time.monotonic() + 0.01)
    with pytest.raises(Expired):
        await second
    await first
    await link.submit(Priority.POLL, ok)
    assert started == []


async def test_a_request_whose_caller_went_away_never_starts(linked):
    link, _, _ = linked()
    started = []

    async def action(connection):
        started.append(connection)

    link.start()
    link.submit(Priority.POLL, action).cancel()
    await link.submit(Priority.POLL, ok)
    assert started == []


async def test_the_queue_is_bounded(linked):
    link, _, _ = linked()
    link.start()
    waits = [link.submit(Priority.POLL, ok) for _ in range(MAX_WAITING)]
    with pytest.raises(LinkDown, match="wait already"):
        await link.submit(Priority.OPERATE, ok)
    assert set(await asyncio.gather(*waits)) == {"ok"}


async def test_an_idle_connection_that_is_lost_is_made_again(linked):
    link, peer, states = linked()
    link.start()
    await link.submit(Priority.POLL, ok)
    peer.lose("the peer closed")
    await asyncio.sleep(0.1)
    assert link.epoch == 2
    assert (LinkState.CONNECTING, "the peer closed") in [(status.state, status.detail) for status in states]


async def test_stop_ends_what_runs_as_unknown_and_what_waits_as_not_sent(linked):
    link, peer, _ = linked()
    link.start()
    running = link.submit(Priority.OPERATE, lambda connection: asyncio.Event().wait())
    waiting = link.submit(Priority.OPERATE, ok)
    await asyncio.sleep(0.01)
    await link.stop()
    errors = await asyncio.gather(running, waiting, return_exceptions=True)
    assert [type(error) for error in errors] == [ConnectionLost, LinkDown]
    assert [error.sent for error in errors if isinstance(error, FieldError)] == [True, False]
    assert peer.open == 0
    with pytest.raises(LinkDown):
        await link.submit(Priority.OPERATE, ok)


async def test_a_task_that_swallows_a_cancellation_is_ended_all_the_same():
    swallowed = []

    async def stubborn():
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                swallowed.append(True)
                if len(swallowed) == 2:
                    raise

    task = spawn(stubborn(), "stubborn")
    await asyncio.sleep(0)
    await asyncio.wait_for(end([task]), 2.0)
    assert task.cancelled()


async def test_a_task_that_ends_by_a_defect_is_reported_at_once():
    reports = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context["message"]))

    async def broken():
        raise ZeroDivisionError

    spawn(broken(), "poll R0")
    await asyncio.sleep(0.01)
    assert reports == ["poll R0 ended by a defect"]
