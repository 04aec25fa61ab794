"""One certificate: read it, and say what is wrong with it. No folders, no trust: that is ``pki.py``.

The rules are those of OPC UA Part 6, 6.2.2 (what an application instance certificate holds) and Part 4, 6.1.3 (what is
checked). Whatever the bytes are, reading them ends in a certificate or in ``CertificateRefused``; nothing else is
raised. Times are aware datetimes in UTC; who calls gives the time.
"""

from __future__ import annotations

import base64
import enum
import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

MOST_BYTES = 16 * 1024
"""A certificate in DER; those with a key of 4096 bits have some 2 KB."""
LEAST_KEY_BITS, MOST_KEY_BITS = 2048, 4096
"""What the three policies in use ask for; a longer key would only cost time, at our end."""
_HASHES = ("sha256", "sha384", "sha512")
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----([A-Za-z0-9+/=\s]*)-----END \1-----")
# A critical extension that we can't honour makes a certificate unusable (RFC 5280, 4.2).
_UNDERSTOOD = {
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ExtensionOID.SUBJECT_KEY_IDENTIFIER,
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
}


class Reason(enum.StrEnum):
    """Why a certificate was refused."""

    MALFORMED = "malformed"
    WEAK_KEY = "weak_key"
    WEAK_HASH = "weak_hash"
    UNSUPPORTED = "unsupported"
    UNTRUSTED = "untrusted"
    ISSUER_UNKNOWN = "issuer_unknown"
    ISSUER_UNFIT = "issuer_unfit"
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    WRONG_URI = "wrong_uri"
    WRONG_USE = "wrong_use"
    NO_CRL = "no_crl"
    CRL_OUT_OF_DATE = "crl_out_of_date"
    REVOKED = "revoked"


