"""Bytes of a stranger: whatever they are, they end in CertificateRefused, and never in a certificate that is let in."""

from __future__ import annotations

import functools
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from certificate_kit import DAY, NOW, Party, ca, crl, make
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.opcua.certificates import CertificateRefused, der_of, facts, parse
from protocols.opcua.pki import Pki, Use
from protocols.opcua.trust_files import parse_crl

URI = "urn:test:client"
DER = make().der


@functools.cache
def pki() -> Pki:
    """One whose trust list has the very certificate that is spoilt below, and its authority."""
    made = Pki(Path(tempfile.mkdtemp(prefix="pki-fuzz-")) / "pki")
    for place, data in (
        ("trusted/certs/client.der", DER),
        ("trusted/certs/root.der", ca().der),
        ("trusted/crl/root.crl", crl(ca())),
    ):
        path = made.folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    made.check(DER, URI, NOW)
    return made


@settings(deadline=None)  # keys are made in the first example
@given(st.binary(max_size=400), st.none() | st.text(max_size=30))
def test_any_bytes(data: bytes, uri: str | None) -> None:
    with pytest.raises(CertificateRefused) as refused:
        pki().check(data, uri, NOW)
    assert str(refused.value).isprintable()


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, len(DER) - 1), st.integers(1, 255)), min_size=1, max_size=3, unique_by=lambda x: x[0]
    )
)
def test_a_trusted_certificate_with_any_byte_changed(changes: list[tuple[int, int]]) -> None:
    data = bytearray(DER)
    for at, flip in changes:
        data[at] ^= flip
    with pytest.raises(CertificateRefused) as refused:
        pki().check(bytes(data), URI, NOW)
    assert str(refused.value).isprintable()


@settings(deadline=None)  # keys are made in the first example
@given(st.integers(0, len(DER) - 1), st.binary(max_size=20), st.integers(0, 30))
def test_a_trusted_certificate_cut_and_glued(at: int, inserted: bytes, removed: int) -> None:
    data = DER[:at] + inserted + DER[at + removed :]
    if data != DER:
        with pytest.raises(CertificateRefused):
            pki().check(data, URI, NOW)


_DERS = st.recursive(
    st.tuples(st.sampled_from([1, 2, 3, 4, 5, 6, 12, 19, 23, 24]), st.binary(max_size=12)),
    lambda inner: st.tuples(st.sampled_from([0x30, 0x31, 0xA0, 0xA3]), st.lists(inner, max_size=5)),
    max_leaves=25,
)


def encoded(node: tuple[int, object]) -> bytes:
    tag, content = node
    body = content if isinstance(content, bytes) else b"".join(encoded(one) for one in content)  # type: ignore[attr-defined]
    size = bytes([len(body)]) if len(body) < 128 else b"\x82" + len(body).to_bytes(2, "big")
    return bytes([tag]) + size + body


@settings(deadline=None)  # keys are made in the first example
@given(_DERS)
def test_well_formed_asn1_that_is_no_certificate(node: tuple[int, object]) -> None:
    for read in (parse, parse_crl):
        with pytest.raises(CertificateRefused):
            read(encoded(node))


@settings(deadline=None)  # keys are made in the first example
@given(st.text(min_size=1, max_size=40).filter(lambda name: all(c < "\ud800" or c > "\udfff" for c in name)))
def test_any_name_is_told_in_one_line(name: str) -> None:
    try:
        party = make(name, private=make().key)
    except ValueError:
        return  # a name that no certificate can hold
    assert facts(party.der, parse(party.der)).subject
    with pytest.raises(CertificateRefused) as refused:
        pki().check(party.der, URI, NOW)
    assert str(refused.value).isprintable()


@settings(deadline=None)  # keys are made in the first example
@given(st.integers(-20_000, 20_000), st.sampled_from(list(Use)))
def test_dates_decide_alone(days: int, use: Use) -> None:
    now = NOW + timedelta(days=days)
    if -1 <= days <= 365:
        pki().check(DER, URI, now, use)
    else:
        with pytest.raises(CertificateRefused):
            pki().check(DER, URI, now, use)


@settings(deadline=None)  # keys are made in the first example
@given(st.binary(max_size=300), st.sampled_from(["CERTIFICATE", "X509 CRL"]))
def test_any_pem(body: bytes, label: str) -> None:
    data = b"-----BEGIN " + label.encode() + b"-----\n" + body + b"\n-----END " + label.encode() + b"-----\n"
    for wanted in "CERTIFICATE", "X509 CRL":
        try:
            assert isinstance(der_of(data, wanted), bytes)
        except CertificateRefused:
            continue


@functools.cache
def revocation() -> tuple[Party, Party, bytes]:
    """The authority, a client, and the list that names it."""
    root = ca()
    client = make("revoked", issuer=root, serial=77)
    return root, client, crl(root, [client])


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_revocation_list_with_any_byte_changed_never_lets_anybody_in_that_it_named(data: st.DataObject) -> None:
    root, client, whole = revocation()
    at = data.draw(st.integers(0, len(whole) - 1))
    spoilt = bytearray(whole)
    spoilt[at] ^= data.draw(st.integers(1, 255))
    path = pki().folder / "issuers/crl/spoilt.crl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(spoilt))
    good = pki().folder / "trusted/crl/root.crl"
    good.unlink(missing_ok=True)
    try:
        with pytest.raises(CertificateRefused):
            pki().check(client.der, URI, NOW + DAY)
    finally:
        path.unlink()
        good.write_bytes(crl(root))
