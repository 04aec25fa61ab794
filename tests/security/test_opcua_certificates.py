"""Channels and certificates: who has no trusted certificate gets nothing but the sign at the door."""

from __future__ import annotations

import asyncio
import hashlib
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asyncua import ua
from asyncua.client.ua_client import UASocketProtocol
from asyncua.crypto import security_policies as sp
from asyncua.ua.ua_binary import struct_to_binary
from asyncua.ua.uaerrors import (
    BadApplicationSignatureInvalid,
    BadSecurityChecksFailed,
    BadSecurityPolicyRejected,
    BadServiceUnsupported,
    BadSessionIdInvalid,
    UaStatusCodeError,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from opcua_house import AES128, AES256, BASIC, PASSWORD, House, Keys, Peer, until

from protocols.opcua.surface import Doing

pytestmark = pytest.mark.asyncio(loop_scope="session")

REFUSED = (ConnectionError, UaStatusCodeError, TimeoutError)


async def refused(house: House, peers: list[Peer], keys: Keys) -> str:
    """Open a channel with these keys, which must fail; what the gateway was told."""
    peer = Peer(house, keys)
    peers.append(peer)
    with pytest.raises(REFUSED):
        await peer.open()
    await peer.gone()
    (deed,) = house.backend.told(Doing.CERTIFICATE_REFUSED)
    assert deed.caller.certificate == keys.thumbprint
    assert deed.caller.address.startswith(peer.address)
    return deed.detail


async def test_an_untrusted_certificate_is_refused_and_kept_for_a_look(house: House, people: Any, peers: Any) -> None:
    assert "trust list" in await refused(house, peers, people.stranger)
    assert (house.pki.folder / "rejected" / f"{people.stranger.thumbprint}.der").exists()


async def test_an_expired_certificate_is_refused(house: House, people: Any, peers: Any) -> None:
    assert "expired" in await refused(house, peers, people.expired)


async def test_a_revoked_certificate_is_refused(house: House, people: Any, peers: Any, tmp_path: Any) -> None:
    """A client of an authority gets in; the next day its certificate is on the authority's list of revoked ones."""
    authority, client = make_authority(), people.issued
    issued = issue(client, authority)
    (tmp_path / "authority.der").write_bytes(authority.der)
    now = datetime.now(UTC)
    house.pki.trust(tmp_path / "authority.der", now)
    try:
        give_crl(house, tmp_path, authority, [])
        welcome = await Peer(house, issued).log_in()
        peers.append(welcome)
        give_crl(house, tmp_path, authority, [issued.certificate.serial_number])
        await welcome.gone()
        house.backend.deeds.clear()
        assert "revoked" in await refused(house, peers, issued)
    finally:
        house.pki.reject(authority.thumbprint)


def make_authority() -> Keys:
    """An authority's own certificate."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
    begins = datetime.now(UTC) - timedelta(hours=1)
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(begins).not_valid_after(begins + timedelta(days=300))
    builder = builder.add_extension(x509.BasicConstraints(True, 0), True).add_extension(usage, True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    return Keys("authority", "", builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER), key)


def issue(client: Keys, authority: Keys) -> Keys:
    """The client's certificate, signed by an authority."""
    own = client.certificate
    builder = x509.CertificateBuilder(
        authority.certificate.subject,
        own.subject,
        own.public_key(),
        x509.random_serial_number(),
        extensions=list(own.extensions),
    )
    builder = builder.not_valid_before(own.not_valid_before_utc).not_valid_after(own.not_valid_after_utc)
    issuer = authority.key.public_key()
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), False)
    der = builder.sign(authority.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    return Keys(client.name, client.uri, der, client.key)


def give_crl(house: House, folder: Any, authority: Keys, serials: list[int]) -> None:
    """The authority's newest list of revoked certificates."""
    now = datetime.now(UTC)
    builder = x509.CertificateRevocationListBuilder(authority.certificate.subject)
    builder = builder.last_update(now).next_update(now + timedelta(days=1))
    for serial in serials:
        builder = builder.add_revoked_certificate(x509.RevokedCertificateBuilder(serial, now).build())
    builder = builder.add_extension(x509.CRLNumber(len(serials) + 1), False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), False
    )
    crl = builder.sign(authority.key, hashes.SHA256())
    path = folder / f"{len(serials)}.crl"
    path.write_bytes(crl.public_bytes(serialization.Encoding.DER))
    house.pki.add_crl(path, now + timedelta(seconds=1))


