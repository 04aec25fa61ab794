"""Log-in: no default password, nobody unnamed, lock-out, and refusals that tell a client nothing and the gateway all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua
from asyncua.ua.uaerrors import BadUserAccessDenied, UaStatusCodeError
from opcua_house import PASSWORD, House, Peer, make_keys, node, sign_as_user, std, until

from protocols.opcua import passwords
from protocols.opcua.hardening import Limits
from protocols.opcua.surface import Doing

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def knock(peer: Peer, identity: Any, **more: Any) -> UaStatusCodeError:
    """Try to log in, in vain; what the client is told."""
    with pytest.raises(UaStatusCodeError) as refused:
        await peer.activate(identity, **more)
    return refused.value


async def test_no_name_opens_the_door_with_any_password(house: House, mallory: Peer) -> None:
    """asyncua's server let "admin" in with any password, as Admin; and anybody else as a user."""
    await mallory.open()
    await mallory.session()
    for name, password in (("admin", "admin"), ("Admin", ""), ("root", "x"), ("", ""), ("ola", ""), ("OLA", PASSWORD)):
        error = await knock(mallory, mallory.identity(name, password))
        assert isinstance(error, BadUserAccessDenied), name
    assert house.server.sessions() == []
    assert len(house.backend.told(Doing.LOGIN_REFUSED)) == 6


@pytest.mark.parametrize("token", [None, ua.AnonymousIdentityToken("anonymous"), ua.ExtensionObject()])
async def test_nobody_gets_in_without_a_name(house: House, mallory: Peer, token: Any) -> None:
    await mallory.open()
    await mallory.session()
    assert isinstance(await knock(mallory, token), BadUserAccessDenied)
    assert "anonymous" in house.backend.told(Doing.LOGIN_REFUSED)[0].detail


async def test_an_identity_of_an_unknown_kind_is_refused(house: House, mallory: Peer) -> None:
    await mallory.open()
    await mallory.session()
    for token in (ua.IssuedIdentityToken(), ua.Argument(), ua.ReadRawModifiedDetails()):
        assert isinstance(await knock(mallory, token), BadUserAccessDenied)


async def test_a_wrong_password_and_an_unknown_name_look_alike_to_the_client_alone(house: House, mallory: Peer) -> None:
    house.add_user("vic", "VIEWER")
    await mallory.open()
    await mallory.session()
    wrong = await knock(mallory, mallory.identity("vic", "wrong"))
    unknown = await knock(mallory, mallory.identity("nemo", "wrong"))
    assert (type(wrong), wrong.code, str(wrong)) == (type(unknown), unknown.code, str(unknown))
    first, second = house.backend.told(Doing.LOGIN_REFUSED)
    assert (first.caller.user, second.caller.user) == ("vic", "nemo")
    assert first.detail != second.detail.replace("nemo", "vic")
    assert "wrong" in first.detail
    assert PASSWORD not in first.detail + second.detail


async def test_a_name_is_locked_out_after_so_many_failures(house: House, mallory: Peer) -> None:
    house.add_user("lou", "VIEWER")
    await mallory.open()
    await mallory.session()
    for _ in range(4):
        await knock(mallory, mallory.identity("lou", "guess"))
    assert len(house.backend.told(Doing.LOCKED_OUT)) == 1
    assert isinstance(await knock(mallory, mallory.identity("lou", PASSWORD)), BadUserAccessDenied)
    assert house.server.sessions() == []


async def test_a_locked_user_is_refused(house: House, mallory: Peer) -> None:
    house.add_user("gone", "OPERATOR")
    house.users.lock("gone")
    await mallory.open()
    await mallory.session()
    assert isinstance(await knock(mallory, mallory.identity("gone", PASSWORD)), BadUserAccessDenied)


async def test_a_password_travels_encrypted_or_not_at_all(house: House, alice: Peer) -> None:
    await alice.open()
    await alice.session()
    for algorithm in (None, "", "http://www.w3.org/2001/04/xmlenc#rsa-1_5"):
        token = alice.identity("ola", PASSWORD)
        token.EncryptionAlgorithm = algorithm
        if not algorithm:
            token.Password = PASSWORD.encode()
        assert isinstance(await knock(alice, token), BadUserAccessDenied)
    assert house.server.sessions() == []


