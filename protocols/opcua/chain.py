"""Whether a certificate is under the trust list: authorities, revocation lists, dates. ``trust_files.py`` reads the list.

The rules of OPC UA Part 4, 6.1.3: a certificate is trusted if it is in the trust list itself, or if an authority of its
chain is; the chain must be whole up to a self-signed authority; and for each certificate that an authority issued there
must be a revocation list of that authority which is in date and does not name it. What can't be known is refused.

What must stay true: only files of the folders are ever an authority, never what a stranger sent; the search is bounded in
depth and width, so loops end; signatures are looked at once for each certificate, dates each time.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from protocols.opcua.certificates import (
    CertificateRefused,
    Reason,
    check_strength,
    check_time,
    issued_by,
    may_sign_lists,
    minute,
    path_limit,
    short,
    subject_of,
)

MOST_AUTHORITIES = 5
"""In one chain."""
MOST_PATHS = 8
"""Ways from one certificate up to a root that are looked at (an authority that was renewed has several)."""
MOST_STEPS = 64
"""Authorities that one search may pass."""


class FileMark(NamedTuple):
    """What changes when a file does: a new one in its place has another inode, one written to another time."""

    path: str
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


Mark = tuple[FileMark, ...]


@dataclass(frozen=True, slots=True)
class Authority:
    """One that may have issued certificates. unfit: why it can't, empty if it can. root: it can, and signed itself."""

    certificate: x509.Certificate
    thumbprint: str
    trusted: bool
    unfit: str
    root: bool


Chain = tuple[Authority, ...]
"""The authorities above a certificate, the nearest first."""


@dataclass(frozen=True, slots=True)
class Chains:
    """All ways up that were found for one certificate; failure: why there is none."""

    found: tuple[Chain, ...]
    failure: CertificateRefused | None


Content = Authority | x509.CertificateRevocationList | str
"""Of one file; a text: why it is of no use."""