class CertificateRefused(Exception):
    """A certificate that nobody gets in with. reason: for programs; the text is a sentence for the journal."""

    def __init__(self, reason: Reason, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason

    def anew(self) -> CertificateRefused:
        """The same to be raised once more (a kept one would gather tracebacks)."""
        return CertificateRefused(self.reason, str(self))


class Use(enum.Enum):
    """What a certificate shall be good for: the application of a client, of a server, of any of both; or a person."""

    CLIENT = "client"
    SERVER = "server"
    ANY = "any"
    PERSON = "person"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a certificate says. thumbprint: SHA-256, sha1: what OPC UA's tools show; both lower-case hexadecimal."""

    thumbprint: str
    sha1: str
    subject: str
    issuer: str
    not_before: datetime
    expires: datetime
    application_uri: str
    host_names: tuple[str, ...]
    is_ca: bool
    self_signed: bool
    key_bits: int


def thumbprint(der: bytes) -> str:
    """SHA-256 of a certificate in DER, lower-case hexadecimal."""
    return hashlib.sha256(der).hexdigest()


def parse(der: bytes) -> x509.Certificate:
    """The certificate in these bytes, every part of it readable. Raises CertificateRefused MALFORMED."""
    if not der:
        raise CertificateRefused(Reason.MALFORMED, "no certificate was given")
    if len(der) > MOST_BYTES:
        raise CertificateRefused(
            Reason.MALFORMED, f"the certificate has {len(der)} bytes, and no more than {MOST_BYTES} are read"
        )
    try:
        certificate = x509.load_der_x509_certificate(der)
        _touch(certificate)
    # Bytes of a stranger in a parser whose errors have no family: any of them says the same.
    except Exception as error:  # noqa: BLE001
        raise CertificateRefused(
            Reason.MALFORMED, f"this is no certificate that can be read: {short(str(error))}"
        ) from None
    return certificate


def _touch(certificate: x509.Certificate) -> None:
    """Read all that is read later on: most of it is parsed only when somebody asks."""
    for extension in certificate.extensions:
        _ = extension.value
    if certificate.version is not x509.Version.v3:
        raise ValueError("it is no version 3")
    certificate.subject.rfc4514_string()
    certificate.issuer.rfc4514_string()
    certificate.public_key()
    _ = certificate.signature_hash_algorithm
    if certificate.not_valid_after_utc <= certificate.not_valid_before_utc:
        raise ValueError("it ends before it begins")


def facts(der: bytes, certificate: x509.Certificate) -> Facts:
    """What a certificate that was parsed from these bytes says."""
    uris, hosts = _alternative_names(certificate)
    key = certificate.public_key()
    return Facts(
        thumbprint=thumbprint(der),
        sha1=hashlib.sha1(der, usedforsecurity=False).hexdigest(),
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        not_before=certificate.not_valid_before_utc,
        expires=certificate.not_valid_after_utc,
        application_uri=uris[0] if uris else "",
        host_names=hosts,
        is_ca=why_no_issuer(certificate) == "",
        self_signed=issued_by(certificate, certificate),
        key_bits=key.key_size if isinstance(key, rsa.RSAPublicKey) else 0,
    )


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """True if the issuer's name and key are those that the certificate was signed with."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def why_no_issuer(certificate: x509.Certificate) -> str:
    """Why this can't be the certificate of an authority; empty if it can.

    An application's certificate never is one, whatever its flags say: tools make self-signed ones with cA set, and to
    trust an application must not mean to trust all that it signs.
    """
    constraints = _extension(certificate, x509.BasicConstraints)
    usage = _extension(certificate, x509.KeyUsage)
    if constraints is None or not constraints.ca:
        return "it is not marked as an authority"
    if usage is None or not usage.key_cert_sign:
        return "its key is not meant for signing certificates"
    if _alternative_names(certificate)[0]:
        return "it is an application's certificate (it has an ApplicationUri)"
    return ""


def key_bytes(certificate: x509.Certificate) -> bytes:
    """A certificate's public key, as bytes that tell it from any other."""
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def may_sign_lists(certificate: x509.Certificate) -> bool:
    """True if an authority's key is meant for revocation lists."""
    usage = _extension(certificate, x509.KeyUsage)
    return usage is not None and usage.crl_sign


def path_limit(certificate: x509.Certificate) -> int | None:
    """How many authorities may stand between this one and the last certificate; None: any number."""
    constraints = _extension(certificate, x509.BasicConstraints)
    return constraints.path_length if constraints is not None else None


def check_strength(certificate: x509.Certificate, whose: str = "it") -> None:
    """Key and hash are as today's policies want them, nothing critical is beyond us. Raises CertificateRefused."""
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        raise CertificateRefused(Reason.WEAK_KEY, f"{whose} has no RSA key, which all three policies need")
    if not LEAST_KEY_BITS <= key.key_size <= MOST_KEY_BITS:
        raise CertificateRefused(
            Reason.WEAK_KEY,
            f"{whose} has a key of {key.key_size} bits; it must have {LEAST_KEY_BITS} to {MOST_KEY_BITS}",
        )
    if not strong_hash(certificate.signature_hash_algorithm):
        raise CertificateRefused(Reason.WEAK_HASH, f"{whose} is signed with a weak hash; SHA-256 is the least")
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _UNDERSTOOD:
            raise CertificateRefused(
                Reason.UNSUPPORTED,
                f"{whose} has a critical extension that is not understood ({extension.oid.dotted_string})",
            )


def strong_hash(algorithm: hashes.HashAlgorithm | None) -> bool:
    """True for SHA-256 and longer."""
    return algorithm is not None and algorithm.name in _HASHES


def check_use(certificate: x509.Certificate, use: Use) -> None:
    """Key usage and extended key usage are there and fit. Raises CertificateRefused WRONG_USE."""
    usage = _extension(certificate, x509.KeyUsage)
    extended = _extension(certificate, x509.ExtendedKeyUsage)
    if use is Use.PERSON:
        if usage is not None and not usage.digital_signature:
            raise CertificateRefused(Reason.WRONG_USE, "its key is not meant for signatures")
        return
    if usage is None or extended is None:
        raise CertificateRefused(
            Reason.WRONG_USE, "it does not say what its key is for (key usage, extended key usage)"
        )
    wanted = {
        "digitalSignature": usage.digital_signature,
        "nonRepudiation": usage.content_commitment,
        "keyEncipherment": usage.key_encipherment,
        "dataEncipherment": usage.data_encipherment,
    }
    missing = [name for name, there in wanted.items() if not there]
    if missing:
        raise CertificateRefused(Reason.WRONG_USE, f"its key usage lacks {', '.join(missing)}")
    purposes = {ExtendedKeyUsageOID.CLIENT_AUTH: "clientAuth", ExtendedKeyUsageOID.SERVER_AUTH: "serverAuth"}
    if use is Use.CLIENT:
        del purposes[ExtendedKeyUsageOID.SERVER_AUTH]
    elif use is Use.SERVER:
        del purposes[ExtendedKeyUsageOID.CLIENT_AUTH]
    if not any(purpose in extended for purpose in purposes):
        raise CertificateRefused(Reason.WRONG_USE, f"its extended key usage lacks {' or '.join(purposes.values())}")


def check_uri(certificate: x509.Certificate, application_uri: str) -> None:
    """It holds one URI, and that is the application's. Raises CertificateRefused WRONG_URI."""
    uris, _ = _alternative_names(certificate)
    if len(uris) != 1:
        told = "no URI" if not uris else f"{len(uris)} URIs"
        raise CertificateRefused(Reason.WRONG_URI, f"it has {told} in its subjectAltName; it must have one")
    if uris[0] != application_uri:
        raise CertificateRefused(
            Reason.WRONG_URI, f"it was made for {uris[0][:200]!r}, and the application says {application_uri[:200]!r}"
        )


def check_time(certificate: x509.Certificate, now: datetime, whose: str = "it") -> None:
    """It is valid now. Raises CertificateRefused NOT_YET_VALID or EXPIRED."""
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begins:
        raise CertificateRefused(Reason.NOT_YET_VALID, f"{whose} is not valid before {minute(begins)}")
    if now > ends:
        raise CertificateRefused(Reason.EXPIRED, f"{whose} expired at {minute(ends)}")


def der_of(data: bytes, label: str) -> bytes:
    """What a file holds in DER: as it is, or out of its PEM armour. label: CERTIFICATE or X509 CRL.

    Raises CertificateRefused MALFORMED for PEM with no such part, or with several.
    """
    if b"-----BEGIN" not in data[:65536]:
        return data
    found = [body for kind, body in _PEM.findall(data) if kind == label.encode()]
    if len(found) != 1:
        what = f"no {label}" if not found else f"{len(found)} of {label}, and one a file is read"
        raise CertificateRefused(Reason.MALFORMED, f"the PEM file holds {what}")
    try:
        return base64.b64decode(b"".join(found[0].split()), validate=True)
    except ValueError:
        raise CertificateRefused(Reason.MALFORMED, "the PEM file is damaged: this is no base64") from None


def _alternative_names(certificate: x509.Certificate) -> tuple[list[str], tuple[str, ...]]:
    """URIs, and host names with addresses."""
    names = _extension(certificate, x509.SubjectAlternativeName)
    if names is None:
        return [], ()
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    addresses = [str(one) for one in names.get_values_for_type(x509.IPAddress)]
    return uris, (*names.get_values_for_type(x509.DNSName), *addresses)


_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def minute(moment: datetime) -> str:
    """A moment as sentences have it."""
    return moment.strftime("%Y-%m-%d %H:%MZ")


def short(text: str) -> str:
    """A text of a stranger as sentences have it: in one line, without control characters, not long."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split()))[:160]


def subject_of(certificate: x509.Certificate) -> str:
    """Whose certificate it is, as sentences have it."""
    return short(certificate.subject.rfc4514_string())