async def test_a_password_that_was_recorded_opens_no_other_session(house: House, alice: Peer, mallory: Peer) -> None:
    await alice.open()
    await alice.session()
    recorded = alice.identity("ola", PASSWORD)
    await alice.activate(recorded)
    await mallory.open()
    await mallory.session()
    assert isinstance(await knock(mallory, recorded), BadUserAccessDenied)
    assert "another session" in house.backend.told(Doing.LOGIN_REFUSED)[0].detail


@pytest.mark.parametrize("secret", [b"", b"x", b"x" * 256, b"x" * 4096, None])
async def test_a_broken_password_token_is_refused(house: House, mallory: Peer, secret: bytes | None) -> None:
    await mallory.open()
    await mallory.session()
    token = mallory.identity("ola", PASSWORD)
    token.Password = secret
    assert isinstance(await knock(mallory, token), BadUserAccessDenied)


@pytest.mark.parametrize(
    "plain", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x10\x00\x00\x00", b"\x04\x00\x00\x00abcd"]
)
async def test_a_length_that_lies_is_refused(house: House, mallory: Peer, plain: bytes) -> None:
    await mallory.open()
    await mallory.session()
    token = mallory.identity("ola", PASSWORD)
    token.Password = mallory.policy.encrypt_asymmetric(house.own.certificate.public_key(), plain)
    assert isinstance(await knock(mallory, token), BadUserAccessDenied)


async def test_a_password_of_several_blocks_is_read(house: House, alice: Peer) -> None:
    long = "long-" * 40
    house.users.add("longpass", long, ["VIEWER"])
    await alice.open()
    await alice.session()
    token = alice.identity("longpass", "")
    secret = long.encode() + alice.nonce
    plain = len(secret).to_bytes(4, "little") + secret
    public = house.own.certificate.public_key()
    token.Password = b"".join(
        alice.policy.encrypt_asymmetric(public, plain[at : at + 200]) for at in range(0, len(plain), 200)
    )
    await alice.activate(token)
    assert house.server.sessions()[0].caller.user == "longpass"


async def test_a_person_logs_in_with_a_certificate(house: House, alice: Peer) -> None:
    person = make_keys("olga")
    house.add_user("olga", "OPERATOR")
    house.users.certificate("olga", person.thumbprint)
    await alice.open()
    await alice.session()
    token = ua.X509IdentityToken("certificate", person.der)
    for signature in (None, ua.SignatureData(alice.policy.AsymmetricSignatureURI, b"x" * 256)):
        assert isinstance(await knock(alice, token, user_signature=signature), BadUserAccessDenied)
    assert alice.keys is not None
    stolen = sign_as_user(alice, alice.keys)
    assert isinstance(await knock(alice, token, user_signature=stolen), BadUserAccessDenied)
    weak = sign_as_user(alice, person)
    weak.Algorithm = "http://www.w3.org/2000/09/xmldsig#rsa-sha1"
    assert isinstance(await knock(alice, token, user_signature=weak), BadUserAccessDenied)
    await alice.activate(token, user_signature=sign_as_user(alice, person))
    assert house.server.sessions()[0].caller.user == "olga"
    assert house.backend.told(Doing.LOGIN)[0].caller.roles == {"OPERATOR"}


async def test_an_unknown_persons_certificate_is_refused(house: House, people: Any, alice: Peer) -> None:
    await alice.open()
    await alice.session()
    for data in (people.stranger.der, b"", b"\x30", people.stranger.der * 40):
        token = ua.X509IdentityToken("certificate", data)
        signature = sign_as_user(alice, people.stranger)
        assert isinstance(await knock(alice, token, user_signature=signature), BadUserAccessDenied)


async def test_log_in_and_log_out_are_told_with_who_it_was(house: House, alice: Peer) -> None:
    await alice.log_in()
    alice.close()
    await until(lambda: house.backend.told(Doing.LOGOUT))
    came, went = house.backend.told(Doing.LOGIN)[0].caller, house.backend.told(Doing.LOGOUT)[0].caller
    assert came == went
    assert alice.keys is not None
    assert (came.user, came.certificate) == ("ola", alice.keys.thumbprint)


