"""Certificates of every kind for tests, made with the cryptography library alone: right ones and wrong ones.

Keys are made once a process: each takes a tenth of a second.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
APPLICATION = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment")
AUTHORITY = ("key_cert_sign", "crl_sign")
_USAGES = (*APPLICATION, "key_agreement", *AUTHORITY, "encipher_only", "decipher_only")

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@functools.cache
def key(name: str = "client", bits: int = 2048) -> rsa.RSAPrivateKey:
    """The RSA key of this name."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def long_key(bits: int) -> rsa.RSAPublicKey:
    """A public key of so many bits, which nobody has the private one of."""
    return rsa.RSAPublicNumbers(65537, 2**bits - 1).public_key()


def with_sha1(der: bytes) -> bytes:
    """The same certificate or revocation list, said to be signed with SHA-1 (libraries sign so no more)."""
    sha256, sha1 = (bytes.fromhex(f"06092a864886f70d0101{end}") for end in ("0b", "05"))
    assert der.count(sha256) == 2
    return der.replace(sha256, sha1)


@dataclass(frozen=True)
class Party:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


def make(
    name: str = "client",
    *,
    issuer: Party | None = None,
    private: PrivateKey | None = None,
    uris: Sequence[str] = ("urn:test:client",),
    usage: Iterable[str] | None = APPLICATION,
    extended: Sequence[x509.ObjectIdentifier] | None = (CLIENT, SERVER),
    begins: datetime = NOW - DAY,
    ends: datetime = NOW + 365 * DAY,
    authority: bool = False,
    path_length: int | None = None,
    serial: int | None = None,
    more: Sequence[tuple[x509.ExtensionType, bool]] = (),
    public: rsa.RSAPublicKey | None = None,
) -> Party:
    """A certificate as wanted; self-signed without an issuer. public: a key that is not that of its signature."""
    private = private or key(name)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = issuer.key if issuer is not None else private
    named = issuer.certificate.subject if issuer is not None else subject
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(named)
        .public_key(public or private.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(authority, path_length), critical=True)
    )
    if usage is not None:
        flags = set(usage)
        key_usage = x509.KeyUsage(**{flag: flag in flags for flag in _USAGES})
        builder = builder.add_extension(key_usage, critical=True)
    if extended:
        builder = builder.add_extension(x509.ExtendedKeyUsage(list(extended)), critical=False)
    if uris:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
        builder = builder.add_extension(names, critical=False)
    for extension, critical in more:
        builder = builder.add_extension(extension, critical=critical)
    return Party(builder.sign(signer, hashes.SHA256()), private)


def ca(name: str = "root", *, issuer: Party | None = None, **more: object) -> Party:
    """An authority; a root without an issuer."""
    given = {"authority": True, "uris": (), "usage": AUTHORITY, "extended": None, **more}
    return make(name, issuer=issuer, **given)  # type: ignore[arg-type]


def crl(
    authority: Party,
    revoked: Iterable[Party] = (),
    *,
    issued: datetime = NOW - DAY,
    until: datetime = NOW + 30 * DAY,
    signer: Party | None = None,
    more: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> bytes:
    """A revocation list in DER. signer: who signs it in the authority's name."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(issued)
        .next_update(until)
    )
    for party in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(party.certificate.serial_number).revocation_date(issued)
        builder = builder.add_revoked_certificate(entry.build())
    for extension, critical in more:
        builder = builder.add_extension(extension, critical=critical)
    private = (signer or authority).key
    return builder.sign(private, hashes.SHA256()).public_bytes(Encoding.DER)
