"""Sessions: nobody gets into another's, nobody is served without one, and what is over is over."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime

import pytest
from asyncua import ua
from asyncua.ua.uaerrors import (
    BadIdentityTokenRejected,
    BadSessionIdInvalid,
    BadSessionNotActivated,
    BadTooManySessions,
    BadUserAccessDenied,
    UaStatusCodeError,
)
from opcua_house import PASSWORD, House, Peer, make_keys, node, sign_as_user, until

from protocols.opcua.surface import Doing, HistoryPage
from protocols.opcua.users import User

pytestmark = pytest.mark.asyncio(loop_scope="session")

SEQUENTIAL = [ua.NodeId(number) for number in range(1000, 1004)]
"""What tokens look like where they are counted."""


async def test_a_token_is_32_random_bytes(house, alice: Peer, mallory: Peer) -> None:
    await alice.log_in()
    await mallory.log_in()
    assert alice.token.NodeIdType is ua.NodeIdType.ByteString
    assert len(alice.token.Identifier) == len(mallory.token.Identifier) == 32
    assert alice.token.Identifier != mallory.token.Identifier


@pytest.mark.parametrize("token", SEQUENTIAL[:2])
async def test_a_guessed_token_calls_nothing(house: House, alice: Peer, mallory: Peer, token: ua.NodeId) -> None:
    await alice.log_in()
    await mallory.open()
    with pytest.raises(BadSessionIdInvalid):
        await mallory.open_breaker(token=token)
    assert house.backend.calls == []
    assert "token" in house.backend.told(Doing.ATTACK)[0].detail


async def test_who_goes_on_guessing_is_hung_up_on(house: House, mallory: Peer) -> None:
    await mallory.open()
    for token in SEQUENTIAL:
        with pytest.raises(BadSessionIdInvalid):
            await mallory.read(token=token)
    with pytest.raises((ConnectionError, BadSessionIdInvalid)):
        await mallory.read(token=SEQUENTIAL[0])
    await mallory.gone()


async def test_a_stolen_token_is_of_no_use_on_another_connection(house: House, alice: Peer, mallory: Peer) -> None:
    await alice.log_in("ola")
    await mallory.log_in("vera")
    for attempt in (mallory.read(token=alice.token), mallory.open_breaker(token=alice.token)):
        with pytest.raises(BadSessionIdInvalid):
            await attempt
    with pytest.raises(BadSessionIdInvalid):
        await mallory.ask(ua.CloseSessionRequest(), ua.CloseSessionResponse, alice.token)
    assert house.backend.calls == []
    assert house.backend.told(Doing.ATTACK)[0].caller.user == "vera"
    assert (await alice.open_breaker()).StatusCode.is_good()
    assert house.backend.calls[0][0].user == "ola"


async def test_activating_anothers_session_binds_nothing(house: House, alice: Peer, mallory: Peer) -> None:
    """asyncua put the victim's session onto the channel, then looked at the signature: a Call then ran as the victim."""
    await alice.log_in("ola")
    await mallory.open()
    mallory.wire.authentication_token = alice.token
    mallory.nonce = alice.nonce
    with pytest.raises(BadSessionIdInvalid):
        await mallory.activate(mallory.identity("nobody", "nothing"))
    with pytest.raises(BadSessionIdInvalid):
        await mallory.open_breaker()
    assert house.backend.calls == []
    assert len(house.backend.told(Doing.ATTACK)) == 2
    assert (await alice.open_breaker()).StatusCode.is_good()


async def test_a_failed_log_in_leaves_a_session_that_serves_nothing(house: House, mallory: Peer) -> None:
    await mallory.open()
    await mallory.session()
    with pytest.raises(BadUserAccessDenied):
        await mallory.activate(mallory.identity("ola", "a guess"))
    with pytest.raises(BadSessionNotActivated):
        await mallory.open_breaker()
    assert house.server.sessions() == []


async def test_a_session_without_log_in_serves_nothing(house: House, mallory: Peer) -> None:
    await mallory.open()
    await mallory.session()
    for attempt in (mallory.read(), mallory.open_breaker(), mallory.subscribe()):
        with pytest.raises(BadSessionNotActivated):
            await attempt


async def test_a_session_dies_with_its_connection(house: House, alice: Peer, people, peers) -> None:
    """There is no way to take a session to another connection, not even for the same client."""
    await alice.log_in()
    await alice.subscribe()
    alice.close()
    await until(lambda: house.backend.told(Doing.LOGOUT))
    again = Peer(house, people.alice)
    peers.append(again)
    await again.open()
    again.wire.authentication_token, again.nonce = alice.token, alice.nonce
    with pytest.raises(BadSessionIdInvalid):
        await again.activate(again.identity("ola", "correct-horse-battery"))
    assert house.backend.told(Doing.ATTACK) == [], "who comes back late is no attacker"