@dataclass(slots=True)
class TrustList:
    """What the folders held when they were read. by_name, crls: DER of a subject or issuer → what has that name."""

    files: dict[FileMark, Content] = field(default_factory=dict)
    trusted: set[str] = field(default_factory=set)
    by_name: dict[bytes, list[Authority]] = field(default_factory=dict)
    crls: dict[bytes, list[x509.CertificateRevocationList]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    _signed: dict[tuple[int, int], bool] = field(default_factory=dict)

    def add(self, mark: FileMark, content: Content) -> None:
        """Take in what one file holds."""
        self.files[mark] = content
        match content:
            case str():
                self.problems.append(content)
            case Authority():
                if content.trusted:
                    self.trusted.add(content.thumbprint)
                self.by_name.setdefault(content.certificate.subject.public_bytes(), []).append(content)
            case _:
                self.crls.setdefault(content.issuer.public_bytes(), []).append(content)

    def chains_of(self, certificate: x509.Certificate) -> Chains:
        """The ways from a certificate to a root, every signature verified; none above one that signed itself."""
        if issued_by(certificate, certificate):
            return Chains(((),), None)
        climb = _Climb(self.by_name)
        found = tuple(itertools.islice(climb.up(certificate, ()), MOST_PATHS))
        return Chains(found, None if found else climb.failures[0])

    def check(self, der_thumbprint: str, certificate: x509.Certificate, chains: Chains, now: datetime) -> None:
        """One of the chains holds now. Raises CertificateRefused, with the first chain's reason."""
        if chains.failure is not None:
            raise chains.failure.anew()
        first: CertificateRefused | None = None
        for chain in chains.found:
            try:
                return self._check_chain(der_thumbprint, certificate, chain, now)
            except CertificateRefused as refused:
                first = first or refused
        assert first is not None  # without a chain there is a failure
        raise first

    def _check_chain(self, der_thumbprint: str, certificate: x509.Certificate, chain: Chain, now: datetime) -> None:
        if der_thumbprint not in self.trusted and not any(authority.trusted for authority in chain):
            raise CertificateRefused(Reason.UNTRUSTED, "neither it nor its issuer is in the trust list")
        check_time(certificate, now)
        for authority in chain:
            whose = f"its issuer '{subject_of(authority.certificate)}'"
            check_time(authority.certificate, now, whose)
            check_strength(authority.certificate, whose)
        lower, whose = certificate, "it"
        for authority in chain:
            if lower is not authority.certificate:
                self._check_revocation(lower, whose, authority, now)
            lower, whose = authority.certificate, f"its issuer '{subject_of(authority.certificate)}'"

    def _check_revocation(self, lower: x509.Certificate, whose: str, authority: Authority, now: datetime) -> None:
        name = subject_of(authority.certificate)
        usable = self.crls_of(authority)
        if not usable:
            raise CertificateRefused(
                Reason.NO_CRL, f"there is no revocation list of '{name}' that {whose} could be looked up in"
            )
        newest = max(usable, key=lambda crl: crl.last_update_utc)
        if newest.get_revoked_certificate_by_serial_number(lower.serial_number) is not None:
            raise CertificateRefused(Reason.REVOKED, f"{whose} was revoked by '{name}'")
        if newest.next_update_utc is None or now > newest.next_update_utc:
            until = (
                "has no end" if newest.next_update_utc is None else f"was good until {minute(newest.next_update_utc)}"
            )
            raise CertificateRefused(
                Reason.CRL_OUT_OF_DATE,
                f"the revocation list of '{name}' {until}; a newer one is needed to know that {whose} still holds",
            )

    def crls_of(self, authority: Authority) -> list[x509.CertificateRevocationList]:
        """The revocation lists that this authority signed, in date or not."""
        named = self.crls.get(authority.certificate.subject.public_bytes(), ())
        return [crl for crl in named if self._signs(authority, crl)]

    def _signs(self, authority: Authority, crl: x509.CertificateRevocationList) -> bool:
        key = (id(authority), id(crl))  # both live as long as this object
        known = self._signed.get(key)
        if known is None:
            known = self._signed[key] = signs_list(authority.certificate, crl)
        return known


class _Climb:
    """One search for the ways up; failures: what ended those that lead nowhere."""

    def __init__(self, by_name: Mapping[bytes, list[Authority]]) -> None:
        self.failures: list[CertificateRefused] = []
        self._by_name = by_name
        self._steps = MOST_STEPS

    def up(self, lower: x509.Certificate, below: Chain) -> Iterator[Chain]:
        """All chains of which below is the beginning, and lower the last certificate."""
        name = short(lower.issuer.rfc4514_string())
        if len(below) == MOST_AUTHORITIES:
            return self._fail(f"its chain has more than {MOST_AUTHORITIES} authorities, or is a loop")
        known = [one for one in self._by_name.get(lower.issuer.public_bytes(), ()) if issued_by(lower, one.certificate)]
        if not known:
            return self._fail(f"its issuer '{name}' is not known here", Reason.ISSUER_UNKNOWN)
        for authority in known:
            self._steps -= 1
            limit = path_limit(authority.certificate)
            if self._steps < 0:
                self._fail(f"there are too many ways from its issuer '{name}' up to a root")
            elif authority.unfit:
                self._fail(f"its issuer '{name}' can't be: {authority.unfit}")
            elif limit is not None and len(below) > limit:
                self._fail(f"its issuer '{name}' may have {limit} authorities below it, and has {len(below)}")
            elif authority.root:
                yield (*below, authority)
            elif any(authority is one for one in below):
                self._fail(f"the chain of its issuer '{name}' is a loop")
            else:
                yield from self.up(authority.certificate, (*below, authority))

    def _fail(self, sentence: str, reason: Reason = Reason.ISSUER_UNFIT) -> None:
        self.failures.append(CertificateRefused(reason, sentence))


def signs_list(authority: x509.Certificate, crl: x509.CertificateRevocationList) -> bool:
    """True if this authority signed that list, and may."""
    public = authority.public_key()
    return isinstance(public, rsa.RSAPublicKey) and may_sign_lists(authority) and crl.is_signature_valid(public)
