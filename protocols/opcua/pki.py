"""The gateway's certificates: its own, those it trusts, and those it turned away, in one folder.

    own/cert.der own/key.pem      its own; own/previous/ holds the last five that were replaced
    trusted/certs trusted/crl     applications, and authorities, whose word is enough; the authorities' revocation lists
    issuers/certs issuers/crl     authorities that only complete a chain
    rejected/                     the 100 newest certificates that knocked and were not trusted

Files are DER or PEM. What must stay true: nobody gets in whose certificate is not under the trust list, in date, strong
and made for its use; whatever bytes come, ``check`` returns or raises CertificateRefused. The private key is readable by
its owner alone, or it is not used. What changes in the folders holds from the next check on, without a restart; dates
are looked at each time.

Files are replaced as a whole, so a crash leaves them as they were or as they should be (``own.py`` tells of a key
without its certificate). Nothing here asks the clock: who calls gives the time, which must be real time also on a
simulated site.
"""

from __future__ import annotations

import contextlib
import enum
import os
import socket
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

from protocols.opcua import certificates as certs
from protocols.opcua.certificates import CertificateRefused, Facts, Reason, Use, thumbprint
from protocols.opcua.chain import Chains, Mark, TrustList, signs_list
from protocols.opcua.files import listed, make_folder, newest_first, read_file, why, write_private
from protocols.opcua.making import OWN_YEARS
from protocols.opcua.own import OWN_CERTIFICATE, REJECTED, OwnCertificate, OwnPair, PkiError, changing, make_folders
from protocols.opcua.trust_files import (
    ISSUERS,
    ISSUERS_CRL,
    MOST_CRL_BYTES,
    TRUSTED,
    TRUSTED_CRL,
    mark_of,
    parse_crl,
    read_trust_list,
)

__all__ = [
    "OWN_CERTIFICATE",
    "Certificate",
    "CertificateRefused",
    "Facts",
    "NotFound",
    "OwnCertificate",
    "Pki",
    "PkiError",
    "Place",
    "Reason",
    "RevocationList",
    "Use",
    "host_names_of",
    "thumbprint",
    "thumbprint_of_file",
]

MOST_REJECTED = 100
MOST_REMEMBERED = 512
"""Certificates whose signatures need no second look while the folders stay as they are."""
LEAST_PREFIX = 8
"""So many digits of a thumbprint name a certificate, if they name one only."""


class NotFound(PkiError):
    """No certificate, or several, are meant by what was given."""


class Place(enum.StrEnum):
    """Where a certificate lies."""

    OWN = "own"
    TRUSTED = "trusted"
    ISSUER = "issuer"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Certificate:
    """One file of the folder. facts: what it says; None, and a sentence in problem, if it can't be read."""

    place: Place
    path: Path
    facts: Facts | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class RevocationList:
    """What an authority's revocation list says; revoked: how many certificates."""

    issuer: str
    issued: datetime
    expires: datetime
    revoked: int


@dataclass(frozen=True, slots=True)
class _Known:
    """A certificate that was looked at: what is wrong with it in itself, or its chains."""

    certificate: x509.Certificate
    refusal: CertificateRefused | None
    chains: Chains


_PLACES = {Place.TRUSTED: TRUSTED, Place.ISSUER: ISSUERS, Place.REJECTED: REJECTED}