async def test_each_call_says_who_called(house: House, alice: Peer, mallory: Peer) -> None:
    house.add_user("otto", "OPERATOR", "ENGINEER")
    await alice.log_in("ola")
    await mallory.log_in("otto")
    await asyncio.gather(*(peer.open_breaker(f"{n}") for n in range(10) for peer in (alice, mallory)))
    callers = {call[0] for call in house.backend.calls}
    assert {(each.user, each.certificate) for each in callers} == {
        ("ola", alice.keys.thumbprint),  # type: ignore[union-attr]
        ("otto", mallory.keys.thumbprint),  # type: ignore[union-attr]
    }
    assert len(house.backend.calls) == 20


async def test_log_ins_don_t_hold_the_loop(house: House, people: Any, peers: Any, monkeypatch: Any) -> None:
    """scrypt takes a tenth of a second each (here: a sleep); the loop must not wait for it."""
    monkeypatch.setattr(passwords, "_scrypt", lambda *_: time.sleep(0.1) or b"")
    crowd = [Peer(house, people.mallory) for _ in range(5)]
    peers.extend(crowd)
    for peer in crowd:
        await peer.open()
        await peer.session()
    knocking = asyncio.gather(*(knock(peer, peer.identity(f"u{n}", "wrong")) for n, peer in enumerate(crowd)))
    turns = 0
    while not knocking.done():
        await asyncio.sleep(0.001)
        turns += 1
    await knocking
    assert turns > 50, "while passwords were looked at, the loop did nothing else"


async def test_who_hangs_up_while_logging_in_leaves_nothing_behind(
    house: House, mallory: Peer, monkeypatch: Any
) -> None:
    quick = passwords._scrypt
    monkeypatch.setattr(passwords, "_scrypt", lambda *each: time.sleep(0.2) or quick(*each))
    await mallory.open()
    await mallory.session()
    knocking = asyncio.ensure_future(mallory.activate(mallory.identity("ola", PASSWORD)))
    await asyncio.sleep(0.05)
    mallory.close()
    with pytest.raises(ConnectionError):
        await knocking
    await house.settled()
    await asyncio.sleep(0.25)
    assert house.server.sessions() == []
    assert house.backend.told(Doing.LOGIN) == []


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def open_house(people: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """A site that lets anonymous readers in."""
    folder: Path = tmp_path_factory.mktemp("open")
    house = House(
        folder, [people.alice], people.gateway, Limits(), anonymous_read=True, host="127.0.61.8", max_sessions=6
    )
    await house.server.start()
    yield house
    await house.server.stop()


async def test_where_a_site_allows_it_anonymous_readers_look_and_do_nothing(open_house: House, people: Any) -> None:
    peer = Peer(open_house, people.alice)
    await peer.open()
    await peer.session()
    await peer.activate(ua.AnonymousIdentityToken("anonymous"))
    assert (await peer.read(std(ua.ObjectIds.Server_ServerStatus_State)))[0].StatusCode.is_good()
    assert (await peer.read(node("Security/Secret")))[0].StatusCode.value == ua.StatusCodes.BadUserAccessDenied
    assert (await peer.open_breaker()).StatusCode.value == ua.StatusCodes.BadUserAccessDenied
    assert open_house.backend.calls == []
    (info,) = open_house.server.sessions()
    assert (info.caller.user, info.caller.roles) == ("", frozenset())
    peer.close()
    await open_house.settled()


async def test_anonymous_readers_need_a_trusted_certificate_too(open_house: House, people: Any) -> None:
    peer = Peer(open_house, people.stranger)
    with pytest.raises((ConnectionError, UaStatusCodeError)):
        await peer.open()
    bare = Peer(open_house, None)
    await bare.open()
    with pytest.raises(UaStatusCodeError):
        await bare.ask(ua.CreateSessionRequest(), ua.CreateSessionResponse)
    bare.close()
    await open_house.settled()
