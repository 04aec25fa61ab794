"""The gateway's own certificate and key, as bytes: self-signed, as OPC UA Part 6, 6.2.2 asks it of an application."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protocols.opcua.certificates import LEAST_KEY_BITS

OWN_YEARS = 5


def make_key() -> rsa.RSAPrivateKey:
    """A new key of 2048 bits."""
    return rsa.generate_private_key(public_exponent=65537, key_size=LEAST_KEY_BITS)


def key_to_pem(key: rsa.RSAPrivateKey) -> bytes:
    """The key as an unencrypted PKCS 8 file: the daemon must start with nobody there to type a password."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def make_own(
    key: rsa.RSAPrivateKey, application_uri: str, host_names: Sequence[str], now: datetime, years: int = OWN_YEARS
) -> bytes:
    """A self-signed application certificate in DER, good for a server and a client, from an hour ago on (other clocks).

    Raises ValueError for a URI or host names that don't fit into a certificate.
    """
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(application_uri)]
    names += [_general_name(host) for host in dict.fromkeys(host_names)]
    named = next((one.value for one in names if isinstance(one, x509.DNSName)), "")
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, f"gridlatch {named}".strip()[:64]),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "gridlatch"),
        ]
    )
    public = key.public_key()
    begins = now.replace(microsecond=0) - timedelta(hours=1)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=True,
        key_encipherment=True,
        data_encipherment=True,
        key_agreement=False,
        key_cert_sign=True,  # Part 6 asks it of self-signed ones
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=round(365.25 * years)))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