async def test_trust_that_is_taken_away_holds_from_the_next_channel_on(house: House, people: Any, peers: Any) -> None:
    peers.append(await Peer(house, people.mallory).open())
    moved = house.pki.reject(people.mallory.thumbprint)
    try:
        assert "trust list" in await refused(house, peers, people.mallory)
    finally:
        house.trust(moved.path, people.mallory)


async def test_a_session_needs_a_certificate_that_is_trusted_then(house: House, people: Any, mallory: Peer) -> None:
    await mallory.open()
    moved = house.pki.reject(people.mallory.thumbprint)
    try:
        with pytest.raises(BadSecurityChecksFailed):
            await mallory.session()
    finally:
        house.trust(moved.path, people.mallory)
    assert house.backend.told(Doing.CERTIFICATE_REFUSED)


async def test_showing_anothers_certificate_is_an_attack(house: House, people: Any, mallory: Peer) -> None:
    """asyncua checked the one that the session showed, and not the channel's."""
    await mallory.open()
    with pytest.raises(BadSecurityChecksFailed):
        await mallory.session(ClientCertificate=people.alice.der, ApplicationUri=people.alice.uri)
    assert "someone else's" in house.backend.told(Doing.ATTACK)[0].detail


@pytest.mark.parametrize("shown", [None, b"", b"\x30", b"\x30\x82\xff\xff", b"x" * 100])
async def test_showing_no_certificate_is_an_attack(house: House, mallory: Peer, shown: bytes | None) -> None:
    await mallory.open()
    with pytest.raises(BadSecurityChecksFailed):
        await mallory.session(ClientCertificate=shown)
    assert house.backend.told(Doing.ATTACK)


@pytest.mark.parametrize("uri", ["urn:test:alice", "", None, "urn:test:mallory2"])
async def test_the_application_is_the_one_of_the_certificate(house: House, mallory: Peer, uri: str | None) -> None:
    await mallory.open()
    with pytest.raises(BadSecurityChecksFailed):
        await mallory.session(ApplicationUri=uri)
    assert house.backend.told(Doing.CERTIFICATE_REFUSED)


async def test_a_certificate_without_its_key_opens_no_channel(house: House, people: Any, peers: Any) -> None:
    """Alice's certificate is public; mallory signs with her own key."""
    thief = Peer(house, Keys("alice", people.alice.uri, people.alice.der, people.mallory.key))
    peers.append(thief)
    with pytest.raises(REFUSED):
        await thief.open()
    await thief.gone()
    assert "not decrypted" in house.backend.told(Doing.ATTACK)[0].detail


async def test_a_log_in_is_signed_by_the_channels_key(house: House, mallory: Peer) -> None:
    await mallory.open()
    await mallory.session()
    for signature in (b"", b"x" * 256):
        with pytest.raises(BadApplicationSignatureInvalid):
            await mallory.activate(mallory.identity("ola", PASSWORD), signature=signature)
    assert len(house.backend.told(Doing.ATTACK)) == 2
    assert house.server.sessions() == []


@pytest.mark.parametrize("policy", [BASIC, AES128, AES256])
async def test_three_policies_are_served(house: House, people: Any, peers: Any, policy: Any) -> None:
    peer = Peer(house, people.alice, policy)
    peers.append(peer)
    await peer.log_in()
    assert (await peer.open_breaker()).StatusCode.is_good()


