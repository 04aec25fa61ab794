"""Certificates of simulated devices: self-signed, as devices come out of their box, good ones and others on purpose."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from simulators.field import Forgery

KEY_BITS = 2048
GOOD_FOR = timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey

    @property
    def der(self) -> bytes:
        """The certificate as it goes over the wire."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def uri(self) -> str:
        """The application that it is for."""
        names = self.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return names.get_values_for_type(x509.UniformResourceIdentifier)[0]


def new_key() -> rsa.RSAPrivateKey:
    """A new private key."""
    return rsa.generate_private_key(65537, KEY_BITS)


def signed(key: rsa.RSAPrivateKey, name: str, uri: str, host: str, begins: datetime, ends: datetime) -> Identity:
    """A self-signed application certificate."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names = x509.SubjectAlternativeName(
        [x509.UniformResourceIdentifier(uri), x509.IPAddress(ipaddress.ip_address(host))]
    )
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=True, key_encipherment=True, data_encipherment=True,
        key_agreement=False, key_cert_sign=True, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(names, critical=False)
        .add_extension(identifier, critical=False)
    )
    return Identity(builder.sign(key, hashes.SHA256()), key)


def fresh(name: str, uri: str, host: str, key: rsa.RSAPrivateKey | None = None) -> Identity:
    """A good certificate, valid from yesterday on."""
    begins = datetime.now(UTC) - timedelta(days=1)
    return signed(key or new_key(), name, uri, host, begins, begins + GOOD_FOR)


def forged(how: Forgery, good: Identity, name: str, uri: str, host: str) -> Identity:
    """What a device shows in place of its good certificate."""
    match how:
        case Forgery.EXPIRED:
            ended = datetime.now(UTC) - timedelta(hours=1)
            return signed(good.key, name, uri, host, ended - GOOD_FOR, ended)
        case Forgery.WRONG_URI:
            return fresh(name, f"{uri}:other", host, good.key)
        case Forgery.UNTRUSTED:
            return fresh(name, uri, host)


def write(identity: Identity, certificate: Path, key: Path) -> None:
    """Write both (DER; the key as PEM, readable for its owner alone)."""
    for folder in (certificate.parent, key.parent):
        folder.mkdir(parents=True, exist_ok=True)
    certificate.write_bytes(identity.der)
    pem = identity.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key.unlink(missing_ok=True)
    with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)


def read(certificate: Path, key: Path) -> Identity:
    """Read both. Raises OSError, ValueError."""
    data = certificate.read_bytes()
    found = x509.load_pem_x509_certificate(data) if b"-----BEGIN" in data else x509.load_der_x509_certificate(data)
    private = serialization.load_pem_private_key(key.read_bytes(), None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(private, rsa.RSAPrivateKey) or private.public_key() != found.public_key():
        raise ValueError(f"{key} is not the key of {certificate}")
    return Identity(found, private)