class Pki:
    """The folder. Not for several threads at once; several processes may use one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._own = OwnPair(folder)
        self._mark: Mark | None = None
        self._trust_list = TrustList()
        self._known: OrderedDict[str, _Known] = OrderedDict()

    # -- its own -------------------------------------------------------------------------------------------------

    def ensure_own(self, application_uri: str, host_names: Sequence[str], now: datetime) -> bool:
        """At the start: have a certificate of this URI. True if it was made now. Raises PkiError.

        host_names: names and addresses under which clients find the gateway; the first name is the common name, too.
        """
        return self._own.ensure(application_uri, host_names, now)

    def own(self) -> OwnCertificate:
        """The certificate that is there, with a key that fits. Raises PkiError."""
        return self._own.read()

    def new(
        self, application_uri: str, host_names: Sequence[str], now: datetime, years: int = OWN_YEARS
    ) -> OwnCertificate:
        """A new key and certificate; the old ones are kept in own/previous. Raises PkiError."""
        return self._own.new(application_uri, host_names, now, years)

    def renew(self, now: datetime, years: int = OWN_YEARS) -> OwnCertificate:
        """The certificate that is there with new dates: same key, URI and names. The old one is kept. Raises PkiError."""
        return self._own.renew(now, years)

    # -- those of others -----------------------------------------------------------------------------------------

    def check(self, der: bytes, application_uri: str | None, now: datetime, use: Use = Use.CLIENT) -> None:
        """Let an application in or not.

        der: its certificate alone. application_uri: what it says of itself; None where that is not known yet (then it
        must be checked later). Raises CertificateRefused; one that is merely not trusted is put into rejected/.
        """
        name = thumbprint(der)
        self._look_again()
        known = self._known.get(name)
        if known is None:
            known = self._examine(der)
            self._known[name] = known
            if len(self._known) > MOST_REMEMBERED:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(name)
        try:
            if known.refusal is not None:
                raise known.refusal.anew()
            self._trust_list.check(name, known.certificate, known.chains, now)
            if application_uri is not None:
                certs.check_uri(known.certificate, application_uri)
            certs.check_use(known.certificate, use)
        except CertificateRefused as refused:
            if refused.reason in (Reason.UNTRUSTED, Reason.ISSUER_UNKNOWN):
                self._put_to_rejected(name, der)
            whose = certs.subject_of(known.certificate)
            raise CertificateRefused(refused.reason, f"certificate {name[:16]} of '{whose}': {refused}") from None

    def why_not(self, certificate: Certificate, now: datetime) -> str:
        """Why the trust list as it is now would not let this one in; empty if it would. Its URI and use aside."""
        self._look_again()
        try:
            der = certs.der_of(read_file(certificate.path, 2 * certs.MOST_BYTES), "CERTIFICATE")
            parsed = certs.parse(der)
            self._trust_list.check(thumbprint(der), parsed, self._trust_list.chains_of(parsed), now)
        except (OSError, CertificateRefused) as error:
            return why(error)
        return ""

    def problems(self) -> Sequence[str]:
        """Sentences about files of the trust list that are of no use."""
        self._look_again()
        return tuple(self._trust_list.problems)

    def _look_again(self) -> None:
        try:
            mark = mark_of(self.folder)
        except OSError as error:
            # What can't be looked at can't be trusted any more; and each check tries again.
            self._trust_list = TrustList(problems=[f"{self.folder} can't be read: {why(error)}"])
            self._mark = None
            self._known.clear()
            return
        if mark != self._mark:
            self._trust_list = read_trust_list(self.folder, self._trust_list)
            self._known.clear()
            self._mark = mark

    def _examine(self, der: bytes) -> _Known:
        certificate = certs.parse(der)
        try:
            certs.check_strength(certificate)
        except CertificateRefused as refused:
            return _Known(certificate, refused, Chains((), None))
        return _Known(certificate, None, self._trust_list.chains_of(certificate))

    def _put_to_rejected(self, name: str, der: bytes) -> None:
        """Keep it for a person to look at. That this fails (a full disk) must not let anybody in, nor keep anybody out."""
        path = self.folder / REJECTED / f"{name}.der"
        with contextlib.suppress(OSError):
            if path.exists():
                os.utime(path)
                return
            make_folder(path.parent)
            for old in newest_first(path.parent, ".der")[MOST_REJECTED - 1 :]:
                old.unlink()
            path.write_bytes(der)

    # -- what people do ------------------------------------------------------------------------------------------

    def trust(self, what: str | Path, now: datetime, issuer: bool = False) -> Certificate:
        """Trust a certificate: a rejected one by its thumbprint, or a file. issuer: let it only complete chains.

        what: a Path is a file; a text is a thumbprint (SHA-256 or SHA-1) or its beginning. Raises NotFound, PkiError,
        and CertificateRefused for one that would be refused all the same.
        """
        rejected = None if isinstance(what, Path) else self.find(what, Place.REJECTED)
        path = what if isinstance(what, Path) else rejected.path if rejected else Path()
        try:
            der = certs.der_of(read_file(path, 2 * certs.MOST_BYTES), "CERTIFICATE")
        except FileNotFoundError:
            raise NotFound(f"there is no file {path}") from None
        except OSError as error:
            raise PkiError(f"{path} can't be read: {why(error)}") from None
        certificate = certs.parse(der)
        certs.check_strength(certificate)
        certs.check_time(certificate, now)
        unfit = certs.why_no_issuer(certificate)
        if issuer and unfit:
            raise CertificateRefused(Reason.ISSUER_UNFIT, f"{path} can't be the certificate of an issuer: {unfit}")
        if unfit:
            certs.check_use(certificate, Use.ANY)
        place = Place.ISSUER if issuer else Place.TRUSTED
        make_folders(self.folder)
        target = self.folder / _PLACES[place] / f"{thumbprint(der)}.der"
        with changing(self.folder):
            write_private(target, der)
            if rejected is not None:
                rejected.path.unlink(missing_ok=True)
        return Certificate(place, target, certs.facts(der, certificate))

    def add_crl(self, path: Path, now: datetime) -> RevocationList:
        """Take in an authority's revocation list, in the place of its older one. Raises PkiError, CertificateRefused."""
        try:
            der = certs.der_of(read_file(path, MOST_CRL_BYTES), "X509 CRL")
        except OSError as error:
            raise PkiError(f"{path} can't be read: {why(error)}") from None
        crl = parse_crl(der)
        issuer = certs.short(crl.issuer.rfc4514_string())
        trust_list = read_trust_list(self.folder)
        signer = next(
            (one for one in trust_list.by_name.get(crl.issuer.public_bytes(), ()) if signs_list(one.certificate, crl)),
            None,
        )
        if signer is None:
            raise CertificateRefused(
                Reason.ISSUER_UNKNOWN,
                f"no authority that is known here signed this revocation list: trust '{issuer}' first",
            )
        newest = max((old.last_update_utc for old in trust_list.crls_of(signer)), default=crl.last_update_utc)
        if newest > crl.last_update_utc:
            raise CertificateRefused(
                Reason.CRL_OUT_OF_DATE,
                f"a newer revocation list of '{issuer}' is here already, of {certs.minute(newest)}",
            )
        if crl.next_update_utc is None or crl.next_update_utc < now:
            raise CertificateRefused(Reason.CRL_OUT_OF_DATE, f"this revocation list of '{issuer}' is out of date")
        make_folders(self.folder)
        name = thumbprint(crl.issuer.public_bytes() + certs.key_bytes(signer.certificate))
        with changing(self.folder):
            write_private(self.folder / (TRUSTED_CRL if signer.trusted else ISSUERS_CRL) / f"{name}.crl", der)
        return RevocationList(issuer, crl.last_update_utc, crl.next_update_utc, len(crl))

    def reject(self, what: str) -> Certificate:
        """Trust a certificate no longer: it goes to rejected/. A server ends the sessions that it opened. Raises NotFound,
        PkiError."""
        found = self.find(what, Place.TRUSTED, Place.ISSUER)
        assert found.facts is not None  # found by its thumbprint
        target = self.folder / REJECTED / f"{found.facts.thumbprint}.der"
        make_folders(self.folder)
        with changing(self.folder):
            write_private(target, certs.der_of(read_file(found.path, 2 * certs.MOST_BYTES), "CERTIFICATE"))
            found.path.unlink()
        return Certificate(Place.REJECTED, target, found.facts)

    def find(self, what: str, *places: Place) -> Certificate:
        """The certificate of this thumbprint (SHA-256 or SHA-1, or its beginning). places: where; all if none is given.

        Raises NotFound.
        """
        digits = what.replace(":", "").replace(" ", "").lower()
        if len(digits) < LEAST_PREFIX or not set(digits) <= set("0123456789abcdef"):
            raise NotFound(f"{what!r} is no thumbprint: it takes the first {LEAST_PREFIX} hexadecimal digits at least")
        found = {
            (one.facts.thumbprint, one.place): one
            for one in self.list()
            if one.facts is not None
            and (not places or one.place in places)
            and (one.facts.thumbprint.startswith(digits) or one.facts.sha1.startswith(digits))
        }
        where = " or ".join(places) or "the folder"
        if not found:
            raise NotFound(f"no certificate in {where} has a thumbprint that begins with {digits}")
        if len({name for name, _ in found}) > 1:
            raise NotFound(f"{len(found)} certificates in {where} begin with {digits}: give more digits")
        return next(iter(found.values()))

    def list(self) -> Sequence[Certificate]:
        """All certificates there are: our own, trusted, issuers, rejected (newest first)."""
        found = []
        if (self.folder / OWN_CERTIFICATE).exists():
            found.append(_read(Place.OWN, self.folder / OWN_CERTIFICATE))
        for place in (Place.TRUSTED, Place.ISSUER):
            found += [_read(place, path) for path in sorted(listed(self.folder / _PLACES[place]))]
        found += [_read(Place.REJECTED, path) for path in newest_first(self.folder / REJECTED, ".der")]
        return found


def host_names_of(listens_at: str) -> Sequence[str]:
    """Under which names and addresses clients find a server that listens at this host: that one unless it means all
    interfaces, the machine's name, and loopback."""
    named = [] if listens_at in ("", "0.0.0.0", "::") else [listens_at]
    return list(dict.fromkeys([*named, socket.gethostname(), "localhost", "127.0.0.1"]))


def thumbprint_of_file(path: Path) -> str:
    """The thumbprint of the certificate in a file, DER or PEM. Raises PkiError, CertificateRefused."""
    try:
        der = certs.der_of(read_file(path, 2 * certs.MOST_BYTES), "CERTIFICATE")
    except OSError as error:
        raise PkiError(f"{path} can't be read: {why(error)}") from None
    certs.parse(der)
    return thumbprint(der)


def _read(place: Place, path: Path) -> Certificate:
    try:
        der = certs.der_of(read_file(path, 2 * certs.MOST_BYTES), "CERTIFICATE")
        return Certificate(place, path, certs.facts(der, certs.parse(der)))
    except (OSError, CertificateRefused) as error:
        return Certificate(place, path, None, why(error))