async def test_the_sign_at_the_door_names_these_three_alone(house: House, peers: Any) -> None:
    peer = Peer(house, None)
    peers.append(peer)
    await peer.open()
    request = ua.GetEndpointsRequest()
    request.Parameters.EndpointUrl = "opc.tcp://gate.example:1/x"
    endpoints = (await peer.ask(request, ua.GetEndpointsResponse)).Endpoints
    assert {each.SecurityPolicyUri for each in endpoints} == {BASIC.URI, AES128.URI, AES256.URI}
    assert {each.SecurityMode for each in endpoints} == {ua.MessageSecurityMode.SignAndEncrypt}
    assert {token.TokenType for each in endpoints for token in each.UserIdentityTokens} == {
        ua.UserTokenType.UserName,
        ua.UserTokenType.Certificate,
    }
    assert endpoints[0].EndpointUrl == f"opc.tcp://gate.example:{house.server.port}/gridlatch"
    servers = (await peer.ask(ua.FindServersRequest(), ua.FindServersResponse)).Servers
    assert [each.ApplicationUri for each in servers] == [house.own.uri]


async def test_without_security_there_is_nothing_else(house: House, peers: Any) -> None:
    peer = Peer(house, None)
    peers.append(peer)
    await peer.open()
    with pytest.raises(BadSecurityPolicyRejected):
        await peer.ask(ua.CreateSessionRequest(), ua.CreateSessionResponse)
    with pytest.raises(BadSessionIdInvalid):
        await peer.read()
    with pytest.raises(BadServiceUnsupported):
        await peer.ask(ua.RegisterServerRequest(), ua.RegisterServerResponse)
    with pytest.raises(BadServiceUnsupported):
        await peer.ask(ua.RegisterServer2Request(), ua.RegisterServer2Response)


async def test_sign_only_is_refused(house: House, people: Any, peers: Any) -> None:
    peer = Peer(house, people.alice)
    peers.append(peer)
    with pytest.raises(REFUSED):
        await peer.open(SecurityMode=ua.MessageSecurityMode.Sign)
    await peer.gone()
    assert "mode" in house.backend.told(Doing.SESSION_REFUSED)[0].detail


@pytest.mark.parametrize("policy", [sp.SecurityPolicyBasic128Rsa15, sp.SecurityPolicyBasic256])
async def test_old_policies_are_refused(house: House, people: Any, peers: Any, policy: Any) -> None:
    peer = Peer(house, people.alice, policy)
    peers.append(peer)
    with pytest.raises(REFUSED):
        await peer.open()
    await peer.gone()
    assert "policy" in house.backend.told(Doing.SESSION_REFUSED)[0].detail


async def test_a_none_policy_with_security_mode_is_refused(house: House, peers: Any) -> None:
    peer = Peer(house, None)
    peers.append(peer)
    with pytest.raises(REFUSED):
        await peer.open(SecurityMode=ua.MessageSecurityMode.SignAndEncrypt)


@pytest.mark.parametrize("nonce", [b"", b"short", b"x" * 33])
async def test_a_nonce_has_its_length(house: House, alice: Peer, nonce: bytes) -> None:
    with pytest.raises(REFUSED):
        await alice.open(ClientNonce=nonce)
    await alice.gone()


async def test_no_message_is_served_before_a_channel(house: House, peers: Any) -> None:
    """asyncua took plain messages on a connection that never opened a channel."""
    peer = Peer(house, None)
    peers.append(peer)
    await peer.connect()
    await peer.wire.send_hello("opc.tcp://x")
    with pytest.raises(REFUSED):
        await peer.ask(ua.GetEndpointsRequest(), ua.GetEndpointsResponse)
    await peer.gone()
    assert "without a secure channel" in house.backend.told(Doing.ATTACK)[0].detail


async def test_a_channel_is_renewed_by_its_own_certificate(house: House, alice: Peer) -> None:
    await alice.log_in()
    await asyncio.sleep(1.05)
    await alice.channel(RequestType=ua.SecurityTokenRequestType.Renew)
    assert (await alice.read())[0].StatusCode is not None
    assert (await alice.open_breaker()).StatusCode.is_good()


async def test_a_channel_is_not_renewed_without_end(house: House, alice: Peer) -> None:
    await alice.log_in()
    with pytest.raises(REFUSED):
        await alice.channel(RequestType=ua.SecurityTokenRequestType.Renew)
    await alice.gone()


async def test_a_channel_is_not_issued_twice(house: House, alice: Peer) -> None:
    await alice.log_in()
    await asyncio.sleep(1.05)
    with pytest.raises(REFUSED):
        await alice.channel(RequestType=ua.SecurityTokenRequestType.Issue)
    await alice.gone()