async def test_nothing_is_served_after_the_session_was_closed(house: House, alice: Peer) -> None:
    await alice.log_in()
    await alice.ask(ua.CloseSessionRequest(), ua.CloseSessionResponse)
    with pytest.raises(BadSessionIdInvalid):
        await alice.open_breaker()
    assert [deed.detail for deed in house.backend.told(Doing.LOGOUT)] == ["ola logged out"]
    await alice.gone(longest_s=4)


async def test_an_idle_session_ends_and_its_connection_with_it(house: House, alice: Peer) -> None:
    result = await (await alice.open()).session(RequestedSessionTimeout=300)
    assert result.RevisedSessionTimeout == 300
    await alice.activate(alice.identity("ola", "correct-horse-battery"))
    await alice.gone()
    deed = house.backend.told(Doing.SESSION_EXPIRED)[0]
    assert deed.caller.user == "ola"
    assert house.server.sessions() == []


async def test_a_log_in_that_waits_its_turn_is_not_idle(
    house: House, alice: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_in = house.doorman.by_password

    async def slowly(name: str, password: str) -> User:
        await asyncio.sleep(2.0)
        return await let_in(name, password)

    monkeypatch.setattr(house.doorman, "by_password", slowly)
    await (await alice.open()).session(RequestedSessionTimeout=1_500)
    await alice.activate(alice.identity("ola", "correct-horse-battery"))
    assert len(await alice.read()) == 1, "its time begins when it is let in"


async def test_a_session_that_asks_lives_on(house: House, alice: Peer) -> None:
    await (await alice.open()).session(RequestedSessionTimeout=2_000)
    await alice.activate(alice.identity("ola", "correct-horse-battery"))
    for _ in range(9):
        await asyncio.sleep(0.3)
        await alice.read()
    assert house.backend.told(Doing.SESSION_EXPIRED) == []


@pytest.mark.parametrize("wished", [0.0, -1.0, float("nan"), float("inf"), 1e300])
async def test_no_session_lives_longer_than_the_site_says(house: House, alice: Peer, wished: float) -> None:
    result = await (await alice.open()).session(RequestedSessionTimeout=wished)
    assert 300 <= result.RevisedSessionTimeout <= house.settings.idle_timeout_s * 1000


async def test_who_is_locked_while_logged_in_is_thrown_out(house: House, alice: Peer) -> None:
    house.add_user("leaver", "OPERATOR")
    await alice.log_in("leaver")
    house.users.lock("leaver")
    await alice.gone()
    assert "locked" in house.backend.told(Doing.SESSION_EXPIRED)[0].detail


async def test_who_is_given_other_roles_logs_in_anew(house: House, alice: Peer) -> None:
    house.add_user("mover", "OPERATOR")
    await alice.log_in("mover")
    house.users.role("mover", ["VIEWER"])
    await alice.gone()
    assert house.backend.told(Doing.SESSION_EXPIRED)


async def test_whose_certificate_is_no_longer_trusted_is_thrown_out(house: House, people, mallory: Peer) -> None:
    await mallory.log_in("vera")
    moved = house.pki.reject(people.mallory.thumbprint)
    try:
        await mallory.gone()
    finally:
        house.trust(moved.path, people.mallory)
    assert "trust list" in house.backend.told(Doing.SESSION_EXPIRED)[0].detail


async def test_one_connection_has_one_session(house: House, alice: Peer) -> None:
    await alice.log_in()
    with pytest.raises(BadTooManySessions):
        await alice.session()
    await alice.read()


async def test_another_user_gets_no_session_that_is_in_use(house: House, alice: Peer) -> None:
    """Who takes over an open session would get what its subscriptions were allowed to see."""
    await alice.log_in("sec")
    with pytest.raises((BadUserAccessDenied, BadIdentityTokenRejected)):
        await alice.activate(alice.identity("vera", "correct-horse-battery"))
    assert [each.caller.user for each in house.server.sessions()] == ["sec"]
    await alice.read()


async def test_sessions_are_shown_with_who_is_there(house: House, alice: Peer) -> None:
    await alice.log_in()
    (info,) = house.server.sessions()
    assert alice.keys is not None
    assert (info.caller.user, info.caller.roles) == ("ola", frozenset({"OPERATOR"}))
    assert info.caller.certificate == alice.keys.thumbprint
    assert info.caller.address.startswith(alice.address + ":")
    assert info.caller.application == alice.keys.uri
    assert info.caller.session != str(alice.token.Identifier)


async def test_one_user_holds_half_of_the_sessions_at_most(house: House, people, peers) -> None:
    """So a viewer (or who has a viewer's password) can't keep the operators out."""
    most = house.settings.max_sessions // 2
    for _ in range(most):
        peers.append(await Peer(house, people.mallory).log_in("vera"))
    with pytest.raises(BadUserAccessDenied):
        peers.append(await Peer(house, people.mallory).log_in("vera"))
    peers.append(await Peer(house, people.alice).log_in("ola"))
    assert "sessions of this user" in house.backend.told(Doing.SESSION_REFUSED)[0].detail


async def test_all_sessions_together_are_limited(house: House, people, peers) -> None:
    for user in ("vera", "sec"):
        for _ in range(house.settings.max_sessions // 2):
            peers.append(await Peer(house, people.mallory).log_in(user))
    late = Peer(house, people.alice)
    peers.append(late)
    await late.open()
    with pytest.raises(BadTooManySessions):
        await late.session()
    assert "sessions are taken" in house.backend.told(Doing.SESSION_REFUSED)[0].detail


async def test_sessions_that_nobody_has_logged_in_to_make_room(house: House, people, peers) -> None:
    """The oldest of the certificate that has most of them: somebody else who is about to log in is let alone."""
    honest = Peer(house, people.alice)
    crowd = [Peer(house, people.mallory) for _ in range(house.settings.max_sessions)]
    peers.extend([honest, *crowd])
    for peer in (honest, *crowd):
        await peer.open()
        await peer.session()
    await crowd[0].gone()
    assert not any(peer.closed for peer in (honest, *crowd[1:]))
    await honest.activate(honest.identity("ola", "correct-horse-battery"))
    (deed,) = house.backend.told(Doing.SESSION_REFUSED)
    assert deed.caller.address.startswith(crowd[0].address + ":")
    assert "made room" in deed.detail


async def test_whose_password_was_changed_logs_in_anew(house: House, alice: Peer) -> None:
    house.add_user("changer", "OPERATOR")
    await alice.log_in("changer")
    house.users.passwd("changer", PASSWORD + "-another")
    await alice.gone()
    assert "another password" in house.backend.told(Doing.SESSION_EXPIRED)[0].detail


async def test_who_came_by_a_certificate_that_is_theirs_no_longer_is_thrown_out(house: House, alice: Peer) -> None:
    person = make_keys("carla")
    house.add_user("carla", "OPERATOR")
    house.users.certificate("carla", person.thumbprint)
    await alice.open()
    await alice.session()
    signature = sign_as_user(alice, person)
    await alice.activate(ua.X509IdentityToken("certificate", person.der), user_signature=signature)
    assert house.server.sessions()[0].caller.user == "carla"
    house.users.certificate("carla", person.thumbprint, remove=True)
    await alice.gone()
    assert house.backend.told(Doing.SESSION_EXPIRED)


async def test_who_was_locked_calls_nothing_from_then_on(house: House, alice: Peer) -> None:
    house.add_user("lea", "OPERATOR")
    await alice.log_in("lea")
    house.users.lock("lea")
    with contextlib.suppress(UaStatusCodeError, ConnectionError, asyncio.TimeoutError, asyncio.CancelledError):
        await alice.open_breaker()
    assert house.backend.calls == []
    assert house.backend.told(Doing.SESSION_EXPIRED)


async def test_a_history_read_ends_with_its_session(house: House, alice: Peer, monkeypatch) -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    async def endless(*_: object) -> HistoryPage:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return HistoryPage([])

    monkeypatch.setattr(house.backend, "history", endless)
    await alice.log_in()
    request = ua.HistoryReadRequest()
    request.Parameters.HistoryReadDetails = ua.ReadRawModifiedDetails(
        IsReadModified=False, EndTime=datetime(2030, 1, 1, tzinfo=UTC), NumValuesPerNode=10
    )
    request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
    request.Parameters.ReleaseContinuationPoints = False
    request.Parameters.NodesToRead = [ua.HistoryReadValueId(NodeId=node("Feeder/F1/Kw"))]
    reading = asyncio.create_task(alice.ask(request, ua.HistoryReadResponse))
    await asyncio.wait_for(asked.wait(), 5)
    alice.close()
    await asyncio.wait_for(ended.wait(), 5)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