async def test_anothers_certificate_renews_no_channel(house: House, people: Any, alice: Peer) -> None:
    await alice.log_in()
    await asyncio.sleep(1.05)
    other = people.mallory
    alice.wire._connection.security_policy = BASIC(
        house.own.certificate, other.certificate, other.key, ua.MessageSecurityMode.SignAndEncrypt
    )
    with pytest.raises(REFUSED):
        await alice.channel(RequestType=ua.SecurityTokenRequestType.Renew)
    await alice.gone()
    assert "another policy or certificate" in house.backend.told(Doing.ATTACK)[0].detail


async def test_keys_that_were_not_renewed_in_time_are_of_no_use(house: House, alice: Peer) -> None:
    await alice.open(RequestedLifetime=1)
    await alice.session()
    await asyncio.sleep(0.3)
    with pytest.raises(REFUSED):
        await alice.activate(alice.identity("ola", PASSWORD))
    await alice.gone()


async def test_token_zero_is_no_renewal(house: House, alice: Peer) -> None:
    """asyncua took it for the (empty) next token, and changed its keys before it had checked a signature."""
    await alice.log_in()
    alice.wire._connection.security_token.TokenId = 0
    with pytest.raises(REFUSED):
        await alice.read()
    await alice.gone()
    assert "without a secure channel" in house.backend.told(Doing.ATTACK)[0].detail


async def test_a_chain_without_end_is_refused_unread(house: House, people: Any, peers: Any) -> None:
    """60 KB of certificates: nothing of it is parsed, and it takes no time."""
    peer = Peer(house, people.alice)
    peers.append(peer)
    peer.policy.host_certificate_chain = [people.mallory.der] * 60
    began = time.monotonic()
    with pytest.raises(REFUSED):
        await peer.open()
    assert time.monotonic() - began < 1
    assert "bytes" in house.backend.told(Doing.CERTIFICATE_REFUSED)[0].detail


async def test_a_short_chain_is_taken_by_its_first_certificate(house: House, people: Any, peers: Any) -> None:
    peer = Peer(house, people.alice)
    peers.append(peer)
    peer.policy.host_certificate_chain = [people.mallory.der]
    await peer.log_in()
    assert house.server.sessions()[0].caller.certificate == people.alice.thumbprint


async def test_an_untrusted_first_certificate_is_not_saved_by_its_chain(house: House, people: Any, peers: Any) -> None:
    peer = Peer(house, people.stranger)
    peers.append(peer)
    peer.policy.host_certificate_chain = [people.alice.der]
    with pytest.raises(REFUSED):
        await peer.open()
    assert house.backend.told(Doing.CERTIFICATE_REFUSED)[0].caller.certificate == people.stranger.thumbprint


@pytest.mark.parametrize("certificate", [b"", b"\x30", b"\x30\x03abc", b"\x30\x82\xff\xff" + b"x" * 50, b"\x00" * 900])
async def test_what_is_no_certificate_is_refused(house: House, peers: Any, certificate: bytes) -> None:
    peer = Peer(house, None)
    peers.append(peer)
    await peer.connect()
    await peer.wire.send_hello("opc.tcp://x")
    header = ua.AsymmetricAlgorithmHeader(BASIC.URI, certificate, hashlib.sha1(house.own.der).digest())
    send_open(peer.wire, struct_to_binary(header) + b"x" * 512)
    await peer.gone()
    assert house.backend.told(Doing.CERTIFICATE_REFUSED)


def send_open(wire: UASocketProtocol, body: bytes) -> None:
    """An OpenSecureChannel frame of these bytes."""
    assert wire.transport is not None
    wire.transport.write(b"OPNF" + (12 + len(body)).to_bytes(4, "little") + bytes(4) + body)


async def test_a_channel_meant_for_another_server_is_refused(house: House, people: Any, peers: Any) -> None:
    peer = Peer(house, people.alice)
    peers.append(peer)
    peer.policy.peer_certificate = people.mallory.der
    with pytest.raises(REFUSED):
        await peer.open()
    await until(lambda: house.backend.told(Doing.SESSION_REFUSED))
